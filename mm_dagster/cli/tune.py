"""For the engineer: better thresholds, proposed and judged on what came after; nothing is switched."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer

from mm_dagster.bars import BAR, Span, iso, midnight
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import configured, whole_days
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.text import number_text

if TYPE_CHECKING:
    from mm_dagster.research.tuning import Proposal

PANEL = "Keep it well"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm tune --study spring --trials 40`, the same with `--trials 80` goes on, "
    "`mm tune --study verdict --trials 40 --keys regime --symbols ETH-USDT,BTC-USDT`, "
    "`mm tune --study likely --trials 30 --keys exit.thresholds.break_likely,exit.persist "
    "--from 2025-01-01 --to 2025-12-31 --json`",
)
def tune(
    study: Annotated[str, typer.Option(help="A name of your own; the same name goes on where it stopped.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials on each past in the end, earlier runs' included.")],
    first: Annotated[
        str | None, typer.Option("--from", help="First day, UTC; default: the first that can be judged.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, UTC; default: the last that is whole.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Markets, with commas; default: all.")] = None,
    keys: Annotated[
        str | None, typer.Option(help="exit, risk, regime, all, or keys with commas; default: exit.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of a false alarm, in breaks caught in time; default: 0.5.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search better thresholds on the past, and judge them on what came after. It proposes; it switches nothing."""
    from filelock import FileLock, Timeout

    from mm_dagster.evaluation.evaluate import HISTORY_BARS
    from mm_dagster.research import space, tuning, worth

    if not NAME.fullmatch(study):
        raise CommandError(f"--study {study!r}: use letters, digits, - and _, like spring-2026")
    project = project_here()
    folder = project.data / "tuning" / study
    folder.mkdir(parents=True, exist_ok=True)
    before = tuning.stands_on(folder)
    # A study that goes on keeps what was chosen when it began.
    if before and first is None and last is None:
        first, last = before["days"].split(" to ")
    chosen = configured(symbols or before.get("symbols"))
    try:
        wanted = space.keys_of(keys or before.get("keys", "exit"))
        cost = price if price is not None else float(before.get("price", worth.PRICE))
        days = _days(project.lake, chosen, first, last, HISTORY_BARS)
        worth.folds(days, project.config.evaluation.life_days)
        with FileLock(folder / "lock", timeout=0):
            grounds = _prepared(project, chosen, days)
            proposal = _searched(study, folder, grounds, days, project.config, wanted, trials, cost)
    except space.TuningError as error:
        raise CommandError(str(error)) from None
    except Timeout:
        raise CommandError(f"--study {study}: is being searched by another process; wait for it") from None
    written = _write(folder, study, proposal, Path(project.config_dir))
    _print(study, proposal, written, as_json)


def _days(lake: Any, symbols: list[str], first: str | None, last: str | None, lead: int) -> Span:
    newest = {symbol: time for symbol, time in lake.newest("candles").items() if symbol in symbols}
    if not newest:
        raise CommandError(f"no candle of {', '.join(symbols)} is stored; `mm backfill --from DAY` reads them")
    if first is None:
        oldest = lake.read("candles", symbols=symbols, columns=["open_time"])["open_time"].min()
        first = iso(midnight((oldest + lead * BAR).date() + timedelta(days=1)))[:10]
    # The newest candle closes the last whole day, or lies in a day that is not over.
    whole = midnight((max(newest.values()) + BAR).date())
    if last is None:
        last = iso(whole - timedelta(days=1))[:10]
    days = whole_days(first, last)
    if days.end > whole:
        raise CommandError(
            f"--to {last}: candles are stored until {iso(whole - timedelta(days=1))[:10]}; choose that, or "
            "`mm backfill` the rest"
        )
    return days


def _prepared(project: Any, symbols: list[str], days: Span) -> list[Any]:
    from mm_dagster.evaluation.evaluate import HISTORY_BARS
    from mm_dagster.research import worth

    lake = project.lake
    span = days.back(HISTORY_BARS)

    def candles(symbol: str) -> pl.DataFrame:
        found: pl.DataFrame = lake.read("candles", span=span, symbols=[symbol])
        return found

    grounds: list[Any] = []
    with days_done("prepare", unit="markets", transient=True) as bar:
        task = bar.add_task("", total=len(symbols))
        for symbol in symbols:
            bar.update(task, description=symbol)
            grounds += worth.prepare([symbol], candles, days, project.config)
            bar.advance(task)
    return grounds


def _searched(
    study: str, folder: Path, grounds: list[Any], days: Span, config: Any, keys: Any, trials: int, price: float
) -> Proposal:
    from mm_dagster.research import tuning, worth

    with days_done("tune", unit="trials") as bar:
        task = bar.add_task("", total=worth.BLOCKS * trials)

        def progress(fold: int, done: int, best: float) -> None:
            what = f"best {best:+.3f}"
            bar.update(task, completed=fold * trials + done, description=what)

        return tuning.tune(study, folder, grounds, days, config, keys, trials, price, progress)


