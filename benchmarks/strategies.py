"""Did any of four strategies earn anything on recorded candles, and did a matrix of them?

`python -m benchmarks.strategies [SET ...] [--speed] [--json] [--out docs/evidence/strategies.md]`: the studies of `mm
strategies study` on the shared recordings, in one lake of its own, so that one ledger counts all that is tried here;
and two worked examples of docs/studies.md, one of which fails and one, on a planted market, passes. `--speed` times the
study beside a plain version in numpy and polars.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import planted
from benchmarks.shared import SHARED
from mm_dagster.bars import DAY_BARS, iso
from mm_dagster.pipeline.foreign import Named, named
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.strategies import Done, recorded, run_study
from mm_dagster.research.study_rows import Row
from mm_dagster.strategies.matrix import CELLS

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "studies"
LEAK = 0.25
"""Of the planted market: a quarter of a day's deviation is known the evening before."""


@dataclass(frozen=True)
class Set:
    """Recordings that are studied together.

    Attributes:
        title: for people.
        venue: folder of the recordings.
        file: of each market.
        settings: of strategies.yaml.
        own: an example in place of the four strategies.
        funding: folder of the rates.
    """

    title: str
    venue: str
    file: str
    settings: dict[str, Any]
    own: str | None = None
    funding: str | None = None


SPOT: dict[str, Any] = {"fee": 0.001, "half_spread_bp": 2.5}
SETS = {
    "kucoin": Set("KuCoin 2025, spot", "kucoin", "15m.parquet", SPOT),
    "kucoin-short": Set("KuCoin 2025, as if it could be sold short", "kucoin", "15m.parquet", {**SPOT, "short": True}),
    "binance22": Set("Binance 2022, spot", "binance", "5m_2022.parquet", SPOT),
    "perpetuals": Set(
        "Binance perpetuals 2023, long and short, with funding",
        "binance-perp",
        "5m_2023.parquet",
        {"fee": 0.0005, "half_spread_bp": 1.0, "short": True},
        funding="binance-perp",
    ),
    "dip": Set("An idea that fails: buy_the_dip on KuCoin 2025", "kucoin", "15m.parquet", SPOT, own="buy_the_dip"),
    "planted": Set(
        "An idea that passes: loud_evening where it is planted", "", "15m.parquet", SPOT, own="loud_evening"
    ),
    "quiet": Set("The same idea where nothing is planted", "", "15m.parquet", SPOT, own="loud_evening"),
}


def project_of(folder: Path, settings: dict[str, Any]) -> Project:
    """A project with these settings; the lake below `folder` is the same for all."""
    configuration = folder / "configuration"
    configuration.mkdir(exist_ok=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "BTC-USDT", "venue": "main"}]}
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    (configuration / "strategies.yaml").write_text(yaml.safe_dump(settings))
    return Project(str(configuration), str(folder / "data"))


def studied(name: str, folder: Path) -> Done:
    """One set, its trials in the ledger of the folder's lake."""
    one = SETS[name]
    project = project_of(folder, one.settings)
    candles = SHARED / "candles" / one.venue
    if not one.venue:
        candles = folder / name
        planted.write(planted.planted(LEAK if name == "planted" else 0.0, 260, 6, 1), candles)
    funding = SHARED / "funding" / one.funding if one.funding else None
    source = recorded(candles, one.file, [], funding, project.config, name, lambda said: None)
    own: Named | None = named(f"{EXAMPLES / one.own}.py:{one.own}") if one.own else None
    return run_study(project, source, None, own, f"python -m benchmarks.strategies {name}")


# the page -------------------------------------------------------------------------------------------------------------

