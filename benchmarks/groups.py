"""Which columns are computed together, and timed together, by whoever computes them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.float64]
Seconds = dict[str, float]

PRICES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Group:
    """Columns that are computed together, and timed together.

    Attributes:
        name: as the table shows it.
        kind: which indicator, the same for bars of any length.
        step: base bars in a bar.
        bars: how many bars the first value needs.
        columns: of `regime_features`.
    """

    name: str
    kind: str
    step: int
    bars: int
    columns: tuple[str, ...]


def _groups() -> tuple[Group, ...]:
    hourly: dict[str, tuple[int, tuple[str, ...]]] = {
        "Bollinger": (20, ("bollinger_width", "bollinger_percent_b")),
        "width percentile": (188, ("bollinger_width_percentile",)),
        "Donchian": (97, ("range_high", "range_low", "inside_range")),
        "ATR": (15, ("atr",)),
        "ATR expansion": (169, ("atr_expansion",)),
        "OU fit": (193, ("ou_phi", "ou_mu", "ou_sigma", "ou_tau", "half_life", "ou_z")),
        "half-life baseline": (1104, ("half_life_baseline",)),
        "efficiency ratio": (41, ("efficiency_ratio",)),
        "swings": (196, ("swing_high", "swing_low")),
        "EMAs": (60, ("ema_12", "ema_26", "ema_50")),
        "ADX": (280, ("adx",)),
        "variance ratio 4": (385, ("variance_ratio_4", "variance_ratio_4_z")),
        "variance ratio 16": (385, ("variance_ratio_16", "variance_ratio_16_z")),
        "range volatilities": (96, ("parkinson", "garman_klass", "rogers_satchell")),
        "jump share": (98, ("jump_share",)),
        "volume ratio": (168, ("volume_ratio",)),
    }
    four_hourly: dict[str, tuple[int, tuple[str, ...]]] = {
        "ATR": (15, ("atr_4h",)),
        "efficiency ratio": (41, ("efficiency_ratio_4h",)),
        "swings": (196, ("swing_high_4h", "swing_low_4h")),
        "EMAs": (60, ("ema_12_4h", "ema_26_4h", "ema_50_4h")),
        "ADX": (280, ("adx_4h",)),
        "variance ratio 4 of 144": (145, ("variance_ratio_4_4h", "variance_ratio_4_z_4h")),
    }
    base: dict[str, tuple[int, tuple[str, ...]]] = {
        "ticker": (1, ("close", "change_24h", "volume_24h")),
        "close outside": (97, ("closes_outside_15m",)),
        "ATR expansion": (169, ("atr_expansion_15m",)),
        "volatilities": (5, ("volatility_4_15m", "volatility_96_15m")),
        "volatility forecast": (4033, ("volatility_forecast",)),
    }
    return (
        *(Group(kind, kind, 4, *rest) for kind, rest in hourly.items()),
        *(Group(f"{kind.removesuffix(' of 144')}, 4h", kind, 16, *rest) for kind, rest in four_hourly.items()),
        *(Group(f"{kind}, 15m", kind, 1, *rest) for kind, rest in base.items()),
    )


GROUPS = _groups()
COLUMNS = tuple(name for group in GROUPS for name in group.columns)
FRAMING = "bars and rows"
"""What is left of a run: making rolling bars, and putting the values of all series into rows."""


class Stopwatch:
    """Adds up the processor's seconds that each group costs, and what lies between them.

    On a machine that others use too, these say more than the clock on the wall.
    """

    def __init__(self) -> None:
        self.seconds: Seconds = defaultdict(float)
        self._since = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name] += now - self._since
        self._since = now
