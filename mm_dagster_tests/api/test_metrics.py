"""What Prometheus scrapes is true of the rows, whole, free of what people wrote, and what docs and dashboard say."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mm_dagster.api import metrics
from mm_dagster.api.metrics import OTHER, Latency, render
from mm_dagster.api.readings import readings
from mm_dagster.api.series import ALL, API, OF_LAKE, RESPONSES
from mm_dagster.pages.gather import page
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.status import MarketStatus, Status, write_whole
from mm_dagster.tables import words
from mm_dagster.tables.registry import TABLES
from mm_dagster_tests.api import prometheus
from mm_dagster_tests.api.lakes import HOSTILE, REAL, SIMULATED, anew, answer, full, project_at, put, write
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.documents import text_of
from mm_dagster_tests.pages.rows import AS_OF, CLOCK

pytestmark = pytest.mark.slow

MONITORING = PROJECT / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "mm_dagster.json"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a full lake, which is only read."""
    folder = tmp_path_factory.mktemp("full")
    full(project_at(folder))
    return folder


@pytest.fixture(autouse=True)
def the_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "now", lambda self: CLOCK)


@pytest.fixture
def filled(built: Path, tmp_path: Path) -> Project:
    """With a full lake of its own."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return anew(tmp_path)


@pytest.fixture
def read_only(built: Path) -> Project:
    """With the full lake of all."""
    return anew(built)


def scraped(exposition: bytes) -> dict[tuple[str, frozenset[str]], float]:
    """Each sample by its name and the values of its labels, as Prometheus' own parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


def value(found: Any, name: str, *labels: str) -> float | None:
    """The one sample of a series that has these among its labels; None: there is none."""
    values = [one for (series, have), one in found.items() if series == name and have >= set(labels)]
    assert len(values) <= 1, f"{name} {labels}: {values}"
    return values[0] if values else None


# what is exported -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("mm_up", (), 1),
        ("mm_config_valid", (), 1),
        ("mm_grid_state", ("btc-real", "MANDATORY_EXIT", "ccxt"), 1),
        ("mm_grid_state", ("btc-real", "NORMAL"), 0),
        ("mm_grid_state", ("eth-range", "WARNING", "simulated"), 1),
        ("mm_grid_stale", ("eth-range",), 0),
        ("mm_grid_decision_age_seconds", ("eth-range",), 120),
        ("mm_grid_state_age_seconds", ("eth-range",), 32 * 60),
        ("mm_grid_unanswered_seconds", ("btc-real",), 31 * 60),
        ("mm_grid_unanswered_seconds", ("eth-range",), 0),
        ("mm_grid_p_break_low_24h_ratio", ("btc-real",), 0.61),
        ("mm_grid_p_break_low_24h_ratio", ("eth-range",), None),
        ("mm_grid_total_pnl_quote", ("btc-real", "USDT"), -15.34),
        ("mm_grid_profit_quote", ("btc-real",), 716.53),
        ("mm_grid_unrealised_pnl_quote", ("btc-real",), -731.87),
        # The order book of the tick goes before the model, and the model promises nothing beyond what it was fitted to.
        ("mm_grid_exit_cost_ratio", ("btc-real", "0"), 0.0032),
        ("mm_grid_exit_cost_quote", ("btc-real", "0"), 1.6),
        ("mm_grid_exit_cost_ratio", ("btc-real", "60"), None),
        ("mm_grid_exit_cost_ratio", ("eth-range", "0"), 0.0011),
        ("mm_grid_exit_plan_seconds", ("btc-real",), 0),
        # The newest bar is MISSING, so the one before it is the newest that is known.
        ("mm_candle_age_seconds", ("BTC-USDT", "kucoin", "ccxt"), 120),
        ("mm_tick_age_seconds", (), 60 - 6.5),
        ("mm_tick_duration_seconds", (), 6.5),
        ("mm_tick_markets", ("true",), 2),
        ("mm_ticks_of_day", ("true",), 1),
        ("mm_ticks_of_day", ("false",), 1),
        ("mm_alerts", ("ESCALATION", "SENT", "ccxt"), 1),
        ("mm_alerts", ("ESCALATION", "PENDING", "simulated"), 1),
        ("mm_alert_pending_seconds", (), 31 * 60),
        ("mm_alert_events_total", ("SENT", "pushover"), 3),
        ("mm_alert_events_total", ("REFUSED", "pushover"), 1),
        ("mm_response_seconds_bucket", ("simulated", "60.0"), 1),
        ("mm_response_seconds_count", ("simulated",), 1),
        ("mm_response_seconds_count", ("ccxt",), 0),
        ("mm_portfolio_var_24h_quote", ("USDT", "0.05", "ccxt"), 1240),
        ("mm_portfolio_es_24h_quote", ("USDT", "0.01"), 2001.5),
        ("mm_portfolio_equity_quote", ("USDT",), 20_000),
        ("mm_limit_breached", ("position", "btc-real"), 1),
        ("mm_limit_breached", ("correlation",), None),
        ("mm_limit_threshold", ("portfolio",), None),
        ("mm_limit_value", ("session",), None),
        ("mm_bots", ("kucoin", "running"), 2),
        ("mm_bots_age_seconds", ("kucoin",), 60),
    ],
)
def test_each_figure_is_that_of_the_newest_rows(
    shared: dict[Any, float], name: str, labels: tuple[str, ...], expected: float | None
) -> None:
    assert value(shared, name, *labels) == (None if expected is None else pytest.approx(expected))


