"""What the user asked for: times, days and markets, read from the command line."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from mm_dagster.bars import FIRST_DAY, Span, floor_bar, iso, midnight
from mm_dagster.cli.app import CommandError, err, project_here
from mm_dagster.config import written
from mm_dagster.text import did_you_mean


def time_of(text: str, option: str) -> datetime:
    """A time as people write it; where it names no zone it is in that of the configuration, which is said."""
    zone = ZoneInfo(project_here().config.alerts.timezone)
    try:
        time = written.moment(text, zone)
        if time != written.moment(text, UTC):
            err.print(f"{option} {text} is read in {zone}: {iso(time)}", soft_wrap=True, highlight=False)
    except ValueError as error:
        raise CommandError(f"{option}: {text!r} {error}") from None
    return time


def _day(text: str, option: str) -> datetime:
    """The UTC midnight of a day."""
    try:
        return midnight(written.moment(text, UTC).date())
    except ValueError as error:
        raise CommandError(f"{option}: {text!r} {error}") from None


def closed(text: str) -> datetime:
    """The quarter hour that `--as-of` names.

    Raises:
        CommandError: no bar of the history has closed by then, or that one has not closed yet.
    """
    time, newest = floor_bar(time_of(text, "--as-of")), floor_bar(project_here().now())
    if not FIRST_DAY < time <= newest:
        raise CommandError(
            f"--as-of {text}: choose a quarter hour after {iso(FIRST_DAY)[:10]} that has closed; the last one is "
            f"{iso(newest)}"
        )
    return time


def moment_of(text: str, option: str) -> datetime:
    """A moment of the past that an option names.

    Raises:
        CommandError: it is no time, or lies outside of the history.
    """
    time, now = time_of(text, option), project_here().now()
    if not FIRST_DAY < time <= now:
        raise CommandError(f"{option} {text}: choose a time after {iso(FIRST_DAY)[:10]} that has passed")
    return time


def whole_days(first: str, last: str | None) -> Span:
    """The whole days from `--from` to `--to`, both included; without the latter to today.

    Raises:
        CommandError: they are not in this order, or not of this history.
    """
    today = midnight(project_here().now().date())
    start = _day(first, "--from")
    end = _day(last, "--to") if last else today
    if not FIRST_DAY <= start <= end <= today:
        given = f"--from {first} --to {last}" if last else f"--from {first}"
        raise CommandError(f"{given}: choose days from {iso(FIRST_DAY)[:10]} to today, the first one first")
    return Span(start, end + timedelta(days=1))


def configured(text: str | None) -> list[str]:
    known = project_here().config.symbols
    wanted = [symbol.strip() for symbol in text.split(",")] if text else known
    for symbol in wanted:
        if symbol not in known:
            raise CommandError(f"--symbols: {symbol!r} is not in markets.yaml{did_you_mean(symbol, known)}")
    return wanted


def command_line() -> str:
    """How a command was asked for, as the ledger of trials keeps it."""
    return shlex.join(["mm", *sys.argv[1:]])[:500]
