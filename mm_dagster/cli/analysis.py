"""docs/analysis.md, written from the views and the questions: `python -m mm_dagster.cli.analysis`.

The answers are those of the lake that the environment names; `make docs` fills one with the demo first.
"""

from __future__ import annotations

import sys

from mm_dagster.cli.app import out, project_here
from mm_dagster.cli.printing import print_frame
from mm_dagster.history.lake import Lake
from mm_dagster.history.questions import QUESTIONS, Question
from mm_dagster.history.views import VIEWS
from mm_dagster.tables import registry

_INTRODUCTION = """\
# The history, for analysts

Written by `make docs` from `mm_dagster/history/views.py` and `questions.py`.

The history is a DuckLake: Parquet files and a SQLite catalogue under `data/history`. Whoever reads it waits for nobody,
and nobody waits for him; each query sees whole commits only. All times are UTC; prices and money are in quote currency,
percentages in percent, shares and probabilities are fractions. Null means "not known", never zero.

## Connecting

`mm sql` needs nothing but the environment of every other command:

```sh
mm sql                                             # which tables and views there are
mm sql "FROM state_now"
mm sql "FROM data_dictionary WHERE name = 'state_change'"          # what each column means, with its unit
mm sql --file week.sql --format csv | head         # or a query from stdin: mm sql -
mm sql "FROM candle_verdict WHERE symbol = 'ETH-USDT'" --out eth.parquet
mm sql --at 2026-06-20T12:00Z "FROM state_now"     # as it was stored then
```

| format | times | lists and structs | null | infinity, NaN | size |
| --- | --- | --- | --- | --- | --- |
| `table` (default) | ISO 8601 UTC, seconds | a line each | – | inf, nan | the first 1,000 rows |
| `csv` | ISO 8601 UTC with Z, microseconds | JSON | nothing (an empty text is `""`) | `inf`, `NaN` | streams |
| `json`, `--json` | ISO 8601 UTC with Z, seconds | as they are | `null` | text, `"inf"` | streams, a row a line |
| `parquet` | microseconds, UTC | as they are | as they are | as they are | streams |

`--out` takes the format from the suffix. The file is there when all of it is written, and not before: Ctrl-C leaves
what was there.

`mm sql` and `Lake.sql` ask the history and nothing else: one SELECT, FROM, SHOW or DESCRIBE over its tables and views
by functions that only compute. What reads files, other databases, the environment or DuckDB's own settings is refused
with what to write instead, and so are the functions of extensions. For a join with a file of your own use any DuckDB.

Any DuckDB 1.5 does as well: its shell, Python, R, Java, a notebook, a dashboard. Tables, views and columns of tables
carry comments (`duckdb_tables()`, `duckdb_views()`, `duckdb_columns()`):

```sql
INSTALL ducklake; INSTALL sqlite; LOAD ducklake; LOAD sqlite;
ATTACH 'ducklake:sqlite:data/history/catalog.sqlite' AS history
    (READ_ONLY, DATA_PATH 'data/history/files', OVERRIDE_DATA_PATH true);
USE history; SET timezone = 'UTC';
FROM state_now;
```

`DATA_PATH` says where the files are now, since the catalogue remembers where they once were. In Python or a notebook
`connection.sql("FROM pnl_by_day").pl()` is a polars frame and `.df()` one of pandas. With this package beside it:

```python
from pathlib import Path
from mm_dagster.history.lake import Lake

lake = Lake(Path("data/history"))
states = lake.sql("FROM state_change WHERE grid_id = 'eth-range'")  # a polars frame
week = lake.read("regime_features", symbols=["ETH-USDT"])  # typed as in mm_dagster/tables/
```

Ask for the columns and the time that you need: `as_of` and `open_time` decide which files are read (one a table and
month), `symbol` and `grid_id` which parts of them. Write times in full, `'2026-06-01T00:00:00Z'`: without the zone they
are read in the zone of your session.
"""

_THEN = """\
## What did we know then?

Every commit is kept for `keep_snapshots_days` of history.yaml. Within it any query can be asked of the past:
`mm sql --at 2026-06-20T12:00Z "..."`, or in any client one table of it, or the whole lake:

```sql
SELECT * FROM exit_state AT (TIMESTAMP => TIMESTAMPTZ '2026-06-20 12:00:00Z');
ATTACH 'ducklake:sqlite:data/history/catalog.sqlite' AS june
    (READ_ONLY, DATA_PATH 'data/history/files', OVERRIDE_DATA_PATH true, SNAPSHOT_TIME '2026-06-20T12:00:00Z');
SELECT snapshot_time, commit_message FROM history.snapshots() ORDER BY snapshot_id DESC LIMIT 10;   -- who wrote what
```

The time is that of the commit, not of the bar: a row of May that was backfilled in June is not there in a lake of May.
`candle_verdict.known_after_minutes` says how long after its close a candle was known, and `data_quality.late` counts
those that came late.

## Nobody waits

Readers take no lock. A writer that commits waits for no reader, and a query sees the lake as it was when it began.

Only the nightly upkeep, which merges files and deletes the old ones, looks whether a transaction is open (a query that
still runs, a `BEGIN` without its end, a result that was not read to its end; being attached is none). It waits for a
minute, while others write, and then leaves the files as they are until the next night. So end what you begin: as long
as a transaction is open, files and the catalogue's journal (`catalog.sqlite-wal`) grow; the upkeep says `postponed`.
A query that begins in the very milliseconds in which the upkeep commits may miss files and answer with too few rows;
the pipeline itself does nothing then. A snapshot is gone after `keep_snapshots_days`, open transaction or not.

Whoever may write to the folder could attach without `READ_ONLY` and change the history. Where that matters, give
analysts an account of their own that may not.
"""


def document(lake: Lake) -> str:
    """All of docs/analysis.md, with the answers of a lake."""
    lines = [_INTRODUCTION, "## What there is", ""]
    lines += ["| table | one row |", "| --- | --- |"]
    lines += [f"| `{name}` | {' '.join((schema.__doc__ or '').split())} |" for name, schema in registry.TABLES.items()]
    lines += ["", "Columns, units and rules stand in `mm_dagster/tables/`, and in the view `data_dictionary`.", ""]
    lines += ["| view | one row | columns |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {view.about} | {', '.join(view.columns)} |" for name, view in VIEWS.items()]
    lines += ["", "## Ten questions", ""]
    lines += ["The answers are those of `make demo`: **SIMULATED** markets, the same for everybody.", ""]
    for number, question in enumerate(QUESTIONS, start=1):
        lines += [*asked(number, question), "", "```text", _answer(lake, question), "```", ""]
    return "\n".join([*lines, _THEN])


def asked(number: int, question: Question) -> list[str]:
    """The part of a question that no lake changes."""
    return [f"### {number}. {question.asked}", "", question.answer, "", "```sql", question.query, "```"]


def _answer(lake: Lake, question: Question) -> str:
    with out.capture() as captured:
        print_frame(lake.sql(question.query), as_json=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")


if __name__ == "__main__":
    sys.stdout.write(document(project_here().lake))
