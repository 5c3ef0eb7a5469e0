"""Studies on a real lake: what is written before a figure is shown, what counts, what is read, what the four hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from benchmarks.planted import planted, write
from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.history.connection import LakeError
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.market.collect import collect
from mm_dagster.pipeline import strategies, trials
from mm_dagster.pipeline.foreign import IdeaError, named
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.strategies import (
    Done,
    Source,
    SourceError,
    funding_of,
    hold,
    newest_study,
    recorded,
    run_study,
)
from mm_dagster.pipeline.work import plan
from mm_dagster.research.study import StudyError
from mm_dagster.strategies.signals import lead_bars
from mm_dagster.tables import registry
from mm_dagster.tables.registry import broken_rules
from mm_dagster_tests.conftest import PROJECT

DAYS = 49 + 72
"""What features need, and a little more than a study does."""
LOUD = f"{PROJECT}/docs/studies/loud_evening.py:loud_evening"
DIP = f"{PROJECT}/docs/studies/buy_the_dip.py:buy_the_dip"


def project_of(folder: Path, **settings: Any) -> Project:
    configuration = folder / "configuration"
    configuration.mkdir(exist_ok=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    (configuration / "strategies.yaml").write_text(yaml.safe_dump(settings))
    return Project(str(configuration), str(folder / "data"))


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "two"
    write(planted(0.6, DAYS, 2, 3), folder)
    return folder


def read(folder: Path, project: Project, symbols: Sequence[str] = (), name: str | None = None) -> Source:
    return recorded(folder, "15m.parquet", symbols, None, project.config, name, lambda said: None)


def tried(project: Project, source: Source, what: str | None) -> Done:
    return run_study(project, source, None, named(what) if what else None, "a test")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, candles: Path) -> tuple[Project, Done]:
    project = project_of(tmp_path_factory.mktemp("study"))
    return project, tried(project, read(candles, project), LOUD)


# what is written ------------------------------------------------------------------------------------------------------


def test_a_planted_edge_passes_and_all_of_it_is_kept(done: tuple[Project, Done]) -> None:
    project, found = done
    name = "loud_evening.py:loud_evening"
    assert found.judged[name].passes, found.judged[name].refused
    rows = newest_study(project, "two")
    assert rows.height == len(found.rows) == rows.n_unique(registry.TABLES["strategy_performance"].primary_key())
    assert broken_rules(rows, "strategy_performance") == {}
    assert rows["strategy"].unique().to_list() == [name]
    assert rows.filter(pl.col("metric") == "passes")["value"].to_list() == [1.0]
    assert newest_study(project, "another").is_empty()
    ledger = strategies.ledger(project)
    assert broken_rules(ledger, "trial") == {}
    [row] = ledger.to_dicts()
    assert (row["what"], row["kind"], row["symbols"], row["command"]) == (name, "real", "P00-USDT,P01-USDT", "a test")
    assert row["blocks"] == found.study.results[0].idea.blocks.size == 5
    assert row["ratio"] > 1


def test_who_tries_it_again_tries_nothing_new_and_gets_the_same(done: tuple[Project, Done], candles: Path) -> None:
    project, before = done
    again = tried(project, read(candles, project), LOUD)
    assert again.judged == before.judged
    assert again.rows == before.rows
    assert strategies.ledger(project).height == 1


@pytest.mark.slow
def test_every_trial_of_the_same_days_counts_against_the_next(tmp_path: Path, candles: Path) -> None:
    project = project_of(tmp_path)
    both = read(candles, project)
    assert tried(project, both, LOUD).judged["loud_evening.py:loud_evening"].trials == 1
    assert tried(project, both, DIP).judged["buy_the_dip.py:buy_the_dip"].trials == 2
    # Another market of the same days is no new data: markets move together.
    one = read(candles, project, ["P01-USDT"])
    assert tried(project, one, LOUD).judged["loud_evening.py:loud_evening"].trials == 3
    # Other settings are another idea; the four and their matrix are four (no funding is known).
    dearer = project_of(tmp_path, fee=0.002)
    four = tried(dearer, both, None)
    assert {said.trials for said in four.judged.values()} == {6}
    assert four.study.without["matrix"] == "the days after the months it is chosen on are 0, and it needs 70"
    assert strategies.ledger(project)["what"].to_list().count("trend_following") == 1


def test_without_a_ledger_there_is_no_answer(tmp_path: Path, candles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_of(tmp_path)
    source = read(candles, project)
    wrote = Lake.upsert

    def refuse(lake: Lake, table: str, *rows: Any, **more: Any) -> Any:
        if table == "trial":
            raise LakeError("the disk is full")
        return wrote(lake, table, *rows, **more)

    monkeypatch.setattr(Lake, "upsert", refuse)
    with pytest.raises(LakeError, match="the disk is full"):
        tried(project, source, LOUD)
    assert newest_study(project, None).is_empty()


def test_what_is_refused_was_never_a_trial(tmp_path: Path, candles: Path) -> None:
    project = project_of(tmp_path)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def ahead(candles):\n    return candles['close'].shift(-1, fill_value=0) > candles['close']\n")
    with pytest.raises(IdeaError, match="it looks ahead"):
        tried(project, read(candles, project), f"{wrong}:ahead")
    assert strategies.ledger(project).is_empty()


def test_days_that_do_not_overlap_and_simulated_markets_count_apart(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    first = Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))
    later = Span(first.end, first.end + timedelta(days=90))
    real, made_up = (trials.Data(["A"], "same", is_simulated) for is_simulated in (False, True))
    blocks = np.array([1.0, 2.0, 1.5])

    def noted(what: str, days: Span, data: trials.Data) -> int:
        return trials.note(project, "makers", [trials.Attempt(what, what, blocks, days)], data, "x")[what].trials

    assert noted("one", first, real) == 1
    assert noted("two", first, real) == 2
    assert noted("three", later, real) == 1
    assert noted("four", Span(first.end - BAR, later.end), real) == 4
    assert noted("five", first, made_up) == 1
    assert noted("two", first, real) == 3


def test_comments_and_layout_make_no_new_idea_and_a_number_does() -> None:
    plain = trials.code_hash("def f(x):\n    return x + 1\n", "f")
    assert trials.code_hash("# why\ndef f(x):\n\n    return (x  +  1)  # because\n", "f") == plain
    assert trials.code_hash("def f(x):\n    return x + 2\n", "f") != plain
    assert trials.code_hash("def f(x):\n    return x + 1\n", "g") != plain


def test_data_is_named_by_its_prices(candles: Path, tmp_path: Path) -> None:
    rows = read(candles, project_of(tmp_path)).candles
    days = Span(datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 1, 9, tzinfo=UTC))
    named_ = trials.data_of(rows, days, False)
    assert trials.data_of(rows.sample(fraction=1, shuffle=True, seed=1), days, False) == named_
    at = pl.col("open_time")
    other = rows.with_columns(close=pl.col("close") + pl.when(at == days.start).then(1e-9).otherwise(0.0))
    assert trials.data_of(other, days, False).hash != named_.hash
    after = rows.with_columns(close=pl.col("close") + pl.when(at >= days.end).then(1.0).otherwise(0.0))
    assert trials.data_of(after, days, False).hash == named_.hash


# what is read ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_one_line(candles: Path, tmp_path: Path) -> None:
    config = project_of(tmp_path).config
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "A-USDT").mkdir(parents=True)
    (tmp_path / "broken" / "A-USDT" / "15m.parquet").write_bytes(b"nothing of the kind")
    for folder, file, symbols, says in (
        (tmp_path / "empty", "15m.parquet", (), "it holds no <SYMBOL>/15m.parquet; --file names another file"),
        (candles, "5m.parquet", (), "--file names another file"),
        (candles, "15m.json", (), "neither Parquet nor CSV"),
        (candles, "15m.parquet", ("P0-USDT",), "--markets: 'P0-USDT' is not in"),
        (tmp_path / "nowhere", "15m.parquet", (), "is not a folder"),
        (tmp_path / "broken", "15m.parquet", (), "cannot be read"),
    ):
        with pytest.raises(SourceError) as raised:
            recorded(folder, file, symbols, None, config, None, lambda said: None)
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)


def test_too_few_days_are_said(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    write(planted(0.3, 40, 1, 1), tmp_path / "few")
    with pytest.raises(SourceError, match="49 days come first"):
        tried(project, read(tmp_path / "few", project), LOUD)
    write(planted(0.3, 49 + 60, 1, 1), tmp_path / "some")
    with pytest.raises(StudyError, match="are too few: a study needs 70"):
        tried(project, read(tmp_path / "some", project), LOUD)


def test_funding_is_of_the_bar_that_closes_and_a_wrong_file_is_refused(tmp_path: Path) -> None:
    midnight = datetime(2025, 1, 2, tzinfo=UTC)
    moments = [midnight + timedelta(milliseconds=7), midnight + timedelta(hours=8)]
    times = pl.Series(moments).cast(pl.Datetime("ms", "UTC"))
    pl.DataFrame({"funding_time": times, "funding_rate": [1e-4, -2e-4]}).write_parquet(tmp_path / "A-USDT_2025.parquet")
    rates = funding_of(tmp_path, "A-USDT")
    assert rates["open_time"].to_list() == [midnight - BAR, midnight + timedelta(hours=8) - BAR]
    assert rates["funding_rate"].to_list() == [1e-4, -2e-4]
    assert funding_of(tmp_path, "B-USDT").is_empty()
    pl.DataFrame({"funding_time": times, "funding_rate": [1e-4, 40.0]}).write_parquet(tmp_path / "B-USDT.parquet")
    with pytest.raises(SourceError, match=r"a rate of 40.0; a payment is a fraction"):
        funding_of(tmp_path, "B-USDT")
    pl.DataFrame({"time": times}).write_parquet(tmp_path / "C-USDT.parquet")
    (tmp_path / "D-USDT.parquet").write_bytes(b"PAR1 nothing")
    for symbol in ("C-USDT", "D-USDT"):
        with pytest.raises(SourceError, match="it needs funding_time and funding_rate") as raised:
            funding_of(tmp_path, symbol)
        assert "\n" not in str(raised.value)


# what the four hold ---------------------------------------------------------------------------------------------------

END = datetime(2026, 3, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Forty days of the simulated market."""
    project = project_of(tmp_path_factory.mktemp("signals"))
    give(project, Span(END - timedelta(days=40), END))
    return project


