"""A venue that is honest, behind a line that is not: what it sends is true, and what arrives is not all of it.

The truth is kept at every number, so that a machine that says it is in sync can be held to it. Messages are bytes, as
the venue of the rule writes them, and go through the same readers as recorded ones.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from mm_dagster.books.checkpoint import checkpoint, restored
from mm_dagster.books.ladder import Ladder, Scale
from mm_dagster.books.messages import Connected, Disconnected, Record, SnapshotFailed
from mm_dagster.books.reading import answered, pushed
from mm_dagster.books.sync import (
    Action,
    AskSnapshot,
    Changed,
    Gap,
    Phase,
    Resubscribe,
    Rule,
    State,
    begin,
    open_gap,
    step,
)

SCALES = {"M": Scale(2, 3)}
Levels = dict[int, int]
Book = tuple[Levels, Levels]
Raw = tuple[str, bytes]
"""Where it came from (socket, answer, line), and its bytes."""
GARBAGE = (
    b"",
    b"<html>502 Bad Gateway</html>",
    b'{"topic":',
    b"\xff\xfe\x00",
    b"[]",
    b'{"code":"429000","msg":"slow"}',
)


def price_text(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}"


def lots_text(lots: int) -> str:
    return f"{lots // 1000}.{lots % 1000:03d}"


def best(levels: Levels, sign: int, count: int | None = None) -> list[tuple[int, int]]:
    return sorted(levels.items(), key=lambda level: -sign * level[0])[:count]


def crc(book: Book) -> int:
    levels = best(book[1], -1, 10) + best(book[0], 1, 10)
    digits = [text.replace(".", "").lstrip("0") for one in levels for text in (price_text(one[0]), lots_text(one[1]))]
    return zlib.crc32("".join(digits).encode())


class Venue:
    """The truth, and the messages that tell of it."""

    def __init__(self, rule: Rule, rng: random.Random, depth: int) -> None:
        self.rule, self.rng, self.depth = rule, rng, depth
        bids = {100_000 - 1 - n: rng.randint(1, 500_000) for n in range(25)}
        asks = {100_000 + 1 + n: rng.randint(1, 500_000) for n in range(25)}
        self.book: Book = (bids, asks)
        self.number = rng.randint(1, 10**12)
        self.told = self.number
        self.truth: dict[int, Book] = {self.number: (dict(bids), dict(asks))}

    def _change(self) -> tuple[int, int, int] | None:
        """One level changes: side, price, lots. None: the number moves on alone."""
        rng = self.rng
        self.number += rng.choice((1, 1, 2, 5)) if self.rule is Rule.BINANCE_USDM else 1
        made = None
        if rng.random() > 0.1:
            side = rng.randrange(2)
            sign = 1 - 2 * side
            other = best(self.book[1 - side], -sign, 1)[0][0]
            price = other - sign * (1 + int(rng.expovariate(0.2)))
            if rng.random() < 0.5:
                price = best(self.book[side], sign, 1)[0][0]
            lots = 0 if rng.random() < 0.45 and len(self.book[side]) > 12 else rng.randint(1, 500_000)
            if lots:
                self.book[side][price] = lots
            else:
                self.book[side].pop(price, None)
            made = (side, price, lots)
        self.truth[self.number] = (dict(self.book[0]), dict(self.book[1]))
        return made

    def message(self) -> tuple[int, bytes]:
        """The next message: its last number, and its bytes."""
        before = (dict(self.book[0]), dict(self.book[1]))
        previous, first = self.told, None
        changes = []
        for _ in range(self.rng.randint(1, 4)):
            made = self._change()
            first = self.number if first is None else first
            changes.append((made, self.number))
        self.told = self.number
        if self.rule is Rule.KUCOIN:
            found: dict[str, list[list[str]]] = {"bids": [], "asks": []}
            for made, number in changes:
                side, price, lots = made or (self.rng.randrange(2), 0, 0)
                texts = [price_text(price), lots_text(lots), str(number)] if made else ["0", "0", str(number)]
                found["bids" if side == 0 else "asks"].append(texts)
            data = {"symbol": "M", "sequenceStart": first, "sequenceEnd": self.number, "changes": found}
            sent: dict[str, object] = {"type": "message", "topic": "/market/level2:M", "data": data}
        elif self.rule is Rule.KRAKEN:
            return self.number, self.kraken(before)
        else:
            last = {(made[0], made[1]): made[2] for made, _ in changes if made}
            sides = [
                [[price_text(price), lots_text(lots)] for (on, price), lots in last.items() if on == side]
                for side in (0, 1)
            ]
            sent = {"e": "depthUpdate", "s": "M", "U": first, "u": self.number, "b": sides[0], "a": sides[1]}
            if self.rule is Rule.BINANCE_USDM:
                sent["pu"] = previous
        return self.number, json.dumps(sent).encode()

    def kraken(self, before: Book | None) -> bytes:
        """What changed in the levels that were asked for; None: all of them."""
        sides = []
        for side, sign in ((0, 1), (1, -1)):
            now = dict(best(self.book[side], sign, self.depth))
            was = {} if before is None else dict(best(before[side], sign, self.depth))
            told = [(price, lots) for price, lots in now.items() if was.get(price) != lots]
            # What falls out at the end is not told, what was taken away is.
            told += [(price, 0) for price in was if price not in self.book[side]]
            if before is not None:
                self.rng.shuffle(told)
            sides.append(",".join(f'{{"price":{price_text(price)},"qty":{lots_text(lots)}}}' for price, lots in told))
        kind = "snapshot" if before is None else "update"
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"M","bids":[{sides[0]}],"asks":[{sides[1]}],'
            f'"checksum":{crc(self.book)}}}]}}'
        ).encode()

    def quote(self) -> bytes:
        """Kraken's best prices."""
        (bid, bid_lots), (ask, ask_lots) = best(self.book[0], 1, 1)[0], best(self.book[1], -1, 1)[0]
        return (
            f'{{"channel":"ticker","type":"update","data":[{{"symbol":"M","bid":{price_text(bid)},'
            f'"bid_qty":{lots_text(bid_lots)},"ask":{price_text(ask)},"ask_qty":{lots_text(ask_lots)}}}]}}'
        ).encode()

    def snapshot(self, number: int) -> bytes:
        """The book at a number, as far as it was asked for."""
        bids, asks = (
            [[price_text(price), lots_text(lots)] for price, lots in best(self.truth[number][side], sign, self.depth)]
            for side, sign in ((0, 1), (1, -1))
        )
        if self.rule is Rule.KUCOIN:
            data = {"time": 1, "sequence": str(number), "bids": bids, "asks": asks}
            return json.dumps({"code": "200000", "data": data}).encode()
        return json.dumps({"lastUpdateId": number, "bids": bids, "asks": asks}).encode()


