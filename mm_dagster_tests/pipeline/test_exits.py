"""Leaving for real: what a person must decide is refused until they have, and nothing else is sold or told."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import floor_bar
from mm_dagster.books.book import Book, parse
from mm_dagster.errors import ForeseenError
from mm_dagster.execution.journal import Journal, JournalError, Kept
from mm_dagster.execution.machine import Order
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline import exits
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.execution.exchange import Exchange
from mm_dagster_tests.execution.loopback import Kucoin
from mm_dagster_tests.execution.trials import RULES, Hasty
from mm_dagster_tests.history.samples import sample

NOW = datetime.now(UTC).replace(microsecond=0)
BAR_OF_NOW = floor_bar(NOW)
GRID = {
    "id": "sol-range", "symbol": "SOL-USDT", "activated_at": (BAR_OF_NOW - timedelta(days=3)).isoformat(), "lower": 90,
    "upper": 110, "levels": 10, "stop": 80, "capital": 1000,
}  # fmt: skip
ORDERS = {
    "mode": "live",
    "settle_seconds": 1,
    "trade_key": {"key_env": "TRADE_KEY", "secret_env": "TRADE_SECRET", "passphrase_env": "TRADE_PASS"},
    "grids": {"sol-range": {"allow": True, "max_notional": 1000}},
}


def book(*_: object) -> Book:
    return parse([(99.99, 50.0)], [(100.01, 50.0)])


class Desk:
    """A home whose one grid trades at a KuCoin on loopback."""

    server: Kucoin

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "configuration" / "grids").mkdir(parents=True, exist_ok=True)
        account = {"key_env": "READ_KEY", "secret_env": "READ_SECRET", "passphrase_env": "READ_PASS"}
        venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": url, "requests_per_second": 1000}
        self.write("markets", {
            "venues": {"mine": venue | {"account": account}}, "markets": [{"symbol": "SOL-USDT", "venue": "mine"}],
        })  # fmt: skip
        self.write("grids/sol-range", GRID)
        self.write("orders", ORDERS)

    def write(self, name: str, content: dict) -> None:
        (self.folder / "configuration" / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def allow(self, **changes: object) -> None:
        self.write("orders", ORDERS | changes)

    @property
    def project(self) -> Project:
        return Project(str(self.folder / "configuration"), str(self.folder / "data"), says_troubles=False)

    def stored(self, source: str, amount: float) -> None:
        """What the lake has of the grid at the newest bar."""
        project = self.project
        of_grid = {
            "grid_id": pl.lit("sol-range"), "symbol": pl.lit("SOL-USDT"),
            "activated_at": pl.lit(project.config.grids[0].activated_at), "as_of": pl.lit(BAR_OF_NOW),
        }  # fmt: skip
        risk = sample("grid_risk", [BAR_OF_NOW], ("SOL-USDT",)).with_columns(
            **of_grid, source=pl.lit(source), inventory=pl.lit(amount), price=pl.lit(100.0),
            candle_source=pl.lit("ccxt:kucoin"),
        )  # fmt: skip
        cost = pl.concat(
            sample("exit_cost", [BAR_OF_NOW], ("SOL-USDT",)).with_columns(
                **of_grid, horizon_minutes=pl.lit(minutes, pl.Int64), amount=pl.lit(amount),
                notional=pl.lit(100.0 * amount), expected_bp=pl.lit(12.0), low_80_bp=pl.lit(10.0),
                high_80_bp=pl.lit(14.0), live_expected_bp=pl.lit(None, pl.Float64), chosen=pl.lit(minutes == 0),
                beyond_model=pl.lit(False), source=pl.lit("ccxt:kucoin"),
            )
            for minutes in (0, 5, 15, 60)
        )  # fmt: skip
        for table, rows in (("grid_risk", risk), ("exit_cost", cost)):
            project.lake.upsert(table, rows, commit=Commit("test", table, ""))

    def rehearsed(self) -> None:
        """A plan on paper was finished."""
        kept = self.proposed("paper")
        exits.approve(self.project, kept.plan_id, "anna")
        assert exits.carry_out(self.project, kept.plan_id).plan.state == "DONE"

    def proposed(self, mode: str = "live") -> Kept:
        return exits.propose(self.project, "sol-range", mode)  # type: ignore[arg-type]

    @property
    def changing(self) -> list[str]:
        """Requests that change something, in order."""
        return [f"{one.method} {one.path}" for one in self.server.requests if one.method in ("POST", "DELETE")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with rows of the newest bar, to be copied: to make a lake anew takes long."""
    made = tmp_path_factory.mktemp("desk")
    Desk(made, "http://127.0.0.1:9").stored("ACCOUNT", 5.0)
    return made


