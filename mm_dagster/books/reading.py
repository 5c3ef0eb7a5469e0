"""Which reader and which rule belong together: what a recorder and a replay both go by."""

from __future__ import annotations

from collections.abc import Callable

from mm_dagster.books import messages
from mm_dagster.books.ladder import Scale
from mm_dagster.books.messages import Message, Record, Scales, Snapshot, SnapshotFailed
from mm_dagster.books.sync import Rule

READERS: dict[Rule, Callable[[bytes, Scales], tuple[Message, ...]]] = {
    Rule.KUCOIN: messages.kucoin,
    Rule.BINANCE: messages.binance,
    Rule.BINANCE_USDM: messages.binance_usdm,
    Rule.KRAKEN: messages.kraken,
}
SNAPSHOT_READERS: dict[Rule, Callable[[bytes, str, Scale], Snapshot]] = {
    Rule.KUCOIN: messages.kucoin_snapshot,
    Rule.BINANCE: messages.binance_snapshot,
    Rule.BINANCE_USDM: messages.binance_snapshot,
}
"""Kraken is not among them: its books come with the subscription."""


def pushed(rule: Rule, payload: bytes, scales: Scales) -> tuple[Record, ...]:
    """What a message of a socket says; one that cannot be read is a record as well, so that machines hear of the loss.

    Args:
        rule: whose message.
        payload: its bytes.
        scales: of the markets that were asked for.
    """
    return messages.read(READERS[rule], payload, scales)


def answered(rule: Rule, payload: bytes, symbol: str, scale: Scale) -> Snapshot | SnapshotFailed:
    """What the answer to a request for a book says; one that cannot be read has failed.

    Args:
        rule: whose answer; not Kraken's, which answers no such request.
        payload: its bytes.
        symbol: the market that was asked for: Binance does not name it.
        scale: of this market.
    """
    return messages.read_snapshot(SNAPSHOT_READERS[rule], payload, symbol, scale)
