"""An analyst with a DuckDB of his own, in a process of his own that knows no code of ours."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.history.lake import Commit, Lake, LakeError
from mm_dagster.history.questions import QUESTIONS
from mm_dagster.history.upkeep import one_thread
from mm_dagster.history.views import VIEWS
from mm_dagster_tests.history.samples import sample, times

START = datetime(2026, 6, 28, tzinfo=UTC)
COMMIT = Commit("run-1", "test", "a span")
NAMES = ("ETH-USDT", "SOL-USDT")

# What docs/analysis.md says, with the extensions from where they are installed, since tests have no network.
ANALYST = """
import sys
import duckdb

folder, *extensions = sys.argv[1:]
connection = duckdb.connect()
for path in extensions:
    connection.execute(f"LOAD '{path}'")
connection.execute(
    f"ATTACH 'ducklake:sqlite:{folder}/catalog.sqlite' AS history "
    f"(READ_ONLY, DATA_PATH '{folder}/files', OVERRIDE_DATA_PATH true)"
)
connection.execute("USE history; SET timezone = 'UTC'")
for line in sys.stdin:
    try:
        print(connection.execute(line).fetchall(), flush=True)
    except duckdb.Error as error:
        print(type(error).__name__, " ".join(str(error).split()), flush=True)
"""


def _extension(name: str, package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return f"{spec.submodule_search_locations[0]}/extensions/v{duckdb.__version__}/{name}.duckdb_extension"


EXTENSIONS = [
    _extension("ducklake", "duckdb_extension_ducklake"),
    _extension("sqlite_scanner", "duckdb_extension_sqlite_scanner"),
]


class Analyst:
    """A process that asks one query a line, and keeps its connection."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ANALYST, str(folder), *EXTENSIONS],
            cwd="/",
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, query: str) -> str:
        """The rows as Python would print them, or the error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(query.split()) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def leave(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "history")


@pytest.fixture
def analyst(lake: Lake, tmp_path: Path) -> Iterator[Analyst]:
    one = Analyst(tmp_path / "history")
    yield one
    one.leave()


def verdicts(lake: Lake, day: int, seed: int = 0) -> None:
    """A day of verdicts, in a file of its own."""
    first = START + timedelta(days=day)
    rows = sample("regime_verdict", times(first + BAR, 96), NAMES, seed)
    lake.write("regime_verdict", rows, span=Span(first, first + 96 * BAR), commit=COMMIT)


def test_any_client_reads_what_tables_columns_and_views_mean(analyst: Analyst) -> None:
    answer = analyst.ask("SELECT comment FROM duckdb_columns() WHERE table_name = 'candles' AND column_name = 'volume'")
    assert answer == "[('Traded volume, base currency; null when MISSING.',)]"
    answer = analyst.ask("SELECT comment FROM duckdb_tables() WHERE table_name = 'quarantine'")
    assert answer.startswith("[('Rows that a venue sent and that cannot be true,")
    for name, view in VIEWS.items():
        assert analyst.ask(f"SELECT comment FROM duckdb_views() WHERE view_name = '{name}'") == str([(view.comment,)])
    answer = analyst.ask("SELECT count(*) FROM duckdb_columns() WHERE database_name = 'history' AND comment IS NULL")
    columns = sum(len(view.columns) for view in VIEWS.values())
    # DuckLake has no place for comments on the columns of views; lake_schema has one column.
    assert answer == str([(columns + 1,)])
    asked = "SELECT meaning FROM data_dictionary WHERE name = 'state_change' AND column_name = 'from_hours'"
    assert analyst.ask(asked) == "[('How long the state before had lasted, hours.',)]"


@pytest.mark.slow
def test_any_client_may_ask_all_ten_questions_and_change_nothing(lake: Lake, analyst: Analyst) -> None:
    verdicts(lake, 0)
    for question in QUESTIONS:
        assert analyst.ask(question.query).startswith("["), question.asked
    assert "read-only" in analyst.ask("DELETE FROM regime_verdict")
    assert lake.read("regime_verdict").height == 2 * 96


@pytest.mark.slow
def test_an_open_transaction_blocks_no_writer_and_sees_what_it_saw_through_the_upkeep(
    lake: Lake, analyst: Analyst, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> set[Path]:
        return set((tmp_path / "history" / "files").rglob("*.parquet"))

    monkeypatch.setattr("mm_dagster.history.upkeep.READERS_SECONDS", 0.5)
    for day in range(3):
        verdicts(lake, day)
    everything = "SELECT count(*), round(sum(confidence), 9), max(as_of)::VARCHAR FROM regime_verdict"
    analyst.ask("BEGIN")
    before = analyst.ask(everything)
    assert before.startswith(f"[({3 * 2 * 96},")
    # Nothing was committed since he began, and yet he is seen.
    assert lake.maintain(keep_days=1)["postponed"] == 1
    assert analyst.ask(everything) == before
    verdicts(lake, 3)
    written = files()
    assert lake.maintain(keep_days=1)["postponed"] == 1
    assert analyst.ask(everything) == before
    assert files() == written
    analyst.ask("COMMIT")
    # An analyst who only stays connected is in nobody's way.
    assert analyst.ask(everything).startswith(f"[({4 * 2 * 96},")
    assert lake.maintain(keep_days=1)["postponed"] == 0
    assert not written & files()
    assert analyst.ask(everything).startswith(f"[({4 * 2 * 96},")


def test_the_past_can_be_asked_as_a_whole(lake: Lake) -> None:
    verdicts(lake, 0)
    then = lake.snapshots().row(-1, named=True)["snapshot_time"]
    verdicts(lake, 1)
    count = "SELECT count(*) FROM regime_share"
    assert _one(lake, "SELECT count(*) FROM regime_verdict", then) == 2 * 96
    assert _one(lake, "SELECT sum(bars) FROM regime_share", then) == 2 * 96
    assert _one(lake, "SELECT sum(bars) FROM regime_share", None) == 4 * 96
    with pytest.raises(LakeError, match=r"nothing is kept of 2020-01-01T00:00:00Z; the oldest time .* is 20"):
        _one(lake, count, datetime(2020, 1, 1, tzinfo=UTC))


def _one(lake: Lake, query: str, at: datetime | None) -> Any:
    (_, part) = lake.stream(query, at=at)
    return part.item()


def test_a_stream_brings_the_same_rows_as_one_answer(lake: Lake) -> None:
    verdicts(lake, 0)
    query = "SELECT range AS number, [range, NULL] AS list FROM range(300_000)"
    parts = list(lake.stream(query))
    assert [part.height for part in parts] == [0, 122_880, 122_880, 54_240]
    assert parts[0].schema == lake.sql(query).schema
    assert [part["number"][-1] for part in parts[1:]] == [122_879, 245_759, 299_999]
    for wrong in ("DELETE FROM tick", "FROM nowhere", "SELECT INTERVAL 1 DAY AS day", "FROM tick a, tick b"):
        with pytest.raises(LakeError):
            list(lake.stream(wrong))


def _with_rows_of_two_versions(lake: Lake) -> None:
    """Small commits before and after a table gained a column: DuckLake keeps them in two tables of its own."""
    for day, column in ((0, "extra"), (1, "more")):
        first = START + timedelta(days=day)
        rows = sample("regime_verdict", times(first + BAR, 3), NAMES)
        lake.upsert("regime_verdict", rows, commit=COMMIT)
        with lake.sessions.writing() as connection:
            connection.execute(f"ALTER TABLE regime_verdict ADD COLUMN {column} BIGINT")
    lake.upsert("regime_verdict", sample("regime_verdict", times(START + timedelta(days=2), 3), NAMES), commit=COMMIT)


@pytest.mark.parametrize(
    "how",
    [
        "read",
        "stream",
        pytest.param("sql", marks=pytest.mark.long),
        pytest.param("newest", marks=pytest.mark.long),
        pytest.param("check", marks=pytest.mark.long),
    ],
)
def test_a_reader_whose_tables_of_small_commits_the_upkeep_dropped_opens_anew(
    lake: Lake, tmp_path: Path, how: str
) -> None:
    _with_rows_of_two_versions(lake)
    reader = Lake(tmp_path / "history")
    ask = {
        "read": lambda: reader.read("regime_verdict").height,
        "sql": lambda: reader.sql("SELECT count(*) FROM regime_verdict").item(),
        "stream": lambda: sum(part.height for part in reader.stream("FROM regime_verdict")),
        "newest": lambda: len(reader.newest("regime_verdict")) * 9,
        "check": lambda: int(reader.check().split()[1]),
    }[how]
    assert ask() == 18
    old = reader.sessions._reader
    with lake.sessions.writing() as connection, one_thread(connection):
        connection.execute("CALL ducklake_flush_inlined_data('history')")
    assert ask() == 18
    assert how == "stream" or reader.sessions._reader is not old


def test_a_stream_that_falls_behind_begins_anew_and_once_it_gave_rows_says_so(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts(lake, 0)
    behind = duckdb.CatalogException("Table with name ducklake_inlined_data_2_2 does not exist!")
    given: list[int] = []

    def parts(connection: Any, query: str) -> Iterator[Any]:
        rows = connection.execute(query).pl()
        given.append(1)
        if len(given) == 1:
            raise behind
        yield rows.head(0)
        yield rows
        if len(given) > 2:
            raise behind

    monkeypatch.setattr("mm_dagster.history.lake.parts", parts)
    assert sum(part.height for part in lake.stream("FROM regime_verdict")) == 2 * 96
    assert len(given) == 2
    with pytest.raises(LakeError, match="the upkeep moved rows while they were read; ask again"):
        list(lake.stream("FROM regime_verdict"))
