"""What Dagster is given: which assets, in which jobs, and what runs by itself."""

from __future__ import annotations

import gc
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.sensor import MIN_INTERVAL_LOOP_TIME
from dagster.components.definitions import LazyDefinitions

from mm_dagster.bars import floor_bar
from mm_dagster.definitions import defs
from mm_dagster.defs import automation, loading
from mm_dagster.defs.automation import BETWEEN
from mm_dagster.defs.calibration import CHECK_KEYS
from mm_dagster.defs.describe import FRESHNESS, GROUPS, KIND_TAG, live_page
from mm_dagster.defs.proofs import CHECKS
from mm_dagster.defs.runs import EACH_ROUND_SECONDS
from mm_dagster.pipeline.project import Project
from mm_dagster.research.candidates import missing
from mm_dagster.tables.registry import TABLES
from mm_dagster_tests.cli.small import configure

HISTORY = {
    "candles", "regime_features", "regime_verdict", "grid_risk", "entry_assessment", "exit_state", "portfolio_risk",
    "portfolio_contribution", "limit_state", "exit_cost",
}  # fmt: skip
BOOKS = {"book_segment", "book_gap", "book_features", "liquidity_profile"}
ASKED_FOR = {"strategy_signal"}
"""By day like the history, and made by nobody but who asks for it."""
MONTHLY = {"signal_quality", "portfolio_coverage", "strategy_performance"}
MONTHLY |= set() if missing() else {"candidate_parameters"}


@pytest.fixture(scope="module")
def everything() -> dg.Definitions:
    return defs()


def names(job: dg.JobDefinition) -> set[str]:
    return {key.to_user_string() for key in job.asset_layer.executable_asset_keys}


