"""What pages say, each sentence in one place: terminal, report and page show the same words."""

from __future__ import annotations

from datetime import datetime, timedelta

from mm_dagster.alerts import leaving
from mm_dagster.alerts import money as money_of
from mm_dagster.alerts.alert import UNCONFIRMED
from mm_dagster.bars import iso
from mm_dagster.pages.grid import GridOnPage, Row
from mm_dagster.pages.page import Page
from mm_dagster.text import counted, money_text, spoken


def deadline(one: GridOnPage, clock: datetime) -> str | None:
    """By when to act, with the time that is left or gone; None: there is no window."""
    by = one.act_by
    if by is None or not one.window_minutes:
        return None
    return (
        f"by {iso(by)}, {spoken(by - clock)} left" if by > clock else f"overdue since {iso(by)}, {spoken(clock - by)}"
    )


def chances(one: GridOnPage) -> str | None:
    """How likely the price is to leave, in one line; None: not known, or the stop sold all and nothing is left."""
    risk = one.risk
    if risk is None or not one.grid.enabled or risk.get("stopped_at") is not None:
        return None
    parts = []
    breaks = [risk[f"p_break_low_{hours}h"] for hours in (6, 12, 24)]
    if None not in breaks:
        parts.append(f"break below the grid within 6/12/24 h {'/'.join(f'{100 * one:.0f}' for one in breaks)} %")
    if risk["p_stop_24h"] is not None:
        parts.append(f"touch the stop within 24 h {100 * risk['p_stop_24h']:.0f} %")
    return ", ".join(parts) or None


def distances(one: GridOnPage) -> str | None:
    """How far stop and bounds are from the price, percent of the price, in one line; None: not known."""
    risk = one.risk
    if risk is None or risk["distance_stop_percent"] is None:
        return None
    stop, lower, upper = (risk[f"distance_{name}_percent"] for name in ("stop", "lower", "upper"))
    return (
        f"stop {abs(stop):.1f} % {'below' if stop >= 0 else 'above'} the price, "
        f"lower bound {abs(lower):.1f} % {'below' if lower >= 0 else 'above'}, "
        f"upper {abs(upper):.1f} % {'above' if upper >= 0 else 'below'}"
    )


def money(one: GridOnPage) -> str | None:
    """Where a grid stands, in one line whose figures add up; None: it holds nothing, or it is not known."""
    risk = one.risk
    if risk is None or risk["total_pnl"] is None:
        return None
    parts, total = profits(one)
    said = ", ".join(f"{name} {amount}" for name, amount in parts.items())
    of = "by its account" if risk["source"] == "ACCOUNT" else "modelled"
    more = at_risk(one)
    return f"stands at {total} {one.quote}: {said} ({of}){f'; {more}' if more else ''}"


def profits(one: GridOnPage) -> tuple[dict[str, str], str]:
    """What a grid made, by where it came from, and the total: amounts that add up as they are read."""
    assert one.risk is not None, "asked only where the total is known"
    return money_of.profits(one.risk, one.grid.capital)


def at_risk(one: GridOnPage) -> str | None:
    """What is lost on top if the price falls to the stop, in one line; None: nothing, or not known."""
    if one.risk is None or not one.risk["capital_at_risk"]:
        return None
    return f"{money_text(one.risk['capital_at_risk'], one.grid.capital)} more at risk to the stop"


def waiting_costs(one: GridOnPage) -> str | None:
    """What the time until the operator acts may cost, in one line; None: nothing, or not known."""
    risk = one.risk
    if risk is None or not risk["profit_giveback"]:
        return None
    share = risk["profit_giveback_share"]
    of = "" if share is None else f", {100 * share:.0f} % of the profit of its steps"
    return f"waiting may cost {money_text(risk['profit_giveback'], one.grid.capital)} {one.quote}{of}"


def leaving_costs(one: GridOnPage) -> str | None:
    """What leaving now costs, in one sentence; None: nothing is held, it is stopped, or nothing is known."""
    if one.stopped or one.stale:
        return None
    return leaving.sentence(one.costs, one.grid.symbol) or None


def became_of(row: Row, clock: datetime) -> str:
    """What became of a message: on which channel, when, acknowledged or not, in one line."""
    channel = "the log only" if row["channel"] == "log" else row["channel"] or "no channel"
    match row["status"]:
        case "SENT":
            told = f"sent {iso(row['sent_at'])}, {spoken(clock - row['sent_at'])} ago, by {channel}"
            if str(row["detail"] or "").startswith(UNCONFIRMED):
                told += ", never confirmed"
        case "SUPPRESSED":
            told = row["detail"] or "not sent"
        case "FAILED":
            told = f"refused: {row['detail'] or 'no reason was given'}"
        case _:
            told = f"not taken yet after {counted(row['attempts'], 'attempt')}"
    if row["acknowledged_at"]:
        device = f" on {row['acknowledged_by_device']}" if row["acknowledged_by_device"] else ""
        return f"{told}; acknowledged {iso(row['acknowledged_at'])}{device}"
    if row["expired_at"]:
        return f"{told}; stopped ringing {iso(row['expired_at'])} unacknowledged"
    return f"{told}; not acknowledged" if row["receipt"] else told


def answered(row: Row) -> str:
    """What the operator did about an alert, in one line."""
    if not row["responded_at"]:
        return "no response"
    after = spoken(timedelta(seconds=row["seconds_from_alert"]))
    late = "" if row["within_window"] else ", after the recommended time"
    return f"{row['action']} at {iso(row['responded_at'])}, {after} after the alert{late}"


def tick_line(page: Page) -> str:
    """The last tick in one line: of when, how long ago, how long it took, and what failed in it."""
    row = page.tick
    assert row is not None, "asked only where a tick has run"
    took = ""
    if row["finished_at"] is not None:
        took = f", took {(row['finished_at'] - row['started_at']).total_seconds():.1f} s"
    failed = f"; failed: {', '.join(row['symbols_failed'])}" if row["symbols_failed"] else ""
    return f"{iso(row['as_of'])}, {spoken(page.clock - row['as_of'])} ago{took}{failed}"
