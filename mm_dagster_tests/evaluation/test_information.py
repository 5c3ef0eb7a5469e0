"""The models of the search for information are those of the libraries that fit them, and know nothing of the future."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mm_dagster.evaluation.market import Floats

pytest.importorskip("hmmlearn", reason="hmmlearn is not installed; it is in the extra dev")
pytest.importorskip("arch", reason="arch is not installed; it is in the extra dev")

from arch import arch_model
from hmmlearn.hmm import GaussianHMM

from benchmarks import information

pytestmark = pytest.mark.long
"""Research, and slow to import: nothing that decides hangs on it."""

HOURS = 24 * 100


def rough_and_calm(seed: int = 1) -> Floats:
    """Made-up hourly returns whose volatility changes every few days; a few are unknown."""
    generator = np.random.default_rng(seed)
    returns = generator.standard_t(5, HOURS) * np.repeat(generator.choice([0.003, 0.01], HOURS // 48), 48)
    returns[[7, 1_700]] = np.nan
    return returns


def test_the_forward_filter_ends_where_the_library_s_smoother_does() -> None:
    returns = rough_and_calm()
    returns = returns[~np.isnan(returns)][:600, None] / np.nanstd(returns)
    model = GaussianHMM(3, covariance_type="diag", n_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(returns)
    ours = information._forward(
        returns[:, 0], model.startprob_, model.transmat_, model.means_[:, 0], model.covars_[:, 0, 0]
    )
    for hours in (1, 50, 600):
        # With nothing after it, the smoothed probability of the last hour is the filtered one.
        np.testing.assert_allclose(ours[hours - 1], model.predict_proba(returns[:hours])[-1], atol=1e-9)


def test_the_garch_forecast_is_the_library_s() -> None:
    returns = rough_and_calm()
    returns = returns[~np.isnan(returns)] / np.nanstd(returns)
    result = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off")
    theirs = result.forecast(horizon=24).variance.to_numpy()[-1].mean()
    ours = information._garch(returns, *result.params, before=float(np.mean(returns**2)))
    assert ours[-1] == pytest.approx(theirs, rel=1e-3)


def test_what_comes_later_changes_nothing_that_was_said_before() -> None:
    returns, months = rough_and_calm(), [0, 24 * 31, 24 * 60, HOURS]
    changed = returns.copy()
    changed[24 * 70 :] *= 3
    before, after = information.fit_monthly(returns, months), information.fit_monthly(changed, months)
    for name in information.Fitted._fields:
        old, new = getattr(before, name), getattr(after, name)
        np.testing.assert_array_equal(old[: 24 * 70], new[: 24 * 70])
        assert np.isnan(old[: 24 * 31]).all()
        assert not np.isnan(old[24 * 31 :]).any()
        assert not np.array_equal(old[24 * 70 :], new[24 * 70 :])
