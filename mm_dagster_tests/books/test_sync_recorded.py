"""Machines over what real venues sent: no gap where none was, every checksum, and the venue's own best prices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_dagster.books import messages
from mm_dagster.books.checkpoint import checkpoint, restored
from mm_dagster.books.ladder import Scale
from mm_dagster.books.messages import Connected, Delta, Quote, Snapshot
from mm_dagster.books.reading import answered, pushed
from mm_dagster.books.sync import Action, Changed, Gap, Reason, Resubscribe, Rule, State, begin, step
from mm_dagster_tests.books import recorded

DEPTHS = {Rule.KUCOIN: 10_000, Rule.BINANCE: 1000, Rule.BINANCE_USDM: 1000}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("kucoin_spot_2021-04-25", Rule.KUCOIN),
        ("binance_spot_2021-10-12", Rule.BINANCE),
        ("binance_usdm_2021", Rule.BINANCE_USDM),
    ],
)
def test_numbered_books_of_real_venues_have_no_gap_and_never_cross(shared_data: Path, name: str, rule: Rule) -> None:
    told = list(recorded.numbered(shared_data / "books" / "protocol" / f"{name}.parquet", rule))
    counts = Counter(type(record).__name__ for _, record in told)
    assert not counts["Unreadable"]
    assert not counts["SnapshotFailed"]
    seen = Counter()
    for snapshot in [record for _, record in told if isinstance(record, Snapshot)]:
        symbol = snapshot.symbol
        state = begin(rule, symbol, told[0][0], DEPTHS[rule])
        own = [(at, record) for at, record in told if isinstance(record, Connected) or record.symbol == symbol]  # type: ignore[union-attr]
        for at_ns, record in own:
            was_in_sync = state.is_in_sync
            state, actions = step(state, record, at_ns)
            assert not state.book.is_crossed
            seen["gaps"] += sum(isinstance(action, Gap) for action in actions)
            seen["applied"] += sum(isinstance(action, Changed) for action in actions)
            if isinstance(record, Delta):
                seen["older"] += record.last_id < snapshot.last_id
                seen["equal"] += record.last_id == snapshot.last_id
                seen["lost"] += was_in_sync and not state.is_in_sync
            for action in actions:
                if isinstance(action, Gap):
                    assert action.reasons == (Reason.START,)
        deltas = sum(isinstance(record, Delta) and record.last_id > snapshot.last_id for _, record in own)
        assert state.is_in_sync == (deltas > 0)
        assert restored(checkpoint(state)).book.digest() == state.book.digest()
    assert seen["lost"] == 0
    if rule is Rule.KUCOIN:
        assert (seen["applied"], seen["older"], seen["equal"]) == (3805, 39, 9)
    # The change that a snapshot ends with is in it, and bridges on the market of perpetuals alone.
    bridging = 0 if rule is Rule.BINANCE_USDM else seen["equal"]
    assert seen["applied"] + seen["older"] + bridging == counts["Delta"] > 0


def test_every_checksum_of_kraken_agrees(shared_data: Path) -> None:
    path = shared_data / "books" / "protocol" / "kraken_spot_v1_2021-04-17.parquet"
    scales = recorded.kraken_scales(path)
    states: dict[str, State] = {}
    for pair in scales:
        states[pair], _ = step(begin(Rule.KRAKEN, pair, 0, 1000), Connected(), 0)
    seen = Counter()
    for at_ns, pair, payload in recorded.kraken_as_v2(path):
        (record,) = messages.kraken(payload, scales)
        states[pair], actions = step(states[pair], record, at_ns)
        assert not any(isinstance(action, Resubscribe) for action in actions)
        assert states[pair].is_in_sync
        seen["snapshot" if record.is_snapshot else "update"] += 1  # type: ignore[union-attr]
    assert seen == {"snapshot": 10, "update": 4269}


def test_a_kraken_message_that_is_lost_is_found_by_the_next_checksum(shared_data: Path) -> None:
    path = shared_data / "books" / "protocol" / "kraken_spot_v1_2021-04-17.parquet"
    scales = recorded.kraken_scales(path)
    told = [
        messages.kraken(payload, scales)[0] for _, pair, payload in recorded.kraken_as_v2(path) if pair == "XMR/USD"
    ]
    found = 0
    for dropped in range(1, min(len(told) - 1, 60)):
        state, _ = step(begin(Rule.KRAKEN, "XMR/USD", 0, 1000), Connected(), 0)
        asked = []
        for place, record in enumerate(told[: dropped + 30]):
            if place != dropped:
                state, actions = step(state, record, place)
                asked += [place for action in actions if isinstance(action, Resubscribe)]
        found += bool(asked)
        assert not asked or asked[0] > dropped
    # A level far from the best ten is no part of the checksum.
    assert found > 20


@pytest.mark.parametrize(
    ("market", "rule", "common"),
    [
        ("binance/ETH-USDT", Rule.BINANCE, 1056),
        pytest.param("binance/BTC-USDT", Rule.BINANCE, 1072, marks=pytest.mark.long),
        pytest.param("binance-perp/ETH-USDT", Rule.BINANCE_USDM, 551, marks=pytest.mark.long),
        pytest.param("binance-perp/BTC-USDT", Rule.BINANCE_USDM, 629, marks=pytest.mark.long),
    ],
)
def test_the_book_has_the_best_prices_that_binance_says_at_the_same_number(
    shared_data: Path, market: str, rule: Rule, common: int
) -> None:
    # One snapshot of 1,000 levels is all there is: a machine that knows it was cut stops where the price leaves it.
    states = _followed(shared_data / "l2" / market, rule, depth=1001)
    best: dict[int, tuple[object, object]] = {}
    quotes: dict[int, Quote] = {}
    for record, state, actions in states:
        if isinstance(record, Quote):
            quotes[record.update_id or 0] = record
        for action in actions:
            assert not isinstance(action, Gap) or action.reasons == (Reason.START,)
            if isinstance(action, Changed):
                best[action.last_id or 0] = (state.book.bids.best, state.book.asks.best)
    both = best.keys() & quotes.keys()
    same = sum(
        best[number] == ((quotes[number].bid, quotes[number].bid_lots), (quotes[number].ask, quotes[number].ask_lots))
        for number in both
    )
    assert (same, len(both)) == (common, common)


@pytest.mark.long
def test_a_price_that_leaves_what_the_snapshot_showed_is_a_loss(shared_data: Path) -> None:
    *_, (_, state, _) = _followed(shared_data / "l2" / "binance" / "BTC-USDT", Rule.BINANCE, depth=1000)
    assert not state.is_in_sync
    assert state.lost[0] is Reason.OUT_OF_REACH


def _followed(folder: Path, rule: Rule, depth: int) -> Iterator[tuple[messages.Record, State, tuple[Action, ...]]]:
    scale = Scale(8, 8)
    state, _ = step(begin(rule, "M", 0, depth), Connected(), 0)
    for at_ns, kind, payload in recorded.binance_l2(folder, rule is Rule.BINANCE_USDM):
        if kind == "snapshot":
            record: messages.Record = answered(rule, payload, "M", scale)
        else:
            (record,) = pushed(rule, payload, {"M": scale})
        state, actions = step(state, record, at_ns)
        yield record, state, actions
