"""For whatever watches the machine, in figures."""

from __future__ import annotations

import typer

from mm_dagster.cli.app import app, project_here
from mm_dagster.cli.examine import PANEL


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm metrics`, `mm metrics | grep mm_grid_state`, `mm metrics > mm.tmp && mv mm.tmp mm.prom` for "
    "node_exporter's textfile collector",
)
def metrics() -> None:
    """Print every figure in Prometheus' text format: states, money, ticks, messages, the lake.

    `mm serve` answers the same at /metrics, with figures of its own answers, to whoever brings MM_API_TOKEN. What the
    series mean is in docs/metrics.md. A lake that cannot be read makes `mm_up` 0, and stderr says why.
    """
    # Imported here because no other command needs it.
    from mm_dagster.api.metrics import render

    typer.echo(render(project_here()), nl=False)
