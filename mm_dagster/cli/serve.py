"""The live page and the API: `mm serve`, and `mm link`, which lets a person in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from mm_dagster import environment, logs
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.operate import PANEL
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.cli.up import SERVE_PORT
from mm_dagster.text import did_you_mean

if TYPE_CHECKING:
    from mm_dagster.pipeline.access import Access

TOKEN = "MM_API_TOKEN"
_LONGEST_LINK = 7 * 1_440
"""Minutes."""


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm serve`, `mm serve --port 9000`, "
    "`mm serve --host 0.0.0.0 --cert fullchain.pem --key key.pem --allow-host grids.example.com`",
)
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")] = SERVE_PORT,
    host: Annotated[str, typer.Option(help="The address; another than this computer's own needs TLS.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that it may be called by, beside localhost.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate, PEM; with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy in front of it speaks TLS: deploy/compose.yaml has one.")
    ] = False,
) -> None:
    """Serve the live page and the API on http://127.0.0.1:8080, until Ctrl-C. `mm up` starts it as well.

    People enter with a one-time code: `mm link`. Programs bring the token in MM_API_TOKEN, at least 32 bytes; without
    it no program may. Nothing here places an order or changes the configuration.
    """
    import uvicorn

    from mm_dagster.api.app import Server, create_app
    from mm_dagster.pipeline.project import Project
    from mm_dagster.web import is_loopback

    project = project_here()
    if (cert is None) != (key is None):
        raise CommandError("--cert and --key: give both, or neither")
    is_tls = cert is not None or behind_proxy
    if not is_loopback(host) and not is_tls:
        raise CommandError(
            f"--host {host}: whoever is on the way could read along; give --cert and --key, or put a proxy with TLS in "
            "front of it and say --behind-proxy"
        )
    for path in filter(None, (cert, key)):
        if not path.is_file():
            raise CommandError(f"{path}: there is no such file")
    hosts = {"localhost", "127.0.0.1", "::1", *([host] if host not in ("0.0.0.0", "::") else []), *(allow_host or [])}
    linked = urlsplit(project.config.alerts.link or "").hostname
    hosts |= {linked} if linked else set()
    access = access_of(with_token=True)
    logs.protect([TOKEN])
    server = Server(
        project=lambda: Project.here(says_troubles=False),
        access=access,
        hosts=sorted(hosts),
        is_tls=is_tls,
        dagster=environment.link(environment.DAGSTER_LINK),
    )
    scheme = "https" if cert else "http"
    err.print(f"page and API on {scheme}://{host}:{port}; `mm link` lets you in; Ctrl-C ends it", soft_wrap=True)
    uvicorn.run(
        create_app(server),
        host=host,
        port=port,
        ssl_certfile=cert,
        ssl_keyfile=key,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind_proxy,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        limit_concurrency=1_000,
    )


def access_of(*, with_token: bool = False) -> Access:
    """Who may at this home."""
    from mm_dagster.pipeline.access import Access

    token = environment.secret(TOKEN) if with_token else None
    return Access(Path(project_here().data), token)


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm link`, `mm link --for anna --minutes 60`, `mm link --end` puts everybody out",
)
def link(
    person: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="Whose answers are then noted so; one of `people`.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=_LONGEST_LINK, help="How long it may be used.")] = 15,
    port: Annotated[int, typer.Option(help="Of `mm serve`, where no `link` stands in alerts.yaml.")] = SERVE_PORT,
    end: Annotated[bool, typer.Option("--end", help="Put everybody out: no session or link of before counts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a person in: a link for one use, and the code in it to type where a link does not reach.

    Whoever opens it has a session of 30 days in that browser. An installed page on a home screen keeps cookies of its
    own: type the code there.
    """
    project = project_here()
    access = access_of()
    if end:
        count = access.end_sessions()
        print_rows([{"sessions_ended": count}], as_json) if as_json else out.print(f"{count} sessions ended")
        return
    if person is not None and (not person.strip() or len(person) > 40 or not person.isprintable()):
        raise CommandError("--for: a name has at most 40 printable letters")
    named = project.config.alerts.people
    if person is not None and named and person.strip() not in named:
        raise CommandError(f"--for: {person.strip()} is none of the people in alerts.yaml{did_you_mean(person, named)}")
    code = access.new_code(person.strip() if person else None, minutes * 60)
    address = f"{(project.config.alerts.link or f'http://127.0.0.1:{port}').rstrip('/')}/enter#{code}"
    row: dict[str, Any] = {"link": address, "code": code, "person": person, "minutes": minutes}
    if as_json:
        print_rows([row], as_json)
        return
    out.print(address, soft_wrap=True, highlight=False, markup=False)
    err.print(f"for one use within {minutes} min; code {code}", soft_wrap=True, highlight=False)
