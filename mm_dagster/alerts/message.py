"""The words of an alert: what to do and by when, the one reason, the money; then, where there is room, price and more.

Plain text, the most urgent first, since a locked phone shows only the beginning. Everything has MESSAGE_LIMIT; how
parts give way stands in `parts`. What is left out is on the live page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from mm_dagster.alerts import leaving, limit_words, money
from mm_dagster.alerts.alert import EVERY_GRID, JUDGED, PARTLY_JUDGED, Alert
from mm_dagster.alerts.failures import OVER
from mm_dagster.alerts.happened import CLEAR, SELL, happened, holds_nothing
from mm_dagster.alerts.parts import Part, length, text_of, title_of
from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.words import MEASURED
from mm_dagster.text import brief_time, money_text, price_text, spoken, words

URL_LIMIT = 512
"""Pushover's."""

_REASON, _MONEY, _PRICE, _NEXT, _ZULU, _SPLIT, _BOUNDS, _WAITING, _MORE, _LEAVING, _WORTH = range(1, 12)
"""Ranks: in this order they take what room there is."""

Row = Mapping[str, Any]


def render(
    alert: Alert,
    row: Row | None,
    risk: Row | None,
    grid: GridConfig,
    reasons: Sequence[str],
    simulated: bool,
    answer: Row | None = None,
    timezone: str = "UTC",
    price_tick: float | None = None,
    costs: Sequence[Row] = (),
    added: str = "",
    linked: bool = True,
) -> tuple[str, str]:
    """Title and message of an alert of one grid; limit, digest, failure and test have words of their own.

    Args:
        alert: what to tell.
        row: the newest row of `exit_state`; for an entry the one of `entry_assessment`; None: there is none.
        risk: the newest row of `grid_risk`; None: there is none.
        grid: the grid.
        reasons: the fired triggers as sentences, the most urgent first; asked only where the advice names none.
        simulated: whether its market is synthetic; the title says so.
        answer: the newest row of `operator_response` of its episode; None: there is none.
        timezone: the operator's.
        price_tick: the step between prices of its venue; None: not known.
        costs: the rows of `exit_cost` of the same bar; none: not known.
        added: of an entry, what the grid would add to the bad night of all grids.
        linked: whether a link leads to the rest; else it is said where that is.

    Returns:
        Plain text, not empty, within the limits of `parts`. What happened to the grid goes before everything else.
    """
    came = happened(risk, grid, answer) if grid.enabled else None
    priced = _Priced(risk, grid, price_tick)
    match alert.kind:
        case "ENTRY":
            parts = _entry(alert, row, price_tick, added)
        case "BLIND":
            parts = _blind(alert, priced)
        case "SETUP":
            parts = _setup(alert)
        case "RECOVERED":
            parts = _recovered(alert, row, priced)
        case "DEESCALATION":
            parts = _down(alert, row, priced, timezone)
        case _:
            parts = _up(alert, row, priced, reasons, timezone, costs)
    parts = [Part(0, (came or "",), must=True), *parts]
    if not linked:
        parts.append(Part(_MORE, ("More: `mm status`.",)))
    title = f"{'SIMULATED ' if simulated else ''}{_headline(alert)} · {grid.id} {grid.symbol}"
    return title_of(title), text_of(parts, timezone)


def _follows(part: str, at: str) -> str:
    """What a failure means: of the configuration and the environment the last valid one stays in force."""
    of_files = part.endswith(".yaml") or part.startswith(("configuration", "data/config", "grid "))
    if of_files or part.isupper():
        return f"needs you, since {at}; all goes on as before until it is mended."
    return f"failed at {at}; until it works again its figures are old."


def failure(alert: Alert, timezone: str = "UTC") -> tuple[str, str]:
    """Title and message of a FAILURE, its end, or of a plan that ended: what to do, what failed or came, and with what.

    Args:
        alert: made by `failures.failure`.
        timezone: the operator's.
    """
    asset, _, error = alert.state.partition(": ")
    if alert.kind == "EXIT":
        do, _, came = error.partition(". ")
        return title_of(f"EXIT · {asset}"), text_of(
            [Part(0, (f"{do}.",), must=True), Part(1, (came,), may_be_cut=True)], timezone
        )
    if asset.endswith(OVER):
        return title_of(f"WORKS AGAIN · {asset.removesuffix(OVER)}"), text_of([Part(0, (error,), must=True)], timezone)
    follows = _follows(asset, iso(alert.as_of))
    parts = [
        Part(0, ("Run `mm doctor`: it says what is wrong and what to do.",), must=True),
        Part(2, (f"{asset} {follows}", f"It {follows}"), must=True),
        Part(1, (error,), may_be_cut=True),
    ]
    return title_of(f"FAILURE · {asset}"), text_of(parts, timezone)


