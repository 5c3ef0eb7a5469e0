"""The monthly judgement and fits through the real job on a real lake. A simulated market: only the workings count."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from mm_dagster.bars import Span
from mm_dagster.definitions import defs
from mm_dagster.defs import automation, evaluation
from mm_dagster.defs.resources import Turn
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.history.lake import Commit
from mm_dagster.history.views import VIEWS
from mm_dagster.market.collect import collect
from mm_dagster.pipeline.project import Project
from mm_dagster.research import candidates
from mm_dagster.tables import registry, words
from mm_dagster_tests.defs.live import QUIET

pytestmark = pytest.mark.slow

END = datetime(2026, 7, 1, tzinfo=UTC)
WINDOW = Span(END - timedelta(days=28), END)
RESOURCES = {"project": Project.here(), "turn": Turn()}
GIVEN = Commit("test", "given", "")
OPENED = datetime(2026, 6, 10, 7, tzinfo=UTC)
STOPPED = OPENED + timedelta(days=3)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Eighty days of a market; a grid that the operator stopped, one that is too old to be judged, and an alert."""
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "configuration").mkdir()
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    (folder / "configuration" / "evaluation.yaml").write_text(yaml.safe_dump({"window_days": 28}))
    before = dict(os.environ)
    os.environ.update(MM_CONFIG_DIR=str(folder / "configuration"), MM_DATA_DIR=str(folder / "data"))
    try:
        project = Project.here()
        give(project)
        yield project
    finally:
        os.environ.clear()
        os.environ.update(before)


def give(project: Project) -> None:
    config, lake = project.config, project.lake
    kept = Span(WINDOW.back(HISTORY_BARS).start, END + timedelta(hours=6))
    candles = collect(
        project.venues.of("ETH-USDT"), "ETH-USDT", kept, config.markets.candles, lambda seconds: None
    ).candles
    stamps = {"config_hash": config.hash_of("candles", "ETH-USDT"), "code_version": registry.CODE_VERSIONS["candles"]}
    rows = candles.with_columns(**{name: pl.lit(value) for name, value in stamps.items()})
    lake.write("candles", registry.conform(rows, "candles"), span=kept, commit=GIVEN)
    price = candles.filter(pl.col("close_time") == OPENED)["close"].item()
    episode = dict.fromkeys(registry.dtypes("grid_episode")) | {
        "grid_id": "mine", "activated_at": OPENED, "symbol": "ETH-USDT", "enabled": True, "lower": 0.97 * price,
        "upper": 1.03 * price, "levels": 6, "level_convention": "intervals", "spacing": "geometric",
        "stop": 0.94 * price, "capital": 1000.0, "fee_maker": 0.001, "fee_taker": 0.001, "fee_paid_in": "quote",
        "slippage": 0.0005, "first_seen": OPENED, "closed_at": STOPPED, "closed_by": "disabled",
    }  # fmt: skip
    others: list[dict[str, Any]] = [
        {"grid_id": "never-ran", "enabled": False},
        {"grid_id": "elsewhere", "symbol": "OLD-USDT"},
        {"grid_id": "too-old", "activated_at": WINDOW.start - timedelta(days=1)},
    ]
    episodes = pl.DataFrame([episode, *(episode | one for one in others)], schema=registry.dtypes("grid_episode"))
    lake.upsert("grid_episode", episodes, commit=GIVEN)
    sent = OPENED + timedelta(hours=5, minutes=1)
    alert = dict.fromkeys(registry.dtypes("notification")) | {
        "alert_id": "a", "grid_id": "mine", "activated_at": OPENED, "symbol": "ETH-USDT", "as_of": sent,
        "kind": "ESCALATION", "state": "WARNING", "state_since": sent, "priority": 0, "title": "t", "message": "m",
        "status": "SENT", "attempts": 1, "created_at": sent, "sent_at": sent,
    }  # fmt: skip
    lake.upsert("notification", pl.DataFrame([alert], schema=registry.dtypes("notification")), commit=GIVEN)


