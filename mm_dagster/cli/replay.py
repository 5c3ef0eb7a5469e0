"""Days computed again, to see that they come out as they are stored, and to prove why they must."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.markup import escape

from mm_dagster.bars import BAR, DAY_BARS, Span, iso, midnight
from mm_dagster.cli.app import CommandError, app, out, project_here
from mm_dagster.cli.arguments import configured, whole_days
from mm_dagster.cli.pipeline import PANEL
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.tables.words import VERDICTS

if TYPE_CHECKING:
    from mm_dagster.regime.proofs import Proof


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm replay --from 2026-06-01 --to 2026-06-28`, "
    "`mm replay --from 2026-06-28 --to 2026-06-28 --symbols ETH-USDT --check`",
)
def replay(
    first: Annotated[str, typer.Option("--from", help="First day, UTC.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day, inclusive; default: today.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these markets, separated by commas.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Prove it: no look-ahead, enough warm-up, live equals backfill.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute features and verdicts of whole days again, from the stored candles under the configuration in force.

    Says how often each verdict was found, and at how many bars another one is stored. Writes nothing. With `--check`
    every cell is compared, bit for bit, and a difference ends with exit code 1.
    """
    days, wanted = whole_days(first, last), configured(symbols)
    span = _with_candles(days, wanted)
    if check:
        _print(_proven(span, wanted), as_json)
    else:
        print_rows(_replayed(span, wanted), as_json, title=f"Verdicts computed again, from {span}")


def _with_candles(days: Span, symbols: Sequence[str]) -> Span:
    """The part of the days that has closed: of today as much as is stored.

    Raises:
        CommandError: the lake lacks candles of it.
    """
    stored = project_here().lake.read("candles", span=days, symbols=symbols, columns=["symbol", "open_time"])
    newest = max((time + BAR for time in stored["open_time"]), default=days.start)
    span = Span(days.start, min(days.end, max(newest, midnight(project_here().now().date()))))
    for symbol in symbols:
        own = stored.filter(pl.col("symbol") == symbol)
        absent = span.open_times().to_frame().join(own, on="open_time", how="anti")["open_time"]
        if absent.len() or not span.bars:
            raise CommandError(
                f"{symbol}: {absent.len():,} of {span.bars:,} candles from {span} are not in the lake"
                f"{f', the first {iso(absent[0])}' if absent.len() else ''}; fetch them with "
                f"`mm backfill --from {iso(days.start)[:10]} --to {iso(days.end - BAR)[:10]}`, or choose other days"
            )
    return span


def _replayed(span: Span, symbols: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each market: how often each verdict was found again, and where another one is stored."""
    from mm_dagster.pipeline.proofs import evidence
    from mm_dagster.regime.proofs import recompute

    project = project_here()
    found = []
    with days_done("replay", transient=True) as progress:
        bar = progress.add_task("", total=span.bars // DAY_BARS)
        for month in span.months():
            stored = evidence(project.lake, project.config, month, symbols)
            _, verdicts = recompute(stored.candles, month, project.config)
            before = stored.verdicts.select("symbol", "as_of", before="verdict", stored=True)
            found.append(
                verdicts.select("symbol", "as_of", "verdict").join(
                    before, on=["symbol", "as_of"], how="left", maintain_order="left"
                )
            )
            progress.advance(bar, month.bars // DAY_BARS)
    differs = pl.col("stored") & pl.col("verdict").ne_missing(pl.col("before"))
    return (
        pl.concat(found)
        .group_by("symbol")
        .agg(
            bars=pl.len(),
            **{word.lower(): (pl.col("verdict") == word).sum() / pl.len() for word in VERDICTS},
            unknown=pl.col("verdict").is_null().mean(),
            stored=pl.col("stored").sum(),
            differs=differs.sum(),
            first_difference=pl.col("as_of").filter(differs).min(),
        )
        .sort("symbol")
        .to_dicts()
    )


def _proven(span: Span, symbols: Sequence[str]) -> list[Proof]:
    """The proofs over a span, month by month."""
    from mm_dagster.pipeline.proofs import evidence
    from mm_dagster.regime.proofs import pooled, prove

    project = project_here()
    months = []
    with days_done("replay", transient=True) as progress:
        bar = progress.add_task("", total=span.bars / DAY_BARS)
        for month in span.months():
            begun = (month.start - span.start) / timedelta(days=1)
            progress.update(bar, description=f"{month.start:%Y-%m}")

            def advance(share: float, begun: float = begun, month: Span = month) -> None:
                progress.update(bar, completed=begun + share * month.bars / DAY_BARS)

            months.append(prove(evidence(project.lake, project.config, month, symbols), advance))
    return [pooled(parts) for parts in zip(*months, strict=True)]


def _print(proofs: Sequence[Proof], as_json: bool) -> None:
    """One row for each proof, with its sentence below.

    Raises:
        CommandError: something differs; with the first difference.
    """
    rows: list[dict[str, Any]] = [
        {
            "proof": proof.name,
            "markets": sorted(proof.symbols),
            "compared": proof.cells,
            "differing": proof.differing,
            "result": proof.result,
        }
        for proof in proofs
    ]
    if as_json:
        more = [
            {
                "not_compared": proof.not_compared or None,
                "first_difference": proof.first.sentence if proof.first else None,
            }
            for proof in proofs
        ]
        print_rows([row | extra for row, extra in zip(rows, more, strict=True)], as_json)
    else:
        print_rows([row | {"markets": ", ".join(row["markets"]) or None} for row in rows], as_json, title="Proofs")
        for proof in proofs:
            out.print(f"  - {escape(proof.sentence)}", highlight=False, soft_wrap=True)
    broken = next((proof for proof in proofs if proof.first), None)
    if broken and broken.first:
        raise CommandError(f"{broken.name}: {broken.first.sentence}")
