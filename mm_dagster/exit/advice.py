"""What to do with a grid at each bar, in one sentence with its main reason; at WARNING, what leaving then is worth.

What the account says goes before what the price lets expect: a grid whose stop was reached may still hold something,
and one that the price has left above is idle only when it holds nothing.
"""

from __future__ import annotations

import functools
import math
from datetime import timedelta

from mm_dagster.arrays import Integers
from mm_dagster.bars import BAR, iso
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.measured import worth_of_warning
from mm_dagster.exit.reasons import sentence, weight
from mm_dagster.exit.triggers import TRIGGERS, TRUE, UNKNOWN, Readings
from mm_dagster.tables.words import STATES
from mm_dagster.text import number_text, price_text, spoken

_WARNING, _LATEST, _MANDATORY = (STATES.index(state) for state in STATES[1:])
_BY_WEIGHT = sorted(
    ((index, trigger.name) for index, trigger in enumerate(TRIGGERS)),
    key=lambda placed: weight(TRIGGERS[placed[0]].family),
)
"""Place and name of the triggers, the weightiest first."""


def advise(
    readings: Readings,
    state: Integers,
    since: Integers,
    counted: Integers,
    first: int,
    config: ExitConfig,
    scales: TouchConfig,
) -> list[str]:
    """The advice at each bar of an episode from bar `first` on.

    Args:
        readings: the triggers at its n bars.
        state: place in `words.STATES`, shape (n,); -1 where it is not judged yet.
        since: bar at which it was entered, shape (n,).
        counted: the highest level for which each trigger counts, shape (n, triggers); 0: it does not count.
        first: the first bar that is asked for.
        config: policy and windows.
        scales: of the break probability.

    Returns:
        One sentence a bar, and the measured figure after it at WARNING.
    """
    at = _Advice(readings, since, counted, config, worth_of_warning(config, scales))
    sentences = []
    for bar, place in enumerate(state[first:].tolist(), start=first):
        if place < 0:
            sentences.append("Look at the exchange yourself: this grid is not judged yet.")
        elif place == 0:
            sentences.append(at.normal(bar))
        elif place == _MANDATORY:
            sentences.append(at.mandatory(bar))
        else:
            sentences.append(at.before_mandatory(bar, place))
    return sentences


class _Advice:
    """The sentences of one episode, by bar and state."""

    def __init__(
        self, readings: Readings, since: Integers, counted: Integers, config: ExitConfig, worth: str | None
    ) -> None:
        self._readings, self._since, self._counted, self._config = readings, since, counted, config
        numbers, logic = readings.numbers, readings.logic
        above = (logic["CLOSES_OUTSIDE.fired"] == TRUE) & (numbers["CLOSES_OUTSIDE.value"] > 0)
        reached = logic["STOP_BREACHED.fired"] == TRUE
        self._stopped_from = int(reached.argmax()) if reached.any() else readings.bars
        self._sold_out = above & ~(numbers["inventory"] > 0)
        self._sold_out[self._stopped_from :] = False
        self._worth = worth
        self._unknown = readings.unknown_triggers
        # A reason is asked for again at every bar until a state ends.
        self._reason = functools.cache(self._deciding)

    def normal(self, bar: int) -> str:
        """The state NORMAL."""
        if bar < self._readings.informed_from:
            return "The grid may go on as far as is known: only its stop and closes outside it count yet."
        return "The grid may go on."

    def before_mandatory(self, bar: int, state: int) -> str:
        """WARNING or LATEST_ACCEPTABLE_EXIT."""
        window, age = self._config.window_minutes, self._readings.numbers["age_minutes"][bar]
        if state == _LATEST:
            act = f"Stop the grid within {_minutes(window.latest_acceptable_exit)}"
        else:
            act = f"Be ready to stop the grid, and look again within {_minutes(window.warning)}"
        if age >= self._config.blindness.warning_minutes:
            old = f"the data are {_minutes(age)} old" if age != math.inf else "no candle is known"
            return f"{act}, or look at the exchange yourself: BLIND, {old}."
        reason = self._reason(bar, _WARNING) or self._not_known(bar)
        said = f"{act}: {reason or 'nothing counts at this bar, but it has not been quiet for long enough'}."
        return f"{said} {self._worth}" if state == _WARNING and self._worth is not None else said

    def mandatory(self, bar: int) -> str:
        """MANDATORY_EXIT, which lasts until the grid is activated anew."""
        grid, entered = self._readings.grid, int(self._since[bar])
        close, held = (self._readings.numbers[name][bar] for name in ("close", "inventory"))
        if bar >= self._stopped_from:
            return self._stopped(held)
        if self._sold_out[bar] or (self._sold_out[entered] and not close <= grid.upper and not held > 0):
            return f"Idle: re-centre; the price closed above {price_text(grid.upper)} and the grid is sold out."
        if self._sold_out[entered]:
            return (
                f"Idle: re-centre; the grid was sold out at {self._closed(entered)}, and would buy again now: "
                "stop it if it still runs."
            )
        act = "Stop the grid now; it holds nothing" if held == 0 else "Stop the grid now and sell the inventory"
        now = self._reason(bar, _MANDATORY)
        if now is not None:
            return f"{act}: {now}."
        at_entry = self._reason(entered, _WARNING)
        return f"{act}: {at_entry} (at {self._closed(entered)}; only a new activation ends this)."

    def _stopped(self, held: float) -> str:
        """What the stop has left, `held` in base currency; NaN: not known."""
        stop, time = self._readings.grid.stop, self._closed(self._stopped_from)
        came = f"the price reached the stop {price_text(stop)} at {time}"
        if held > 0:
            return f"Stop the grid now and sell what is left: {came}, and {number_text(held)} are still held."
        gone = "and all was sold" if held == 0 else "where all is to be sold"
        return f"Make sure on the exchange that the grid has stopped and holds nothing: {came}, {gone}."

    def _deciding(self, bar: int, least: int) -> str | None:
        """The triggers that count at a bar for the highest level, from `least` on; two say enough."""
        highest = self._counted[bar].max()
        if highest < least:
            return None
        deciding = [name for index, name in _BY_WEIGHT if self._counted[bar, index] == highest][:2]
        numbers = self._readings.numbers
        return "; ".join(
            sentence(
                {"name": name, "value": numbers[f"{name}.value"][bar], "threshold": numbers[f"{name}.threshold"][bar]}
            )
            for name in deciding
        )

    def _not_known(self, bar: int) -> str | None:
        """What is not known that asks for a state by itself."""
        if 2 * self._unknown[bar] > len(TRIGGERS):
            return f"{self._unknown[bar]} of {len(TRIGGERS)} triggers cannot be known"
        if self._config.policy == "confirmed" and self._readings.logic["BREAK_LIKELY.fired"][bar] == UNKNOWN:
            return "the probability of a break below the grid cannot be known"
        return None

    def _closed(self, bar: int) -> str:
        return iso(self._readings.grid.first_as_of + bar * BAR)


def _minutes(minutes: float) -> str:
    """So many minutes as one says it."""
    return spoken(timedelta(minutes=minutes))
