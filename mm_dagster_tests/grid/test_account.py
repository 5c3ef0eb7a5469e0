"""What an account did: fills as positions, what cannot be told from them, and how far they are from the model."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid import account, risk
from mm_dagster.grid.replay import replay, terms_of
from mm_dagster.tables import registry
from mm_dagster_tests.grid.synthetic import START, candles, features, grid, span, stamped

FREE = {"maker": 0.0, "taker": 0.0, "slippage": 0.0}
SMALL = grid(lower=100, upper=104, levels=4, stop=90, capital=400, fees=FREE)


def fill(number: int, bars: float, side: str, price: float, amount: float, **changes: Any) -> dict[str, Any]:
    base = {"fill_id": str(number), "order_id": f"o{number}", "symbol": "ETH-USDT", "at": START + bars * BAR}
    told = {"side": side, "price": price, "amount": amount, "fee": 0.0, "fee_currency": "USDT", "maker": True}
    return base | told | changes


def snapshots(*fills: dict[str, Any], **changes: Any) -> pl.DataFrame:
    row = {
        "venue": "main",
        "as_of": START + BAR,
        "observed_at": START + BAR,
        "fills_from": START,
        "balances": [],
        "open_orders": [],
        "fills": list(fills),
        "complete": True,
        "detail": None,
    }
    return pl.DataFrame([row | changes], schema=registry.dtypes("account_snapshot"), orient="row")


def rows(fills: list[dict[str, Any]], closes: list[float | None], of: GridConfig = SMALL) -> pl.DataFrame:
    told = snapshots(*fills).select(pl.col("fills").explode()).drop_nulls().unnest("fills")
    times = span(len(closes)).open_times() + BAR
    prices = pl.Series(closes, dtype=pl.Float64).fill_null(np.nan).to_numpy()
    return account.positions(of, told, prices, times, terms_of(of, of.lower).sold_for)


def test_a_sell_is_matched_with_what_was_bought_last() -> None:
    found = rows(
        [fill(1, 0, "buy", 102.0, 2.0), fill(2, 0.5, "buy", 101.0, 1.0), fill(3, 1.5, "sell", 102.0, 1.0)],
        [101.0, 101.0, 102.0],
    )
    assert found["inventory"].to_list() == [2.0, 3.0, 2.0]
    assert found["average_cost"].to_list() == pytest.approx([102.0, 305 / 3, 102.0])
    assert found["grid_profit"].to_list() == [0.0, 0.0, 1.0]
    assert found["cash"].to_list() == [196.0, 95.0, 197.0]
    assert found["fills"].to_list() == [1, 2, 3]
    assert found["total_pnl"].to_list() == [-2.0, -2.0, 1.0]


def test_fees_are_counted_in_both_currencies_and_no_other() -> None:
    found = rows(
        [
            fill(1, 0, "buy", 100.0, 2.0, fee=0.002, fee_currency="ETH"),
            fill(2, 0, "buy", 100.0, 1.0, fee=0.1, fee_currency="USDT"),
            fill(3, 0, "sell", 101.0, 1.0, fee=0.101, fee_currency="USDT"),
            fill(4, 0, "sell", 101.0, 0.5, fee=0.01, fee_currency="KCS"),
        ],
        [100.0],
    ).row(0, named=True)
    assert found["inventory"] == pytest.approx(2.0 - 0.002 + 1.0 - 1.5)
    assert found["cash"] == pytest.approx(400 - 200 - 100.1 + 101 - 0.101 + 50.5)
    assert found["fees_paid"] == pytest.approx(0.2 + 0.1 + 0.101)
    assert found["total_pnl"] == pytest.approx(found["liquidation_value"] - 400)


def test_coins_that_were_brought_along_are_named() -> None:
    with pytest.raises(ValueError, match=r"0\.5 more was sold than was bought since its activation"):
        rows([fill(1, 0, "buy", 100.0, 1.0), fill(2, 0, "sell", 101.0, 1.5)], [100.0])


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(90, 110), st.floats(0.001, 3), st.floats(0, 0.01)), max_size=30),
    st.floats(50, 150),
)
def test_what_is_earned_is_what_is_left_less_what_was_put_in(
    trades: list[tuple[bool, float, float, float]], close: float
) -> None:
    held, fills = 0.0, []
    for number, (buys, price, amount, fee) in enumerate(trades):
        amount = amount if buys else min(amount, held)
        if amount > 0:
            held += amount if buys else -amount
            fills.append(fill(number, number / 10, "buy" if buys else "sell", price, amount, fee=fee * amount))
    found = rows(fills, [close] * 4, grid(fees=FREE, capital=5_000)).row(3, named=True)
    assert found["inventory"] == pytest.approx(held, abs=1e-6)
    assert found["total_pnl"] == pytest.approx(found["liquidation_value"] - 5_000, abs=5e-6)
    assert found["grid_profit"] + found["unrealised_pnl"] == pytest.approx(found["total_pnl"], abs=5e-6)


def grid_fills(closes: list[float]) -> list[dict[str, Any]]:
    """What an exchange would send for SMALL: its purchase at the first close, and a fill for each cell crossed."""
    held = terms_of(SMALL, closes[0]).held
    lower = [level for level in (100.0, 101.0, 102.0, 103.0) if level >= closes[0]]
    fills = [fill(k, 0, "buy", closes[0], held, maker=False) for k, _ in enumerate(lower)]
    cells = set(lower)
    for bar, (before, now) in enumerate(pairwise(closes), start=1):
        crossed = [100.0, 101.0, 102.0, 103.0]
        for level in sorted(crossed, reverse=now < before):
            if now < before and level not in cells and now <= level:
                fills.append(fill(len(fills), bar, "buy", level, held))
                cells.add(level)
            if now > before and level in cells and now >= level + 1:
                fills.append(fill(len(fills), bar, "sell", level + 1, held))
                cells.remove(level)
    return fills


@settings(max_examples=60)
@given(st.lists(st.integers(396, 420).map(lambda quarters: quarters / 4), min_size=2, max_size=12))
def test_an_account_that_traded_as_the_model_has_the_model_s_figures(closes: list[float]) -> None:
    fills = grid_fills(closes)
    found = rows(fills, closes)
    opens = np.array([closes[0], *closes[:-1]])
    ends = np.array(closes)
    lived = replay(terms_of(SMALL, closes[0]), opens, np.maximum(opens, ends), np.minimum(opens, ends), ends)
    assert found["inventory"].to_list() == pytest.approx(lived.inventory.tolist())
    assert found["grid_profit"].to_list() == pytest.approx(lived.grid_profit.tolist(), abs=1e-9)
    assert found["total_pnl"].to_list() == pytest.approx(lived.total_pnl.tolist(), abs=1e-9)


def test_risk_comes_from_the_account_where_its_fills_are_known() -> None:
    closes: list[float | None] = [102.0, 101.0, 101.5]
    fills = account.fills_of(SMALL, [SMALL], snapshots(*grid_fills([102.0, 101.0, 101.5])))
    assert isinstance(fills, pl.DataFrame)
    given_ = ([SMALL], features(closes), candles(closes), span(3), RiskConfig())
    model, real = risk.compute(*given_), risk.compute(*given_, fills={SMALL.id: fills})
    assert set(model["source"]), set(real["source"]) == ({"MODELLED"}, {"ACCOUNT"})
    assert registry.broken_rules(stamped(real, "grid_risk"), "grid_risk") == {}
    for name in ("inventory", "total_pnl", "capital_at_risk", "profit_giveback", "capital_utilisation"):
        assert real[name].to_list() == pytest.approx(model[name].to_list()), name
    assert account.differences(SMALL, model.tail(1), real.tail(1)) == []


def test_a_difference_from_the_model_is_named_with_both_figures() -> None:
    closes: list[float | None] = [102.0, 101.0, 101.5]
    fills = account.fills_of(SMALL, [SMALL], snapshots(fill(1, 0, "buy", 102.0, 0.5)))
    given_ = ([SMALL], features(closes), candles(closes), span(3), RiskConfig())
    model, real = risk.compute(*given_), risk.compute(*given_, fills={SMALL.id: fills})
    (said,) = account.differences(SMALL, model.tail(1), real.tail(1))
    assert said.startswith("eth-v3: the account differs from the model: it holds 0.5 ETH, the model 2.96296; it stands")


@pytest.mark.parametrize(
    ("told", "others", "why"),
    [
        (snapshots().clear(), [], None),
        (snapshots(complete=False, detail="no answer"), [], "the account was never wholly read: no answer"),
        (snapshots(), [], "the account shows neither an order nor a fill of it"),
        (snapshots(fill(1, 0, "buy", 102.0, 1.0, symbol="BTC-USDT")), [], "the account shows neither"),
        (snapshots(fill(1, -9, "buy", 102.0, 1.0)), [], "the account shows neither"),
        (snapshots(fill(1, 0, "buy", 102.0, 1.0)), [grid(id="other")], "its orders cannot be told from those of other"),
        (snapshots(fill(1, 0, "buy", 102.0, 1.0), fills_from=START + BAR), [], "its fills are not read back to its"),
    ],
)
def test_what_cannot_be_told_from_an_account_is_said(
    told: pl.DataFrame, others: list[GridConfig], why: str | None
) -> None:
    found = account.fills_of(SMALL, [SMALL, *others], told)
    assert found is None if why is None else isinstance(found, str) and found.startswith(why)
    if isinstance(found, str):
        frame = risk.compute(
            [SMALL], features([102.0]), candles([102.0]), span(1), RiskConfig(), fills={SMALL.id: found}
        )
        assert frame["source"].to_list() == ["MODELLED"]
        assert frame["recommendations"][0][0] == f"The account is not used: {found}."


def test_a_fill_that_two_snapshots_hold_counts_once() -> None:
    twice = pl.concat([snapshots(fill(1, 0, "buy", 102.0, 1.0))] * 2)
    found = account.fills_of(SMALL, [SMALL], twice)
    assert isinstance(found, pl.DataFrame)
    assert found.height == 1


def test_open_orders_alone_make_a_grid_that_has_bought_nothing_yet() -> None:
    order = {"order_id": "1", "symbol": "ETH-USDT", "side": "buy", "price": 100.0, "amount": 1.0, "filled": 0.0}
    found = account.fills_of(SMALL, [SMALL], snapshots(open_orders=[order | {"placed_at": None}]))
    assert isinstance(found, pl.DataFrame)
    assert found.is_empty()


RUNNING = [
    {"symbol": "ETH-USDT", "price": 100.0, "required_cash": 300.0, "cash": 350.0, "liquidation_value": 1000.0},
    {"symbol": "SOL-USDT", "price": 10.0, "required_cash": 50.0, "cash": 60.0, "liquidation_value": 200.0},
    {"symbol": "SOL-BTC", "price": 0.1, "required_cash": 9.0, "cash": 9.0, "liquidation_value": 9.0},
]


def test_the_summary_of_an_account_adds_up() -> None:
    balances = [
        {"asset": "USDT", "free": 500.0, "used": 250.0},
        {"asset": "ETH", "free": 1.0, "used": 2.0},
        {"asset": "DOGE", "free": 99.0, "used": 0.0},
    ]
    found = account.summary("USDT", RUNNING, balances)
    assert found == account.Summary("ACCOUNT", 1050.0, 500.0, 550.0, 350.0, 400.0)


def test_without_an_account_the_summary_is_that_of_the_grids() -> None:
    assert account.summary("USDT", RUNNING, None) == account.Summary("MODELLED", 1200.0, 60.0, 1140.0, 350.0, 60.0)
    unknown = account.summary("USDT", [RUNNING[0] | {"cash": None}], None)
    assert (unknown.total, unknown.available, unknown.deployable_capital) == (1000.0, None, None)
    coins = [{"asset": "ETH", "free": 1.0, "used": 0.0}]
    assert account.summary("USDT", [RUNNING[0] | {"price": None}], coins).total is None


def test_an_hour_of_history_is_asked_for_again_without_counting_twice() -> None:
    late = pl.concat(
        [
            snapshots(fill(1, 0, "buy", 102.0, 1.0)),
            snapshots(fill(2, 0.5, "buy", 101.0, 1.0), as_of=START + 2 * BAR, fills_from=START - timedelta(hours=1)),
        ]
    )
    found = account.fills_of(SMALL, [SMALL], late)
    assert isinstance(found, pl.DataFrame)
    assert found["fill_id"].to_list() == ["1", "2"]
