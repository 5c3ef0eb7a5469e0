"""The plan: what to sell, over which time, what to ask first, and what nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mm_dagster.alerts import leaving
from mm_dagster.execution import plan
from mm_dagster.pages.exit_plan import sentences, table
from mm_dagster.pictures.leaving import costs_picture

AS_OF = datetime(2026, 3, 2, 12, tzinfo=UTC)
RISK = {"price": 3000.0, "source": "MODELLED"}


def rows(**changes: Any) -> list[dict[str, Any]]:
    """Costs of one bar; at once is best, and the intervals are 20 basis points wide a quarter hour."""
    found = []
    for place, minutes in enumerate((0, 5, 15, 60)):
        wide = {0: 0.0, 5: 12.0, 15: 20.0, 60: 40.0}[minutes]
        expected = 13.0 + place
        row = {
            "grid_id": "eth", "symbol": "ETH-USDT", "as_of": AS_OF, "horizon_minutes": minutes, "amount": 0.42,
            "notional": 1260.0, "expected_bp": expected, "low_80_bp": expected - wide, "high_80_bp": expected + wide,
            "chosen": minutes == 0, "beyond_model": False, "live_expected_bp": None, "shown_share": None,
        }  # fmt: skip
        found.append(row | {name: value for name, value in changes.items() if name in row})
    return found


def proposed(over: int | None = None, risk: dict[str, Any] | None = None, **changes: Any) -> plan.Plan:
    return plan.propose(rows(**changes), risk or RISK, AS_OF + timedelta(minutes=2), over)


def told(one: plan.Plan) -> str:
    return " ".join(sentences(one, "UTC"))


def test_at_once_is_one_order_at_the_hard_limit() -> None:
    found = proposed()
    assert (found.minutes, found.slices, found.slice_amount) == (0, 1, 0.42)
    assert found.limit_price == pytest.approx(3000 * 0.995)
    assert found.asks is None
    said = told(found)
    assert "Sell 0.42 ETH (about 1,260 USDT) at once." in said
    assert "at 2,985 or better, 0.50 % below 3,000" in said
    assert "Expected cost: 0.13 % with fee, 1.64 USDT, modelled." in said


def test_a_preferred_horizon_is_cut_into_slices() -> None:
    found = proposed(over=15)
    assert (found.minutes, found.slices) == (15, 15)
    assert found.slice_amount == pytest.approx(0.028)
    assert "over 15 minutes: 15 orders of 0.028 ETH, one a minute" in told(found)


def test_what_costs_more_than_the_soft_limit_is_asked_and_never_decided() -> None:
    dear = proposed(expected_bp=40.0)
    assert dear.asks == "It costs more than 0.25 %, and no other horizon costs less. Sell all of it?"
    hasty = plan.propose(
        [row | {"expected_bp": 40.0, "chosen": row["horizon_minutes"] == 60} for row in rows()], RISK, AS_OF, 0
    )
    assert hasty.asks == "It costs more than 0.25 %; over 60 min it would cost least. Is it worth the haste?"


def test_beyond_the_model_no_figure_is_promised() -> None:
    found = proposed(beyond_model=True)
    assert found.asks is not None
    assert "not known" in found.asks
    assert "Expected cost" not in told(found)
    cells = list(table(found).columns[1].cells)
    assert set(cells) == {"not known"}
    said = leaving.sentence(rows(beyond_model=True), "ETH-USDT")
    assert said == "Leaving now: 0.42 ETH, more than this market trades in a minute; how much is not known."


def test_the_order_book_goes_before_the_model_and_says_so() -> None:
    found = proposed(live_expected_bp=19.0, shown_share=1.0)
    assert found.horizons[0].expected_bp == 19.0
    assert found.horizons[2].high_80_bp == pytest.approx(19.0 + 20.0)
    assert "0.19 % with fee, 2.39 USDT, by the order book" in told(found)
    assert leaving.sentence(rows(live_expected_bp=19.0, shown_share=1.0), "ETH-USDT") == (
        "Leaving now: 0.42 ETH, 2.39 USDT or 0.19 % with fee by the order book; over 15 min the same ± 0.20 %."
    )
    thin = proposed(live_expected_bp=None, shown_share=0.4)
    assert any("buyers for 40 % of it" in line for line in thin.unknown)
    assert "buyers for 40 % of it" in leaving.sentence(rows(shown_share=0.4), "ETH-USDT")


def test_nothing_held_is_nothing_sold() -> None:
    found = proposed(amount=0.0, notional=0.0, expected_bp=None, low_80_bp=None, high_80_bp=None, chosen=False)
    assert (found.minutes, found.slices, found.limit_price, found.asks) == (None, 0, None, None)
    assert "Nothing is to be sold" in told(found)
    assert leaving.sentence(rows(amount=0.0), "ETH-USDT") == ""
    assert leaving.sentence([], "ETH-USDT") == ""


def test_what_is_not_known_is_said() -> None:
    nothing_known = {"amount": None, "notional": None, "expected_bp": None, "low_80_bp": None, "high_80_bp": None}
    found = plan.propose(rows(**nothing_known, chosen=False), RISK, AS_OF + timedelta(hours=2))
    assert found.unknown[0] == "The price is 2 h old: ask the exchange for the present one."
    assert "What the grid holds is not known" in found.unknown[1]
    assert "Sell what the exchange says that it holds" in told(found)
    costless = proposed(expected_bp=None, low_80_bp=None, high_80_bp=None, chosen=False)
    assert costless.minutes is None
    assert costless.asks == "What leaving costs is not known: look at the order book yourself before you sell."
    assert leaving.sentence(rows(expected_bp=None), "ETH-USDT") == "Leaving now: 0.42 ETH; what it costs is not known."
    assert not any("modelled from candles" in line for line in proposed(risk=RISK | {"source": "ACCOUNT"}).unknown)
    assert any("no order book" in line.lower() for line in proposed().unknown)


def test_the_picture_shows_every_horizon_and_says_where_nothing_is_known() -> None:
    known = rows(live_expected_bp=19.0)
    for row in known:
        row |= {"low_90_bp": row["low_80_bp"] - 5, "high_90_bp": row["high_80_bp"] + 5}
    drawn = costs_picture(known)
    assert drawn.startswith(b"\x89PNG")
    assert drawn == costs_picture(known)
    assert costs_picture(rows(expected_bp=None, chosen=False)) != costs_picture(rows(amount=0.0, expected_bp=None))
