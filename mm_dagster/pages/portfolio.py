"""All grids at once in words and tables: what a bad night costs, who contributes, and what brings a limit back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_dagster.alerts.together import ALL, night, of_grids, percent, sentence
from mm_dagster.bars import iso
from mm_dagster.config.portfolio import OVER, PortfolioConfig
from mm_dagster.pages.page import Line
from mm_dagster.pipeline.together import Row, Together, in_a_line, together
from mm_dagster.portfolio.limits import OF_EQUITY
from mm_dagster.text import counted, local_time, money_text, number_text, spoken

if TYPE_CHECKING:
    from mm_dagster.pictures.drawings import Drawing
    from mm_dagster.pipeline.project import Project
    from mm_dagster.pipeline.what_if import WhatIf

LABEL = "night"
"""Of the line on the page."""
SAY_EQUITY = "say your equity: portfolio.yaml, `equity: 10000`"
FOLLOW = (
    "Bad nights follow each other: after one, another came 2.4 times as often on ten perpetuals, 2023 to 2025 (6 of "
    "43), though not on KuCoin in 2025 (1 of 15)."
)
"""Counted by `python -m benchmarks.coverage`: docs/evidence/coverage.md; likewise the correlations."""
ALIKE = (
    "Of the pairs of 14 KuCoin markets in 2025 83 % were correlated above .7, so a limit of the correlation is off by "
    "default."
)
WEIGHTS = (
    "Equal risk: the same capital in each, as much as has the volatility that there is now. Least variance: shares "
    "that would have varied least (Ledoit-Wolf 2004). Both are information: none that was tried earned more than equal "
    "weights at the same risk."
)
NIGHT_ONLY = "This is of one night only: bad ones follow each other, and what these months did not hold is not in it."
_ALWAYS_SHARES = ("fee_share", *OF_EQUITY)
_MEANINGS = {
    "portfolio": "capital of all grids",
    "pair": "capital on {}",
    "position": "capital of {}",
    "session": "capital begun within 24 h",
    "es_5_24h": "the worst nights, one in 20",
    "correlation": "of the two markets most alike",
    "fills_per_day": "fills of {} in 24 h",
    "fee_share": "fees, of what {} earned",
    "drawdown_mild": "below the best profit",
    "drawdown_moderate": "below the best profit",
    "drawdown_severe": "below the best profit",
}
"""What each limit is about, for a table; a place for its grid or market."""


@dataclass(frozen=True)
class NightOnPage:
    """All grids in one quote currency on the report.

    Attributes:
        quote: the currency.
        text: the line that the terminal and the digest have, too.
        drawing: the last weeks; None: no night could be told.
        says: what the drawing shows, for those who do not see it.
        parts: each grid, its share of the worst nights in percent as it is read, and as a length from 0 to 100.
        nights: from what the figures come.
    """

    quote: str
    text: str
    drawing: Drawing | None
    says: str
    parts: tuple[tuple[str, str, float], ...]
    nights: str


def night_on_page(found: Together, drawing: Drawing | None, settings: PortfolioConfig, *, only: bool) -> NightOnPage:
    """What the report says of all grids in one quote currency.

    Args:
        found: all grids.
        drawing: the last weeks.
        settings: portfolio.yaml.
        only: whether there is no other quote currency.
    """
    ordered = sorted(found.contributions, key=lambda one: (-one["es_5_contribution"], one["grid_id"]))
    told = [one for one in ordered if one["es_5_share"] is not None]
    parts = [(one["grid_id"], percent(one["es_5_share"]), one["es_5_share"]) for one in told[:_BARS]]
    if len(told) > _BARS:
        rest = sum(one["es_5_share"] for one in told[_BARS:])
        parts.append((f"{len(told) - _BARS} others", percent(rest), rest))
    text = sentence(found.risk, found.limits, only=only)
    paths = found.risk["paths"]
    return NightOnPage(
        quote=found.risk["quote"],
        text=text,
        drawing=drawing,
        says=f"What all grids might lose in a night over the last weeks, beside what they lost. {text}",
        parts=tuple((name, said, round(100 * min(1.0, max(0.0, share)), 1)) for name, said, share in parts),
        nights=f"From {counted(paths, 'night')} of the last {settings.window_days} days. {FOLLOW}" if paths else "",
    )


_BARS = 8
"""Grids that the report names; the others are told together."""


def line(project: Project, clock: datetime) -> Line | None:
    """All grids together in one line of the page; None: none runs, or nothing is stored."""
    found = together(project, clock)
    text = " ".join(in_a_line(found))
    if not text:
        return None
    age = clock - found[0].risk["as_of"]
    if age >= timedelta(minutes=project.config.alerts.blind_after_minutes):
        text = f"STALE, as of {iso(found[0].risk['as_of'])}: {text}"
    return Line(LABEL, text, amounts=any(one.risk["var_5_24h"] is not None for one in found))


def sentences(
    found: Together, settings: PortfolioConfig, clock: datetime, timezone: str, *, only: bool = True
) -> Iterator[str]:
    """What may be lost together, in the order in which one asks; each figure with what it does not know.

    Args:
        found: all grids in one quote currency.
        settings: portfolio.yaml.
        clock: the moment at which it is read, UTC.
        timezone: the reader's.
        only: whether there is no other quote currency.
    """
    row, quote = found.risk, found.risk["quote"]
    ago = clock - row["as_of"]
    old = f", {spoken(ago)} ago" if ago >= timedelta(hours=1) else ""
    yield f"{of_grids(row, only=only)}, by the bar of {local_time(row['as_of'], timezone)}{old}."
    if not row["grids"]:
        yield row["reason"] or "No grid holds anything: there is nothing to lose."
        return
    if row["var_5_24h"] is None:
        yield f"What a bad night costs is not known. {row['reason'] or ''}".strip()
        yield "A loss is never made smaller by leaving one out. `mm backfill` fetches what is older."
    else:
        yield from _of_the_night(found, settings)
    yield from _of_the_equity(found, settings)
    for limit in found.breached:
        yield breach(limit, found, timezone)
    if not found.breached and any(limit["breached"] is False for limit in found.limits):
        yield "No limit is breached."
    if found.equity is None:
        yield f"Limits that are shares of the equity are not watched: {SAY_EQUITY} (in {quote})."


def _of_the_night(found: Together, settings: PortfolioConfig) -> Iterator[str]:
    """What a bad night costs, and why."""
    row = found.risk

    def money(amount: float) -> str:
        return f"{money_text(amount, row['capital'])} {row['quote']}"

    first = night(row)
    mean, rare = row["es_5_24h"], row["var_1_24h"]
    worst = f"{'cost' if mean >= 0 else 'gain'} {money(abs(mean))} on average"
    rarest = f"{'costs' if rare >= 0 else 'gains no more than'} {money(abs(rare))}{' or more' * (rare >= 0)}"
    yield (
        f"{first[0].upper()}{first[1:]}; the worst nights, one in 20, {worst}; one in 100 {rarest}. From "
        f"{row['paths']} nights of the last {settings.window_days} days, in units of today's volatility; what those "
        "days did not hold is not in it."
    )
    if row["grids"] > 1 and row["counts_as"] is not None:
        yield (
            f"{row['grids']} grids count as {number_text(row['counts_as'], 2)}: together they risk as much as so many "
            "independent grids of their size."
        )
    yield from _of_the_most(found, money)
    yield _breaks(row, money)
    yield FOLLOW
    if row["markets"] > 1 and row["highest_correlation"] is not None:
        yield (
            f"The two markets that move most alike are {row['most_correlated'].replace('/', ' and ')}, correlated "
            f"{_correlation(row['highest_correlation'])} over 60 days. {ALIKE}"
        )


def _of_the_most(found: Together, money: Any) -> Iterator[str]:
    """Who has most of the bad night; of a portfolio that gains in it nobody has."""
    shared = [one for one in found.contributions if one["es_5_share"] is not None]
    if len(found.contributions) < 2 or not shared:
        return
    most = max(shared, key=lambda one: (one["es_5_contribution"], one["grid_id"]))
    takes = most["stopping_takes_off"]
    without = (
        f"without it they cost {money(takes)} less" if takes >= 0 else f"without it they cost {money(-takes)} more"
    )
    yield f"{most['grid_id']} has {percent(most['es_5_share'])} of these nights, the most of all; {without} on average."


def _breaks(row: Row, money: Any) -> str:
    """How likely grids break, and what all stops cost."""
    if row["grids"] == 1:
        said = f"It breaks (two closes below it, or its stop) in {_nights(row['p_any_break_24h'], row)}"
    else:
        said = f"A grid breaks (two closes below it, or its stop) in {_nights(row['p_any_break_24h'], row)}"
        if row["grids"] > 2:
            said += f", half of them at once in {_nights(row['p_half_break_24h'], row)}"
    stops = "" if row["all_stops"] is None else f" If all fall to their stops, {money(row['all_stops'])} are lost."
    return f"{said}.{stops}"


def _nights(share: float, row: Row) -> str:
    """A share of the nights; none is not impossible, and says out of how many."""
    return f"{percent(share)} of the nights" if share else f"none of the {row['paths']} nights"


def _of_the_equity(found: Together, settings: PortfolioConfig) -> Iterator[str]:
    """The drawdown, and the chance to pass its last step; asked only of what is known."""
    row = found.risk
    if row["drawdown"] is not None:
        below = f"{money_text(row['drawdown'], row['capital'])} {row['quote']}"
        share = "" if row["drawdown_share"] is None else f", {percent(row['drawdown_share'])} of the equity"
        level = row["drawdown_level"]
        passed = "" if level in (None, "NONE") else f": {level.lower()}"
        yield f"The profit of all grids is {below} below its best of {settings.window_days} days{share}{passed}."
    if row["ruin"] is not None:
        yield (
            f"The severe drawdown ({percent(settings.drawdown.severe)} of the equity) would be passed in "
            f"{_nights(row['ruin'], row)}. {NIGHT_ONLY}"
        )


def breach(limit: Row, found: Together, timezone: str) -> str:
    """A breached limit in a sentence: since when, its figures, and what brings it back."""
    name, about = limit["limit"], "" if limit["subject"] == ALL else f" of {limit['subject']}"
    since = f" since {local_time(limit['since'], timezone)}" if limit["since"] else ""
    value, threshold = (value_text(name, limit[part]) for part in ("value", "threshold"))
    over = value_text(name, OVER * limit["threshold"])
    return (
        f"Breached{since}: {name}{about} is {value}, limit {threshold}. It is over below {over}: {_back(limit, found)}."
    )


def _back(limit: Row, found: Together) -> str:
    """What brings a limit back, as far as it can be told."""
    row, equity = found.risk, found.equity
    name = limit["limit"]
    if name in OF_EQUITY and equity is not None:
        lacking = (limit["value"] - OVER * limit["threshold"]) * equity
        amount = f"{money_text(lacking, row['capital'])} {row['quote']}"
        if name == "es_5_24h":
            return _less_of_the_night(found, lacking, amount)
        if name.startswith("drawdown"):
            return f"when {amount} are earned back, or the best is older than the window"
        where = {"portfolio": "the grids", "pair": f"the grids on {limit['subject']}", "position": "the grid"}
        return f"take {amount} of capital out of {where.get(name, 'the new grids, or wait until they are a day old')}"
    match name:
        case "correlation":
            return f"stop the grids on one of {(row['most_correlated'] or 'the two').replace('/', ' and ')}"
        case "fills_per_day":
            return "fewer levels, or wider bounds, fill less often"
        case _:
            return "fewer levels, or wider bounds, earn more a step"


def _less_of_the_night(found: Together, lacking: float, amount: str) -> str:
    """Which grid to stop so that the bad night costs so much less: the one with the least beyond what is needed."""
    takes = {one["grid_id"]: one["stopping_takes_off"] for one in found.contributions}
    capital, quote = found.risk["capital"], found.risk["quote"]
    enough = sorted((takes[name], name) for name in takes if takes[name] >= lacking)
    if enough:
        off, name = enough[0]
        return f"{amount} less; stopping {name} takes {money_text(off, capital)} {quote} off"
    name = max(takes, key=lambda one: (takes[one], one), default=None)
    if name is None or takes[name] <= 0:
        return f"{amount} less; no grid alone takes anything off"
    return (
        f"{amount} less, more than any one grid; stopping {name} takes most off, {money_text(takes[name], capital)} "
        f"{quote}"
    )


def _correlation(value: float) -> str:
    """Two decimals, and no sign where they show nothing."""
    return f"{round(value, 2) + 0.0:.2f}"


def value_text(limit: str, value: float | None) -> str:
    """The value or the threshold of a limit as one reads it."""
    if value is None:
        return "–"
    if limit in _ALWAYS_SHARES:
        return f"{number_text(round(100 * value, 1 if abs(value) >= 0.01 else 2), 4)} %"
    return _correlation(value) if limit == "correlation" else number_text(value, 4)


def grids_table(found: Together) -> Table:
    """Each grid: capital, its part of the bad night, what stopping takes off, alone, its chance to break, weights."""
    capital = found.risk["capital"]
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("grid", overflow="fold")
    for name in (
        "capital",
        "bad night",
        "stopping takes off",
        "alone",
        "breaks",
        "weight",
        "equal risk",
        "least variance",
    ):
        table.add_column(name, justify="right")
    for one in sorted(found.contributions, key=lambda one: (-one["es_5_contribution"], one["grid_id"])):
        share = "" if one["es_5_share"] is None else f" ({percent(one['es_5_share'])})"
        table.add_row(
            one["grid_id"],
            money_text(one["capital"], capital),
            f"{money_text(one['es_5_contribution'], capital)}{share}",
            money_text(one["stopping_takes_off"], capital),
            money_text(one["var_5_alone"], capital),
            percent(one["p_break_24h"]),
            *("–" if one[name] is None else percent(one[name]) for name in _WEIGHTS),
        )
    return table


_WEIGHTS = ("weight", "weight_equal_risk", "weight_minimum_variance")


def legend(found: Together) -> str:
    """What the columns of `grids_table` are."""
    return (
        f"In {found.risk['quote']}. Bad night: its part of what the worst nights, one in 20, cost on average; the "
        f"parts add up. Alone: what one night in 20 costs it. Weight: its share of the capital. {WEIGHTS}"
    )


def limits_table(limits: Sequence[Row], timezone: str) -> Table:
    """Each limit with its value and what room is left; of one that is about many, the nearest and the breached.

    Shares of an equity that nobody said are left out.
    """
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("limit", "what it is about", "value", "limit at", "room", "breached since"):
        table.add_column(name, justify="right" if name in ("value", "limit at", "room") else "left", overflow="fold")
    told = [limit for limit in limits if limit["value"] is not None or limit["limit"] not in OF_EQUITY]
    for limit, others in _nearest(told):
        name, subject = limit["limit"], limit["subject"]
        about = _MEANINGS[name].format(subject)
        if others:
            about = f"{about}, nearest of {others + 1}"
        since = local_time(limit["since"], timezone) if limit["breached"] and limit["since"] else ""
        threshold = value_text(name, limit["threshold"]) if limit["threshold"] is not None else "off"
        value, room = value_text(name, limit["value"]), value_text(name, limit["room"])
        table.add_row(name, about, value, threshold, room, since)
    return table


def limits_legend(found: Together) -> str:
    """What the shares of `limits_table` are of."""
    if found.equity is None:
        return "Limits that are shares of the equity are left out: it is not known."
    stated = "as portfolio.yaml has it" if found.risk["equity"] is not None else "as the account has it"
    equity = f"{money_text(found.equity, found.equity)} {found.risk['quote']}"
    return f"Shares of the equity, {equity} {stated}; of fees a share of what was earned."


def _nearest(limits: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """The breached limits, and of each other one the subject that is nearest to it with how many others there are."""
    by_name: dict[str, list[Row]] = {}
    for limit in limits:
        by_name.setdefault(limit["limit"], []).append(limit)
    for name in (name for name in _MEANINGS if name in by_name):
        breached = [limit for limit in by_name[name] if limit["breached"]]
        if breached:
            yield from ((limit, 0) for limit in breached)
            continue
        nearest = max(by_name[name], key=lambda one: (one["value"] is not None, one["value"] or 0.0))
        yield nearest, len(by_name[name]) - 1


_COMPARED: Mapping[str, str] = {
    "grids": "grids",
    "capital": "capital",
    "var_5_24h": "one night in 20 costs",
    "es_5_24h": "mean of those nights",
    "var_1_24h": "one night in 100 costs",
    "counts_as": "count as independent grids",
    "all_stops": "all at their stops",
    "p_any_break_24h": "nights in which one breaks",
    "ruin": "nights that pass the severe drawdown",
}
"""What is compared, in order, with its words."""


def what_if_sentences(asked: WhatIf, settings: PortfolioConfig, timezone: str) -> Iterator[str]:
    """What was asked, and what it does to the bad night.

    Args:
        asked: before and after.
        settings: portfolio.yaml.
        timezone: the reader's.
    """
    before, after = asked.before.risk, asked.after.risk
    size, quote = max(before["capital"], after["capital"]), before["quote"]
    parts = []
    for one in asked.changes:
        if one.before is None:
            parts.append(f"{one.grid_id} opened now with {money_text(one.after, size)} {quote}")
        elif not one.after:
            parts.append(f"without {one.grid_id}")
        else:
            then, now = (f"{money_text(capital, size)} {quote}" for capital in (one.after, one.before))
            parts.append(f"{one.grid_id} with {then} instead of {now}")
    yield f"What if, by the bar of {local_time(before['as_of'], timezone)}: {', '.join(parts)}."
    for row, when in ((before, "as it is"), (after, "then")):
        if row["reason"]:
            yield f"What a bad night costs {when} is not known: {row['reason']}" if row["grids"] else row["reason"]
    if None not in (before["es_5_24h"], after["es_5_24h"]):
        changed = after["es_5_24h"] - before["es_5_24h"]
        worse = "more" if changed > 0 else "less"
        if changed:
            yield f"The worst nights, one in 20, cost {money_text(abs(changed), size)} {quote} {worse} on average."
        else:
            yield "The bad night costs the same."
    is_breached = {(one["limit"], one["subject"]) for one in asked.before.limits if one["breached"]}
    passed = [one for one in asked.after.breached if (one["limit"], one["subject"]) not in is_breached]
    for row in passed:
        about = "" if row["subject"] == ALL else f" of {row['subject']}"
        value, threshold = (value_text(row["limit"], row[part]) for part in ("value", "threshold"))
        yield f"{row['limit']}{about} is {value} then, above its limit of {threshold}."
    if asked.after.equity is None:
        yield f"What limits say of it is not known: {SAY_EQUITY}."
    said = []
    if before["paths"]:
        said.append(f"From {counted(before['paths'], 'night')} of the last {settings.window_days} days.")
    if any(one.before is not None and one.after for one in asked.changes):
        said.append("A larger or smaller grid holds in proportion from here on.")
    if any(not one.after for one in asked.changes):
        said.append("What is taken away is as sold now, at no cost.")
    said.append("What was made so far stays as it is. Nothing is stored, and nothing is changed on an exchange.")
    yield " ".join(said)


def what_if_table(asked: WhatIf) -> Table:
    """Before and after side by side, with the difference."""
    before, after = asked.before.risk, asked.after.risk
    size = max(before["capital"], after["capital"])
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("now", "what if", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, meaning in _COMPARED.items():
        values = before[name], after[name]
        if values != (None, None):
            difference = None if None in values else values[1] - values[0]
            texts = ("–" if value is None else _compared(name, value, size, signed=False) for value in values)
            changed = "–" if difference is None else _compared(name, difference, size, signed=True)
            table.add_row(meaning, *texts, changed)
    limits = [{(one["limit"], one["subject"]): one for one in part.limits} for part in (asked.before, asked.after)]
    for key in dict.fromkeys([*limits[0], *limits[1]]):
        one, other = (part.get(key, {"value": None}) for part in limits)
        threshold = (limits[1].get(key) or limits[0][key])["threshold"]
        if threshold is not None and (one["value"], other["value"]) != (None, None):
            name, subject = key
            about = name if subject == ALL else f"{name} of {subject}"
            texts = (value_text(name, part["value"]) for part in (one, other))
            table.add_row(f"{about} (limit {value_text(name, threshold)})", *texts, "")
    return table


def _compared(name: str, value: float, size: float, *, signed: bool) -> str:
    if name in ("p_any_break_24h", "ruin"):
        return f"{'+' if signed and value > 0 else ''}{percent(value)}"
    if name in ("grids", "counts_as"):
        return number_text(value, 2, signed=signed)
    return money_text(value, size, signed=signed)
