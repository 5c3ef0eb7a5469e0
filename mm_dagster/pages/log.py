"""What happened, an entry each: messages, states, answers, what came after alerts, ticks that failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mm_dagster.bars import BAR
from mm_dagster.pages.grid import GridOnPage, Row
from mm_dagster.pages.sentences import answered, became_of
from mm_dagster.tables.words import STATES
from mm_dagster.text import money_text, spoken, words


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Attributes:
        at: when.
        what: in a word or two.
        look: the class of its colour.
        text: what there is to say of it.
        grid: the id of the grid that it is about; None: of none, or of the page's own.
        note: what a person wrote.
        message: what was sent.
        key: the same for the same entry, so that what is open stays open.
    """

    at: datetime
    what: str
    look: str
    text: str
    grid: str | None = None
    note: str | None = None
    message: str | None = None
    key: str = ""


def of_message(row: Row, clock: datetime, *, names_grid: bool = True) -> Entry:
    """A message: what became of it, and what was done about it.

    Args:
        row: of `Page.alerts`.
        clock: the moment, UTC.
        names_grid: whether the page is about more than its grid.
    """
    is_escalation = row["kind"] == "ESCALATION"
    state = row["state"] if row["kind"] not in ("FAILURE", "EXIT") else ""
    became = became_of(row, clock)
    response = f" Answer: {answered(row)}." if is_escalation or row["responded_at"] else ""
    return Entry(
        at=row["created_at"],
        what=words(row["state"] if is_escalation else row["kind"]),
        look=_look(row["state"]) if is_escalation else "soff",
        text=f"{row['title'] if not is_escalation or not state else 'Alert'}: {became}.{response}",
        grid=row["grid_id"] if names_grid and row["activated_at"] and row["grid_id"] != "all" else None,
        note=row["note"],
        message=row["message"] or None,
        key=f"message {row['alert_id']}",
    )


def of_stay(row: Row, one: GridOnPage, clock: datetime) -> Entry:
    """A state that a grid was in for a while, as of `gather.stays`."""
    at = f" It began at {one.price_text(row['price'])}" if row["price"] is not None and not row["is_cut"] else ""
    if at and row["total_pnl"] is not None:
        at += f", when the grid stood at {money_text(row['total_pnl'], one.grid.capital, signed=True)} {one.quote}"
    lasts = row["until"] == one.as_of
    lasted = spoken((clock if lasts else row["until"] + BAR) - row["since"])
    more = "more than " if row["is_cut"] else ""
    text = f"{'So far' if lasts else 'Held'} for {more}{lasted}.{at}{'.' if at else ''}"
    return Entry(row["since"], words(row["state"]), _look(row["state"]), text)


def of_answer(row: Row) -> Entry:
    """A row of `operator_response`."""
    who = row["told_by"] or row["person"] or "You"
    through = f", by {row['through']}" if row["through"] and not row["told_by"] else ""
    seconds = row["seconds_from_alert"]
    after = f", {spoken(timedelta(seconds=seconds))} after the alert" if seconds is not None else ""
    late = ", after the recommended time" if row["within_window"] is False else ""
    return Entry(row["at"], row["action"], "soff", f"{who} noted it{through}{after}{late}.", note=row["note"])


_CAME = {
    "OPEN": "Open: 24 h have not passed",
    "BROKE": "Right: it closed twice below the grid",
    "STOPPED": "Right: the stop was touched",
    "HELD": "Wrong: neither a break nor the stop came within 24 h",
    "LATE": "Late: the grid was broken before, so that it counts neither way",
    "UNKNOWN": "Not known: a bar of these hours is missing",
}


def of_outcome(row: Row, capitals: Mapping[str, float]) -> Entry:
    """What came after an alert, what leaving was worth, and what was done.

    Args:
        row: of `alert_outcome`.
        capitals: of the grids that are configured, quote currency.
    """
    after = row["hours"] is not None and row["outcome"] in ("BROKE", "STOPPED")
    said = [_CAME[row["outcome"]] + (f" {spoken(timedelta(hours=row['hours']))} later" if after else "")]
    quote = row["symbol"].partition("-")[2]
    for name, than in (("hold", "holding for 14 days or to the stop"), ("next_level", "waiting for the next state")):
        gain, share = row[f"gain_vs_{name}"], row[f"gain_vs_{name}_percent"]
        if gain is None or share is None:
            continue
        capital = capitals.get(row["grid_id"]) or (abs(100 * gain / share) if share else abs(gain))
        amount = money_text(gain, capital, signed=True)
        said.append(f"Leaving then and not {than} was worth {amount} {quote}, {share:+.2f} % of the capital")
    if row["told"]:
        action, seconds = row["action"], row["seconds_to_action"]
        soon = f" after {spoken(timedelta(seconds=seconds))}" if seconds is not None else ""
        said.append(f"Answer: {action}{soon}" if action else "No answer")
    return Entry(row["as_of"], words(row["state"]), _look(row["state"]), ". ".join(said) + ".", grid=row["grid_id"])


def of_tick(row: Row) -> Entry:
    """A tick in which something failed, or that did not finish."""
    failed = f"Failed: {', '.join(row['symbols_failed'])}. " if row["symbols_failed"] else ""
    text = row["reason"] or ("" if row["finished_at"] else "It has not finished.")
    return Entry(row["as_of"], "tick", "su", (failed + text).strip() or "Something failed.")


def newest_first(entries: Iterable[Entry], most: int) -> tuple[list[Entry], int]:
    """So many of the newest entries, and how many there are beyond them."""
    ordered = sorted(entries, key=lambda entry: entry.at, reverse=True)
    return ordered[:most], max(0, len(ordered) - most)


def _look(state: str) -> str:
    return f"s{STATES.index(state)}" if state in STATES else "soff"
