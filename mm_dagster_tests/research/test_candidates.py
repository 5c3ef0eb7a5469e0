"""The candidates' models are those of the libraries that fit them, know no future, and can be made again to the bit."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, HOUR_BARS, Span
from mm_dagster.research import candidates, models, promotion
from mm_dagster.research.models import Garch, Markov
from mm_dagster.tables import registry
from mm_dagster_tests.evaluation.walks import CONFIG, START, SYMBOLS, WARM_UP_DAYS, walk

HOURS = 24 * 100
MONTH = datetime(2026, 4, 1, tzinfo=UTC)
GARCH = Garch(converged=True, unit=0.01, omega=0.05, alpha=0.1, beta=0.85, before=1.0)
MARKOV = Markov(
    converged=False,
    unit=0.01,
    start=(0.5, 0.3, 0.2),
    transition=((0.9, 0.05, 0.05), (0.1, 0.8, 0.1), (0.2, 0.2, 0.6)),
    mean=(0.01, -0.02, 1 / 3),
    variance=(0.2, 0.9, 3.0),
)


def rough_and_calm(seed: int = 1) -> Floats:
    """Made-up hourly returns whose volatility changes every few days; a few are unknown."""
    generator = np.random.default_rng(seed)
    returns = generator.standard_t(5, HOURS) * np.repeat(generator.choice([0.003, 0.01], HOURS // 48), 48)
    returns[[7, 1_700]] = np.nan
    return returns


def libraries() -> None:
    """Long: nothing that decides hangs on them, and they take seconds to load."""
    for name in ("hmmlearn", "arch"):
        pytest.importorskip(name, reason=f"{name} is not installed; it is in the extra research")


@pytest.mark.long
def test_the_forward_filter_ends_where_the_library_s_smoother_does() -> None:
    libraries()
    from hmmlearn.hmm import GaussianHMM

    returns = rough_and_calm()
    returns = returns[~np.isnan(returns)][:600, None] / np.nanstd(returns)
    model = GaussianHMM(3, covariance_type="diag", n_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(returns)
    ours = models.forward(returns[:, 0], model.startprob_, model.transmat_, model.means_[:, 0], model.covars_[:, 0, 0])
    for hours in (1, 50, 600):
        # With nothing after it, the smoothed probability of the last hour is the filtered one.
        np.testing.assert_allclose(ours[hours - 1], model.predict_proba(returns[:hours])[-1], atol=1e-9)


@pytest.mark.long
def test_the_garch_forecast_is_the_library_s() -> None:
    libraries()
    from arch import arch_model

    returns = rough_and_calm()
    returns = returns[~np.isnan(returns)] / np.nanstd(returns)
    result = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off")
    theirs = result.forecast(horizon=24).variance.to_numpy()[-1].mean()
    ours = models.mean_ahead(returns, *result.params, before=float(np.mean(returns**2)))
    assert ours[-1] == pytest.approx(theirs, rel=1e-3)


@pytest.mark.long
def test_what_comes_later_changes_nothing_that_was_said_before() -> None:
    libraries()
    returns, months = rough_and_calm(), [0, 24 * 31, 24 * 60, HOURS]
    changed = returns.copy()
    changed[24 * 70 :] *= 3
    before, after = candidates.monthly(returns, months), candidates.monthly(changed, months)
    assert list(before) == ["hmm_rough", "hmm_falling", "garch_forecast"]
    for name, old in before.items():
        new = after[name]
        np.testing.assert_array_equal(old[: 24 * 70], new[: 24 * 70])
        assert np.isnan(old[: 24 * 31]).all()
        assert not np.isnan(old[24 * 31 :]).any()
        assert not np.array_equal(old[24 * 70 :], new[24 * 70 :])


@pytest.mark.long
def test_the_same_returns_give_the_same_parameters_and_others_give_others() -> None:
    libraries()
    returns = rough_and_calm()[: models.FIT_HOURS]
    nudged = returns.copy()
    nudged[900] += 1e-6
    for kind in models.MODELS:
        one, again, other = (candidates.fit(kind, 0, past) for past in (returns, returns.copy(), nudged))
        assert one == again
        hashes = [candidates.parameters_hash(model.parameters()) for model in (one, again, other)]
        assert hashes[0] == hashes[1] != hashes[2]
        assert candidates.model_of(row_of(one)) == one
        assert one.flaw() is None
    markov = Markov.fit(returns[~np.isnan(returns)])
    assert list(markov.variance) == sorted(markov.variance)
    assert sum(markov.start) == pytest.approx(1)
    assert [sum(row) for row in markov.transition] == pytest.approx([1, 1, 1])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("seed", range(3))
def test_a_market_that_hardly_trades_is_fitted_and_says_so_or_is_left_out(seed: int) -> None:
    libraries()
    generator = np.random.default_rng(seed)
    moved = generator.uniform(size=HOURS) < (0.02, 0.001, 0.5)[seed]
    returns = np.where(moved, (generator.normal(size=HOURS), 0.05, 0.01)[seed], 0.0)
    for kind in models.MODELS:
        model = candidates.fit(kind, 0, returns[: models.FIT_HOURS])
        for said in model.said(returns):
            assert np.isfinite(said).all()
            assert (said >= 0).all()


def row_of(model: models.Model) -> dict[str, object]:
    """What the lake holds of a model."""
    parameters = [{"name": name, "value": value} for name, value in model.parameters().items()]
    row = {"as_of": MONTH, "symbol": "A", "model": model.name, "parameters": parameters, "converged": model.converged}
    return registry.conform(pl.DataFrame([row]), "candidate_parameters").to_dicts()[0]


def test_a_model_is_what_its_row_says() -> None:
    for model in (MARKOV, GARCH):
        assert candidates.model_of(row_of(model)) == model
    assert MARKOV.parameters()["transition_2_1"] == 0.2
    assert list(GARCH.parameters()) == ["unit", "omega", "alpha", "beta", "before"]


def test_a_hash_differs_when_one_bit_does() -> None:
    returns = rough_and_calm()
    nudged = returns.copy()
    nudged[5] = np.nextafter(nudged[5], 1.0)
    moved = returns.copy()
    moved[[7, 8]] = moved[[8, 7]]
    hashes = {candidates.returns_hash(one) for one in (returns, nudged, moved)}
    assert len(hashes) == 3
    # However an unknown return came about, it is the same.
    other = np.where(np.isnan(returns), -np.nan, returns)
    assert candidates.returns_hash(other) == candidates.returns_hash(returns)
    less = replace(GARCH, beta=float(np.nextafter(GARCH.beta, 0.0)))
    assert candidates.parameters_hash(less.parameters()) != candidates.parameters_hash(GARCH.parameters())


def test_a_month_is_fitted_on_the_sixty_days_before_it() -> None:
    returns = rough_and_calm()
    assert candidates.window(returns, 24 * 90) == slice(24 * 30, 24 * 90)
    returns[: 24 * 40] = np.nan
    # From the first known hour on, and not at all with less than thirty days.
    assert candidates.window(returns, 24 * 90) == slice(24 * 40, 24 * 90)
    assert candidates.window(returns, 24 * 69) is None
    assert candidates.window(np.zeros(HOURS), 24 * 90) is None
    assert candidates.window(returns, 0) is None


def test_a_model_that_cannot_be_fitted_says_nothing() -> None:
    def stored(kind: type[models.Model], month: int, past: Floats) -> models.Model:
        if kind is Markov:
            raise ValueError("no parameters")
        return GARCH

    said = candidates.monthly(rough_and_calm(), [24 * 31, 24 * 60, HOURS], stored)
    assert np.isnan(said["hmm_rough"]).all()
    assert not np.isnan(said["garch_forecast"][24 * 31 :]).any()


def test_hourly_returns_are_between_the_closes_of_clock_hours() -> None:
    candles = walk("AAA-USDT", 3, seed=1)
    span = Span(START, START + timedelta(days=3))
    hourly = candles["close"].to_numpy()[HOUR_BARS - 1 :: HOUR_BARS]
    hole = START + timedelta(hours=10)
    known = candles.filter(pl.col("close_time") != hole).sample(fraction=1.0, shuffle=True, seed=2)
    returns = candidates.hourly_returns(known.select(candidates.COLUMNS), span)
    # The hour that closes at 10:00, and the one after it.
    assert np.flatnonzero(np.isnan(returns)).tolist() == [0, 9, 10]
    rest = ~np.isnan(returns)
    np.testing.assert_array_equal(returns[rest], np.diff(np.log(hourly), prepend=np.nan)[rest])
    assert np.isnan(candidates.hourly_returns(known.clear(), span)).all()


def test_the_days_of_a_month_look_back_to_what_it_is_fitted_on() -> None:
    days = Span(MONTH + timedelta(days=11), MONTH + timedelta(days=40))
    span = candidates.reach(days)
    assert candidates.months_of(days) == [MONTH, MONTH + timedelta(days=30)]
    place = candidates.place_of(MONTH, span)
    assert (place, candidates.time_of(place, span)) == (models.FIT_HOURS + 1, MONTH)
    assert span.end == days.end


def test_what_should_not_be_believed_is_said_in_a_sentence() -> None:
    lasting = replace(GARCH, beta=0.9)
    stuck = replace(MARKOV, transition=((1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5)))
    rows = registry.conform(pl.DataFrame([row_of(lasting), row_of(stuck)]), "candidate_parameters")
    passed, sentence = candidates.verdict(rows)
    assert not passed
    assert "Of the 2 models from 2026-04-01 on, 1 converged, and 1 used up their iterations." in sentence
    assert "A, garch: alpha + beta is 1.000000: a shock lasts for ever" in sentence
    assert "A, hmm: state 1 is hardly ever visited" in sentence or "A, hmm: state 2 is hardly ever visited" in sentence
    # Months that are over matter no more.
    later = rows.with_columns(as_of=pl.lit(MONTH + timedelta(days=30)))
    fine = registry.conform(pl.DataFrame([row_of(GARCH), row_of(MARKOV)]), "candidate_parameters")
    assert candidates.verdict(fine)[0]
    assert not candidates.verdict(pl.concat([fine, later]))[0]
    assert candidates.verdict(pl.concat([rows, fine.with_columns(as_of=later["as_of"])]))[0]
    assert candidates.verdict(rows.clear())[0]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        candidates, "find_spec", lambda name: None if name == "arch" else importlib.util.find_spec(name)
    )
    assert "arch" in candidates.missing()


def test_too_few_days_are_refused_before_anything_is_computed() -> None:
    days = Span(START, START + timedelta(days=139))
    with pytest.raises(promotion.PromotionError, match="needs grids on 140 days, and they can be opened on 139"):
        promotion.judge({}, {}, days, CONFIG)


@pytest.mark.long
def test_on_a_random_walk_nothing_passes_and_what_is_stored_is_not_fitted_again() -> None:
    libraries()
    count = WARM_UP_DAYS + 30 + promotion.LEAST_DAYS
    days = Span(START + timedelta(days=WARM_UP_DAYS + 30), START + timedelta(days=count))
    symbol = SYMBOLS[0]
    candles = walk(symbol, count, seed=3)
    nothing = registry.empty("candidate_parameters")
    told: list[str] = []
    found = promotion.judge({symbol: candles}, {symbol: nothing}, days, CONFIG, told.append)
    assert told == [symbol, symbol]
    assert [one.candidate for one in found.results] == ["hmm_rough", "hmm_falling", "garch_over_forecast"]
    assert not any(one.passes for one in found.results)
    months = candidates.months_of(days)
    assert (found.stored, found.fitted) == (0, 2 * len(months))

    fitted = candidates.refit(symbol, candles, nothing, days, months, "hash")
    again = promotion.judge({symbol: candles}, {symbol: fitted.rows}, days, CONFIG)
    assert (again.stored, again.fitted) == (2 * len(months), 0)
    for one, other in zip(found.results, again.results, strict=True):
        np.testing.assert_array_equal(one.gain.log_loss, other.gain.log_loss)

    # A revised candle of the last hour before the third month: that month and the next are fitted again.
    last = pl.col("close_time") == months[2]
    revised = candles.with_columns(close=pl.when(last).then(pl.col("close") * (1 + 1e-15)).otherwise("close"))
    assert revised.filter(last)["close"].item() != candles.filter(last)["close"].item()
    renewed = candidates.refit(symbol, revised, fitted.rows, days, months, "hash")
    changed = fitted.rows.join(renewed.rows, on=["as_of", "model", "returns_hash"], how="anti")
    assert sorted({*changed["as_of"]}) == months[2:4]
    assert (renewed.fitted, changed.height) == (4, 4)
    assert renewed.rows["fitted_from"][-1] == months[-1] - models.FIT_HOURS * HOUR_BARS * BAR


@pytest.mark.long
def test_days_that_are_looked_at_later_change_no_model() -> None:
    libraries()
    symbol, count = SYMBOLS[1], 130
    candles = walk(symbol, count, seed=4)
    nothing = registry.empty("candidate_parameters")
    months = [START + timedelta(days=59), START + timedelta(days=90)]
    short, whole = (
        candidates.refit(symbol, candles, nothing, Span(months[0], START + timedelta(days=end)), months, "hash").rows
        for end in (90, count)
    )
    assert short.height == 4
    assert short.equals(whole)
