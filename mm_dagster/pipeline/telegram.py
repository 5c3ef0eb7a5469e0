"""What is tapped and typed in Telegram is noted as answers, each once, and answered with a line.

Nothing is confirmed to Telegram before it is committed; what comes in again after a crash is known by its name in
`operator_response`. Of strangers, and in other chats, nothing is heard and nothing is said.
"""

import logging
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.alerts import drill
from mm_dagster.alerts.channel import Refused, Unavailable
from mm_dagster.alerts.pending import is_answered
from mm_dagster.alerts.responses import CHOICES, NOW_MINUTES, SNOOZE, answers_of
from mm_dagster.alerts.seen import rank
from mm_dagster.alerts.telegram import TAP_LIVES, Said, Telegram
from mm_dagster.bars import Span, ceil_bar, floor_bar, iso
from mm_dagster.errors import ForeseenError
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.answers import answer
from mm_dagster.pipeline.channels import telegram_of
from mm_dagster.pipeline.notify import LOOK_BACK, judged, notify_failures
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.words import RESPONSES
from mm_dagster.text import in_local_time, local_time, price_text, words

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2
"""So long Telegram waits for something to come in before it says that nothing did: a program that waits longer, with
the same token, is found out by that."""

_COMMANDS = {**{action: action for action in RESPONSES}, "snooze": "snoozed"}
_HELP = (
    "/stopped GRID, /reduced GRID, /kept GRID and /reopened GRID note what you did, with a note behind it if you like. "
    "/snooze GRID puts the reminders of a LATEST ACCEPTABLE EXIT off for 4 hours. /status says how the grids are. With "
    "one running grid its name can be left out."
)


def listen(project: Project, wait_seconds: int = WAIT_SECONDS) -> int:
    """Hears what was tapped and typed, notes it, and answers. Never raises for what may pass.

    One process at a time, of all that share the lake: who finds another at it leaves it to that.

    Returns:
        How many answers came in.
    """
    telegram = telegram_of(project)
    if telegram is None:
        return 0
    hears = project.locks.of("telegram.hears")
    if not hears.try_acquire():
        return 0
    try:
        return _hear(project, telegram, wait_seconds)
    except Refused as error:
        # Noted once in four hours, and sent by whatever channel still takes it.
        notify_failures(project, [("telegram", str(error))], f"telegram {iso(project.venues.real_clock())}")
    except Unavailable as error:
        logger.info("it is not known what was said in Telegram: %s", error)
    finally:
        hears.release()
    return 0


def _hear(project: Project, telegram: Telegram, wait_seconds: int) -> int:
    updates = telegram.updates(wait_seconds)
    handled, answers = set(telegram.notes.get("handled") or []), 0
    for update in updates:
        said = update.said
        if update.number in handled or said is None:
            continue
        if not telegram.may_answer(said):
            logger.info("something was said to the bot by somebody, or somewhere, that is not in alerts.yaml")
            continue
        answers += _handle(project, telegram, said)
        handled.add(update.number)
        # What is noted is known anyway; this keeps a line from being said twice when a confirmation gets lost.
        telegram.notes.put(handled=sorted(handled & {one.number for one in updates}))
    _mind_silence(project, telegram)
    if updates:
        telegram.confirm(updates[-1].number)
    return answers


def _handle(project: Project, telegram: Telegram, said: Said) -> bool:
    """Notes one answer, and says what came of it; whether it was noted.

    Raises:
        ForeseenError: the history cannot be written now: nothing is confirmed, so it comes in again.
    """
    done = True
    try:
        line = _tapped(project, telegram, said) if said.tap else _typed(project, telegram, said)
    except ForeseenError:
        raise
    except ValueError as error:
        done, line = False, str(error)
    except Exception:
        # Whatever it stumbles over, the next one must be heard.
        logger.exception("what was said in Telegram could not be noted")
        done, line = False, "This could not be noted; the log says why. `mm respond` notes it, too."
    line = in_local_time(line, project.config.alerts.timezone)
    if said.tap:
        # A tap has room for a sentence; what is left to do is worth a message.
        tapped, _, rest = line.partition("\n")
        telegram.answer_tap(said, tapped, done=done)
    else:
        rest = line
    if rest:
        _say(telegram, rest)
    return done and bool(line)


def _tapped(project: Project, telegram: Telegram, said: Said) -> str:
    """
    Raises:
        ValueError: it answers nothing.
    """
    action, _, alert_id = said.words.partition(" ")
    found = project.lake.read("notification").filter(pl.col("alert_id") == alert_id).to_dicts()
    if action not in CHOICES or not found:
        raise ValueError("This message is not in the ledger; nothing was noted.")
    alert = found[0]
    # The exchange's clock, by which it was sent, may be ahead of ours.
    now = max(project.now(), alert["sent_at"] or alert["created_at"])
    if alert["kind"] == drill.KIND:
        return _drilled(project, telegram, said, alert, action, now)
    return _noted(project, telegram, said, alert["grid_id"], action, now, None, alert_id)


