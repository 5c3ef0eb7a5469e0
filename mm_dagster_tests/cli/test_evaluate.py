"""`mm evaluate` and `mm tune` as people call them: what signals were worth, and which thresholds would do better."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster import cli
from mm_dagster.bars import BAR, Span, iso
from mm_dagster.config.load import load
from mm_dagster.config.markets import SimulatedVenue
from mm_dagster.config.sources import source_of
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.research import candidates, promotion
from mm_dagster_tests.research.test_tuning import DAYS, START, walk

ASKED = ("--from", "2025-03-01", "--to", "2025-07-10", "--keys", "exit.persist.on,exit.confirm")
Said = tuple[int, str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market without memory in the lake, and an exit.yaml with words in it."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "configuration").mkdir()
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "AAA-USDT", "venue": "main"}]}
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    (folder / "configuration" / "exit.yaml").write_text("# as agreed in spring\nconfirm:\n  warning: 0.45  # looks\n")
    candles = walk(0, "AAA-USDT").with_columns(source=pl.lit(source_of("main", SimulatedVenue(kind="simulated"))))
    Lake(folder / "data" / "history").upsert("candles", candles, commit=Commit("test", "candles", "spring"))
    return folder


@pytest.fixture
def mm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Said]]:
    """Calls the command: exit code, stdout, stderr."""
    monkeypatch.setenv("MM_CONFIG_DIR", str(folder / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("MM_DAGSTER_DIR", str(folder / "data" / "dagster"))
    monkeypatch.setenv("DAGSTER_HOME", str(folder))

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["mm", *arguments])
        cli.project_here.cache_clear()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield call
    cli.project_here.cache_clear()


@pytest.mark.slow
def test_every_signal_stands_beside_every_control_with_intervals(mm: Callable[..., Said]) -> None:
    code, text, told = mm("evaluate", "--from", "2025-03-01", "--to", "2025-07-10", "--json")
    assert code == 0, told
    rows = json.loads(text)
    assert all(list(row) == ["policy", "signal", "metric", "value", "low", "high", "n"] for row in rows)
    found = {(row["policy"], row["signal"], row["metric"]): row for row in rows}
    assert len(found) == len(rows)
    for metric in ("auc", "brier_skill", "ece", "log_loss_gain"):
        assert found["confirmed", "p_break_low_24h", metric]["n"] > 1_000
    alarms = ("precision", "recall", "false_alarms_per_grid_week", "lead_p25_hours", "lead_p50_hours")
    money = ("mean_equity", "shortfall_5pct", "hours_held")
    against = [
        f"{figure}_vs_{other}"
        for figure in ("gain", "shortfall")
        for other in ("hold", "null", "position", "position_as_long")
    ]
    for level in ("WARNING", "LATEST_ACCEPTABLE_EXIT", "MANDATORY_EXIT"):
        for policy in ("confirmed", "literal"):
            for metric in (*alarms, *money, *against):
                assert (policy, level, metric) in found
            waits = found.get((policy, level, "gain_vs_next_level"))
            assert (waits is None) == (level == "MANDATORY_EXIT")
        for metric in (*money, "gain_vs_hold", "shortfall_vs_hold"):
            assert ("placebo", level, metric) in found
    controls = ("hold_to_stop", "break_only", "near_bound", "low_position", "tight_stop", "adx_25", "atr_expansion")
    for control in (*controls, "mean_holding_time", "low_position_as_long", "random_exits"):
        row = found["control", control, "mean_equity"]
        assert row["low"] < row["value"] < row["high"]
    precision = found["confirmed", "WARNING", "precision"]
    assert 0 <= precision["low"] <= precision["value"] <= precision["high"] <= 1

    code, text, told = mm("evaluate", "--from", "2025-03-01", "--to", "2025-07-10")
    assert code == 0, told
    assert "SIMULATED" in text
    assert f"{found['confirmed', 'p_break_low_24h', 'auc']['value']:.3f}" in text


@pytest.mark.slow
def test_the_loss_of_a_bad_night_stands_beside_simpler_figures(mm: Callable[..., Said], folder: Path) -> None:
    (folder / "configuration" / "portfolio.yaml").write_text("window_days: 30\n")
    try:
        days = ("--from", "2025-05-01", "--to", "2025-07-10", "--portfolio")
        code, text, told = mm("evaluate", *days, "--json")
        assert code == 0, told
        rows = json.loads(text)
        keys = ["method", "level", "days", "hits", "rate", "kupiec_p", "christoffersen_p", "z2", "z2_p"]
        assert all(list(row) == keys for row in rows)
        assert [(row["method"], row["level"]) for row in rows[:2]] == [("filtered", 0.05), ("filtered", 0.01)]
        assert {row["days"] for row in rows} == {71}
        # One market: nothing falls together with it.
        by_method = {row["method"]: row["hits"] for row in rows if row["level"] == 0.05}
        assert by_method["filtered"] == by_method["independent"]
        assert rows[0]["rate"] == rows[0]["hits"] / 71
        code, text, told = mm("evaluate", *days)
        assert code == 0, told
        assert "SIMULATED" in text
        assert "these p are rough" in text
    finally:
        (folder / "configuration" / "portfolio.yaml").write_text("{}\n")
    code, _, told = mm("evaluate", "--from", "2025-01-05", "--to", "2025-01-20", "--portfolio")
    assert code == 1
    assert "the features need candles from 2024-08" in told
    code, _, told = mm("evaluate", "--from", "2025-05-01", "--to", "2025-07-10", "--realised")
    assert code == 1
    assert "no grid of yours ran from" in told
    code, _, told = mm("evaluate", "--from", "2025-05-01", "--portfolio", "--realised")
    assert code == 1
    assert "--portfolio and --realised are 2 questions" in told


def test_chains_say_what_leaving_waiting_and_opening_again_makes_of_the_capital(mm: Callable[..., Said]) -> None:
    days = ("--from", "2025-03-01", "--to", "2025-07-10", "--chains")
    code, text, told = mm("evaluate", *days, "--json")
    assert code == 0, told
    rows = json.loads(text)
    assert all(list(row) == ["exit", "entry", "metric", "value", "low", "high", "n"] for row in rows)
    found = {(row["exit"], row["entry"], row["metric"]): row for row in rows}
    metrics = ("growth_percent_per_week", "gain_vs_hold", "gain_vs_cash", "gain_vs_same_schedule")
    assert set(found) == {
        *((limit, entry, metric) for limit in (0.2, 0.38, 0.75) for entry in ("free", "gated") for metric in metrics),
        *((limit, "gated", "gain_of_gate") for limit in (0.2, 0.38, 0.75)),
    }
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"], row
        assert row["n"] > 3, row
    for limit in (0.2, 0.38, 0.75):
        free, gated = (found[limit, entry, "growth_percent_per_week"]["value"] for entry in ("free", "gated"))
        assert found[limit, "gated", "gain_of_gate"]["value"] == pytest.approx(gated - free)

    code, text, told = mm("evaluate", *days)
    assert code == 0, told
    assert "SIMULATED" in text
    assert "of these 6 chains lose against cash" in " ".join(text.split())
    for asked in (("--chains", "--mine"), ("--chains", "--candidates"), ("--chains", "--grids", "real")):
        code, _, told = mm("evaluate", "--from", "2025-03-01", *asked)
        assert code != 0
        assert "ask one at a time" in told or "leave --grids real out" in told


def test_the_cost_of_leaving_is_held_against_what_came(mm: Callable[..., Said]) -> None:
    days = ("--from", "2025-03-01", "--to", "2025-07-10", "--exit-cost")
    code, text, told = mm("evaluate", *days, "--json")
    assert code == 0, told
    rows = json.loads(text)
    columns = ["moment", "horizon_minutes", "notional", "metric", "value", "low", "high", "n"]
    assert all(list(row) == columns for row in rows)
    found = {(row["moment"], row["horizon_minutes"], row["notional"], row["metric"]): row for row in rows}
    assert len(found) == len(rows)
    for moment in ("broken", "latest_acceptable_exit"):
        for minutes in (15, 60):
            narrow, wide = (found[moment, minutes, None, f"coverage_{width}"] for width in (80, 90))
            assert 0.5 < narrow["low"] <= narrow["value"] <= wide["value"] <= 1
            assert narrow["n"] > 10
        for sold in (1_000.0, 10_000.0):
            assert {minutes for one, minutes, size, _ in found if (one, size) == (moment, sold)} == {0, 5, 15, 60, None}
            now, plan, gain = (
                found[moment, None, sold, f"{name}_mean_bp"]["value"] for name in ("now", "plan", "gain")
            )
            assert now == pytest.approx(found[moment, 0, sold, "expected_bp"]["value"])
            assert gain == pytest.approx(now - plan)
            # 12.5 basis points are the taker fee and half of the spread.
            assert now > 12.5

    code, text, told = mm("evaluate", *days)
    assert code == 0, told
    assert "SIMULATED" in text
    assert f"{found['broken', 15, None, 'coverage_80']['value']:.3f}" in text
    said = " ".join(text.split())
    assert f"Of {found['broken', 15, None, 'coverage_80']['n']} breaks below, the cost came within the 80 %" in said
    for asked in (("--exit-cost", "--mine"), ("--exit-cost", "--chains"), ("--exit-cost", "--grids", "real")):
        code, text, told = mm("evaluate", "--from", "2025-03-01", *asked)
        assert (code, text) == (1, "")
        assert "are 2 questions; ask one at a time" in told or "--exit-cost: only the rule's grids" in told
    code, _, told = mm("evaluate", "--from", "2024-01-01", "--to", "2024-01-20", "--exit-cost")
    assert code == 1
    assert "no grid can be judged" in told


def test_days_too_early_for_the_features_are_refused_with_the_remedy(mm: Callable[..., Said]) -> None:
    code, _, told = mm("evaluate", "--from", "2024-01-01", "--to", "2024-01-20")
    assert code != 0
    assert "AAA-USDT is left out: no candle of it is stored" in " ".join(told.split())
    assert "no grid can be judged" in told
    assert "mm backfill --from 2023-11-13 --to 2024-01-20" in told


def test_without_a_grid_of_ones_own_there_is_nothing_real_to_judge(mm: Callable[..., Said]) -> None:
    code, _, told = mm("evaluate", "--from", "2025-03-01", "--to", "2025-07-10", "--grids", "real")
    assert code != 0
    assert "none of your grids was opened" in told


def test_candidates_need_libraries_days_and_the_grids_of_the_rule(
    mm: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "find_spec", lambda name: name)
    asked = ("evaluate", "--from", "2025-03-01", "--to", "2025-07-10", "--candidates")
    code, text, told = mm(*asked)
    assert (code, text) == (1, "")
    assert "the gate needs grids on 140 days, and they can be opened on 132; choose more days, and `mm backfill" in told
    code, text, told = mm(*asked, "--grids", "real")
    assert (code, text) == (1, "")
    assert "leave --grids real out" in told
    monkeypatch.setattr(candidates, "find_spec", lambda name: None)
    code, text, told = mm(*asked)
    assert (code, text) == (1, "")
    assert "hmmlearn and arch not installed; pip install 'mm-dagster[research]'" in told


@pytest.mark.long
def test_candidates_go_through_the_gate_and_what_passed_is_said(
    folder: Path, mm: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("hmmlearn", "arch"):
        pytest.importorskip(name, reason=f"{name} is not installed; it is in the extra research")
    days = Span(START, START + timedelta(days=promotion.LEAST_DAYS + 1))
    source = source_of("main", SimulatedVenue(kind="simulated"))
    candles = walk(0, "AAA-USDT", days).with_columns(source=pl.lit(source))
    Lake(tmp_path / "history").upsert("candles", candles, commit=Commit("test", "candles", "all"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path))
    asked = ("evaluate", "--from", iso(days.start)[:10], "--to", iso(days.end - BAR)[:10], "--candidates")
    code, text, told = mm(*asked, "--json")
    assert code == 0, told
    rows = {row["candidate"]: row for row in json.loads(text)}
    assert list(rows) == ["hmm_rough", "hmm_falling", "garch_over_forecast"]
    for row in rows.values():
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
        assert row["over_placebo_low"] < row["over_placebo_high"]
        assert 0 <= row["fires"] <= 1
        assert row["passes"] is False
    code, text, told = mm(*asked)
    assert code == 0, told
    assert "SIMULATED" in text
    assert "0 models came from the history, 10 were fitted now." in text
    assert f"{rows['hmm_rough']['gain']:.2f}" in text
    assert text.strip().endswith(
        "Nothing passed: none is shown to know more of a break than the break probability does."
    )


@pytest.mark.slow
def test_a_study_proposes_goes_on_and_switches_nothing(folder: Path, mm: Callable[..., Said]) -> None:
    before = {path: path.read_bytes() for path in (folder / "configuration").iterdir()}
    code, text, told = mm("tune", "--study", "spring", "--trials", "3", *ASKED, "--json")
    assert code == 0, told
    rows = json.loads(text)
    assert {row["kind"] for row in rows} == {"key", "figure", "deflation"}
    keys = {row["key"]: row for row in rows if row["kind"] == "key"}
    assert keys["exit.confirm.warning"]["current"] == 0.45
    assert len(keys["exit.confirm.warning"]["by_past"]) == 4
    [deflation] = [row for row in rows if row["kind"] == "deflation"]
    assert deflation["proven"] is False

    # Without its options again, a study goes on under those it began with; here nothing is left to try.
    journal = folder / "data" / "tuning" / "spring" / "trials.journal"
    assert journal.read_text().count('"ratio"') == 4 * 3
    code, text, told = mm("tune", "--study", "spring", "--trials", "3")
    assert code == 0, told
    assert journal.read_text().count('"ratio"') == 4 * 3
    assert deflation["verdict"] in text
    assert "Out of sample, 88 grids" in text

    assert {path: path.read_bytes() for path in (folder / "configuration").iterdir()} == before
    proposal = (folder / "data" / "tuning" / "spring" / "proposal.yaml").read_text()
    assert proposal.startswith("# Study spring, proposed ")


def test_a_proposal_is_a_difference_that_a_person_can_take_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mm_dagster.cli import tune
    from mm_dagster_tests.research.test_tuning import judged_as

    proposal = judged_as(0.1, 0.02, 0.2, 0.1, 0.99)
    proposal.current.clear()
    proposal.current.update({"exit.confirm.warning": 0.45, "exit.persist.on": 2.0, "regime.hysteresis.up": 2.0})
    proposal.proposed.clear()
    proposal.proposed.update({"exit.confirm.warning": 0.4, "exit.persist.on": 3.0, "regime.hysteresis.up": 1.0})
    written = tune._write(tmp_path, "spring", proposal, folder / "configuration")
    assert [path.name for path in written] == ["proposal.yaml", "exit.yaml.diff", "regime.yaml.diff"]
    difference = (tmp_path / "exit.yaml.diff").read_text()
    assert "-  warning: 0.45  # looks\n+  warning: 0.4  # looks\n" in difference
    text = (tmp_path / "proposal.yaml").read_text()
    assert "# confirm.warning: 0.45 -> 0.4" in text
    # Its parts are files that the configuration can be loaded from.
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "markets.yaml").write_bytes((folder / "configuration" / "markets.yaml").read_bytes())
    for name in ("exit", "regime"):
        part = text.split(f"# {name}.yaml\n")[1].split("\n\n")[0]
        (copy / f"{name}.yaml").write_text(part)
    config = load(copy)
    assert (config.exit.confirm.warning, config.exit.persist.on, config.regime.hysteresis.up) == (0.4, 3, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--symbols", "XYZ-USDT"), "--symbols: 'XYZ-USDT' is not in markets.yaml; did you mean AAA-USDT?"),
        (("--keys", "exit.nothing"), "--keys: 'exit.nothing' fits no key; say all, exit, risk, regime, or like"),
        (("--from", "2025-06-01"), "are too few for 4 blocks of 21 days after a past"),
        (("--to", "2025-08-01"), "candles are stored until 2025-07-10; choose that, or `mm backfill` the rest"),
        (("--study", "a/b"), "--study 'a/b': use letters, digits, - and _"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_searched_is_said_in_one_line(
    mm: Callable[..., Said], arguments: tuple[str, ...], says: str
) -> None:
    code, text, told = mm("tune", "--study", "wrong", "--trials", "2", *arguments)
    assert code == 1
    assert text == ""
    assert says in told
    assert len(told.strip().splitlines()) == 1


def test_the_days_that_are_searched_are_those_that_can_be_judged(folder: Path) -> None:
    from mm_dagster.cli.tune import _days
    from mm_dagster.evaluation.evaluate import HISTORY_BARS

    days = _days(Lake(folder / "data" / "history"), ["AAA-USDT"], None, None, HISTORY_BARS)
    assert DAYS.start <= days.start
    assert days.end == DAYS.end
