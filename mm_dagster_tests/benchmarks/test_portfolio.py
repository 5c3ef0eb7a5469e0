"""The portfolio questions: what knows the future passes, what knows nothing does not, and nothing looks ahead."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.portfolio import __main__ as command
from benchmarks.portfolio import allocation, judged, laid_out, page, parameters, ranking, weights
from benchmarks.portfolio.judged import Figure, Gains
from benchmarks.portfolio.laid_out import NAMES
from benchmarks.portfolio.panel import LIFE, Panel, panel_of
from benchmarks.portfolio.parameters import TRIED, Tried, TriedPair, tried
from benchmarks.portfolio.ranking import FRESH, SLOW, Pair
from benchmarks.portfolio.rankings import RANKINGS
from benchmarks.shared import Lot, lot_of
from mm_dagster.arrays import Floats
from mm_dagster.bars import DAY_BARS
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.evaluation.walks import START, walk

NAN = np.nan
DAYS, MARKETS, SEEDS = 280, 9, 40
CHANGED = START + timedelta(days=80)
"""From here on the candles of the second lot are others."""


def made_up(seed: int) -> Panel:
    """Grids that earn what the price does in the fortnight, cut off on both sides; every ranking of them is noise."""
    generator = np.random.default_rng(seed)
    steps = (DAYS + LIFE) * 4
    moves = generator.normal(0.0, 0.01, (steps, MARKETS)) + generator.normal(0.0, 0.01, (steps, 1))
    closes = np.exp(np.cumsum(moves, axis=0))
    step = np.arange(DAYS) * 4
    ahead = np.log(closes[step + 4 * LIFE] / closes[step])
    held = 98.5 + np.clip(40.0 * ahead, -12.0, 6.0)
    part = np.linspace(0.0, 1.0, LIFE + 1)
    marks = 100.0 + (held - 100.0)[:, :, None] * part
    for age in range(1, LIFE + 1):
        marks[DAYS - age :, :, age] = NAN
    liked = {one.name: ranking.noise(SLOW, 1000 * seed + place, held.shape) for place, one in enumerate(RANKINGS)}
    return Panel(
        name="made up",
        symbols=tuple(f"M{number}-USDT" for number in range(MARKETS)),
        day=739_000 + np.arange(DAYS),
        rankings=liked | {"probability of RANGE_OK high": generator.uniform(size=held.shape)},
        held=held,
        left=98.5 + 0.5 * (held - 98.5),
        booked=np.full(held.shape, 3.0),
        marks=marks,
        sigma=np.full(held.shape, 0.007) * generator.uniform(0.8, 1.2, held.shape),
        chance=generator.uniform(0.0, 0.4, held.shape),
        closes=closes,
        step=step,
    )


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    return {"made up": Pair(made_up(1), made_up(2))}


def test_a_ranking_that_knows_the_day_to_come_passes_and_none_that_knows_nothing(pairs: dict[str, Pair]) -> None:
    found = ranking.measure(pairs, SEEDS)
    for outcome in ("held", "left"):
        assert found.planted[outcome]["return of the day to come"].passes
        assert not any(one.passes for one in found.together[outcome].values())
    for kind in (FRESH, SLOW):
        assert not any(passing for _, passing in found.noise[kind].values())
    assert found.trials == 35 * 3
    assert found.grids == {"made up": DAYS * MARKETS}


@pytest.mark.slow
def test_weights_that_know_the_day_to_come_pass_and_cash_at_random_gains_nothing(pairs: dict[str, Pair]) -> None:
    found = allocation.measure(pairs, 20)
    assert len(found.rules) == 1 + 12
    assert all(one.passes for one in found.planted.values())
    assert not any(one.passes for rule in found.rules.values() for one in rule.gains.values())
    # These grids lose: to be out is to lose less, and no merit.
    assert found.rules[allocation.EQUAL].mean.high < 0
    for kind in (allocation.INVESTED, allocation.IN_AND_OUT):
        for above, passing in found.noise[kind].values():
            assert above <= 3
            assert passing == 0


def test_parameters_that_are_known_to_become_best_pass_and_blind_ones_do_not() -> None:
    def of(seed: int) -> Tried:
        generator = np.random.default_rng(seed)
        shape = (140, 3, len(TRIED))
        held = 99.0 + generator.normal(0.0, 2.0, shape)
        tested = 99.0 + generator.normal(0.0, 2.0, shape)
        fixed = 99.0 + generator.normal(0.0, 2.0, shape[:2])
        return Tried("made up", 739_000 + np.arange(140), tested, held, fixed, np.full(shape[:2], 3.0))

    found = parameters.measure({"made up": TriedPair(of(1), of(2))}, 20)
    assert found.choices[page.AHEAD].passes
    assert not found.choices[page.BACKTEST].passes
    assert found.noise[1] == 0


@pytest.mark.slow
def test_the_figures_are_the_same_each_time(pairs: dict[str, Pair]) -> None:
    once, again = (command.plain({"ranking": ranking.measure(pairs, 5)}) for _ in range(2))
    assert once == again
    once, again = (command.plain({"allocation": allocation.measure(pairs, 3)}) for _ in range(2))
    assert once == again


@pytest.fixture(scope="module")
def before_and_after() -> tuple[tuple[Lot, Panel], tuple[Lot, Panel]]:
    """A lot, and the same with every price and volume after a midnight changed."""
    known = pl.concat([walk(f"M{seed}-USDT", 104, seed) for seed in range(4)])
    shaken = np.exp(np.random.default_rng(7).normal(0.0, 0.02, known.height))
    later = pl.col("open_time") >= CHANGED
    other = known.with_columns(
        *(
            pl.when(later).then(pl.col(name) * pl.lit(pl.Series(shaken)) * 1.3).otherwise(pl.col(name)).alias(name)
            for name in ("open", "high", "low", "close")
        ),
        volume=pl.when(later).then(pl.col("volume") * 3.0).otherwise(pl.col("volume")),
    )
    lots = [lot_of("walks", one) for one in (known, other)]
    return (lots[0], panel_of(lots[0])), (lots[1], panel_of(lots[1]))


def the_day(panel: Panel) -> int:
    """The row of the midnight after which the candles are others."""
    return int(CHANGED.toordinal() - panel.day[0])


@pytest.mark.parametrize("name", [one.name for one in RANKINGS])
def test_a_ranking_uses_nothing_after_its_midnight(
    name: str, before_and_after: tuple[tuple[Lot, Panel], tuple[Lot, Panel]]
) -> None:
    (_, panel), (_, other) = before_and_after
    row = the_day(panel)
    assert np.array_equal(panel.rankings[name][: row + 1], other.rankings[name][: row + 1], equal_nan=True)
    assert not np.isnan(panel.rankings[name][: row + 1]).all(axis=0).any(), "it has to be known of every market"
    assert not np.array_equal(panel.rankings[name][row + 1 :], other.rankings[name][row + 1 :], equal_nan=True)


def test_weights_and_backtests_use_nothing_after_their_midnight(
    before_and_after: tuple[tuple[Lot, Panel], tuple[Lot, Panel]],
) -> None:
    (lot, panel), (changed, other) = before_and_after
    row = the_day(panel)
    ours, theirs = weights.allotted(panel), weights.allotted(other)
    assert len(ours) == 1 + 12
    for name, values in ours.items():
        assert np.array_equal(values[: row + 1], theirs[name][: row + 1], equal_nan=True), name
        assert np.nansum(values[row]) <= 1 + 1e-9
        assert np.nanmin(values) >= 0
    tested = [tried(one, of).tested for one, of in ((lot, panel), (changed, other))]
    assert np.isfinite(tested[0][row]).all()
    assert np.array_equal(tested[0][: row + 1], tested[1][: row + 1], equal_nan=True)
    assert not np.array_equal(panel.held[row], other.held[row])


def test_what_looks_ahead_is_told_by_the_same_trial(
    before_and_after: tuple[tuple[Lot, Panel], tuple[Lot, Panel]],
) -> None:
    (_, panel), (_, other) = before_and_after
    row = the_day(panel)
    assert not np.array_equal(panel.to_come(1)[row], other.to_come(1)[row])
    assert np.array_equal(panel.to_come(1)[:row], other.to_come(1)[:row])
    assert np.isnan(panel.to_come(14)[-1]).all()


def test_a_fixed_grid_among_the_hundred_is_worth_what_the_evaluation_says(
    before_and_after: tuple[tuple[Lot, Panel], tuple[Lot, Panel]],
) -> None:
    """The candles are divided by the price: nothing of a grid depends on the unit."""
    from mm_dagster.config.grid import GridConfig
    from mm_dagster.evaluation.cohort import cohort_of

    (lot, panel), _ = before_and_after
    market, row = lot.markets[2], the_day(panel)
    as_of = CHANGED
    price = market.prices["close"][market.place(as_of)]
    # Of an even number of levels one is the price: whether it is touched hangs on the last bit of an exponential,
    # in which numpy differs between processors with and without AVX-512.
    place = next(number for number, one in enumerate(TRIED) if one.levels % 2 == 1 and one.width == TRIED[37].width)
    one = TRIED[place]
    lower = price * np.exp(-one.width)
    grid = GridConfig(
        id="one", symbol=market.symbol, activated_at=as_of, lower=lower, upper=price * np.exp(one.width),
        levels=one.levels, spacing="geometric", stop=lower * (1 - one.stop), capital=1000.0,
        fees=parameters.CONFIG.evaluation.fees,
    )  # fmt: skip
    cohort = cohort_of(market, [grid], LIFE * DAY_BARS)
    found = tried(Lot(lot.name, lot.span, lot.candles, lot.features, lot.verdicts, [market], []), panel)
    assert found.held[row, 0, place] == pytest.approx(cohort.held[0], rel=1e-9)
    assert found.tested[row + 7, 0, place] == pytest.approx(cohort.left[0, 7 * DAY_BARS - 1], rel=1e-9)


def test_the_upper_third_shares_ties_and_knows_infinity() -> None:
    liked = np.array([[1.0, 1.0, 1.0, 0.0, 0.0, NAN], [np.inf, 2.0, -np.inf, NAN, NAN, NAN], [1.0, 2.0] + [NAN] * 4])
    known = np.where(np.isnan(liked), NAN, 100.0)
    shares = ranking.upper(liked, known)
    # Two of five are taken, and three are alike.
    assert shares[0] == pytest.approx([1 / 3] * 3 + [0.0] * 3)
    assert shares[1] == pytest.approx([1.0] + [0.0] * 5)
    assert np.isnan(shares[2]).all(), "two markets have no upper third"


def test_a_gain_is_the_upper_third_less_all() -> None:
    liked = np.array([[3.0, 2.0, 1.0, NAN]])
    assert ranking.gain(liked, np.array([[99.0, 96.0, 93.0, 50.0]])) == pytest.approx([3.0])


def test_the_least_variance_is_found_within_the_cap() -> None:
    two = np.array([[4.0, 1.0], [1.0, 2.0]])
    assert weights.least_variance(two, 1.0) == pytest.approx([0.25, 0.75], abs=1e-6)
    assert weights.least_variance(two, 0.6) == pytest.approx([0.4, 0.6], abs=1e-6)
    # Half is less than any cap lets two markets hold.
    assert weights.least_variance(two, 0.25) == pytest.approx([0.5, 0.5], abs=1e-6)


def now(covariance: Floats) -> weights.Midnight:
    count = len(covariance)
    return weights.Midnight(
        there=np.ones(count, np.bool_), sigma=np.sqrt(np.diag(covariance)), chance=np.full(count, 0.1),
        range_ok=np.full(count, 0.5), covariance=covariance, past=np.zeros((60, count)), drawdown=0.0, calm=1.0,
    )  # fmt: skip


def test_in_risk_parity_each_market_adds_as_much() -> None:
    covariance = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.2], [0.5, 0.2, 1.0]])
    found = weights.RULES["risk parity"](now(covariance))
    added = found * (covariance @ found)
    assert added == pytest.approx([added.mean()] * 3, rel=1e-6)


def test_kelly_the_throttle_and_the_gate_keep_cash() -> None:
    plain = now(np.diag([1.0, 1.0]))
    losing = replace(plain, past=np.full((60, 2), -0.001) + np.random.default_rng(1).normal(0, 1e-4, (60, 2)))
    assert weights.RULES["Kelly, mean over variance of 60 days"](losing).sum() == 0.0
    assert weights.RULES["drawdown throttle"](replace(plain, drawdown=5.0)).sum() == pytest.approx(0.75)
    assert weights.RULES["gate of entry, the rest in cash"](replace(plain, chance=np.array([0.1, 0.3]))).tolist() == [
        0.5,
        0.0,
    ]


def test_what_is_as_good_on_the_placebo_does_not_pass() -> None:
    generator = np.random.default_rng(5)
    day = 739_000 + np.arange(DAYS)
    real, placebo = (1.0 + generator.normal(0.0, 1.0, (DAYS, 1)) for _ in range(2))
    [alike] = judged.judged(Gains(day, real, placebo), luck=0.3)
    [alone] = judged.judged(Gains(day, real, placebo - 1.0), luck=0.3)
    assert alike.gain == alone.gain
    assert alike.gain.low > 0
    assert (alike.passes, alone.passes) == (False, True)


def test_too_few_weeks_have_no_interval_and_pass_nothing() -> None:
    day = 739_000 + np.arange(40)
    [found] = judged.judged(Gains(day, np.full((40, 1), 2.0), np.zeros((40, 1))), luck=0.0)
    assert found.gain.value == 2.0
    assert np.isnan(found.gain.low)
    assert not found.passes


def test_a_figure_is_told_with_its_interval() -> None:
    assert page.told(Figure(-0.36, -0.674, 0.09)) == "-.36 (-.67 to +.09)"
    assert page.told(Figure(1.25, NAN, NAN)) == "+1.25"
    assert page.told(Figure(0.001, -1.0, 0.999), zeros=True) == "0.00 (-1.00 … +1.00)"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["rankings"], "there is no question 'rankings'; there are ranking, allocation, parameters"),
        (["ranking", "--sets", "kucoin"], "there is no set 'kucoin'; there are kucoin-2025"),
        (["ranking", "--out", "x.md"], "--out writes the whole chapter"),
    ],
)
def test_a_wrong_question_is_told_what_there_is(
    asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["portfolio", *asked])
    with pytest.raises(SystemExit):
        command.main()
    assert said in capsys.readouterr().err


def test_recordings_that_are_not_there_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(laid_out, "SHARED", tmp_path)
    monkeypatch.setattr(command, "SHARED", tmp_path)
    monkeypatch.setattr(sys, "argv", ["portfolio", "ranking"])
    with pytest.raises(SystemExit):
        command.main()
    assert "KuCoin 2025 is not in" in capsys.readouterr().err


@pytest.mark.long
def test_the_chapter_is_what_the_code_measures(shared_data: Path) -> None:
    one = NAMES["kraken-2023"]
    (_, grids), (_, others) = (laid_out.recording_of(one.recording, flipped, True) for flipped in (False, True))
    assert grids is not None
    assert others is not None
    found = parameters.measure({one.name: TriedPair(grids, others)}, 2)
    row = " | ".join(page.told(figure, zeros=True) for figure in found.driftless[one.name])
    assert f"| {one.name} | {row} |" in (PROJECT / "docs" / "evidence" / "portfolio.md").read_text(encoding="utf-8")
