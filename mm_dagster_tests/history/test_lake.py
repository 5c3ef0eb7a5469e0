"""The lake keeps what it was given, gives it back to the bit, and changes only what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, Span
from mm_dagster.history.catalog import SqliteCatalog
from mm_dagster.history.connection import proven
from mm_dagster.history.lake import Commit, Lake, LakeError, Written
from mm_dagster.history.reader import Answer, Reader
from mm_dagster.history.sessions import Sessions
from mm_dagster.tables import registry
from mm_dagster_tests.history.samples import sample, times
from mm_dagster_tests.lakes import as_the_program_does

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 31, 22, tzinfo=UTC)
"""Two hours before a month ends: spans and partitions meet here."""
COMMIT = Commit("run-1", "test", "a span")
FULL = {table: sample(table, times(START, 40)) for table in registry.TABLES}
TIMED = [table for table in registry.TABLES if registry.time_column(table)]


@pytest.fixture(scope="session")
def new_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a lake that was just made; copied, since making one costs half a second."""
    folder = tmp_path_factory.mktemp("new") / "history"
    with as_the_program_does():
        Lake(folder)
    return folder


@pytest.fixture
def lake(tmp_path: Path, new_lake: Path) -> Lake:
    shutil.copytree(new_lake, tmp_path / "history")
    return Lake(tmp_path / "history")