def test_no_module_with_definitions_is_forgotten() -> None:
    """They are named in loading.py; all others are looked through for what Dagster would find in them."""
    there = {path.stem for path in Path(loading.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(loading.MODULES) <= there
    for name in there - set(loading.MODULES):
        module = import_module(f"mm_dagster.defs.{name}")
        found = dg.load_definitions_from_modules([module])
        assert not [*(found.assets or ()), *(found.asset_checks or ()), *(found.jobs or ())], name
        assert not [*(found.schedules or ()), *(found.sensors or ())], name
        assert not [value for value in vars(module).values() if isinstance(value, dg.Definitions | LazyDefinitions)]


def test_to_load_them_draws_nothing() -> None:
    """Every run is a process of its own, and few draw."""
    script = "import sys; from mm_dagster.definitions import defs; defs(); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_history_is_partitioned_by_day_and_what_reaches_out_is_not(everything: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in everything.resolve_all_asset_specs()}
    assert {name for name, spec in specs.items() if spec.partitions_def} == HISTORY | BOOKS | ASKED_FOR
    others = {"account_snapshot", "book_snapshot", "grid_bot", "snapshot", "tick_log"} | MONTHLY
    others |= {"alert_audit", "alert_outcome", "notification", "maker_study", "maker_fill", "fill_model"}
    assert set(specs) - HISTORY - BOOKS - ASKED_FOR == others
    assert len({spec.partitions_def for spec in specs.values() if spec.partitions_def}) == 1


def test_a_backfill_neither_sends_nor_commits(everything: dg.Definitions) -> None:
    assert names(everything.resolve_job_def("history")) == HISTORY
    beside = {"account_snapshot", "book_snapshot", "grid_bot", "snapshot", "tick_log"}
    assert names(everything.resolve_job_def("tick")) == HISTORY | beside
    assert names(everything.resolve_job_def("send_alerts")) == {"notification"}
    assert names(everything.resolve_job_def("books")) == BOOKS


def test_signals_are_judged_once_a_month_in_a_run_of_their_own(everything: dg.Definitions) -> None:
    assert names(everything.resolve_job_def("evaluation")) == MONTHLY
    assert everything.resolve_schedule_def("every_month").cron_schedule == f"{BETWEEN + 30} 4 1 * *"


def test_every_asset_has_what_a_newcomer_looks_for(everything: dg.Definitions) -> None:
    for spec in everything.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert len(spec.description or "") > 80, name
        assert list(spec.owners) == ["team:mm-dagster"], name
        assert spec.kinds, name
        assert {"mm/cadence", "mm/cost"} <= spec.tags.keys(), name
        if name in TABLES:
            assert "dagster/column_schema" in spec.metadata, name
            assert spec.tags["mm/table"] == name
        if name in HISTORY:
            assert spec.code_version, name


def test_groups_sort_in_the_order_of_the_flow(everything: dg.Definitions) -> None:
    specs = {spec.key: spec for spec in everything.resolve_all_asset_specs()}
    assert {spec.group_name for spec in specs.values()} == set(GROUPS.values())
    assert list(GROUPS.values()) == sorted(GROUPS.values())
    for spec in specs.values():
        for dep in spec.deps:
            assert specs[dep.asset_key].group_name <= spec.group_name, f"{dep.asset_key} before {spec.key}"


def test_what_a_tick_makes_is_fresh_for_three_quarters_of_an_hour(everything: dg.Definitions) -> None:
    policies = {spec.key.to_user_string(): spec.freshness_policy for spec in everything.resolve_all_asset_specs()}
    assert {name for name, policy in policies.items() if policy == FRESHNESS["quarter_hour"]} == names(
        everything.resolve_job_def("tick")
    )
    assert policies["alert_audit"] == FRESHNESS["day"]
    assert {name for name, policy in policies.items() if policy == FRESHNESS["month"]} == MONTHLY
    # Alerts are rare, which is no failure.
    assert policies["notification"] is None


def test_every_check_says_in_sentences_what_it_holds(everything: dg.Definitions) -> None:
    repository = everything.get_repository_def()
    keys = repository.asset_graph.asset_check_keys
    assert len(keys) > 15
    for key in keys:
        says = repository.asset_graph.get_check_spec(key).description or ""
        assert says[:1].isupper(), key
        assert says.endswith("."), key


def test_every_check_of_a_tick_says_what_to_do(everything: dg.Definitions) -> None:
    repository = everything.get_repository_def()
    layer = everything.resolve_job_def("tick").asset_layer
    for key in layer.asset_graph.asset_check_keys & repository.asset_graph.asset_check_keys:
        if key not in {*CHECKS, *CHECK_KEYS}:
            assert "If not: " in (repository.asset_graph.get_check_spec(key).description or ""), key


def test_what_runs_by_itself_says_why(everything: dg.Definitions) -> None:
    repository = everything.get_repository_def()
    for one in (*repository.schedule_defs, *repository.sensor_defs):
        assert (one.description or "").endswith("."), one.name
    for job in repository.get_all_jobs():
        if not job.name.startswith("__"):
            assert (job.description or "").endswith("."), job.name


def test_the_kind_of_a_run_is_a_tag_of_it(everything: dg.Definitions) -> None:
    kinds = {name: everything.resolve_job_def(name).tags[KIND_TAG] for name in ("tick", "history", "send_alerts")}
    assert kinds == {"tick": "tick", "history": "backfill", "send_alerts": "alerts"}


@pytest.mark.parametrize(
    ("at", "as_of", "partition"),
    [
        (datetime(2026, 1, 10, 12, 16, tzinfo=UTC), "2026-01-10T12:15:00Z", "2026-01-10"),
        (datetime(2026, 1, 10, 0, 1, tzinfo=UTC), "2026-01-10T00:00:00Z", "2026-01-09"),
        (datetime(2026, 1, 10, 0, 16, tzinfo=UTC), "2026-01-10T00:15:00Z", "2026-01-10"),
    ],
)
def test_the_tick_belongs_to_the_day_in_which_its_last_bar_opened(
    everything: dg.Definitions, at: datetime, as_of: str, partition: str
) -> None:
    schedule = everything.resolve_schedule_def("every_quarter_hour")
    context = scheduled(everything, at)
    data = schedule.evaluate_tick(context)
    (request,) = data.run_requests or []
    assert request.partition_key == partition
    assert request.run_config == {"resources": {"turn": {"config": {"as_of": as_of}}}}
    assert request.run_key == as_of


def scheduled(everything: dg.Definitions, at: datetime) -> dg.ScheduleEvaluationContext:
    return dg.build_schedule_context(
        scheduled_execution_time=at,
        repository_def=everything.get_repository_def(),
        resources={"project": Project.here()},
    )


def test_what_runs_once_a_day_is_half_way_between_two_ticks(everything: dg.Definitions) -> None:
    ticks = everything.resolve_schedule_def("every_quarter_hour").cron_schedule
    offset = int(str(ticks).split(",")[0])
    for name in ("every_night", "every_day", "every_morning", "every_night_again", "every_month"):
        minute = int(str(everything.resolve_schedule_def(name).cron_schedule).split()[0])
        assert (minute - offset) % 15 == 7
        assert minute < 60


@pytest.mark.parametrize(
    ("ahead", "late"),
    [
        (timedelta(0), 0),
        (-timedelta(days=152), 0),
        # Where it is 16:45 at 12:07:23 here, a quarter hour ends at 12:22:23, 12:37:23 and so on.
        (timedelta(hours=4, minutes=37, seconds=37), 8),
        (-timedelta(minutes=3), 3),
        (-timedelta(seconds=1), 1),
    ],
)
def test_in_a_demo_the_tick_runs_when_its_own_quarter_hour_has_ended(ahead: timedelta, late: int) -> None:
    assert automation.minutes_late(ahead) == late
    end = datetime(2026, 11, 29, 12, tzinfo=UTC) + timedelta(minutes=late)
    there = end + ahead
    assert timedelta(0) <= there - floor_bar(there) < timedelta(minutes=1)


def test_schedules_and_sensor_are_on_by_default(everything: dg.Definitions) -> None:
    for schedule in ("every_quarter_hour", "every_night", "every_night_again", "every_day", "every_month"):
        assert everything.resolve_schedule_def(schedule).default_status == dg.DefaultScheduleStatus.RUNNING
    for sensor in ("alerts_are_due", "the_past_is_not_whole"):
        assert everything.resolve_sensor_def(sensor).default_status == dg.DefaultSensorStatus.RUNNING


@pytest.mark.parametrize("sensor", ["alerts_are_due", "the_groups_are_done"])
def test_a_sensor_on_which_somebody_waits_looks_at_each_round_of_the_daemon(
    everything: dg.Definitions, sensor: str
) -> None:
    assert everything.resolve_sensor_def(sensor).minimum_interval_seconds == EACH_ROUND_SECONDS
    # A round begins five seconds after the one before, and gets to the sensor a moment sooner or later.
    assert EACH_ROUND_SECONDS + 1 <= MIN_INTERVAL_LOOP_TIME


def test_every_night_the_venues_are_asked_again_for_the_last_two_days(everything: dg.Definitions) -> None:
    at = datetime(2026, 1, 10, 4, 8, tzinfo=UTC)
    context = scheduled(everything, at)
    (request,) = everything.resolve_schedule_def("every_night_again").evaluate_tick(context).run_requests or []
    assert request.run_config == {"resources": {"turn": {"config": {"again": True}}}}
    assert request.tags["dagster/asset_partition_range_start"] == "2026-01-08"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-01-09"


def test_the_garbage_collector_leaves_what_is_loaded_alone_but_nothing_later(everything: dg.Definitions) -> None:
    kept = gc.get_freeze_count()
    assert kept > 100_000
    defs()
    # A process that loads again, like a backfill of many months, must not keep the garbage of what it did between.
    assert gc.get_freeze_count() <= kept
    assert gc.isenabled()


def test_an_asset_leads_to_the_live_page_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(tmp_path)
    config = tmp_path / "configuration"
    monkeypatch.delenv("MM_PAGE_LINK", raising=False)

    def link() -> object:
        found = live_page(Project(str(config), str(tmp_path / "data")))
        return found["live_page"].value if found else None

    assert link() is None
    monkeypatch.setenv("MM_PAGE_LINK", "http://127.0.0.1:8123")
    assert link() == "http://127.0.0.1:8123"
    (config / "alerts.yaml").write_text("link: https://grids.example.com\n")
    assert link() == "https://grids.example.com"
