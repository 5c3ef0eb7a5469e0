"""For who records order books: how the recorder stands, what lacks, what was recorded, what selling costs now."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster.bars import BAR, Span, ceil_bar, floor_bar, midnight
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import moment_of
from mm_dagster.cli.operate import PANEL
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.text import counted, did_you_mean, local_time, number_text, positive_decimal, spoken

if TYPE_CHECKING:
    from mm_dagster.pipeline.book_places import RecordedMarket
    from mm_dagster.pipeline.project import Project


books_app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Look at what `mm record` records: how it stands, what lacks, what a book costs. No decision reads any of it.",
)
app.add_typer(books_app, name="books", rich_help_panel=PANEL)

Market = Annotated[str, typer.Argument(metavar="MARKET", help="Like kucoin:ETH-USDT; the exchange if it is not clear.")]


@books_app.command(epilog="Examples: `mm books status`, `mm books status --json | jq '.[] | select(.wrong)'`")
def status(as_json: AsJson = False) -> None:
    """Show how the recorder stands, market by market; the exit code is 1 when something is wrong.

    `gaps today` are the places of the finished quarter hours of this UTC day where something may be missing.
    """
    from mm_dagster.pipeline.book_answers import stands
    from mm_dagster.pipeline.recorder_watch import standing

    project = project_here()
    rows, wrong = stands(project), standing(project)
    if as_json:
        print_rows(
            [{**row, "wrong": None} for row in rows]
            + [{"market": None, "wrong": f"{one.name}: {one.line}"} for one in wrong],
            as_json,
        )
    else:
        print_rows([row | {"age_seconds": _age(row["age_seconds"])} for row in rows], as_json)
        if not project.config.books.record:
            out.print("books.yaml: record is false, so nothing is recorded.", highlight=False)
        for one in wrong:
            out.print(f"{one.name}: {one.line}", highlight=False, markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


@books_app.command(
    epilog="Examples: `mm books gaps`, `mm books gaps --since 2026-06-01`, `mm books gaps --market kucoin:ETH-USDT "
    "--json`"
)
def gaps(
    since: Annotated[str | None, typer.Option(help="From then on; default: the last 24 hours.")] = None,
    market: Annotated[str | None, typer.Option(help="Only this one, like kucoin:ETH-USDT.")] = None,
    as_json: AsJson = False,
) -> None:
    """List where something may be missing of what was recorded, and why: of the log, or of the book made of it.

    A quarter hour is told of when it is sealed, some minutes after its end.
    """
    from mm_dagster.pipeline.book_answers import gaps_since, sealed_since
    from mm_dagster.pipeline.book_places import now_here

    project = project_here()
    start = moment_of(since, "--since") if since else now_here() - timedelta(days=1)
    chosen = recorded_market(project, market) if market else None
    rows, sealed = gaps_since(project, start, chosen), sealed_since(project, start, chosen)
    zone = project.config.alerts.timezone
    if not rows and not sealed:
        raise CommandError(
            f"nothing that was recorded since {local_time(start, zone)} is sealed, so nothing is known of gaps; "
            "`mm books seal` seals what is finished, an earlier --since looks farther back"
        )
    if as_json:
        print_rows(rows, as_json)
        return
    shown = [
        {
            "market": row["market"],
            "from": local_time(row["from_time"], zone),
            "lasts": "open" if row["to_time"] is None else _lasts(row["to_time"] - row["from_time"]),
            "of": row["part"],
            "kind": row["kind"],
            "lost": row["messages"],
            "said": row["said"],
        }
        for row in rows
    ]
    print_rows(shown, as_json)
    if not rows:
        said = f"no gap since {local_time(start, zone)} in {counted(sealed, 'quarter hour')} that are sealed"
        err.print(said, highlight=False)


def _age(seconds: float | None) -> str | None:
    return None if seconds is None else _lasts(timedelta(seconds=seconds))


def _lasts(length: timedelta) -> str:
    return f"{length / timedelta(seconds=1):.1f} s" if length < timedelta(minutes=2) else spoken(length)


@books_app.command(epilog="Examples: `mm books seal`, `mm books seal --json`, `mm books seal --all`")
def seal(
    everything: Annotated[
        bool, typer.Option("--all", help="Look at the bytes of every segment, too, and at the features of all days.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Seal and measure now what is finished: what the job `books` does after each quarter hour.

    Ctrl-C keeps what is done; the next run takes up the rest.
    """
    from mm_dagster.pipeline.book_answers import everything_recorded
    from mm_dagster.pipeline.book_features import keep_features
    from mm_dagster.pipeline.book_places import now_here
    from mm_dagster.pipeline.book_profile import keep_profiles
    from mm_dagster.pipeline.segments import keep_segments

    project = project_here()
    _refuse_nothing(project)
    now = now_here()
    window = everything_recorded(project) if everything else None
    window = window or Span(midnight(now.date()), ceil_bar(now))
    with days_done("seal", unit="quarter hours", transient=True) as bar:
        task = bar.add_task("")

        def say(market: str, done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, description=market)

        kept = keep_segments(project, "mm books seal", say=say, looks_at_all=everything)
        measured = keep_features(project, "mm books seal", window, say=say)
        keep_profiles(project, "mm books seal", window)
    problems = [
        *kept.problems.values(),
        *kept.changed,
        *(f"{name}: {said}" for name, said in measured.problems.items()),
    ]
    row = {"sealed": kept.sealed, "replayed": kept.replayed, "measured": measured.rows, "problems": problems}
    if as_json:
        print_rows([row], as_json)
    else:
        out.print(
            f"{counted(kept.sealed, 'quarter hour')} sealed, {kept.replayed} replayed, {measured.rows} measured",
            highlight=False,
        )
        for said in problems:
            err.print(said, highlight=False, markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


@books_app.command(
    epilog="Examples: `mm books replay kucoin:ETH-USDT 2026-06-28`, `mm books replay ETH-USDT 2026-06-28T14:15Z`, "
    "`mm books replay ETH-USDT 2026-06-28T14:00Z 2026-06-28T16:00Z --json`"
)
def replay(
    market: Market,
    since: Annotated[str, typer.Argument(metavar="FROM", help="A time, or a day.")],
    until: Annotated[str | None, typer.Argument(metavar="[TO]", help="Default: a quarter hour, or the day.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay what was recorded: is each book that of then, byte for byte, was it crossed, did the quotes agree?

    `states` are what the recorder knew at the heads of its files; a replay has to come out at each of them. The exit
    code is 1 where one did not, or a file cannot be replayed.
    """
    from mm_dagster.pipeline.book_answers import replays

    project = project_here()
    chosen = recorded_market(project, market)
    start = moment_of(since, "FROM")
    is_day = "T" not in since and ":" not in since
    end = moment_of(until, "TO") if until else start + (timedelta(days=1) if is_day else BAR)
    if end <= start:
        raise CommandError(f"FROM {since} TO {until}: choose two times, the earlier one first")
    rows = []
    with days_done("replay", unit="quarter hours", transient=True) as bar:
        task = bar.add_task("", total=None)
        for row, of in replays(chosen, Span(floor_bar(start), ceil_bar(end))):
            rows.append(row)
            bar.update(task, advance=1, total=of)
    if not rows:
        raise CommandError(
            f"{chosen.name}: no segment of it between {since} and {until or 'its end'}; `mm books seal` seals what is "
            "finished"
        )
    print_rows(rows if as_json else [_brief(row) for row in rows], as_json)
    wrong = [row for row in rows if row["refused"] or row["differing"]]
    if not as_json:
        for row in wrong:
            said = row["refused"] or f"{row['differing']} of {row['states']} states of the recorder did not come out"
            err.print(f"{row['as_of']:%Y-%m-%d %H:%M}Z: {said}", highlight=False, markup=False, soft_wrap=True)
        if not wrong:
            states = sum(row["states"] for row in rows)
            out.print(
                f"{counted(states, 'state')} of the recorder came out of the replay, byte for byte", highlight=False
            )
    if wrong:
        raise typer.Exit(1)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """A replayed quarter hour as a line has room for it."""
    if row["refused"]:
        names = ("messages", "changes", "trades", "gaps", "states", "crossed", "quotes", "at_the_end")
        return {"until": f"{row['as_of']:%m-%d %H:%M}Z", **dict.fromkeys(names)}
    return {
        "until": f"{row['as_of']:%m-%d %H:%M}Z",
        **{name: row[name] for name in ("messages", "changes", "trades", "gaps")},
        "states": f"{row['states'] - row['differing']} of {row['states']}",
        "crossed": row["crossed"],
        "quotes": f"{row['quotes'] - row['quotes_differing']} of {row['quotes']}",
        "at_the_end": "in sync" if row["in_sync_at_end"] else "no book",
    }


@books_app.command(epilog="Examples: `mm books cost kucoin:ETH-USDT 2.5`, `mm books cost ETH-USDT 40 --json`")
def cost(
    market: Market,
    amount: Annotated[str, typer.Argument(help="To be sold, base currency, like 2.5.")],
    as_json: AsJson = False,
) -> None:
    """Say what selling so much at once costs now, and at each hour usually, before fees.

    Now is the recorder's book of this moment. The usual figure is an upper bound: what the thinnest second of a quarter
    hour has within 10, 25 and 50 basis points is taken to stand at their ends; beyond 50 nothing is said.
    """
    from mm_dagster.pipeline.book_answers import cost_now, usual_costs

    project = project_here()
    chosen = recorded_market(project, market)
    found = positive_decimal(amount)
    if found is None:
        raise CommandError(f"AMOUNT: {amount!r} is no amount above 0; write it with a point, like 2.5")
    now = cost_now(project, chosen, float(found))
    usual = usual_costs(project, chosen, float(found), now["mid"])
    if as_json:
        print_rows([now, *usual], as_json)
        return
    base, _, quote = chosen.symbol.partition("-")
    if now["cost_bp"] is None:
        out.print(f"The book shows buyers for {now['shown_share']:.0%} of {amount} {base}; the rest is not known.")
    else:
        lost = now["cost_bp"] / 10_000 * now["mid"] * float(found)
        out.print(
            f"Selling {amount} {base} now costs {number_text(now['cost_bp'], 3)} bp of the mid before fees, "
            f"{number_text(lost, 3)} {quote}; the last of it goes at {number_text(now['worst'], 10)}.",
            highlight=False,
        )
    if usual:
        print_rows(
            [{"hour UTC": f"{row['hour']:02d}", "at most bp": row["cost_bp"], "days": row["days"]} for row in usual],
            as_json,
        )
    else:
        err.print("what it usually costs is known after some days of recording", highlight=False)


@books_app.command(epilog="Examples: `mm books profile kucoin:ETH-USDT`, `mm books profile ETH-USDT --json`")
def profile(market: Market, as_json: AsJson = False) -> None:
    """Show what the book is like at each hour of the day: median spread and depth, and what one of ten has less of."""
    from mm_dagster.pipeline.book_answers import profile_of
    from mm_dagster.pipeline.book_places import now_here

    project = project_here()
    chosen = recorded_market(project, market)
    rows = profile_of(project, chosen)
    if not rows:
        raise CommandError(f"{chosen.name}: there is no profile yet; the job `books` makes it from whole days")
    names = ("hour", "days", "spread_bp", "spread_bp_90", "bid_depth_10bp", "bid_depth_10bp_low", "bid_depth_50bp",
             "bid_depth_50bp_low", "recovery_ms")  # fmt: skip
    hour = now_here().hour
    shown = (
        rows
        if as_json
        else [{name: row[name] for name in names} | {"": "now" if row["hour"] == hour else ""} for row in rows]
    )
    print_rows(shown, as_json)


@books_app.command(
    "import",
    epilog="Examples: `mm books import --market binance:ETH-USDT book.csv.gz trades.csv.gz`, "
    "`mm books import --market kraken:BTC-USD --depth 100 book.csv trades.csv`",
)
def take_in(
    book: Annotated[Path, typer.Argument(help="`incremental_book_L2` of Tardis, packed or not.")],
    trades: Annotated[Path, typer.Argument(help="`trades` of the same market and time.")],
    market: Annotated[str, typer.Option(help="Whose they are, like binance:ETH-USDT.")],
    depth: Annotated[int, typer.Option(min=1, help="Levels of a side at which the venue cuts a snapshot.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Take in bought history: the features of each quarter hour of two files of Tardis.

    What was recorded stays: a quarter hour that has a segment is left out. Ctrl-C keeps what is made.
    """
    from mm_dagster.config.books import EXCHANGES
    from mm_dagster.pipeline.book_import import import_files

    project = project_here()
    exchange, _, symbol = market.partition(":")
    if exchange not in EXCHANGES or not symbol:
        known = ", ".join(EXCHANGES)
        raise CommandError(f"--market {market}: write it like binance:ETH-USDT, with an exchange of {known}")
    for path in (book, trades):
        if not path.is_file():
            raise CommandError(f"{path}: there is no such file")
    with days_done("import", unit="quarter hours", transient=True) as bar:
        task = bar.add_task("", total=None)
        made, left_out = import_files(
            project, exchange, symbol.upper(), book, trades, depth,
            say=lambda as_of: bar.update(task, advance=1, description=f"{as_of:%Y-%m-%d %H:%M}Z"),
        )  # fmt: skip
    if as_json:
        print_rows([{"market": f"{exchange}:{symbol.upper()}", "rows": made, "left_out": left_out}], as_json)
        return
    recorded = f"; {counted(left_out, 'quarter hour')} were recorded and stay" if left_out else ""
    out.print(f"{counted(made, 'quarter hour')} of {exchange}:{symbol.upper()} taken in{recorded}", highlight=False)


def _refuse_nothing(project: Project) -> None:
    """
    Raises:
        CommandError: there is nothing that could be looked at.
    """
    from mm_dagster.pipeline.book_answers import known_markets

    if not known_markets(project):
        raise CommandError("no market was ever recorded; name some in books.yaml and start `mm record`")


def recorded_market(project: Project, text: str) -> RecordedMarket:
    """The market that is meant: by its exchange and symbol, or by its symbol where only one exchange has it.

    Raises:
        CommandError: there is none, or there are more.
    """
    from mm_dagster.pipeline.book_answers import known_markets

    _refuse_nothing(project)
    known = {one.name: one for one in known_markets(project)}
    wanted = text.strip()
    exchange, colon, symbol = wanted.partition(":")
    name = f"{exchange.lower()}:{symbol.upper()}" if colon else ""
    if name in known:
        return known[name]
    same = [one for one in known.values() if one.symbol == wanted.upper()]
    if len(same) == 1:
        return same[0]
    if same:
        raise CommandError(
            f"{text}: it is recorded at more than one exchange; say {' or '.join(one.name for one in same)}"
        )
    raise CommandError(f"{text}: it was never recorded{did_you_mean(wanted, list(known))}")