@pytest.fixture
def desk(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    exchange = Exchange(time.monotonic, RULES, Decimal("7.5"), name=Kucoin.order_name)
    monkeypatch.setattr("mm_dagster.pipeline.exits.time", Hasty())
    monkeypatch.setattr("mm_dagster.pipeline.exits.book_now", book)
    monkeypatch.setattr("mm_dagster.pipeline.paper.book_now", book)
    with Kucoin(exchange) as server:
        for part, value in (("KEY", server.key.key), ("SECRET", server.key.secret), ("PASS", server.key.passphrase)):
            monkeypatch.setenv(f"TRADE_{part}", value or "")
            monkeypatch.setenv(f"READ_{part}", f"another-{part}")
        found = Desk(tmp_path, server.url)
        found.server = server
        yield found


@pytest.mark.slow
def test_a_grid_is_left_and_what_was_never_its_own_stays(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    assert desk.changing == []
    approved = exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    assert approved.plan.terms.foreign == Decimal("2.5")
    assert desk.changing == []
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.server.exchange.sold) == ("DONE", Decimal(5))
    assert desk.server.exchange.total == Decimal("2.5")
    assert desk.changing == ["POST /api/v1/hf/orders"]
    said = desk.project.lake.read("operator_response").to_dicts()
    assert [(row["action"], row["person"]) for row in said] == [("stopped", "anna")]
    (told,) = desk.project.lake.read("notification").filter(pl.col("kind") == "EXIT").to_dicts()
    assert told["title"] == "EXIT · sol-range DONE"
    assert told["message"].startswith("There is nothing to do.")
    assert "5.000 of 5.000 SOL sold by 1 order for 499.50 USDT" in told["message"]
    (row,) = desk.project.lake.read("exit_plan").filter(pl.col("mode") == "live").to_dicts()
    assert (row["state"], row["filled"], row["dust"], row["approved_by"]) == ("DONE", 5.0, 0.0, "anna")
    assert desk.project.lake.read("exit_event").filter(pl.col("plan_id") == kept.plan_id)["kind"][-1] == "TOLD"
    exits.carry_out(desk.project, kept.plan_id)
    assert desk.server.exchange.sold == Decimal(5)
    assert desk.project.lake.read("operator_response").height == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "off"}, "allows no live plan"),
        ({"mode": "paper"}, "allows no live plan"),
        ({"grids": {}}, "is not allowed"),
        ({"grids": {"sol-range": {"max_notional": 1000}}}, "is not allowed"),
    ],
)
def test_what_the_configuration_does_not_allow_is_not_proposed(
    desk: Desk, changes: dict[str, object], said: str
) -> None:
    desk.rehearsed()
    desk.allow(**changes)
    with pytest.raises(ForeseenError, match=said):
        desk.proposed()
    assert desk.changing == []


