"""The colours of verdicts, states and themes: the same in pictures, on pages and in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mm_dagster.tables.words import STATES, VERDICTS

Theme = Literal["light", "dark"]

# Calm to danger. Any two stay apart under each kind of colour blindness (test_charts.py); height or words say it too.
_RAMP = ("#2e86c1", "#f0c419", "#e2711d", "#b81442")

VERDICT_COLOURS = dict(zip(VERDICTS, _RAMP, strict=True))

STATE_COLOURS = dict(zip(STATES, _RAMP, strict=True))

STATE_NAMES = dict(zip(STATES, ("normal", "warning", "latest exit", "mandatory"), strict=True))


@dataclass(frozen=True)
class Palette:
    """Colours of one theme: background, text and price, what stands back, the grid, the stop, three curves."""

    paper: str
    ink: str
    faint: str
    rule: str
    grid: str
    alarm: str
    realised: str
    unrealised: str


PALETTES: dict[Theme, Palette] = {
    "light": Palette("#ffffff", "#1d2739", "#5d687c", "#dfe3ea", "#3b5bdb", "#b81442", "#1b7f79", "#a85a00"),
    "dark": Palette("#12161f", "#e8ecf4", "#9aa6ba", "#2b3342", "#7c96ff", "#ff6b8b", "#4ecdc4", "#ffb454"),
}


def luminance(colour: str) -> float:
    """Relative luminance of a colour, 0 to 1 (WCAG 2.2)."""
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour))
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _rgb(colour: str) -> tuple[float, ...]:
    """Red, green and blue of #rrggbb, 0 to 1 each."""
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def on_colour(background: str) -> str:
    """Black or white, whichever has the higher contrast on a colour."""
    return "#000000" if luminance(background) > 0.179 else "#ffffff"
