"""The lake with a real PostgreSQL as its catalogue: everything that it does with SQLite, and what only a server can."""

from __future__ import annotations

import multiprocessing as mp
import threading
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mm_dagster.history import sessions
from mm_dagster.history.catalog import PostgresCatalog
from mm_dagster.history.lake import Lake, LakeError, Written
from mm_dagster.history.memory import Memory
from mm_dagster.tables import registry
from mm_dagster_tests.history.test_lake import COMMIT, FULL, span, verdicts
from mm_dagster_tests.history.test_lake_processes import (
    PATIENCE,
    endless_writer,
    reader,
    seen,
    write_generation,
    writer,
)
from mm_dagster_tests.postgres import PASSWORD, Postgres


@pytest.fixture(scope="module")
def template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with a new lake's catalogue; copied, since making one costs a second."""
    address = postgres.database()
    Lake(tmp_path_factory.mktemp("template") / "history", address)
    return PostgresCatalog.at(address).parameters["dbname"]


@pytest.fixture
def address(postgres: Postgres, template: str, request: pytest.FixtureRequest) -> str:
    """A database with a new lake's catalogue."""
    name = f"copy_{abs(hash(request.node.nodeid))}"
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'")
    postgres.run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER mm")
    return postgres.address(name)


@pytest.fixture
def lake(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Lake:
    # Tests that open a second lake by its folder alone mean this catalogue.
    monkeypatch.setattr("mm_dagster_tests.history.test_lake.Lake", lambda folder: Lake(folder, address))
    return Lake(tmp_path / "history", address)


@pytest.mark.slow
def test_a_new_lake_has_every_table_and_rows_come_back_to_the_bit(lake: Lake) -> None:
    for table in registry.TABLES:
        assert_frame_equal(lake.read(table), registry.empty(table))
    some = {table: FULL[table] for table in ("candles", "exit_state", "notification")}
    for table, rows in some.items():
        lake.upsert(table, rows.sample(fraction=1, shuffle=True, seed=1), commit=COMMIT)
        assert_frame_equal(lake.read(table), rows, check_exact=True)
        assert lake.upsert(table, rows, commit=COMMIT) == Written(0, 0, rows.height)
    lake.maintain(keep_days=30)
    for table, rows in some.items():
        assert_frame_equal(lake.read(table), rows, check_exact=True)


def test_a_stamp_tells_one_commit_from_the_next_and_the_memory_follows(
    lake: Lake, tmp_path: Path, address: str
) -> None:
    memory, before = Memory(), lake.stamp()
    assert before == Lake(tmp_path / "history", address).stamp()
    recall = memory.of(before)
    assert lake.recalling(recall).read("candles").is_empty()
    assert recall.keep(lake.stamp)
    lake.upsert("candles", FULL["candles"], commit=COMMIT)
    after = lake.stamp()
    assert after != before
    assert after.at is not None
    assert lake.recalling(memory.of(after)).read("candles").height == FULL["candles"].height


def test_a_tick_s_few_rows_make_no_file(lake: Lake, tmp_path: Path) -> None:
    lake.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT)
    assert list(tmp_path.rglob("*.parquet")) == []
    assert not (tmp_path / "history" / "catalog.sqlite").exists()


