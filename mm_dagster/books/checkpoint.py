"""A machine's whole state as bytes, so that a replay begins anywhere: with the book, its numbers and what waits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from mm_dagster.books.ladder import Ladder
from mm_dagster.books.messages import Delta, Quote
from mm_dagster.books.sync import Phase, Reason, Rule, State
from mm_dagster.errors import ForeseenError

VERSION = 1
"""Of the form. Another one is not read."""


class CheckpointError(ForeseenError):
    """What was kept is no checkpoint, or not the one that was written."""


def checkpoint(state: State) -> bytes:
    """The whole state; equal states give equal bytes."""
    body = {
        "version": VERSION,
        "rule": state.rule,
        "symbol": state.symbol,
        "depth": state.depth,
        "phase": state.phase,
        "last_id": state.last_id,
        "connections": sorted(state.connections),
        "buffer": [astuple(delta) for delta in state.buffer],
        "is_asked": state.is_asked,
        "good_ns": state.good_ns,
        "lost": state.lost,
        "lost_ns": state.lost_ns,
        "lost_id": state.lost_id,
        "mismatches": state.mismatches,
        "quote": None if state.quote is None else astuple(state.quote),
        "reach": state.reach,
        "bids": state.book.bids.top(),
        "asks": state.book.asks.top(),
    }
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}".encode()


def restored(kept: bytes) -> State:
    """The state that was kept.

    Raises:
        CheckpointError: a byte of it differs from what was written, or it is of another version.
    """
    digest, _, text = kept.partition(b" ")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise CheckpointError("a checkpoint is damaged: its digest is not that of its text")
    body = json.loads(text)
    if body.get("version") != VERSION:
        raise CheckpointError(f"a checkpoint is of version {body.get('version')!r:.20}, and {VERSION} is known")
    return _state(body)


def _pairs(levels: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((price, lots) for price, lots in levels)


def _delta(
    symbol: str, first: int, last: int, previous: int | None, bids: Any, asks: Any, bid_ids: Any, ask_ids: Any
) -> Delta:
    return Delta(symbol, first, last, previous, _pairs(bids), _pairs(asks), tuple(bid_ids), tuple(ask_ids))


def _state(body: Mapping[str, Any]) -> State:
    return State(
        Rule(body["rule"]),
        body["symbol"],
        body["depth"],
        Phase(body["phase"]),
        body["last_id"],
        frozenset(body["connections"]),
        tuple(_delta(*delta) for delta in body["buffer"]),
        body["is_asked"],
        body["good_ns"],
        tuple(Reason(reason) for reason in body["lost"]),
        body["lost_ns"],
        body["lost_id"],
        tuple((at_ns, agreed) for at_ns, agreed in body["mismatches"]),
        None if body["quote"] is None else Quote(*body["quote"]),
        (body["reach"][0], body["reach"][1]),
        Ladder(_pairs(body["bids"]), _pairs(body["asks"])),
    )
