"""The words of an alert: what to do and by when, why, what waiting costs, and where the price stands.

Plain text in fixed lines, the most urgent first, since a locked phone shows only the beginning. Only the reasons give
way when a message is too long; what leaving at a WARNING was measured to be worth comes last, and stays out where the
reasons would have less than a line beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from mm_dagster.alerts import leaving, limit_words
from mm_dagster.alerts.alert import EVERY_GRID, JUDGED, PARTLY_JUDGED, Alert
from mm_dagster.alerts.happened import CLEAR, SELL, happened, holds_nothing
from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables.words import MEASURED, NOT_JUDGED_YET, STATES
from mm_dagster.text import in_local_time, local_time, money_text, price_text, words

TITLE_LIMIT = 250
MESSAGE_LIMIT = 1024
URL_LIMIT = 512
"""Pushover's limits. They are counted here in UTF-16 code units, so no way of counting finds more."""

LIMIT_TEXT = 300
"""What a message of a limit has room for: it can wait, so it is read at one glance or not at all."""

_LINE_LIMIT = 190
"""No line is longer but that of the reasons, to which the five others leave 70, and the measured one, which may be left
out."""

_MORE_LIMIT = 40
"""Room for the line that counts the grids that a digest does not name."""


def render(
    alert: Alert,
    row: Mapping[str, Any] | None,
    risk: Mapping[str, Any] | None,
    grid: GridConfig,
    reasons: Sequence[str],
    simulated: bool,
    answer: Mapping[str, Any] | None = None,
    timezone: str = "UTC",
    price_tick: float | None = None,
    costs: Sequence[Mapping[str, Any]] = (),
    added: str = "",
) -> tuple[str, str]:
    """Title and message of an alert of one grid; limit, digest, failure and test have words of their own.

    Args:
        alert: what to tell.
        row: the newest row of `exit_state`; for an entry the one of `entry_assessment`; None: there is none.
        risk: the newest row of `grid_risk`; None: there is none.
        grid: the grid.
        reasons: the fired triggers as sentences, the most urgent first. What was seen live is added here.
        simulated: whether its market is synthetic; the title says so.
        answer: the newest row of `operator_response` of its episode; None: there is none.
        timezone: the operator's.
        price_tick: the step between prices of its venue; None: not known.
        costs: the rows of `exit_cost` of the same bar; none: not known.
        added: of an entry, what the grid would add to the bad night of all grids.

    Returns:
        Plain text within Pushover's limits, never empty. What happened to the grid goes before everything else.
    """
    came = happened(risk, grid, answer) if grid.enabled else None
    worth = ""
    match alert.kind:
        case "ENTRY":
            lines = _entry(alert, row, price_tick)
            worth = added
        case "BLIND":
            lines = _blind(alert)
        case "SETUP":
            lines = _setup(alert)
        case "RECOVERED":
            lines = [f"Evaluations are back; the newest is of {iso(alert.as_of)}.", f"State: {words(alert.state)}."]
        case "DEESCALATION":
            lines = _down(alert, row, risk, grid, price_tick)
        case _:
            lines = _up(alert, row, risk, grid, reasons, price_tick, costs)
            worth = _worth(alert, row, risk, grid)
    prefix = "SIMULATED " if simulated else ""
    title = f"{prefix}{_headline(alert)} · {grid.id} {grid.symbol}"
    text = _fit([_clean(line, timezone) for line in lines], _clean(came or "", timezone), _clean(worth))
    return _cut(_clean(title), TITLE_LIMIT), text


@dataclass(frozen=True)
class GridLine:
    """What the digest says of one grid; None: not known.

    Attributes:
        grid_id: the grid.
        symbol: its market.
        state: its exit state.
        price: the last price, quote currency.
        total_pnl: what it stands at, quote currency.
        capital: what was put into it, quote currency.
    """

    grid_id: str
    symbol: str
    state: str | None
    price: float | None
    total_pnl: float | None
    capital: float


