"""From a bot's page to a watched grid without an editor: `mm grid add | list | edit | stop | start | remove`.

It shows, asks whether it is right, and prints; where values come from stands in grid_sources.py, what is done in
pipeline/grids.py.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mm_dagster.bars import iso
from mm_dagster.cli.app import NOTHING_WRITTEN, CommandError, app, chosen, err, out, project_here
from mm_dagster.cli.grid_sources import Draft, complete, pasted, say, say_what_was_read, told
from mm_dagster.cli.grid_values import NoFetch, VenueName, Yes, id_of, moment_or_now, takes_values
from mm_dagster.cli.grid_venues import chosen_venue, refuse_unreadable, say_what_cannot_be_read, venue_of
from mm_dagster.cli.loading import candles_shown
from mm_dagster.cli.operate import PANEL, only
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.errors import ForeseenError
from mm_dagster.text import in_local_time, plain_text

if TYPE_CHECKING:
    from mm_dagster.config.grid import GridConfig
    from mm_dagster.pipeline.grids import Written

grid_app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Add, list, edit, stop, start and remove grids, without an editor. Comments in the files stay.",
)
app.add_typer(grid_app, name="grid", rich_help_panel=PANEL)


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


# add ------------------------------------------------------------------------------------------------------------------


@grid_app.command(
    epilog="Examples: `mm grid add`, `mm grid add --paste page.txt`, "
    "`pbpaste | mm grid add --paste - --yes --symbol ETH-USDT`, `mm grid add --symbol ETH-USDT --lower 3070 "
    "--upper 3185 --levels 6 --stop 2990 --capital 769.02 --activated 2026-01-10T00:00Z --yes --json`, "
    "`mm grid add --from okx`, `mm grid add --from bybit 612340768081708828`"
)
@takes_values
def add(
    paste: Annotated[
        str | None, typer.Option("--paste", metavar="FILE", help="Text of the bot's page, in a file or `-`: stdin.")
    ] = None,
    from_venue: Annotated[
        str | None,
        typer.Option("--from", metavar="VENUE", help="Ask OKX, Bitget or Bybit, with a read-only key."),
    ] = None,
    number: Annotated[
        str | None, typer.Argument(metavar="[NUMBER]", help="Of --from: the bot's number, as its page shows it.")
    ] = None,
    bot: Annotated[str | None, typer.Option("--bot", metavar="NUMBER", help="The same as NUMBER.")] = None,
    values: Any = None,
    grid_id: Annotated[str | None, typer.Option("--id", help="A name of your own; default: like eth-1.")] = None,
    venue: VenueName = None,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="It does not run yet: say when it may start, send no exit alert.")
    ] = False,
    yes: Yes = False,
    no_fetch: NoFetch = False,
    as_json: AsJson = False,
) -> None:
    """Add a grid: from the text of its page or its exchange, from flags, and from answers to what these leave open.

    Flags win over the text. What the text leaves in doubt is shown and asked. The grid is shown with its ladder before
    anything is written; an invalid one is refused and leaves all files as they are. Then the candles of its market are
    fetched, and it is judged since its activation.
    """
    from mm_dagster.pipeline import grids

    chosen.when_stopped = NOTHING_WRITTEN
    project = _valid_project()
    if from_venue is None and (bot or number) is not None:
        raise CommandError(f"{bot or number}: is the number of a bot of an exchange; --from says of which")
    if bot and number and bot != number:
        raise CommandError(f"--bot: {bot} and {number} are two; name one")
    if from_venue is not None and paste is not None:
        raise CommandError("--from and --paste: give one of them")
    asking = not yes and _is_terminal()
    draft, place, found, source = Draft(dict(values)), None, None, None
    if from_venue is not None:
        refuse_unreadable(project, from_venue)
        place = chosen_venue(project.config, from_venue, "--from", os.environ)
        say(f"asking {place.name} for its grids")
        found, source = told(place.of(project.config, hurried=True), place.name, bot or number, asking)
    else:
        say_what_cannot_be_read(project)
        if paste is not None:
            found = pasted(paste, _is_terminal())
    if found is not None:
        unsure = {key: one for key, one in found.unsure.items() if key not in values}
        draft = Draft({**found.values, **values}, unsure)
        say_what_was_read(found, values)
    complete(draft, asking)
    symbol = draft.values["symbol"]
    where, place = venue_of(project, symbol, venue, place, asking)
    name = grids.free_id(project, symbol) if grid_id is None else id_of(grid_id)
    given = {key: value for key, value in draft.values.items() if key != "convention"}
    given |= {"level_convention": draft.values["convention"], "enabled": not disabled, "source": source}
    grid = grids.grid_of({**given, "id": name})
    planned = grids.preview(project, grid, where, place)
    silence = _show(planned, yes=yes, ask_venue=not no_fetch, as_json=as_json)
    _confirm("Is this your grid?", yes)
    done = grids.add(project, grid, where, place)
    _finish(done, "written", silence, no_fetch=no_fetch, as_json=as_json)


def _valid_project() -> Any:
    """The project of a command that changes its files.

    Raises:
        CommandError: they are invalid, so that nothing can be changed in them.
    """
    project = project_here()
    if project.config_error:
        raise CommandError(f"{project.config_error}; mend it first, then add to it")
    return project


def _show(planned: Written, *, yes: bool, ask_venue: bool, as_json: bool) -> str | None:
    """The ladder, the break-even and where the price stands; why the venue is silent, None: it is not.

    Raises:
        CommandError: nobody looks at it, and the price is so far away that it cannot be meant.
    """
    from mm_dagster.pages.ladder import ladder, sentences
    from mm_dagster.pipeline import grid_market

    project, grid = project_here(), planned.grid
    price = grid_market.price_of(project, planned.config, grid.symbol, ask=ask_venue, say=say)
    if price.silence:
        say(f"no answer: {price.silence}")
    if not (as_json and yes):
        # Who asks for JSON and is asked sees what is asked about, and nothing of it is in the JSON.
        console = err if as_json else out
        if planned.config.market(grid.symbol).is_simulated:
            console.print("[bold]SIMULATED:[/] no price of this market is real.")
        console.print(ladder(grid))
        zone = project.config.alerts.timezone
        for line in sentences(grid, zone, price.price, price.as_of):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    far = grid_market.far_away(grid, price.price) if price.price else None
    if far and yes:
        raise CommandError(f"{grid.id}: {far} Nothing was written; without --yes you are asked")
    if far:
        err.print(f"[yellow]look:[/] {escape(far)}", soft_wrap=True, highlight=False)
    return price.silence


def _confirm(question: str, yes: bool) -> None:
    """Asks a person.

    Raises:
        CommandError: they say no, or there is nobody.
    """
    if not yes and not _is_terminal():
        raise CommandError(f"{question} Nobody can be asked here, and nothing was written; --yes says so")
    if not yes and not typer.confirm(question, err=True):
        raise CommandError(NOTHING_WRITTEN)
    chosen.when_stopped = "`mm grid list` says whether it was written"


def _finish(done: Written, what: str, silence: str | None, *, no_fetch: bool, as_json: bool) -> None:
    """Says what was written, has it judged and shows its page.

    A venue that did not answer a moment ago is not waited for with a tick's patience.

    Raises:
        CommandError: it is written, and could not be judged.
    """
    chosen.when_stopped = f"{done.grid.id} is written and watched; `mm tick` goes on from what was fetched"
    say(f"{what}: {done.path}")
    if done.added_venue:
        say(f"{done.added_venue} is new in markets.yaml")
    if done.added_market:
        say(f"{done.grid.symbol} is new in markets.yaml, on {done.config.market(done.grid.symbol).venue}")
    if as_json:
        print_rows([_row(done.grid, done.path)], as_json)
    if no_fetch:
        say("not judged yet: the next tick fetches its candles; `mm tick` does it now")
        return
    try:
        if silence:
            raise CommandError(silence)
        _judge(done.grid, as_json)
    except (ForeseenError, OSError, ValueError) as error:
        raise CommandError(
            f"{done.grid.id} is written and watched, but not judged yet: {error}; the next tick tries again"
        ) from None


def _judge(grid: GridConfig, as_json: bool) -> None:
    from mm_dagster.pages.gather import page
    from mm_dagster.pages.terminal import status_page
    from mm_dagster.pipeline import grid_market
    from mm_dagster.pipeline.project import Project

    # The project of the command has read the configuration as it was.
    project = Project.here(says_troubles=False)
    say(f"fetching the candles of {grid.symbol} and judging since the activation")
    with candles_shown(grid.symbol) as step:
        as_of = grid_market.judge_now(project, grid.symbol, step)
    tick = project.lake.sql(f"SELECT problems FROM tick WHERE as_of = '{iso(as_of)}'").rows(named=True)
    reasons = [one["reason"] for row in tick for one in row["problems"] or [] if one["symbol"] == grid.symbol]
    if not as_json:
        out.print(status_page(only(page(project, project.now()), grid.id), out.width))
    if grid.first_as_of > as_of:
        first = in_local_time(iso(grid.first_as_of), project.config.alerts.timezone)
        say(f"{grid.id} is judged for the first time at {first}, when the quarter hour closes in which it began")
    if reasons:
        raise CommandError(reasons[0])


def _row(grid: GridConfig, path: Path | None) -> dict[str, Any]:
    return {**grid.model_dump(), "file": str(path) if path else None}


# list, edit, stop, start, remove --------------------------------------------------------------------------------------


@grid_app.command("list", epilog="Examples: `mm grid list`, `mm grid list --json | jq '.[].id'`")
def list_grids(as_json: AsJson = False) -> None:
    """List the grids of the configuration with their files."""
    from mm_dagster.config.put import contents_of
    from mm_dagster.pipeline import grids

    project = project_here()
    folder = Path(project.config_dir)
    files: dict[str, Path] = {}
    with suppress(ForeseenError):
        files = grids.paths(contents_of(folder), folder)
    if as_json:
        print_rows([_row(grid, files.get(grid.id)) for grid in project.config.grids], as_json)
        return
    if not project.config.grids:
        say("there is no grid; `mm grid add` adds one")
        return
    print_rows(
        [
            {
                "grid": grid.id,
                "symbol": grid.symbol,
                "runs": "yes" if grid.enabled else "no",
                "activated": grid.activated_at,
                "range": f"{plain_text(grid.lower)} - {plain_text(grid.upper)}",
                "levels": f"{grid.levels} {grid.level_convention}, {grid.spacing}",
                "stop": plain_text(grid.stop),
                "capital": plain_text(grid.capital),
                "file": files[grid.id].name if grid.id in files else "gone",
            }
            for grid in project.config.grids
        ],
        as_json,
    )


@grid_app.command(
    epilog="Examples: `mm grid edit eth-1 --stop 2950`, "
    "`mm grid edit eth-1 --upper 3300 --levels 8 --activated 2026-02-01T10:00Z --yes`"
)
@takes_values
def edit(
    grid: Annotated[str, typer.Argument(help="The grid's id.")],
    values: Any = None,
    venue: VenueName = None,
    yes: Yes = False,
    no_fetch: NoFetch = False,
    as_json: AsJson = False,
) -> None:
    """Change a grid: its values before and after are shown. A changed grid is a new episode and begins now."""
    from mm_dagster.pipeline import grids

    chosen.when_stopped = NOTHING_WRITTEN
    project = _valid_project()
    wanted = dict(values)
    begins = wanted.pop("activated_at", None)
    if "convention" in wanted:
        wanted["level_convention"] = wanted.pop("convention")
    before, after = grids.edited(project, grid, wanted, begins)
    where, place = venue_of(project, after.symbol, venue, None, not yes and _is_terminal())
    planned = grids.saved_as(project, before, after, where, place)
    if not as_json:
        _print_beside(before, after)
    elif not yes:
        say(", ".join(f"{key}: {was} -> {will}" for key, was, will in _differences(before, after)))
    silence = _show(planned, yes=yes, ask_venue=not no_fetch, as_json=as_json)
    _confirm("Change it so?", yes)
    done = grids.save(project, before, after, where, place)
    _finish(done, "changed, a new episode", silence, no_fetch=no_fetch, as_json=as_json)


def _print_beside(before: GridConfig, after: GridConfig) -> None:
    differences = _differences(before, after)
    print_rows([{"key": key, "was": was, "will be": will} for key, was, will in differences], as_json=False)


def _differences(before: GridConfig, after: GridConfig) -> list[tuple[str, str, str]]:
    """What changes: key, value before, value after."""
    from mm_dagster.config.grid_file import values_of

    old, new = values_of(before), values_of(after)
    return [(key, was, new[key]) for key, was in old.items() if was != new[key]]


@grid_app.command(
    "stop", epilog="Examples: `mm grid stop eth-1`, `mm grid stop eth-1 --note 'sold by hand' --at 2026-01-12T10:00Z`"
)
def stop_grid(
    grid: Annotated[str, typer.Argument(help="The grid's id.")],
    note: Annotated[str | None, typer.Option(help="In your own words.")] = None,
    at: Annotated[str | None, typer.Option(help="When you stopped it, UTC; default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say that you stopped a grid, and switch it off: `mm respond GRID stopped` and `enabled: false` in one.

    It stops nothing at the exchange: that is your hand. Done twice it is done once.
    """
    from mm_dagster.pipeline import grids

    project = _valid_project()
    when = _past(at, "--at")
    _stopped(grids.stop(project, grid, note, when), as_json)


