"""Limits of all grids together, once when breached and once when over: a pure function of rows, ledger and clock.

What stands in `limit_state` decides, which holds a breach until the value is 10 % below the limit. What holds here:

- **Never an emergency**, and never in place of a grid's own exit: a limit advises, and stops nothing.
- **A chain.** Each alert is named by what it is about and by the alert before it. So the ledger tells the order of the
  news whatever the clocks said; the same news is sent once, and again only after the other.
- **What was noted and not sent** is suppressed as soon as a fresh row says otherwise, and what comes after it has
  another name. So nothing is sent that contradicts the table.
- **What `budget.admit` holds back** is found again while it is true. One that is over by then is closed: nothing was
  sent, so nothing is over. A breach that was refused ends likewise without a word.
- **Unknown is no news.** A stale or absent row, and one that does not know whether the limit is breached, says nothing.
- **A subject that is gone** is over: the grid of an evaluation that knows every grid, or all grids of a currency in
  which none runs. Of a drawdown that says nothing: what is lost stays lost.
- **A limit that nobody watches any more** ends without a word, so that it is news again when it is watched again.
- **A drawdown** is one story in three steps: a fall is one message of the worst step, coming back one of what is over
  and where it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from mm_dagster.alerts import message
from mm_dagster.alerts.alert import EVERY_GRID, HELD_BACK, HIGH, PLAIN, QUIET, Alert
from mm_dagster.alerts.limit_words import BREACHED, DRAWDOWN, OVER, Known, OfLimit
from mm_dagster.alerts.pending import again, retry
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.tables import registry

KIND = "LIMIT"
UNHEARD = "not sent: its breach was refused"
UNWATCHED = "not sent: the limit is not watched any more"
_ENDS = (UNHEARD, UNWATCHED)
"""Details of what ends a breach without a word."""
_PRIORITY = dict(zip(DRAWDOWN, (QUIET, PLAIN, HIGH), strict=True))
_OF_HOLDING = ("es_5_24h", "correlation")
"""Limits of all grids that are about what is held: where nothing is, they are over."""


class _Subject(NamedTuple):
    """What a chain of alerts is about: of a drawdown all three steps."""

    quote: str
    steps: tuple[str, ...]
    subject: str


@dataclass(frozen=True)
class _Standing:
    """How a limit stands.

    Attributes:
        level: 0: not breached; else how many steps; None: not known.
        rows: its rows by step; empty: it has none any more.
        is_watched: whether it has a threshold.
    """

    level: int | None
    rows: Mapping[str, Mapping[str, Any]]
    is_watched: bool = True


@dataclass(frozen=True)
class Evaluation:
    """The newest rows of one quote currency, all of one bar.

    Attributes:
        as_of: of that bar.
        limits: rows of `limit_state` by limit and subject.
        risk: the row of `portfolio_risk` that they were made from; None: it is not there, or another by now.
        shares: rows of `portfolio_contribution`; empty without `risk`.
    """

    as_of: datetime
    limits: Mapping[tuple[str, str], Mapping[str, Any]]
    risk: Mapping[str, Any] | None
    shares: Sequence[Mapping[str, Any]]

    @property
    def is_whole(self) -> bool:
        """Whether it knows every grid, so that one that it lacks no longer runs.

        Where the past of one market is not known no grid contributes, though they run.
        """
        told = sum(limit == "position" for limit, _ in self.limits)
        return self.risk is not None and self.risk["grids"] == told


def due(
    limit_rows: pl.DataFrame,
    risks: pl.DataFrame,
    contributions: pl.DataFrame,
    ledger: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
    running: Collection[str],
    source: str,
) -> list[Alert]:
    """What of the limits must be sent, with its words, or noted as suppressed.

    Args:
        limit_rows: rows of `limit_state`, at least the newest of each quote currency.
        risks: rows of `portfolio_risk`, at least of the same bars.
        contributions: rows of `portfolio_contribution`, likewise.
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
        alerts: how old news may be, and the operator's time zone.
        running: the quote currencies in which a grid is to run, as the configuration says.
        source: where the candles of these grids come from: ccxt, recorded or simulated.

    Returns:
        By alert_id. Empty when there is nothing to send.
    """
    known = evaluations(limit_rows, risks, contributions, clock, alerts)
    past: dict[_Subject, dict[str, dict[str, Any]]] = {}
    for row in ledger.filter(pl.col("kind") == KIND).iter_rows(named=True):
        past.setdefault(_subject(OfLimit.of(row["state"])), {})[row["alert_id"]] = row
    subjects = dict.fromkeys(past)
    for quote, one in known.items():
        subjects |= dict.fromkeys(_subject(OfLimit(BREACHED, quote, *key)) for key in one.limits)
    found = []
    for about in subjects:
        evaluation = known.get(about.quote)
        standing = _standing(about, evaluation, about.quote in running)
        for alert in _of_subject(about, standing, past.get(about, {}), evaluation, clock, source):
            if alert.title is None:
                title, text = message.limit(
                    OfLimit.of(alert.state),
                    _known(OfLimit.of(alert.state), standing, evaluation),
                    source == "simulated",
                    alerts.timezone,
                    linked=alerts.is_linked,
                )
                alert = replace(alert, title=title, message=text)
            found.append(alert)
    return sorted(found, key=lambda one: one.alert_id)


def evaluations(
    limit_rows: pl.DataFrame,
    risks: pl.DataFrame,
    contributions: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
) -> dict[str, Evaluation]:
    """The newest fresh evaluation of each quote currency; one that has none is left out.

    Args:
        limit_rows: rows of `limit_state`.
        risks: rows of `portfolio_risk`.
        contributions: rows of `portfolio_contribution`.
        clock: the tick's clock, UTC.
        alerts: how old news may be.
    """
    oldest = clock - timedelta(minutes=alerts.max_age_minutes)
    fresh = limit_rows.filter(pl.col("as_of").is_between(oldest, clock))
    found = {}
    for (quote,), rows in fresh.group_by("quote"):
        as_of = rows["as_of"].max()
        assert isinstance(as_of, datetime)
        mine = (pl.col("quote") == quote) & (pl.col("as_of") == as_of)
        limits = {(row["limit"], row["subject"]): row for row in rows.filter(mine).iter_rows(named=True)}
        # A row carries the hash of the risk that it was made from: another one may have been stored meanwhile.
        made_of = pl.col("config_hash").is_in({row["config_hash"] for row in limits.values()})
        risk = risks.filter(mine, made_of).to_dicts()
        found[str(quote)] = Evaluation(
            as_of, limits, risk[0] if risk else None, contributions.filter(mine, made_of).to_dicts() if risk else []
        )
    return dict(sorted(found.items()))


def _subject(told: OfLimit) -> _Subject:
    return _Subject(told.quote, DRAWDOWN if told.limit in DRAWDOWN else (told.limit,), told.subject)


def _standing(about: _Subject, evaluation: Evaluation | None, runs: bool) -> _Standing:
    gone = _Standing(0 if about.steps != DRAWDOWN else None, {})
    if evaluation is None:
        # A currency in which nothing is to run is not evaluated: then there is nothing to wait for.
        return _Standing(None, {}) if runs else gone
    keys = {step: (step, about.subject) for step in about.steps}
    rows = {step: evaluation.limits[key] for step, key in keys.items() if key in evaluation.limits}
    if len(rows) < len(about.steps):
        return gone if evaluation.is_whole and about.subject != EVERY_GRID else _Standing(None, {})
    if all(row["threshold"] is None for row in rows.values()):
        return _Standing(None, rows, is_watched=False)
    states = [rows[step]["breached"] for step in about.steps]
    if None not in states:
        return _Standing(max((place for place, is_on in enumerate(states, 1) if is_on), default=0), rows)
    nothing_held = evaluation.is_whole and evaluation.risk is not None and evaluation.risk["grids"] == 0
    return _Standing(0 if nothing_held and about.steps[0] in _OF_HOLDING else None, rows)


@dataclass
class _Past:
    """What the ledger says of one subject.

    Attributes:
        settled: what was noted and not sent: to be sent again, or to be suppressed.
        told: the last alert that the operator counts as notified of.
        was_heard: whether a breach was sent since the last end.
        before: the alert that the next one is named by.
    """

    settled: list[Alert]
    told: Mapping[str, Any] | None = None
    was_heard: bool = False
    before: str = ""


def _of_subject(
    about: _Subject,
    standing: _Standing,
    past: Mapping[str, Mapping[str, Any]],
    evaluation: Evaluation | None,
    clock: datetime,
    source: str,
) -> list[Alert]:
    """What is due of one limit and subject: what was noted is settled, and one new alert at most."""
    level = standing.level if standing.is_watched else 0
    known = _past(about, standing, level, _chain(past, source), clock)
    last = _level(known.told) if known.told is not None else 0
    if level is None or level == last:
        return known.settled
    detail = None
    if level > last:
        now = OfLimit(BREACHED, about.quote, about.steps[level - 1], about.subject)
        priority = _PRIORITY.get(now.limit, PLAIN)
    else:
        stands = about.steps[level - 1] if level else None
        now, priority = OfLimit(OVER, about.quote, about.steps[last - 1], about.subject, stands), QUIET
        if not known.was_heard or not standing.is_watched:
            detail = UNHEARD if not known.was_heard else UNWATCHED
    row = standing.rows.get(now.limit)
    as_of = evaluation.as_of if evaluation is not None else clock
    new = Alert(
        alert_id=_name(source, now.state, known.before),
        kind=KIND,
        grid_id=EVERY_GRID,
        symbol=EVERY_GRID,
        activated_at=as_of,
        as_of=as_of,
        state=now.state,
        state_since=(row["since"] if row is not None else None) or as_of,
        priority=priority,
        before=known.told["state"] if known.told is not None else None,
        status="SUPPRESSED" if detail else "PENDING",
        detail=detail,
        found_at=clock,
    )
    return [*known.settled, new]


def _past(
    about: _Subject, standing: _Standing, level: int | None, chain: Sequence[Mapping[str, Any]], clock: datetime
) -> _Past:
    known = _Past([])
    for noted in chain:
        row = dict(noted)
        held = row["status"] == "SUPPRESSED" and str(row["detail"]).startswith(HELD_BACK)
        if (held or row["status"] == "PENDING") and level is not None and _level(row) != level:
            reason = f"not sent: it is {_spoken(about, level)} by now" if standing.is_watched else UNWATCHED
            row |= {"status": "SUPPRESSED", "detail": reason}
            known.settled.append(again(row, "SUPPRESSED", reason))
        elif held:
            # It is found again under the same name.
            break
        elif row["status"] == "PENDING":
            known.settled += retry(row, clock)
        known.before = row["alert_id"]
        is_over = OfLimit.of(row["state"]).news == OVER
        if row["status"] != "SUPPRESSED" or (row["detail"] in _ENDS and is_over):
            known.told = row
            known.was_heard = _level(row) > 0 and (known.was_heard or is_over or row["status"] != "FAILED")
    return known


def _chain(past: Mapping[str, Mapping[str, Any]], source: str) -> list[Mapping[str, Any]]:
    """The alerts of one subject in the order of the news: each is named by the one before it."""
    states = sorted({str(row["state"]) for row in past.values()})
    found: list[Mapping[str, Any]] = []
    before = ""
    while True:
        names = [name for state in states if (name := _name(source, state, before)) in past]
        if not names:
            return found
        # Of two that follow the same one, which only a run without the lock can leave, the last noted counts.
        before = max(names, key=lambda name: (past[name]["status"] != "SUPPRESSED", past[name]["created_at"], name))
        found.append(past[before])


def _name(source: str, state: str, before: str) -> str:
    return registry.identity(KIND, source, state, before)


def _level(row: Mapping[str, Any]) -> int:
    """Where the limit stands by an alert: how many steps are breached."""
    told = OfLimit.of(row["state"])
    stands = told.limit if told.news == BREACHED else told.stands
    return 0 if stands is None else DRAWDOWN.index(stands) + 1 if stands in DRAWDOWN else 1


def _spoken(about: _Subject, level: int) -> str:
    """How a limit stands, in words."""
    if level == 0:
        return "over"
    return "breached" if about.steps != DRAWDOWN else about.steps[level - 1].replace("_", " ")


def _known(told: OfLimit, standing: _Standing, evaluation: Evaluation | None) -> Known:
    return Known(
        standing.rows.get(told.limit),
        standing.rows.get(told.stands) if told.stands else None,
        evaluation.risk if evaluation is not None else None,
        evaluation.shares if evaluation is not None else (),
    )