@dataclass
class Trial:
    """What came of one.

    Attributes:
        wrong: moments in which the machine said in sync and the book was not the truth.
        synced: moments in which it said so.
        losses: times that it fell out of sync.
        untold: moments out of sync in no gap, gaps with a moment in sync after one that is not, and gaps
            that overlap.
        renewed: snapshots that took the place of a book in sync.
        gaps: what it told of them.
        uncovered: messages that never arrived and that no gap tells of, where the venue numbers them.
        dropped: messages that never arrived.
        differ: replays from a checkpoint that ended elsewhere or did something else.
        replays: of them.
        is_live: at the end, with the line in order, it was in sync again, or told that it cannot trust the checksum.
        reasons: of the gaps.
        faults: that were made.
    """

    wrong: int = 0
    synced: int = 0
    losses: int = 0
    untold: int = 0
    renewed: int = 0
    gaps: list[Gap] = field(default_factory=list)
    uncovered: int = 0
    dropped: int = 0
    differ: int = 0
    replays: int = 0
    is_live: bool = False
    reasons: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)


def read(rule: Rule, raw: Raw) -> tuple[Record, ...]:
    """What a recorder's log says again in a replay."""
    source, payload = raw
    if source == "line":
        word, number = payload.split()
        return (Connected(int(number)) if word == b"up" else Disconnected(int(number)),)
    if source == "answer":
        return (answered(rule, payload, "M", SCALES["M"]),)
    if source == "timeout":
        return (SnapshotFailed("no answer"),)
    return pushed(rule, payload, SCALES)