def limit(
    told: limit_words.OfLimit, known: limit_words.Known, simulated: bool, timezone: str = "UTC", *, linked: bool = True
) -> tuple[str, str]:
    """Title and message of a LIMIT: how much, the limit, who has most of it, and what brings it back.

    Args:
        told: what the alert says.
        known: the stored rows of the same bar.
        simulated: whether the grids' markets are synthetic; the title says so.
        timezone: the operator's.
        linked: whether a link leads to the rest; else it is said where that is.
    """
    parts = limit_words.parts(told, known)
    if not linked:
        parts.append(Part(10, ("More: `mm portfolio`.",), begins_line=False))
    return title_of(f"{'SIMULATED ' if simulated else ''}{limit_words.title(told, known)}"), text_of(parts, timezone)


def trial(alert: Alert, timezone: str = "UTC") -> tuple[str, str]:
    """Title and message of a TEST.

    Args:
        alert: made by `failures.trial`.
        timezone: the operator's.
    """
    parts = [
        Part(0, ("There is nothing to do.",), must=True),
        Part(0, (f"`mm alert-test` sent this at {iso(alert.as_of)}.",), must=True, begins_line=False),
        Part(1, (f"It came by {alert.state}; alerts of grids come the same way.",), may_be_cut=True),
    ]
    return title_of(f"TEST · {alert.state}"), text_of(parts, timezone)


def url(kind: str, link: str | None, grid_id: str = EVERY_GRID, code: str | None = None) -> str | None:
    """Where to read on, on the live page: the grid, or what does not work; None: no address, or too long.

    Args:
        kind: see words.ALERT_KINDS.
        link: `alerts.link`.
        grid_id: the grid that is told of.
        code: lets whoever opens it first in, once; it stands where browsers send it to nobody.
    """
    if not link:
        return None
    page = "state" if kind == "FAILURE" else "" if grid_id == EVERY_GRID else f"g/{quote(grid_id)}"
    address = f"{link.rstrip('/')}/{page}{f'#{code}' if code else ''}"
    return address if length(address) <= URL_LIMIT else None


def _headline(alert: Alert) -> str:
    match alert.kind:
        case "BLIND":
            return "BLIND"
        case "RECOVERED":
            return "SEEING AGAIN"
        case "SETUP":
            return "Set-up is finished" if alert.state == JUDGED else "Set-up is not finished"
        case "DEESCALATION":
            return f"Down to {words(alert.state)}"
        case "REMINDER":
            return f"Still {words(alert.state)}"
        case "ENTRY":
            return f"Entry: {alert.state}"
        case _:
            return words(alert.state)


class _Priced:
    """What the newest row of risk says of money and price; nothing where it is not known."""

    def __init__(self, risk: Row | None, grid: GridConfig, price_tick: float | None) -> None:
        self._grid, self._tick = grid, price_tick
        self._quote = grid.symbol.partition("-")[2]
        self.risk = risk
        self.symbol = grid.symbol
        self.holds_nothing = holds_nothing(risk, grid)
        self._known = risk if risk and risk["price"] is not None and risk["liquidation_value"] is not None else None

    def money(self, begin: str = "The grid stands at", then: str = "") -> list[Part]:
        """Where it stands, what more may be lost, and of what the total is made."""
        risk = self._known
        if risk is None or risk["total_pnl"] is None:
            return []
        split, total = money.profits(risk, self._grid.capital)
        more = ""
        if risk["capital_at_risk"] and not self.holds_nothing:
            more = f"; {self._money(risk['capital_at_risk'])} more at risk to the stop"
        stands = f"{begin} {total} {self._quote}{then}"
        said = ", ".join(f"{name} {amount}" for name, amount in split.items() if amount)
        return [Part(_MONEY, (f"{stands} ({said}){more}.", f"{stands}{more}."), longer=_SPLIT)]

    def waiting(self) -> list[Part]:
        """What the time until the operator acts may cost."""
        risk = self._known
        if risk is None or not risk["profit_giveback"] or self.holds_nothing:
            return []
        said = f"Waiting may cost {self._money(risk['profit_giveback'])} {self._quote}."
        return [Part(_WAITING, (said,), begins_line=False)]

    def price(self) -> Part:
        """The last price, and the stop."""
        price = self.risk["price"] if self.risk is not None else None
        shown = f"Price {price_text(price, self._tick)}" if price is not None else "Price not known"
        lower, upper, stop = (
            price_text(one, self._tick) for one in (self._grid.lower, self._grid.upper, self._grid.stop)
        )
        forms = (f"{shown}; grid {lower} to {upper}, stop {stop}.", f"{shown}; stop {stop}.")
        return Part(_PRICE, forms, longer=_BOUNDS)

    def _money(self, amount: float) -> str:
        return money_text(amount, self._grid.capital)


