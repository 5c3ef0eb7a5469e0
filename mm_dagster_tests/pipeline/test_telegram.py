"""An answer in Telegram is the row that `mm respond` writes, ends reminders on every channel, and counts once."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from mm_dagster.alerts import telegram as client
from mm_dagster.alerts.channel import Refused
from mm_dagster.bars import floor_bar
from mm_dagster.cli import examine
from mm_dagster.cli.app import CommandError
from mm_dagster.defs.automation import receipts_are_open
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline import drill, telegram
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.channels import each_channel, telegram_of, two_channels
from mm_dagster.pipeline.notify import count_due, send_due, try_channels
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.telegram import listen
from mm_dagster_tests.alerts.given import state, states
from mm_dagster_tests.pushover import PushoverServer
from mm_dagster_tests.telegram import TelegramServer
from mm_dagster_tests.wire import Wire
from mm_dagster_tests.wire import answer as http_answer

GRID = "eth-range"


@pytest.fixture
def server() -> Iterator[TelegramServer]:
    with TelegramServer() as running:
        yield running


class Home:
    """The demo's grids, one market of which is on a live exchange, with Telegram, and perhaps Pushover."""

    def __init__(self, folder: Path, server: TelegramServer, venue: str) -> None:
        self.folder = folder
        shutil.copytree(Path("configs/demo"), folder / "configs")
        markets = yaml.safe_load((folder / "configs" / "markets.yaml").read_text())
        markets["venues"]["live"] = {"kind": "ccxt", "exchange": "kucoin", "api_url": venue}
        next(market for market in markets["markets"] if market["symbol"] == "ETH-USDT")["venue"] = "live"
        (folder / "configs" / "markets.yaml").write_text(yaml.safe_dump(markets))
        self.alerts = {
            "timezone": "Europe/Berlin",
            "telegram": {
                "token_env": "TG_TOKEN", "chat_env": "TG_CHAT", "api_url": server.api_url, "timeout_seconds": 20,
            },
            "people": {"anna": server.person, "ben": 5, "carl": None},
        }  # fmt: skip
        self.write()

    def write(self, **more: Any) -> None:
        self.alerts |= more
        (self.folder / "configs" / "alerts.yaml").write_text(yaml.safe_dump(self.alerts))

    @property
    def project(self) -> Project:
        return Project(str(self.folder / "configs"), str(self.folder / "data"))

    def stands_at(self, name: str) -> None:
        """The newest evaluation of the grid."""
        project = self.project
        (of,) = (one for one in project.config.grids if one.id == GRID)
        row = states(state(of, floor_bar(project.venues.clock(of.symbol)), name)).with_columns(
            config_hash=pl.lit("test"), code_version=pl.lit("test")
        )
        project.lake.upsert("exit_state", row, commit=Commit("test", "exit_state", ""))

    def send(self) -> pl.DataFrame:
        send_due(self.project, "test", None)
        return self.project.lake.read("notification")

    def responses(self) -> list[dict[str, Any]]:
        return self.project.lake.read("operator_response").sort("at").to_dicts()


def exchange_time() -> bytes:
    return http_answer(json.dumps({"code": "200000", "data": int(time.time() * 1000)}).encode())