def _write(folder: Path, study: str, proposal: Proposal, configuration: Path) -> list[Path]:
    """The proposal as files below the data folder; the configuration is only read."""
    from mm_dagster.research.difference import changed

    by_file: dict[str, dict[str, float]] = {}
    for path, value in proposal.changed.items():
        file, _, key = path.partition(".")
        by_file.setdefault(file, {})[key] = value
    for old in folder.glob("*.diff"):
        old.unlink()
    lines = [
        f"# Study {study}, proposed {iso(datetime.now(UTC))[:16]}Z. Nothing is switched; copy what convinces.",
        f"# {proposal.verdict}",
    ]
    written = [folder / "proposal.yaml"]
    for file, values in by_file.items():
        lines += [f"# {file}.yaml", *(f"# {line}" for line in _was(file, values, proposal.current))]
        lines += [changed("", values).rstrip(), ""]
        name = f"{file}.yaml"
        source = configuration / name
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        difference = difflib.unified_diff(
            text.splitlines(keepends=True), changed(text, values).splitlines(keepends=True), name, f"{name} (proposed)"
        )
        written.append(folder / f"{name}.diff")
        written[-1].write_text("".join(difference), encoding="utf-8")
    written[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return written


def _was(file: str, values: Mapping[str, float], current: Mapping[str, float]) -> list[str]:
    return [f"{key}: {number_text(current[f'{file}.{key}'])} -> {number_text(value)}" for key, value in values.items()]


def _print(study: str, proposal: Proposal, written: list[Path], as_json: bool) -> None:
    keys: list[dict[str, Any]] = [
        {
            "key": path,
            "current": proposal.current[path],
            "proposed": value,
            "by_past": [values[path] for values in proposal.by_fold],
        }
        for path, value in proposal.proposed.items()
    ]
    deflation = {
        "study": study,
        "tried": proposal.tried,
        "ratio": proposal.ratio,
        "luck": proposal.luck,
        "deflated_probability": proposal.deflated,
        "out_of_sample_probability": proposal.real,
        "proven": proposal.proven,
        "verdict": proposal.verdict,
    }
    figures = proposal.figures.rows(named=True)
    if as_json:
        rows = [
            *({"kind": "key", **row} for row in keys),
            *({"kind": "figure", **row} for row in figures),
            {"kind": "deflation", **deflation, "files": [str(path) for path in written]},
        ]
        print_rows(rows, as_json=True)
        return
    print_rows(
        [
            {**row, "by_past": "  ".join(number_text(value) for value in row["by_past"])}
            for row in keys
            if set(row["by_past"]) != {row["current"]}
        ]
        or [{"key": "none", "current": None, "proposed": None, "by_past": "no search found anything better"}],
        as_json=False,
        title="Keys that a search changed; by past, the shortest first",
    )
    _print_figures(figures)
    print_rows(
        [
            {"deflation": "sets of values tried on the longest past", "value": proposal.tried},
            {"deflation": "edge to noise in sample, by block of 2 weeks", "value": proposal.ratio},
            {"deflation": "that of the best of so many by luck alone", "value": proposal.luck},
            {"deflation": "probability that the true one is above that", "value": proposal.deflated},
            {"deflation": "probability that the edge out of sample is real", "value": proposal.real},
        ],
        as_json=False,
    )
    out.print(f"[bold]{proposal.verdict}[/]", highlight=False, soft_wrap=True)
    for path in written:
        err.print(f"written: {path}", highlight=False, soft_wrap=True)
    err.print("nothing is switched: a person copies what convinces", highlight=False)


def _print_figures(figures: list[dict[str, Any]]) -> None:
    """A table for each part of the days: what each signal did as it is and as it is proposed."""
    for part in dict.fromkeys(row["part"] for row in figures):
        of_part = [row for row in figures if row["part"] == part]
        print_rows(
            [
                {
                    "signal": row["signal"],
                    "metric": row["metric"].replace("_per_", " / ").replace("_", " "),
                    "current": _with_interval(row["current"], row["current_low"], row["current_high"]),
                    "proposed": _with_interval(row["proposed"], row["proposed_low"], row["proposed_high"]),
                    "difference": _with_interval(row["difference"], row["low"], row["high"], "+.3f"),
                }
                for row in of_part
            ],
            as_json=False,
            title=f"{part.capitalize()}, {of_part[0]['grids']:,} grids",
        )


def _with_interval(value: float | None, low: float | None, high: float | None, form: str = ".2f") -> str:
    if value is None:
        return "–"
    shown = f"{value:{form}}"
    return shown if low is None or high is None else f"{shown} [{low:{form}}, {high:{form}}]"