def _up(
    alert: Alert, row: Row | None, priced: _Priced, reasons: Sequence[str], timezone: str, costs: Sequence[Row]
) -> list[Part]:
    """An escalation or a reminder."""
    live = row is not None and row["state"] != alert.state
    advice = None if live or row is None else str(row["advice"])
    reason = _reason(advice) or next(iter(reasons), "")
    if live and row is not None and row["live_reason"]:
        reason = f"seen live: {row['live_reason']}"
    parts = [
        _do(alert, row if advice else None, priced, timezone),
        Part(_REASON, (f"Why: {reason or 'not known'}.",), may_be_cut=True),
        *priced.money(),
        *priced.waiting(),
        priced.price(),
    ]
    if row is not None and row["nearest"] and alert.state != "MANDATORY_EXIT":
        parts.append(Part(_NEXT, (f"Next: {row['nearest'][0]}.",), begins_line=False))
    parts.append(_times(alert, timezone))
    if advice and not priced.holds_nothing:
        parts.append(Part(_WORTH, (apart(advice)[1],)))
    if not priced.holds_nothing:
        parts.append(Part(_LEAVING, (leaving.sentence(costs, priced.symbol),)))
    return parts


def _do(alert: Alert, row: Row | None, priced: _Priced, timezone: str) -> Part:
    """What to do, and by when. A state that only the live run knows has no row that advises on it.

    The time to act begins with the first message of the state. So that is never overdue, however long ago a history
    that became known late says that the state began.
    """
    gone = priced.holds_nothing
    if row is None:
        if alert.state == "MANDATORY_EXIT":
            return _must(CLEAR if gone else f"Stop the grid now and {SELL}.")
        return _must("Look at the exchange yourself now, and be ready to stop the grid.")
    act = _act(str(row["advice"]))
    if gone and SELL in act:
        return _must(CLEAR)
    minutes = row["recommended_window_minutes"]
    if not minutes:
        return _must(f"{act}.")
    found = alert.found_at or alert.as_of
    end = (alert.first_notified_at or found).replace(second=0, microsecond=0) + timedelta(minutes=minutes)
    begin = "By" if end > found or alert.first_notified_at is None else "Overdue since"
    act = _undated(act, minutes)
    said = tuple(f"{begin} {brief_time(end, timezone, beside=beside)}: {act}." for beside in (True, False))
    return Part(_ZULU, said, must=True)


def _must(sentence: str) -> Part:
    return Part(0, (sentence,), must=True)


def _act(advice: str) -> str:
    """What to do, without the reason and without a full stop."""
    act, _, _ = apart(advice)[0].partition(": ")
    # An idle grid has its reason in the advice itself.
    return (apart(advice)[0] if act.startswith(_IDLE) else act).rstrip(".")


def _reason(advice: str | None) -> str:
    """The reason that decided, the first of several, without a full stop; empty where the advice names none."""
    act, _, reason = apart(advice or "")[0].partition(": ")
    # What stands in brackets belongs to the reason.
    return "" if act.startswith(_IDLE) else re.split(r"; (?![^(]*\))", reason)[0].rstrip(".")


_IDLE = "Idle"


def _undated(act: str, minutes: float) -> str:
    """What to do where the time stands before it, or has long been said."""
    return act.replace(f" within {spoken(timedelta(minutes=minutes))}", "")


def apart(advice: str) -> tuple[str, str]:
    """What to do, and the measured sentence after it; empty where it has none."""
    act, begins, figures = advice.partition(f" {MEASURED}")
    return act, (begins + figures).strip()