def digest(
    at: datetime,
    grids: Sequence[GridLine],
    *,
    blind: Sequence[str],
    sent: int,
    suppressed: int,
    failed: int,
    simulated: bool,
    together: Sequence[str] = (),
    timezone: str = "UTC",
) -> tuple[str, str]:
    """Title and message of the daily digest; of many grids the most urgent are named.

    Args:
        at: when it was written, UTC.
        grids: the enabled grids.
        blind: markets that are not seen.
        sent: alerts sent in the last 24 hours.
        suppressed: alerts held back or given up meanwhile.
        failed: alerts that were refused meanwhile.
        simulated: whether the markets are synthetic; the title says so.
        together: what all grids may lose together, a line of each quote currency.
        timezone: the operator's.

    Returns:
        Plain text within Pushover's limits, never empty.
    """
    ordered = sorted(grids, key=lambda one: (-_urgency(one.state), one.grid_id))
    counts = [(state, sum(one.state == state for one in grids)) for state in (*reversed(STATES), None)]
    summary = ", ".join(f"{count} {words(state or NOT_JUDGED_YET)}" for state, count in counts if count)
    refused = f", {failed} refused" if failed else ""
    head = [
        f"Grids: {summary}." if grids else "No grid is enabled.",
        f"Not seen: {', '.join(blind)}; `mm doctor` says why." if blind else "",
        *together,
        f"Alerts in 24 h: {sent} sent, {suppressed} held back{refused}; as of {iso(at)}.",
    ]
    lines = [_cut(_clean(line, timezone), _LINE_LIMIT) for line in head if line]
    named = [_cut(_clean(_line_of(one)), _LINE_LIMIT) for one in ordered]
    room = MESSAGE_LIMIT - sum(_length(line) + 1 for line in lines) - _MORE_LIMIT
    shown = 0
    while shown < len(named) and _length(named[shown]) + 1 <= room:
        room -= _length(named[shown]) + 1
        shown += 1
    more = [f"and {len(named) - shown} more" if shown else f"{len(named)} grids"] if shown < len(named) else []
    title = f"{'SIMULATED ' if simulated else ''}Digest: {summary or 'no grid'}"
    return _cut(_clean(title), TITLE_LIMIT), "\n".join([*lines, *named[:shown], *more])


def _follows(part: str, at: str) -> str:
    """What a failure means: of the configuration and the environment the last valid one stays in force."""
    of_files = part.endswith(".yaml") or part.startswith(("configuration", "data/config", "grid "))
    if of_files or part.isupper():
        return f"needs you, since {at}; all goes on as before until it is mended"
    return f"failed at {at}; until it works again its figures are old"


def failure(alert: Alert, link: str | None, timezone: str = "UTC") -> tuple[str, str]:
    """Title and message of a FAILURE: what failed, with what, and what to do.

    Args:
        alert: made by `failures.failure`.
        link: `alerts.link`; None: there is none.
        timezone: the operator's.
    """
    asset, _, error = alert.state.partition(": ")
    address = url("FAILURE", link)
    look = f" Its page: {address}" if address else ""
    return _cut(_clean(f"FAILURE · {asset}"), TITLE_LIMIT), _fit(
        [
            f"{_clean(asset)} {_follows(asset, local_time(alert.as_of, timezone))}.",
            _clean(error, timezone),
            "Run `mm doctor`: it says what is wrong and what to do.",
            _clean(look) if _length(look) <= _LINE_LIMIT else "",
        ]
    )


def limit(
    told: limit_words.OfLimit, known: limit_words.Known, simulated: bool, timezone: str = "UTC"
) -> tuple[str, str]:
    """Title and message of a LIMIT: how much, the limit, who has most of it, and what brings it back.

    Args:
        told: what the alert says.
        known: the stored rows of the same bar.
        simulated: whether the grids' markets are synthetic; the title says so.
        timezone: the operator's.

    Returns:
        A title within Pushover's limit and a text of LIMIT_TEXT at most, never empty. Parts give way whole.
    """
    title = f"{'SIMULATED ' if simulated else ''}{limit_words.title(told, known)}"
    parts = [(part.rank, [_clean(form, timezone) for form in part.forms]) for part in limit_words.parts(told, known)]
    while _length(text := " ".join(forms[0] for _, forms in parts)) > LIMIT_TEXT and any(rank for rank, _ in parts):
        place = max(range(len(parts)), key=lambda one: parts[one][0])
        del parts[place][1][0]
        parts = [part for part in parts if part[1]]
    return _cut(_clean(title), TITLE_LIMIT), _cut(text, LIMIT_TEXT)


def trial(alert: Alert, timezone: str = "UTC") -> tuple[str, str]:
    """Title and message of a TEST.

    Args:
        alert: made by `failures.trial`.
        timezone: the operator's.
    """
    return _cut(_clean(f"TEST · {alert.state}"), TITLE_LIMIT), _fit(
        [
            f"`mm alert-test` sent this at {local_time(alert.as_of, timezone)}. There is nothing to do.",
            f"It came by {_clean(alert.state)}; alerts of grids come the same way.",
        ]
    )


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
    return address if _length(address) <= URL_LIMIT else None


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


