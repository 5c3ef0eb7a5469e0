"""For the operator: candles that the venue does not keep, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mm_dagster.bars import FIRST_DAY, Span, iso
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.text import did_you_mean

PANEL = "Run"


@app.command(
    rich_help_panel=PANEL,
    name="import",
    epilog="Examples: `mm import ETH-USDT old/ETH-USDT.csv`, `mm import ETH-USDT 15m.parquet --json`",
)
def take_in(
    symbol: Annotated[str, typer.Argument(help="The market that the candles are of.")],
    file: Annotated[Path, typer.Argument(help="Parquet or CSV, as for a recorded market: docs/candles.md.")],
    as_json: AsJson = False,
) -> None:
    """Take candles from a file that the venue does not keep any more, to know a market from earlier on.

    What is stored stays. The file is measured by it, and refused as a whole if it contradicts. `mm backfill` computes
    the days anew.
    """
    from mm_dagster.pipeline.collect import ImportRefusedError, import_file
    from mm_dagster.pipeline.work import Work

    project = project_here()
    if symbol not in project.config.symbols:
        raise CommandError(f"{symbol!r} is not in markets.yaml{did_you_mean(symbol, project.config.symbols)}")
    if file.suffix not in (".parquet", ".csv"):
        raise CommandError(f"{file}: it is neither Parquet nor CSV; it must end in .parquet or .csv")
    if not file.is_file():
        raise CommandError(f"{file}: there is no such file")
    job = Work(project, project.config, (symbol,), Span(FIRST_DAY, FIRST_DAY), None, "mm import")
    try:
        bars, changed, span = import_file(job, symbol, file)
    except ImportRefusedError as error:
        raise CommandError(str(error)) from None
    row = {"symbol": symbol, "bars": bars, "from": iso(span.start), "until": iso(span.end), "rows_changed": changed}
    print_rows([row], as_json)
    err.print(f"what follows from them: `mm backfill --from {iso(span.start)[:10]} --symbols {symbol}`", soft_wrap=True)
