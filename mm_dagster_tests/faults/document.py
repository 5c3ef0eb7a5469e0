"""docs/reliability.md, from the results of one run; nothing stands there that it did not measure."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence

from mm_dagster_tests.faults.judge import Result

_INSIDE = "Likewise: a price that is false by little, or the price of a bar before, contradicts nothing."
_NO_CHECKSUMS = (
    "DuckDB writes Parquet without checksums: a value in which a byte flips is read as another value. The upkeep of "
    "the next night compares every file with what was written, leaves everything as it is, and names the file "
    "(docs/operations.md)."
)

ACCEPTED: tuple[tuple[str, str, str], ...] = (
    (
        "Pushover: taken,",
        "doubled alerts",
        "A message that Pushover took without saying so cannot be told from one that was lost. It is repeated once. A "
        "doubled emergency is the accepted price; a lost one is not.",
    ),
    (
        "tick: SIG",
        "doubled alerts",
        "A process that dies after Pushover took a message and before that was noted sends it once more.",
    ),
    (
        "send: SIG",
        "doubled alerts",
        "Likewise.",
    ),
    (
        "candles: one byte changed",
        "false alerts",
        "A false price inside the bounds that a real market reaches (docs/alerts.md) rings: nothing in the answer "
        "contradicts it. It is corrected, and the correction told, once the exchange says otherwise.",
    ),
    ("candles: shifted by", "false alerts", _INSIDE),
    ("candles: odd values anywhere", "false alerts", _INSIDE),
    ("ticker: another market's", "false alerts", "Likewise, where the other market's price lies so near."),
    (
        "candles: old prices under new times",
        "bits that differ",
        "At the first tick of a market nothing vouches for an answer: prices of another time that join on to what "
        "follows are stored as they came. `mm backfill --again` asks for them anew, and notes what changes.",
    ),
    ("Parquet: a byte flipped", "bits that differ", _NO_CHECKSUMS),
    ("Parquet: a sector zeroed", "bits that differ", _NO_CHECKSUMS),
)  # fmt: skip
"""Kind (how it begins), measure, and why it may be other than 0. Everything else fails the run."""

COLUMNS = {
    "lost rows": "rows of the undisturbed run that are absent, known bars that became MISSING, and deleted files, "
    "after the next healthy ticks",
    "lost alerts": "escalations above WARNING that were due and did not reach the phone",
    "doubled alerts": "messages that reached it more often than without the fault",
    "false alerts": "messages about a grid that the undisturbed run never sends",
    "torn reads": "answers to a reader beside it that were half of something, or an error",
    "bits that differ": "rows that are not the same to the bit as those of an undisturbed run (without what only a "
    "live run knows)",
    "not foreseen": "errors that are not one of the product's own lines, hangs, deaths, and litter",
    "healed later": "trials that were right again, but not yet at the first healthy tick",
    "another meaning": "files torn at a place where what is left is valid, and says something else: nothing can know "
    "that it was not meant; a grid that is changed so is refused until it has a new activated_at",
}

TEXT = """# Reliability: what faults did

Written by `make test-faults OUT=docs/reliability.md`; do not edit. {trials} faults were injected in {minutes:.0f}
minutes, {at_once} at a time, on {machine} (Python {python}), by an exchange, a Pushover and killers that are used for
nothing
else (`mm_dagster_tests/faults`); their seeds are fixed. {left}{market}

Each trial begins with a project that works, spoils one thing, lets a tick and the sending of alerts go on, takes the
fault away, and ticks on. Then every row and every message is compared with those of a run that nothing
disturbed. Most faults meet a tick at which an emergency is due, so that a lost one shows.

A few need what the sensor asks for beside the ticks, too: days that a tick does not reach are computed again. Those
count as healed later.

- **Answers of the exchange** (candles, ticker, clock, markets, everything): the first answer of a tick, one of its
  first four, or all of one or two ticks are lies; at {moments} moments. Twelve markets meet twelve lies at once, two
  more none:
  nothing may happen to those.
- **SIGKILL and SIGTERM** (tick, send, backfill, backup, restore, upkeep): at a random line of Python, at a random
  system event (opening, connecting, renaming), or at a random time, while another process reads.
- **Files** (catalogue, Parquet, last valid configuration): spoiled at a random place. What is refused is put right as
  the refusal says, from a copy.
- **Disk**: every write beyond a size fails, as on a full disk; a read-only mount.
- **Two writers**: two processes make the same tick, while a third reads.
- **Git**: the mirror's own files spoiled as a power loss does, and a remote that is rewritten, gone, or hostile.
- **Pushover**: not answered, refused, garbled; once, three times, or for as long as it is tried.
- **Configuration**: torn, flipped or filled with oddities at any byte; and what editors and sync clients leave.
- **Time**: ticks late, missing, in the past, again; the end of a year, leap days, the clocks' changes, 2038. The rows
  are those of a single tick at the end.

{table}

{columns}

## What is not 0, and why
{accepted}
"""


def accepted(result: Result) -> Counter[str]:
    """What of a trial the document allows."""
    allowed: Counter[str] = Counter()
    for kind, measure, _ in ACCEPTED:
        if result.kind.startswith(kind):
            count = result.counts[measure]
            # Doubled once: more than that is no repetition.
            allowed[measure] = min(1, count) if measure == "doubled alerts" else count
    return allowed


def document(results: Sequence[Result], minutes: float, at_once: int, left: int, table: str) -> str:
    """The whole file."""
    from mm_dagster_tests.faults.exchange import shared_data
    from mm_dagster_tests.faults.venue import MOMENTS

    found: Counter[tuple[str, str]] = Counter()
    for result in results:
        for kind, measure, _ in ACCEPTED:
            if result.kind.startswith(kind):
                found[kind, measure] += accepted(result)[measure]
    said = [
        f"- **{kind.rstrip(',')}... {measure}: {found[kind, measure]}.** {why}"
        for kind, measure, why in ACCEPTED
        if found[kind, measure]
    ]
    rest: Counter[str] = Counter()
    for result in results:
        rest.update({name: count for name, count in (result.counts - accepted(result)).items() if name not in FORGIVEN})
    said += [
        f"- **{name}: {count} more, which nothing excuses.** They are faults of the product."
        for name, count in rest.items()
    ]
    return TEXT.format(
        trials=f"{len(results):,}",
        minutes=minutes,
        at_once=at_once,
        machine=f"{os.cpu_count()} cores",
        python=platform.python_version(),
        left=f"{left} tasks were not begun when the time was over. " if left else "",
        market="The markets are KuCoin's of 2025."
        if shared_data()
        else "The markets are seeded walks, since the recordings were not there.",
        moments=len(MOMENTS),
        table=table,
        columns="\n".join(f"- {name}: {what}." for name, what in COLUMNS.items()),
        accepted="\n".join(["", *said]) if said else "\nNothing.",
    )


FORGIVEN = ("healed later", "another meaning")
"""What is written down and is no failure."""