@pytest.fixture(scope="module")
def shared(built: Path) -> dict[Any, float]:
    """One scrape of the full lake, for many questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Project, "now", lambda self: CLOCK)
        return scraped(render(anew(built)))


def test_the_profits_add_up(shared: dict[Any, float]) -> None:
    parts = [value(shared, f"mm_grid_{part}_quote", "btc-real") for part in ("profit", "exit_pnl", "unrealised_pnl")]
    assert sum(one for one in parts if one is not None) == pytest.approx(-15.34)
    assert len(parts) == 3


def test_the_states_are_those_of_the_page(read_only: Project) -> None:
    on_page = {one.grid.id: one.state for one in page(read_only, CLOCK).grids if one.grid.enabled}
    exported = {
        one.labels[0]: one.labels[-1] for one in readings(read_only) if one.name == "mm_grid_state" and one.value == 1
    }
    assert exported == on_page == {"btc-real": "MANDATORY_EXIT", "eth-range": "WARNING"}


def test_an_answer_ends_what_is_unanswered_and_a_stopped_grid_says_so(filled: Project, tmp_path: Path) -> None:
    put(filled, "operator_response", answer(REAL, 60.0, response_id="n", at=CLOCK, action="stopped"))
    found = scraped(render(anew(tmp_path)))
    assert value(found, "mm_grid_unanswered_seconds", "btc-real") == 0
    assert value(found, "mm_grid_state", "btc-real", "STOPPED") == 1
    assert value(found, "mm_grid_state", "btc-real", "MANDATORY_EXIT") == 0


def test_an_old_decision_is_stale_and_says_its_age(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "now", lambda self: AS_OF + timedelta(hours=3))
    found = scraped(render(anew(built)))
    assert value(found, "mm_grid_stale", "btc-real") == 1
    assert value(found, "mm_grid_decision_age_seconds", "btc-real") == 3 * 3600
    assert value(found, "mm_candle_age_seconds", "BTC-USDT") == 3 * 3600


def test_an_empty_lake_says_what_is_known_and_nothing_else(tmp_path: Path) -> None:
    found = scraped(render(project_at(tmp_path)))
    assert value(found, "mm_up") == 1
    assert value(found, "mm_grid_state", "btc-real", words.NOT_JUDGED_YET) == 1
    assert value(found, "mm_alert_pending_seconds") == 0
    names = {name for name, _ in found}
    assert not names & {"mm_tick_age_seconds", "mm_candle_age_seconds", "mm_grid_total_pnl_quote", "mm_alerts"}


def test_a_grid_that_does_not_run_has_no_state(read_only: Project) -> None:
    assert b"waiting" not in render(read_only)


def test_stages_are_timed_by_their_commits(read_only: Project) -> None:
    commits = read_only.lake.newest_commits(100)
    mine = commits.filter(run_id="r1")
    took = {one.labels[0]: one.value for one in readings(read_only) if one.name == "mm_tick_stage_duration_seconds"}
    # The first commit of the run has none before it.
    assert set(took) == {"grid", "execution", "market", "audit"}
    whole = (mine["at"][-1] - mine["at"][0]).total_seconds()
    assert sum(took.values()) == pytest.approx(whole)  # type: ignore[arg-type]
    assert commits["kept"][-1] == read_only.lake.snapshots().height
    assert commits["snapshot_id"][-1] == read_only.lake.snapshots()["snapshot_id"].max()


# what never happens ---------------------------------------------------------------------------------------------------


def test_a_lake_that_cannot_be_read_is_down_and_raises_nothing(
    filled: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled.lake.close()
    catalog = tmp_path / "data" / "history" / "catalog.sqlite"
    catalog.write_bytes(b"no catalogue" * 999)
    latency = Latency()
    latency.observe("/status", "GET", 200, 0.01)
    found = scraped(render(anew(tmp_path), latency))
    assert value(found, "mm_up") == 0
    assert value(found, "mm_api_request_duration_seconds_count") == 1
    assert {name for name, _ in found if not name.startswith("mm_api_")} == {"mm_up", "mm_build_info"}
    assert "nothing of the lake is measured" in caplog.text


def test_an_invalid_configuration_is_said_and_the_last_valid_one_measured(filled: Project, tmp_path: Path) -> None:
    assert filled.config_error is None
    write(tmp_path, "alerts", {"timezone": "Atlantis"})
    found = scraped(render(anew(tmp_path)))
    assert value(found, "mm_config_valid") == 0
    assert value(found, "mm_up") == 1


@pytest.mark.parametrize("failure", [RuntimeError("with user:hunter2@host"), MemoryError(), AssertionError()])
def test_whatever_fails_is_no_exception(
    read_only: Project, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fails(project: Project) -> Iterator[Any]:
        raise failure
        yield

    monkeypatch.setattr(metrics, "readings", fails)
    assert value(scraped(render(read_only)), "mm_up") == 0


def test_nothing_that_people_or_exchanges_wrote_is_exported(read_only: Project) -> None:
    said = render(read_only).decode()
    assert "hunter2" not in said
    assert HOSTILE[:10] not in said
    free = {"note", "detail", "message", "title", "reason", "ended_by", "advice", "person", "bot_id", "alert_id"}
    assert free & {column for table in TABLES.values() for column in table.column_names()} == free
    assert not free & {label for one in ALL for label in one.labels}


def test_the_figures_of_the_api_cannot_be_flooded() -> None:
    latency = Latency()
    for number in range(3_000):
        latency.observe(f"/random/{number}", f"VERB{number}", 404, 0.001)
    latency.observe(None, "GET", 404, 0.2)
    families = list(latency.registry.collect())
    labels = {
        tuple(sorted(one.labels.items())) for family in families for one in family.samples if "le" not in one.labels
    }
    assert len(labels) <= 102
    counts = [(one.labels["route"], one.value) for one in families[0].samples if one.name.endswith("_count")]
    assert sum(number for _, number in counts) == 3_001
    assert sum(number for route, number in counts if route == OTHER) == 2_901


def test_requests_are_counted_and_timed_and_each_app_has_its_own() -> None:
    latency, another = Latency(), Latency()
    for status, seconds in ((200, 0.004), (200, 0.3), (500, 0.01)):
        latency.observe("/grids/{id}", "GET", status, seconds)
    counts = {
        (one.labels["status"], one.labels.get("le")): one.value
        for family in latency.registry.collect()
        for one in family.samples
    }
    assert counts["200", "0.005"] == 1
    assert counts["200", "+Inf"] == 2
    assert not [one for family in another.registry.collect() for one in family.samples]


def test_mm_metrics_prints_the_same_for_people(built: Path) -> None:
    places = {"MM_CONFIG_DIR": str(built / "configs"), "MM_DATA_DIR": str(built / "data")}
    code = "from mm_dagster.cli import main; main()"
    command = [sys.executable, "-c", code, "metrics"]
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert value(scraped(done.stdout), "mm_grid_state", "btc-real", "MANDATORY_EXIT") == 1


# what is said of it ---------------------------------------------------------------------------------------------------


def exported() -> set[str]:
    """Every name that a query may use."""
    parts = {one.exported for one in ALL if one.kind != "histogram"}
    return parts | {
        f"{one.name}_{part}" for one in ALL if one.kind == "histogram" for part in ("bucket", "sum", "count")
    }


def test_the_page_has_each_series_as_it_is_exported() -> None:
    rows = re.findall(r"(?m)^\| `(mm_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", text_of("docs/metrics.md"))
    assert rows == [
        (one.exported, one.kind, ", ".join(f"`{label}`" for label in one.labels) or "–", one.about) for one in ALL
    ]


def test_a_full_lake_exports_every_series_but_what_it_cannot_have(read_only: Project) -> None:
    latency = Latency()
    latency.observe("/status", "GET", 200, 0.01)
    names = {family.name for family in text_string_to_metric_families(render(read_only, latency).decode())}
    # There is no remote to push to, no plan, and no recorder.
    missing = {one.name for one in ALL} - names
    of_recorder = {one for one in missing if one.startswith(("mm_book_", "mm_recorder_"))}
    assert missing - of_recorder == {"mm_mirror_commits_waiting", "mm_exit_plans"}
    assert len(of_recorder) == 8


def test_the_recorder_is_read_by_its_own_word_and_only_where_it_is_wanted(filled: Project, tmp_path: Path) -> None:
    root = root_of(filled.data)
    root.mkdir(parents=True)
    now_ns = int((filled.now() - filled.ahead).timestamp()) * 10**9
    one = MarketStatus(
        exchange="kucoin", symbol="S-USDT", phase="IN_SYNC", reasons=(), last_recv_ns=now_ns - 7 * 10**9, written=41,
        lost=2, per_second=3.0, gaps=1, reconnects=0, problem=None, clock_offset_ms=-250.0, file=None, file_bytes=0,
    )  # fmt: skip
    status = Status(
        at_ns=now_ns - 5 * 10**9, is_running=True, pid=1, started_ns=1, code_version="1", free_bytes=1, markets=(one,)
    )
    write_whole(root, status)
    assert value(scraped(render(anew(tmp_path))), "mm_recorder_age_seconds") is None
    write(tmp_path, "books", {"record": True, "feeds": [{"exchange": "kucoin", "markets": ["S-USDT"]}]})
    found = scraped(render(anew(tmp_path)))
    assert value(found, "mm_recorder_age_seconds") == pytest.approx(5, abs=60)
    assert value(found, "mm_book_in_sync", "kucoin", "S-USDT") == 1
    assert value(found, "mm_book_messages_total", "kucoin", "S-USDT") == 41
    assert value(found, "mm_book_messages_lost_total", "kucoin", "S-USDT") == 2
    assert value(found, "mm_book_clock_offset_seconds", "kucoin", "S-USDT") == -0.25
    (root / "status.json").write_text("{}")
    found = scraped(render(anew(tmp_path)))
    assert value(found, "mm_recorder_age_seconds") is None
    assert value(found, "mm_up") == 1


def test_commits_that_wait_are_counted_without_a_turn(filled: Project, tmp_path: Path) -> None:
    filled.mirror.write({"a.yaml": "1\n"}, "one")
    write(tmp_path, "history", {"mirror": {"remote": str(tmp_path / "nowhere.git")}})
    with filled.mirror._turn():  # a push that takes long
        assert value(scraped(render(anew(tmp_path))), "mm_mirror_commits_waiting") == 1


def test_every_series_has_labels_and_readings_that_fit(read_only: Project) -> None:
    labels = {one.name: one.labels for one in OF_LAKE}
    for reading in readings(read_only):
        assert len(reading.labels) == len(labels[reading.name]), reading
    assert {one.kind for one in (API, RESPONSES)} == {"histogram"}
    assert all(one.about.endswith((".", ";")) for one in ALL)


def expressions() -> list[str]:
    """Every expression of the dashboard, its variables filled in with all that there is."""
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked = [one["query"]["query"] for one in board["templating"]["list"]]
    names = {one["name"] for one in board["templating"]["list"]}
    used = {name for one in found for name in re.findall(r"\$(\w+)", one)}
    assert used == names
    return [re.sub(r"\$\w+", ".*", one) for one in found] + [
        re.sub(r"label_values\((.+), (\w+)\)", r"group by (\2) (\1)", one) for one in asked
    ]


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]
    ]


def test_every_expression_names_exported_series() -> None:
    asked = expressions()
    assert len(asked) > 30
    for expression in [*asked, *(rule["expr"] for rule in rules())]:
        named = set(re.findall(r"\bmm_\w+", expression)) - {"mm_dagster"}
        assert named <= exported(), f"{expression}: {named - exported()}"
        assert named or expression.startswith("up{")


def test_each_state_and_word_that_a_query_asks_for_is_one() -> None:
    known = {*words.STATES, words.NOT_JUDGED_YET, *words.ALERT_EVENTS, "true", "false", "mm_dagster"}
    known |= {*words.ORDER_MODES, *words.PLAN_STATES, "ccxt", "recorded", "simulated", "0", "5.."}
    asked = [*expressions(), *(rule["expr"] for rule in rules())]
    used = {part for one in asked for text in re.findall(r'[!=]~?"(.*?)"', one) for part in text.split("|")}
    assert used - {".*"} <= known


def test_the_dashboard_is_provisioned_where_the_containers_look() -> None:
    services = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text())["services"]
    ours = {name: one for name, one in services.items() if one.get("profiles") == ["monitoring"]}
    assert set(ours) == {"prometheus", "grafana"}
    for one in ours.values():
        for mount in one["volumes"]:
            source = mount.split(":")[0]
            assert not source.startswith("./") or (PROJECT / "deploy" / source).exists(), mount
        said = " ".join([*one.get("command", []), *map(str, one.get("environment", {}).values())])
        assert "127.0.0.1" in said
        assert "0.0.0.0" not in said
    provider = yaml.safe_load((MONITORING / "grafana/dashboards/provider.yaml").read_text())["providers"][0]
    [source] = yaml.safe_load((MONITORING / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    board = json.loads(DASHBOARD.read_text())
    assert (
        f"{provider['options']['path']}/{DASHBOARD.name}"
        == ours["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
    used = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
    assert used == {source["uid"]}
    assert source["url"] == "http://127.0.0.1:9090"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


# by Prometheus itself -------------------------------------------------------------------------------------------------


def test_promtool_finds_no_lint(read_only: Project) -> None:
    latency = Latency()
    latency.observe("/grids/{id}", "GET", 200, 0.01)
    assert prometheus.promtool("check", "metrics", given=render(read_only, latency)) == ""


def test_promtool_takes_rules_and_configuration() -> None:
    assert f"{len(rules())} rules found" in prometheus.promtool("check", "rules", str(MONITORING / "alerts.yml"))
    prometheus.promtool("check", "config", "--syntax-only", str(MONITORING / "prometheus.yml"))


GRID = 'grid_id="g", symbol="S-USDT", quote="USDT", source_kind="ccxt"'
OF_SIMULATION = GRID.replace("ccxt", "simulated")
RAISED_BY = {
    "ServiceDown": ['up{job="mm_dagster"} 0x40'],
    "LakeUnreadable": ["mm_up 0x40"],
    "TickLate": ["mm_up 1x40", "mm_tick_age_seconds 2000+60x40"],
    "TicksFail": ['mm_ticks_of_day{finished="false"} 3x40', 'mm_ticks_of_day{finished="true"} 93x40'],
    "TickSlow": ["mm_tick_duration_seconds 400x40"],
    "MarketBlind": [f'mm_candle_age_seconds{{source_kind="{kind}"}} 3000x40' for kind in ("ccxt", "simulated")],
    "GridBlind": [f"mm_grid_stale{{{GRID}}} 1x40"],
    "GridMustBeLeft": [
        *(f'mm_grid_state{{{labels}, state="MANDATORY_EXIT"}} 1x40' for labels in (GRID, OF_SIMULATION)),
        *(f"mm_grid_unanswered_seconds{{{labels}}} 0+60x40" for labels in (GRID, OF_SIMULATION)),
    ],
    "AlertsWait": ["mm_alert_pending_seconds 0+60x40"],
    "ChannelFails": ['mm_alert_events_total{event="REFUSED", channel="pushover"} 0x20 1x40'],
    "LimitBreached": ['mm_limit_breached{limit="pair", subject="S-USDT", source_kind="ccxt"} 1x40'],
    "ExitHalted": [f'mm_exit_plans{{mode="{mode}", state="HALTED"}} 1x40' for mode in ("live", "paper")],
    "RecorderSilent": ["mm_recorder_age_seconds 0+60x40"],
    "BookUnknown": ["mm_recorder_age_seconds 1x40", 'mm_book_in_sync{exchange="kucoin", symbol="S-USDT"} 0x40'],
    "BookMessagesLost": ['mm_book_messages_lost_total{exchange="kucoin", symbol="S-USDT"} 0x30 5x10'],
    "ConfigurationInvalid": ["mm_config_valid 0x40"],
    "ConfigurationVanished": ["mm_config_vanished 1x40"],
    "PushesWait": ["mm_mirror_commits_waiting 97x100"],
    "LakeGrows": ["mm_lake_bytes 6e8x10080 2e9x2000"],
    "DiskFills": ["mm_data_free_bytes 1e9x500"],
    "ApiFails": ['mm_api_request_duration_seconds_count{route="/x", status="500"} 0+60x40'],
}
LATER = {"PushesWait": "90m", "LakeGrows": "12000m", "DiskFills": "480m"}
"""When it is looked; else after 38 minutes."""


@pytest.mark.parametrize("name", RAISED_BY)
def test_each_alert_is_raised_once_by_what_it_is_about(name: str, tmp_path: Path) -> None:
    parts = [re.fullmatch(r"(\w+(?:{.*})?) (.*)", one) for one in RAISED_BY[name]]
    once = [{"labels": f'{{alertname="{name}"}}', "value": 1}]
    asked = {"expr": "count by (alertname) (ALERTS{alertstate='firing'})", "eval_time": LATER.get(name, "38m")}
    case = {
        "interval": "1m",
        "input_series": [{"series": one[1], "values": one[2]} for one in parts if one],
        "promql_expr_test": [{**asked, "exp_samples": once}],
    }
    shipped = {"rule_files": [str(MONITORING / "alerts.yml")], "tests": [case]}
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump({**shipped, "evaluation_interval": "30m" if name == "LakeGrows" else "1m"}))
    prometheus.promtool("test", "rules", str(file))


def test_no_alert_is_without_a_case_of_its_own() -> None:
    assert list(RAISED_BY) == [rule["alert"] for rule in rules()]
    assert all({"summary", "remedy"} == rule["annotations"].keys() for rule in rules())


TOKEN = "a-token-of-at-least-thirty-two-bytes"


SERVE = """
from datetime import datetime
from mm_dagster.pipeline.project import Project
moment = datetime.fromisoformat("{clock}")
Project.now = lambda self: moment
from mm_dagster.cli import main
main()
"""
"""`mm serve` as a shell starts it, but for the clock, which stands where the rows of the lake are."""


@pytest.fixture
def served(filled: Project, tmp_path: Path) -> Iterator[int]:
    """The port of an `mm serve` over a full lake, which lets in the bearer of the token."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    filled.lake.close()
    places = {"MM_CONFIG_DIR": str(tmp_path / "configs"), "MM_DATA_DIR": str(tmp_path / "data"), "MM_API_TOKEN": TOKEN}
    command = [sys.executable, "-c", SERVE.format(clock=CLOCK.isoformat()), "serve", "--port", f"{port}"]
    log = tmp_path / "serve.log"
    with log.open("wb") as said:
        running = subprocess.Popen(command, env={**os.environ, **places}, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                    break
            time.sleep(0.1)
        yield port
    finally:
        running.terminate()
        running.wait(20)


@pytest.mark.long
def test_prometheus_scrapes_mm_serve_and_answers_every_expression(served: int, tmp_path: Path) -> None:
    shipped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    token = tmp_path / "token"
    token.write_text(TOKEN)
    shipped["global"] = {"scrape_interval": "5s", "evaluation_interval": "1s"}
    shipped["rule_files"] = [str(MONITORING / "alerts.yml")]
    [job] = shipped["scrape_configs"]
    job |= {"scrape_timeout": "5s", "static_configs": [{"targets": [f"127.0.0.1:{served}"]}]}
    job["authorization"]["credentials_file"] = str(token)
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(yaml.safe_dump(shipped))
    with prometheus.running(configuration, tmp_path) as one:
        one.waited_for('mm_up{job="mm_dagster"} == 1')
        one.waited_for("rate(mm_api_request_duration_seconds_count[5m]) > 0")
        empty = [expression for expression in expressions() if not one.query(expression)]
        # Each is answered: an expression that Prometheus refuses is a failure here.
        for rule in rules():
            one.query(rule["expr"])
        assert one.healthy_rules() == [rule["alert"] for rule in rules()]
        assert {one_name for one_name in one.names() if one_name.startswith("mm_")} <= exported()
        # There is no remote to push to, and no plan.
        assert empty == ["mm_mirror_commits_waiting"]
        [raised] = one.waited_for('ALERTS{alertname="GridMustBeLeft", alertstate="firing"}')
        assert raised["metric"]["grid_id"] == "btc-real"
        assert len(one.query('ALERTS{alertstate="firing"}')) == 1
        assert [sample["metric"]["grid_id"] for sample in one.query("mm_grid_state{state='WARNING'} == 1")] == [
            SIMULATED.id
        ]
    for log in ("prometheus.log", "serve.log"):
        assert TOKEN not in (tmp_path / log).read_text()