TITLE = """# Did any strategy on candles earn anything?

Written by `python -m benchmarks.strategies --out docs/evidence/strategies.md`; the same question of the candles that
are stored is `mm strategies study`, and of an idea of your own [studies.md](../studies.md).
"""
BEFORE = """Figures are basis points of the capital a day, fees, half spread and funding taken off, with 95 % intervals
of blocks of 14 days. **on holding**: less what holding the strategy's mean exposure all the time earned. **on other
days**: less its own schedule begun on other days, 14 or more away. **on the placebo**: on holding, less the same on
three markets with random signs. **as good shifted**: share of the shifted schedules that earned as much. **not luck**:
probability of being better than the best of as many worthless ideas; it needs .95. Trials are those of the same days
in one ledger. Each market has equal capital; a market of its own has its figure on holding.
"""
CAVEATS = """## What this does not say

- **One year of one kind of market.** 14 KuCoin markets correlate above .7: they are hardly more than one. Blocks of 14
  days are few (20 in 281 days), and percentile intervals of so few are too short.
- **Shorts on KuCoin spot cannot be had**; the set is there because the strategies are usually written so.
- **Funding carry is not hedged by spot here**, since no set has both: what it earns in funding it risks in the price.
- **Fills are at the next open** at a half spread that is assumed. A size that moves the market costs more.
- Parameters are those of the sources, chosen before these candles were looked at, and none was fitted. That is what
  keeps the number of trials small; METHOD's earlier trials (four signals on three sets) are not in this ledger.
- The ledger counts ideas of the same days, not of the same market. Who tries ideas elsewhere and brings the best one is
  not seen by it.
"""


SIGNED = {"net", "over_holding", "over_shifted", "over_placebo", "sized", "staked"}


def cell(row: Row, digits: int = 1) -> str:
    """A figure with its interval."""
    if row.value is None:
        return "–"
    sign = "+" if row.metric in SIGNED else ""
    text, *ends = (f"{one:{sign}.{digits}f}" for one in (row.value, row.low, row.high) if one is not None)
    return f"{text} ({ends[0]} … {ends[1]})" if ends else text


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(name: str, done: Done) -> str:
    """A set as Markdown."""
    one, days = SETS[name], done.study.days
    by = {(row.strategy, row.symbol, row.metric): row for row in done.rows if row.period != "in_training"}
    names = [result.strategy for result in done.study.results]
    cost = 1e4 * one.settings["fee"] + one.settings["half_spread_bp"]
    lines = [
        f"## {one.title}",
        "",
        f"{len(done.study.symbols)} markets, {days.bars // DAY_BARS} days from {iso(days.start)[:10]} on; each side "
        f"costs {cost:g} basis points.",
        "",
        _together(names, by),
        "",
        _statistics(names, by),
    ]
    if one.venue:
        rows = [[symbol, *(_of_market(by, key, symbol) for key in names)] for symbol in done.study.symbols]
        lines += ["", "By market: net; on holding", "", table(["market", *names], rows)]
    if done.study.steps:
        lines += ["", _walk(done)]
    lines += [f"\n{name_} was not tried: {why}." for name_, why in done.study.without.items() if not one.own]
    lines += [""]
    for key, said in done.judged.items():
        lines.append(f"- **{key}** {'passes' if said.passes else 'does not pass: ' + '; '.join(said.refused)}.")
    return "\n".join(lines)


def _of_market(by: dict[tuple[str, str, str], Row], name: str, symbol: str) -> str:
    return f"{by[name, symbol, 'net'].value:+.1f}; {cell(by[name, symbol, 'over_holding'])}"


def _together(names: Sequence[str], by: dict[tuple[str, str, str], Row]) -> str:
    rows = []
    for name in names:
        of = {metric: by[name, "ALL", metric] for metric in ("p_shifted", "deflated", "trials")}
        rows.append(
            [
                name,
                *(cell(by[name, "ALL", metric]) for metric in ("net", "over_holding", "over_shifted", "over_placebo")),
                f"{100 * (of['p_shifted'].value or 0.0):.0f} %",
                f"{of['deflated'].value:.2f}",
                f"{of['trials'].value:.0f}",
            ]
        )
    headings = ["strategy", "net", "on holding", "on other days", "on the placebo", "as good shifted", "not luck"]
    return table([*headings, "trials"], rows)