def _times(alert: Alert, timezone: str) -> Part:
    """Since when the state is entered, and of when the evaluation is."""
    since, as_of = (brief_time(time, timezone) for time in (alert.state_since, alert.as_of))
    day, _, rest = as_of.rpartition(" ")[0].rpartition(" ")
    if since.startswith(f"{day} ") and since.rpartition(" ")[2] == as_of.rpartition(" ")[2]:
        return _must(f"Since {since.rpartition(' ')[0]}, as of {rest} {as_of.rpartition(' ')[2]}.")
    return _must(f"Since {since}, as of {as_of}.")


def _down(alert: Alert, row: Row | None, priced: _Priced, timezone: str) -> list[Part]:
    came = f"It came down from {words(alert.before)} to {words(alert.state)}." if alert.before else "It came down."
    known = row is not None and row["state"] == alert.state
    parts = [_do(alert, row, priced, timezone), Part(_REASON, (came,))] if known else [_must(came)]
    parts += [*priced.money(), priced.price()]
    if known and row is not None and row["nearest"] and not priced.holds_nothing:
        parts.append(Part(_NEXT, (f"Next: {row['nearest'][0]}.",), begins_line=False))
    return [*parts, _times(alert, timezone)]


def _blind(alert: Alert, priced: _Priced) -> list[Part]:
    last = f"last known state: {words(alert.state)}." if alert.state != "UNKNOWN" else "no state was ever known."
    parts = [
        _must("Look at the exchange yourself now; `mm doctor` says what is wrong here."),
        _must(f"Not evaluated since {iso(alert.as_of)}; {last}"),
    ]
    # Of another bar than the one that is named it would be no figure of then.
    if priced.risk is not None and priced.risk.get("as_of") == alert.as_of:
        parts += priced.money("It stood at", " then")
    return [*parts, Part(_WAITING, ("Whatever happens meanwhile goes unseen.",))]


def _recovered(alert: Alert, row: Row | None, priced: _Priced) -> list[Part]:
    """What holds again. The time to act counts from the message of the state, and is not told anew."""
    act = ""
    if row is not None and row["state"] == alert.state:
        act = _act(str(row["advice"]))
        if priced.holds_nothing and SELL in act:
            act = CLEAR.rstrip(".")
        act = f"{_undated(act, row['recommended_window_minutes'] or 0)}."
    return [
        _must(act),
        _must(f"State: {words(alert.state)}; it is evaluated again, as of {iso(alert.as_of)}."),
        *priced.money(),
        priced.price(),
    ]


def _setup(alert: Alert) -> list[Part]:
    """What it waits for, and what that means for the operator."""
    match alert.state:
        case state if state == JUDGED:
            said = f"There is nothing to do: this grid is judged since {iso(alert.state_since)}, {words('NORMAL')}."
        case state if state == PARTLY_JUDGED:
            said = "Look at the exchange yourself, too: only its stop and closes outside the grid are watched yet."
        case _:
            said = "Look at the exchange yourself: nothing watches this grid yet."
    return [_must(said), Part(_REASON, (alert.reason or "",), may_be_cut=True)]


def _entry(alert: Alert, row: Row | None, price_tick: float | None, added: str) -> list[Part]:
    act = {
        "ENTER": "A moment to start this grid, if you want to.",
        "WATCH": "Not yet a moment to start this grid; watch it.",
        "WAIT": "No moment to start this grid.",
    }[alert.state]
    reason = next(iter(row["reasons"]), "") if row is not None else ""
    proposed = "No bounds can be proposed."
    if row is not None and None not in (row["lower"], row["upper"], row["levels"], row["step_percent"]):
        proposed = (
            f"Proposed: {price_text(row['lower'])} to {price_text(row['upper'])}, {row['levels']} intervals of "
            f"{row['step_percent']:.2f} %."
        )
    price = row["price"] if row is not None else None
    shown = f"Price {price_text(price, price_tick)}" if price is not None else "Price not known"
    as_of = f"s of {iso(alert.as_of)}."
    return [
        _must(act),
        Part(_REASON, (f"Why: {reason or 'not known.'}",), may_be_cut=True),
        Part(_MONEY, (proposed,)),
        Part(_PRICE, (f"{shown}; a{as_of}", f"A{as_of}"), must=True),
        Part(_NEXT, (added,)),
    ]