def test_there_is_no_real_plan_before_one_on_paper(desk: Desk) -> None:
    with pytest.raises(ForeseenError, match="run `mm exit sol-range --paper` first"):
        desk.proposed()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("permission", "said"),
    [("General,Spot,Withdraw", "may withdraw or transfer"), ("General,Spot,Transfer", "may withdraw or transfer"),
     ("General", "may not trade")],
)  # fmt: skip
def test_a_key_that_may_more_or_less_than_trade_is_refused(
    desk: Desk, permission: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.rehearsed()
    monkeypatch.setattr(desk.server.account, "permission", permission)
    with pytest.raises(ForeseenError, match=said):
        desk.proposed()


def test_the_key_that_reads_does_not_trade(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.rehearsed()
    monkeypatch.setenv("READ_KEY", desk.server.key.key)
    with pytest.raises(ForeseenError, match="holds the key that reads the account") as refused:
        desk.proposed()
    assert desk.server.key.key not in str(refused.value)


def test_nobody_assumes_that_a_bot_is_stopped(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    with pytest.raises(ForeseenError, match="say so with --stopped"):
        exits.approve(desk.project, kept.plan_id, "anna")
    assert Journal(desk.folder / "data").kept(kept.plan_id).plan.state == "PROPOSED"


@pytest.mark.slow
def test_what_is_only_modelled_is_sold_by_a_persons_word_alone(desk: Desk) -> None:
    desk.rehearsed()
    desk.stored("MODELLED", 5.0)
    kept = desk.proposed()
    with pytest.raises(ForeseenError, match="modelled from candles"):
        exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    with pytest.raises(ForeseenError, match="cannot hold it"):
        exits.approve(desk.project, kept.plan_id, "anna", stopped=True, amount=Decimal("1e9"))
    approved = exits.approve(desk.project, kept.plan_id, "anna", stopped=True, amount=Decimal("4.2"))
    assert approved.plan.terms.inventory == 4_200
    exits.carry_out(desk.project, kept.plan_id)
    assert desk.server.exchange.sold == Decimal("4.2")


def test_no_more_is_approved_than_the_account_has(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    desk.server.exchange.total = Decimal(3)
    with pytest.raises(ForeseenError, match=r"the plan sells 5.* and the account has 3"):
        exits.approve(desk.project, kept.plan_id, "anna", stopped=True)


def test_max_notional_bounds_what_is_sold(desk: Desk) -> None:
    desk.rehearsed()
    desk.allow(grids={"sol-range": {"allow": True, "max_notional": 300}})
    kept = desk.proposed()
    exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.server.exchange.sold) == ("HALTED", 0)
    assert "more than the 300" in left.reason


def test_a_permission_that_is_taken_back_halts_and_is_told_once(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    desk.allow(grids={"sol-range": {"max_notional": 1000}})
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.changing) == ("HALTED", [])
    exits.carry_out(desk.project, kept.plan_id)
    told = desk.project.lake.read("notification").filter(pl.col("kind") == "EXIT")
    assert told.height == 1
    assert kept.plan_id in told["message"][0]


def test_with_the_mode_off_not_even_an_open_order_is_asked_about_and_a_person_hears_of_it(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    journal = Journal(desk.folder / "data")
    journal.enter(kept.plan_id, ("APPROVED",), "SELLING", "a test", NOW)
    journal.intend(kept.plan_id, Order(1, f"mm{kept.plan_id}n1", 5_000, Decimal("99.5")), Decimal(100), NOW)
    desk.allow(mode="off")
    before = len(desk.server.requests)
    left = exits.carry_out(desk.project, kept.plan_id)
    assert left.plan.state == "HALTED"
    # The ledger of messages goes by the exchange's time; nothing of the account is asked.
    assert {one.path for one in desk.server.requests[before:]} <= {"/api/v1/timestamp"}
    assert "mode: off allows no live plan" in left.reason
    (told,) = desk.project.lake.read("notification").filter(pl.col("kind") == "EXIT").to_dicts()
    assert f"What became of mm{kept.plan_id}n1 is not known" in told["message"]


def test_a_halt_whose_process_died_is_told_by_the_next(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    journal = Journal(desk.folder / "data")
    journal.enter(kept.plan_id, ("APPROVED",), "HALTED", "a stuck order", NOW)
    assert [one.plan_id for one in exits.open_plans(desk.project)] == [kept.plan_id]
    exits.carry_out(desk.project, kept.plan_id)
    assert exits.open_plans(desk.project) == []
    assert desk.project.lake.read("notification").filter(pl.col("kind") == "EXIT").height == 1


@pytest.mark.slow
def test_the_kill_file_stops_everything_and_doctor_says_so(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    (desk.folder / "data" / "KILL").touch()
    left = exits.carry_out(desk.project, kept.plan_id)
    assert (left.plan.state, desk.changing) == ("HALTED", [])
    with pytest.raises(ForeseenError, match="the kill file is there"):
        exits.standing(desk.project)
    (desk.folder / "data" / "KILL").unlink()
    exits.resume(desk.project, kept.plan_id, "anna")
    assert exits.carry_out(desk.project, kept.plan_id).plan.state == "DONE"
    assert desk.server.exchange.sold == Decimal(5)


@pytest.mark.slow
def test_a_resumed_plan_sells_no_more_than_was_left(desk: Desk) -> None:
    desk.rehearsed()
    kept = desk.proposed()
    exits.approve(desk.project, kept.plan_id, "anna", stopped=True)
    desk.server.exchange.whims.partial = 1.0
    assert exits.carry_out(desk.project, kept.plan_id).plan.state == "HALTED"
    sold = desk.server.exchange.sold
    assert 0 < sold < 5
    desk.server.exchange.whims.partial = 0.0
    exits.resume(desk.project, kept.plan_id, "anna")
    assert exits.carry_out(desk.project, kept.plan_id).plan.state == "DONE"
    assert desk.server.exchange.sold == Decimal(5)


def test_there_are_not_more_real_plans_a_day_than_allowed(desk: Desk) -> None:
    desk.rehearsed()
    desk.allow(max_exits_a_day=1)
    first, second = desk.proposed(), desk.proposed()
    exits.approve(desk.project, first.plan_id, "anna", stopped=True)
    exits.halt(desk.project, first.plan_id, "anna")
    with pytest.raises(JournalError, match="max_exits_a_day: 1"):
        exits.approve(desk.project, second.plan_id, "anna", stopped=True)


def test_no_secret_is_in_the_journal_the_lake_or_a_message(desk: Desk) -> None:
    test_a_permission_that_is_taken_back_halts_and_is_told_once(desk)
    secrets = [desk.server.key.key, desk.server.key.secret, str(desk.server.key.passphrase)]
    for path in (desk.folder / "data").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [one for one in secrets if one.encode() in content] == [], path