def _statistics(names: Sequence[str], by: dict[tuple[str, str, str], Row]) -> str:
    shown = {
        "sharpe": 1, "sharpe_error_serial": 1, "sortino": 1, "calmar": 1, "max_drawdown": 2, "daily_shortfall_5pct": 1,
        "profit_factor": 2, "kelly": 1, "exposure": 2, "turnover": 2, "sized": 1, "staked": 1,
    }  # fmt: skip
    rows = [[name, *(cell(by[name, "ALL", metric], digits) for metric, digits in shown.items())] for name in names]
    return table(["strategy", *(metric.replace("_", " ") for metric in shown)], rows)


def _walk(done: Done) -> str:
    short = {None: "–", "trend_following": "trend", "mean_reversion": "reversion", "range_trading": "range"}
    rows = [
        [
            iso(step.test.start)[:7],
            *(short.get(one, "carry") for one in step.chosen),
            f"{1e4 * step.in_training:+.1f}",
            f"{1e4 * step.out_of_sample:+.1f}",
        ]
        for step in done.study.steps
    ]
    trained = sum(step.in_training for step in done.study.steps) / len(done.study.steps)
    found = next(row for row in done.rows if (row.strategy, row.symbol, row.metric) == ("matrix", "ALL", "net")
                 and row.period == "out_of_sample")  # fmt: skip
    words = [one.replace("_", " ").replace("/", ", ") for one in CELLS]
    return (
        f"The matrix: chosen on three months it made {1e4 * trained:+.1f} on them, and {cell(found)} in the month "
        "after.\n\n" + table(["month", *words, "in training", "after"], rows)
    )


def page(found: dict[str, Done], speed: str) -> str:
    """The chapter of the evidence."""
    own = {name: done for name, done in found.items() if not SETS[name].own}
    every = [(name, key, said) for name, done in own.items() for key, said in done.judged.items()]
    passing = [f"{key} on {SETS[name].title}" for name, key, said in every if said.passes]
    surely = sum(said.over_holding.high < 0 for _, _, said in every)
    above = sum(said.over_holding.low > 0 for _, _, said in every)
    verdict = (
        f"**{len(passing)} of {len(every)} pass the gate**"
        + (f": {', '.join(passing)}" if passing else "")
        + f". Against holding their mean exposure {above} earned surely more, and {surely} surely less."
    )
    parts = [TITLE, verdict, "", BEFORE, "\n\n".join(section(name, done) for name, done in found.items()), "", CAVEATS]
    return "\n".join([*parts, speed]).rstrip() + "\n"


def main() -> None:
    """Prints or writes what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.strategies", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("sets", nargs="*", metavar="set", help=f"{', '.join(SETS)}; default: all")
    parser.add_argument("--speed", action="store_true", help="beside a plain version in numpy and polars")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    parser.add_argument("--out", type=Path, help="where to write the chapter")
    given = parser.parse_args()
    if unknown := [name for name in given.sets if name not in SETS]:
        parser.error(f"there is no set {unknown[0]!r}; there are {', '.join(SETS)}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.sets or ([] if given.speed and not given.out else list(SETS)):
            begun = time.monotonic()
            found[name] = studied(name, Path(folder))
            print(f"{name} is studied in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    speed = ""
    if given.speed or given.out:
        from benchmarks.strategies_speed import compared

        speed = compared()
    if given.json:
        rows = [{"set": name, **row._asdict()} for name, done in found.items() for row in done.rows]
        print(json.dumps(rows, indent=1))
    elif given.out:
        given.out.write_text(page(found, speed))
    else:
        print("\n\n".join([*(section(name, done) for name, done in found.items()), speed]))


if __name__ == "__main__":
    main()