def _up(
    alert: Alert,
    row: Mapping[str, Any] | None,
    risk: Mapping[str, Any] | None,
    grid: GridConfig,
    reasons: Sequence[str],
    price_tick: float | None,
    costs: Sequence[Mapping[str, Any]],
) -> list[str]:
    """What to do; why (the second line, which gives way); what waiting and what leaving costs; price and bounds."""
    live = row is not None and row["state"] != alert.state
    seen = row["live_reason"] if row is not None else None
    said = [f"seen live: {seen}"] if seen else []
    said += [sentence for sentence in reasons if sentence != seen]
    if row is not None and row["nearest"] and alert.state != "MANDATORY_EXIT":
        said.append(f"next: {row['nearest'][0]}")
    return [
        _do(alert, None if live else row, risk, grid),
        f"Why: {'; '.join(said) or 'not known'}",
        _waiting(risk, grid),
        _at_risk(risk, grid),
        "" if holds_nothing(risk, grid) else leaving.sentence(costs, grid.symbol),
        f"{_where(risk, grid, price_tick)} {words(alert.state)} since {iso(alert.state_since)}; "
        f"as of {iso(alert.as_of)}.",
    ]


def _do(alert: Alert, row: Mapping[str, Any] | None, risk: Mapping[str, Any] | None, grid: GridConfig) -> str:
    """Advice and deadline. A state that only the live run knows has no row that advises on it.

    The time to act begins with the first message of the state. So that is never overdue, however long ago a history
    that became known late says that the state began.
    """
    gone = holds_nothing(risk, grid)
    if row is None:
        if alert.state == "MANDATORY_EXIT":
            return CLEAR if gone else f"Stop the grid now and {SELL}."
        return "Look at the exchange yourself now, and be ready to stop the grid."
    advice, _ = apart(row["advice"])
    if gone and SELL in advice:
        return CLEAR
    minutes = row["recommended_window_minutes"]
    if not minutes:
        return advice
    found = alert.found_at or alert.as_of
    end = (alert.first_notified_at or found).replace(second=0, microsecond=0) + timedelta(minutes=minutes)
    return (
        f"By {iso(end)}: {advice}"
        if end > found or alert.first_notified_at is None
        else f"Overdue since {iso(end)}: {advice}"
    )


def _worth(alert: Alert, row: Mapping[str, Any] | None, risk: Mapping[str, Any] | None, grid: GridConfig) -> str:
    """What leaving now was measured to be worth, if the advice says so, and if there is something to leave."""
    if row is None or row["state"] != alert.state or holds_nothing(risk, grid):
        return ""
    return apart(row["advice"])[1]


def apart(advice: str) -> tuple[str, str]:
    """What to do, and the measured sentence after it; empty where it has none."""
    act, begins, figures = advice.partition(f" {MEASURED}")
    return act, (begins + figures).strip()


def _waiting(risk: Mapping[str, Any] | None, grid: GridConfig) -> str:
    """What waiting risks, in probabilities and distance; nothing where nothing is held."""
    if holds_nothing(risk, grid):
        return ""
    if risk is None or risk["price"] is None:
        return "Waiting: the chance of a break is not known."
    parts = []
    breaks = [risk[f"p_break_low_{hours}h"] for hours in (6, 12, 24)]
    if None not in breaks:
        parts.append(f"chance to break the lower bound within 6/12/24 h {'/'.join(map(_percent, breaks))} %")
    if risk["p_stop_24h"] is not None:
        parts.append(f"to touch the stop within 24 h {_percent(risk['p_stop_24h'])} %")
    if risk["distance_stop_percent"] is not None:
        distance = risk["distance_stop_percent"]
        parts.append(f"the stop is {abs(distance):.1f} % {'below' if distance >= 0 else 'above'} the price")
    return f"Waiting: {', '.join(parts) or 'the chance of a break is not known'}."


def _at_risk(risk: Mapping[str, Any] | None, grid: GridConfig) -> str:
    """The same in money; nothing where the position is not known."""
    if risk is None or risk["liquidation_value"] is None or risk["price"] is None:
        return ""
    quote = grid.symbol.partition("-")[2]
    so_far = f"he grid stands at {money_text(risk['total_pnl'], grid.capital, signed=True)} {quote}"
    if holds_nothing(risk, grid):
        return f"T{so_far}."
    parts = [f"At stake: {money_text(risk['capital_at_risk'], grid.capital)} {quote} from here to the stop"]
    if risk["profit_giveback"] is not None:
        share = risk["profit_giveback_share"]
        of_profit = "" if share is None else f" ({_percent(share)} % of the profit of its steps)"
        parts.append(f"{money_text(risk['profit_giveback'], grid.capital)} {quote} while you respond{of_profit}")
    return f"{', '.join(parts)}; t{so_far}."


