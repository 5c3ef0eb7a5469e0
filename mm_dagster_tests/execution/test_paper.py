"""On paper as at an exchange: the same questions, the same answers, and on the same books the same fills to the lot."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.books.book import Book, parse
from mm_dagster.execution.drive import Driver, World
from mm_dagster.execution.journal import Journal, JournalError
from mm_dagster.execution.machine import Terms, client_id
from mm_dagster.execution.paper import Ledger, PaperVenue, Update, taken
from mm_dagster.market.order_venue import MarketRules, OrderVenue
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.execution import recorded_books
from mm_dagster_tests.execution.exchange import Exchange, InProcess
from mm_dagster_tests.execution.matching import Matching
from mm_dagster_tests.execution.recorded_books import Recorded
from mm_dagster_tests.execution.trials import Clock, Killed, deadly, propose

SYMBOL, PLAN = "SOL-USDT", "abcdefgh"
RULES = MarketRules(Decimal("0.01"), Decimal("0.1"), Decimal("0.05"), Decimal(1))
FEE = Decimal("0.001")
KUCOIN = ("ANKR-BTC", "BCHSV-USDT", "CAPP-BTC", "COV-BTC", "DAPPT-BTC", "EQZ-BTC", "FET-BTC", "NRG-BTC", "SNX-BTC")
KRAKEN = ("XMR/USD", "SC/EUR", "ADA/XBT", "OMG/USD", "ETH/CHF", "WAVES/EUR", "KSM/XBT")
BINANCE = ("ETH-USDT", "BTC-USDT")
FEW = ("binance ETH-USDT", "kucoin SNX-BTC", "kraken XMR/USD")
REST = [
    f"{venue} {symbol}"
    for venue, symbols in (("binance", BINANCE), ("kucoin", KUCOIN), ("kraken", KRAKEN))
    for symbol in symbols
    if f"{venue} {symbol}" not in FEW
]
MARKETS = (*FEW, *(pytest.param(one, marks=pytest.mark.long) for one in REST))


@dataclass
class Account:
    """One account, wherever it is: which book its next sale meets, and how it is asked.

    Attributes:
        venue: it.
        meets: sets the book by its place among the recorded ones.
        reopened: the same account after the process was killed.
    """

    venue: OrderVenue
    meets: Callable[[int], None]
    reopened: Callable[[], OrderVenue]


def _on_paper(folder: Path, books: Sequence[Recorded], rules: MarketRules, amount: Decimal) -> Account:
    at = [0]

    def opened() -> PaperVenue:
        ledger = Ledger(folder)
        ledger.open(PLAN, f"test {SYMBOL}", rules, amount)
        return PaperVenue(ledger, PLAN, rules, FEE, lambda: Update(str(at[0]), books[at[0]].book), lambda: 0.0)

    return Account(opened(), lambda place: at.__setitem__(0, place), opened)


def _at_exchange(folder: Path, books: Sequence[Recorded], rules: MarketRules, amount: Decimal) -> Account:
    market = Matching(rules.lot)
    exchange = Exchange(lambda: 0.0, rules, amount, fee=FEE, walks=market, request_window=10.0)
    at = [-1]

    def meets(place: int) -> None:
        if place != at[0]:
            at[0] = place
            market.stands(books[place].bids, books[place].asks)

    meets(0)
    return Account(InProcess(exchange), meets, lambda: InProcess(exchange))


KINDS = {"paper": _on_paper, "exchange": _at_exchange}


@pytest.fixture(params=KINDS)
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Account:
    """Three buyers, twice."""
    bids = ((Decimal("100.0"), Decimal("1.005")), (Decimal("99.9"), Decimal("2")), (Decimal("99.0"), Decimal("50")))
    book = Recorded(0.0, bids, ((Decimal("100.2"), Decimal(5)),))
    made: Account = KINDS[request.param](tmp_path, [book, replace(book, seconds=1.0)], RULES, Decimal("10.009"))
    return made


def _sold(venue: OrderVenue, number: int) -> tuple[Decimal, Decimal, Decimal | None]:
    record = venue.record(SYMBOL, client_id(PLAN, number))
    assert record is not None
    assert not record.is_open
    return record.filled, record.proceeds, record.fee


def _sell(venue: OrderVenue, number: int, amount: str, limit: str) -> None:
    venue.sell(SYMBOL, client_id(PLAN, number), Decimal(amount), Decimal(limit))


# what both do ---------------------------------------------------------------------------------------------------------


def test_a_sale_takes_the_best_levels_first_in_whole_lots(account: Account) -> None:
    _sell(account.venue, 1, "2.5", "99")
    proceeds = Decimal(100) + Decimal("1.5") * Decimal("99.9")
    assert _sold(account.venue, 1) == (Decimal("2.5"), proceeds, proceeds * FEE)
    assert account.venue.holding(SYMBOL).free == pytest.approx(Decimal("7.5"), abs=RULES.lot)


def test_nothing_is_sold_below_the_limit_and_the_rest_is_cancelled(account: Account) -> None:
    _sell(account.venue, 1, "5", "99.9")
    assert _sold(account.venue, 1)[0] == Decimal("3")
    _sell(account.venue, 2, "5", "100.1")
    assert _sold(account.venue, 2) == (0, 0, 0)
    assert account.venue.open_orders(SYMBOL) in ((), [])


def test_two_sales_at_one_book_do_not_take_a_level_twice_and_the_next_book_has_it_again(account: Account) -> None:
    _sell(account.venue, 1, "2", "99.9")
    _sell(account.venue, 2, "2", "99.9")
    account.meets(1)
    _sell(account.venue, 3, "2", "99.9")
    assert [_sold(account.venue, number)[0] for number in (1, 2, 3)] == [2, 1, 2]


def test_what_is_not_there_is_not_on_record(account: Account) -> None:
    assert account.venue.record(SYMBOL, client_id(PLAN, 7)) is None


def test_more_than_is_held_is_refused_and_leaves_no_record(account: Account) -> None:
    with pytest.raises(VenueError):
        _sell(account.venue, 1, "10.02", "99")
    assert account.venue.record(SYMBOL, client_id(PLAN, 1)) is None
    assert account.venue.holding(SYMBOL).total == pytest.approx(Decimal(10), abs=RULES.lot)


def test_a_killed_process_finds_its_orders_and_the_levels_that_they_took(account: Account) -> None:
    _sell(account.venue, 1, "2", "99.9")
    again = account.reopened()
    assert _sold(again, 1)[0] == 2
    _sell(again, 2, "2", "99.9")
    assert _sold(again, 2)[0] == 1


def test_what_is_not_open_cannot_be_cancelled(account: Account) -> None:
    _sell(account.venue, 1, "2", "99.9")
    record = account.venue.record(SYMBOL, client_id(PLAN, 1))
    assert record is not None
    with pytest.raises(VenueError):
        account.venue.cancel(SYMBOL, record.order_id)


# on recorded books ----------------------------------------------------------------------------------------------------


@cache
def _books(data: Path, market: str) -> list[Recorded]:
    source, symbol = market.split(" ")
    if source == "binance":
        return recorded_books.binance(data, symbol)
    return _kucoin(data)[symbol] if source == "kucoin" else recorded_books.kraken(data, symbol)


@cache
def _kucoin(data: Path) -> dict[str, list[Recorded]]:
    return recorded_books.kucoin(data)


def _rules(books: Sequence[Recorded], coarser: int) -> MarketRules:
    # An account's amounts have eight digits at most, whatever rests.
    found = recorded_books.rules_of(books)
    return replace(found, lot=max(found.lot, Decimal("1E-8")) * coarser)


@pytest.mark.slow
@pytest.mark.parametrize("coarser", [1, 1_000])
@pytest.mark.parametrize("market", MARKETS)
def test_on_recorded_books_paper_fills_what_a_matching_engine_fills_to_the_lot(
    market: str, coarser: int, shared_data: Path, tmp_path: Path
) -> None:
    books = _books(shared_data, market)
    rules, chance = _rules(books, coarser), random.Random(f"{market} {coarser}")
    shown = sum((amount for _, amount in books[0].bids), Decimal(0))
    total = rules.amount(rules.lots(shown * 100))
    both = [kind(tmp_path / name, books, rules, total) for name, kind in KINDS.items()]
    partial = number = 0
    for place in sorted(chance.sample(range(len(books)), min(25, len(books)))):
        for one in both:
            one.meets(place)
        for _ in range(chance.randint(1, 3)):
            number += 1
            lots = max(1, rules.lots(shown * Decimal(repr(10 ** chance.uniform(-4, 0.3)))))
            mid = Decimal(repr(books[place].book.mid))
            limit = rules.limit(mid * (1 - Decimal(chance.choice([0, 5, 50, 500, 5_000])) / 10_000))
            for one in both:
                one.venue.sell(SYMBOL, client_id(PLAN, number), rules.amount(lots), limit)
            paper, real = (_sold(one.venue, number) for one in both)
            assert paper == real, (place, lots, limit)
            partial += 0 < real[0] < rules.amount(lots)
    assert both[0].venue.holding(SYMBOL) == both[1].venue.holding(SYMBOL)
    assert Ledger(tmp_path / "paper").faults(PLAN) == []
    assert number > 25
    assert partial > 0


@pytest.mark.parametrize("market", FEW)
def test_a_whole_plan_is_carried_out_on_paper_as_at_an_exchange(market: str, shared_data: Path, tmp_path: Path) -> None:
    """Slices at the books that follow each other, each met a moment after it was asked for."""
    books = _books(shared_data, market)
    rules = replace(_rules(books, 100), least=_rules(books, 100).lot * 7)
    inventory = rules.amount(rules.lots(sum((amount for _, amount in books[0].bids[:5]), Decimal(0))))
    ended = {}
    for name, kind in KINDS.items():
        clock = Clock()
        begun = clock.now

        def place(late: float, clock: Clock = clock, begun: float = begun) -> int:
            # The recordings last half a minute or eleven minutes: told slower, so that each slice meets another book.
            gone = (clock.now + late - begun) * books[-1].seconds / 700.0
            return max(number for number, one in enumerate(books) if one.seconds <= gone or number == 0)

        account = kind(tmp_path / name, books, rules, inventory)
        sell = account.venue.sell

        def late(*args, account=account, sell=sell, place=place):  # type: ignore[no-untyped-def]
            account.meets(place(0.3))
            sell(*args)

        account.venue.sell = late  # type: ignore[method-assign]
        journal = Journal(tmp_path / name)
        terms = Terms(
            PLAN, SYMBOL, rules, rules.lots(inventory), Decimal(0), frozenset(), frozenset(), (), "operator", 5, 60.0,
            Decimal("0.005"), Decimal(10_000_000), 15.0,
        )  # fmt: skip
        propose(journal, terms, clock.utc(), mode="paper")
        journal.approve(PLAN, terms, "paper", clock.utc(), None)
        world = World(
            account.venue, lambda place=place: books[place(0.0)].book, None, clock.seconds, clock.sleep, clock.utc,
            lambda: False,
        )  # fmt: skip
        ended[name] = Driver(journal, PLAN, world).run()
    paper, real = ended["paper"], ended["exchange"]
    assert paper.plan == real.plan
    assert paper.mids == real.mids
    assert len(paper.plan.orders) > 1
    assert sum(order.filled for order in paper.plan.orders) > 0


# what is paper's own --------------------------------------------------------------------------------------------------


def _venue(folder: Path, after: Callable[[], Update], seconds: Callable[[], float] = lambda: 0.0) -> PaperVenue:
    ledger = Ledger(folder)
    ledger.open(PLAN, "test", RULES, Decimal(10))
    return PaperVenue(ledger, PLAN, RULES, FEE, after, seconds)


def _two() -> Book:
    return parse([(100.0, 1.0), (99.9, 1.0)], [(100.2, 1.0)])


@pytest.mark.parametrize(
    ("amount", "limit", "said"),
    [
        ("1.001", "99", "no whole steps"),
        ("1", "99.05", "no whole steps"),
        ("0.04", "99", "smallest order"),
        ("0.05", "19.9", "smallest order"),
        ("0", "99", "smallest order"),
        ("-1", "99", "smallest order"),
        ("11", "99", "more than the 1000"),
    ],
)
def test_what_the_market_does_not_take_is_refused(amount: str, limit: str, said: str, tmp_path: Path) -> None:
    venue = _venue(tmp_path, lambda: Update("1", _two()))
    with pytest.raises(VenueError, match=said):
        _sell(venue, 1, amount, limit)
    assert venue.record(SYMBOL, client_id(PLAN, 1)) is None
    assert Ledger(tmp_path).faults(PLAN) == []


def test_a_number_is_used_once(tmp_path: Path) -> None:
    venue = _venue(tmp_path, lambda: Update("1", _two()))
    _sell(venue, 1, "1", "99")
    with pytest.raises(VenueError, match="an order of this number"):
        _sell(venue, 1, "1", "99")
    assert Ledger(tmp_path).balance(PLAN).held == 900


def test_a_sale_that_comes_too_late_does_not_happen(tmp_path: Path) -> None:
    now = [0.0]

    def slow() -> Update:
        now[0] += 10.5
        return Update("1", _two())

    venue = _venue(tmp_path, slow, lambda: now[0])
    with pytest.raises(VenueError, match="no answer within 10 s"):
        _sell(venue, 1, "1", "99")
    assert venue.record(SYMBOL, client_id(PLAN, 1)) is None


def test_without_a_book_nothing_is_sold(tmp_path: Path) -> None:
    def none() -> Update:
        raise VenueError("no order book")

    venue = _venue(tmp_path, none)
    with pytest.raises(VenueError, match="no order book"):
        _sell(venue, 1, "1", "99")
    assert venue.holding(SYMBOL).total == 10


def test_an_account_is_opened_once(tmp_path: Path) -> None:
    venue = _venue(tmp_path, lambda: Update("1", _two()))
    _sell(venue, 1, "1", "99")
    Ledger(tmp_path).open(PLAN, "test", RULES, Decimal(50))
    assert Ledger(tmp_path).balance(PLAN)[1:3] == (1_000, 900)
    with pytest.raises(JournalError, match="no account other"):
        Ledger(tmp_path).balance("other")


def test_two_grids_of_one_market_share_its_buyers_and_two_markets_do_not(tmp_path: Path) -> None:
    ledger, update = Ledger(tmp_path), Update("7", _two())
    for name, market in (("first", "a"), ("second", "a"), ("third", "b")):
        ledger.open(name, market, RULES, Decimal(10))
        venue = PaperVenue(ledger, name, RULES, FEE, lambda: update, lambda: 0.0)
        venue.sell(SYMBOL, "mm1n1", Decimal("1.5"), Decimal("99"))
    assert [ledger.orders(name)[0].filled for name in ("first", "second", "third")] == [150, 50, 150]


def test_sales_of_many_threads_at_one_book_take_each_level_once(tmp_path: Path) -> None:
    venue = _venue(tmp_path, lambda: Update("1", _two()))
    threads = [threading.Thread(target=_sell, args=(venue, number, "0.3", "99")) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(_sold(venue, number)[0] for number in range(1, 9)) == 2
    assert Ledger(tmp_path).faults(PLAN) == []


def test_a_ledger_that_does_not_add_up_is_found_out(tmp_path: Path) -> None:
    venue = _venue(tmp_path, lambda: Update("1", _two()))
    _sell(venue, 1, "1.5", "99")
    for number, changed in enumerate(
        (
            "UPDATE paper_balance SET held = held + 1",
            "UPDATE paper_fill SET lots = lots - 1",
            "UPDATE paper_fill SET price = '98' WHERE price = '99.9'",
            "UPDATE paper_order SET fee = '0'",
        )
    ):
        folder = tmp_path / str(number)
        path = Ledger(folder).path
        with sqlite3.connect(Ledger(tmp_path).path) as from_file, sqlite3.connect(path) as to:
            from_file.backup(to)
            to.execute(changed)
        assert Ledger(folder).faults(PLAN) != [], changed
    assert Ledger(tmp_path).faults(PLAN) == []


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=6, unique=True),
    st.integers(1, 400),
    st.integers(1, 500),
    st.data(),
)
def test_no_more_is_taken_than_is_there_or_was_asked_and_nothing_better_is_left(
    prices: list[int], lots: int, limit: int, data: st.DataObject
) -> None:
    amounts = [data.draw(st.integers(1, 9_000)) for _ in prices]
    bids = sorted(((price / 10, amount / 1000) for price, amount in zip(prices, amounts, strict=True)), reverse=True)
    book = parse(bids, [(1_000.0, 1.0)])
    before = {Decimal(prices[0]) / 10: data.draw(st.integers(0, 50))}
    fills = taken(book, RULES, lots, Decimal(limit) / 10, before)
    got = {one.price: one.lots for one in fills}
    assert sum(got.values()) <= lots
    for price, amount in bids:
        key = Decimal(repr(price))
        there = max(0, int(Decimal(repr(amount)) // RULES.lot) - before.get(key, 0))
        assert got.get(key, 0) <= there
        if key >= Decimal(limit) / 10 and sum(got.values()) < lots:
            assert got.get(key, 0) == there
        if key < Decimal(limit) / 10:
            assert key not in got


@pytest.mark.slow
def test_wherever_the_process_dies_journal_and_ledger_agree(trials: int, tmp_path: Path) -> None:
    ends = set()
    for seed in range(trials):
        chance, clock, folder, deaths = random.Random(seed), Clock(), tmp_path / str(seed), [0]

        def die(chance: random.Random = chance, deaths: list[int] = deaths) -> None:
            if deaths[0] < 5 and chance.random() < 0.1:
                deaths[0] += 1
                raise Killed

        ledger = Ledger(folder)
        ledger.open(PLAN, "test", RULES, Decimal(chance.randint(1, 900)) / 100)
        venue = PaperVenue(ledger, PLAN, RULES, FEE, lambda clock=clock: _now(clock), clock.seconds)
        sell = venue.sell

        def killed(*args, die=die, sell=sell):  # type: ignore[no-untyped-def]
            die()
            sell(*args)
            die()

        venue.sell = killed  # type: ignore[method-assign]
        terms = Terms(
            PLAN, SYMBOL, RULES, ledger.balance(PLAN).opened, Decimal(0), frozenset(), frozenset(), (), "operator",
            chance.choice([1, 3]), 60.0, Decimal("0.005"), Decimal(10_000), 15.0,
        )  # fmt: skip
        journal = Journal(folder)
        propose(journal, terms, clock.utc(), mode="paper")
        journal.approve(PLAN, terms, "paper", clock.utc(), None)
        while True:
            world = World(
                venue, lambda clock=clock: _now(clock).book, None, clock.seconds, clock.sleep, clock.utc,
                lambda: False, lambda kind, said, die=die: die(),
            )  # fmt: skip
            try:
                kept = Driver(deadly(Journal(folder), die), PLAN, world).run()
                break
            except Killed:
                continue
        assert ledger.faults(PLAN) == []
        assert {one.client_id: one.filled for one in ledger.orders(PLAN)} == {
            order.client_id: order.filled for order in kept.plan.orders if order.state == "CLOSED"
        }
        assert ledger.balance(PLAN).held == terms.inventory - sum(order.filled for order in kept.plan.orders) >= 0
        ends.add(kept.plan.state)
    assert ends == {"DONE", "HALTED"}


def _now(clock: Clock) -> Update:
    """A thin book, another one each minute."""
    return Update(str(clock.now // 60), parse([(100.0, 2.5), (99.8, 1.0), (99.0, 50.0)], [(100.2, 1.0)]))
