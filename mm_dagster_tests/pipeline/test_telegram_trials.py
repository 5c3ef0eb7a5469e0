"""Seeded trials against a Telegram on loopback: nothing is lost, no answer counts twice, no stranger is heard.

Each is two grids for some hours, then a healthy one: requests that are put off, fail, are reset or lose their answer;
updates that come in twice and in the wrong order; somebody else who asks; strangers in the chat and elsewhere; a
process that is killed before and after a commit; a daemon that is down for ten minutes. The second channel answers.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import polars as pl
import pytest

from mm_dagster.alerts import budget, dispatch, message, policy, telegram
from mm_dagster.bars import TIME
from mm_dagster.config.alerts import AlertsConfig, TelegramConfig
from mm_dagster.config.exit import ExitConfig
from mm_dagster.history.locks import Locks
from mm_dagster.pipeline import telegram as hearing
from mm_dagster.pipeline.channels import telegram_of
from mm_dagster.tables import registry
from mm_dagster_tests.alerts.given import BELOW, RISK, T0, entries, grid, states
from mm_dagster_tests.alerts.given import state as state_of
from mm_dagster_tests.alerts.ledgers import EventLedger, Other
from mm_dagster_tests.telegram import Fault, TelegramServer

GRIDS = [grid(id="g0"), grid(id="g1")]
LADDER = ("NORMAL", "WARNING", "LATEST_ACCEPTABLE_EXIT", "MANDATORY_EXIT")
FAULTS = [fault for fault in get_args(Fault) if fault != "slow"]
STRANGER = 13
STEPS = 60


class Killed(BaseException):
    """kill -9."""


class Lake:
    """The tables of the ledger in memory; `crash` is called before and after each commit."""

    def __init__(self, ledger: EventLedger) -> None:
        self.ledger = ledger
        self.responses: dict[str, dict[str, Any]] = {}
        self.commits: list[str] = []

    def read(self, table: str, **_: Any) -> pl.DataFrame:
        match table:
            case "notification":
                return self.ledger.read()
            case "operator_response":
                return pl.DataFrame(list(self.responses.values()), schema=registry.dtypes(table), orient="row")
        return registry.empty(table)

    def sql(self, query: str) -> pl.DataFrame:
        """No grid was judged, as far as the tables know: the states are handed to the sender."""
        return pl.DataFrame(schema={"grid_id": pl.String, "activated_at": TIME, "as_of": TIME})

    def upsert(self, table: str, rows: pl.DataFrame, commit: Any) -> None:
        assert table == "operator_response"
        assert registry.broken_rules(rows, table) == {}
        self.ledger.crash("before")
        for row in rows.to_dicts():
            self.commits.append(row["response_id"])
            self.responses[row["response_id"]] = row
        self.ledger.crash("after")


class World:
    """One trial: what fails, what is killed, what the market, the operator and the strangers do."""

    def __init__(self, seed: int, server: TelegramServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.server = server
        self.clock = T0
        server.clock = lambda: self.clock
        self.healthy = False
        self.kills = 0
        self.ledger = EventLedger(lambda where: self.may_kill(0.03))
        self.lake = Lake(self.ledger)
        self.other = Other()
        self.standing = dict.fromkeys(("g0", "g1"), "NORMAL")
        self.since = dict.fromkeys(("g0", "g1"), T0)
        self.said: list[dict[str, Any]] = []
        self.by_strangers: list[dict[str, Any]] = []
        self.handled: list[str] = []
        self.down_until = T0
        self.down = 0
        monkeypatch.setenv("TG_TOKEN", server.token)
        monkeypatch.setenv("TG_CHAT", str(server.chat))
        monkeypatch.setattr(telegram, "_now", lambda: self.clock)
        monkeypatch.setattr(telegram, "WAIT_SECONDS", 0.001)
        monkeypatch.setattr(telegram, "time", SimpleNamespace(sleep=self.sleep))
        handle = hearing._handle

        def remember(project: Any, channel: Any, said: Any) -> bool:
            done = handle(project, channel, said)
            self.handled.append(said.key)
            return done

        monkeypatch.setattr(hearing, "_handle", remember)
        config = TelegramConfig(
            token_env="TG_TOKEN", chat_env="TG_CHAT", api_url=server.api_url, timeout_seconds=5,
        )  # fmt: skip
        self.config = AlertsConfig(telegram=config, people={"anna": server.person, "ben": server.person + 1})
        self.project = self.project_at(folder)

    def project_at(self, folder: Path) -> Any:
        @contextmanager
        def turn():  # type: ignore[no-untyped-def]
            yield

        return SimpleNamespace(
            data=folder, lake=self.lake, ahead=timedelta(0), gone_grids=(), now=lambda: self.clock, turn_lock=turn,
            locks=Locks(folder),
            config=SimpleNamespace(grids=GRIDS, alerts=self.config, exit=ExitConfig()),
            venues=SimpleNamespace(real_clock=lambda: self.clock),
        )  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)

    def may_kill(self, share: float) -> None:
        if not self.healthy and self.random.random() < share:
            self.kills += 1
            raise Killed

    def send(self) -> None:
        """One run of the sender, as the pipeline does it."""
        as_of = self.clock
        rows = states(*(state_of(one, as_of, self.standing[one.id], since=self.since[one.id]) for one in GRIDS))
        responses = self.lake.read("operator_response")
        found = policy.due(
            rows, entries(), self.ledger.read(), as_of, self.config, GRIDS, {"g0": BELOW, "g1": BELOW},
            responses=responses,
        )  # fmt: skip
        by_id = {one.id: one for one in GRIDS}
        outgoing = []
        for alert in budget.admit(found, self.ledger.read(), as_of, self.config):
            row = rows.filter(pl.col("grid_id") == alert.grid_id).row(0, named=True)
            title, text = message.render(alert, row, RISK | {"price": BELOW}, by_id[alert.grid_id], [], False)
            # Two grids have the same words but for their name; the id tells copies from others.
            words = (alert.title or title, alert.message or f"{text}\n{alert.alert_id}")
            outgoing.append(dispatch.Outgoing(alert, *words, "ccxt", image=b"png"))
        channel = telegram_of(self.project)
        dispatch.dispatch(outgoing, ledger=self.ledger, channel=channel, second=self.other, clock=lambda: self.clock)

    def move(self) -> None:
        """Time passes, and everybody does something."""
        draw = self.random
        self.clock += timedelta(seconds=draw.choice((5, 10, 20, 40, 60, 100, 140, 400)))
        for one in GRIDS:
            if draw.random() < 0.15:
                self.standing[one.id] = draw.choice(LADDER)
                self.since[one.id] = self.clock
        if draw.random() < 0.04:
            self.down_until = self.clock + timedelta(minutes=10)
            self.down += 1
        if draw.random() < 0.35:
            self.server.retry_after = draw.choice((1, 4, 30))
            self.server.fail(*draw.choices(FAULTS, k=draw.randint(1, 4)))
        self.server.disorder = draw.random() < 0.3
        self.server.busy = "terminated by other getUpdates request" if draw.random() < 0.05 else None
        self.speak()

    def speak(self) -> None:
        draw, server = self.random, self.server
        asking = [one for one in server.messages if one["keyboard"]]
        anna, ben = server.person, server.person + 1
        for _ in range(draw.choice((0, 0, 1, 1, 2))):
            if asking and draw.random() < 0.7:
                on = draw.choice(asking[-4:])
                action = draw.choice([key["callback_data"].split()[0] for row in on["keyboard"] for key in row])
                if action == "stopped" and draw.random() < 0.8:
                    action = "kept"
                # Impatient people press twice, and two people press the same.
                self.said += [
                    server.tap(on, action, person=draw.choice((anna, ben))) for _ in range(draw.choice((1, 2)))
                ]
            else:
                words = draw.choice(
                    ("/kept g0", "/reduced g1 a third", "/snooze g0", "/status", "hello", "/kept@mm g1")
                )
                self.said.append(server.type(words, person=anna))
        if draw.random() < 0.4:
            elsewhere = {"person": anna, "chat": -STRANGER}
            who = draw.choice(({"person": STRANGER}, elsewhere))
            if asking and draw.random() < 0.6:
                self.by_strangers.append(server.tap(draw.choice(asking), "stopped", **who))
            else:
                self.by_strangers.append(server.type("/stopped g0", **who))

    def live(self) -> None:
        if self.clock < self.down_until:
            return
        hearing.listen(self.project, 0)
        self.send()


def live_through(seed: int, server: TelegramServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(hearing, "notify_failures", lambda *_: 0)
    world = World(seed, server, folder, monkeypatch)
    for _ in range(STEPS):
        world.move()
        try:
            world.live()
        except Killed:
            # The requests of a process that is gone meet nothing more.
            server.heal()
    world.healthy, server.busy, server.disorder, world.down_until = True, None, False, T0
    server.heal()
    for _ in range(12):
        world.clock += timedelta(minutes=5)
        world.live()
    return world


def key_of(update: dict[str, Any]) -> str:
    if "callback_query" in update:
        return f"telegram tap {update['callback_query']['id']}"
    found = update["message"]
    return f"telegram message {found['chat']['id']} {found['message_id']}"


def check(world: World) -> Counter[str]:
    """What must hold after each trial; what happened in it."""
    server, rows = world.server, list(world.ledger.rows.values())
    arrived = " ".join([one["text"] for one in server.messages] + [text for _, text in world.other.sent])
    lost = [
        row
        for row in rows
        if row["status"] == "PENDING" or (row["status"] == "SENT" and row["alert_id"] not in arrived)
    ]
    assert lost == [], "a message is lost"
    copies = Counter(one["text"] for one in server.messages if one["keyboard"])
    assert max(copies.values(), default=0) <= 2

    responses = list(world.lake.responses.values())
    decided = Counter(
        (row["grid_id"], row["alert_id"], row["action"]) for row in responses if row["action"] != "snoozed"
    )
    assert max(decided.values(), default=0) <= 1, "a decision counts twice"
    assert max(Counter(world.lake.commits).values(), default=0) <= 1, "a row was written twice"
    for row in responses:
        if row["action"] == "snoozed":
            beside = [one for one in responses if one["action"] == "snoozed" and one["grid_id"] == row["grid_id"]]
            assert sum(row["at"] - timedelta(hours=4) < one["at"] <= row["at"] for one in beside) == 1

    theirs = {registry.identity(key_of(one)) for one in world.by_strangers}
    assert theirs.isdisjoint(world.lake.responses), "a stranger was heard"
    assert {row["person"] for row in responses} <= {"anna", "ben"}
    assert {one["chat_id"] for one in server.messages} <= {server.chat}
    assert {key_of(one) for one in world.by_strangers}.isdisjoint(world.handled)

    mine = {key_of(one) for one in world.said}
    confirmed = {key_of(one) for one in server.confirmed}
    assert mine & confirmed <= set(world.handled), "confirmed before it was handled"
    gone = {key_of(one) for one in server.lost} & mine
    assert server.waiting == []
    # What was typed waits a day, so nothing of it is lost in ten minutes; a tap may be.
    assert all(key.startswith("telegram tap") for key in gone)
    asked_again = sum("Press again" in one["text"] for one in server.messages)

    return Counter(
        alerts=len(rows), responses=len(responses), strangers=len(world.by_strangers), said=len(mine),
        kills=world.kills, down=world.down, lost_taps=len(gone), asked_again=asked_again,
        copies=sum(one - 1 for one in copies.values()),
    )  # fmt: skip


@pytest.mark.parametrize(
    "seed", [seed if seed < 4 else pytest.param(seed, marks=pytest.mark.long) for seed in range(200)]
)
def test_nothing_is_lost_nothing_counts_twice_and_no_stranger_is_heard(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property
):
    with TelegramServer() as server:
        found = check(live_through(seed, server, tmp_path, monkeypatch))
    for name, value in found.items():
        record_property(name, value)


@pytest.mark.slow
def test_the_trials_are_not_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found: Counter[str] = Counter()
    for seed in (1, 6):
        with TelegramServer() as server, monkeypatch.context() as patch:
            found += check(live_through(seed, server, tmp_path / str(seed), patch))
    assert min(found[name] for name in ("alerts", "responses", "strangers", "kills", "down", "copies", "lost_taps")) > 0
    assert found["asked_again"] > 0
