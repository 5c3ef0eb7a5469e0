"""The rules of the venues by hand, sentence by sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_dagster.books import messages
from mm_dagster.books.checkpoint import CheckpointError, checkpoint, restored
from mm_dagster.books.ladder import Ladder, Levels, Scale
from mm_dagster.books.messages import (
    Checked,
    Connected,
    Delta,
    Disconnected,
    Quote,
    Record,
    Snapshot,
    SnapshotFailed,
    Trade,
    Unreadable,
)
from mm_dagster.books.sync import (
    MISMATCH_NS,
    MOST_BUFFERED,
    Action,
    AskSnapshot,
    Changed,
    Gap,
    Phase,
    Reason,
    Resubscribe,
    Rule,
    State,
    begin,
    checksum,
    copied,
    open_gap,
    step,
)

ASK, SUBSCRIBE = AskSnapshot("M"), Resubscribe("M")
NUMBERED = [Rule.KUCOIN, Rule.BINANCE, Rule.BINANCE_USDM]


def delta(first: int, last: int, previous: int | None = None, bids: Levels = (), asks: Levels = ()) -> Delta:
    previous = first - 1 if previous is None else previous
    return Delta("M", first, last, previous, bids, asks, (last,) * len(bids), (last,) * len(asks))


def snapshot(last: int, bids: Levels = ((10, 1),), asks: Levels = ((12, 1),)) -> Snapshot:
    return Snapshot("M", last, bids, asks)


def after(rule: Rule, *records: Record, depth: int = 100) -> tuple[State, list[Action]]:
    """The state after records that come one nanosecond after another, from 1 on, and all actions."""
    state, actions = begin(rule, "M", 0, depth), []
    for at_ns, record in enumerate((Connected(), *records), start=1):
        state, done = step(state, record, at_ns)
        actions += done
    return state, actions


@pytest.mark.parametrize("rule", NUMBERED)
def test_changes_wait_for_a_snapshot_that_is_asked_for_once(rule: Rule) -> None:
    state, actions = after(rule, delta(5, 6), delta(7, 8))
    assert (state.phase, actions) == (Phase.BUFFERING, [ASK])
    state, actions = step(state, snapshot(5), 9)
    assert state.is_in_sync
    assert actions[0] == Gap("M", (Reason.START,), 0, 9, None, 6)
    assert actions[-1] == Changed("M", 8)


@pytest.mark.parametrize(
    ("rule", "last_id", "phase"),
    [
        (Rule.BINANCE, 3, Phase.BUFFERING),  # the first change is 5: 4 is missing
        (Rule.BINANCE, 4, Phase.IN_SYNC),
        (Rule.BINANCE, 5, Phase.IN_SYNC),
        (Rule.BINANCE, 6, Phase.BRIDGING),  # all of it is in the snapshot
        (Rule.BINANCE, 9, Phase.BRIDGING),
        (Rule.KUCOIN, 3, Phase.BUFFERING),
        (Rule.KUCOIN, 4, Phase.IN_SYNC),
        (Rule.KUCOIN, 6, Phase.BRIDGING),
        (Rule.BINANCE_USDM, 3, Phase.BUFFERING),
        (Rule.BINANCE_USDM, 4, Phase.IN_SYNC),  # by pu alone
        (Rule.BINANCE_USDM, 5, Phase.IN_SYNC),
        (Rule.BINANCE_USDM, 6, Phase.IN_SYNC),
        (Rule.BINANCE_USDM, 7, Phase.BRIDGING),
    ],
)
def test_the_first_change_after_a_snapshot(rule: Rule, last_id: int, phase: Phase) -> None:
    state, actions = after(rule, delta(5, 6, previous=4), snapshot(last_id))
    assert state.phase is phase
    # A snapshot that is too old is asked for again, with the same change still waiting.
    assert actions.count(ASK) == (2 if phase is Phase.BUFFERING else 1)
    if phase is Phase.BUFFERING:
        state, _ = step(state, snapshot(5), 9)
        assert state.is_in_sync


def test_usdm_goes_by_pu_and_not_by_the_first_number() -> None:
    state, _ = after(Rule.BINANCE_USDM, delta(5, 6), snapshot(6), delta(50, 60, previous=6), delta(90, 99, previous=60))
    assert (state.is_in_sync, state.last_id) == (True, 99)
    state, actions = step(state, delta(100, 101, previous=98), 9)
    assert (state.phase, actions) == (Phase.BUFFERING, (ASK,))
    # The snapshot between two changes is neither within one nor named by the next.
    state, _ = after(Rule.BINANCE_USDM, delta(5, 6), snapshot(7), delta(50, 60, previous=6))
    assert state.phase is Phase.BUFFERING


@pytest.mark.parametrize("rule", NUMBERED)
def test_a_change_that_was_there_is_passed_over_and_one_too_far_is_a_loss(rule: Rule) -> None:
    state, actions = after(rule, delta(5, 6), snapshot(5), delta(5, 6, bids=((10, 9),)), delta(6, 6, bids=((10, 9),)))
    assert (state.last_id, state.book.bids.best) == (6, (10, 1))
    assert actions.count(ASK) == 1
    state, actions = step(state, delta(8, 9), 50)
    assert (state.phase, actions) == (Phase.BUFFERING, (ASK,))
    assert open_gap(state, 60) == Gap("M", (Reason.MISSED,), 3, 60, 6, None)
    state, actions = step(state, snapshot(8), 70)
    assert actions[0] == Gap("M", (Reason.MISSED,), 3, 70, 6, 9)
    assert open_gap(state, 80) is None


@pytest.mark.parametrize("rule", NUMBERED)
def test_a_hole_among_what_waits_is_a_gap_of_its_own(rule: Rule) -> None:
    state, actions = after(rule, delta(5, 6), delta(8, 9), snapshot(5))
    assert state.phase is Phase.BUFFERING
    assert [action.reasons for action in actions if isinstance(action, Gap)] == [(Reason.START,)]
    assert state.lost == (Reason.MISSED,)
    assert state.buffer == (delta(8, 9),)


def test_kucoins_price_of_0_moves_the_number_and_nothing_else() -> None:
    state, _ = after(Rule.KUCOIN, delta(5, 5), snapshot(4), delta(6, 6, bids=((0, 7),), asks=((0, 0),)))
    assert (state.is_in_sync, state.last_id) == (True, 6)
    assert (state.book.bids.top(), state.book.asks.top()) == (((10, 1),), ((12, 1),))


def test_kucoins_levels_go_by_their_own_numbers() -> None:
    old_and_new = Delta("M", 4, 8, None, ((10, 5), (9, 2), (9, 3)), ((12, 0), (13, 4)), (4, 8, 7), (6, 7))
    state, _ = after(Rule.KUCOIN, old_and_new, snapshot(6))
    # 4 and 6 are in the snapshot; of the two at 9 the newer one holds, wherever it stands.
    assert state.book.bids.top() == ((10, 1), (9, 2))
    assert state.book.asks.top() == ((12, 1), (13, 4))


@pytest.mark.parametrize("rule", NUMBERED)
def test_connections_that_overlap_lose_nothing(rule: Rule) -> None:
    records = [delta(5, 6), snapshot(5), Connected(1), delta(7, 8), delta(7, 8), Disconnected(0), delta(9, 9)]
    state, actions = after(rule, *records)
    assert (state.is_in_sync, state.last_id) == (True, 9)
    assert sum(isinstance(action, Gap) for action in actions) == 1
    state, _ = step(state, Disconnected(7), 20)
    assert state.is_in_sync
    state, _ = step(state, Disconnected(1), 30)
    assert state.phase is Phase.DISCONNECTED
    assert open_gap(state, 40) == Gap("M", (Reason.DISCONNECTED,), 8, 40, 9, None)
    state, actions = step(state, delta(10, 10), 41)
    assert (state.phase, actions) == (Phase.DISCONNECTED, ())


@pytest.mark.parametrize("rule", NUMBERED)
def test_what_goes_wrong_within_a_gap_is_told_by_it(rule: Rule) -> None:
    first = [delta(5, 6), snapshot(5), delta(9, 9), SnapshotFailed("slow"), Unreadable("odd"), snapshot(7), snapshot(8)]
    state, actions = after(rule, *first)
    assert state.is_in_sync
    assert actions.count(ASK) == 4
    gap = actions[-2]
    expected = (Reason.MISSED, Reason.SNAPSHOT_FAILED, Reason.UNREADABLE, Reason.STALE_SNAPSHOT)
    assert gap == Gap("M", expected, 3, 8, 6, 9)


@pytest.mark.parametrize("rule", NUMBERED)
def test_a_message_that_cannot_be_read_is_a_loss(rule: Rule) -> None:
    state, _ = after(rule, delta(5, 6), snapshot(5), Unreadable("odd"))
    assert (state.phase, state.lost) == (Phase.BUFFERING, (Reason.UNREADABLE,))


@pytest.mark.parametrize("rule", NUMBERED)
def test_a_crossed_book_is_a_loss(rule: Rule) -> None:
    state, _ = after(rule, delta(5, 6), snapshot(5), delta(7, 7, bids=((12, 1),)))
    assert (state.phase, state.lost) == (Phase.BUFFERING, (Reason.CROSSED,))
    assert not state.book.is_crossed


@pytest.mark.parametrize("rule", NUMBERED)
def test_a_price_beyond_a_snapshot_that_was_cut_is_a_loss(rule: Rule) -> None:
    bids, asks = ((10, 1), (9, 1)), ((12, 1),)
    gone = delta(7, 7, bids=((10, 0), (9, 0), (7, 1)))
    cut, _ = after(rule, delta(5, 6), snapshot(5, bids, asks), gone, depth=2)
    assert cut.lost == (Reason.OUT_OF_REACH,)
    whole, _ = after(rule, delta(5, 6), snapshot(5, bids, asks), gone, depth=3)
    assert (whole.is_in_sync, whole.book.bids.best) == (True, (7, 1))


DEEP = ((10, 1), (9, 1), (8, 1), (7, 1))


@pytest.mark.parametrize("rule", NUMBERED)
def test_before_the_price_leaves_a_snapshot_a_newer_one_takes_its_place_without_a_gap(rule: Rule) -> None:
    bids = {10: 0, 9: 0, 8: 0}
    state, actions = after(rule, delta(5, 6), snapshot(5, DEEP), depth=4)
    for n, price in enumerate(bids):
        state, done = step(state, delta(7 + n, 7 + n, bids=((price, 0),)), 20 + n)
        actions += done
    assert (state.is_in_sync, actions.count(ASK), state.reach) == (True, 2, (7, None))
    state, _ = step(state, delta(10, 10, bids=((8, 3),)), 30)
    state, done = step(state, snapshot(9, ((7, 1), (6, 1), (5, 1), (4, 1))), 31)
    assert done == (Changed("M", 10),)
    assert (state.is_in_sync, state.reach) == (True, (4, None))
    assert state.book.bids.top() == ((8, 3), (7, 1), (6, 1), (5, 1), (4, 1))
    assert (state.buffer, state.is_asked) == ((), False)


@pytest.mark.parametrize("rule", NUMBERED)
def test_a_newer_snapshot_that_does_not_fit_is_asked_for_again_and_one_that_differs_is_a_loss(rule: Rule) -> None:
    state, _ = after(rule, delta(5, 6), snapshot(5, DEEP), delta(7, 7), depth=4)
    for number, price in ((8, 10), (9, 9), (10, 8)):
        state, _ = step(state, delta(number, number, bids=((price, 0),)), 20)
    # One of the four bids that the snapshot showed is left.
    assert state.is_asked
    for record in (SnapshotFailed("slow"), snapshot(99, DEEP), snapshot(2, DEEP)):
        state, done = step(state, record, 30)
        assert (state.is_in_sync, done) == (True, (ASK,))
    state, done = step(state, snapshot(10, ((7, 2), (6, 1), (5, 1), (4, 1))), 31)
    assert (state.phase, state.lost, done) == (Phase.BUFFERING, (Reason.DISAGREED,), ())


def test_what_nobody_answers_is_let_go() -> None:
    state, actions = after(Rule.BINANCE, *(delta(n, n) for n in range(1, MOST_BUFFERED + 3)))
    assert len(state.buffer) == 2
    assert Reason.OVERFLOW in state.lost
    assert actions == [ASK, ASK]


@pytest.mark.parametrize("rule", list(Rule))
def test_other_markets_trades_and_what_a_rule_does_not_know_change_nothing(rule: Rule) -> None:
    state, _ = after(rule)
    foreign: list[Record] = [Trade("M", "1", 1, 1, True), replace(delta(1, 1), symbol="N")]
    foreign += [Checked("M", True, (), (), 0)] if rule is not Rule.KRAKEN else [delta(1, 1), snapshot(1)]
    for record in foreign:
        assert step(state, record, 9) == (state, ())


BOOK = Checked(
    "M",
    True,
    tuple((price, 5) for price in (45, 44, 43)),
    tuple((price, 7) for price in (46, 47, 48)),
    checksum(Ladder(((45, 5), (44, 5), (43, 5)), ((46, 7), (47, 7), (48, 7)))),
)
WRONG = Checked("M", False, ((45, 5),), (), 1)
QUOTE = Quote("M", None, 45, 5, 46, 7)


def test_krakens_checksum_is_that_of_its_documentation() -> None:
    asks = """45285.2 0.00100000 45286.4 1.54571953 45286.6 1.54571109 45289.6 1.54560911 45290.2 0.15890660
              45291.8 1.54553491 45294.7 0.04454749 45296.1 0.35380000 45297.5 0.09945542 45299.5 0.18772827"""
    bids = """45283.5 0.10000000 45283.4 1.54582015 45282.1 0.10000000 45281.0 0.10000000 45280.3 1.54592586
              45279.0 0.07990000 45277.6 0.03310103 45277.5 0.30000000 45277.3 1.54602737 45276.6 0.15445238"""
    sides = []
    for text in (bids, asks):
        words = text.split()
        pairs = zip(words[::2], words[1::2], strict=True)
        sides.append(",".join(f'{{"price":{price},"qty":{lots}}}' for price, lots in pairs))
    payload = (
        f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{sides[0]}],"asks":[{sides[1]}],'
        '"checksum":3310070434}]}'
    )
    (record,) = messages.kraken(payload.encode(), {"BTC/USD": Scale(1, 8)})
    assert isinstance(record, Checked)
    assert checksum(Ladder(record.bids, record.asks)) == record.checksum


def test_kraken_keeps_as_many_levels_as_were_asked_for() -> None:
    asks = ((47, 7), (48, 7))
    state, _ = after(Rule.KRAKEN, Checked("M", True, ((45, 5), (44, 5)), asks, crc(((45, 5), (44, 5)), asks)), depth=2)
    # 44 falls out without a word; that it is taken away while nobody sees it is not told either.
    state, _ = step(state, Checked("M", False, ((46, 1),), (), crc(((46, 1), (45, 5)), asks)), 5)
    state, _ = step(state, Checked("M", False, ((46, 0), (43, 2)), (), crc(((45, 5), (43, 2)), asks)), 6)
    assert (state.is_in_sync, state.book.bids.top()) == (True, ((45, 5), (43, 2)))


def crc(bids: Levels, asks: Levels) -> int:
    return checksum(Ladder(bids, asks))


def test_a_wrong_checksum_begins_the_subscription_again() -> None:
    state, actions = after(Rule.KRAKEN, BOOK, WRONG, WRONG)
    # What still comes of the old subscription is not looked at.
    assert (state.phase, actions[-1], actions.count(SUBSCRIBE)) == (Phase.BUFFERING, SUBSCRIBE, 1)
    state, actions = step(state, BOOK, 50)
    assert actions[0] == Gap("M", (Reason.CHECKSUM,), 2, 50, None, None)
    assert state.is_in_sync


def test_three_wrong_checksums_with_the_ticker_on_the_books_side_are_not_believed() -> None:
    state, actions = after(Rule.KRAKEN, QUOTE, BOOK, WRONG, BOOK, WRONG, BOOK, WRONG)
    assert (state.phase, state.is_in_sync) == (Phase.UNTRUSTED, False)
    assert actions.count(SUBSCRIBE) == 2
    assert actions[-2:] == [Gap("M", (Reason.CHECKSUM,), 7, 8, None, None), Changed("M", None, is_trusted=False)]
    # The book goes on, whatever the checksum says.
    state, actions = step(state, Checked("M", False, ((45, 9),), (), 2), 60)
    assert actions == (Changed("M", None, is_trusted=False),)
    assert state.book.bids.best == (45, 9)
    state, _ = step(state, Disconnected(), 70)
    state, _ = step(state, Connected(), 80)
    state, actions = step(state, BOOK, 90)
    assert actions[0] == Gap("M", (Reason.UNTRUSTED, Reason.DISCONNECTED), 8, 90, None, None)
    assert state.is_in_sync


@pytest.mark.parametrize("quote", [None, replace(QUOTE, bid=44), replace(QUOTE, ask=47)])
def test_without_the_ticker_on_its_side_a_book_is_fetched_again_and_again(quote: Quote | None) -> None:
    told = [BOOK, WRONG] * 6
    state, actions = after(Rule.KRAKEN, *([quote] if quote else []), *told)
    assert state.phase is Phase.BUFFERING
    assert actions.count(SUBSCRIBE) == 6


def test_wrong_checksums_that_lie_far_apart_are_each_a_loss() -> None:
    state, _ = after(Rule.KRAKEN, QUOTE)
    asked = 0
    for n in range(6):
        for record in (BOOK, WRONG):
            state, actions = step(state, record, 10 + n * (MISMATCH_NS // 2 + 1))
            asked += SUBSCRIBE in actions
    assert (state.phase, asked) == (Phase.BUFFERING, 6)


def test_krakens_refusal_and_second_connection() -> None:
    state, actions = after(Rule.KRAKEN, SnapshotFailed("refused"))
    assert actions == [SUBSCRIBE]
    state, actions = after(Rule.KRAKEN, BOOK, Connected(1))
    assert (state.phase, state.lost) == (Phase.BUFFERING, (Reason.RECONNECTED,))


@pytest.mark.parametrize("rule", list(Rule))
def test_a_checkpoint_is_the_whole_state_and_knows_when_it_is_damaged(rule: Rule) -> None:
    told: list[Record] = [QUOTE, BOOK] if rule is Rule.KRAKEN else [QUOTE, delta(5, 6), snapshot(5), delta(9, 9)]
    state, _ = after(rule, *told)
    kept = checkpoint(state)
    again = restored(kept)
    assert again == state
    assert again.book.digest() == state.book.digest()
    assert checkpoint(again) == kept
    for place in range(0, len(kept), 7):
        damaged = kept[:place] + bytes([kept[place] ^ 4]) + kept[place + 1 :]
        with pytest.raises(CheckpointError):
            restored(damaged)
        with pytest.raises(CheckpointError):
            restored(kept[:place])


def test_a_state_that_was_copied_outlives_the_next_step() -> None:
    state, _ = after(Rule.BINANCE, delta(5, 6), snapshot(5))
    kept = copied(state)
    step(state, delta(7, 7, bids=((10, 0), (9, 1))), 9)
    assert kept.book.bids.top() == ((10, 1),)