@pytest.mark.long
def test_an_older_lake_gains_new_tables_and_columns_by_itself(lake: Lake, tmp_path: Path, address: str) -> None:
    with lake.sessions.writing() as connection:
        connection.execute("ALTER TABLE exit_state DROP COLUMN triggers")
        connection.execute("DROP TABLE tick")
    newer = Lake(tmp_path / "history", address)
    assert newer.read("tick").height == 0
    assert_frame_equal(newer.read("exit_state"), registry.empty("exit_state"))


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM candles",
        pytest.param("SELECT * FROM ducklake_expire_snapshots('history', older_than => now())", marks=pytest.mark.long),
        "SELECT * FROM postgres_query('__ducklake_metadata_history', 'DELETE FROM ducklake_snapshot RETURNING *')",
        "SELECT * FROM postgres_query('__ducklake_metadata_history', 'COMMIT; DROP TABLE ducklake_snapshot')",
        pytest.param(
            "CALL postgres_execute('__ducklake_metadata_history', 'DROP TABLE ducklake_snapshot')",
            marks=pytest.mark.long,
        ),
        pytest.param("ATTACH 'dbname=postgres' AS other (TYPE postgres)", marks=pytest.mark.long),
        "SELECT * FROM read_text('{folder}/secret.txt')",
        "SELECT * FROM duckdb_secrets(redact => false)",
    ],
)
def test_a_query_changes_nothing_and_reads_no_other_file(lake: Lake, tmp_path: Path, query: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    before = lake.snapshots().rows()
    with pytest.raises(LakeError):
        lake.sql(query.format(folder=tmp_path))
    assert lake.snapshots().rows() == before


@pytest.mark.slow
def test_the_password_is_in_nothing_that_can_be_read(
    lake: Lake, postgres: Postgres, tmp_path: Path, address: str
) -> None:
    lake.upsert("regime_verdict", verdicts(0, 96), commit=COMMIT)
    lake.maintain(keep_days=1)
    with lake.sessions.reading() as reader:
        shown = [repr(reader.execute(f"FROM {function}()").fetchall()) for function in _SHOWS]
    shown += [lake.check(), repr(PostgresCatalog.at(address)), repr(vars(lake)), repr(vars(lake.sessions))]
    name = PostgresCatalog.at(address).parameters["dbname"]
    for wrong in (postgres.address(name, PASSWORD + "2"), postgres.address("nowhere")):
        with pytest.raises(LakeError) as raised:
            Lake(tmp_path / "history", wrong)
        shown += [str(raised.value), repr(raised.value.__cause__)]
        assert "\n" not in str(raised.value)
    shown += [path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(shown) > 10
    assert not [text for text in shown if "pässword" in text or "p%C3%A4ssword" in text or "is a secret" in text]


_SHOWS = ("duckdb_databases", "duckdb_secrets", "duckdb_settings", "duckdb_logs", "duckdb_views")


@pytest.mark.parametrize(
    "address",
    [
        "mysql://mm:hunter2@here/lake",
        "hunter2",
        "postgresql://mm:hunter2@here:port/lake",
        "postgresql://mm:hunter2@here/lake?sslpassword=hunter2",
    ],
)
def test_what_is_no_address_is_refused_in_one_line_that_does_not_show_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(LakeError, match="the address of the catalogue") as raised:
        Lake(tmp_path / "history", address)
    assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "history").exists()


def test_a_session_that_the_server_ended_is_begun_again_by_itself(lake: Lake, postgres: Postgres) -> None:
    lake.upsert("regime_verdict", verdicts(0, 4), commit=COMMIT)
    postgres.end_sessions()
    assert lake.read("regime_verdict").height == 4
    assert lake.upsert("regime_verdict", verdicts(0, 5), commit=COMMIT) == Written(1, 0, 4)


def test_writers_on_two_hosts_take_turns_by_the_server(lake: Lake, tmp_path: Path, address: str) -> None:
    # Two folders have two file locks, as two hosts have without a common file system.
    other = Lake(tmp_path / "elsewhere", address)
    failed: list[BaseException] = []

    def work(own: Lake, symbol: str) -> None:
        try:
            for first in range(6):
                own.write(
                    "regime_verdict",
                    verdicts(first, 1, symbol),
                    span=span(first, 1),
                    symbols=[symbol],
                    commit=COMMIT,
                )
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in ((lake, "A-USDT"), (other, "B-USDT"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert lake.read("regime_verdict").height == other.read("regime_verdict").height == 12


def test_a_host_that_holds_the_lock_too_long_is_said(
    lake: Lake, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Lake(tmp_path / "elsewhere", address)
    monkeypatch.setattr(sessions, "_LOCK_SECONDS", 0.1)
    with other.sessions.writing(), pytest.raises(LakeError, match=r"another process has been writing .*pg_locks"):
        lake.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT)
    assert lake.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT).inserted == 1


def test_a_write_that_failed_holds_no_lock_even_while_its_error_is_looked_at(
    lake: Lake, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Lake(tmp_path / "elsewhere", address)
    with monkeypatch.context() as patch:
        patch.setattr("mm_dagster.history.connection.json.dumps", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError) as raised:
            lake.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT)
    monkeypatch.setattr(sessions, "_LOCK_SECONDS", 5)
    assert other.upsert("regime_verdict", verdicts(0, 1), commit=COMMIT).inserted == 1
    assert raised.tb is not None


@pytest.mark.slow
def test_the_upkeep_is_postponed_in_bounded_time_by_a_reader_and_the_writers_go_on(
    lake: Lake, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_dagster.history.upkeep.READERS_SECONDS", 0.5)
    lake.upsert("regime_verdict", verdicts(0, 3), commit=COMMIT)
    with lake.sessions.writing() as connection:
        connection.execute("ALTER TABLE regime_verdict ADD COLUMN extra BIGINT")
    lake.upsert("regime_verdict", verdicts(3, 3), commit=COMMIT)
    reader = Lake(tmp_path / "history", address)
    assert reader.read("regime_verdict").height == 6
    stream = reader.stream("SELECT v.* FROM regime_verdict v, range(300_000)")
    assert next(stream).height == 0
    assert lake.maintain(keep_days=30)["postponed"] == 1
    assert lake.upsert("regime_verdict", verdicts(6, 1), commit=COMMIT).inserted == 1
    stream.close()  # type: ignore[attr-defined]
    assert lake.maintain(keep_days=30)["postponed"] == 0
    assert reader.read("regime_verdict").height == 7
    assert reader.sql("SELECT count(*) FROM regime_verdict").item() == 7


def test_an_empty_database_begins_no_lake_where_files_of_one_are(
    lake: Lake, tmp_path: Path, postgres: Postgres
) -> None:
    lake.upsert("regime_verdict", verdicts(0, 96), commit=COMMIT)
    files = sorted(tmp_path.rglob("*.parquet"))
    with pytest.raises(LakeError, match="nothing is begun anew"):
        Lake(tmp_path / "history", postgres.database())
    with pytest.raises(LakeError, match="nothing is begun anew"):
        Lake(tmp_path / "history")
    assert sorted(tmp_path.rglob("*.parquet")) == files


@pytest.mark.long
def test_processes_that_open_a_new_lake_together_read_whole_commits_only(postgres: Postgres, tmp_path: Path) -> None:
    spawn = mp.get_context("spawn")
    start, results = spawn.Barrier(3), spawn.Queue()
    folder, fresh = tmp_path / "history", postgres.database()
    symbols = ["ETH-USDT", "BTC-USDT"]
    processes = [spawn.Process(target=writer, args=(folder, symbol, start, results, fresh)) for symbol in symbols]
    processes += [spawn.Process(target=reader, args=(folder, symbols, start, results, fresh))]
    for process in processes:
        process.start()
    answers = [results.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0] * 3
    assert all(set(inserted) == {96} for kind, _, inserted in answers if kind == "written")
    [reads] = [reads for kind, _, reads in answers if kind == "read"]
    assert all(len(counts) <= 1 and all(rows == 96 for _, rows in counts) for _, counts in reads)
    assert Lake(folder, fresh).read("regime_verdict").height == 2 * 96


@pytest.mark.long
def test_a_writer_killed_at_any_moment_leaves_a_whole_lake_and_no_lock(
    lake: Lake, tmp_path: Path, address: str
) -> None:
    spawn = mp.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=endless_writer, args=(tmp_path / "history", 100_000, begun, address))
    process.start()
    assert begun.wait(PATIENCE)
    process.join(0.07)
    process.kill()
    process.join(PATIENCE)
    [(number, rows)] = seen(lake, "ETH-USDT")
    assert rows == 96
    assert number >= 100_000
    assert write_generation(lake, "ETH-USDT", 1) == Written(96, 96, 0)
    lake.maintain(keep_days=1)
    assert seen(lake, "ETH-USDT") == [(1, 96)]