@pytest.fixture
def home(tmp_path: Path, server: TelegramServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("TG_TOKEN", server.token)
    monkeypatch.setenv("TG_CHAT", str(server.chat))
    monkeypatch.setattr(telegram, "WAIT_SECONDS", 0)
    monkeypatch.setattr(client, "WAIT_SECONDS", 0.01)
    with Wire(lambda _: [exchange_time()]) as venue:
        yield Home(tmp_path, server, venue.url)


@pytest.mark.slow
def test_a_press_is_the_row_that_mm_respond_writes_with_the_name_of_who_pressed(home: Home, server: TelegramServer):
    home.stands_at("LATEST_ACCEPTABLE_EXIT")
    (alert,) = home.send().filter(pl.col("kind") == "ESCALATION").to_dicts()
    assert (alert["status"], alert["channel"], alert["receipt"]) == ("SENT", "telegram", None)
    (message,) = (one for one in server.messages if one["keyboard"])
    # Impatient, and with a friend.
    taps = [server.tap(message, "kept"), server.tap(message, "kept"), server.tap(message, "kept", person=5)]
    assert listen(home.project, 0) == 3
    (row,) = home.responses()
    assert (row["action"], row["alert_id"], row["grid_id"]) == ("kept", alert["alert_id"], GRID)
    assert (row["person"], row["through"]) == ("anna", "telegram")
    assert (row["seconds_from_alert"] >= 0, row["within_window"]) == (True, True)
    assert {server.answers[tap["callback_query"]["id"]] for tap in taps} == {f"{GRID}: noted as kept by anna."}
    assert server.waiting == []
    (kpi,) = home.project.lake.sql("FROM response_kpis").to_dicts()
    assert (kpi["alerts"], kpi["responses"], kpi["missed"]) == (1, 1, 0)
    assert "anna noted at" in str(send_and_read(home, server))


def send_and_read(home: Home, server: TelegramServer) -> list[str]:
    """What is said next, of a state that has risen."""
    home.stands_at("MANDATORY_EXIT")
    home.send()
    return [one["text"] for one in server.messages]


@pytest.mark.slow
def test_an_answer_in_telegram_stops_pushover_s_ringing_with_the_next_run(
    home: Home, server: TelegramServer, monkeypatch: pytest.MonkeyPatch
):
    with PushoverServer() as pushover:
        monkeypatch.setenv("PUSHOVER_TOKEN", pushover.token)
        monkeypatch.setenv("PUSHOVER_USER", pushover.user)
        home.write(pushover={"api_url": pushover.api_url})
        home.stands_at("MANDATORY_EXIT")
        (alert,) = home.send().filter(pl.col("kind") == "ESCALATION").to_dicts()
        assert (alert["channel"], alert["receipt"] in pushover.receipts) == ("pushover", True)
        (message,) = (one for one in server.messages if one["keyboard"])
        assert [key["text"] for row in message["keyboard"] for key in row] == ["Stopped", "Reduced", "Kept"]
        server.tap(message, "reduced")
        assert listen(home.project, 0) == 1
        assert count_due(home.project) == 1
        home.send()
        assert pushover.cancelled == [alert["receipt"]]
        assert count_due(home.project) == 0
        (kpi,) = home.project.lake.sql("FROM response_kpis").to_dicts()
        assert (kpi["alerts"], kpi["responses"], kpi["acted_without_acknowledging"]) == (1, 1, 1)


@pytest.mark.slow
def test_pushover_goes_first_and_what_is_no_emergency_reaches_telegram_only_where_pushover_does_not_answer(
    home: Home, server: TelegramServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MM_SECOND", "json://127.0.0.1:9/")
    home.write(apprise=[{"url_env": "MM_SECOND"}])
    first, second = two_channels(home.project)
    assert [one and one.name for one in (first, second)] == ["telegram", "apprise"]
    with PushoverServer() as pushover:
        monkeypatch.setenv("PUSHOVER_TOKEN", pushover.token)
        monkeypatch.setenv("PUSHOVER_USER", pushover.user)
        home.write(pushover={"api_url": pushover.api_url})
        assert [one.name for one in each_channel(home.project)] == ["pushover", "telegram", "apprise"]
        first, second = two_channels(home.project)
        assert [one and one.name for one in (first, second)] == ["pushover", "telegram and apprise"]
        pushover.fail("500")
        home.stands_at("WARNING")
        (alert,) = home.send().filter(pl.col("kind") == "ESCALATION").to_dicts()
        assert (alert["status"], alert["channel"]) == ("SENT", "telegram and apprise")
        assert any(one["keyboard"] for one in server.messages)
        (event,) = home.project.lake.sql(
            "FROM alert_event WHERE event = 'SENT' AND channel LIKE 'telegram%'"
        ).to_dicts()
        assert event["detail"].startswith("telegram took it; apprise did not take it: JSON did not take it")
        tried = try_channels(home.project)
        assert dict(tried.select("state", "status").iter_rows()) == {
            "pushover": "SENT", "telegram": "SENT", "apprise": "PENDING",
        }  # fmt: skip


@pytest.mark.slow
def test_a_lasting_trouble_of_telegram_is_in_the_row_with_its_remedy(home: Home, server: TelegramServer):
    server.refusal = (403, "Forbidden: bot was blocked by the user")
    home.stands_at("MANDATORY_EXIT")
    (alert,) = home.send().filter(pl.col("kind") == "ESCALATION").to_dicts()
    assert alert["status"] == "FAILED"
    assert "unblock the bot" in alert["detail"]


@pytest.mark.slow
def test_typed_words_do_what_buttons_do(home: Home, server: TelegramServer):
    home.stands_at("WARNING")
    home.send()
    server.clock = lambda: home.project.now()
    server.type(f"/Reduced@mm_loopback_bot {GRID} sold a third", person=5)
    assert listen(home.project, 0) == 1
    (row,) = home.responses()
    assert (row["action"], row["person"], row["note"]) == ("reduced", "ben", "sold a third")
    # The next second, lest two answers have one time.
    server.clock = lambda: home.project.now() + timedelta(seconds=2)
    server.type(f"/stopped {GRID}")
    listen(home.project, 0)
    assert [one["action"] for one in home.responses()] == ["reduced", "stopped"]
    assert "its episode is closed" in server.messages[-1]["text"]
    server.type("/Reopened " + GRID.upper())
    listen(home.project, 0)
    assert [one["action"] for one in home.responses()] == ["reduced", "stopped", "reopened"]
    server.type("/stopped nothing")
    server.type("/stopped")
    server.type("/status")
    server.type("/help")
    server.type("what a night")
    said = len(server.messages)
    listen(home.project, 0)
    unknown, which, status, helped = (one["text"] for one in server.messages[said:])
    assert "'nothing' is no grid of the configuration" in unknown
    assert which.startswith("Which grid? Write it like /stopped ")
    assert f"{GRID}: WARNING as of " in status
    assert "not judged yet" in status
    assert "reopened at" in status
    assert helped.startswith("/stopped GRID")
    assert len(home.responses()) == 3


@pytest.mark.slow
def test_what_is_left_to_do_about_a_stopped_grid_is_a_message_since_a_tap_has_no_room_for_it(
    home: Home, server: TelegramServer
):
    home.stands_at("MANDATORY_EXIT")
    home.send()
    tap = server.tap(server.messages[-1], "stopped")
    listen(home.project, 0)
    assert server.answers[tap["callback_query"]["id"]] == f"{GRID}: noted as stopped by anna."
    assert "set it to false, or give it a new activated_at" in server.messages[-1]["text"]
    assert "✓ Stopped" in next(iter(server.marks.values()))


@pytest.mark.slow
def test_the_sensor_that_follows_receipts_hears_it(home: Home, server: TelegramServer):
    home.stands_at("WARNING")
    home.send()
    server.tap(server.messages[-1], "kept")
    found = receipts_are_open(dg.build_sensor_context(resources={"project": home.project}))
    assert found.skip_message == "no emergency rings; 1 answer came in"
    assert [one["action"] for one in home.responses()] == ["kept"]


def test_the_doctor_knows_telegram(home: Home, server: TelegramServer, monkeypatch: pytest.MonkeyPatch):
    assert examine._telegram(home.project).endswith("anna, ben may answer")
    assert examine._pushover(home.project) == "not used: messages go by Telegram, where nothing rings"
    server.refusal = (400, "Bad Request: chat not found")
    with pytest.raises(Refused, match="open the bot in Telegram and press Start, and check the number in TG_CHAT"):
        examine._telegram(home.project)
    monkeypatch.setenv("TG_CHAT", "@me")
    with pytest.raises(CommandError, match="TG_CHAT: must be the number of a chat"):
        examine._telegram(home.project)
    monkeypatch.delenv("TG_CHAT")
    with pytest.raises(CommandError, match="TG_CHAT not set, which alerts"):
        examine._telegram(home.project)


@pytest.mark.slow
def test_a_press_on_a_message_that_was_overtaken_keeps_nothing_and_says_so(home: Home, server: TelegramServer):
    home.stands_at("WARNING")
    home.send()
    old = server.messages[-1]
    home.stands_at("MANDATORY_EXIT")
    home.send()
    tap = server.tap(old, "kept")
    listen(home.project, 0)
    assert home.responses() == []
    assert "answer the newer message" in server.answers[tap["callback_query"]["id"]]
    # That it was reduced is true whatever was told.
    server.tap(old, "reduced")
    listen(home.project, 0)
    assert [one["action"] for one in home.responses()] == ["reduced"]


@pytest.mark.slow
def test_a_snooze_answers_no_alert_and_mandatory_exit_cannot_be_snoozed(home: Home, server: TelegramServer):
    home.stands_at("LATEST_ACCEPTABLE_EXIT")
    home.send()
    server.tap(server.messages[-1], "snoozed")
    server.tap(server.messages[-1], "snoozed")
    listen(home.project, 0)
    (row,) = home.responses()
    assert (row["action"], row["alert_id"], row["seconds_from_alert"]) == ("snoozed", None, None)
    (kpi,) = home.project.lake.sql("FROM response_kpis").to_dicts()
    assert (kpi["responses"], kpi["missed"]) == (0, 1)
    assert all("noted as snoozed by anna until" in line for line in server.answers.values())
    home.stands_at("MANDATORY_EXIT")
    home.send()
    # Telegram tells whole seconds.
    server.clock = lambda: home.project.now() + timedelta(seconds=1)
    server.type(f"/snooze {GRID}")
    listen(home.project, 0)
    assert server.messages[-1]["text"].endswith("cannot be snoozed: say that you stopped, reduced or kept the grid")
    with pytest.raises(ValueError, match="cannot be snoozed"):
        answer(home.project, GRID, "snoozed", home.project.now(), None)


@pytest.mark.slow
def test_of_strangers_and_in_other_chats_nothing_is_heard_and_nothing_is_said(home: Home, server: TelegramServer):
    home.stands_at("MANDATORY_EXIT")
    home.send()
    said = len(server.messages)
    for who in ({"person": 13}, {"chat": -13}, {"person": 13, "chat": 13}):
        server.tap(server.messages[0], "stopped", **who)
        server.type(f"/stopped {GRID}", **who)
        server.type("/status", **who)
    assert listen(home.project, 0) == 0
    assert (home.responses(), server.answers, len(server.messages)) == ([], {}, said)
    assert server.waiting == []


@pytest.mark.slow
def test_what_a_crash_left_unconfirmed_is_noted_once(home: Home, server: TelegramServer, monkeypatch):
    home.stands_at("WARNING")
    home.send()
    server.tap(server.messages[-1], "kept")
    with monkeypatch.context() as patch:
        patch.setattr(client.Telegram, "answer_tap", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            listen(home.project, 0)
    (before,) = home.responses()
    assert len(server.waiting) == 1
    # Without the notes, too.
    (home.folder / "data" / "telegram.json").unlink(missing_ok=True)
    listen(home.project, 0)
    assert (home.responses(), server.waiting) == ([before], [])
    assert len(server.answers) == 1


def test_a_line_is_not_said_twice_when_a_confirmation_gets_lost(home: Home, server: TelegramServer):
    server.type("/status")
    # The question, the line, and the confirmation.
    server.fail("500")
    assert listen(home.project, 0) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.Telegram, "confirm", lambda *_: (_ for _ in ()).throw(client.Down("no")))
        listen(home.project, 0)
    assert len(server.waiting) == 1
    listen(home.project, 0)
    assert (len(server.messages), server.waiting) == (1, [])


@pytest.mark.slow
def test_after_a_long_silence_it_is_said_once_that_buttons_are_to_be_pressed_again(home: Home, server: TelegramServer):
    home.stands_at("LATEST_ACCEPTABLE_EXIT")
    home.send()
    listen(home.project, 0)
    said = len(server.messages)
    channel = telegram_of(home.project)
    assert channel is not None

    def be_silent(seconds: int) -> None:
        channel.notes.put(heard_at=home.project.now() - timedelta(seconds=seconds))

    be_silent(140)
    listen(home.project, 0)
    assert len(server.messages) == said
    be_silent(200)
    server.fail("500", "500")
    for _ in range(4):
        listen(home.project, 0)
    (again,) = server.messages[said:]
    assert "Press again, or type it" in again["text"]
    # Where nothing waits for an answer nothing is said.
    server.tap(server.messages[said - 1], "kept")
    listen(home.project, 0)
    said = len(server.messages)
    be_silent(4_000)
    listen(home.project, 0)
    assert len(server.messages) == said


def test_somebody_else_who_asks_is_said_once_and_sending_goes_on(home: Home, server: TelegramServer):
    server.busy = "terminated by other getUpdates request; make sure that only one bot instance is running"
    for _ in range(3):
        assert listen(home.project, 0) == 0
    (failure,) = home.project.lake.read("notification").filter(pl.col("kind") == "FAILURE").to_dicts()
    assert failure["state"].startswith("telegram: somebody else is told what is tapped and typed to this bot")


@pytest.mark.slow
def test_the_token_is_in_no_row_file_or_line(home: Home, server: TelegramServer, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        home.stands_at("WARNING")
        for fault in ("400 html", "lost answer", "302", "500", "400"):
            server.fail(fault, fault, fault)  # type: ignore[arg-type]
            listen(home.project, 0)
            home.send()
            server.heal()
    lake = home.project.lake
    rows = "".join(str(lake.read(table).to_dicts()) for table in ("notification", "alert_event", "operator_response"))
    files = "".join(path.read_text(errors="replace") for path in (home.folder / "data").glob("*.json"))
    for part in (server.token, server.token.partition(":")[2]):
        assert part not in rows + files + caplog.text


@pytest.mark.slow
def test_a_drill_is_answered_by_a_button(home: Home, server: TelegramServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drill, "POLL_SECONDS", 0.05)
    (of,) = (one for one in home.project.config.grids if one.id == GRID)
    planned = drill.plan(home.project, of)
    assert planned.channels == ("telegram",)
    assert any(line.startswith("Telegram: the same message, with buttons") for line in planned.lines())
    hear = drill.listen

    def press(project: Project) -> int:
        server.tap(server.messages[0], "reduced")
        return hear(project, 0)

    monkeypatch.setattr(drill, "listen", press)
    held = drill.hold(home.project, planned, wait_seconds=60, answer=lambda: None, say=lambda _: None)
    assert held.failures == []
    assert [(row["step"], row["channel"]) for row in held.steps] == [
        ("NOTED", "ledger"), ("SENT", "telegram"), ("RESPONSE", "telegram"),
    ]  # fmt: skip
    (row,) = home.responses()
    assert (row["grid_id"], row["action"], row["person"], row["through"]) == ("all", "reduced", "anna", "telegram")
    monkeypatch.setattr(drill, "listen", lambda project: hear(project, 0))
    held = drill.hold(home.project, planned, wait_seconds=0.2, answer=lambda: None, say=lambda _: None)
    assert held.failures == ["nobody acknowledged or answered it"]