def judge(**config: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        run_config = {**QUIET, **({"ops": {"signal_quality": {"config": config}}} if config else {})}
        job = defs().resolve_job_def("evaluation")
        return job.execute_in_process(
            instance=instance,
            run_config=run_config,
            asset_selection=[dg.AssetKey("signal_quality")],
            raise_on_error=False,
        )


@pytest.fixture(scope="module")
def judged(project: Project) -> dg.ExecuteInProcessResult:
    result = judge()
    assert result.success
    return result


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (made,) = result.asset_materializations_for_node("signal_quality")
    return {name: entry.value for name, entry in made.metadata.items()}


def values(project: Project, **where: str) -> dict[str, tuple[float | None, int]]:
    rows = project.lake.read("signal_quality").filter(pl.col(name) == value for name, value in where.items())
    return {row["metric"]: (row["value"], row["n"]) for row in rows.iter_rows(named=True)}


def test_the_last_whole_month_is_judged_on_the_grids_of_the_rule(
    project: Project, judged: dg.ExecuteInProcessResult
) -> None:
    rows = project.lake.read("signal_quality")
    assert rows["as_of"].unique().to_list() == [END]
    assert registry.broken_rules(rows, "signal_quality") == {}
    assert set(rows["metric"]) <= set(words.METRICS)
    assert rows["config_hash"].unique().to_list() == [project.config.hash_of_quality()]
    assert rows["code_version"].unique().to_list() == [registry.CODE_VERSIONS["signal_quality"]]
    held = values(project, grids="rule", policy="control", signal="hold_to_stop")
    assert held["mean_equity"][1] == metadata(judged)["grids_of_the_rule"] == 28
    # Two blocks of two weeks say nothing of how others differ.
    assert rows["low"].null_count() == rows.height


def test_a_grid_that_its_operator_stopped_is_cut_there_and_not_left_out(
    project: Project, judged: dg.ExecuteInProcessResult
) -> None:
    found = metadata(judged)
    assert (found["grids_of_the_operator"], found["of_these_cut"]) == (1, 1)
    held = values(project, grids="real", policy="control", signal="hold_to_stop")
    assert held["hours_held"] == (72.0, 1)
    assert found["not_judged"] == "- elsewhere of 2026-06-10T07:00:00Z: the history does not reach back far enough"


def test_what_he_was_told_stands_beside_what_the_signals_said(
    project: Project, judged: dg.ExecuteInProcessResult
) -> None:
    told = values(project, grids="real", policy="real", signal="WARNING")
    assert told["alerts"] == (1.0, 1)
    assert told["answered_share"] == (0.0, 1)
    assert told["acknowledged_share"] == (None, 0)
    assert "WARNING" in metadata(judged)["what_the_operator_was_notified_of"]


def test_the_view_has_each_signal_in_one_row(project: Project, judged: dg.ExecuteInProcessResult) -> None:
    rows = project.lake.sql("FROM signal_worth")
    assert rows.columns == list(VIEWS["signal_worth"].columns)
    assert not rows.select("grids", "policy", "signal").is_duplicated().any()
    (held,) = rows.filter(grids="real", policy="control", signal="hold_to_stop").to_dicts()
    assert (held["hours_held"], held["precision"]) == (72.0, None)
    table = values(project, grids="rule", policy="control", signal="tight_stop")
    (tight,) = rows.filter(grids="rule", policy="control", signal="tight_stop").to_dicts()
    assert [tight[name] for name in ("precision", "recall", "mean_equity")] == [
        table[name][0] for name in ("precision", "recall", "mean_equity")
    ]


def test_the_page_has_tables_pictures_and_a_check_in_sentences(
    project: Project, judged: dg.ExecuteInProcessResult
) -> None:
    found = metadata(judged)
    for name in ("worth", "reliability", "exit_cost_intervals"):
        assert "data:image/png;base64," in found[name]
    assert "| LATEST_ACCEPTABLE_EXIT |" in found["signals_on_rule_grids"]
    assert "| tight_stop |" in found["signals_on_real_grids"]
    checks = {check.check_name: check for check in judged.get_asset_check_evaluations()}
    assert set(checks) == {"signals_are_worth_hearing", "exit_cost_intervals_came_true"}
    heard, came_true = checks["signals_are_worth_hearing"], checks["exit_cost_intervals_came_true"]
    assert {check.severity for check in checks.values()} == {dg.AssetCheckSeverity.WARN}
    assert "The break probability ranks with an AUC of" in (heard.description or "")
    # A month has no five blocks of two weeks.
    assert came_true.passed
    assert "too few weeks to say more" in (came_true.description or "")


def test_a_month_judged_again_by_hand_changes_nothing_and_another_has_rows_of_its_own(
    project: Project, judged: dg.ExecuteInProcessResult
) -> None:
    before = project.lake.read("signal_quality")
    assert metadata(judge(until="2026-07-01"))["rows_changed"] == 0
    assert judge(until="2026-06-20").success
    after = project.lake.read("signal_quality")
    assert after.filter(pl.col("as_of") == END).equals(before)
    # Of May there is no candle that features could be made of.
    assert set(after["as_of"]) <= {END, datetime(2026, 6, 1, tzinfo=UTC)}


def test_it_writes_its_own_table_and_no_other(project: Project, judged: dg.ExecuteInProcessResult) -> None:
    commits = [json.loads(text) for text in project.lake.snapshots()["commit_extra_info"].drop_nulls()]
    assert {commit["asset"] for commit in commits} <= {"schema", "given", "signal_quality", "candidate_parameters"}


def test_a_time_that_is_none_is_refused_in_one_line(project: Project) -> None:
    result = judge(until="last month")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "until: 'last month' is not a time" in str(failure.step_failure_data.error)


def test_an_empty_lake_has_nothing_to_judge(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    result = judge()
    checks = result.get_asset_check_evaluations()
    assert len(checks) == 2
    for check in checks:
        assert (check.passed, check.description) == (False, "Nothing was judged: no candle is stored yet.")


def fit(project: Project) -> tuple[dict[str, Any], dg.AssetCheckEvaluation, str]:
    """Metadata, check and data version of a run of the asset."""
    for name in ("hmmlearn", "arch"):
        pytest.importorskip(name, reason=f"{name} is not installed; it is in the extra research")
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            defs()
            .resolve_job_def("evaluation")
            .execute_in_process(
                instance=instance, run_config=QUIET, asset_selection=[dg.AssetKey("candidate_parameters")]
            )
        )
    (made,) = result.asset_materializations_for_node("candidate_parameters")
    (check,) = result.get_asset_check_evaluations()
    version = (made.tags or {})["dagster/data_version"]
    return {name: entry.value for name, entry in made.metadata.items()}, check, version


@pytest.mark.long
def test_models_are_fitted_once_and_again_only_when_what_they_were_fitted_on_changed(project: Project) -> None:
    lake = project.lake
    found, check, version = fit(project)
    assert (found["fitted"], found["kept"], found["not_fitted"]) == (4, 0, "none")
    assert "Of the 2 models from 2026-07-01 on" in (check.description or "")
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "| ETH-USDT | hmm |" in found["newest_month"]
    rows = lake.read("candidate_parameters")
    assert registry.broken_rules(rows, "candidate_parameters") == {}
    assert rows.select("as_of", "model").rows() == [
        (datetime(2026, month, 1, tzinfo=UTC), model) for month in (6, 7) for model in ("garch", "hmm")
    ]
    assert rows["hours"].to_list()[2:] == [60 * 24, 60 * 24]
    assert rows["config_hash"].unique().to_list() == [project.config.hash_of("candles", "ETH-USDT")]

    again, _, same = fit(project)
    assert (again["fitted"], again["kept"], again["rows_changed"], same) == (0, 4, 0, version)

    # The last candle before July changes by a trillionth: July is fitted anew, June is not.
    candles = lake.read("candles")
    last = pl.col("close_time") == END
    other = candles.filter(last)["close"].item() * (1 - 1e-12)
    changed = candles.filter(last).with_columns(close=pl.lit(other), low=pl.min_horizontal("low", pl.lit(other)))
    lake.upsert("candles", changed, commit=GIVEN)
    try:
        revised, _, different = fit(project)
        assert different != version
        assert (revised["fitted"], revised["kept"]) == (2, 2)
        renewed = lake.read("candidate_parameters")
        assert renewed.head(2).equals(rows.head(2))
        assert set(renewed["returns_hash"][2:]).isdisjoint(rows["returns_hash"])
    finally:
        lake.upsert("candles", candles.filter(last), commit=GIVEN)
    # Back as it was, and so are the parameters, to the bit.
    _, _, back = fit(project)
    assert back == version
    assert lake.read("candidate_parameters").equals(rows)


@pytest.mark.long
def test_parameters_can_be_made_again_from_the_lake(project: Project) -> None:
    fit(project)
    symbol, days = "ETH-USDT", WINDOW
    rows = project.lake.read("candidate_parameters")
    candles = project.lake.read("candles", span=candidates.reach(days), symbols=[symbol])
    months = [*candidates.months_of(days), days.end]
    again = candidates.refit(symbol, candles, rows.clear(), days, months, rows["config_hash"][0]).rows
    # Where its candles came from the lake itself notes.
    again = again.sort("as_of", "symbol", "model").with_columns(source=pl.lit("simulated:1"))
    assert again.equals(rows)
    for row in rows.iter_rows(named=True):
        stored = {one["name"]: one["value"] for one in row["parameters"]}
        assert candidates.parameters_hash(stored) == row["parameters_hash"]


@pytest.mark.long
def test_a_market_with_too_little_history_is_named_and_the_others_are_fitted(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configuration").mkdir()
    given = yaml.safe_load((Path(project.config_dir) / "markets.yaml").read_text())
    given["markets"].insert(0, {"symbol": "SOL-USDT", "venue": "main"})
    (tmp_path / "configuration" / "markets.yaml").write_text(yaml.safe_dump(given))
    (tmp_path / "configuration" / "evaluation.yaml").write_text(yaml.safe_dump({"window_days": 28}))
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "configuration"))
    found, _, _ = fit(project)
    assert found["fitted"] + found["kept"] == 4
    assert found["not_fitted"].splitlines() == [
        f"- SOL-USDT, 2026-{month}: 0 of 30 days are known" for month in ("06", "07")
    ]


def test_without_the_libraries_there_is_no_such_asset_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "find_spec", lambda name: None)
    path = Path(evaluation.__file__)
    spec = importlib.util.spec_from_file_location("without.evaluation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not hasattr(module, "candidate_parameters")
    assets = dg.Definitions(assets=[module.signal_quality], jobs=[automation.evaluation], resources=RESOURCES)
    job = assets.resolve_job_def("evaluation")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {"signal_quality"}
