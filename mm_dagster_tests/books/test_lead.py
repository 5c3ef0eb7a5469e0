"""The lead of one market over another: against a plain double sum, on shifted copies, and on real books."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm_dagster.books import lead as leads
from mm_dagster.books.lead import Mids, contrasts, lead, mids_of
from mm_dagster.books.tape import Op, Tape, tape_of
from mm_dagster_tests.books import recorded
from mm_dagster_tests.books.plain_features import Move, plain_contrast, tape_of_rows

MS = 10**6
START = 1_770_000_300_000_000_000
END = START + 60_000 * MS
NOTHING = {"lead_ms": None, "lead_corr": None, "lead_first_ms": None, "lead_second_ms": None}


def moves(mids: Mids) -> list[Move]:
    return [
        (since, at, move)
        for since, at, move in zip(mids.since_ns.tolist(), mids.at_ns.tolist(), mids.moves.tolist(), strict=True)
        if since < at
    ]


def wandering(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Times, some of them equal, and twice the mid."""
    at_ns, mid, found = START, 10_001, []
    for _ in range(count):
        at_ns += rng.choice((0, 0, MS, 3 * MS, 40 * MS, 300 * MS)) * 60_000 // (60 * count)
        mid += 2 * rng.choice((-2, -1, 0, 0, 1, 2))
        found.append((at_ns, mid))
    return found


def quoted(series: list[tuple[int, int]], shift_ns: int = 0, spans: Any = ((START, END),)) -> Tape:
    quotes = [(at_ns + shift_ns, -1, mid // 2, 5, mid // 2 + 1, 5) for at_ns, mid in series]
    tape = tape_of_rows([(START, int(Op.BEGIN), 0, 0)], END, quotes=quotes)
    return replace(tape, spans=np.array(spans, dtype=np.int64))


def test_the_contrast_is_the_sum_over_all_pairs_that_overlap() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        spans = ((START, END),) if seed % 2 else ((START, START + 20_000 * MS), (START + 30_000 * MS, END))
        here, there = (mids_of(quoted(wandering(rng, 120), spans=spans), START, END) for _ in range(2))
        lags = [rng.randrange(-400, 401) * MS for _ in range(8)] + [0]
        expected = [plain_contrast(moves(here), moves(there), lag) for lag in lags]
        assert contrasts(here, there, lags).tolist() == expected, seed


def test_the_loop_is_compiled_to_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = (mids_of(quoted(wandering(random.Random(seed), 200)), START, END) for seed in (1, 2))
    lags = np.arange(-500, 501, 50) * MS
    compiled = contrasts(here, there, lags)
    monkeypatch.setattr(leads, "_contrasts", leads._contrasts.py_func)  # type: ignore[attr-defined]
    assert contrasts(here, there, lags).tolist() == compiled.tolist()


@pytest.mark.parametrize("shift_ms", [-340, -20, 0, 10, 170])
def test_who_is_first_is_found_in_a_shifted_copy(shift_ms: int) -> None:
    series = wandering(random.Random(3), 1200)
    spot = quoted(series, shift_ns=max(shift_ms, 0) * MS)
    perpetual = quoted(series, shift_ns=max(-shift_ms, 0) * MS)
    found = lead(spot, perpetual, START, END)
    assert (found["lead_ms"], found["lead_first_ms"], found["lead_second_ms"]) == (shift_ms,) * 3
    assert found["lead_corr"] > 0.9
    assert lead(perpetual, spot, START, END)["lead_ms"] == -shift_ms


def test_too_few_moves_give_nothing() -> None:
    series = wandering(random.Random(3), 1200)
    still = [(at_ns, 10_001) for at_ns, _ in series]
    assert lead(quoted(series), quoted(still), START, END) == NOTHING
    late = [(at_ns, mid if at_ns > START + 31_000 * MS else 10_001) for at_ns, mid in series]
    found = lead(quoted(series), quoted(late), START, END)
    assert (found["lead_ms"], found["lead_first_ms"], found["lead_second_ms"]) == (None, None, 0.0)
    assert lead(quoted(series), quoted([]), START, END) == NOTHING


def test_what_happened_while_nobody_saw_it_is_no_move() -> None:
    series = [(START + one * MS, 10_001 + 2 * one) for one in range(100)]
    tape = quoted(series, spans=((START, START + 30 * MS), (START + 70 * MS, END)))
    mids = mids_of(tape, START, END)
    assert mids.at_ns.tolist() == [START + one * MS for one in (*range(30), *range(70, 100))]
    assert sum(mids.moves.tolist()) == 2 * (29 + 29)
    # Without quotes it is the book that says it.
    rows = [(START, Op.BEGIN, 0, 0), (START, Op.BID, 100, 1), (START, Op.ASK, 102, 1), (START, Op.STANDS, 0, 1)]
    rows += [(START + MS, Op.BID, 101, 1), (START + MS, Op.STANDS, 0, 1), (START + 2 * MS, Op.LOST, 0, 0)]
    rows += [(START + 5 * MS, *row[1:]) for row in rows[:4]]
    rows += [(START + 6 * MS, Op.BID, 101, 2), (START + 6 * MS, Op.STANDS, 0, 1)]
    mids = mids_of(tape_of_rows([tuple(map(int, row)) for row in rows], END), START, END)  # type: ignore[misc]
    assert mids.at_ns.tolist() == [START, START + MS, START + 5 * MS, START + 6 * MS]
    assert mids.moves.tolist() == [0, 1, 0, 1]


@pytest.mark.long
@pytest.mark.parametrize(("coin", "ms"), [("ETH", 0.0), ("BTC", 10.0)])
def test_the_lead_of_real_perpetuals_is_no_more_than_method_says(shared_data: Path, coin: str, ms: float) -> None:
    spot, perpetual = (
        tape_of(recorded.binance_log(shared_data / "l2" / folder / f"{coin}-USDT", exchange))
        for folder, exchange in (("binance", "binance"), ("binance-perp", "binance_usdm"))
    )
    start_ns = max(int(tape.spans[0, 0]) for tape in (spot, perpetual))
    found = lead(spot, perpetual, start_ns, min(spot.until_ns, perpetual.until_ns))
    assert found["lead_ms"] == ms
    assert all(-20 <= found[name] <= 170 for name in ("lead_first_ms", "lead_second_ms"))
    assert 0.3 < found["lead_corr"] < 0.7
