"""One message of every kind as a phone shows it, as golden/messages.txt has them, to be read by a person.

What they say changed on purpose: `python -m mm_dagster_tests.alerts.test_message_examples > \
mm_dagster_tests/alerts/golden/messages.txt`, and read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from mm_dagster.alerts import drill, failures, limit_words, message, newcomers
from mm_dagster.alerts.alert import JUDGED, Alert
from mm_dagster.alerts.digest_words import Change, Day, GridLine, digest
from mm_dagster.alerts.parts import MESSAGE_LIMIT, length
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.measured import worth_of_warning
from mm_dagster.tables import registry
from mm_dagster.tables.words import ALERT_KINDS
from mm_dagster_tests.alerts.given import BELOW, RISK, T0, alert, bot_rows, entry, grid, minutes, state

GOLDEN = Path(__file__).parent / "golden" / "messages.txt"
GRID = grid()
ZONE = "Europe/Berlin"
NEXT = ["Closes below the grid: 1 of 2 (below 3,070)"]
LIKELY = "Break below the grid within 24 h: 71 % (limit 60 %)"
WORTH = worth_of_warning(ExitConfig(), TouchConfig()) or ""
SOON = "Break below the grid within 24 h: 38 % (limit 37 %)"
WARNING = f"Be ready to stop the grid, and look again within 4 h: {SOON}. {WORTH}"
LATEST = f"Stop the grid within 1 h: {LIKELY}; True range against its week: 1.31 (limit 1.25)."
MANDATORY = (
    "Stop the grid now and sell the inventory: Closes in a row below the grid: 2 (limit 2) (at 2026-01-10T11:45:00Z; "
    "only a new activation ends this)."
)
STOPPED = "Make sure on the exchange that the grid has stopped and holds nothing: the price reached the stop 2,990 at "
ALL = (
    "All 3 grids together: one night in 20 costs 124.00 USDT or more (12 % of their capital); they count as 1.1 "
    "independent grids."
)
ADDED = "As proposed, with 1,000.00 USDT, it adds 12.00 USDT to what the worst nights, one in 20, cost all on average."


def of_grids() -> Iterator[tuple[str, tuple[str, str]]]:
    """What is said of one grid."""

    def said(told: Alert, row: Any, risk: Any = RISK, answer: Any = None, **options: Any) -> tuple[str, str]:
        return message.render(told, row, risk, GRID, [], False, answer, ZONE, **options)

    warning = state(GRID, T0, "WARNING", advice=WARNING, nearest=NEXT)
    latest = state(GRID, T0, "LATEST_ACCEPTABLE_EXIT", advice=LATEST, nearest=NEXT)
    mandatory = state(GRID, T0, "MANDATORY_EXIT", advice=MANDATORY)
    yield "ESCALATION", said(alert("ESCALATION", "WARNING"), warning)
    yield "ESCALATION", said(alert("ESCALATION", "LATEST_ACCEPTABLE_EXIT"), latest)
    yield "ESCALATION", said(alert("ESCALATION", "MANDATORY_EXIT"), mandatory, RISK | {"price": BELOW})
    live = warning | {"live_state": "MANDATORY_EXIT", "live_reason": "last price 2,980 is at or below the stop 2,990"}
    yield "ESCALATION, seen live", said(alert("ESCALATION", "MANDATORY_EXIT"), live)
    sold = RISK | {"stopped_at": T0, "inventory": 0.0, "exit_pnl": -21.40, "unrealised_pnl": 0.0, "total_pnl": -13.09}
    stopped = state(GRID, T0, "MANDATORY_EXIT", advice=f"{STOPPED}2026-01-10T12:00:00Z, and all was sold.")
    yield "ESCALATION, the stop sold", said(alert("ESCALATION", "MANDATORY_EXIT"), stopped, sold)
    late = alert("REMINDER", "LATEST_ACCEPTABLE_EXIT", first_notified_at=T0 - minutes(60), found_at=T0 + minutes(1))
    yield "REMINDER", said(late, latest)
    noted = {"at": T0 - minutes(30), "action": "reduced", "person": "Anna"}
    yield "REMINDER, answered, and no link is set", said(late, latest, answer=noted, linked=False)
    yield "DEESCALATION", said(alert("DEESCALATION", "NORMAL", before="WARNING"), state(GRID, T0))
    yield "DEESCALATION", said(alert("DEESCALATION", "WARNING", before="LATEST_ACCEPTABLE_EXIT"), warning)
    yield "BLIND", said(alert("BLIND", "WARNING"), warning, RISK | {"as_of": T0})
    yield "RECOVERED", said(alert("RECOVERED", "WARNING"), warning)
    waits = "No candle of ETH-USDT since 2026-01-10T00:00:00Z is known: there is no network."
    yield "SETUP", said(alert("SETUP", "UNKNOWN", reason=waits), None, None)
    yield "SETUP", said(alert("SETUP", JUDGED), state(GRID, T0))
    waiting = grid(enabled=False)
    enter = entry(waiting, T0, "ENTER", reasons=["The verdict is RANGE_OK, and was for 12 h."])
    yield "ENTRY", message.render(alert("ENTRY", "ENTER"), enter, None, waiting, [], False, None, ZONE, added=ADDED)


def of_all() -> Iterator[tuple[str, tuple[str, str]]]:
    """What is said of no single grid."""
    (bot,) = newcomers.due(bot_rows(T0), [], registry.empty("notification"), T0, ZONE)
    yield "SETUP, a bot that nobody watches", (bot.title or "", bot.message or "")
    row = {"as_of": T0, "value": 0.0644, "threshold": 0.05, "breached": True}
    risk = {"grids": 6, "counts_as": 1.1, "capital": 6_000.0, "es_5_24h": 161.0, "var_5_24h": 124.0}
    shares = [
        {"grid_id": "eth-v3", "es_5_share": 0.38, "capital": 1_000.0, "stopping_takes_off": 58.0},
        {"grid_id": "sol-2", "es_5_share": 0.21, "capital": 1_000.0, "stopping_takes_off": 30.0},
    ]
    told = limit_words.OfLimit("BREACHED", "USDT", "es_5_24h", "all")
    yield "LIMIT", message.limit(told, limit_words.Known(row, None, risk, shares), False, ZONE)
    fine = [GridLine("eth-v3", "NORMAL"), GridLine("sol-2", "NORMAL"), GridLine("btc-1", "NORMAL")]
    day = Day((96, 96), [Change("USDT", 4.2, 3_000, 3, 3)], (7, 9, 0), [ALL])
    yield "DIGEST", digest(T0, fine, day, {"SENT": 2}, simulated=False, timezone=ZONE)
    wrong = [*fine[:1], GridLine("sol-2", "MANDATORY_EXIT"), GridLine("btc-1", "NORMAL", blind=True)]
    day = Day((90, 96), [Change("USDT", -21.4, 2_000, 2, 3)], (7, 9, 1), [ALL], ["es_5_24h", "position of sol-2"])
    counts = {"SENT": 5, "SUPPRESSED": 2, "FAILED": 1}
    yield "DIGEST, of a bad day", digest(T0, wrong, day, counts, simulated=False, timezone=ZONE)
    states = ["MANDATORY_EXIT", "WARNING", None, *["NORMAL"] * 5]
    many = [GridLine(f"grid-{number}", states[number % 8], number % 7 == 0) for number in range(300)]
    yield "DIGEST, of 300 grids", digest(T0, many, day, counts, simulated=False, timezone=ZONE, linked=False)
    failed = failures.failure("run", "candles", "KuCoin did not answer within 15 s", T0, registry.empty("notification"))
    assert failed is not None
    yield "FAILURE", message.failure(failed, ZONE)
    for name, line in (
        ("recorder", "nothing was heard of it since 2026-01-10T11:58:30Z: start `mm record`"),
        (
            "recorder DONE",
            "It works again since 2026-01-10T12:07:10Z. It did not since 2026-01-10T11:59:10Z; what it missed "
            "`mm books gaps` lists.",
        ),
    ):
        watched = failures.failure("recorder", name, line, T0, registry.empty("notification"))
        assert watched is not None
        yield f"FAILURE, {name}", message.failure(watched, ZONE)
    plan = "plan k8p3p79u (live) to leave sol-2"
    halted = "only 1.2 of 5.3 was sold at 166.89 or better; the rest is not chased. 1.2 of 5.3 SOL sold by 1 order for"
    for end, said in (
        (
            "HALTED",
            f"Look at the exchange, then `mm exit resume k8p3p79u` or leave it by hand. {plan}: {halted} 200.41 USDT",
        ),
        (
            "DONE",
            f"There is nothing to do. {plan}: 5.3 of 5.3 were sold. 5.3 of 5.3 SOL sold by 1 order for 886.90 USDT",
        ),
    ):
        ended = failures.failure("plan", f"sol-2 {end}", said, T0, registry.empty("notification"), kind="EXIT")
        assert ended is not None
        yield f"EXIT, {end}", message.failure(ended, ZONE)
    yield "TEST", message.trial(failures.trial("pushover", T0, 0), ZONE)
    yield "DRILL", drill.words("eth-v3", T0 + timedelta(seconds=20), reminds=False, simulated=False, timezone=ZONE)


def written() -> str:
    """All of them, each with its length."""
    blocks = []
    for kind, (title, text) in (*of_grids(), *of_all()):
        blocks.append(f"-- {kind}, {length(text)} characters\n{title}\n{text}\n")
    return "\n".join(blocks)


def test_the_examples_are_those_that_a_person_has_read():
    assert written() == GOLDEN.read_text(encoding="utf-8")


def test_there_is_an_example_of_every_kind_and_each_fits():
    found = [*of_grids(), *of_all()]
    assert {kind.partition(",")[0] for kind, _ in found} == set(ALERT_KINDS)
    assert [kind for kind, (title, text) in found if not title or not 0 < length(text) <= MESSAGE_LIMIT] == []


if __name__ == "__main__":
    print(written(), end="")
