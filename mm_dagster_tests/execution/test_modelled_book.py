"""A book out of candles costs what the model of costs.py says, at every amount."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.books.book import BP, walk
from mm_dagster.execution.modelled_book import modelled
from mm_dagster.execution.paper import taken
from mm_dagster.grid.slippage import Traded, walked
from mm_dagster.market.order_venue import MarketRules
from mm_dagster.market.venue import VenueError


@given(
    st.floats(0.01, 3_000.0),
    st.floats(1e-5, 5e-3),
    st.floats(0.0, 1e-2),
    st.floats(1e3, 1e7),
    st.floats(1e-3, 5.0),
)
def test_selling_into_it_costs_what_the_model_says(
    mid: float, sigma: float, impact: float, volume: float, minutes: float
) -> None:
    lot = Decimal(1).scaleb(int(np.floor(np.log10(volume / mid))) - 6)
    book = modelled(mid, 2.5e-4, impact, sigma, volume, lot)
    sold = minutes * volume
    said = 2.5e-4 + impact + float(walked(np.array([sold]), Traded(np.array([sigma]), np.array([volume])))[0])
    found = walk(book, sold / book.mid).cost_bp
    assert found is not None
    assert book.mid == pytest.approx(mid, rel=1e-9)
    # Within a level the mean of its loss is reckoned with; levels are a fourteenth of the sale apart.
    assert found * BP == pytest.approx(said, rel=0.01, abs=2e-7)


def test_what_lies_below_the_limit_is_not_bought() -> None:
    rules = MarketRules(Decimal("0.001"), Decimal("0.01"))
    sigma, volume, mid = 2e-3, 20_000.0, 100.0
    book = modelled(mid, 2.5e-4, 0.0, sigma, volume, rules.lot)
    limit = Decimal("99.5")
    filled = sum(one.lots for one in taken(book, rules, 10**9, limit, {}))
    sold = float(rules.amount(filled)) * mid
    # The last unit costs what the derivative of the loss says: the half spread, and 1.83 times the mean of the walk.
    last = 2.5e-4 + 1.83 * 0.64 * sigma * (sold / volume) ** 0.83
    assert last == pytest.approx(50 * BP, rel=0.05)
    assert sold > volume


def test_a_market_that_does_not_move_has_one_level_a_half_spread_away() -> None:
    book = modelled(100.0, 1e-3, 0.0, 0.0, 1_000.0, Decimal("0.01"))
    assert book.bids.shape == (1, 2)
    assert book.bids[0, 0] == pytest.approx(99.9)
    assert book.bids[0, 1] == pytest.approx(1_000.0)


@pytest.mark.parametrize(
    ("mid", "sigma", "volume", "lot", "said"),
    [
        (float("nan"), 1e-3, 1e3, "0.01", "not known"),
        (100.0, float("nan"), 1e3, "0.01", "not known"),
        (100.0, 1e-3, 0.0, "0.01", "nobody traded"),
        (100.0, 1e-3, 1e-3, "1", "less than a lot"),
        (100.0, 1e6, 1e3, "0.01", "more in a minute"),
    ],
)
def test_where_nothing_is_known_there_is_no_book(mid: float, sigma: float, volume: float, lot: str, said: str) -> None:
    with pytest.raises(VenueError, match=said):
        modelled(mid, 2.5e-4, 0.0, sigma, volume, Decimal(lot))