def _where(risk: Mapping[str, Any] | None, grid: GridConfig, price_tick: float | None) -> str:
    price = risk["price"] if risk is not None else None
    shown = f"Price {price_text(price, price_tick)}" if price is not None else "Price not known"
    lower, upper, stop = (price_text(one, price_tick) for one in (grid.lower, grid.upper, grid.stop))
    return f"{shown}; grid {lower} to {upper}, stop {stop}."


def _down(
    alert: Alert,
    row: Mapping[str, Any] | None,
    risk: Mapping[str, Any] | None,
    grid: GridConfig,
    price_tick: float | None,
) -> list[str]:
    came = f" from {words(alert.before)}" if alert.before else ""
    advice = _do(alert, row, risk, grid) if row is not None and row["state"] == alert.state else ""
    return [
        f"The state came down{came} to {words(alert.state)}; as of {iso(alert.as_of)}.",
        advice,
        _waiting(risk, grid),
        _at_risk(risk, grid),
        _where(risk, grid, price_tick),
    ]


def _blind(alert: Alert) -> list[str]:
    known = f"Last known state: {words(alert.state)}." if alert.state != "UNKNOWN" else "No state was ever known."
    return [
        "Look at the exchange yourself now; `mm doctor` says what is wrong here.",
        f"Why: this grid has not been evaluated since {iso(alert.as_of)}. {known}",
        "Waiting: whatever happens meanwhile goes unseen.",
    ]


def _setup(alert: Alert) -> list[str]:
    """What it waits for, and what that means for the operator."""
    reason = alert.reason or ""
    match alert.state:
        case state if state == JUDGED:
            return [f"This grid is judged since {iso(alert.state_since)}: {words('NORMAL')}.", reason]
        case state if state == PARTLY_JUDGED:
            return ["Only its stop and closes outside the grid are watched yet.", reason]
        case _:
            return ["Nothing watches this grid yet, so look at the exchange yourself.", reason]


def _entry(alert: Alert, row: Mapping[str, Any] | None, price_tick: float | None) -> list[str]:
    act = {
        "ENTER": "A moment to start this grid, if you want to.",
        "WATCH": "Not yet a moment to start this grid; watch it.",
        "WAIT": "No moment to start this grid.",
    }[alert.state]
    reasons = row["reasons"] if row is not None else []
    proposed = "No bounds can be proposed."
    if row is not None and None not in (row["lower"], row["upper"], row["levels"], row["step_percent"]):
        proposed = (
            f"Proposed: {price_text(row['lower'])} to {price_text(row['upper'])}, {row['levels']} intervals of "
            f"{row['step_percent']:.2f} %."
        )
    price = row["price"] if row is not None else None
    shown = f"Price {price_text(price, price_tick)}" if price is not None else "Price not known"
    return [act, f"Why: {' '.join(reasons) or 'not known'}", proposed, f"{shown}; as of {iso(alert.as_of)}."]


def _urgency(state: str | None) -> int:
    """An unknown state is as urgent as a WARNING."""
    return STATES.index(state or "WARNING")


def _line_of(one: GridLine) -> str:
    price = "price not known" if one.price is None else f"price {price_text(one.price)}"
    pnl = ""
    if one.total_pnl is not None:
        pnl = f", {money_text(one.total_pnl, one.capital, signed=True)} {one.symbol.partition('-')[2]}"
    return f"{words(one.state or NOT_JUDGED_YET)}: {one.grid_id} {one.symbol}, {price}{pnl}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _fit(lines: Sequence[str], before: str = "", after: str = "") -> str:
    """The lines as one text, with what goes before and after them; the second has what the others leave.

    What goes after them is there as a whole or not at all: half a figure says the wrong thing.
    """
    others = [_cut(line, _LINE_LIMIT) for line in (lines[0], *lines[2:])]
    first = _cut(before, _LINE_LIMIT)
    left = MESSAGE_LIMIT - sum(_length(line) + 1 for line in (first, *others) if line)
    last = after if _length(after) + 1 + min(_length(lines[1]), _LINE_LIMIT) <= left else ""
    left -= _length(last) + 1 if last else 0
    text = (first, others[0], _cut(lines[1], left), *others[1:], last)
    return "\n".join(line for line in text if line)


def _clean(text: str, timezone: str = "UTC") -> str:
    """One line of what can be sent and shown, with the operator's times.

    No control characters and, unprintable too, no half surrogate pairs.
    """
    shown = "".join(character if character.isprintable() else " " for character in text)
    return in_local_time(" ".join(shown.split()), timezone)


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _cut(text: str, limit: int) -> str:
    """The text, or what of it fits before an ellipsis, cut between words unless one word is most of it."""
    if _length(text) <= limit:
        return text
    kept = text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore")
    words = kept.rpartition(" ")[0].rstrip(".;,:")
    return f"{words if len(words) > len(kept) // 2 else kept}…"
