"""For who has an idea of how to quote: what it would have made of a recorded book, beside controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import command_line
from mm_dagster.cli.figures import figures_table
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_dagster.config.makers import MakersConfig
    from mm_dagster.pipeline.makers import Done, Source

PANEL = "Ask"

makers_app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Studies of makers on recorded books, yours too: what would quotes have made? Nothing quotes by them.",
)
app.add_typer(makers_app, name="makers", rich_help_panel=PANEL)


@makers_app.command(
    epilog="Examples: `mm makers study`, `mm makers study --market binance:ETH-USDT`, "
    "`mm makers study --samples recordings/l2 --stretch 0.5 --json`, "
    "`mm makers study --quotes my_quotes.py:mine --fee 2`"
)
def study(
    market: Annotated[
        str | None, typer.Option(metavar="EXCHANGE:MARKET", help="Only this one; default: all of books.yaml.")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Books at FOLDER/…/{depth,trades}.parquet instead.")
    ] = None,
    quotes: Annotated[
        str | None, typer.Option(metavar="PATH:FUNCTION", help="Quotes of your own, beside the others.")
    ] = None,
    fee: Annotated[float | None, typer.Option(help="Fee less rebate in bp; default: of makers.yaml.")] = None,
    stretch: Annotated[float | None, typer.Option(help="Minutes of a stretch; default: of makers.yaml.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the study; default: recorded, or the folder's.")] = None,
    pictures: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write two pictures a market there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let makers quote on recorded books: naive, GLFT, and where a quote is worth something; or your own function.

    What is fitted on earlier stretches quotes on the next one. Orders wait behind all that is shown, take their time,
    and pay the fees of makers.yaml. Beside each stand the same quotes at other times, with their sides exchanged, and
    doing nothing, which makes 0. Every maker is written into the ledger of trials before a figure is shown. Nothing
    quotes by it.
    """
    # Imported here because they load what is compiled.
    from mm_dagster.makers.study import MakersError
    from mm_dagster.pipeline.foreign import named
    from mm_dagster.pipeline.makers import run_study

    own = named(quotes, "--quotes") if quotes else None
    config = _settings(fee, stretch)
    done: list[Done] = []
    with days_done("study", unit="steps", transient=True) as progress:
        bar = progress.add_task("", total=None)

        def say(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        for source in _sources(market, samples, name, say):
            try:
                done.append(run_study(project_here(), source, own, command_line(), config, say))
            except MakersError as error:
                raise CommandError(f"{source.market}: {error}") from None
            for line in source.left_out:
                err.print(f"left out: {line}", highlight=False, soft_wrap=True)
    if pictures is not None:
        _draw(done, pictures)
    if as_json:
        print_rows([row for one in done for row in one.rows], as_json)
        return
    for one in done:
        print_market(f"{one.source.study}, {one.source.market}", one.rows)
    err.print("What the columns mean, and how to bring your own quotes: docs/makers.md", highlight=False)


@makers_app.command(epilog="Examples: `mm makers report`, `mm makers report --study recorded --json`")
def report(
    study_name: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Only this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """What the last study of each name and market said. Nothing is computed."""
    from mm_dagster.pipeline.makers import newest_study

    rows = newest_study(project_here(), study_name)
    if rows.is_empty():
        raise CommandError("no study was made yet" if study_name is None else f"--study {study_name}: there is none")
    if as_json:
        print_rows(rows.to_dicts(), as_json)
        return
    for (name, market), mine in rows.group_by("study", "market", maintain_order=True):
        print_market(f"{name}, {market}", mine.to_dicts())


def _settings(fee: float | None, stretch: float | None) -> MakersConfig:
    from pydantic import ValidationError

    from mm_dagster.config.makers import MakersConfig

    config = project_here().config.makers
    given = {"fee_bp": (fee, "--fee"), "stretch_minutes": (stretch, "--stretch")}
    changed = {key: value for key, (value, _) in given.items() if value is not None}
    try:
        return MakersConfig(**config.model_dump() | changed | ({"rebate_bp": 0.0} if fee is not None else {}))
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        value, option = given.get(key, (None, key))
        raise CommandError(f"{option} {value}: {error.errors()[0]['msg']}") from None


def _sources(
    market: str | None, samples: Path | None, name: str | None, say: Callable[[str], None]
) -> Iterator[Source]:
    from dataclasses import replace

    from mm_dagster.pipeline import makers

    if samples is not None:
        if not samples.is_dir():
            raise CommandError(f"--samples {samples}: there is no such folder")
        found = [
            one for one in makers.sampled(samples, name, say) if market is None or one.market == market
        ]  # fmt: skip
        if not found:
            raise CommandError(f"--market {market}: it is not in {samples}")
        yield from found
        return
    project = project_here()
    known = [f"{exchange}:{symbol}" for exchange, symbol in project.config.books.recorded]
    if not known:
        raise CommandError("no market stands in books.yaml; write its feeds, or give --samples FOLDER")
    if market is not None and market not in known:
        raise CommandError(f"--market {market}: it is not in books.yaml{did_you_mean(market, known)}")
    for one in [market] if market else known:
        exchange, _, symbol = one.partition(":")
        source = makers.recorded(project, exchange, symbol, say)
        yield replace(source, study=name) if name else source


def _draw(done: Sequence[Done], folder: Path) -> None:
    from mm_dagster.pictures.makers import calibration_picture, parts_picture

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in done:
            stem = one.source.market.replace(":", "-")
            (folder / f"{stem}-pnl.png").write_bytes(parts_picture(one.source.market, one.rows))
            (folder / f"{stem}-fills.png").write_bytes(calibration_picture(one.source.market, one.study.calibration))
    except OSError as error:
        raise CommandError(f"--pictures {folder}: {error.strerror or error}") from None


def print_market(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A maker and fee a line, quote currency, and below why nobody passes."""
    table = figures_table(
        f"{title}, {rows[0]['stretches']} stretches: quote currency",
        *("maker", "fee bp", "quoting", "fills", "net", "spread", "fees", "adverse", "inventory", "mark-out 5 s bp"),
        *("shifted", "swapped"),
    )  # fmt: skip
    table.columns[0].justify = "left"
    for row in sorted(rows, key=lambda row: (row["maker"], row["fee_bp"])):
        parts = [f"{row[key]:+,.2f}" for key in ("net", "spread", "fees", "adverse_selection", "inventory")]
        mark = "–" if row["markout_5s_bp"] is None else f"{row['markout_5s_bp']:+.2f}"
        controls = ["–" if row[key] is None else f"{row[key]:+,.2f}" for key in ("shifted", "swapped")]
        share = "–" if row["quoting_share"] is None else f"{100 * row['quoting_share']:.0f} %"
        table.add_row(row["maker"], f"{row['fee_bp']:g}", share, f"{row['fills']}", *parts, mark, *controls)
    out.print(table)
    for row in rows:
        if row["passes"] is not None or (row["reason"] and "at this fee" not in row["reason"]):
            said = "passes the gate; nothing is switched on" if row["passes"] else f"does not pass: {row['reason']}"
            out.print(
                f"- {row['maker']} at {row['fee_bp']:g} bp {said}.", highlight=False, soft_wrap=True, markup=False
            )