def _typed(project: Project, telegram: Telegram, said: Said) -> str:
    """The line for a command; nothing for what is none.

    Raises:
        ValueError: it answers nothing.
    """
    if not said.words.startswith("/"):
        return ""
    parts = [*said.words[1:].split(maxsplit=2), "", "", ""]
    # In a group a command may be followed by the bot's name; phones begin words with a capital.
    command, grid_id, note = parts[0].partition("@")[0].lower(), parts[1], parts[2].strip()
    grid_id = next((one.id for one in project.config.grids if one.id.lower() == grid_id.lower()), grid_id)
    if command == "status":
        return _status(project)
    if command not in _COMMANDS:
        return _HELP
    running = [grid.id for grid in project.config.grids if grid.enabled]
    if not grid_id and len(running) != 1:
        raise ValueError(f"Which grid? Write it like /{command} {running[0] if running else 'GRID'}.")
    assert said.at is not None
    at = min(said.at + project.ahead, project.now())
    return _noted(project, telegram, said, grid_id or running[0], _COMMANDS[command], at, note or None, None)


def _noted(
    project: Project,
    telegram: Telegram,
    said: Said,
    grid_id: str,
    action: str,
    at: datetime,
    note: str | None,
    alert_id: str | None,
) -> str:
    row, more = answer(
        project, grid_id, action, at, note,
        person=telegram.person(said), through=telegram.name, to=alert_id, key=said.key,
    )  # fmt: skip
    noted = row.row(0, named=True)
    until = f" until {iso(noted['at'] + SNOOZE)}" if action == "snoozed" else ""
    who = f" by {noted['person']}" if noted["person"] else ""
    return f"{grid_id}: noted as {action}{who}{until}." + (f"\n{more}" if more else "")


def _drilled(
    project: Project, telegram: Telegram, said: Said, alert: dict[str, Any], action: str, now: datetime
) -> str:
    """Notes the answer to a drill, once."""
    before = project.lake.read("operator_response").filter(pl.col("alert_id") == alert["alert_id"])
    if before.is_empty():
        sent_at = alert["sent_at"] or alert["created_at"]
        row = drill.response(alert["alert_id"], sent_at, action, now, "answered in Telegram", NOW_MINUTES)
        row = row.with_columns(person=pl.lit(telegram.person(said), pl.String), through=pl.lit(telegram.name))
        project.lake.upsert("operator_response", row, commit=Commit("drill", "operator_response", ""))
    return f"DRILL: noted as {action}. Nothing happened to any grid."


def _status(project: Project) -> str:
    """One line for each running grid."""
    zone, clock = project.config.alerts.timezone, project.now()
    grids = [grid for grid in project.config.grids if grid.enabled]
    recent = Span(floor_bar(clock - LOOK_BACK), ceil_bar(clock))
    rows = {row["grid_id"]: row for row in judged(project, grids, recent).iter_rows(named=True)}
    risks = project.lake.read("grid_risk", span=recent, grids=[grid.id for grid in grids]).sort("as_of")
    prices = dict(risks.select("grid_id", "price").iter_rows())
    answers = answers_of(project.lake.read("operator_response"), project.lake.read("notification"))
    lines = []
    for grid in grids:
        row, price = rows.get(grid.id), prices.get(grid.id)
        said = answers.get((grid.id, grid.activated_at))
        if row is None or row["state"] is None:
            parts = ["not judged yet"]
        else:
            state = max(row["state"], row["live_state"] or "NORMAL", key=rank)
            parts = [f"{words(state)} as of {local_time(row['as_of'], zone)}"]
        parts += [f"price {price_text(price)}"] if price is not None else []
        parts += [f"{said['action']} at {local_time(said['at'], zone)}"] if said else []
        lines.append(f"{grid.id}: {', '.join(parts)}")
    return "\n".join(lines) or "No grid runs."


def _mind_silence(project: Project, telegram: Telegram) -> None:
    """After a silence in which taps were lost it says once that they are to be made again, if one may have been."""
    notes, now = telegram.notes, project.venues.real_clock()
    last, since = notes.time("heard_at"), notes.time("silent_since")
    if last is not None and now - last > TAP_LIVES:
        since = since or last
    told = since is None or not _asks(project, now) or _say(telegram, _tap_again(project, since, now))
    notes.put(heard_at=now, silent_since=None if told else since)


def _tap_again(project: Project, since: datetime, now: datetime) -> str:
    zone = project.config.alerts.timezone
    return (
        f"Nothing was heard here from {local_time(since, zone)} to {local_time(now, zone)}: a button that you pressed "
        "meanwhile may be lost. Press again, or type it, like /stopped GRID."
    )


def _asks(project: Project, now: datetime) -> bool:
    """Whether a message of the last day still waits for an answer."""
    ledger, responses = project.lake.read("notification"), project.lake.read("operator_response")
    answers = answers_of(responses, ledger)
    asking = ledger.filter(
        pl.col("kind").is_in(["ESCALATION", "REMINDER"])
        & (pl.col("status") != "SUPPRESSED")
        & (pl.col("created_at") > now - LOOK_BACK / 2)
    )
    for row in asking.iter_rows(named=True):
        said = answers.get((row["grid_id"], row["activated_at"]))
        if said is None or not is_answered(row, said, now):
            return True
    return False


def _say(telegram: Telegram, line: str) -> bool:
    """Whether it was said, or never can be."""
    try:
        telegram.reply(line)
    except Refused as error:
        logger.warning("not said in Telegram: %s", error)
    except Unavailable as error:
        logger.info("not said in Telegram: %s", error)
        return False
    return True