class Line:
    """What a trial does to the messages on their way."""

    def __init__(self, rule: Rule, seed: int, steps: int = 120, is_good: bool = False) -> None:
        self.rng = random.Random(f"{rule}{seed}")
        self.rule = rule
        depth = self.rng.choice((10, 10, 25) if rule is Rule.KRAKEN else (8, 15, 1000))
        self.venue = Venue(rule, self.rng, depth)
        self.rates = {
            name: self.rng.choice((0.0, 0.01, 0.05))
            for name in ("drop", "twice", "late", "swap", "cut", "garbage", "checksum", "digit", "overlap")
        }
        if rule is Rule.KRAKEN and seed % 5 == 0:
            self.rates["checksum"] = 0.3  # as if the venue changed how it counts
        self.fails, self.stale = self.rng.choice((0.0, 0.3, 0.6)), self.rng.choice((0.0, 0.3, 0.6))
        if is_good:
            self.rates, self.fails, self.stale = dict.fromkeys(self.rates, 0.0), 0.0, 0.0
        self.dt_ns = self.rng.choice((10**7, 10**9, 20 * 10**9))
        self.now_ns = 10**18
        self.state = begin(rule, "M", self.now_ns, depth)
        self.steps = steps
        self.trial = Trial()
        self.log: list[tuple[int, Raw]] = []
        self.kept: list[tuple[int, bytes]] = []
        self.actions: list[tuple[int, Action]] = []
        self.pending: list[tuple[int, Raw, int | None]] = []
        self.lost_messages: list[int] = []
        self.up: list[int] = []
        self.connections = 0
        self.now = 0
        self.held: tuple[int, bytes] | None = None
        self.subscribed_at: int | None = None
        self.moments: list[tuple[int, bool]] = []
        self.arrived: set[int] = set()

    def roll(self, fault: str) -> bool:
        hit = self.now < self.steps and self.rng.random() < self.rates[fault]
        self.trial.faults[fault] += hit
        return hit

    def give(self, raw: Raw, number: int | None = None) -> None:
        """One record arrives, and what the machine says is held to the truth."""
        self.now_ns += self.rng.randint(0, self.dt_ns)
        if self.rng.random() < 0.03:
            self.kept.append((len(self.log), checkpoint(self.state)))
        self.log.append((self.now_ns, raw))
        for record in read(self.rule, raw):
            before = self.state.is_in_sync
            self.state, actions = step(self.state, record, self.now_ns)
            self.trial.losses += before and not self.state.is_in_sync
            changed = any(isinstance(action, Changed) for action in actions)
            self.trial.renewed += raw[0] == "answer" and before and self.state.is_in_sync and changed
            for action in actions:
                self.actions.append((self.now, action))
                self.act(action)
        self.moments.append((self.now_ns, self.state.is_in_sync))
        if raw[0] == "socket" and number is not None:
            self.arrived.add(number)
        if self.state.is_in_sync:
            self.trial.synced += 1
            if self.rule is not Rule.KRAKEN:
                self.trial.wrong += not is_true(self.state, self.venue.truth[self.state.last_id or 0])
            elif number is not None:
                self.trial.wrong += not is_true_at_the_top(self.state.book, self.venue.truth[number])

    def act(self, action: Action) -> None:
        if isinstance(action, Gap):
            self.trial.gaps.append(action)
            self.trial.reasons.update(reason.value for reason in action.reasons)
        elif isinstance(action, AskSnapshot):
            self.answer()
        elif isinstance(action, Resubscribe):
            self.subscribed_at = self.now + self.rng.randint(1, 4)

    def answer(self) -> None:
        """A request for a snapshot is on its way: it fails, is of before, or is true."""
        due = self.now + self.rng.randint(1, 6)
        calm = self.now >= self.steps
        if not calm and self.rng.random() < self.fails:
            self.trial.faults["failed"] += 1
            bad: Raw = ("timeout", b"") if self.rng.random() < 0.5 else ("answer", self.rng.choice(GARBAGE))
            self.pending.append((due, bad, None))
            return
        numbers = list(self.venue.truth)
        back = 0
        if not calm and self.rng.random() < self.stale:
            self.trial.faults["stale"] += 1
            back = self.rng.randint(1, 40)
        self.pending.append((due, ("answer", b""), numbers[max(0, len(numbers) - 1 - back)] if back else None))

    def run(self) -> Trial:
        """Faults for so many steps, then a line in order until the machine has had time to find back."""
        self.connect()
        calm = 0
        # A price may leave the snapshot in the very last step: then it needs a few more.
        while calm < 60 or (calm < 120 and self.state.phase not in (Phase.IN_SYNC, Phase.UNTRUSTED)):
            self.tick()
            self.now += 1
            calm += self.now > self.steps
        self.settle()
        return self.trial

    def connect(self) -> None:
        self.connections += 1
        self.up.append(self.connections)
        self.give(("line", b"up %d" % self.connections))
        if self.rule is Rule.KRAKEN:
            self.subscribed_at = self.now

    def tick(self) -> None:
        if not self.up:
            # Nobody listens; the venue goes on.
            number, _ = self.venue.message()
            self.lost_messages.append(number)
            if self.now >= self.steps or self.rng.random() < 0.4:
                self.connect()
            return
        if self.roll("cut"):
            for connection in list(self.up):
                self.up.remove(connection)
                self.give(("line", b"down %d" % connection))
            self.held = None
            if self.rule is Rule.KRAKEN:
                self.pending.clear()
            return
        if self.rule is not Rule.KRAKEN and self.roll("overlap"):
            self.connect()
        elif len(self.up) > 1 and self.rng.random() < 0.2:
            self.give(("line", b"down %d" % self.up.pop(0)))
        if self.rule is Rule.KRAKEN:
            self.kraken()
        else:
            self.numbered()
        self.deliver()

    def kraken(self) -> None:
        if self.subscribed_at is not None and self.now >= self.subscribed_at:
            if self.now < self.steps and self.rng.random() < self.fails:
                self.trial.faults["failed"] += 1
                self.subscribed_at = None
                self.give(("socket", b'{"method":"subscribe","success":false,"error":"Rate limit"}'))
                return
            self.subscribed_at = None
            self.held = None
            self.pending.clear()
            self.give(("socket", self.spoiled(self.venue.kraken(None))), self.venue.number)
        if self.rng.random() < 0.8:
            self.give(("socket", self.venue.quote()))
        number, payload = self.venue.message()
        self.send(number, self.spoiled(payload))

    def spoiled(self, payload: bytes) -> bytes:
        if self.roll("checksum"):
            head, _, crc32 = payload.rpartition(b'"checksum":')
            return head + b'"checksum":%d}]}' % (int(crc32.rstrip(b"}]")) ^ 1)
        if self.roll("digit"):
            return payload.replace(b'"qty":', b'"qty":7', 1)
        return payload

    def numbered(self) -> None:
        number, payload = self.venue.message()
        self.send(number, payload)
        if len(self.up) > 1:
            self.send(number, payload)

    def send(self, number: int, payload: bytes) -> None:
        if self.roll("drop"):
            self.lost_messages.append(number)
            return
        if self.roll("garbage"):
            self.lost_messages.append(number)
            payload = payload[: self.rng.randrange(len(payload))] if self.rng.random() < 0.7 else b"\x00\xff"
            self.give(("socket", payload))
            return
        if self.roll("late"):
            self.pending.append((self.now + self.rng.randint(1, 8), ("socket", payload), number))
            return
        if self.held is None and self.roll("swap"):
            self.held = (number, payload)
            return
        self.give(("socket", payload), number)
        if self.roll("twice"):
            self.give(("socket", payload), number)
        if self.held is not None:
            held, self.held = self.held, None
            self.give(("socket", held[1]), held[0])

    def deliver(self) -> None:
        due = [one for one in self.pending if one[0] <= self.now]
        self.pending = [one for one in self.pending if one[0] > self.now]
        for _, (source, payload), number in due:
            if source == "answer" and not payload:
                # The venue looks at its book when it answers, in the middle of a batch or not.
                self.give(("answer", self.venue.snapshot(number or self.at_about_now())))
            else:
                self.give((source, payload), number)

    def at_about_now(self) -> int:
        return list(self.venue.truth)[-self.rng.randint(1, 4) :][0]

    def settle(self) -> None:
        """Asks at the end what has to hold for a whole trial."""
        trial = self.trial
        trial.is_live = self.state.phase in (Phase.IN_SYNC, Phase.UNTRUSTED)
        still = open_gap(self.state, self.now_ns)
        trial.dropped = sum(number not in self.arrived for number in self.lost_messages)
        if self.rule is not Rule.KRAKEN:
            for number in self.lost_messages:
                told = any((gap.from_id or 0) < number <= (gap.to_id or 0) for gap in trial.gaps)
                ahead = still is not None or (self.state.last_id or 0) < number
                trial.uncovered += not (told or ahead or number in self.arrived)
        spans = [(gap.from_ns, gap.to_ns) for gap in trial.gaps] + ([(still.from_ns, still.to_ns)] if still else [])
        trial.untold += sum(after[0] < before[1] for before, after in pairwise(spans))
        for at_ns, is_in_sync in self.moments:
            trial.untold += not is_in_sync and not any(start <= at_ns <= end for start, end in spans)
        for start, end in spans:
            # A gap begins with the last change that was taken: what came between it and the loss was no change.
            within = [is_in_sync for at_ns, is_in_sync in self.moments if start < at_ns < end]
            trial.untold += within != sorted(within, reverse=True)
        for place, kept in self.kept:
            state, again = restored(kept), []
            for at_ns, raw in self.log[place:]:
                for record in read(self.rule, raw):
                    state, actions = step(state, record, at_ns)
                    again += actions
            trial.replays += 1
            same = checkpoint(state) == checkpoint(self.state) and state.book.digest() == self.state.book.digest()
            trial.differ += not (same and again == [one for _, one in self.actions][len(self.actions) - len(again) :])


def is_true(state: State, truth: Book) -> bool:
    """Whether a book is the truth, as far as the snapshot under it reached."""
    far_bid, far_ask = state.reach
    bids = {price: lots for price, lots in truth[0].items() if far_bid is None or price >= far_bid}
    asks = {price: lots for price, lots in truth[1].items() if far_ask is None or price <= far_ask}
    own_bids = {price: lots for price, lots in state.book.bids.top() if far_bid is None or price >= far_bid}
    own_asks = {price: lots for price, lots in state.book.asks.top() if far_ask is None or price <= far_ask}
    is_best = state.book.bids.best == best(truth[0], 1, 1)[0] and state.book.asks.best == best(truth[1], -1, 1)[0]
    return is_best and own_bids == bids and own_asks == asks


def is_true_at_the_top(book: Ladder, truth: Book) -> bool:
    """Whether the levels are true that Kraken's checksum vouches for."""
    return list(book.bids.top(10)) == best(truth[0], 1, 10) and list(book.asks.top(10)) == best(truth[1], -1, 10)