@pytest.fixture(scope="module")
def quiet(new_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake in which nothing is ever written."""
    return Lake(shutil.copytree(new_lake, tmp_path_factory.mktemp("quiet") / "history"))


@pytest.fixture(scope="module")
def busy(new_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that several tests write to, each to bars or symbols of its own."""
    return Lake(shutil.copytree(new_lake, tmp_path_factory.mktemp("busy") / "history"))


@pytest.fixture(scope="module")
def full(new_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with FULL in every table, given in no order."""
    lake = Lake(shutil.copytree(new_lake, tmp_path_factory.mktemp("full") / "history"))
    for table, rows in FULL.items():
        assert lake.upsert(table, rows.sample(fraction=1, shuffle=True, seed=1), commit=COMMIT).inserted == rows.height
    return lake


@pytest.fixture(scope="module")
def asked(new_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Path]:
    """A lake with rows in a file and in the catalogue, and its folder: for queries that must change nothing."""
    folder = shutil.copytree(new_lake, tmp_path_factory.mktemp("asked") / "history")
    lake = Lake(folder)
    lake.upsert("regime_verdict", verdicts(0, 96), commit=COMMIT)
    lake.upsert("regime_verdict", verdicts(96, 1), commit=COMMIT)
    return lake, folder


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def span(first: int, bars: int) -> Span:
    return Span(START + first * BAR, START + (first + bars) * BAR)


def verdicts(first: int, bars: int, *symbols: str, seed: int = 0) -> pl.DataFrame:
    """Verdicts of the bars that open in span(first, bars)."""
    return sample("regime_verdict", times(START + (first + 1) * BAR, bars), symbols or ("ETH-USDT",), seed)


# tables ---------------------------------------------------------------------------------------------------------------


def test_a_new_lake_has_every_table_empty_and_typed(quiet: Lake) -> None:
    for table in registry.TABLES:
        assert_frame_equal(quiet.read(table), registry.empty(table))


@pytest.mark.parametrize("table", registry.TABLES)
def test_every_row_comes_back_to_the_bit_and_sorted_by_key(full: Lake, table: str) -> None:
    assert_frame_equal(full.read(table), FULL[table], check_exact=True)
    assert full.upsert(table, FULL[table], commit=COMMIT) == Written(0, 0, FULL[table].height)


def test_the_upkeep_moves_rows_into_files_and_changes_none(full: Lake) -> None:
    full.maintain(keep_days=30)
    for table, rows in FULL.items():
        assert_frame_equal(full.read(table), rows, check_exact=True)


def test_columns_have_the_order_asked_for_and_rows_that_of_the_key(full: Lake) -> None:
    names = ["confidence", "verdict"]
    assert_frame_equal(full.read("regime_verdict", columns=names), FULL["regime_verdict"].select(names))


def test_tables_say_what_they_and_their_columns_mean(quiet: Lake) -> None:
    comments = quiet.sql(
        "SELECT comment FROM duckdb_columns() WHERE table_name = 'exit_state' AND column_name = 'since'"
    )
    assert comments.item() == "as_of at which the present state was entered; null: not judged yet; UTC."


def test_an_older_lake_gains_new_tables_and_columns_by_itself(tmp_path: Path) -> None:
    rows = sample("exit_state", times(START, 3))
    older = Lake(tmp_path / "history")
    older.upsert("exit_state", rows, commit=COMMIT)
    with older.sessions.writing() as connection:
        connection.execute("ALTER TABLE exit_state DROP COLUMN triggers")
        connection.execute("ALTER TABLE exit_state DROP COLUMN live_reason")
        connection.execute("DROP TABLE tick")
    lake = Lake(tmp_path / "history")
    assert lake.read("tick").height == 0
    null = {name: pl.lit(None).cast(registry.dtypes("exit_state")[name]) for name in ("triggers", "live_reason")}
    assert_frame_equal(lake.read("exit_state"), rows.with_columns(**null))
    assert lake.upsert("exit_state", rows, commit=COMMIT).inserted == rows.height
    assert_frame_equal(lake.read("exit_state"), rows)


def test_a_lake_of_a_newer_program_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SCHEMA_VERSION", registry.SCHEMA_VERSION + 1)
    Lake(tmp_path / "history")
    monkeypatch.undo()
    with pytest.raises(LakeError, match=r"newer program .* update mm_dagster"):
        Lake(tmp_path / "history")


def test_a_broken_catalogue_is_one_line_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "catalog.sqlite").write_bytes(b"no database at all" * 1000)
    with pytest.raises(LakeError, match=f"{tmp_path}/history: .*not a database") as raised:
        Lake(tmp_path / "history")
    assert "\n" not in str(raised.value)


# replacing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TIMED)
def test_a_write_replaces_the_bars_of_its_span_and_no_others(busy: Lake, table: str) -> None:
    first = START if registry.time_column(table) == "open_time" else START + BAR
    before = sample(table, times(first, 16), seed=1)
    busy.upsert(table, before, commit=COMMIT)
    after = sample(table, times(first + 4 * BAR, 8), seed=2)
    busy.write(table, after, span=span(4, 8), commit=COMMIT)
    column = pl.col(registry.time_column(table) or "")
    outside = before.filter((column < first + 4 * BAR) | (column >= first + 12 * BAR))
    expected = pl.concat([outside, after]).sort(registry.TABLES[table].primary_key())
    decided = pl.exclude(registry.LIVE_ONLY)
    assert_frame_equal(busy.read(table, span=span(-8, 32)).select(decided), expected.select(decided))
    assert_frame_equal(busy.read(table, span=span(4, 8)).select(decided), after.select(decided))


def test_a_write_of_some_symbols_or_grids_leaves_the_others(lake: Lake) -> None:
    risks = sample("grid_risk", times(START + BAR, 8), ("eth", "btc"), seed=1)
    lake.upsert("grid_risk", risks, commit=COMMIT)
    gone = lake.write("grid_risk", registry.empty("grid_risk"), span=span(0, 8), grids=["eth"], commit=COMMIT)
    assert gone == Written(0, 8, 0)
    assert_frame_equal(lake.read("grid_risk"), risks.filter(pl.col("grid_id") == "btc"))
    lake.upsert("regime_verdict", verdicts(0, 4, "ETH-USDT", "BTC-USDT"), commit=COMMIT)
    lake.write("regime_verdict", verdicts(0, 2, "ETH-USDT"), span=span(0, 4), symbols=["ETH-USDT"], commit=COMMIT)
    assert lake.read("regime_verdict")["symbol"].value_counts(sort=True).rows() == [("BTC-USDT", 4), ("ETH-USDT", 2)]
    assert lake.read("regime_verdict", symbols=[]).height == 0


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2), st.sampled_from(["a", "b", "ab"])),
        min_size=1,
        max_size=4,
    )
)
def test_after_any_writes_the_lake_holds_what_a_dictionary_would(busy: Lake, writes: list[Any]) -> None:
    whole = span(1000, 12)
    wipe = registry.empty("regime_verdict")
    busy.write("regime_verdict", wipe, span=whole, commit=COMMIT)
    known: dict[tuple[str, datetime], Any] = {}
    for first, bars, seed, symbols in writes:
        scope = span(1000 + first, bars)
        rows = verdicts(1000 + first, bars, *symbols, seed=seed) if bars else wipe
        written = busy.write("regime_verdict", rows, span=scope, symbols=[*symbols], commit=COMMIT)
        inside = {key for key in known if key[0] in symbols and scope.start < key[1] <= scope.end}
        new = {(row[0], row[1]): row for row in rows.iter_rows()}
        same = {key for key in inside if new.get(key) == known[key]}
        assert written == Written(len(new) - len(same), len(inside) - len(same), len(same))
        known = {key: row for key, row in known.items() if key not in inside} | new
    assert known == {(row[0], row[1]): row for row in busy.read("regime_verdict", span=whole).iter_rows()}


def test_only_rows_that_differ_are_touched_and_nothing_leaves_no_snapshot(busy: Lake) -> None:
    rows = verdicts(2000, 8).with_columns(confidence=pl.lit(0.5))
    busy.write("regime_verdict", rows, span=span(2000, 8), commit=COMMIT)
    before = busy.snapshots().height
    assert busy.write("regime_verdict", rows, span=span(2000, 8), commit=COMMIT) == Written(0, 0, 8)
    assert busy.snapshots().height == before
    third = pl.col("as_of") == START + 2003 * BAR
    less = rows.with_columns(confidence=pl.when(~third).then("confidence"))
    assert busy.write("regime_verdict", less, span=span(2000, 8), commit=COMMIT) == Written(1, 1, 7)
    assert busy.read("regime_verdict").filter(third)["confidence"].item() is None
    assert busy.write("regime_verdict", less.filter(~third), span=span(2000, 8), commit=COMMIT) == Written(0, 1, 7)


@pytest.mark.parametrize(
    ("stored", "new", "written"),
    [
        ({"live_state": "WARNING", "live_reason": "BLIND"}, {}, {"live_state": "WARNING", "live_reason": "BLIND"}),
        ({}, {"live_state": "WARNING", "live_reason": "BLIND"}, {"live_state": "WARNING", "live_reason": "BLIND"}),
        ({"live_state": "WARNING"}, {"live_state": "MANDATORY_EXIT"}, {"live_state": "MANDATORY_EXIT"}),
        ({"live_state": "WARNING"}, {"advice": "Stop."}, {"live_state": None, "advice": "Stop."}),
    ],
    ids=["a backfill erases nothing", "live after backfill", "live after live", "a recomputed row is replaced whole"],
)
def test_what_only_the_live_run_knew_is_not_erased_by_an_equal_row(
    busy: Lake, stored: dict[str, str], new: dict[str, str], written: dict[str, str | None]
) -> None:
    row = sample("exit_state", [START + 1001 * BAR], ("eth",)).with_columns(live_state=None, live_reason=None)
    for values in (stored, new):
        given_row = row.with_columns(**{name: pl.lit(value) for name, value in values.items()})
        busy.write("exit_state", given_row, span=span(1000, 1), commit=COMMIT)
    kept = busy.read("exit_state", span=span(1000, 1)).row(0, named=True)
    assert {name: kept[name] for name in written} == written


def test_the_same_candle_seen_again_is_the_same_but_a_first_answer_is_news(busy: Lake) -> None:
    candles = sample("candles", times(START + 1000 * BAR, 3), ("ETH-USDT",))
    for minute, expected in ((None, 3), (1, 3), (2, 0), (None, 0)):
        observed = pl.lit(
            None if minute is None else START + timedelta(minutes=minute), registry.dtypes("candles")["observed_at"]
        )
        written = busy.write("candles", candles.with_columns(observed_at=observed), span=span(1000, 3), commit=COMMIT)
        assert written.inserted == expected
    assert busy.read("candles", span=span(1000, 3))["observed_at"].unique().to_list() == [START + timedelta(minutes=1)]


def test_an_upsert_replaces_rows_of_the_same_key_and_leaves_the_others(lake: Lake) -> None:
    rows = sample("notification", times(START, 6), ("eth",))
    lake.upsert("notification", rows, commit=COMMIT)
    second = pl.col("alert_id") == rows["alert_id"][1]
    sent = rows.filter(second).with_columns(attempts=pl.lit(7), status=pl.lit("SENT"))
    assert lake.upsert("notification", sent, commit=COMMIT) == Written(1, 1, 0)
    expected = registry.conform(pl.concat([rows.filter(~second), sent], how="vertical_relaxed"), "notification")
    assert_frame_equal(lake.read("notification"), expected.sort("alert_id"))
    before = lake.snapshots().height
    assert lake.upsert("notification", rows.filter(~second), commit=COMMIT) == Written(0, 0, 5)
    assert lake.upsert("notification", registry.empty("notification"), commit=COMMIT) == Written(0, 0, 0)
    assert lake.snapshots().height == before


def test_rows_outside_of_what_is_replaced_are_refused(quiet: Lake) -> None:
    for scope in ({"span": span(0, 3)}, {"span": span(0, 4), "symbols": ["BTC-USDT"]}, {"span": span(1, 4)}):
        with pytest.raises(ValueError, match="lie outside"):
            quiet.write("regime_verdict", verdicts(0, 4), commit=COMMIT, **scope)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="candles has no grid_id"):
        quiet.write("candles", registry.empty("candles"), span=span(0, 1), grids=["eth"], commit=COMMIT)
    with pytest.raises(ValueError, match="notification has no time"):
        quiet.write("notification", registry.empty("notification"), span=span(0, 1), commit=COMMIT)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            pl.concat([verdicts(0, 2), verdicts(1, 1, seed=5)]),
            "2 rows break the rule primary_key, first symbol ETH-USDT",
        ),
        (
            verdicts(0, 1).with_columns(p_trend=pl.lit(1.5)),
            r"1 rows break the rule p_trend\|max, .*2026-01-31T22:15:00Z",
        ),
        (verdicts(0, 1).with_columns(confidence=pl.lit(float("nan"))), r"rule confidence\|nan"),
        (verdicts(0, 1).with_columns(verdict=pl.lit("UP")), r"rule verdict\|check"),
        (verdicts(0, 1).drop("config_hash"), r"rule config_hash\|nullability"),
    ],
    ids=["duplicate key", "bound", "not a number", "unknown word", "missing column"],
)
def test_a_broken_rule_is_refused_before_anything_is_written(quiet: Lake, rows: pl.DataFrame, message: str) -> None:
    before = quiet.snapshots().height
    with pytest.raises(LakeError, match=message):
        quiet.write("regime_verdict", rows, span=span(0, 4), commit=COMMIT)
    assert quiet.snapshots().height == before


def test_a_failing_write_leaves_everything_as_it_was_and_the_next_one_works(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = verdicts(0, 4)
    lake.write("regime_verdict", rows, span=span(0, 4), commit=COMMIT)
    monkeypatch.setattr("mm_dagster.history.connection.json.dumps", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lake.write("regime_verdict", verdicts(0, 4, seed=1), span=span(0, 4), commit=COMMIT)
    monkeypatch.undo()
    assert_frame_equal(lake.read("regime_verdict"), rows)
    assert lake.write("regime_verdict", verdicts(0, 4, seed=1), span=span(0, 4), commit=COMMIT).inserted == 4


def test_every_commit_says_which_run_wrote_what(lake: Lake) -> None:
    commit = Commit("run-7", "exit_state", str(span(0, 4)))
    lake.write("regime_verdict", verdicts(0, 4), span=span(0, 4), commit=commit)
    newest = lake.snapshots().row(-1, named=True)
    assert newest["commit_message"] == "exit_state 2026-01-31T22:00:00Z to 2026-01-31T23:00:00Z"
    assert json.loads(newest["commit_extra_info"])["run_id"] == "run-7"
    assert newest["snapshot_time"].tzinfo is not None
    told = lake.newest_commits(2)
    assert told["snapshot_id"].to_list() == lake.snapshots()["snapshot_id"].tail(2).to_list()
    last = told.row(-1, named=True)
    assert (last["at"], last["kept"]) == (newest["snapshot_time"], lake.snapshots().height)
    assert {name: last[name] for name in ("run_id", "asset", "span")} == json.loads(newest["commit_extra_info"])


def test_newest_is_the_last_bar_of_each_symbol(lake: Lake) -> None:
    assert lake.newest("regime_verdict") == {}
    lake.upsert("regime_verdict", pl.concat([verdicts(0, 3), verdicts(0, 5, "BTC-USDT")]), commit=COMMIT)
    assert lake.newest("regime_verdict") == {"BTC-USDT": START + 5 * BAR, "ETH-USDT": START + 3 * BAR}


def test_a_table_that_never_held_a_row_is_not_asked_and_its_first_row_is_seen_by_everybody(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute = Reader.execute

    def noted(self: Reader, query: str, values: Sequence[Any] = ()) -> Answer:
        asked.append(query)
        return execute(self, query, values)

    monkeypatch.setattr(Reader, "execute", noted)
    wanted = ["confidence", "verdict"]
    empty = registry.empty("regime_verdict")
    assert_frame_equal(lake.read("regime_verdict", columns=wanted), empty.select(wanted))
    assert lake.newest("regime_verdict") == {}
    assert lake.write("regime_verdict", empty, span=span(0, 4), commit=COMMIT) == Written(0, 0, 0)
    assert not [query for query in asked if "FROM regime_verdict" in query]
    rows = verdicts(0, 4)
    Lake(tmp_path / "history").upsert("regime_verdict", rows, commit=COMMIT)
    assert_frame_equal(lake.read("regime_verdict"), rows)
    assert lake.write("regime_verdict", empty, span=span(0, 4), commit=COMMIT) == Written(0, 4, 0)
    assert_frame_equal(Lake(tmp_path / "history").read("regime_verdict"), empty)


# queries --------------------------------------------------------------------------------------------------------------


def test_a_query_names_tables_bare_and_times_are_utc(lake: Lake, new_york: None) -> None:
    lake.upsert("regime_verdict", verdicts(0, 4), commit=COMMIT)
    rows = lake.sql("SELECT date_trunc('day', as_of) AS day, count(*) AS n FROM regime_verdict GROUP BY 1 ORDER BY 1;")
    assert rows.schema["day"] == pl.Datetime("us", "UTC")
    assert rows.rows() == [(datetime(2026, 1, 31, tzinfo=UTC), 4)]
    assert lake.sql("PIVOT regime_verdict ON symbol USING count(*)").height > 0
    assert "candles" in lake.sql("SHOW TABLES")["name"].to_list()


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO tick SELECT * FROM tick",
        "DELETE FROM candles",
        "UPDATE candles SET open = 1",
        "DROP TABLE candles",
        "CREATE TABLE mine (a INT)",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.duckdb'",
        "SELECT 1; DETACH history",
        "SELECT 1; DELETE FROM candles; SELECT 1",
        "CALL ducklake_expire_snapshots('history', older_than => now())",
        "SELECT * FROM ducklake_expire_snapshots('history', older_than => now())",
        "SELECT * FROM ducklake_delete_orphaned_files('history', cleanup_all => true)",
        "SELECT * FROM sqlite_query('__ducklake_metadata_history', 'DELETE FROM ducklake_snapshot RETURNING *')",
        "EXPLAIN ANALYZE DELETE FROM candles",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "CREATE TABLE mine AS SELECT 1; SELECT 1",
        "CREATE TABLE memory.mine AS SELECT 1; SELECT 1",
        "SELECT * FROM read_text('{folder}/secret.txt')",
        "SET timezone = 'Asia/Tokyo'",
        "SELECT * FROM rows",
        "SELECT INTERVAL 1 DAY",
        "SELEC 1",
        "",
    ],
)
def test_a_query_changes_nothing_and_reads_no_other_file(asked: tuple[Lake, Path], tmp_path: Path, query: str) -> None:
    lake, folder = asked
    (tmp_path / "secret.txt").write_text("secret")

    def state() -> list[Any]:
        stored = {path: path.read_bytes() for path in (folder / "files").rglob("*") if path.is_file()}
        return [stored, lake.read("regime_verdict").rows(), lake.snapshots().rows(), sorted(tmp_path.iterdir())]

    before = state()
    with pytest.raises(LakeError) as raised:
        lake.sql(query.format(folder=tmp_path, file=next((folder / "files").rglob("*.parquet"))))
    assert "\n" not in str(raised.value)
    assert state() == before


def test_a_mistyped_table_is_answered_with_the_nearest(quiet: Lake) -> None:
    with pytest.raises(LakeError, match='candels does not exist! Did you mean "candles"'):
        quiet.sql("SELECT * FROM candels")


def test_time_travel_answers_what_was_known_then(lake: Lake) -> None:
    lake.upsert("regime_verdict", verdicts(0, 4), commit=COMMIT)
    number, moment = lake.snapshots().row(-1)[:2]
    lake.upsert("regime_verdict", verdicts(0, 8, seed=1), commit=COMMIT)
    for then in (f"VERSION => {number}", f"TIMESTAMP => TIMESTAMPTZ '{moment.isoformat()}'"):
        known = lake.sql(f"SELECT * FROM regime_verdict AT ({then}) ORDER BY as_of")
        assert_frame_equal(known, verdicts(0, 4))
    assert lake.sql("SELECT count(*) FROM regime_verdict").item() == 8


# places and times -----------------------------------------------------------------------------------------------------


def test_months_are_those_of_utc_wherever_the_computer_stands(tmp_path: Path, new_york: None) -> None:
    lake = Lake(tmp_path / "history")
    rows = sample("candles", times(datetime(2026, 2, 1, tzinfo=UTC), 60), ("ETH-USDT",))
    lake.write("candles", rows, span=Span(rows["open_time"][0], rows["open_time"][-1] + BAR), commit=COMMIT)
    assert_frame_equal(lake.read("candles"), rows)
    files = [path.relative_to(tmp_path / "history" / "files").as_posix() for path in tmp_path.rglob("*.parquet")]
    assert len(files) == 1
    assert files[0].startswith("main/candles/year=2026/month=2/")


_ELSEWHERE = """
import sys
from pathlib import Path
from mm_dagster.history.lake import Commit, Lake
from mm_dagster_tests.history.test_lake import span, verdicts
lake = Lake(Path(sys.argv[1]))
rows = lake.read("regime_verdict", span=span(2, 100))
print(rows.height, rows.equals(verdicts(0, 96)[2:]), lake.newest("regime_verdict")["ETH-USDT"].isoformat())
written = lake.write("regime_verdict", verdicts(0, 97), span=span(0, 97), commit=Commit("", "", ""))
print(written.inserted, written.unchanged, lake.sql("SELECT strftime(max(as_of), '%c') FROM regime_verdict").item())
"""


@pytest.mark.long
def test_a_process_in_another_time_zone_reads_and_writes_the_same_rows(lake: Lake, tmp_path: Path) -> None:
    lake.upsert("regime_verdict", verdicts(0, 96), commit=COMMIT)
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(tmp_path / "history")],
        env={**os.environ, "TZ": "America/New_York"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "94 True 2026-02-01T22:00:00+00:00",
        "1 96 2026-02-01 22:15:00",
    ], done.stderr
    assert_frame_equal(lake.read("regime_verdict"), verdicts(0, 97))


@pytest.mark.long
def test_a_moved_lake_reads_and_writes_where_it_is_now(tmp_path: Path) -> None:
    rows = verdicts(0, 80)
    old = Lake(tmp_path / "old" / "history")
    old.write("regime_verdict", rows, span=span(0, 80), commit=COMMIT)
    del old
    new = tmp_path / "it's [the] new one"
    shutil.move(tmp_path / "old", new)
    lake = Lake(new / "history")
    assert_frame_equal(lake.read("regime_verdict"), rows)
    lake.write("regime_verdict", verdicts(80, 80), span=span(80, 80), commit=COMMIT)
    lake.maintain(keep_days=1)
    assert lake.read("regime_verdict").height == 160
    assert not (tmp_path / "old").exists()


def test_a_folder_deleted_while_open_is_a_new_lake(lake: Lake, tmp_path: Path) -> None:
    lake.upsert("regime_verdict", verdicts(0, 4), commit=COMMIT)
    shutil.rmtree(tmp_path / "history")
    assert lake.read("regime_verdict").height == 0
    lake.upsert("regime_verdict", verdicts(0, 2), commit=COMMIT)
    assert Lake(tmp_path / "history").read("regime_verdict").height == 2


# together -------------------------------------------------------------------------------------------------------------


def test_readers_wait_for_no_writer_and_a_writer_says_who_is_in_the_way(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_dagster.history.sessions._LOCK_SECONDS", 0.1)
    others = Sessions(lake.sessions.folder, lake.sessions.catalog)
    with others.writing():
        assert lake.read("tick").height == 0
        of_file, of_server = r"write\.lock is held", r"the lock 'write' \(-?\d+ in pg_locks\) on .* is held"
        expected = of_file if isinstance(lake.sessions.catalog, SqliteCatalog) else of_server
        with pytest.raises(LakeError, match=rf"another process has been writing .*{expected}"):
            lake.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT)
    assert lake.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT).inserted == 1


def test_threads_share_one_lake(lake: Lake) -> None:
    seen: list[int] = []

    def work(number: int) -> None:
        name = f"S{number}"
        for first in range(2):
            lake.write("regime_verdict", verdicts(first, 1, name), span=span(first, 1), symbols=[name], commit=COMMIT)
            seen.append(lake.read("regime_verdict", symbols=[name]).height - first)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 8


@pytest.mark.long
def test_a_connection_that_has_seen_much_is_replaced_and_nobody_notices(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    attach = Sessions._attach

    def counted(self: Sessions, *given: Any, **more: Any) -> None:
        opened.append("reader" if more["read_only"] else "writer")
        attach(self, *given, **more)

    monkeypatch.setattr("mm_dagster.history.sessions._USES", 4)
    monkeypatch.setattr(Sessions, "_attach", counted)
    rows = verdicts(0, 12)
    for number in range(12):
        lake.upsert("regime_verdict", rows[number : number + 1], commit=COMMIT)
        assert_frame_equal(lake.read("regime_verdict"), rows[: number + 1])
    # The lake had used both before the first of these.
    assert 2 <= opened.count("writer") <= 3
    assert 2 <= opened.count("reader") <= 3


# upkeep ---------------------------------------------------------------------------------------------------------------


def test_the_upkeep_keeps_the_rows_and_bounds_files_and_snapshots(lake: Lake) -> None:
    for generation in range(4):
        rows = verdicts(0, 96, seed=generation)
        lake.write("regime_verdict", rows, span=span(0, 96), commit=COMMIT)
        lake.write("regime_verdict", verdicts(96 + generation, 1), span=span(96 + generation, 1), commit=COMMIT)
    lake.write("regime_verdict", rows, span=span(0, 96), commit=COMMIT)
    expected = lake.read("regime_verdict")
    extent = lake.maintain(keep_days=30)
    assert extent["snapshots_after"] >= extent["snapshots_before"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mm_dagster.history.lake.timedelta", lambda days: timedelta(days=days, hours=-1))
        patch.setattr("mm_dagster.history.upkeep.SERVER_DAYS", 0)
        extent = lake.maintain(keep_days=0)
    assert extent["snapshots_after"] < 5 < extent["snapshots_before"]
    assert extent["files_after"] < extent["files_before"]
    assert extent["bytes_after"] < extent["bytes_before"]
    assert_frame_equal(lake.read("regime_verdict"), expected)


def test_the_upkeep_works_in_one_thread(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    # In several, DuckLake appends to one list of them at once: once in some hundred trials the process was gone.
    seen: list[int] = []

    @contextmanager
    def looking(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        with proven(connection):
            yield
            seen.extend(threads(connection))

    def threads(connection: duckdb.DuckDBPyConnection) -> list[int]:
        return [int(one) for (one,) in connection.execute("SELECT current_setting('threads')").fetchall()]

    monkeypatch.setattr("mm_dagster.history.upkeep.proven", looking)
    with lake.sessions.writing() as connection:
        before = threads(connection)
    lake.write("regime_verdict", verdicts(0, 3), span=span(0, 3), commit=COMMIT)
    lake.maintain(keep_days=30)
    assert len(seen) >= 3
    assert set(seen) == {1}
    with lake.sessions.writing() as connection:
        assert threads(connection) == before


def test_the_upkeep_sets_aside_what_a_killed_writer_left(lake: Lake, tmp_path: Path) -> None:
    rows = verdicts(0, 96)
    lake.write("regime_verdict", rows, span=span(0, 96), commit=COMMIT)
    stored = next(tmp_path.rglob("*.parquet"))
    orphan = stored.with_name("ducklake-orphan.parquet")
    shutil.copy(stored, orphan)
    lake.maintain(keep_days=30)
    assert not orphan.exists()
    assert [path.name for path in (tmp_path / "history" / "trash").rglob("*.parquet")] == [orphan.name]
    assert_frame_equal(lake.read("regime_verdict"), rows)


def test_a_lost_file_is_named(lake: Lake, tmp_path: Path) -> None:
    lake.write("regime_verdict", verdicts(0, 96), span=span(0, 96), commit=COMMIT)
    next(tmp_path.rglob("*.parquet")).unlink()
    with pytest.raises(LakeError, match=r"\.parquet.*; see `mm doctor`"):
        lake.read("regime_verdict")


def test_the_doctor_is_told_how_much_there_is(lake: Lake, tmp_path: Path) -> None:
    lake.upsert("regime_verdict", verdicts(0, 4), commit=COMMIT)
    line = lake.check()
    assert line.startswith(f"{tmp_path / 'history'}: 4 rows, ")
    assert line.endswith(f"{lake.snapshots().height} snapshots")


@pytest.mark.long
def test_after_its_upkeep_a_lake_of_small_commits_is_hardly_larger_than_files_written_once(tmp_path: Path) -> None:
    lake, once = Lake(tmp_path / "history"), Lake(tmp_path / "once")
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    whole = verdicts(0, 2 * 96, *symbols)
    for first in range(0, 2 * 96, 8):
        rows = whole.filter(span(first, 8).closes("as_of"))
        lake.write("regime_verdict", rows, span=span(first, 8), commit=COMMIT)
        if first % 96 == 88:
            revised = rows.with_columns(confidence=-pl.col("confidence"))
            lake.write("regime_verdict", revised, span=span(first, 8), commit=COMMIT)
            lake.maintain(keep_days=30)
    once.upsert("regime_verdict", lake.read("regime_verdict"), commit=COMMIT)
    once.maintain(keep_days=30)
    stored, ideal = (
        sum(path.stat().st_size for path in (one / "files").rglob("*.parquet"))
        for one in (tmp_path / "history", tmp_path / "once")
    )
    assert stored < 1.5 * ideal
