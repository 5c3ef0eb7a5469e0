"""For who wants to see a maker at work: `mm makers paper`, on the book that is recorded now. Nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, err, out, project_here
from mm_dagster.cli.books import Market, recorded_market
from mm_dagster.cli.makers import makers_app
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.text import counted, did_you_mean, number_text

if TYPE_CHECKING:
    from mm_dagster.makers.paper import Finished, Live
    from mm_dagster.pipeline.book_places import RecordedMarket
    from mm_dagster.pipeline.paper_maker import PaperBook

LOOK_SECONDS = 2.0
"""Between two looks at the log."""
PARTS = ("spread", "fees", "adverse_selection", "inventory")

Say = Callable[[str], None]


@makers_app.command(
    epilog="Examples: `mm makers paper binance:ETH-USDT --maker naive`, "
    "`mm makers paper ETH-USDT --maker expected_value --for 7200 --json`"
)
def paper(
    market: Market,
    maker: Annotated[str, typer.Option("--maker", metavar="NAME", help="naive, glft or expected_value.")],
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, metavar="SECONDS", help="End by itself after so long.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a maker quote on paper on the book that `mm record` records now, until Ctrl-C.

    It learns from what is recorded, and begins with the next stretch. Quotes, fills and money are those of the study,
    by the same code; each stretch that ended is a line here and a row of `maker_study` named paper. It is no trial, and
    nothing is sent to an exchange.
    """
    # Imported here because they load what is compiled.
    from mm_dagster.makers.quotes import MAKERS
    from mm_dagster.pipeline.paper_maker import Watch

    if maker not in MAKERS:
        raise CommandError(f"--maker {maker}: it is {', '.join(MAKERS)}{did_you_mean(maker, MAKERS)}")
    project = project_here()
    ends = None if seconds is None else time.monotonic() + seconds
    chosen = recorded_market(project, market)
    watch = Watch(project, chosen.exchange, chosen.symbol)
    watch.look(timedelta(0))
    rows: list[dict[str, Any]] = []
    book = _book(chosen, maker)
    try:
        _go_on(book, watch.look, ends, rows, quiet=as_json)
    finally:
        # Whatever ends it, what was finished is told.
        book.close()
        if as_json and rows:
            print_rows(rows, as_json)
        elif rows:
            out.print(_summary(rows, book.maker.broken_off), highlight=False, soft_wrap=True, markup=False)
    if not rows:
        minutes = f"{project.config.makers.stretch_minutes:g} minutes"
        raise CommandError(f"--for {seconds:g}: no stretch of {minutes} began and ended meanwhile; let it run longer")


def _book(chosen: RecordedMarket, maker: str) -> PaperBook:
    """The maker, once it has learned; says from when on it quotes."""
    from mm_dagster.pipeline.paper_maker import PaperBook

    with days_done("learn", unit="segments", transient=True) as progress:
        bar = progress.add_task("", total=None)
        book = PaperBook(
            project_here(), chosen.exchange, chosen.symbol, maker,
            lambda what: progress.update(bar, advance=1, description=what),
        )  # fmt: skip
    for line in book.left_out:
        err.print(f"left out: {line}", highlight=False, soft_wrap=True, markup=False)
    err.print(
        f"{book.market}: {maker} learned from {book.maker.learned} stretches, and quotes from the next one on",
        highlight=False,
        soft_wrap=True,
    )
    return book


def _go_on(
    book: PaperBook, look: Callable[[], None], ends: float | None, rows: list[dict[str, Any]], *, quiet: bool
) -> None:
    """Quotes until its time is over, and adds a row for each stretch that ended."""
    with _live_line() as say:
        while True:
            for one in book.read():
                rows.append(book.keep(one))
                if not quiet:
                    out.print(_line(rows[-1], one), highlight=False, soft_wrap=True, markup=False)
            say(_now(book.maker.live) if book.maker.live else "waits for the next stretch")
            left = LOOK_SECONDS if ends is None else min(LOOK_SECONDS, ends - time.monotonic())
            if left <= 0:
                return
            look()
            time.sleep(left)


@contextmanager
def _live_line() -> Iterator[Say]:
    """A line that is written over on a terminal; elsewhere none."""
    if not err.is_terminal:
        yield lambda line: None
        return
    with err.status("") as status:
        yield lambda line: status.update(line)


def _money(parts: list[float]) -> str:
    """Net, and what it is made of."""
    names = ("spread", "fees", "adverse selection", "inventory")
    told = ", ".join(f"{name} {value:+,.2f}" for name, value in zip(names, parts, strict=True))
    return f"net {sum(parts):+,.2f} = {told}"


def _line(row: dict[str, Any], one: Finished) -> str:
    """A stretch that ended."""
    scale = one.stretch.track.market.scale
    held = number_text(one.made.matched.inventory / 10**scale.amount_decimals, signed=True)
    model = "" if one.model is not None or row["maker"] == "naive" else "; too little was filled to learn from"
    return (
        f"{iso(row['first'])} {counted(one.made.matched.sent, 'quote')}, {counted(row['fills'], 'fill')}, held {held} "
        f"at its end, {_money([row[name] for name in PARTS])}{model}"
    )


def _now(live: Live) -> str:
    """The stretch under way, as if it ended now."""
    market, config = live.stretch.track.market, project_here().config.makers
    bid, ask = (
        "–" if ticks is None else f"{ticks / 10**market.scale.price_decimals:.{market.scale.price_decimals}f}"
        for ticks in live.quotes
    )
    held = number_text(live.matched.inventory / 10**market.scale.amount_decimals, signed=True)
    parts = live.ledger.parts(config.net_fee_bp, config.taker_fee_bp)
    fills = counted(len(live.matched.fills), "fill")
    return f"bid {bid}, ask {ask}, {fills}, holds {held}, {_money([float(parts[name].sum()) for name in PARTS])}"


def _summary(rows: list[dict[str, Any]], broken_off: int) -> str:
    """All stretches together."""
    broken = f"; {broken_off} broken off, and not counted" if broken_off else ""
    return (
        f"{rows[0]['market']}, {rows[0]['maker']} at {rows[0]['fee_bp']:g} bp: {len(rows)} stretches, "
        f"{counted(sum(row['fills'] for row in rows), 'fill')}, "
        f"{_money([sum(row[name] for row in rows) for name in PARTS])}{broken}. Doing nothing makes 0."
    )
