"""What makers make: parts that add up, models that are found again, an edge that is seen and one that is not there."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from mm_dagster.books.book import BP
from mm_dagster.config.makers import MakersConfig
from mm_dagster.makers import quotes
from mm_dagster.makers.fill_probability import COLUMNS, FillModel, digest, fit
from mm_dagster.makers.ledger import ledger_of
from mm_dagster.makers.matching import CLOSED, MICRO, Plan, match
from mm_dagster.makers.own import Moment, OwnQuotesError, quoted
from mm_dagster.makers.probe import Probes
from mm_dagster.makers.sizing import sizes
from mm_dagster.makers.study import PARTS, MakersError, Outcome, Stretch, Study, outcome, stretches, study, swapped
from mm_dagster.makers.track import track_of
from mm_dagster.pipeline.book_samples import tape_of_sample
from mm_dagster.pipeline.makers import judge
from mm_dagster.research.promotion import Promotion, Tried
from mm_dagster_tests.makers.synthetic import market

SHARED = Path(os.environ.get("MM_SHARED_DATA", "-"))
NOBODY_ELSE = Tried(3, np.array([]))


def config(**changed: object) -> MakersConfig:
    """Of the made-up market: small orders, half a minute a stretch."""
    given = {
        "stretch_minutes": 0.5, "learn_stretches": 10, "decide_ms": 500, "distances_bp": (0.0, 1.0, 2.0, 4.0),
        "fee_bp": 1.0, "taker_fee_bp": 1.0, "order": 20, "inventory": 100, "least_order": 1, "touch_share": 0.5,
        "settle_ms": 0,
    }  # fmt: skip
    return MakersConfig(**given | changed)  # type: ignore[arg-type]


def parts_of(seed: int, seconds: int, leaks: bool, given: MakersConfig) -> list[Stretch]:
    return stretches([track_of(market(seed, seconds, leaks))], given)


def of(found: Study, maker: str, given: MakersConfig) -> Outcome:
    (one,) = (one for one in found.outcomes if one.maker == maker and one.fee_bp == given.net_fee_bp)
    return one


@pytest.fixture(scope="module")
def short() -> tuple[MakersConfig, list[Stretch]]:
    given = config(learn_stretches=4, shifts=3)
    return given, parts_of(1, 240, True, given)


def test_the_parts_add_up_to_cash_less_fees(short: tuple[MakersConfig, list[Stretch]]):
    given, parts = short
    for stretch in parts:
        plan = quotes.naive(stretch.moments, stretch.terms, given)
        found = match(stretch.track, stretch.moments.at, plan, stretch.terms)
        ledger = ledger_of(found, stretch.moments.tops, stretch.track.unit, stretch.track.until_ns)
        _, sign, price, lots, _, why = ledger.fills.T
        assert (sign * lots).sum() == 0  # it ends with nothing
        fee = np.where(why == CLOSED, 7.0, 3.0) * BP
        cash = -(sign * lots * price).sum() / ledger.unit - (fee * price * lots / ledger.unit).sum()
        split = ledger.parts(3.0, 7.0)
        assert set(split) == set(PARTS)
        assert sum(part.sum() for part in split.values()) == pytest.approx(cash, abs=1e-9)
        marks = ledger.markouts_bp()
        gained = split["spread"] + split["adverse_selection"]
        assert marks[:, 1] * BP * ledger.turnover == pytest.approx(gained, abs=1e-12)


def test_an_outcome_is_the_sum_of_its_stretches(short: tuple[MakersConfig, list[Stretch]]):
    given, parts = short
    found = study(parts, given, fees_bp=(0.0, 5.0))
    assert {one.fee_bp for one in found.outcomes} == {0.0, 1.0, 5.0}
    for one in found.outcomes:
        assert one.parts.shape == (4, len(parts) - 4)
        assert one.shifted.shape == (3, len(parts) - 4)
        assert one.quoting <= one.decisions
    dear, cheap = (next(o for o in found.outcomes if o.maker == "naive" and o.fee_bp == fee) for fee in (5.0, 0.0))
    rested = sum(
        float(made.ledger.turnover[made.ledger.fills[:, 5] != CLOSED].sum()) for made in found.made["naive"]
    )  # fmt: skip
    assert cheap.net.sum() - dear.net.sum() == pytest.approx(5 * BP * rested)
    assert outcome("naive", 0.0, found.made["naive"], 1.0).net == pytest.approx(cheap.net)


def test_later_stretches_change_nothing_of_the_earlier(short: tuple[MakersConfig, list[Stretch]]):
    given, parts = short
    whole, part = study(parts, given, fees_bp=()), study(parts[:-2], given, fees_bp=())
    for one, other in zip(whole.outcomes, part.outcomes, strict=True):
        assert (one.net[:-2] == other.net).all()
    assert [model and model.parameters() for model in whole.models[:-2]] == [
        model and model.parameters() for model in part.models
    ]


def test_too_few_stretches_are_said():
    with pytest.raises(MakersError, match=r"1 whole stretches of 0\.5 minutes"):
        parts_of(1, 45, False, config())


def test_exchanged_twice_is_as_before_and_swapped_leans_the_other_way(short: tuple[MakersConfig, list[Stretch]]):
    _, (stretch, *_) = short
    plan = Plan.empty(len(stretch.moments.at))
    plan.price[:] = stretch.moments.prices()[:, :, :1] * MICRO
    plan.value[:, 0], plan.lots[:, 0] = 1, 5
    once = swapped(plan, stretch.moments)
    assert (once.lots[:, 1] == 5).all()
    assert (once.lots[:, 0] == 0).all()
    mid = (stretch.moments.mid * MICRO).astype(np.int64)
    assert (once.price[:, 1, 0] - mid == mid - plan.price[:, 0, 0]).all()
    assert (swapped(once, stretch.moments).price == plan.price).all()


def test_shifted_quotes_are_as_far_from_the_mid(short: tuple[MakersConfig, list[Stretch]]):
    given, (stretch, *_) = short
    plan = quotes.naive(stretch.moments, stretch.terms, given)
    moved = quotes.shifted(plan, stretch.moments, 7)
    known = stretch.moments.known
    assert np.roll(plan.lots[known], 7, axis=0).tolist() == moved.lots[known].tolist()
    assert not moved.value[~known].any()


def model(fill: tuple[float, ...] = (0.0,) * 8, markout: tuple[float, ...] = (0.0,) * 8) -> FillModel:
    nothing, one = np.zeros(len(COLUMNS)), np.ones(len(COLUMNS))
    return FillModel(nothing, one, np.array(fill), np.array(markout), -50.0, 50.0, 0.5, 0.8, 100, 50)


def test_glft_is_the_formula(short: tuple[MakersConfig, list[Stretch]]):
    given, (stretch, *_) = short
    moments, g, k, a = stretch.moments, given.risk_aversion, 0.8, 0.5
    plan = quotes.glft(moments, stretch.terms, given, model())
    c1 = math.log(1 + g / k) / g
    c2 = math.sqrt(g / (2 * a * k) * (1 + g / k) ** (k / g + 1))
    place = int(np.flatnonzero(moments.known)[5])
    sigma, mid = moments.volatility[place], moments.mid[place]
    assert plan.price[place, 0, 0] / MICRO == pytest.approx(mid * (1 - (c1 + c2 * sigma / 2) * BP), rel=1e-9)
    assert plan.skew[place] / MICRO == pytest.approx(mid * c2 * sigma * BP, rel=1e-6)


def test_expected_value_quotes_nothing_that_is_worth_less_than_its_fee(short: tuple[MakersConfig, list[Stretch]]):
    given, (stretch, *_) = short
    worth = model(markout=(3.0, *(0.0,) * 7))
    moments, known = stretch.moments, stretch.moments.known
    assert (quotes.expected_value(moments, stretch.terms, given, worth, 2.9).value[known] > 0).all()
    assert not (quotes.expected_value(moments, stretch.terms, given, worth, 3.1).value > 0).any()


def test_sizes_are_the_least_of_what_limits_them_and_never_below_the_minimum(
    short: tuple[MakersConfig, list[Stretch]],
):
    _, (stretch, *_) = short
    moments, terms = stretch.moments, stretch.terms
    lots = sizes(moments, terms, 0.1)
    touch = np.stack([moments.bid_lots, moments.ask_lots], axis=1)[:, :, None]
    assert (lots <= np.minimum(0.1 * touch, terms.unit_lots)).all()
    half = sizes(moments, terms, 1.0, np.full(moments.queue.shape, 0.5))
    assert (half <= terms.unit_lots // 2).all()
    assert not sizes(moments, terms, 1.0, np.full(moments.queue.shape, 0.01)).any()


def test_the_fill_model_is_found_again_and_is_its_parameters():
    chance = np.random.default_rng(1)
    x = chance.normal(size=(20_000, len(COLUMNS)))
    odds = -0.5 - 1.0 * x[:, 0] + 0.4 * x[:, 2]
    filled = chance.random(len(x)) < 1 / (1 + np.exp(-odds))
    markout = np.where(filled, 0.7 * x[:, 3] - 0.2 + chance.normal(size=len(x)), np.nan)
    parts = [(x, Probes(np.ones(len(x), np.bool_), filled, markout))]
    found = fit(parts)
    assert found is not None
    assert found.fill == pytest.approx([-0.5, -1.0, 0, 0.4, 0, 0, 0, 0], abs=0.06)
    assert found.markout == pytest.approx([-0.2, 0, 0, 0, 0.7, 0, 0, 0], abs=0.06)
    # The slope of what is maximised is 0.
    design = np.column_stack([np.ones(len(x)), np.clip((x - found.mean) / found.deviation, -4, 4)])
    slope = design.T @ (filled - found.probability(x)) - np.array([1e-9, *[10.0] * 7]) * found.fill
    assert np.abs(slope).max() < 1e-6
    again = FillModel.of(found.parameters())
    assert (again.probability(x) == found.probability(x)).all()
    assert digest(again.parameters()) == digest(found.parameters()) == digest(fit(parts).parameters())  # type: ignore[union-attr]
    beyond = np.full((1, len(COLUMNS)), 100.0)
    assert found.low <= found.worth(beyond)[0] <= found.high


def test_of_too_few_fills_nothing_is_learned():
    x = np.zeros((100, len(COLUMNS)))
    few = np.arange(100) < 10
    assert fit([(x, Probes(np.ones(100, np.bool_), few, np.where(few, 1.0, np.nan)))]) is None
    assert fit([]) is None


def test_own_quotes_are_called_in_order_with_what_was_known(short: tuple[MakersConfig, list[Stretch]]):
    _, (stretch, *_) = short
    seen: list[Moment] = []

    def mine(moment: Moment) -> tuple[float, None]:
        seen.append(moment)
        return moment.bid, None

    plan = quoted(stretch, mine, 0.5)
    assert [one.at_ns for one in seen] == stretch.moments.at[stretch.moments.known].tolist()
    assert any(one.inventory > 0 for one in seen)
    bids = (stretch.moments.bid[stretch.moments.known] * MICRO).tolist()
    assert plan.price[stretch.moments.known, 0, 0].tolist() == bids
    assert not plan.lots[:, 1].any()


@pytest.mark.parametrize("given", [3, (1,), ("a", None), (float("nan"), None), (None, 1e9), (-1.0, None), {}, "xy"])
def test_own_quotes_that_are_none_are_refused(short: tuple[MakersConfig, list[Stretch]], given: object):
    _, (stretch, *_) = short
    with pytest.raises(OwnQuotesError) as said:
        quoted(stretch, lambda moment: given, 0.5)
    assert "\n" not in str(said.value)


@pytest.mark.long
def test_a_planted_edge_quotes_wins_and_passes():
    for seed in (1, 2):
        given = config()
        one = of(study(parts_of(seed, 4200, True, given), given, fees_bp=()), quotes.EXPECTED_VALUE, given)
        said = judge(one, NOBODY_ELSE, given)
        assert isinstance(said, Promotion)
        assert one.quoting > 0.5 * one.decisions
        assert one.net.sum() > 0
        assert said.passes, said.refused


@pytest.mark.long
def test_noise_does_not_pass():
    """Of 100 seeds none passed, docs/evidence/makers.md; here are six."""
    for seed in range(6):
        given = config()
        found = study(parts_of(2000 + seed, 2700, False, given), given, fees_bp=())
        for one in found.outcomes:
            said = judge(one, NOBODY_ELSE, given)
            assert isinstance(said, str) or not said.passes, (seed, one.maker)


@pytest.mark.long
@pytest.mark.skipif(not (SHARED / "l2").is_dir(), reason="MM_SHARED_DATA has no l2 books")
@pytest.mark.parametrize(
    "name", ["binance/BTC-USDT", "binance/ETH-USDT", "binance-perp/BTC-USDT", "binance-perp/ETH-USDT"]
)
def test_on_real_books_it_quotes_nothing_at_spot_fees_and_never_loses_more_than_naive(name: str):
    given = MakersConfig(stretch_minutes=0.5, shifts=2)
    found = study(stretches([track_of(tape_of_sample(SHARED / "l2" / name))], given), given)
    by = {(one.maker, one.fee_bp): one for one in found.outcomes}
    assert by[quotes.EXPECTED_VALUE, 10.0].quoting == 0
    for fee in (0.0, 1.0, 2.0, 5.0, 10.0):
        assert by[quotes.EXPECTED_VALUE, fee].net.sum() >= by[quotes.NAIVE, fee].net.sum()
    assert by[quotes.NAIVE, 10.0].fills > 50
