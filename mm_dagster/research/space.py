"""What a search may change: each key of the configuration, between which values, and what must hold among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from mm_dagster.config.whole import Config


class TuningError(Exception):
    """What cannot be searched. One line, with the remedy."""


@dataclass(frozen=True)
class Key:
    """A threshold that is searched.

    Attributes:
        path: file and key, with dots.
        low: least value.
        high: greatest value.
        step: values are low, low + step, ...; whole numbers when all three are.
        at_most: a key, earlier in SPACE, whose value this one must not exceed; it is lowered to it.
    """

    path: str
    low: float
    high: float
    step: float
    at_most: str | None = None

    @property
    def distribution(self) -> BaseDistribution:
        """As optuna has it."""
        if isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int):
            return IntDistribution(self.low, self.high, step=self.step)
        return FloatDistribution(self.low, self.high, step=self.step)

    def nearest(self, value: float) -> float:
        """The nearest value that can be searched."""
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        return _tidy(self.low + steps * self.step)


_BREAK = "exit.thresholds.break_likely"

SPACE = (
    Key(f"{_BREAK}.latest_acceptable_exit_on", 0.40, 0.80, 0.02),
    Key(f"{_BREAK}.latest_acceptable_exit_off", 0.20, 0.70, 0.02, at_most=f"{_BREAK}.latest_acceptable_exit_on"),
    Key(f"{_BREAK}.warning_on", 0.20, 0.60, 0.01, at_most=f"{_BREAK}.latest_acceptable_exit_on"),
    Key(f"{_BREAK}.warning_off", 0.10, 0.50, 0.05, at_most=f"{_BREAK}.warning_on"),
    Key("exit.confirm.mandatory", 0.40, 0.90, 0.01),
    Key("exit.confirm.latest_acceptable_exit", 0.35, 0.80, 0.01, at_most="exit.confirm.mandatory"),
    Key("exit.confirm.warning", 0.15, 0.60, 0.01, at_most="exit.confirm.latest_acceptable_exit"),
    Key("exit.persist.on", 1, 4, 1),
    Key("exit.persist.off_warning", 2, 16, 2),
    Key("exit.persist.off_latest_acceptable_exit", 4, 32, 4),
    Key("exit.thresholds.range_atr", 0.0, 1.5, 0.25),
    Key("exit.thresholds.volatility_expansion", 1.10, 1.60, 0.05),
    Key("exit.thresholds.reversion_lost_factor", 1.5, 4.0, 0.25),
    Key("exit.thresholds.transition_likely", 0.30, 0.70, 0.05),
    Key("exit.thresholds.confidence_fall", 0.05, 0.30, 0.05),
    Key("exit.thresholds.efficiency_rise", 0.05, 0.30, 0.05),
    Key("exit.thresholds.reversion_slowing_factor", 1.1, 2.0, 0.1),
    Key("exit.thresholds.soft_for_warning", 1, 4, 1),
    Key("risk.touch.k_break.h24", 0.60, 0.90, 0.01),
    Key("regime.hysteresis.up", 1, 6, 1),
    Key("regime.hysteresis.down", 2, 12, 2),
    Key("regime.logits.range_midpoint", 0.45, 0.65, 0.05),
    Key("regime.logits.range_trend_from", 0.25, 0.50, 0.05),
    Key("regime.logits.transition_midpoint", 0.32, 0.57, 0.05),
    Key("regime.logits.transition_range_midpoint", 0.40, 0.80, 0.05),
    Key("regime.logits.trend_midpoint", 0.40, 0.70, 0.05),
    Key("regime.logits.trend_4h_midpoint", 0.35, 0.65, 0.05),
    Key("regime.logits.trend_4h_floor", 0.30, 0.60, 0.05),
)
"""Every key that can be searched."""

FILES = ("exit", "risk", "regime")

Values = Mapping[str, float]
"""By the path of a key."""


def keys_of(text: str) -> tuple[Key, ...]:
    """The keys that a comma-separated list names: `all`, a file, the beginning of a path, or a whole path.

    Raises:
        TuningError: a name fits none.
    """
    wanted: list[Key] = []
    for name in (part.strip() for part in text.split(",")):
        found = [key for key in SPACE if name == "all" or key.path == name or key.path.startswith(f"{name}.")]
        if not found:
            raise TuningError(f"--keys: {name!r} fits no key; say all, {', '.join(FILES)}, or like {SPACE[0].path}")
        wanted += found
    return tuple(key for key in SPACE if key in wanted)


def values_of(config: Config, keys: Sequence[Key]) -> dict[str, float]:
    """The values of keys in a configuration."""
    return {key.path: float(_at(config, key.path)) for key in keys}


def _at(config: Config, path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = getattr(found, part)
    return found


def with_values(config: Config, values: Values) -> Config:
    """The configuration with other values of some keys; its own models judge them."""
    parts: dict[str, dict[str, Any]] = {name: getattr(config, name).model_dump() for name in FILES}
    for path, value in values.items():
        *above, last = path.split(".")
        place: dict[str, Any] = reduce(lambda part, name: part[name], above, parts)
        place[last] = type(place[last])(value)
    return config.model_copy(
        update={name: type(getattr(config, name)).model_validate(part) for name, part in parts.items()}
    )


def allowed(values: Values, current: Values) -> dict[str, float]:
    """The values, lowered where a limit is exceeded, and raised where they limit what is not searched.

    Args:
        values: of the keys that are searched.
        current: of all keys.
    """
    found = dict(values)
    limited = [(key.path, key.at_most) for key in SPACE if key.at_most is not None]
    for path, limit in limited:
        if path in values:
            found[path] = min(found[path], found.get(limit, current[limit]))
    for path, limit in limited:
        if limit in values and path not in values:
            found[limit] = max(found[limit], current[path])
    return found


def _tidy(value: float) -> float:
    return round(float(value), 10)
