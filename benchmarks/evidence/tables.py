"""The tables of the evidence, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.evidence.figures import ALL, HOLD, LATEST, MANDATORY, PROBABILITY, WARNING, Cells, Evidence
from benchmarks.shared import markdown
from mm_dagster.evaluation import quality
from mm_dagster.evaluation.chains import EXITS, FREE, GATED, Chained
from mm_dagster.evaluation.quality import PLACEBO
from mm_dagster.evaluation.signals import CONTROL, POLICIES, TRIGGER, Name

Columns = Sequence[tuple[str, str, int]]
"""Metric, heading and digits."""

OF_PROBABILITY: Columns = (
    ("base_rate", "base rate", 3),
    ("auc", "AUC", 3),
    ("brier_skill", "Brier skill", 3),
    ("ece", "calibration error", 3),
    ("log_loss_gain", "log loss gained on position", 3),
)
OF_ALARMS: Columns = (
    ("precision", "precision", 2),
    ("recall", "recall", 2),
    ("false_alarms_per_grid_week", "false/week", 2),
    ("lead_p50_hours", "lead p50, h", 1),
    ("lead_1h_share", "1 h ahead", 2),
)
OF_MONEY: Columns = (
    ("mean_equity", "mean equity", 2),
    ("shortfall_5pct", "worst 5 %", 2),
    ("hours_held", "hours held", 0),
    ("gain_vs_hold", "mean on holding", 2),
    ("shortfall_vs_hold", "worst 5 % on holding", 2),
    ("gain_vs_null", "mean on other dates", 2),
    ("shortfall_vs_null", "worst 5 % on other dates", 2),
    ("p_null", "p", 2),
)
AGAINST: Columns = (
    ("gain_vs_position", "mean on the lowest fifth", 2),
    ("shortfall_vs_position", "worst 5 % on it", 2),
    ("gain_vs_position_as_long", "mean on a place held as long", 2),
    ("shortfall_vs_position_as_long", "worst 5 % on it", 2),
    ("gain_vs_next_level", "mean on the next level", 2),
    ("shortfall_vs_next_level", "worst 5 % on it", 2),
)
OF_CHAINS: Columns = (
    ("growth_percent_per_week", "growth, which is the gain on cash", 2),
    ("gain_vs_hold", "on holding", 2),
    ("gain_vs_same_schedule", "on the same schedule at other dates", 2),
    ("gain_of_gate", "of the gate", 2),
)


def cell(cells: Cells, name: Name, metric: str, digits: int, interval: bool = True) -> str:
    """A figure with its interval."""
    value, low, high, _ = cells.get((*name, metric), (None, None, None, 0))
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return f"{text} ({low:.{digits}f} … {high:.{digits}f})" if interval and low is not None else text


def of_sets(sets: Mapping[str, Cells]) -> str:
    """The probability and the two levels before the last, a row a set, beside their controls."""
    rows = [
        [name, f"{cells[*HOLD, 'mean_equity'][3]:,}", *_figures(cells, PROBABILITY, OF_PROBABILITY)]
        for name, cells in sets.items()
    ]
    parts = [markdown(["set", "grids", *_headings(OF_PROBABILITY)], rows)]
    for level in (WARNING, LATEST):
        rows = [[name, *_figures(cells, level, OF_ALARMS)] for name, cells in sets.items()]
        parts.append(f"**{level[1]}**, its alarms:\n\n{markdown(['set', *_headings(OF_ALARMS)], rows)}")
        rows = []
        for name, cells in sets.items():
            rows.append([name, *_figures(cells, level, OF_MONEY), *_figures(cells, level, AGAINST)])
            if (placebo := (PLACEBO, level[1])) and (*placebo, "mean_equity") in cells:
                rows.append([f"{name}, placebo", *_figures(cells, placebo, OF_MONEY), *["–"] * len(AGAINST)])
        head = ["set", *_headings(OF_MONEY), *_headings(AGAINST)]
        parts.append(f"**{level[1]}**, money, percent of the capital:\n\n{markdown(head, rows)}")
    return "\n\n".join(parts)


def of_signals(cells: Cells) -> str:
    """Every signal beside every control."""
    names = list(dict.fromkeys((policy, signal) for policy, signal, _ in cells if signal != quality.PROBABILITY))
    order = [*POLICIES, TRIGGER, CONTROL, PLACEBO]
    names.sort(key=lambda name: order.index(name[0]))
    parts = []
    for title, columns in (
        ("Alarms", OF_ALARMS),
        ("Money, percent of the capital", OF_MONEY),
        ("Money against simpler ways to leave, percent of the capital", AGAINST),
    ):
        rows = [
            [" ".join(name), *_figures(cells, name, columns)]
            for name in names
            if any((*name, metric) in cells for metric, _, _ in columns)
        ]
        parts.append(f"**{title}**\n\n{markdown(['signal', *_headings(columns)], rows)}")
    return "\n\n".join(parts)


def of_markets(markets: Mapping[str, Cells]) -> str:
    """The main figures of each market of a set."""
    rows = []
    for symbol, cells in markets.items():
        rows.append(
            [
                symbol,
                f"{cells[*HOLD, 'mean_equity'][3]:,}",
                *(cell(cells, PROBABILITY, metric, 2) for metric in ("auc", "brier_skill")),
                *(cell(cells, WARNING, metric, 2) for metric in ("precision", "recall")),
                *(cell(cells, LATEST, metric, 2) for metric in ("precision", "recall")),
                cell(cells, LATEST, "lead_p50_hours", 1),
                cell(cells, WARNING, "gain_vs_next_level", 2),
                cell(cells, WARNING, "shortfall_vs_next_level", 2),
            ]
        )
    head = ["market", "grids", "AUC", "Brier skill", "W precision", "W recall", "L precision", "L recall"]
    return markdown([*head, "L lead p50, h", "W on L, mean", "W on L, worst 5 %"], rows)


def of_chains(found: Mapping[str, Sequence[Chained]]) -> str:
    """A row a set and chain."""
    rows = []
    for name, chains in found.items():
        known = {(one.exit, one.entry, one.metric): one for one in chains}
        for limit in EXITS:
            for entry in (FREE, GATED):
                figures = [known.get((limit, entry, metric)) for metric, _, _ in OF_CHAINS]
                grids = known[limit, entry, "gain_vs_cash"].n
                rows.append([name, f"{limit:.2f}", entry, f"{grids:,}", *map(chained, figures)])
    return markdown(["set", "left at", "opened", "grids", *_headings(OF_CHAINS)], rows)


def chained(one: Chained | None) -> str:
    """A figure of a chain with its interval."""
    if one is None or one.value is None:
        return "–"
    return f"{one.value:+.2f}" if one.low is None else f"{one.value:+.2f} ({one.low:+.2f} … {one.high:+.2f})"


def since(before: Mapping[str, Cells], now: Mapping[str, Cells]) -> str:
    """The main figures, before and now."""
    rows = [[name, *_arrows(cells, now[name], PROBABILITY, OF_PROBABILITY)] for name, cells in before.items()]
    parts = [markdown(["set", *_headings(OF_PROBABILITY)], rows)]
    early = (*OF_ALARMS, *OF_MONEY[:2], *OF_MONEY[3:5])
    rows = []
    for name, cells in before.items():
        for letter, level in (("W", WARNING), ("L", LATEST), ("M", MANDATORY)):
            rows.append([name, letter, *_arrows(cells, now[name], level, early)])
    parts.append(markdown(["set", "", *_headings(early)], rows))
    return "\n\n".join(parts)


def documents(found: Evidence, continuity: str, fragments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every document of tables: its name in the folder, and its text."""
    yield (
        "sets",
        f"# The figures by set\n\n{of_sets(found.sets)}\n\n**All six sets together**: AUC "
        f"{cell(found.together, PROBABILITY, 'auc', 3)}, Brier skill "
        f"{cell(found.together, PROBABILITY, 'brier_skill', 3)}, calibration error "
        f"{cell(found.together, PROBABILITY, 'ece', 3)}, log loss gained on position "
        f"{cell(found.together, PROBABILITY, 'log_loss_gain', 4)}.\n\n{of_signals(found.together)}\n\n"
        "# The part that was fitted on, and the part that was not\n\n" + of_sets(found.parts),
    )
    yield (
        "chains",
        "# Chains of grids\n\nPercent a week: a grid is left when the probability of a break below within 24 hours "
        "reaches the threshold, and the next one is opened at the first midnight after that, freely or only where its "
        "own probability is below the gate. Means over 14 first days; intervals as in [the page](../evidence.md).\n\n"
        + of_chains({ALL: found.chains[ALL], **found.chains}),
    )
    yield "continuity", f"# The continuity correction\n\n{continuity}"
    fresh = {name: cells for name, cells in found.before.items() if name in found.fresh}
    main = {name: cells for name, cells in found.before.items() if name in found.sets}
    yield (
        "before",
        "# Before and now\n\nBefore: without the continuity correction (k .74), thresholds .38, .15, .75, .25 and "
        "confirmations .36, .55, .70. Now: k .75, c .35 and .37, .15, .72, .24 and .35, .53, .67: the same moments, "
        "within rounding. W is WARNING, L LATEST_ACCEPTABLE_EXIT, M MANDATORY_EXIT.\n\n"
        f"{since(main, found.sets)}\n\n# Data on which nothing was chosen\n\n{since(fresh, found.fresh)}\n\n"
        f"{fragments['fresh']}\n\n{since(found.study, found.fresh)}",
    )
    for name, cells in found.sets.items():
        yield (
            slug(name),
            f"# {name}: every signal beside every control\n\n{of_signals(cells)}\n\n## By market\n\nW is WARNING, L is "
            f"LATEST_ACCEPTABLE_EXIT.\n\n{of_markets(found.markets[name])}",
        )
    for name in ("tried", "information", "ablation"):
        yield name, fragments[name]


def slug(name: str) -> str:
    """The name of a set's document."""
    return name.lower().replace(" ", "-")


def _headings(columns: Columns) -> list[str]:
    return [heading for _, heading, _ in columns]


def _figures(cells: Cells, name: Name, columns: Columns) -> list[str]:
    return [cell(cells, name, metric, digits) for metric, _, digits in columns]


def _arrows(before: Cells, now: Cells, name: Name, columns: Columns) -> list[str]:
    return [
        f"{cell(before, name, metric, digits, False)} → {cell(now, name, metric, digits, False)}"
        for metric, _, digits in columns
    ]
