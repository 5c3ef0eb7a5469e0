"""The recorder of order books as a command: `mm record`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.operate import PANEL
from mm_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_dagster.recorder.status import Status

LINE_SECONDS = 60.0
"""Between two lines about how it stands."""


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm record`, `mm record --for 3600` ends by itself after an hour",
)
def record(
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, metavar="SECONDS", help="End by itself after so long.")
    ] = None,
) -> None:
    """Record the order books of books.yaml, until Ctrl-C or SIGTERM: each message as it was received.

    It runs beside everything else, and nothing that decides waits for it. What was received before a kill stays; how it
    stands is in books/status.json of the data folder, written each second, and a line here each minute.
    """
    import asyncio

    from mm_dagster.recorder.places import root_of
    from mm_dagster.recorder.service import Service

    project = project_here()
    config = project.config.books
    if not config.record:
        raise CommandError("books.yaml: record is false, so nothing is recorded; write `record: true` and the feeds")
    service = Service(config, root_of(project.data))
    if asyncio.run(_until_told(service.run, seconds, Lines())):
        raise KeyboardInterrupt


async def _until_told(run: Callable, seconds: float | None, say: Callable[[Status], None]) -> bool:
    """Runs it until a signal or its time; whether it was Ctrl-C."""
    import asyncio
    import signal

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    heard: list[int] = []

    def told(number: int) -> None:
        heard.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told, number)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    await run(stop, say)
    return signal.SIGINT in heard


class Lines:
    """A line a minute about how it stands, and at once what somebody should see to."""

    def __init__(self) -> None:
        self._said_at = float("-inf")
        self._problems: dict[tuple[str, str], str] = {}

    def __call__(self, status: Status) -> None:
        for market in status.markets:
            key = market.exchange, market.symbol
            before = self._problems.get(key)
            if market.problem and market.problem != before:
                _print(f"{market.exchange} {market.symbol}: {market.problem}")
            elif before and not market.problem:
                _print(f"{market.exchange} {market.symbol}: goes on")
            self._problems[key] = market.problem or ""
        if time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            _print(sentence(status))


def sentence(status: Status) -> str:
    """How the recorder stands, in one line."""
    in_sync = sum(market.phase == "IN_SYNC" for market in status.markets)
    parts = [
        f"{in_sync} of {counted(len(status.markets), 'book')} in sync",
        f"{sum(market.per_second for market in status.markets):,.0f} messages/s",
        f"{sum(market.written for market in status.markets):,} kept",
        f"{sum(market.lost for market in status.markets):,} lost",
        counted(sum(market.gaps for market in status.markets), "gap"),
    ]
    if status.free_bytes is not None:
        parts.append(f"{status.free_bytes / 1024**3:,.1f} GiB free")
    return ", ".join(parts)


def _print(line: str) -> None:
    err.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True, highlight=False, markup=False)
