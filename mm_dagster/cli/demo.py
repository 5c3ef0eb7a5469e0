"""The demo: a simulated market of 120 days, and a clock that starts with it."""

from __future__ import annotations

import shlex
from pathlib import Path

from mm_dagster import environment
from mm_dagster.bars import iso, parse_time
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.installation import say_how_to_keep_it
from mm_dagster.cli.pipeline import PANEL, backfill, tick

FIRST_DAY, LAST_DAY = "2026-03-01", "2026-06-28"
STARTS = "2026-06-29T16:45:00Z"
"""What time it is in the demo when it is made."""


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm demo`, `MM_DATA_DIR=/tmp/demo mm demo`")
def demo() -> None:
    """Make the demo: 120 days of a simulated market, one tick, the decisions; nothing leaves this computer.

    From then on its clock runs at real speed, so that `mm status` and `mm up` show it alive. Made again it shows the
    same decisions, and its clock goes on; delete its data folder to begin anew.
    """
    from mm_dagster.pipeline import clock

    home = environment.home_here()
    if home:
        raise CommandError(
            f"home {home.folder} ({home.found_by}): the demo does not belong into it; call it as {_aside()} mm demo"
        )
    project = project_here()
    if not project.config.is_simulated:
        raise CommandError(
            f"{project.config_dir}: its markets are not simulated; for the demo unset MM_CONFIG_DIR and MM_DATA_DIR"
        )
    clock.start(project.data, parse_time(STARTS))
    backfill(first=FIRST_DAY, last=LAST_DAY)
    tick(as_of=STARTS)
    now = iso(project.now().replace(microsecond=0))
    err.print(
        f"demo (simulated) in {project.data}: its clock stands at {now} and runs on; next `mm status`, or `mm up`",
        soft_wrap=True,
        highlight=False,
    )
    say_how_to_keep_it()


def _aside() -> str:
    """The variables that name the demo's folders, as a shell takes them."""
    folders = {
        environment.CONFIG_DIR: environment.shipped() / environment.DEMO_CONFIG,
        environment.DATA_DIR: Path(environment.DEMO_DATA).absolute(),
    }
    return " ".join(f"{variable}={shlex.quote(str(folder))}" for variable, folder in folders.items())
