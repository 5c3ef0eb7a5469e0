"""For the engineer: is all well, and what to do where it is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from mm_dagster import environment, logs, modes
from mm_dagster.bars import BAR, floor_bar, iso
from mm_dagster.cli.app import CommandError, app, out, project_here
from mm_dagster.cli.daemon import daemon_beat, places
from mm_dagster.cli.installation import packages
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.cli.remedies import can_be_said, in_words, unforeseen
from mm_dagster.cli.up import DAGSTER_PORT, HOST, SERVE_PORT
from mm_dagster.errors import ForeseenError
from mm_dagster.text import counted, local_time, money_text, price_text, spoken

if TYPE_CHECKING:
    from mm_dagster.config.grid import GridConfig
    from mm_dagster.config.whole import Config

PANEL = "Keep it well"


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm doctor`, `mm doctor --json`")
def doctor(as_json: AsJson = False) -> None:
    """Check configuration, lake, venues, clock, credentials, channels and git: each line says OK or what to do.

    The last line names the one thing to do next.
    """
    rows = _examine()
    following, is_wrong = _next(rows, project_here()), any(row["result"] != "OK" for row in rows)
    if as_json:
        # Whoever looks for what is not OK finds it here only where something is wrong.
        print_rows([*rows, {"part": "next", "result": "TO DO" if is_wrong else "OK", "detail": following}], as_json)
    else:
        print_rows(rows, as_json, title="Doctor")
        out.print(f"next: {following or 'nothing; all is well'}", soft_wrap=True, highlight=False, markup=False)
    if is_wrong:
        raise typer.Exit(1)


_FIRST = ("configuration", "grid", "environment", "data folder", "lake", "copies of the catalogue", "venue", "account")
"""Parts without which nothing else is of use, in the order in which they are to be mended; the others follow."""


def _next(rows: Sequence[Mapping[str, Any]], project: Any) -> str | None:
    """The one thing to do next; None: nothing is left to do.

    What is broken comes first, then a grid, then whoever watches it, then how messages come, then all the rest.
    """
    wrong = [row for row in rows if row["result"] != "OK"]
    for part in _FIRST:
        found = next((row for row in wrong if row["part"] == part or row["part"].startswith(f"{part} ")), None)
        if found:
            return f"{found['part']}: {found['detail']}"
    if not project.config.grids:
        return "`mm grid add`, or `mm grid add --paste FILE` with the text of the bot's page"
    if project.config.is_real:
        # Recordings and simulated markets are looked at; nobody needs to watch them.
        try:
            daemon_beat(project.now())
        except CommandError:
            return "`mm up`, which watches until Ctrl-C; nobody does now"
    return next((f"{row['part']}: {row['detail']}" for row in wrong), None)


def _examine() -> list[dict[str, Any]]:
    """One row for each part of the system: OK, or what to do."""
    from mm_dagster.config.markets import BOT_EXCHANGES, CcxtVenue
    from mm_dagster.pipeline import grid_bots

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
    for grid in config.grids:
        check(f"grid {grid.id}", lambda grid=grid: _grid(project, grid))  # type: ignore[misc]
    check("environment", lambda: _environment(project))
    check("packages", packages)
    check("lake", lambda: project.lake.check())
    check("copies of the catalogue", lambda: project.lake.check_copies())
    for name in config.markets.venues:
        symbol = next((symbol for symbol in config.symbols if config.market(symbol).venue == name), None)
        if symbol:
            check(f"venue {name}", lambda symbol=symbol: project.venues.of(symbol).check())  # type: ignore[misc]
    for name, venue in config.markets.venues.items():
        if isinstance(venue, CcxtVenue) and venue.account:
            check(f"account {name}", lambda name=name: project.venues.account(name).check())  # type: ignore[misc]
            if venue.exchange in BOT_EXCHANGES:
                check(f"bots {name}", lambda name=name: grid_bots.check(project, name))  # type: ignore[misc]
    if places():
        check("daemon", lambda: daemon_beat(project.now()))
    check("newest bar", lambda: freshness(project, project.venues.clock))
    check("candles", lambda: _candles(project))
    check("order books", lambda: _books(project))
    if project.config.books.record:
        check("recorder", lambda: _recorder(project))
    if project.config.orders.mode != "off":
        check("orders", lambda: _orders(project))
    for part, examine in _channels(project):
        check(part, examine)
    check("git mirror", lambda: project.mirror.check())
    check("data folder", lambda: _data_folder(project.data))
    return rows


def _channels(project: Any) -> Iterator[tuple[str, Callable[[], str]]]:
    """By what messages go out, and where they lead."""
    alerts = project.config.alerts
    yield "Pushover", lambda: _pushover(project)
    if alerts.telegram:
        yield "Telegram", lambda: _telegram(project)
    for secret in alerts.apprise:
        yield f"address {secret.url_env}", partial(_second_channel, secret.url_env)
    if alerts.heartbeat:
        yield f"address {alerts.heartbeat.url_env}", partial(_heartbeat, alerts.heartbeat.url_env)
    if alerts.link or _reaches_phones(project):
        yield "link", lambda: link_on_a_phone(alerts.link, reaches_phones=_reaches_phones(project))


def _reaches_phones(project: Any) -> bool:
    """Whether a message may reach a phone at all."""
    from mm_dagster.pipeline.channels import each_channel

    return bool(project.config.is_real and each_channel(project))


_ADDRESS = "write the https:// address that a phone reaches; `mm serve --help` names two ways to one"


def link_on_a_phone(link: str | None, *, reaches_phones: bool) -> str:
    """Whether a phone can open the link of a message, as far as the address tells.

    Args:
        link: of alerts.yaml.
        reaches_phones: whether a channel is set up, and a market is real.

    Raises:
        CommandError: it cannot, or no browser can; with what would be right.
    """
    from mm_dagster.web import host_of, is_loopback, is_private

    if link is None:
        return f"there is none, so messages name `mm status` in its place; {_ADDRESS} under `link` in alerts.yaml"
    begin = f"alerts.yaml: link: {link}"
    address, host = urlsplit(link), host_of(link)
    if address.scheme not in ("http", "https"):
        raise CommandError(f"{begin} does not begin with https://, so nothing opens it; {_ADDRESS}")
    if is_loopback(host):
        if address.port == DAGSTER_PORT:
            raise CommandError(f"{begin} is Dagster's page; the live page is http://{HOST}:{SERVE_PORT}")
        if reaches_phones:
            raise CommandError(f"{begin} is this computer, which a phone cannot open; {_ADDRESS}")
        other = "" if address.port == SERVE_PORT else f"; `mm up` serves on {SERVE_PORT}, unless it was told otherwise"
        return f"{link} opens on this computer alone, and no message reaches a phone yet{other}"
    if address.scheme == "http":
        if not is_private(host):
            raise CommandError(
                f"{begin} is without TLS, so whoever is on the way reads along, and `mm serve` does not listen there; "
                f"{_ADDRESS}"
            )
        return (
            f"{link} opens in its own network or through a VPN, without TLS; `mm serve` does not listen there, so a "
            "proxy must"
        )
    return f"{link} opens in its own network or through a VPN" if is_private(host) else f"{link} can be opened anywhere"


def _data_folder(data: Path) -> str:
    """That all that is written can be, and that nobody else reads it."""
    for folder in (
        data,
        data / "history",
        data / "history" / "files",
        data / "mirror",
        environment.dagster_folder(data),
    ):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise CommandError(f"{folder}: cannot be written to; let the user who runs this write there")
    return modes.check(data)


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
    from mm_dagster.alerts.apprise import AddressError, Apprise

    try:
        Apprise([_address_in(variable)])
    except AddressError:
        raise CommandError(f"{variable} holds no address that apprise can read; write it like mailto://...") from None
    return f"{variable} can be read; `mm alert-test` tries it"


def _environment(project: Any) -> str:
    wrong = [line for _, line in environment.faults(logs.named_secrets(project.config.model_dump()))]
    if wrong:
        raise CommandError("; ".join(wrong))
    offset = environment.tick_offset_minutes()
    return (
        f"MM_DATA_DIR is {project.data}; a tick runs {counted(offset, 'minute')} after a quarter hour"
        f"{_proxies(project.config)}"
    )


def _proxies(config: Config) -> str:
    """Who asks through a proxy: one for all clients, unless a venue says otherwise. No address is shown."""
    named = [
        name for name in ("HTTPS_PROXY", "ALL_PROXY") if environment.given(name) or environment.given(name.lower())
    ]
    own = {name: getattr(venue, "proxy", None) for name, venue in config.markets.venues.items()}
    apart = [f"{name} through {'none' if proxy == 'none' else 'its own'}" for name, proxy in own.items() if proxy]
    if not named and not apart:
        return ""
    every = f"the proxy of {named[0]}" if named else "no proxy"
    return f"; all clients ask through {every}{', but ' + ', '.join(apart) if apart else ''}"


def _configuration(project: Any) -> str:
    if project.config_error:
        raise CommandError(project.config_error)
    if project.vanished:
        raise CommandError("; ".join(project.vanished))
    grids = project.config.grids
    running = sum(grid.enabled for grid in grids)
    return (
        f"{project.config_dir}: {counted(len(project.config.symbols), 'market')}, {running} of "
        f"{counted(len(grids), 'grid')} enabled"
    )


def _grid(project: Any, grid: GridConfig) -> str:
    """A grid as it was read, so that a slip of a point or a zone can be seen."""
    market = project.config.market(grid.symbol)
    # A recording ends where it ends, and a grid may begin after it.
    now = project.venues.real_clock() if market.kind != "recorded" else project.venues.of(grid.symbol).now()
    began = local_time(grid.activated_at, project.config.alerts.timezone)
    if grid.activated_at > now:
        raise CommandError(
            f"{grid.id}: activated_at: {began} lies ahead, and it is not watched before; without a zone a time is of "
            f"{project.config.alerts.timezone}, as alerts.yaml says: write it in UTC, or with its zone, like "
            "14:30:00+02:00"
        )
    quote = grid.symbol.partition("-")[2]
    return (
        f"{grid.symbol} {price_text(grid.lower)} to {price_text(grid.upper)}, {grid.levels} {grid.level_convention}, "
        f"stop {price_text(grid.stop)}, {money_text(grid.capital, grid.capital)} {quote}, "
        f"{'active' if grid.enabled else 'watched'} since {began}"
    )


def freshness(project: Any, clock: Callable[[str], datetime]) -> str:
    """How old the newest bar that is known of each market is.

    Args:
        project: where the candles are.
        clock: what time it is on a market. A recording is judged by its own, which stands at its end.
    """
    newest = project.lake.newest("candles", known=True)
    for symbol in project.config.symbols:
        market = project.config.market(symbol)
        remedy = "run `mm tick`, or `mm up` for the schedule"
        if market.kind == "recorded":
            now = project.venues.of(symbol).now()
            remedy = f"run `mm tick --as-of {iso(floor_bar(now))}`, or `mm backfill`"
        else:
            now = clock(symbol)
        if symbol not in newest:
            raise CommandError(f"{symbol}: no candle is known yet; {remedy}")
        age = now - newest[symbol] - BAR
        if age > timedelta(minutes=project.config.alerts.blind_after_minutes):
            raise CommandError(
                f"{symbol}: the newest known bar closed {iso(newest[symbol] + BAR)}, {spoken(age)} ago; {remedy}"
            )
    return f"{counted(len(newest), 'market')}, the newest bar closed {iso(max(newest.values()) + BAR)}"


def _candles(project: Any) -> str:
    """What must be known of the candles of the markets: since when they are kept, and traded."""
    from mm_dagster.pages.gather import page

    lacking = sorted(set(project.config.symbols) - project.lake.newest("candles", known=True).keys())
    if lacking:
        raise CommandError(f"{', '.join(lacking)}: nothing is known, so nothing can be said")
    remarks = [remark for market in page(project, project.now()).markets for remark in market.remarks]
    return " ".join(remarks) or "all markets are traded, and kept as far back as is needed"


def _orders(project: Any) -> str:
    """What can be sold by the program, and what stands in its way."""
    from mm_dagster.pipeline.exits import standing

    return standing(project)


def _books(project: Any) -> str:
    """What the order books say of the half spreads that are reckoned with; a proposal is no fault."""
    from mm_dagster.pipeline.books import ENOUGH_BOOKS, half_spreads

    seen = half_spreads(project)
    if not seen:
        return "none was read in the last week: a tick reads those of the markets with a running grid"
    proposed = [one for one in seen if one.proposed]
    if proposed:
        values = ", ".join(f"{one.symbol}: {one.median_bp:.1f}" for one in proposed)
        of = min(one.books for one in proposed)
        return f"risk.yaml could have half_spread_bp: {{{values}}}, the median of {of} order books or more"
    if max(one.books for one in seen) < ENOUGH_BOOKS:
        few = counted(sum(one.books for one in seen), "order book")
        return f"{few} of the last week: from {ENOUGH_BOOKS} of a market on its half spread is proposed"
    return "the half spreads of risk.yaml are those that the order books showed"


def _recorder(project: Any) -> str:
    """What stands in the way of the recorder."""
    from mm_dagster.pipeline.recorder_watch import standing

    wrong = standing(project)
    if wrong:
        raise CommandError("; ".join(f"{one.name}: {one.line}" for one in wrong))
    return f"it records {counted(len(project.config.books.recorded), 'market')}, and each has a book"


def _pushover(project: Any) -> str:
    from mm_dagster.pipeline.channels import pushover_of, telegram_of

    if not project.config.is_real:
        return "not needed: what is said of simulated and recorded markets goes to the ledger and the log"
    missing = [name for name in ("PUSHOVER_TOKEN", "PUSHOVER_USER") if not environment.secret(name)]
    channel = pushover_of(project)
    if channel is None and telegram_of(project):
        return "not used: messages go by Telegram, where nothing rings"
    if channel is None:
        raise CommandError(f"{' and '.join(missing)} not set: messages go to the ledger and the log only; see README")
    channel.validate()
    return "token and user key are present, and Pushover knows them"


def _telegram(project: Any) -> str:
    """That the bot can write to the chat, and hears what is said there. It sends nothing."""
    from mm_dagster.pipeline.channels import telegram_of

    config = project.config.alerts.telegram
    missing = [name for name in (config.token_env, config.chat_env) if not environment.secret(name)]
    if missing:
        raise CommandError(f"{' and '.join(missing)} not set, which alerts.yaml names: see docs/alerts.md")
    channel = telegram_of(project)
    if channel is None:
        raise CommandError(
            f"{config.chat_env}: must be the number of a chat, like 123456789, or -1001234567890 for a group; "
            "docs/alerts.md says how to find it"
        )
    return str(channel.check())
