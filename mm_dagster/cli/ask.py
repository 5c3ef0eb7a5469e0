"""For the analyst: the history in SQL."""

from __future__ import annotations

from typing import Annotated

import typer

from mm_dagster.cli.app import app, project_here
from mm_dagster.cli.printing import AsJson, print_frame

PANEL = "Ask"


@app.command(
    rich_help_panel=PANEL,
    epilog='Examples: `mm sql "SELECT verdict, count(*) FROM regime_verdict GROUP BY 1"`, `mm sql "SHOW TABLES"`',
)
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the history, in DuckDB's SQL.")],
    as_json: AsJson = False,
) -> None:
    """Ask the history. Read only; it never blocks the pipeline, nor the pipeline it."""
    print_frame(project_here().lake.sql(query), as_json)
