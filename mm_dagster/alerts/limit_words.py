"""What a limit of all grids together says on the phone: how much, of what, who has most of it, what brings it back.

Every figure is one of the stored rows of the same bar, or a difference of two of them. What a row does not know is left
out, and so is what there is no room for: the least important part first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mm_dagster.alerts.parts import Part
from mm_dagster.bars import iso
from mm_dagster.config.portfolio import OVER as BACK
from mm_dagster.text import counted, money_text, number_text

BREACHED = "BREACHED"
OVER = "OVER"
DRAWDOWN = ("drawdown_mild", "drawdown_moderate", "drawdown_severe")
"""One story in three steps, from the least to the worst."""

_SESSION_HOURS = 24
_NAMED = 2
"""So many contributors are named, at most."""
_LEAST_DIGITS, _MOST_DIGITS = 3, 9
_NIGHTS = "Bad nights follow each other."

Row = Mapping[str, Any]


class OfLimit(NamedTuple):
    """What the `state` of an alert of a limit says, word by word.

    Attributes:
        news: BREACHED or OVER.
        quote: the quote currency.
        limit: see words.LIMITS; of a drawdown that came down, the step that is over.
        subject: `all`, a market or a grid.
        stands: of a drawdown that came down, the step that still stands; else None.
    """

    news: str
    quote: str
    limit: str
    subject: str
    stands: str | None = None

    @property
    def state(self) -> str:
        """Like `BREACHED USDT position eth-v3` or `OVER USDT drawdown_severe all drawdown_mild`."""
        return " ".join(part for part in self if part)

    @classmethod
    def of(cls, state: str) -> OfLimit:
        """What a state says; no name in it has a space."""
        return cls(*state.split(" "))


@dataclass(frozen=True)
class Known:
    """The stored rows that a message is made of, all of one quote currency and bar.

    Attributes:
        row: of `limit_state`; None: there is no such subject any more.
        standing: of the step of the drawdown that still stands; else None.
        risk: of `portfolio_risk`, which the row was made from; None: it is not there.
        shares: of `portfolio_contribution`; empty without `risk`.
    """

    row: Row | None
    standing: Row | None = None
    risk: Row | None = None
    shares: Sequence[Row] = ()


def title(told: OfLimit, known: Known) -> str:
    """What it is about and how it stands: `LIMIT · bad night: 6.4 % of your equity, limit 5 %`."""
    what = {
        "portfolio": "capital of all grids",
        "pair": f"capital on {told.subject}",
        "position": f"capital of {told.subject}",
        "session": "capital of new grids",
        "es_5_24h": "bad night",
        "correlation": "markets that move alike",
        "fills_per_day": f"orders of {told.subject} in a day",
        "fee_share": f"fees of {told.subject}",
    }.get(told.limit, told.limit.replace("_", ", "))
    begin = "LIMIT over" if told.news == OVER else "LIMIT"
    row = known.row
    if row is None or row["value"] is None or row["threshold"] is None:
        return f"{begin} · {what}"
    value, limit, _ = _figures(told.limit, row)
    return f"{begin} · {what}: {value}{_of_what(told.limit)}, limit {limit}"


def parts(told: OfLimit, known: Known) -> list[Part]:
    """The text, part by part, in the order in which they are read; times as ISO 8601 UTC.

    Args:
        told: what the alert says.
        known: the rows.
    """
    row = known.row
    if row is None or row["value"] is None or row["threshold"] is None:
        return [_part(0, f"{told.limit}: {_ended(told, row)}")]
    fact = _part(0, _fact(told, known))
    time = _part(9, f"As of {iso(row['as_of'])}.")
    if told.news == OVER:
        begin = "It is over."
        if known.standing is not None:
            limit = _share(known.standing["threshold"])
            begin = f"{_step(told.limit)} is over; {_step(told.stands or '')}, from {limit} on, still stands."
        return [_part(0, begin), fact, time]
    return [
        fact,
        *(_part(5, one) for one in _counted(told, known)),
        *(_part(6, *forms) for forms in _contributors(told, known)),
        _part(2, _back(told, known)),
        *(_part(4, _NIGHTS) for _ in range(told.limit in ("es_5_24h", *DRAWDOWN))),
        time,
    ]


def _part(rank: int, *forms: str) -> Part:
    return Part(rank, forms, must=not rank, begins_line=False)


def _ended(told: OfLimit, row: Row | None) -> str:
    """Why there is no figure: nothing of it runs any more, or it is not watched any more."""
    if row is not None and row["threshold"] is None:
        return "this limit is not watched any more."
    if told.limit == "pair":
        return f"it is over, since no grid on {told.subject} runs any more."
    if told.limit in ("position", "fills_per_day", "fee_share"):
        return f"it is over, since {told.subject} no longer runs."
    return f"it is over, since no grid in {told.quote} runs any more."


def _figures(limit: str, row: Row) -> tuple[str, str, str]:
    """Value, limit, and from where on below it is over, with as many digits as tell value and limit apart."""
    written = _written if limit in ("correlation", "fills_per_day") else _share
    value, threshold = row["value"], row["threshold"]
    digits = _LEAST_DIGITS
    while digits < _MOST_DIGITS and value != threshold and written(value, digits) == written(threshold, digits):
        digits += 1
    return written(value, digits), written(threshold, digits), written(BACK * threshold, digits)


def _written(value: float, digits: int = _LEAST_DIGITS) -> str:
    # A count is written out, whatever its digits are.
    return number_text(value, max(digits, len(str(int(abs(value))))))


def _share(value: float, digits: int = _LEAST_DIGITS) -> str:
    return f"{number_text(100 * value, digits)} %"


def _of_what(limit: str) -> str:
    if limit == "fee_share":
        return " of what its sells earn"
    return "" if limit in ("correlation", "fills_per_day") else " of your equity"


def _step(limit: str) -> str:
    return limit.partition("_")[2].upper()


def _fact(told: OfLimit, known: Known) -> str:
    """How it stands, beside the limit."""
    row, risk = known.row, known.risk
    assert row is not None
    value, limit, back = _figures(told.limit, row)
    # Between the limit and where it is over it is still breached, and no longer above.
    inside = told.news == BREACHED and row["value"] <= row["threshold"]
    its = f"the limit is {limit}"
    if told.limit in DRAWDOWN:
        its = f"{_step(told.limit)} begins at {limit}"
    end = f"; it was above {limit} and is over below {back}." if inside else f"; {its}."
    match told.limit:
        case "es_5_24h":
            if risk is None or risk["es_5_24h"] is None:
                return f"The worst night in 20 costs {value} of your equity on average{end}"
            mean = _money(risk["es_5_24h"], risk, told)
            if risk["var_5_24h"] is None or risk["var_5_24h"] <= 0:
                return f"The worst night in 20 costs {mean} on average: {value} of your equity{end}"
            least = _money(risk["var_5_24h"], risk, told)
            return f"One night in 20 costs {least} or more, {mean} on average: {value} of your equity{end}"
        case "correlation":
            pair = risk["most_correlated"] if risk is not None else None
            who = " and ".join(pair.split("/")) if pair else "Two markets"
            return f"{who} move alike: their correlation is {value}{end}"
        case "fills_per_day":
            return f"{told.subject} filled {value} orders in 24 hours{end}"
        case "fee_share":
            return f"Fees take {value} of what the sells of {told.subject} earn before them{end}"
        case limit_name if limit_name in DRAWDOWN:
            if risk is None or risk["drawdown"] is None:
                return f"All grids together are {value} of your equity below their best{end}"
            fallen = _money(risk["drawdown"], risk, told)
            return f"All grids together are {fallen} below their best: {value} of your equity{end}"
    who = {
        "portfolio": "All grids together have",
        "pair": f"The grids on {told.subject} have",
        "position": f"{told.subject} has",
        "session": "The grids activated in the last 24 hours have",
    }[told.limit]
    capital = _capital(told, known)
    if capital is None:
        return f"{who} {value} of your equity{end}"
    return f"{who} {_money(capital, risk, told)}: {value} of your equity{end}"


def _counted(told: OfLimit, known: Known) -> list[str]:
    """`6 grids count as 1.1.`"""
    risk = known.risk
    if told.limit not in ("es_5_24h", *DRAWDOWN) or risk is None or risk["grids"] < _NAMED or risk["counts_as"] is None:
        return []
    return [f"{counted(risk['grids'], 'grid')} count as {number_text(risk['counts_as'], 2)}."]


def _contributors(told: OfLimit, known: Known) -> list[tuple[str, ...]]:
    """Who has most of it, with fewer names in each form; nothing where there is one, or none is known."""
    if told.limit in ("es_5_24h", *DRAWDOWN):
        begin = "Most of it" if told.limit == "es_5_24h" else "Most of a bad night"
        found = {row["grid_id"]: row["es_5_share"] for row in known.shares}
    elif told.limit in ("portfolio", "pair", "session"):
        begin = "Most of it"
        mine = _counting(told, known)
        whole = sum(row["capital"] for row in mine)
        found = {row["grid_id"]: row["capital"] / whole for row in mine if whole}
    else:
        return []
    first = sorted(
        ((share, name) for name, share in found.items() if share is not None and share > 0),
        key=lambda one: (-one[0], one[1]),
    )[:_NAMED]
    if len(first) < _NAMED:
        return []
    said = [f"{name} {_share(share, 2)}" for share, name in first]
    return [tuple(f"{begin}: {', '.join(said[:count])}." for count in range(_NAMED, 0, -1))]


def _back(told: OfLimit, known: Known) -> str:
    """What brings it back."""
    row, risk = known.row, known.risk
    assert row is not None
    back = _figures(told.limit, row)[2]
    ends = f"it is over below {back}"
    match told.limit:
        case "es_5_24h":
            best = _best(known)
            if risk is None or not risk["es_5_24h"] or best is None:
                return f"Fewer or smaller grids bring it down; {ends}."
            left = max(0.0, risk["es_5_24h"] - best["stopping_takes_off"]) * row["value"] / risk["es_5_24h"]
            more = "" if left < BACK * row["threshold"] else f"; {ends}"
            return f"Stopping {best['grid_id']} brings it to {_share(left)}{more}."
        case "correlation":
            return f"Leaving one of the two brings it down; {ends}."
        case "fills_per_day":
            return f"Fewer levels or wider steps fill less; {ends}."
        case "fee_share":
            return f"Fewer levels or wider steps earn more a fill; {ends}."
        case limit if limit in DRAWDOWN:
            best = _best(known)
            if best is None:
                return f"I{ends[1:]}."
            less = _money(best["stopping_takes_off"], risk, told)
            return f"I{ends[1:]}. Stopping {best['grid_id']} takes {less} off a bad night."
    capital = _capital(told, known)
    if not capital:
        return f"Less capital brings it down; {ends}."
    too_much = capital * (1 - BACK * row["threshold"] / row["value"])
    waiting = "Waiting a day, or taking" if told.limit == "session" else "Taking"
    return f"{waiting} out more than {_money(too_much, risk, told)} brings it below {back}, where it is over."


def _best(known: Known) -> Row | None:
    """The grid whose stopping takes most off a bad night; None: that of none does, or is known."""
    rows = [row for row in known.shares if row["stopping_takes_off"] is not None and row["stopping_takes_off"] > 0]
    return min(rows, key=lambda row: (-row["stopping_takes_off"], row["grid_id"]), default=None)


def _counting(told: OfLimit, known: Known) -> list[Row]:
    """The grids whose capital counts."""
    rows = [row for row in known.shares if row["capital"] is not None]
    match told.limit:
        case "pair":
            return [row for row in rows if row["symbol"] == told.subject]
        case "position":
            return [row for row in rows if row["grid_id"] == told.subject]
        case "session":
            return [row for row in rows if (row["as_of"] - row["activated_at"]).total_seconds() < _SESSION_HOURS * 3600]
    return rows


def _capital(told: OfLimit, known: Known) -> float | None:
    """The capital that the limit is about, quote currency; None: not known."""
    if told.limit in ("portfolio", "session") and known.risk is not None:
        name = "capital" if told.limit == "portfolio" else "session_capital"
        return None if known.risk[name] is None else float(known.risk[name])
    rows = _counting(told, known)
    return sum(row["capital"] for row in rows) if rows else None


def _money(amount: float, risk: Row | None, told: OfLimit) -> str:
    capital = risk["capital"] if risk is not None and risk["capital"] else 0.0
    return f"{money_text(amount, max(capital, abs(amount)) or 1.0)} {told.quote}"
