"""A grid that is a bot of OKX: the real client on loopback, real candles of another venue, tick after tick."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, Span
from mm_dagster.config.load import load
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.follow_bots import Followed, follow_bots
from mm_dagster.pipeline.notify import send_due
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_days, run_tick
from mm_dagster_tests.defs.live import Live, loopback
from mm_dagster_tests.okx import DETAILS, FILLS, KEY, LIST, PASSPHRASE, SECRET, Okx, filled, grid

ACTIVATED = datetime(2025, 10, 9, 21, 15, tzinfo=UTC)
FIRST = ACTIVATED + BAR
BOT = "448965992920907001"
STAGES = ("candles", "grid_bot", "regime_features", "grid_risk")
CREATED = int(ACTIVATED.timestamp() * 1000)


@dataclass
class World:
    """A home with one grid that is a bot, KuCoin with its candles, and OKX with the bot."""

    live: Live
    okx: Okx
    now: datetime = FIRST

    def project(self) -> Project:
        return Project(str(self.live.config_dir), str(self.live.folder / "data"), says_troubles=False)

    def at(self, moment: datetime) -> Project:
        self.live.exchange.now = moment + timedelta(minutes=1)
        return self.project()

    def follow(self, moment: datetime) -> Followed:
        """Only what is told of bots at a tick."""
        return follow_bots(self.at(moment), moment, "run")

    def tick(self, moment: datetime) -> dict[str, Any]:
        """A tick as far as what is held; the row of grid_risk of its bar."""
        run_tick(self.at(moment), moment, stages=STAGES)
        rows = self.project().lake.read("grid_risk", span=Span(moment - BAR, moment))
        return rows.row(0, named=True) if rows.height else {}

    def tell(self, **changes: Any) -> None:
        """What OKX tells of the bot from now on."""
        self.okx.grids[0] |= changes

    def grid(self) -> Any:
        """As the file has it."""
        return load(self.live.config_dir).grids[0]


def bot(**changes: Any) -> dict[str, Any]:
    row = {"minPx": "3900", "maxPx": "4800", "gridNum": "10", "slTriggerPx": "3700", "cTime": f"{CREATED}"}
    return grid(1, **row, curBaseSz="0.05", curQuoteSz="780", gridProfit="2.5", totalPnl="1.1", tradeNum="4") | changes


def write_grid(folder: Path, **changes: Any) -> None:
    content = {
        "id": "eth", "symbol": "ETH-USDT", "activated_at": "2025-10-09T21:15:00Z", "lower": 3900, "upper": 4800,
        "levels": 10, "stop": 3700, "capital": 1000, "source": {"exchange": "okx", "id": int(BOT)},
    }  # fmt: skip
    (folder / "grids" / "eth.yaml").write_text("# mine\n" + yaml.safe_dump(content | changes))


@pytest.fixture
def world(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    kept = Span(datetime(2025, 9, 1, tzinfo=UTC), datetime(2025, 10, 11, tzinfo=UTC))
    keys = {"OKX_KEY": KEY, "OKX_SECRET": SECRET, "OKX_PASSPHRASE": PASSPHRASE}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with loopback(tmp_path, shared_data, ("ETH-USDT",), kept) as live, Okx([bot()]) as okx:
        account = {f"{part}_env": f"OKX_{part.upper()}" for part in ("key", "secret", "passphrase")}
        venues = {
            "main": {"kind": "ccxt", "exchange": "kucoin", "api_url": live.exchange.url},
            "okx": {
                "kind": "ccxt", "exchange": "okx", "api_url": okx.url, "requests_per_second": 500, "account": account
            },
        }  # fmt: skip
        markets = {
            "venues": venues,
            "markets": [{"symbol": "ETH-USDT", "venue": "main"}],
            "candles": {"late_bar_wait_seconds": 0},
        }
        live.configure([], markets=markets)
        write_grid(live.config_dir)
        yield World(live, okx)


def test_what_the_exchange_tells_is_kept_as_it_told_it(world: World) -> None:
    world.okx.fills[BOT] = [filled(k, CREATED + 60_000 * k, "buy", 4300.0 - 90 * k, 0.025) for k in range(3)]
    found = world.follow(FIRST)
    assert (found.problems, found.done) == ([], [])
    (row,) = world.project().lake.read("grid_bot").to_dicts()
    assert (row["venue"], row["bot_id"], row["state"], row["symbol"]) == ("okx", BOT, "running", "ETH-USDT")
    assert (row["lower"], row["upper"], row["levels"], row["stop"], row["capital"]) == (3900, 4800, 10, 3700, 1000)
    assert (row["inventory"], row["cash"], row["grid_profit"], row["total_pnl"], row["fills"]) == (
        0.05,
        780,
        2.5,
        1.1,
        4,
    )
    assert [fill["price"] for fill in row["fresh_fills"]] == [4300, 4210, 4120]
    assert row["fills_whole"]
    # Each fill is stored once, and what is new is joined on to what is known.
    world.okx.fills[BOT].append(filled(9, CREATED + 600_000, "sell", 4390.0, 0.025))
    world.follow(FIRST + BAR)
    later = world.project().lake.read("grid_bot").sort("as_of").row(-1, named=True)
    assert [(fill["side"], fill["price"]) for fill in later["fresh_fills"]] == [("sell", 4390)]
    assert later["fills_whole"]


@pytest.mark.slow
def test_a_grid_holds_what_its_exchange_says_and_the_figures_add_up(world: World) -> None:
    world.okx.fills[BOT] = [filled(0, CREATED + 60_000, "buy", 4300.0, 0.05)]
    row = world.tick(FIRST)
    assert row["source"] == "ACCOUNT"
    assert (row["inventory"], row["cash"], row["grid_profit"], row["fills"]) == (0.05, 780, 2.5, 4)
    assert row["total_pnl"] == pytest.approx(row["liquidation_value"] - 1000)
    assert row["grid_profit"] + row["exit_pnl"] + row["unrealised_pnl"] == pytest.approx(row["total_pnl"])
    assert row["average_cost"] == pytest.approx((1000 + 2.5 - 780) / 0.05)
    assert row["fees_paid"] == pytest.approx(0.00005 * 4300)
    assert row["liquidation_value"] == pytest.approx(780 + 0.05 * row["price"], rel=0.01)
    # The model bought five cells at the activation: that it differs is said at this bar.
    assert any(said.startswith("Its exchange says that it holds 0.05 ETH") for said in row["recommendations"])


@pytest.mark.long
def test_what_was_told_counts_for_an_hour_and_then_the_model_does_again(world: World) -> None:
    rows = [world.tick(FIRST)]
    world.okx.answers = {LIST: [(503, "{}")] * 99, DETAILS: [(503, "{}")] * 99}
    rows += [world.tick(FIRST + k * BAR) for k in range(1, 6)]
    assert [row["source"] for row in rows] == ["ACCOUNT"] * 4 + ["MODELLED"] * 2
    assert [row["inventory"] for row in rows[:4]] == [0.05] * 4
    assert rows[4]["inventory"] != 0.05
    silent = [any("told nothing of it for an hour" in said for said in row["recommendations"]) for row in rows]
    assert silent == [False] * 4 + [True] * 2
    # Computed again years later each row is what the tick wrote.
    before = world.project().lake.read("grid_risk").sort("as_of")
    day = Span(datetime(2025, 10, 9, tzinfo=UTC), datetime(2025, 10, 10, tzinfo=UTC))
    run_days(world.project(), day, stages=("grid_risk",))
    assert world.project().lake.read("grid_risk").sort("as_of").equals(before)


@pytest.mark.slow
def test_a_bot_that_stopped_there_is_a_response_with_its_time_and_reason(world: World) -> None:
    world.tick(FIRST)
    ended = FIRST + timedelta(minutes=9)
    world.tell(state="stopped", cancelType="3", uTime=f"{int(ended.timestamp() * 1000)}")
    world.tick(FIRST + BAR)
    (said,) = world.project().lake.read("operator_response").to_dicts()
    assert (said["grid_id"], said["action"], said["at"]) == ("eth", "stopped", ended)
    assert (said["note"], said["told_by"], said["alert_id"]) == ("by its stop price", "okx", None)
    (episode,) = world.project().lake.read("grid_episode").to_dicts()
    assert (episode["closed_at"], episode["closed_by"]) == (ended, "stopped")
    # Said once, whatever follows.
    found = world.follow(FIRST + 2 * BAR)
    assert (found.problems, found.done) == ([], [])
    assert world.project().lake.read("operator_response").height == 1


def test_one_odd_answer_stops_nothing_and_changes_nothing(world: World) -> None:
    world.follow(FIRST)
    before = (world.live.config_dir / "grids" / "eth.yaml").read_bytes()
    said = []
    for odd in (bot(state="stopped", cancelType="1"), bot(minPx="3000"), bot(slTriggerPx="3650")):
        # OKX tells otherwise when it is asked again.
        world.okx.answers[DETAILS] = [(200, json.dumps({"code": "0", "data": [odd]}))]
        found = world.follow(FIRST + BAR)
        assert found.done == []
        said += found.problems
    # One that is listed, and then stopped, is asked for again anyway.
    assert len(said) == 2
    assert all(f"told of bot {BOT} twice, and differently" in one for one in said)
    assert (world.live.config_dir / "grids" / "eth.yaml").read_bytes() == before
    assert world.project().lake.read("operator_response").is_empty()


def test_a_bot_that_is_not_told_of_has_not_stopped(world: World) -> None:
    world.follow(FIRST)
    world.okx.grids.clear()
    found = world.follow(FIRST + BAR)
    assert "the exchange tells nothing of it" in found.problems[0]
    assert world.project().lake.read("operator_response").is_empty()
    assert world.project().lake.read("grid_bot").height == 1


def test_a_bot_that_runs_after_all_is_watched_again(world: World) -> None:
    world.follow(FIRST)
    world.tell(state="stopped", cancelType="1", uTime=f"{CREATED + 1_200_000}")
    world.follow(FIRST + BAR)
    world.tell(state="running")
    found = world.follow(FIRST + 2 * BAR)
    assert "runs after all; it is watched again" in found.done[0]
    assert world.project().lake.read("operator_response").sort("at")["action"].to_list() == ["stopped", "reopened"]


def test_the_operators_word_is_not_taken_back_by_an_exchange(world: World) -> None:
    world.follow(FIRST)
    answer(world.project(), "eth", "stopped", FIRST + timedelta(minutes=2), None)
    found = world.follow(FIRST + BAR)
    assert found.done == []
    assert "you noted at 2025-10-09T21:32:00Z that it is stopped" in found.problems[0]
    assert "mm respond eth reopened" in found.problems[0]
    assert world.project().lake.read("operator_response").height == 1


def test_a_bot_that_was_changed_there_is_a_new_episode_and_comments_stay(world: World) -> None:
    world.follow(FIRST)
    world.tell(slTriggerPx="3800", investment="1500", gridNum="12")
    found = world.follow(FIRST + BAR)
    assert found.problems == []
    assert "changed at its exchange to levels 12, stop 3800, capital 1500" in found.done[0]
    now = world.grid()
    assert (now.levels, now.stop, now.capital, now.lower) == (12, 3800, 1500, 3900)
    assert now.activated_at == FIRST + BAR + timedelta(minutes=1)
    assert now.source.id == BOT
    assert (world.live.config_dir / "grids" / "eth.yaml").read_text().startswith("# mine\n")
    # Once.
    assert world.follow(FIRST + 2 * BAR).done == []


def test_a_stop_of_the_operators_own_stays(world: World) -> None:
    write_grid(world.live.config_dir, stop=3750)
    world.tell(slTriggerPx="")
    world.follow(FIRST)
    assert world.follow(FIRST + BAR).done == []
    assert world.grid().stop == 3750


def test_a_change_that_cannot_be_is_said_at_every_tick_and_the_grid_stays(world: World) -> None:
    world.follow(FIRST)
    world.tell(gridNum="400")
    for step in (1, 2):
        found = world.follow(FIRST + step * BAR)
        assert "was changed (levels), and that cannot be noted" in found.problems[0]
        assert found.done == []
    assert world.grid().levels == 10
    # What it holds is told all the same.
    assert world.project().lake.read("grid_bot").height == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"instId": "SOL-USDT"}, "trades SOL-USDT, and the grid ETH-USDT"),
        ({"curBaseSz": "100"}, "many times its capital 1000"),
        ({"curQuoteSz": "1e12"}, "many times its capital 1000"),
        ({"minPx": "-1"}, "minPx '-1' cannot be"),
        ({"state": "stopped", "uTime": "1700000000000"}, "before the activation"),
    ],
)
def test_what_contradicts_what_is_known_is_said_and_not_used(world: World, changes: dict[str, Any], says: str) -> None:
    world.tell(**changes)
    found = world.follow(FIRST)
    assert says in " ".join(found.problems)
    assert found.done == []
    assert world.project().lake.read("operator_response").is_empty()
    kept = world.project().lake.read("grid_bot")
    assert kept.filter(pl.col("state") == "running").is_empty()


def test_a_tick_of_the_past_and_a_backfill_ask_nothing(world: World) -> None:
    world.live.exchange.now = FIRST + timedelta(days=1)
    assert follow_bots(world.project(), FIRST, "run").rows.is_empty()
    assert follow_bots(world.project(), None, "run").rows.is_empty()
    assert world.okx.asked == []


def test_a_key_that_is_missing_is_named_and_the_tick_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OKX_SECRET")
    found = world.follow(FIRST)
    assert found.problems == [
        "okx: account.secret_env: the environment variable OKX_SECRET is not set; set it, or take out account"
    ]
    assert world.tick(FIRST)["source"] == "MODELLED"


def test_an_exchange_that_hangs_does_not_hold_the_tick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm_dagster.pipeline.follow_bots.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(world.okx, "answer", lambda request: os.read(_blocked(), 1) or (200, b"{}"))
    assert "no answer within 0.2 s" in world.follow(FIRST).problems[0]


def _blocked() -> int:
    """The end of a pipe that nobody writes to."""
    end, _ = os.pipe()
    return end


@pytest.mark.slow
def test_a_bot_that_no_file_watches_is_said_once(world: World) -> None:
    def said(moment: datetime) -> list[str]:
        world.live.exchange.now = moment + timedelta(minutes=1)
        sent, _ = send_due(world.project(), "run", None)
        return [f"{row['title']}: {row['message']}" for row in sent.to_dicts() if "NOT WATCHED" in row["title"]]

    world.okx.grids.append(grid(2, instId="SOL-USDT", minPx="120", maxPx="140", cTime=f"{CREATED}"))
    # One that is like a grid is that grid, though its file does not say so.
    world.okx.grids.append(bot(algoId="448965992920907009"))
    world.follow(FIRST)
    (one,) = said(FIRST)
    assert "a grid of SOL-USDT on okx" in one
    assert "120 to 140, 8 grids, 1000 USDT" in one
    assert "`mm grid add --from okx 448965992920907002`" in one
    world.follow(FIRST + BAR)
    assert said(FIRST + BAR) == []
    doctor = world.live.mm("doctor", "--json").stdout
    (line,) = (row for row in json.loads(doctor) if row["part"] == "bots okx")
    assert line["result"] == "OK"
    assert "3 bots told of; eth is running; no file is 448965992920907002, 448965992920907009" in line["detail"]


NASTY = (
    "",
    "0",
    "-1",
    "NaN",
    "1e999",
    "null",
    "3,900",
    "٣٩٠٠",
    "x" * 5000,
    "1e-320",
    None,
    True,
    [],
    {},
    7,
    "00",
    " 1 ",
)
FIELDS = (
    "algoId", "algoOrdType", "instId", "state", "minPx", "maxPx", "gridNum", "runType", "investment", "gridProfit",
    "totalPnl", "slTriggerPx", "cancelType", "cTime", "uTime", "curBaseSz", "curQuoteSz", "tradeNum", "triggerParams",
)  # fmt: skip
BODIES = (
    "",
    "null",
    "[]",
    "{}",
    "<html>",
    '{"code":"0"}',
    '{"code":"0","data":[[]]}',
    '{"code":"50011","data":[]}',
    "\x00",
)


@pytest.mark.long
def test_no_single_odd_answer_moves_anything(world: World) -> None:
    """300 answers with a value or two, or the whole body, of another kind: each is followed by a foreseen line or by
    nothing, and the file and the responses stay."""
    world.follow(FIRST)
    before = (world.live.config_dir / "grids" / "eth.yaml").read_bytes()
    chance, trials, said = random.Random(20), 300, 0
    for trial in range(trials):
        odd = bot()
        if chance.random() < 0.8:
            for name in chance.sample(FIELDS, chance.choice((1, 1, 2))):
                odd[name] = chance.choice((*NASTY, chance.choice(("stopped", "running", "stopping", "5", "SOL-USDT"))))
            body = json.dumps({"code": "0", "data": [odd]})
        else:
            body = chance.choice(BODIES)
        # One answer of a list, of a grid, or of its fills is odd; what is asked for after it is true again.
        where = chance.choice((LIST, DETAILS, DETAILS, DETAILS, FILLS))
        world.okx.answers = {where: [(chance.choice((200, 200, 200, 400, 500)), body)]}
        found = world.follow(FIRST + BAR)
        said += bool(found.problems)
        assert found.done == [], (trial, where, body)
        assert all(len(one) < 600 and "\n" not in one for one in found.problems), found.problems
        assert (world.live.config_dir / "grids" / "eth.yaml").read_bytes() == before, (trial, where, body)
    assert world.project().lake.read("operator_response").is_empty()
    kept = world.project().lake.read("grid_bot").sort("as_of").row(-1, named=True)
    assert kept["symbol"] == "ETH-USDT"
    # Most of it is seen; the rest was no different from the truth, or was asked for again.
    assert said > trials // 4