def _past(text: str | None, option: str) -> datetime | None:
    """A time that has passed; None: none is named."""
    if text is None:
        return None
    when = moment_or_now(text, option)
    if when > project_here().now():
        raise CommandError(f"{option}: {iso(when)} lies in the future; write when it was done")
    return when


def _stopped(done: Any, as_json: bool) -> None:
    grid = done.grid
    if done.answered:
        say(f"{grid.id}: noted that you stopped it; its episode is closed, and nothing more of it is told")
    elif done.switched:
        say(f"{grid.id}: that you stopped it was noted before")
    if done.switched:
        say(f"{grid.id}: `enabled: false` stands in {done.path}; `mm grid start {grid.id}` begins a new episode")
    else:
        say(f"{grid.id}: it does not run; nothing to do")
    if as_json:
        print_rows([_row(grid, done.path)], as_json)


@grid_app.command(
    "start", epilog="Examples: `mm grid start eth-1`, `mm grid start eth-1 --activated 2026-02-01T10:00Z --yes`"
)
def start_grid(
    grid: Annotated[str, typer.Argument(help="The grid's id.")],
    activated: Annotated[
        str | None, typer.Option(help="When it began again, like 2026-01-10T01:00Z; default: now.")
    ] = None,
    yes: Yes = False,
    no_fetch: NoFetch = False,
    as_json: AsJson = False,
) -> None:
    """Watch a grid that did not run: `enabled: true` with a new activation, which is a new episode."""
    from mm_dagster.pipeline import grids

    chosen.when_stopped = NOTHING_WRITTEN
    project = _valid_project()
    before, after = grids.start(project, grid, moment_or_now(activated, "--activated") if activated else None)
    planned = grids.saved_as(project, before, after)
    silence = _show(planned, yes=yes, ask_venue=not no_fetch, as_json=as_json)
    _confirm("Does it run so at the exchange?", yes)
    done = grids.save(project, before, after)
    _finish(done, "runs, a new episode", silence, no_fetch=no_fetch, as_json=as_json)


@grid_app.command("remove", epilog="Examples: `mm grid remove eth-1`, `mm grid remove eth-1 --yes`")
def remove_grid(
    grid: Annotated[str, typer.Argument(help="The grid's id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; one that runs is stopped first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a grid out of the configuration. Its file is kept below the data, and its history stays."""
    from mm_dagster.pipeline import grids
    from mm_dagster.pipeline.project import Project

    project = _valid_project()
    known = {one.id: one for one in project.config.grids}
    path = grids.path_of(project, grid)
    if known[grid].enabled and not yes:
        raise CommandError(f"{grid}: it runs; `mm grid stop {grid}` first, or --yes does both")
    _confirm(f"Remove {grid}, {path}?", yes)
    if known[grid].enabled:
        _stopped(grids.stop(project, grid, "removed"), as_json=False)
    kept = grids.remove(Project.here(says_troubles=False), grid)
    say(f"{grid}: removed; its file is kept as {kept}; its history stays, and {known[grid].symbol} in markets.yaml")
    if as_json:
        print_rows([_row(known[grid].model_copy(update={"enabled": False}), kept)], as_json)