def give(project: Project, span: Span) -> None:
    config = project.config
    found = collect(project.venues.of("ETH-USDT"), "ETH-USDT", span, config.markets.candles, lambda seconds: None)
    stamps = {"config_hash": config.hash_of("candles", "ETH-USDT"), "code_version": registry.CODE_VERSIONS["candles"]}
    rows = found.candles.with_columns(**{name: pl.lit(value) for name, value in stamps.items()})
    project.lake.write("candles", registry.conform(rows, "candles"), span=span, commit=Commit("test", "given", ""))


def test_signals_of_a_day_are_those_of_many_days_and_null_before_their_past(lake: Project, tmp_path: Path) -> None:
    many = Span(END - timedelta(days=30), END)
    hold(plan(lake, "test", window=many))
    rows = lake.lake.read("strategy_signal")
    assert broken_rules(rows, "strategy_signal") == {}
    assert rows.height == 4 * many.bars
    known = rows.filter(pl.col("position").is_not_null())
    first = END - timedelta(days=40) + (1 + lead_bars(lake.config.strategies.signals)) * BAR
    by = known.group_by("strategy").agg(pl.col("as_of").min()).sort("strategy")
    assert by.rows() == [(name, first) for name in ("mean_reversion", "range_trading", "trend_following")]
    assert known["position"].n_unique() > 3

    # The same day alone, in a lake that begins later.
    other = project_of(tmp_path)
    give(other, Span(END - timedelta(days=33), END))
    day = Span(END - timedelta(days=1), END)
    done = hold(plan(other, "test", window=day))
    assert done.changed == 4 * DAY_BARS
    columns = ["symbol", "strategy", "as_of", "position", "config_hash", "code_version", "source"]
    one, whole = (
        one.lake.read("strategy_signal", span=day).select(columns).sort("strategy", "as_of") for one in (other, lake)
    )
    assert one.equals(whole)
    assert hold(plan(lake, "test", window=many)).changed == 0, "made again they are the same"


def test_no_signal_is_made_up_where_no_candle_is(lake: Project) -> None:
    after = Span(END, END + timedelta(days=1))
    assert hold(plan(lake, "test", window=after)).changed == 0
    assert lake.lake.read("strategy_signal", span=after).is_empty()
