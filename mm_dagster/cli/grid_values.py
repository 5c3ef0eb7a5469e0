"""The values of a grid on the command line: how each is asked for, read, and named as an option."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from mm_dagster.cli.app import CommandError, project_here
from mm_dagster.cli.arguments import time_of
from mm_dagster.config import written
from mm_dagster.text import did_you_mean


def number_of(text: str, what: str) -> float:
    """A price or an amount as a person gives it on the command line.

    Raises:
        CommandError: it is none, or may be meant in thousands.
    """
    plain = text.strip()
    value = _float_of(plain)
    if value is None:
        raise CommandError(f"{what}: {text!r:.60} is no number; {written.plain_number(plain)}")
    if written.is_ambiguous(plain):
        raise CommandError(f"{what}: {text} may be meant in thousands; write {plain}0 or {plain.replace('.', '')}")
    if not SMALLEST <= value <= LARGEST:
        wrong = "is not above 0" if value < SMALLEST else "is more than there is"
        raise CommandError(f"{what}: {text:.60} {wrong}; write a number like 3070.5")
    return value


SMALLEST, LARGEST = 1e-15, 1e15
"""Of a price or an amount: no exchange has one beyond."""


def _float_of(text: str) -> float | None:
    """A number in plain digits; None: it is none, whatever Python takes for one: 1_5, nan, digits of other scripts."""
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        return None
    return float(text)


def _symbol_of(text: str, what: str) -> str:
    try:
        return written.symbol(text.strip())
    except ValueError as error:
        raise CommandError(f"{what}: {text!r:.60} {error}") from None


def _levels_of(text: str, what: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or not 2 <= int(text) <= 1000:
        raise CommandError(
            f"{what}: {text!r:.60} is no number of levels; write one from 2 to 1000, as the exchange shows it"
        )
    return int(text)


def _word_of(text: str, what: str, known: tuple[str, ...]) -> str:
    word = text.strip().lower()
    found = [one for one in known if word and one.startswith(word)]
    if len(found) != 1:
        raise CommandError(f"{what}: {text!r} is neither {' nor '.join(known)}{did_you_mean(text, known)}")
    return found[0]


def _fee_of(text: str, what: str) -> float:
    """A fee as a fraction, of `0.1 %` or `0.001`."""
    plain = text.strip()
    value = _float_of(plain.removesuffix("%").rstrip())
    if value is None:
        raise CommandError(f"{what}: {text!r:.60} is no fee; write 0.1% or 0.001")
    fraction = float(f"{value / 100:.12g}") if plain.endswith("%") else value
    if not 0 <= fraction < 0.02:
        raise CommandError(f"{what}: {text} would be {100 * fraction:g} %; write 0.1% or 0.001")
    return fraction


def id_of(text: str) -> str:
    if not re.fullmatch(written.NAME, text):
        raise CommandError(f"--id: {text!r:.60} is no name; write letters, digits, - and _ alone, like eth-1")
    return text


def moment_or_now(text: str, what: str) -> datetime:
    if text.strip().lower() == "now":
        now: datetime = project_here().now().replace(microsecond=0)
        return now
    return time_of(text, what)


@dataclass(frozen=True)
class Question:
    """One value of a grid: how it is asked, read and named.

    Attributes:
        name: as `pasted.Found` names it.
        flag: of the command line.
        help: what the flag is.
        asks: the question.
        read: a text as the value; raises CommandError.
        usual: what is taken where nothing is said; None: it must be said.
    """

    name: str
    flag: str
    help: str
    asks: str
    read: Callable[[str, str], Any]
    usual: str | None = None


QUESTIONS = (
    Question(
        "symbol", "--symbol", "Trading pair, like ETH-USDT.", "Trading pair, like ETH-USDT", _symbol_of
    ),
    Question("lower", "--lower", "Lower price, quote currency.", "Lower price of the range", number_of),
    Question("upper", "--upper", "Upper price, quote currency.", "Upper price of the range", number_of),
    Question(
        "levels", "--levels", "Number of grids, as the exchange shows it.",
        "Number of grids, as the exchange shows it (often 5 to 50)", _levels_of,
    ),
    Question(
        "convention", "--convention", "What that counts: intervals or levels; usual: intervals.",
        "Does it count intervals (KuCoin, OKX, Bybit do) or levels, which are prices",
        lambda text, what: _word_of(text, what, ("intervals", "levels")), "intervals",
    ),
    Question(
        "spacing", "--spacing", "arithmetic or geometric; usual: arithmetic.",
        "Arithmetic (equal differences) or geometric (equal ratios)",
        lambda text, what: _word_of(text, what, ("arithmetic", "geometric")), "arithmetic",
    ),
    Question(
        "stop", "--stop", "Stop price, below the lower one.",
        "Stop price, below the lower one (often 2 to 5 % below it)", number_of,
    ),
    Question("capital", "--capital", "Investment, quote currency.", "Investment, in the quote currency", number_of),
    Question(
        "activated_at", "--activated", "When it began, like 2026-01-10T01:00+01:00, or now (usual for a change).",
        "When it was created, like 2026-01-10 01:00, or now", moment_or_now,
    ),
    Question("fee", "--fee", "Fee of a trade, like 0.1% or 0.001; usual: 0.1%.", "Fee of a trade", _fee_of, "0.1%"),
)  # fmt: skip

VenueName = Annotated[
    str | None,
    typer.Option("--venue", help="Venue of a new market: its name in markets.yaml, or ccxt's of an exchange."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing; what is missing is named and nothing is written.")]
NoFetch = Annotated[bool, typer.Option("--no-fetch", help="Only write it; the next tick fetches and judges.")]


def takes_values(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for each value of a grid. What is given reaches it, read, as its argument `values`."""
    signature = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(one.flag, help=one.help)],
        )
        for one in QUESTIONS
    ]
    asked: list[inspect.Parameter] = []
    for own in signature.parameters.values():
        asked += options if own.name == "values" else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

    @functools.wraps(command)
    def called(**arguments: Any) -> None:
        texts = {one: arguments.pop(one.name) for one in QUESTIONS}
        values = {one.name: one.read(text, one.flag) for one, text in texts.items() if text is not None}
        command(**arguments, values=values)

    # What the command line is made of.
    called.__signature__ = signature.replace(parameters=asked)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in asked}
    return called
