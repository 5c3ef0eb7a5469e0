"""Makers on recorded books: speed, a peer, real queues, and what four real markets say. `python -m benchmarks.makers`.

Needs `MM_SHARED_DATA`. Where `MM_HFTBACKTEST` names a Python with hftbacktest 2.4.4 (an environment of its own, never
this project's), it runs the same quotes; else that table says why it is not there. `--out FILE` writes the document,
`--seeds N` also judges N made-up markets with an edge and N without one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import SHARED, markdown
from mm_dagster.books.tape import Op, Tape
from mm_dagster.config.makers import MakersConfig
from mm_dagster.makers.matching import MICRO, Plan, Terms, match
from mm_dagster.makers.matching_plain import match_plainly
from mm_dagster.makers.moments import moments_of
from mm_dagster.makers.study import PARTS, stretches, study
from mm_dagster.makers.track import SECOND_NS, track_of
from mm_dagster.pipeline.book_samples import tape_of_sample
from mm_dagster.pipeline.makers import judge
from mm_dagster.research.promotion import Promotion, Tried
from mm_dagster_tests.makers.real_queue import compare
from mm_dagster_tests.makers.synthetic import market

MARKETS = ("binance/BTC-USDT", "binance/ETH-USDT", "binance-perp/BTC-USDT", "binance-perp/ETH-USDT")
ROUNDS = 7
PEER = Path(__file__).with_name("makers_peer.py")
WAY_NS = 20_000_000
EDGE = {
    "stretch_minutes": 0.5, "learn_stretches": 10, "decide_ms": 500, "distances_bp": (0.0, 1.0, 2.0, 4.0),
    "fee_bp": 1.0, "taker_fee_bp": 1.0, "order": 20, "inventory": 100, "least_order": 1, "touch_share": 0.5,
    "settle_ms": 0,
}  # fmt: skip
"""Of the made-up markets."""


def joins(tape: Tape) -> tuple[np.ndarray, Plan]:
    """One lot at the best price of both sides, anew each second where it moved."""
    moments = moments_of(track_of(tape), SECOND_NS, (0.0,))
    plan = Plan.empty(len(moments.at))
    there = (moments.bid > 0)[:, None, None]
    plan.price[:] = np.where(there, moments.prices() * MICRO, 0)
    plan.value[:], plan.lots[:] = there, 1
    return moments.at, plan


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


def speed(python: str | None) -> list[list[str]]:
    """Kernel, twin and peer on the same quotes; the kernel and the twin in turns."""
    rows = []
    for name in MARKETS:
        tape = tape_of_sample(SHARED / "l2" / name)
        prepared, track = timed(lambda one=tape: track_of(one))
        at, plan = joins(tape)
        terms = Terms(2 * WAY_NS, 0, 1, 1, 1_000_000)
        match(track, at, plan, terms)
        ours, plain = [], []
        for number in range(ROUNDS):
            taken, found = timed(lambda t=track, a=at, p=plan, o=terms: match(t, a, p, o))
            ours.append(taken)
            if number < 2:
                taken, (fills, _, _) = timed(lambda t=tape, a=at, p=plan, o=terms: match_plainly(t, a, p, o))
                plain.append(taken)
        same = [tuple(row) for row in found.fills.tolist()] == fills
        settled = match(track, at, plan, Terms(2 * WAY_NS, 100_000_000, 1, 1, 1_000_000))
        peer = beside(python, tape, at, plan) if python else None
        mine = min(ours)
        rows.append(
            [
                name, f"{len(track.events):,}", f"{1000 * mine:.1f} ms", f"{1000 * prepared:.0f} ms",
                f"{min(plain):.2f} s", f"{min(plain) / mine:.0f}",
                "the same" if same else "DIFFER", f"{len(found.fills)}", f"{len(settled.fills)}",
                *(
                    [f"{peer['fills']} ({len(found.fills) / peer['fills'] - 1:+.1%})",
                     *(f"{1000 * peer[kind]:.0f} ms ({peer[kind] / mine:.1f})" for kind in ("hash map", "vector"))]
                    if peer else ["", "", ""]
                ),
            ]
        )  # fmt: skip
    return rows


def beside(python: str, tape: Tape, at: np.ndarray, plan: Plan) -> dict[str, Any]:
    """Fills of hftbacktest on the same quotes, and seconds of each of its kinds of book."""
    rows = tape.rows
    is_level = rows[:, 1] <= Op.ASK
    snapshot = np.flatnonzero(is_level) < np.flatnonzero(rows[:, 1] == Op.STANDS)[0]
    levels = np.column_stack([rows[is_level, 0], snapshot, rows[is_level, 1], rows[is_level, 2], rows[is_level, 3]])
    trades = tape.trades
    traded = np.column_stack([trades[:, 0], np.full(len(trades), 2), trades[:, 3], trades[:, 1], trades[:, 2]])
    events = np.concatenate([traded, levels])
    scale = tape.market.scale
    with tempfile.TemporaryDirectory() as name:
        given, said = Path(name) / "given.npz", Path(name) / "said.json"
        np.savez(
            given, events=events[np.argsort(events[:, 0], kind="stable")], at=at, price=plan.price[:, :, 0] // MICRO,
            lots=plan.lots[:, :, 0], back_ns=WAY_NS, out_ns=WAY_NS, tick=10.0**-scale.price_decimals,
            lot=10.0**-scale.amount_decimals,
        )  # fmt: skip
        surroundings = {"PATH": os.environ.get("PATH", ""), "HOME": name, "NUMBA_CACHE_DIR": name}
        subprocess.run([python, str(PEER), str(given), str(said)], check=True, env=surroundings, capture_output=True)
        found = json.loads(said.read_text())
    return {"fills": found["hash map"]["fills"], **{kind: found[kind]["seconds"] for kind in found}}


def real_markets() -> list[list[str]]:
    """The study on four real markets, at each fee."""
    config = MakersConfig(stretch_minutes=0.5)
    rows = []
    for name in MARKETS:
        parts = stretches([track_of(tape_of_sample(SHARED / "l2" / name))], config)
        for one in study(parts, config).outcomes:
            mark = "" if np.isnan(one.markouts_bp[1]) else f"{one.markouts_bp[1]:+.2f}"
            rows.append(
                [
                    name, one.maker.replace("_", " "), f"{one.fee_bp:g}", f"{one.quoting / one.decisions:.0%}",
                    f"{one.fills}", f"{one.net.sum():+.2f}",
                    *(f"{values.sum():+.2f}" for values in one.parts), mark,
                    f"{one.shifted.sum(axis=1).mean():+.2f}", f"{one.swapped.sum():+.2f}",
                ]
            )  # fmt: skip
    return rows


def judged(seeds: int) -> list[list[str]]:
    """How many made-up markets a maker passes the gate on: 130 stretches of half a minute each."""
    config = MakersConfig(**EDGE)  # type: ignore[arg-type]
    rows = []
    for leaks, count, seconds in ((True, -(-seeds // 5), 4200), (False, seeds, 2700)):
        passed: dict[str, int] = {}
        net: dict[str, list[float]] = {}
        for seed in range(count):
            found = study(stretches([track_of(market(seed, seconds, leaks))], config), config, fees_bp=())
            for one in found.outcomes:
                said = judge(one, Tried(3, np.array([])), config)
                passed[one.maker] = passed.get(one.maker, 0) + (isinstance(said, Promotion) and said.passes)
                net.setdefault(one.maker, []).append(float(one.net.sum()))
        rows += [
            ["leaks its next move" if leaks else "noise", maker.replace("_", " "), f"{passes} of {count}",
             f"{statistics.mean(net[maker]):+.2f}"]
            for maker, passes in passed.items()
        ]  # fmt: skip
    return rows


def main() -> None:
    """Prints the tables, or writes the document."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, help="write the document here")
    arguments.add_argument("--seeds", type=int, default=0, help="made-up markets of each kind")
    given = arguments.parse_args()
    python = os.environ.get("MM_HFTBACKTEST")
    parts = [TEXT, "## Speed, and the same fills", SPEED]
    heads = ["market", "events", "kernel", "its input", "plain Python", "times", "fills", "count", "settled 100 ms"]
    heads += ["hftbacktest", "hash map (times)", "vector (times)"]
    parts.append(markdown(heads, speed(python)))
    if not python:
        parts.append("hftbacktest was not run: `MM_HFTBACKTEST` names no Python that has it.")
    found = compare(SHARED / "books" / "bitstamp_l3" / "BTC-USD_orders_2015-05-01.parquet")
    parts += ["## The queue", QUEUE.format(**{key.replace(" ", "_").replace(":", ""): n for key, n in found.items()})]
    heads = ["market", "maker", "fee bp", "quoting", "fills", "net", *(part.replace("_", " ") for part in PARTS)]
    parts += ["## Four real markets", REAL, markdown([*heads, "mark-out 5 s bp", "shifted", "swapped"], real_markets())]
    if given.seeds:
        parts += ["## An edge, and none", EDGES, markdown(["book", "maker", "passes", "mean net"], judged(given.seeds))]
    document = "\n\n".join(parts) + "\n"
    if given.out:
        given.out.write_text(document)
    else:
        print(document)


