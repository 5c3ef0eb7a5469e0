"""For the engineer: is all well, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from mm_dagster import environment, logs, modes
from mm_dagster.bars import BAR, iso
from mm_dagster.cli.app import CommandError, app, project_here
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.cli.remedies import can_be_said, in_words, unforeseen
from mm_dagster.errors import ForeseenError
from mm_dagster.text import spoken

PANEL = "Keep it well"


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm doctor`, `mm doctor --json`")
def doctor(as_json: AsJson = False) -> None:
    """Check configuration, lake, venues, clock, credentials, Pushover and git: each line says OK or what to do."""
    rows = _examine()
    print_rows(rows, as_json, title="Doctor")
    if any(row["result"] != "OK" for row in rows):
        raise typer.Exit(1)


def _examine() -> list[dict[str, Any]]:
    """One row for each part of the system: OK, or what to do."""
    from mm_dagster.config.markets import CcxtVenue

    rows: list[dict[str, Any]] = []

    def check(part: str, examine: Callable[[], str]) -> None:
        try:
            rows.append({"part": part, "result": "OK", "detail": examine()})
        except ForeseenError as error:
            rows.append({"part": part, "result": "TO DO", "detail": str(error)})
        except BaseException as error:
            if not can_be_said(error):
                raise
            rows.append({"part": part, "result": "TO DO", "detail": in_words(error) or unforeseen(error)})

    project = project_here()
    config = project.config
    check("configuration", lambda: _configuration(project))
    check("environment", lambda: _environment(project))
    check("lake", lambda: project.lake.check())
    check("copies of the catalogue", lambda: project.lake.check_copies())
    for name in config.markets.venues:
        symbol = next((symbol for symbol in config.symbols if config.market(symbol).venue == name), None)
        if symbol:
            check(f"venue {name}", lambda symbol=symbol: project.venues.of(symbol).check())  # type: ignore[misc]
    for name, venue in config.markets.venues.items():
        if isinstance(venue, CcxtVenue) and venue.account:
            check(f"account {name}", lambda name=name: project.venues.account(name).check())  # type: ignore[misc]
    check("newest bar", lambda: freshness(project, project.venues.clock))
    check("candles", lambda: _candles(project))
    check("Pushover", lambda: _pushover(project))
    for secret in config.alerts.apprise:
        check(f"address {secret.url_env}", lambda secret=secret: _second_channel(secret.url_env))  # type: ignore[misc]
    heart = config.alerts.heartbeat
    if heart:
        check(f"address {heart.url_env}", lambda: _heartbeat(heart.url_env))
    check("git mirror", lambda: project.mirror.check())
    check("data folder", lambda: modes.check(project.data))
    return rows


def _address_in(variable: str) -> str:
    address = environment.secret(variable)
    if not address:
        raise CommandError(f"the variable {variable} that alerts.yaml names is not set")
    return address


def _heartbeat(variable: str) -> str:
    _address_in(variable)
    return f"{variable} is set; it is called at the end of each tick"


def _second_channel(variable: str) -> str:
    """That apprise can read the address in a variable, which is never shown."""
    from mm_dagster.alerts.apprise import SecondChannel, SecondChannelUrlError

    try:
        SecondChannel([_address_in(variable)])
    except SecondChannelUrlError:
        raise CommandError(f"{variable} holds no address that apprise can read; write it like mailto://...") from None
    return f"{variable} can be read; `mm alert-test` tries it"


def _environment(project: Any) -> str:
    wrong = [line for _, line in environment.faults(logs.named_secrets(project.config.model_dump()))]
    if wrong:
        raise CommandError("; ".join(wrong))
    return f"MM_DATA_DIR is {project.data}; a tick runs {environment.tick_offset_minutes()} minutes after a quarter"


def _configuration(project: Any) -> str:
    if project.config_error:
        raise CommandError(project.config_error)
    if project.vanished:
        raise CommandError("; ".join(project.vanished))
    grids = project.config.grids
    running = sum(grid.enabled for grid in grids)
    # A market that is made up or recorded has no present.
    real = [grid for grid in grids if project.config.market(grid.symbol).is_real]
    ahead = [grid for grid in real if grid.activated_at > project.venues.real_clock()]
    if ahead:
        raise CommandError(
            f"{ahead[0].id}: activated_at: {iso(ahead[0].activated_at)} lies ahead, and until then it is not watched; "
            "times are UTC unless they say otherwise: write the hour in UTC, or with its zone, like 14:30:00+02:00"
        )
    return f"{project.config_dir}: {len(project.config.symbols)} markets, {running} of {len(grids)} grids enabled"


def freshness(project: Any, clock: Callable[[str], datetime]) -> str:
    """How old the newest bar of each market is, by the clock of its symbol."""
    newest = project.lake.newest("candles")
    for symbol in project.config.symbols:
        if symbol not in newest:
            raise CommandError(f"{symbol}: no candle yet; run `mm tick`, or `make up` and wait a quarter hour")
        age = clock(symbol) - newest[symbol] - BAR
        if age > timedelta(minutes=project.config.alerts.blind_after_minutes):
            raise CommandError(
                f"{symbol}: the newest bar closed {iso(newest[symbol] + BAR)}, {spoken(age)} ago; "
                "run `mm tick`, or `make up` for the schedule"
            )
    return f"{len(newest)} markets, the newest closed {iso(max(newest.values()) + BAR)}"


def _candles(project: Any) -> str:
    """What must be known of the candles of the markets: since when they are kept, and traded."""
    from mm_dagster.pages.gather import page

    remarks = [remark for market in page(project, datetime.now(UTC)).markets for remark in market.remarks]
    return " ".join(remarks) or "all markets are traded, and kept as far back as is needed"


def _pushover(project: Any) -> str:
    from mm_dagster.pipeline.notify import channel_of

    if all(project.config.market(symbol).is_simulated for symbol in project.config.symbols):
        return "not needed: a simulated market writes to the ledger and the log"
    missing = [name for name in ("PUSHOVER_TOKEN", "PUSHOVER_USER") if not environment.secret(name)]
    channel = channel_of(project)
    if channel is None:
        raise CommandError(f"{' and '.join(missing)} not set: messages go to the ledger and the log only; see README")
    channel.validate()
    return "token and user key are present, and Pushover knows them"
