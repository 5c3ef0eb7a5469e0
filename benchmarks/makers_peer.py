"""The same quotes in hftbacktest 2.4.4, run by an interpreter of an environment of its own: see benchmarks/makers.py.

Reads a .npz of events and quotes, writes a .json of what was filled and how long it took.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from hftbacktest import (
    ALL_ASSETS,
    BUY_EVENT,
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    EXCH_EVENT,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    NEW,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numba import njit


@njit
def run(hbt, at, until, price, lots, tick, lot):
    """Makes each decision's quotes: one of the same price stands, another one replaces it."""
    asked, ids = np.zeros(2, np.int64), np.zeros(2, np.uint64)
    number = np.uint64(1)
    for k in range(len(at)):
        # Codes above 1 are of an order that was filled while its cancel was under way.
        if hbt.elapse(at[k] - hbt.current_timestamp) == 1:
            break
        hbt.clear_inactive_orders(0)
        orders = hbt.orders(0)
        for side in range(2):
            stands = ids[side] in orders
            if asked[side] != 0 and not stands:
                asked[side] = 0
            if price[k, side] == asked[side]:
                continue
            if stands and orders.get(ids[side]).status == NEW:
                hbt.cancel(0, ids[side], False)
            asked[side] = price[k, side]
            if price[k, side] > 0:
                number += np.uint64(1)
                ids[side] = number
                if side == 0:
                    hbt.submit_buy_order(0, number, price[k, side] * tick, lots[k, side] * lot, GTX, LIMIT, False)
                else:
                    hbt.submit_sell_order(0, number, price[k, side] * tick, lots[k, side] * lot, GTX, LIMIT, False)
    hbt.elapse(until - hbt.current_timestamp)


def main() -> None:
    """Runs what a file has, with both kinds of book, three times each; the first one compiles."""
    given = np.load(sys.argv[1])
    rows = given["events"]
    told = np.zeros(len(rows), event_dtype)
    kind = np.array([DEPTH_EVENT, DEPTH_SNAPSHOT_EVENT, TRADE_EVENT], np.uint64)[rows[:, 1]]
    side = np.where(rows[:, 2] == 0, np.uint64(BUY_EVENT), np.uint64(SELL_EVENT))
    told["ev"] = kind | side | np.uint64(EXCH_EVENT) | np.uint64(LOCAL_EVENT)
    back, out = int(given["back_ns"]), int(given["out_ns"])
    told["local_ts"], told["exch_ts"] = rows[:, 0], rows[:, 0] - back
    tick, lot = float(given["tick"]), float(given["lot"])
    told["px"], told["qty"] = rows[:, 3] * tick, rows[:, 4] * lot
    trades = rows[rows[:, 1] == 2, 3] * tick
    found = {}
    for name, kind_of in (("hash map", HashMapMarketDepthBacktest), ("vector", ROIVectorMarketDepthBacktest)):
        seconds = []
        for _ in range(3):
            asset = (
                BacktestAsset().data([told]).linear_asset(1.0).constant_order_latency(out, back)
                .risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
                .tick_size(tick).lot_size(lot)
            )  # fmt: skip
            if name == "vector":
                asset = asset.roi_lb(float(trades.min()) * 0.98).roi_ub(float(trades.max()) * 1.02)
            hbt = kind_of([asset])
            began = time.perf_counter()
            run(hbt, given["at"], int(rows[-1, 0]), given["price"], given["lots"], tick, lot)
            seconds.append(time.perf_counter() - began)
            state = hbt.state_values(0)
            found[name] = {
                "seconds": min(seconds[1:], default=seconds[0]),
                "fills": int(state.num_trades),
                "lots": round(float(state.trading_volume) / lot),
                "position": round(float(state.position) / lot),
            }
            hbt.close()
    with open(sys.argv[2], "w") as file:  # noqa: PTH123
        json.dump(found, file)


assert ALL_ASSETS == -1

if __name__ == "__main__":
    main()