TEXT = """# Makers on recorded books

Made by `python -m benchmarks.makers`. What the words mean: [makers](../makers.md). Nothing quotes by any of this."""
SPEED = """One lot joins the best price of both sides each second, 20 ms there and 20 ms back, and its fills are
counted. The kernel and the plain twin take turns in one run, the best of seven and of two; their fills are compared
one by one. "Its input" is what sorting a tape for the kernel takes, once for all runs on it. hftbacktest 2.4.4,
compiled, with its risk-averse queue, runs the same quotes on the same events in a process of its own, the best of
two; its conversion of the input is not counted. "Settled" counts nothing that is told within 100 ms of an order's
arrival, and what is shown only 100 ms after: what the study assumes."""
QUEUE = """Four hours of every order of Bitstamp's BTC-USD (2015-05-01). Each real order that did not take,
{orders:,} of them, {behind_others:,} behind others, was followed with ours in its place, by {trades:,} trades and
at {moments:,} moments. Ours thought that fewer lots were before it than there were at {ahead_queue} of them, the
very number at {exact:,}; and it was filled before the real one {ahead_filled_first} times. {filled:,} real orders
were filled."""
REAL = """Eleven minutes of spot and six of perpetuals on 2024-08-08, in stretches of half a minute, the first four
only learned from; else the defaults of makers.yaml: 500 a quote, 10 bp for what closes a stretch. Quote currency.

It is one night of one venue. With so few stretches the gate gives no verdict, and none of these figures has an
interval; they show how the parts relate. Mark-outs are negative for whoever quotes all the time, on nearly every
market; most of what the naive maker loses without a fee is the taker's fee at the end of each stretch, and most of
the rest is adverse selection."""
EDGES = """Made-up books: the mid moves by 3 bp every other second, trades know nothing, and the fee of 1 bp takes the
half spread of 1 bp. In one the depth of the best level tells where the next move goes (130 stretches of half a minute),
in the other it tells nothing (79). Judged by the promotion gate as if three ideas had been tried. A run over 100 seeds
of noise passed none of the three makers on any of them."""


if __name__ == "__main__":
    main()
