"""A search that cannot see what it is judged on, goes on where it stopped, and claims nothing that luck explains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, DAY_BARS, Span
from mm_dagster.config.markets import MarketsConfig
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.evaluation.signals import signals_of
from mm_dagster.research import deflation, space, tuning, worth
from mm_dagster.research.search import Search
from mm_dagster.research.space import TuningError
from mm_dagster.research.tuning import Proposal
from mm_dagster.research.worth import PreparedMarket
from mm_dagster.tables.words import STATES
from mm_dagster_tests.regime.markets import PRICES, traded

pytestmark = pytest.mark.slow

START = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = Span(START, START + timedelta(days=132))
LIFE = 14
SYMBOLS = ("AAA-USDT", "BBB-USDT")
TRIALS = 4
LIKELY = space.keys_of("exit.thresholds.break_likely")


def walk(seed: int, symbol: str, days: Span = DAYS) -> pl.DataFrame:
    """A market without memory, from the warm-up before the days to their end."""
    span = days.back(HISTORY_BARS)
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.002, span.bars)))
    opens = np.concatenate([[100.0], close[:-1]])
    return traded(
        pl.DataFrame(
            {
                "open_time": span.open_times(),
                "open": opens,
                "high": np.maximum(opens, close) * (1.0 + random.exponential(0.0007, span.bars)),
                "low": np.minimum(opens, close) * (1.0 - random.exponential(0.0007, span.bars)),
                "close": close,
                "volume": random.lognormal(3.0, 1.0, span.bars),
            }
        ),
        symbol,
    )


@pytest.fixture(scope="module")
def config() -> Config:
    """All defaults."""
    markets = [{"symbol": symbol, "venue": "main"} for symbol in SYMBOLS]
    return Config(markets=MarketsConfig(venues={"main": {"kind": "simulated"}}, markets=markets))


@pytest.fixture(scope="module")
def candles() -> dict[str, pl.DataFrame]:
    """Two markets without memory."""
    return {symbol: walk(seed, symbol) for seed, symbol in enumerate(SYMBOLS)}


@pytest.fixture(scope="module")
def grounds(candles: dict[str, pl.DataFrame], config: Config) -> list[PreparedMarket]:
    """A grid a day on both."""
    return list(worth.prepare(SYMBOLS, candles.__getitem__, DAYS, config))


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, grounds: list[PreparedMarket], config: Config
) -> tuple[Path, Proposal]:
    """A study in a single go, and where its trials are."""
    folder = tmp_path_factory.mktemp("study")
    return folder, tuning.tune("one", folder, grounds, DAYS, config, LIKELY, TRIALS)


def trials(
    folder: Path, name: str, grounds: Sequence[PreparedMarket], config: Config
) -> list[list[tuple[dict, float | None]]]:
    """Values and worth of the finished trials of a study, by past."""
    storage = Search(grounds, config, LIKELY, worth.PRICE, name, folder / "trials.journal").storage
    return [
        [
            (trial.params, trial.value)
            for trial in optuna.load_study(study_name=f"{name}-{past}", storage=storage).trials
            if trial.state.is_finished() and trial.value is not None
        ]
        for past in range(worth.BLOCKS)
    ]


def interrupt_after(count: int) -> Callable[[int, int, float], None]:
    """Ctrl-C when so many trials are done in all."""
    told: list[tuple[int, int]] = []

    def progress(fold: int, done: int, best: float) -> None:
        told.append((fold, done))
        if len([one for one in told if one[1]]) == count:
            raise KeyboardInterrupt

    return progress


@given(count=st.integers(0, 1_500), life=st.integers(1, 60))
def test_a_block_begins_only_when_every_grid_of_its_past_is_over(count: int, life: int) -> None:
    days = Span(START, START + timedelta(days=count))
    if count < 6 * max(worth.LEAST_BLOCK_DAYS, life + 1):
        with pytest.raises(TuningError, match=f"^{count} days"):
            worth.folds(days, life)
        return
    cut = worth.folds(days, life)
    assert len(cut) == worth.BLOCKS
    for fold in cut:
        assert fold.past.start == days.start < fold.past.end
        assert fold.past.end + timedelta(days=life + 1) == fold.block.start
    for before, after in pairwise(cut):
        assert before.block.end == after.block.start
        assert before.block.bars == after.block.bars
    assert cut[-1].block.end == days.end


def test_every_key_can_be_searched_from_its_default_on(config: Config) -> None:
    current = space.values_of(config, space.SPACE)
    for key in space.SPACE:
        assert key.nearest(current[key.path]) == current[key.path], key.path
    assert space.allowed(current, current) == current
    assert space.with_values(config, current) == config


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_set_of_values_is_one_that_the_configuration_accepts(config: Config, data: st.DataObject) -> None:
    current = space.values_of(config, space.SPACE)
    keys = data.draw(st.lists(st.sampled_from(space.SPACE), min_size=1, unique=True))
    drawn = {key.path: key.nearest(data.draw(st.floats(key.low, key.high), label=key.path)) for key in keys}
    values = space.allowed(drawn, current)
    tried = space.with_values(config, values)
    assert space.values_of(tried, keys) == values
    likely, confirm = tried.exit.thresholds.break_likely, tried.exit.confirm
    searched = {key.path.removeprefix("exit.thresholds.break_likely.") for key in keys}
    if "warning_on" in searched:
        assert likely.warning_on <= likely.latest_acceptable_exit_on
    if "exit.confirm.warning" in drawn:
        assert confirm.warning <= confirm.latest_acceptable_exit


def test_a_trial_judges_the_states_that_production_would_have_shown(
    grounds: list[PreparedMarket], config: Config
) -> None:
    tried = space.with_values(
        config, {"exit.thresholds.break_likely.warning_on": 0.5, "exit.persist.on": 3, "regime.hysteresis.up": 1}
    )
    ground = grounds[0]
    known = {**ground.market.known, **worth._verdicts(ground, DAYS.end, tried)}
    said = signals_of(ground.cohort, replace(ground.market, known=known), tried)
    states = worth._states(ground, slice(None), DAYS.end, tried, config)
    watched = np.arange(states.shape[1]) < ground.cohort.over[:, None]
    for level in ("WARNING", "LATEST_ACCEPTABLE_EXIT"):
        shown = said.alarms["confirmed", level]
        assert shown[watched].any()
        assert np.array_equal(shown & watched, (states >= STATES.index(level)) & watched)


def test_an_alarm_that_always_stands_catches_nothing(grounds: list[PreparedMarket], config: Config) -> None:
    always = {"exit.thresholds.break_likely.warning_on": 0.0, "exit.thresholds.break_likely.warning_off": 0.0,
              "exit.thresholds.break_likely.latest_acceptable_exit_on": 0.0,
              "exit.thresholds.break_likely.latest_acceptable_exit_off": 0.0}  # fmt: skip
    found = worth.judge(grounds, DAYS, space.with_values(config, always), config, price=1.0)
    now = worth.judge(grounds, DAYS, config, config, price=1.0)
    late = found.alarms["LATEST_ACCEPTABLE_EXIT"].lead > worth.LATEST_USEFUL_HOURS
    assert late.any()
    assert not found.in_time["LATEST_ACCEPTABLE_EXIT"][late].any()
    assert found.score < now.score


@pytest.mark.long
def test_what_happens_from_the_last_block_on_changes_no_trial(
    candles: dict[str, pl.DataFrame],
    config: Config,
    study: tuple[Path, Proposal],
    grounds: list[PreparedMarket],
    tmp_path: Path,
) -> None:
    folder, proposal = study
    block = worth.folds(DAYS, LIFE)[-1].block
    # Another walk from there on: prices, breaks and alarms are all others.
    other = {
        symbol: candles[symbol].with_columns(
            pl.when(block.opens()).then(pl.col(name) * 0.7).otherwise(pl.col(name)).alias(name) for name in PRICES
        )
        for symbol in SYMBOLS
    }
    scrambled = list(worth.prepare(SYMBOLS, other.__getitem__, DAYS, config))
    found = tuning.tune("one", tmp_path, scrambled, DAYS, config, LIKELY, TRIALS)
    assert trials(tmp_path, "one", grounds, config) == trials(folder, "one", grounds, config)
    assert found.proposed == proposal.proposed
    held = [one.figures.filter(part=tuning.HOLD_OUT)["current"].to_list() for one in (found, proposal)]
    assert held[0] != held[1]


@pytest.mark.long
def test_a_study_that_was_interrupted_goes_on_to_what_it_would_have_found(
    study: tuple[Path, Proposal], grounds: list[PreparedMarket], config: Config, tmp_path: Path
) -> None:
    folder, proposal = study
    with pytest.raises(KeyboardInterrupt):
        tuning.tune("one", tmp_path, grounds, DAYS, config, LIKELY, TRIALS, progress=interrupt_after(7))
    # Nothing that was finished is lost, and a trial that was under way does no harm.
    search = Search(grounds, config, LIKELY, worth.PRICE, "one", tmp_path / "trials.journal")
    half = optuna.load_study(study_name="one-1", storage=search.storage)
    assert len(half.trials) == 3
    half.ask({key.path: key.distribution for key in LIKELY})
    found = tuning.tune("one", tmp_path, grounds, DAYS, config, LIKELY, TRIALS)
    assert trials(tmp_path, "one", grounds, config) == trials(folder, "one", grounds, config)
    assert found.figures.equals(proposal.figures)
    assert (found.proposed, found.deflated, found.real) == (proposal.proposed, proposal.deflated, proposal.real)


def test_a_study_goes_on_only_under_what_it_began_with(
    study: tuple[Path, Proposal], grounds: list[PreparedMarket], config: Config
) -> None:
    folder, _ = study
    stricter = space.with_values(config, {"exit.persist.on": 4})
    with pytest.raises(TuningError, match=r"made with other configuration .* choose another name"):
        tuning.tune("one", folder, grounds, DAYS, stricter, LIKELY, TRIALS)
    with pytest.raises(TuningError, match="made with other keys"):
        tuning.tune("one", folder, grounds, DAYS, config, LIKELY[:1], 6)
    with pytest.raises(TuningError, match="made with other price"):
        tuning.tune("one", folder, grounds, DAYS, config, LIKELY, TRIALS, price=2.0)
    moved = {name: values * 2 for name, values in grounds[1].market.prices.items()}
    doubled = [grounds[0], replace(grounds[1], market=replace(grounds[1].market, prices=moved))]
    with pytest.raises(TuningError, match="made with other candles"):
        tuning.tune("one", folder, doubled, DAYS, config, LIKELY, TRIALS)


def test_nothing_is_claimed_on_markets_without_memory(study: tuple[Path, Proposal]) -> None:
    _, proposal = study
    assert not proposal.proven
    assert proposal.verdict.startswith(("not proven", "nothing to propose", "worse"))
    assert proposal.figures["part"].unique(maintain_order=True).to_list() == [
        tuning.IN_SAMPLE, tuning.OUT_OF_SAMPLE, tuning.HOLD_OUT,
    ]  # fmt: skip
    # Six blocks of weeks are too few to draw from.
    assert proposal.edge(tuning.OUT_OF_SAMPLE)[1:] == (None, None)


@pytest.mark.long
@pytest.mark.parametrize("seed", [10, 20, 30])
def test_nothing_is_claimed_on_a_long_market_without_memory(config: Config, tmp_path: Path, seed: int) -> None:
    days = Span(START, START + timedelta(days=240))
    walks = {symbol: walk(seed + number, symbol, days) for number, symbol in enumerate(SYMBOLS)}
    grounds = list(worth.prepare(SYMBOLS, walks.__getitem__, days, config))
    proposal = tuning.tune("long", tmp_path, grounds, days, config, space.keys_of("exit"), 10)
    difference, low, high = proposal.edge(tuning.OUT_OF_SAMPLE)
    assert difference is not None
    assert low is not None
    assert high is not None
    assert low <= difference <= high
    assert not proposal.proven, proposal.verdict


def judged_as(difference: float, low: float, high: float, held: float, deflated: float) -> Proposal:
    nothing = [None] * 6
    rows = [
        (part, tuning.BOTH, "worth", *nothing, value, low, high, 1)
        for part, value in ((tuning.OUT_OF_SAMPLE, difference), (tuning.HOLD_OUT, held))
    ]
    figures = pl.DataFrame(rows, schema=tuning.FIGURES, orient="row")
    return Proposal({"a": 1.0}, {"a": 2.0}, (), (), figures, 40, 1.0, 0.5, deflated, 0.99)


def test_only_what_holds_out_of_sample_after_deflation_is_called_better() -> None:
    assert judged_as(0.1, 0.02, 0.2, 0.1, 0.99).proven
    assert judged_as(0.1, -0.02, 0.2, 0.1, 0.99).verdict == (
        "not proven: the interval of the difference out of sample holds 0"
    )
    assert "luck" in judged_as(0.1, 0.02, 0.2, 0.1, 0.90).verdict
    assert "hold-out" in judged_as(0.1, 0.02, 0.2, -0.1, 0.99).verdict
    assert judged_as(-0.1, -0.2, -0.02, 0.1, 0.99).verdict.startswith("worse")


def test_the_best_of_many_worthless_trials_is_as_good_as_luck_says() -> None:
    random = np.random.default_rng(1)
    drawn = random.normal(0.0, 0.2, (2_000, 50))
    expected = np.mean([deflation.best_by_luck(row, 50) for row in drawn])
    assert expected == pytest.approx(drawn.max(axis=1).mean(), rel=0.03)
    assert deflation.best_by_luck(drawn[0], 1) == 0.0


def test_the_probability_of_an_edge_is_uniform_where_there_is_none_and_sure_where_there_is() -> None:
    random = np.random.default_rng(2)
    without = [deflation.probability(random.normal(0.0, 1.0, 30)) for _ in range(1_000)]
    assert np.mean(np.array(without) > 0.95) == pytest.approx(0.05, abs=0.02)
    with_one = random.normal(1.0, 1.0, 30)
    assert deflation.probability(with_one) > 0.999
    assert deflation.probability(with_one, above=5.0) < 0.001
    assert deflation.probability(np.zeros(30)) == 0.5


def test_keys_are_named_one_by_one_by_their_beginning_or_all_together() -> None:
    assert space.keys_of("all") == space.SPACE
    assert {key.path.split(".")[0] for key in space.keys_of("regime")} == {"regime"}
    assert [key.path for key in space.keys_of("exit.persist.on")] == ["exit.persist.on"]
    with pytest.raises(TuningError, match=r"'exit\.persit' fits no key"):
        space.keys_of("exit.confirm,exit.persit")


def test_days_without_the_candles_before_them_are_refused(
    candles: dict[str, pl.DataFrame], config: Config, tmp_path: Path
) -> None:
    late = candles["AAA-USDT"].filter(pl.col("open_time") >= DAYS.end - 60 * DAY_BARS * BAR)
    grounds = list(worth.prepare(["AAA-USDT"], lambda symbol: late, DAYS, config))
    with pytest.raises(TuningError, match="no grid could be opened from 2025-03-01"):
        tuning.tune("late", tmp_path, grounds, DAYS, config, LIKELY, 2)
    assert not (tmp_path / tuning.NOTE).exists()


def test_the_note_of_a_study_says_what_it_stands_on(study: tuple[Path, Proposal]) -> None:
    note = json.loads((study[0] / tuning.NOTE).read_text())
    assert note["symbols"] == "AAA-USDT,BBB-USDT"
    assert note["days"] == "2025-03-01 to 2025-07-10"
