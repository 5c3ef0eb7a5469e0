"""The fired triggers as sentences, with value and threshold, for people: alerts, advice, the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mm_dagster.tables.words import STATES
from mm_dagster.text import number_text, price_text


def reasons_of(triggers: Sequence[Mapping[str, Any]], state: str | None) -> list[str]:
    """Tells what speaks for a state.

    Args:
        triggers: the `triggers` of a row of `exit_state`.
        state: its `state`; None: it is not judged yet.

    Returns:
        One short sentence for each fired trigger: the most urgent level first, of a level the weightiest. Then, when
        more than half cannot be known, how many; or else, where the state is not NORMAL, that the probability of a
        break is not. Where nothing fires and the state is not NORMAL, one sentence that it is held. Nothing speaks for
        a state that is not there.
    """
    if state is None:
        return []
    fired = [trigger for trigger in triggers if trigger["fired"]]
    fired.sort(key=lambda one: (-STATES.index(one["level"]), weight(one["family"])))
    sentences = [sentence(trigger) for trigger in fired]
    unknown = sum(trigger["fired"] is None for trigger in triggers)
    if 2 * unknown > len(triggers):
        sentences.append(f"{unknown} of {len(triggers)} triggers cannot be known")
    elif state != "NORMAL" and any(one["name"] == "BREAK_LIKELY" and one["fired"] is None for one in triggers):
        sentences.append("The probability of a break below the grid cannot be known")
    if sentences or state == "NORMAL":
        return sentences
    until = "the grid is activated anew" if state == STATES[-1] else "nothing has counted for some time"
    return [f"No trigger fires at this bar; {state} stays until {until}"]


def weight(family: str) -> int:
    """Place of a family among the reasons: what happened, then what was measured, then what may be read into it."""
    return {"hard": 0, "measured": 1}.get(family, 2)


def sentence(trigger: Mapping[str, Any]) -> str:
    """One fired trigger in words, like "Break below the grid within 24 h: 71 % (limit 60 %)"."""
    value = math.nan if trigger["value"] is None else float(trigger["value"])
    limit = math.nan if trigger["threshold"] is None else float(trigger["threshold"])
    match trigger["name"]:
        case "STOP_BREACHED":
            return f"Low {price_text(value)} at or below the stop {price_text(limit)}"
        case "CLOSES_OUTSIDE":
            side = "below" if value < 0 else "above"
            return f"Closes in a row {side} the grid: {abs(value):.0f} (limit {abs(limit):.0f})"
        case "REGIME_TREND":
            return "Verdict: TREND"
        case "RANGE_INVALIDATED":
            now = f", now {_outside(value)}" if not math.isnan(value) else ""
            return f"Range of the activation left by more than {number_text(limit, 2)} ATR{now}"
        case "TRANSITION_PERSISTS":
            return "Verdict: TRANSITION or TREND, now and hours before"
        case "REVERSION_LOST":
            return f"Half-life of the reversion: {_hours(value)} (limit {_hours(limit)}, from its baseline)"
        case "VOLATILITY_EXPANDED":
            return f"True range against its week: {value:.2f} (limit {limit:.2f})"
        case "TRANSITION_LIKELY":
            return f"Transition or trend: {_percent(value)} (limit {_percent(limit)})"
        case "CONFIDENCE_FALLING":
            return f"Confidence in the range fell within 4 h by {value:.2f} (limit {limit:.2f})"
        case "EFFICIENCY_RISING":
            return f"Efficiency ratio rose within 4 h by {value:.2f} (limit {limit:.2f})"
        case "REVERSION_SLOWING":
            return f"Half-life of the reversion: {_hours(value)} (limit {_hours(limit)}, from 4 h before)"
        case "BREAK_LIKELY":
            return f"Break below the grid within 24 h: {_percent(value)} (limit {_percent(limit)})"
        case name:
            raise ValueError(f"{name!r} is no trigger of the ladder")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _hours(hours: float) -> str:
    return "none, no reversion" if math.isinf(hours) else f"{hours:.1f} h"


def _outside(atrs: float) -> str:
    return f"{atrs:.2f} ATR outside" if atrs > 0 else "inside"
