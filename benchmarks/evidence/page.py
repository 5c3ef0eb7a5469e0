"""The page for people: prose with figures put in, and a claim only where the figures bear it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.continuity import Correction
from benchmarks.evidence.figures import ALL, GATE, HOLD, LATEST, PROBABILITY, WARNING, Cells, Evidence, Figure
from benchmarks.evidence.tables import slug
from benchmarks.exit_cost import JUDGED, Cost
from mm_dagster.evaluation import leaving
from mm_dagster.evaluation.chains import Chained
from mm_dagster.evaluation.quality import PLACEBO
from mm_dagster.evaluation.signals import Name

TEXT = Path(__file__).with_name("page.md")


class ClaimError(Exception):
    """The page claims what the figures do not show; one line that says which claim."""


def claims(found: Evidence, cost: Cost) -> Iterator[tuple[str, bool]]:
    """What the page says in words, and whether the figures bear it out."""
    together, chains = found.together, found.chains[ALL]
    yield "the probability knows more than the position", _low(together, PROBABILITY, "log_loss_gain") > 0
    yield "leaving at WARNING is better on average", _low(together, WARNING, "gain_vs_next_level") > 0
    yield "leaving at WARNING is better in the tail", _low(together, WARNING, "shortfall_vs_next_level") > 0
    yield "the gate pays", all(one.low is not None and one.low > 0 for one in chains if _is_gate(one))
    yield (
        "the tail is no skill",
        _value(together, WARNING, "shortfall_vs_hold")
        <= _value(together, (PLACEBO, "WARNING"), "shortfall_vs_hold") + 0.5,
    )
    for level in (WARNING, LATEST):
        worse = together[*level, "shortfall_vs_position_as_long"][2]
        yield f"a place in the grid has the better tail than {level[1]}", worse is not None and worse < 0
    growth = [one for one in chains if one.metric == "gain_vs_cash"]
    yield "every chain loses", all(one.high is not None and one.high < 0 for one in growth)
    schedule = [one for one in chains if one.metric == "gain_vs_same_schedule"]
    yield "no chain beats its schedule", all(one.low is not None and one.low <= 0 for one in schedule)
    risen = {name for name, some in found.chains.items() if any(_grew(one) for one in some)}
    yield "chains gained on Bitfinex 2017 alone", risen == {"Bitfinex 2017"}
    lucky = all(
        _value(cells, ("control", "random_exits"), "gain_vs_hold") > 0
        for name, cells in found.sets.items()
        if name not in ("Binance 2023", "Kraken 2023")
    )
    yield "random exits gain on holding", lucky
    yield from _of_cost(cost)


UNFITTED = JUDGED[1:]
"""Sets on which nothing of the cost was fitted."""


def _of_cost(cost: Cost) -> Iterator[tuple[str, bool]]:
    for width, least, most in ((80, 0.78, 0.90), (90, 0.88, 0.96)):
        came = _coverages(cost, width)
        yield f"the cost comes within its {width} % interval", least <= min(came) and max(came) <= most
    shares = [one.value for rows in cost.rows.values() for one in rows if one.metric == "now_share"]
    yield "no more than a minute trades is sold at once", min(shares) == 1.0
    gains = [one.value for rows in cost.rows.values() for one in rows if one.metric == "gain_worst_5_bp"]
    yield "the plan's dearest are no dearer than now's", min(gains) >= -1e-9


def _coverages(cost: Cost, width: int) -> list[float]:
    """Of the sets on which nothing was fitted, when broken below."""
    return [cost.figure(one, f"coverage_{width}", minutes).value for one in UNFITTED for minutes in leaving.BARS]


def write(found: Evidence, correction: Correction, cost: Cost, candidates: int) -> str:
    """The page.

    Raises:
        ClaimError: a claim is not borne out; the page has to be written anew.
    """
    if wrong := [claim for claim, holds in claims(found, cost) if not holds]:
        raise ClaimError(f"the figures do not show that {', nor that '.join(wrong)}: write page.md anew")
    return TEXT.read_text().format(**dict(_figures(found, correction, candidates), **_cost_figures(cost)))


def _figures(found: Evidence, correction: Correction, candidates: int) -> Iterator[tuple[str, str]]:
    together, sets = found.together, found.sets
    yield "grids", f"{together[*HOLD, 'mean_equity'][3]:,}"
    yield "auc", _told(together[*PROBABILITY, "auc"], 3)
    yield "auc_least", _short(min(_value(cells, PROBABILITY, "auc") for cells in sets.values()), 3)
    yield "ece", _told(together[*PROBABILITY, "ece"], 3)
    yield "brier", _told(together[*PROBABILITY, "brier_skill"], 2)
    yield "gain", _told(together[*PROBABILITY, "log_loss_gain"], 0, times=1000)
    yield "gain_sets", f"{sum(_low(cells, PROBABILITY, 'log_loss_gain') > 0 for cells in sets.values())}"
    yield "base_rate", _range(sets, PROBABILITY, "base_rate", 2)
    for word, level in (("latest", LATEST), ("warning", WARNING)):
        for metric, name, digits in (
            ("precision", "precision", 2),
            ("recall", "recall", 2),
            ("lead_p50_hours", "lead", 1),
        ):
            yield f"{word}_{name}", _range(sets, level, metric, digits)
    yield "earlier_mean", _told(together[*WARNING, "gain_vs_next_level"], 2, sign=True)
    yield "earlier_worst", _told(together[*WARNING, "shortfall_vs_next_level"], 2, sign=True)
    gates = {name: next(one for one in chains if _is_gate(one)) for name, chains in found.chains.items()}
    every = gates.pop(ALL)
    yield "gate", _told((every.value, every.low, every.high, every.n), 2, sign=True) + " %"
    yield "gate_limit", _short(GATE, 2)
    yield "gate_sets", f"{sum((one.value or 0.0) > 0 for one in gates.values())}"
    yield "gate_sure", f"{sum(one.low is not None and one.low > 0 for one in gates.values())}"
    for word, level in (("", WARNING), ("_latest", LATEST)):
        yield f"tail{word}", _told(together[*level, "shortfall_vs_hold"], 1)
        yield f"tail_placebo{word}", _told(together[PLACEBO, level[1], "shortfall_vs_hold"], 1)
    value, low, high, _ = together[*WARNING, "shortfall_vs_position_as_long"]
    assert value is not None
    assert low is not None
    assert high is not None
    yield "position_worst", _told((-value, -high, -low, 0), 1)
    yield "position_mean", _told(together[*WARNING, "gain_vs_position_as_long"], 2, sign=True)
    yield "hold_mean", _told(together[*WARNING, "gain_vs_hold"], 2, sign=True)
    better = [
        f"{level[1]} on {name}"
        for name, cells in sets.items()
        for level in (WARNING, LATEST, ("confirmed", "MANDATORY_EXIT"))
        if _low(cells, level, "gain_vs_null") > 0
    ]
    yield (
        "null_sentence",
        (
            "the interval of the difference holds 0 or lies below it for every state on every set."
            if not better
            else f"but for {', '.join(better)} the interval of the difference holds 0 or lies below it."
        ),
    )
    best = max((one for one in found.chains[ALL] if one.metric == "gain_vs_cash"), key=lambda one: one.value or 0.0)
    yield "best_chain", f"left at {_short(best.exit, 2)} and {best.entry}"
    assert best.low is not None
    assert best.high is not None
    yield "best_growth", f"{_told((-best.value, -best.high, -best.low, 0), 2)} %"
    yield "literal_precision", _told(sets["KuCoin 2025"]["literal", "LATEST_ACCEPTABLE_EXIT", "precision"], 2)
    yield "candidates", f"{candidates}"
    yield "continuity", f"{_told((*correction.gain, 0), 1, sign=True)} thousandths of a nat over the six sets"
    yield "near_came", _short(correction.came, 2)
    yield "near_now", _short(correction.said, 2)
    yield "near_before", _short(correction.said_before, 2)
    yield "set_links", ", ".join(f"[{name}](evidence/{slug(name)}.md)" for name in sets)


def _cost_figures(cost: Cost) -> dict[str, str]:
    held_out, most = UNFITTED[0], leaving.NOTIONALS[-1]
    figures = {}
    for width in (80, 90):
        came = _coverages(cost, width)
        figures[f"cost_{width}"] = f"{_short(min(came), 2)} to {_short(max(came), 2)}"
    for way in ("now", "plan"):
        figures[f"cost_{way}"] = f"{cost.figure(held_out, f'{way}_worst_5_bp', None, most).value:.0f}"
    cases = sum(one.n for rows in cost.rows.values() for one in rows if one.metric == "now_share")
    return figures | {"cost_sold": f"{most:,.0f}", "cost_cases": f"{cases:,}"}


def _is_gate(one: Chained) -> bool:
    return (one.exit, one.metric) == (0.38, "gain_of_gate")


def _grew(one: Chained) -> bool:
    return one.metric == "gain_vs_cash" and (one.value or 0.0) > 0


def _value(cells: Cells, name: Name, metric: str) -> float:
    value = cells[*name, metric][0]
    assert value is not None, (name, metric)
    return value


def _low(cells: Cells, name: Name, metric: str) -> float:
    low = cells[*name, metric][1]
    assert low is not None, (name, metric)
    return low


def _short(value: float, digits: int, sign: bool = False) -> str:
    """As the page writes figures: no zero before the point."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and digits and not text.endswith(f"1.{'0' * digits}") else text


def _told(figure: Figure, digits: int, sign: bool = False, times: float = 1.0) -> str:
    value, low, high, _ = figure
    assert value is not None
    text = _short(times * value, digits, sign)
    if low is None or high is None:
        return text
    return f"{text} ({_short(times * low, digits, sign)} to {_short(times * high, digits, sign)})"


def _range(sets: object, name: Name, metric: str, digits: int) -> str:
    """From the least to the greatest of the sets."""
    assert isinstance(sets, dict)
    values = [_value(cells, name, metric) for cells in sets.values()]
    return f"{_short(min(values), digits)} to {_short(max(values), digits)}"
