"""The gate for daily returns: a planted edge passes, noise does not, and the best of many is told to be luck."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks.planted import planted
from mm_dagster.arrays import Floats
from mm_dagster.bars import DAY_BARS
from mm_dagster.config.strategies import StrategiesConfig
from mm_dagster.config.whole import Config
from mm_dagster.research import deflation
from mm_dagster.research.promotion import Idea, PromotionError, Tried, blocks_of, judge_idea
from mm_dagster.research.study import StudyError, study
from mm_dagster.research.study_rows import METRICS, rows_of
from mm_dagster.strategies.signals import Strategy
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.strategies.settings import CONFIG, laid_out, placebos

ALONE = Tried(1, np.array([]))
FREE = CONFIG.model_copy(update={"strategies": StrategiesConfig(short=True)})


def example(name: str) -> Callable[[pl.DataFrame], Any]:
    """A function of docs/studies/."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "docs" / "studies" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)  # type: ignore[no-any-return]


def as_numbers(idea: Callable[[pl.DataFrame], pl.Series]) -> Strategy:
    return lambda candles: idea(candles).cast(pl.Float64).to_numpy()


def noise(seed: int) -> Strategy:
    """A position that is dealt anew each day, and knows nothing."""

    def held(candles: pl.DataFrame) -> Floats:
        random = np.random.default_rng([seed, *candles["symbol"][0].encode()])
        return np.repeat(random.choice([0.0, 1.0], candles.height // DAY_BARS), DAY_BARS)

    return held


def ideas_on(candles: pl.DataFrame, strategies: Mapping[str, Strategy]) -> dict[str, Idea]:
    found = study(laid_out(candles), placebos(candles), strategies, CONFIG)
    return {one.strategy: one.idea for one in found.results}


def test_a_planted_edge_passes() -> None:
    for seed in range(3):
        candles = planted(0.35, 200, 6, seed)
        said = judge_idea(ideas_on(candles, {"loud": as_numbers(example("loud_evening"))})["loud"], ALONE)
        assert said.passes, (seed, said)
        assert said.net.low > 0
        assert said.deflated > 0.99
        assert said.p_shifted == 0.0


def test_the_same_idea_fails_where_there_is_nothing_to_know() -> None:
    candles = planted(0.0, 200, 6, 1)
    said = judge_idea(ideas_on(candles, {"loud": as_numbers(example("loud_evening"))})["loud"], ALONE)
    assert not said.passes
    assert len(said.refused) >= 4


FREE_OF_COSTS = CONFIG.model_copy(update={"strategies": StrategiesConfig(fee=0.0, half_spread_bp=0.0)})
"""Costs alone refuse most of what trades: without them the controls have to."""


def passing(seeds: range, config: Config) -> list[int]:
    """The seeds at which noise passes."""
    found = []
    for seed in seeds:
        candles = planted(0.0, 120, 3, 1_000 + seed)
        [result] = study(laid_out(candles), placebos(candles), {"noise": noise(seed)}, config).results
        if judge_idea(result.idea, ALONE).passes:
            found.append(seed)
    return found


def test_noise_is_refused() -> None:
    assert len(passing(range(100, 110), FREE_OF_COSTS)) <= 1


@pytest.mark.long
@pytest.mark.parametrize("config", [CONFIG, FREE_OF_COSTS], ids=["with costs", "free of costs"])
def test_noise_is_refused_in_95_of_100_seeds(config: Config) -> None:
    assert len(passing(range(100), config)) <= 5


@pytest.mark.long
def test_the_best_of_many_passes_alone_and_is_refused_by_the_ledger() -> None:
    lucky = refused = 0
    for seed in range(4):
        candles = planted(0.0, 140, 3, 3_000 + seed)
        tried = {f"noise_{number}": noise(10_000 + number) for number in range(150)}
        found = study(laid_out(candles), placebos(candles), tried, FREE_OF_COSTS)
        ratios = np.array([deflation.ratio(one.idea.blocks) for one in found.results])
        passed = [one.idea for one in found.results if judge_idea(one.idea, ALONE).passes]
        lucky += len(passed)
        refused += sum(not judge_idea(one, Tried(len(tried), ratios)).passes for one in passed)
    assert lucky >= 4, "of 600 some are lucky"
    assert refused == lucky


def test_what_falls_less_than_it_could_have_is_no_edge() -> None:
    """A market that falls: who holds half of it loses half as much, which holding half of it does, too."""
    candles = planted(0.0, 120, 3, 5)
    falling = candles.with_columns(
        pl.col(name) * (-0.004 * (pl.int_range(pl.len()).over("symbol") / DAY_BARS)).exp()
        for name in ("open", "high", "low", "close")
    )
    half: Strategy = lambda frame: np.full(frame.height, 0.5)  # noqa: E731
    said = judge_idea(ideas_on(falling, {"half": half})["half"], ALONE)
    assert said.net.value < 0
    assert abs(said.over_holding.value) < 1e-3
    assert "it earned nothing" in said.refused


def test_a_market_that_is_listed_later_is_no_edge() -> None:
    """Held from its first day on, in a year in which it rose: holding it did as well."""
    candles = planted(0.0, 140, 2, 5)
    rising = candles.with_columns(
        pl.col(name) * (0.01 * (pl.int_range(pl.len()).over("symbol") / DAY_BARS)).exp()
        for name in ("open", "high", "low", "close")
    ).filter((pl.col("symbol") == "P00-USDT") | (pl.int_range(pl.len()).over("symbol") >= 70 * DAY_BARS))
    all_in: Strategy = lambda frame: np.ones(frame.height)  # noqa: E731
    found = study(laid_out(rising), placebos(rising), {"all": all_in}, CONFIG).results[0]
    assert found.exposure["P01-USDT"] == pytest.approx(1.0, abs=1e-3)
    assert abs(float((found.idea.net - found.idea.holding).mean())) < 1e-4
    said = judge_idea(found.idea, ALONE)
    assert said.net.value > 0.005
    assert not said.passes


def rising(days: int = 140) -> Idea:
    """An idea that nothing can be said against: 1 % a day with some noise, and controls that know nothing."""
    random = np.random.default_rng(1)
    net = 0.01 + 0.005 * random.standard_normal(days)
    quiet = 0.002 * random.standard_normal((days - 27, days))
    return Idea(net, quiet[0], quiet, quiet[1])


def test_each_control_refuses_by_itself() -> None:
    good = rising()
    assert judge_idea(good, ALONE).refused == ()
    drift = float(good.net.mean())
    for change, why in (
        ({"holding": good.net - 0.0001 * np.sin(np.arange(140))}, "holding its mean exposure"),
        ({"shifted": good.shifted + 3 * drift}, "its schedule on other days"),
        ({"placebo": np.full(140, 3 * drift)}, "markets with random signs"),
    ):
        said = judge_idea(good._replace(**change), ALONE)
        assert any(why in one for one in said.refused), why
    losing = good._replace(net=good.net - 2 * drift, holding=good.holding - 2 * drift, shifted=good.shifted - 2 * drift)
    assert judge_idea(losing, ALONE).refused == ("it earned nothing",)
    some = good.shifted.copy()
    some[:10] += 2 * drift
    said = judge_idea(good._replace(shifted=some), ALONE)
    assert said.refused == ("9% of the shifted schedules earned as much",)


def test_more_trials_never_make_it_likelier() -> None:
    good = rising()
    weak = good._replace(net=good.net - 0.0085)
    said = [judge_idea(weak, Tried(count, np.array([0.1, -0.1]))).deflated for count in (1, 2, 5, 50, 5_000)]
    assert said == sorted(said, reverse=True)
    assert said[0] > said[-1]
    # Trials that are all alike, or of which no ratio is known, count all the same.
    for ratios in (np.full(50, 0.3), np.array([])):
        assert judge_idea(weak, Tried(50, ratios)).deflated < said[0]


def test_what_cannot_be_judged_is_said() -> None:
    with pytest.raises(PromotionError, match="69 days are too few"):
        judge_idea(rising(69), ALONE)
    broken = rising()
    broken.net[5] = np.nan
    with pytest.raises(PromotionError, match="net: a day is missing or not finite"):
        judge_idea(broken, ALONE)
    with pytest.raises(PromotionError, match="holding"):
        judge_idea(rising()._replace(holding=np.zeros(3)), ALONE)
    assert blocks_of(np.arange(30.0)).tolist() == [6.5, 20.5]


def test_a_study_of_too_few_days_or_no_market_is_refused() -> None:
    few = planted(0.0, 60, 1, 1)
    with pytest.raises(StudyError, match="60 days are too few: a study needs 70"):
        study(laid_out(few), placebos(few), {"noise": noise(1)}, CONFIG)


def test_a_study_becomes_rows_with_every_metric() -> None:
    candles = planted(0.35, 120, 3, 2)
    found = study(laid_out(candles), placebos(candles), {"loud": as_numbers(example("loud_evening"))}, FREE)
    rows = rows_of(found, {"loud": judge_idea(found.results[0].idea, ALONE)})
    assert {row.metric for row in rows if row.symbol == "ALL"} == set(METRICS)
    assert {row.symbol for row in rows} == {"ALL", "P00-USDT", "P01-USDT", "P02-USDT"}
    by = {(row.symbol, row.metric): row for row in rows}
    net, daily = by["ALL", "net"], by["ALL", "daily_return"]
    assert net.value == pytest.approx(100 * daily.value)
    assert net.low == pytest.approx(100 * daily.low)
    parts = [by[f"P0{number}-USDT", "net"].value for number in range(3)]
    assert net.value == pytest.approx(np.mean(parts))
    over = [by[f"P0{number}-USDT", "over_holding"].value for number in range(3)]
    assert by["ALL", "over_holding"].value == pytest.approx(np.mean(over))
    assert found.without == {}
