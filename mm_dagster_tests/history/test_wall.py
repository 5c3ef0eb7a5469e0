"""What may be asked of the history, and what may not, however it is written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mm_dagster.bars import BAR
from mm_dagster.history.lake import Commit, Lake, LakeError
from mm_dagster.history.questions import QUESTIONS
from mm_dagster.history.views import VIEWS
from mm_dagster_tests.history.samples import sample, times

START = datetime(2026, 6, 28, tzinfo=UTC)

FUNCTIONS = [
    "ducklake_cleanup_old_files('history', cleanup_all => true)",
    "ducklake_delete_orphaned_files('history', cleanup_all => true)",
    "ducklake_flush_inlined_data('history')",
    "ducklake_expire_snapshots('history', older_than => now())",
    "ducklake_merge_adjacent_files('history')",
    "ducklake_rewrite_data_files('history')",
    "ducklake_add_data_files('history', 'candles', '{folder}/x.parquet')",
    "ducklake_set_commit_message('history', 'a', 'b')",
    "ducklake_set_option('history', 'a', 'b')",
    "ducklake_options('history')",
    "ducklake_settings('history')",
    "ducklake_list_files('history', 'candles')",
    "ducklake_table_info('history')",
    "sqlite_scan('{folder}/history/catalog.sqlite', 'ducklake_snapshot')",
    "sqlite_query('{folder}/history/catalog.sqlite', 'select 1')",
    "sqlite_attach('{folder}/history/catalog.sqlite')",
    "postgres_scan('host=here', 'public', 'ducklake_snapshot')",
    "postgres_query('__ducklake_metadata_history', 'select 1')",
    "postgres_execute('__ducklake_metadata_history', 'select 1')",
    "read_parquet('{folder}/history/files/main/regime_verdict/*/*/*.parquet')",
    "parquet_scan('{folder}/secret.parquet')",
    "parquet_metadata('{folder}/secret.parquet')",
    "parquet_schema('{folder}/secret.parquet')",
    "parquet_file_metadata('{folder}/secret.parquet')",
    "parquet_kv_metadata('{folder}/secret.parquet')",
    "parquet_full_metadata('{folder}/secret.parquet')",
    "parquet_bloom_probe('{folder}/secret.parquet', 'a', 1)",
    "read_csv('{folder}/secret.txt')",
    "read_csv_auto('{folder}/secret.txt')",
    "read_json('{folder}/secret.txt')",
    "read_json_auto('{folder}/secret.txt')",
    "read_json_objects('{folder}/secret.txt')",
    "read_ndjson('{folder}/secret.txt')",
    "read_ndjson_auto('{folder}/secret.txt')",
    "read_ndjson_objects('{folder}/secret.txt')",
    "read_text('{folder}/secret.txt')",
    "read_blob('{folder}/secret.txt')",
    "read_duckdb('{folder}/x.db')",
    "sniff_csv('{folder}/secret.txt')",
    "glob('{folder}/*')",
    "query('SELECT 1')",
    "query_table('candles')",
    "json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "duckdb_secrets()",
    "duckdb_settings()",
    "duckdb_databases()",
    "duckdb_logs()",
    "duckdb_extensions()",
    "duckdb_variables()",
    "duckdb_temporary_files()",
    "which_secret('s3://a', 's3')",
    "checkpoint()",
    "force_checkpoint()",
    "pragma_database_size()",
    "pragma_storage_info('candles')",
    "pandas_scan(1)",
    "arrow_scan(1, 2, 3)",
    "seq_scan('candles')",
    "histogram_values('candles', 'close')",
    "enable_logging()",
    "truncate_duckdb_logs()",
    "summary('candles')",
]  # fmt: skip
SHAPES = [
    "FROM {f}",
    'SELECT * FROM "main".{f} AS x',
    "WITH a AS (SELECT * FROM {f}) SELECT count(*) FROM a",
]
SCALARS = [
    "getenv('HOME')",
    "GETENV('HOME')",
    "\"getenv\"('HOME')",
    "main.getenv('HOME')",
    "system.main.getenv('HOME')",
    "'HOME'.getenv()",
    "current_setting('secret_directory')",
    "getvariable('x')",
    "nextval('x')",
    "write_log('x')",
    "pg_sleep(100)",
    "sleep_ms(100)",
    "setseed(.5)",
    "json_deserialize_sql('{{}}')",
    "list_transform(['HOME'], lambda x: getenv(x))",
    "(SELECT content FROM read_text('{folder}/secret.txt'))",
]
STATEMENTS = [
    "",
    ";",
    "-- nothing",
    "DELETE FROM candles",
    "INSERT INTO tick SELECT * FROM tick",
    "UPDATE tick SET reason = 'x'",
    "DROP TABLE candles",
    "TRUNCATE candles",
    "CREATE TABLE x (a INT)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE TEMP MACRO f(a) AS a",
    "CREATE TYPE mood AS ENUM ('a')",
    "CREATE SECRET (TYPE s3)",
    "ALTER TABLE candles ADD COLUMN x INT",
    "COPY candles TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY candles FROM '{folder}/secret.txt'",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/x.db'",
    "ATTACH '{folder}/history/catalog.sqlite' AS c (TYPE sqlite)",
    "DETACH history",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET timezone = 'America/New_York'",
    "SET VARIABLE x = 1",
    "RESET timezone",
    "PRAGMA table_info('candles')",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "CALL ducklake_expire_snapshots('history', older_than => now())",
    "CALL history.set_option('parquet_compression', 'snappy')",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE COPY candles TO '{folder}/out.csv'",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE candles",
    "SELECT 1 /* ; */; -- x\nDELETE FROM tick",
    "WITH x AS (DELETE FROM tick RETURNING *) FROM x",
    "WITH x AS (INSERT INTO tick SELECT * FROM tick RETURNING *) FROM x",
    "FROM '{folder}/secret.txt'",
    'FROM "{folder}/secret.txt"',
    "FROM '{folder}/history/files/main/regime_verdict/**/*.parquet'",
    "FROM candles, '{folder}/secret.csv'",
    "FROM candles JOIN 'x.parquet' USING (symbol)",
    "SELECT (SELECT count(*) FROM 'x.parquet')",
    "SELECT * FROM candles, LATERAL (SELECT * FROM read_text('{folder}/secret.txt'))",
    "SELECT * FROM candles WHERE symbol IN (SELECT content FROM read_text('{folder}/secret.txt'))",
    "SELECT * FROM candles ORDER BY getenv('HOME')",
    "SELECT * FROM candles LIMIT length(getenv('HOME'))",
    "SELECT sum(length(getenv(symbol))) OVER () FROM candles",
    "SELECT * FROM candles GROUP BY ALL HAVING getenv('HOME') = 'x'",
    "SELECT * FROM candles QUALIFY getenv('HOME') = 'x'",
    "SELECT * FROM candles AT (TIMESTAMP => getenv('HOME')::TIMESTAMPTZ)",
    "SELECT COLUMNS(c -> c = getenv('HOME')) FROM candles",
    "VALUES (getenv('HOME'))",
    "SELECT 1 UNION ALL SELECT getenv('HOME')",
    "DESCRIBE SELECT getenv('HOME')",
    "DESCRIBE '{folder}/secret.txt'",
    "DESCRIBE FROM read_text('{folder}/secret.txt')",
    "SUMMARIZE '{folder}/secret.txt'",
    "SUMMARIZE FROM read_text('{folder}/secret.txt')",
    "SUMMARIZE SELECT getenv('HOME')",
    "SHOW SECRETS",
    "SHOW VARIABLES",
    "SHOW TABLES FROM __ducklake_metadata_history",
    "PIVOT candles ON symbol USING max(getenv('HOME'))",
    "PIVOT (FROM read_text('{folder}/secret.txt')) ON filename USING count(*)",
    "PIVOT '{folder}/secret.csv' ON a USING count(*)",
    "PIVOT duckdb_secrets() ON name USING count(*)",
    "PIVOT (SELECT \"getenv\" /* ( */ ('HOME') AS a) ON a USING count(*)",
    "PIVOT __ducklake_metadata_history.ducklake_snapshot ON snapshot_id USING count(*)",
    "FROM (PIVOT (FROM read_text('{folder}/secret.txt')) ON filename IN ('a') USING count(*))",
    "UNPIVOT (FROM read_text('{folder}/secret.txt')) ON content",
    "FROM __ducklake_metadata_history.ducklake_metadata",
    "FROM __DUCKLAKE_METADATA_history.main.ducklake_snapshot",
    'FROM "__ducklake_metadata_history"."main"."ducklake_snapshot"',
    "FROM ducklake_snapshot",
    "FROM memory.main.x",
    "FROM temp.x",
    "FROM system.main.duckdb_settings",
    "FROM pg_catalog.pg_settings",
    "FROM duckdb_logs",
    "FROM duckdb_databases",
    'WITH "{folder}/secret.csv" AS (SELECT 1) FROM "{folder}/secret.csv"',
    "FROM history.read_text('{folder}/secret.txt')",
    "FROM history.main.cleanup_old_files()",
    "FROM history.set_option('a', 'b')",
    "FROM read_text($${folder}/secret.txt$$)",
    "FROM READ_TEXT/* x */('{folder}/secret.txt')",
    "FROM \"read_text\"('{folder}/secret.txt')",
    "(((FROM read_text('{folder}/secret.txt'))))",
]
HOSTILE = [
    *(shape.format(f=function) for function in FUNCTIONS for shape in SHAPES),
    *(f"SELECT {scalar}" for scalar in SCALARS),
    *STATEMENTS,
]

ORDINARY = [
    "SELECT 1",
    "SELECT 1;",
    "FROM tick",
    "TABLE tick",
    "VALUES (1), (2)",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SHOW TABLES FROM history",
    "DESCRIBE tick",
    "SHOW tick",
    "DESCRIBE SELECT 1 AS a",
    "SUMMARIZE regime_verdict",
    "FROM history.tick",
    "FROM main.tick",
    "FROM history.main.tick",
    'FROM "TICK"',
    "SELECT symbol, avg(confidence) OVER (PARTITION BY symbol ORDER BY as_of ROWS 3 PRECEDING) FROM regime_verdict",
    "SELECT row_number() OVER w, lag(confidence) OVER w FROM regime_verdict WINDOW w AS (ORDER BY as_of)",
    "SELECT list_transform([1, 2], lambda x: x + 1), list_filter([1, 2], lambda x: x > 1), [x * 2 FOR x IN [1, 2]]",
    "SELECT list(confidence ORDER BY as_of)[1:2], array_agg(DISTINCT symbol) FROM regime_verdict",
    "SELECT unnest([1, 2]), struct_pack(a := 1), {'a': 1}.a, map {'a': 1}['a']",
    "SELECT '{\"a\": 1}'::JSON ->> '$.a', json_extract('{}', '$.a'), to_json([1])",
    "FROM json_each('[1, 2]')",
    "FROM range(3)",
    "FROM generate_series(1, 3)",
    "FROM generate_series(TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-02', INTERVAL 1 HOUR)",
    "SELECT * FROM unnest([1, 2]) t(a)",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3) FROM c",
    "WITH a AS MATERIALIZED (SELECT 1 AS x), b AS (FROM a) SELECT * FROM a JOIN b USING (x)",
    "SELECT v.symbol FROM regime_verdict v ASOF LEFT JOIN candles c ON v.symbol = c.symbol AND v.as_of >= c.close_time",
    "SELECT * FROM regime_verdict POSITIONAL JOIN range(3)",
    "FROM regime_verdict SEMI JOIN candles USING (symbol)",
    "SELECT * FROM tick, LATERAL (SELECT tick.as_of AS b)",
    "PIVOT regime_verdict ON symbol USING avg(confidence) GROUP BY verdict",
    "PIVOT (SELECT symbol, verdict, 1 AS n FROM regime_verdict) ON symbol USING sum(n)",
    "PIVOT regime_verdict ON verdict IN ('TREND', 'RANGE_OK') USING count(*)",
    "WITH p AS (PIVOT regime_verdict ON symbol USING count(*)) FROM p",
    "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b INTO NAME n VALUE v",
    "SELECT date_trunc('month', as_of) AS m, count(*) FILTER (WHERE confidence > .5) FROM regime_verdict GROUP BY ALL",
    "SELECT time_bucket(INTERVAL 1 HOUR, as_of), strftime(as_of, '%Y'), as_of AT TIME ZONE 'UTC' FROM regime_verdict",
    "SELECT extract(hour FROM as_of), epoch_ms(as_of), year(as_of) FROM regime_verdict",
    "SELECT symbol, count(*) FROM regime_verdict GROUP BY GROUPING SETS ((symbol), ())",
    "SELECT symbol, count(*) FROM regime_verdict GROUP BY ROLLUP (symbol)",
    "SELECT * EXCLUDE (symbol) REPLACE (round(confidence, 2) AS confidence) FROM regime_verdict",
    "SELECT COLUMNS('.*_score') FROM regime_verdict",
    "SELECT max(COLUMNS(*)) FROM regime_verdict",
    "FROM regime_verdict SELECT symbol WHERE confidence BETWEEN 0 AND 1 AND symbol LIKE 'E%' LIMIT 3 OFFSET 1",
    "FROM regime_verdict USING SAMPLE 10%",
    "SELECT DISTINCT ON (symbol) symbol, as_of FROM regime_verdict ORDER BY symbol, as_of DESC",
    "SELECT symbol FROM regime_verdict QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY as_of DESC) = 1",
    "SELECT quantile_cont(confidence, .5), median(confidence), corr(confidence, trend_score), mode(verdict) "
    "FROM regime_verdict",
    "SELECT arg_max(verdict, as_of), max_by(verdict, as_of), first(symbol), histogram(verdict) FROM regime_verdict",
    "SELECT CASE WHEN true THEN 1 END, coalesce(NULL, 1), nullif(1, 1), if(true, 1, 2), try_cast('a' AS INT)",
    "SELECT regexp_matches('a', 'a'), 'a' ILIKE 'A', concat('a', 'b'), format('{}', 1), printf('%d', 1), 'a' || 'b'",
    "SELECT now() > '2020-01-01', current_date, today(), uuid() IS NOT NULL, random() < 1, hash(1)",
    "SELECT 1 UNION ALL SELECT 2 AS a EXCEPT SELECT 3",
    "SELECT EXISTS (FROM tick), 1 IN (SELECT 2), 1 = ANY (SELECT 1)",
    "FROM duckdb_tables()",
    "FROM duckdb_columns() WHERE database_name = 'history'",
    "SELECT function_name FROM duckdb_functions() LIMIT 1",
    "FROM information_schema.tables",
    "FROM history.snapshots()",
    "SELECT count(*) FROM history.snapshots() s JOIN tick ON true",
    "FROM regime_verdict AT (VERSION => 1)",
    "FROM regime_verdict AT (TIMESTAMP => now())",
    "SELECT 'ducklake_cleanup_old_files(1)' AS text, 'read_text(''x'')' AS other -- getenv('HOME')",
    "SELECT $$FROM 'x.parquet'$$ AS text",
    "SELECT ('a').upper(), symbol.lower() FROM regime_verdict",
    'SELECT count(*) AS "read_text" FROM tick',
    *(f"FROM {name} LIMIT 1" for name in VIEWS),
    *(question.query for question in QUESTIONS),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wall")
    for name in ("secret.txt", "secret.csv"):
        (folder / name).write_text("the secret")
    return folder


@pytest.fixture(scope="module")
def lake(place: Path) -> Iterator[Lake]:
    lake = Lake(place / "history")
    rows = sample("regime_verdict", times(START + BAR, 96), ("ETH-USDT", "SOL-USDT"))
    lake.upsert("regime_verdict", rows, commit=Commit("", "test", ""))
    lake.upsert("tick", sample("tick", times(START + timedelta(days=1), 3)), commit=Commit("", "test", ""))
    yield lake
    lake.close()


def _content(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes; the log beside the catalogue is SQLite's own."""
    return sorted(
        (str(path.relative_to(folder)), path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    )


def test_there_are_two_hundred_hostile_queries() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 200


@pytest.mark.slow
@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_query_over_the_history_is_refused_in_one_line(lake: Lake, place: Path, query: str) -> None:
    with pytest.raises(LakeError) as raised:
        lake.sql(query.replace("{folder}", str(place)))
    assert "\n" not in str(raised.value)
    assert "the secret" not in str(raised.value)


@pytest.mark.slow
def test_nothing_was_written_by_any_of_them(lake: Lake, place: Path) -> None:
    before = _content(place)
    for query in HOSTILE:
        with pytest.raises(LakeError):
            lake.sql(query.replace("{folder}", str(place)))
    assert _content(place) == before


def test_a_stream_refuses_the_same(lake: Lake, place: Path) -> None:
    for query in HOSTILE[::40]:
        with pytest.raises(LakeError):
            list(lake.stream(query.replace("{folder}", str(place))))


@pytest.mark.slow
@pytest.mark.parametrize("query", ORDINARY, ids=range(len(ORDINARY)))
def test_an_ordinary_query_goes_on(lake: Lake, query: str) -> None:
    assert lake.sql(query).width > 0


def test_even_past_the_wall_the_connection_reads_no_other_file(lake: Lake, place: Path) -> None:
    with lake.sessions.reading() as reader:
        connection = reader.connection
    for query in (
        f"FROM read_text('{place}/secret.txt')",
        f"FROM '{place}/secret.csv'",
        f"COPY tick TO '{place}/out.csv'",
        f"ATTACH '{place}/x.db'",
        "SET enable_external_access = true",
        f"SET allowed_directories = ['{place}']",
        "LOAD httpfs",
        "DELETE FROM tick",
    ):
        with pytest.raises(Exception, match=r"(?i)disabled|locked|read-only|permission|not.*allowed|configuration"):
            connection.execute(query).fetchall()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT getenv('HOME')", "function getenv .* DESCRIBE"),
        ("FROM read_csv('x')", "function read_csv .* name of a table"),
        ("FROM ducklake_merge_adjacent_files('history')", r"ducklake_merge_adjacent_files .* history\.snapshots\(\)"),
        ("SELECT rond(1)", 'rond .* did you mean "round"'),
        ("FROM candels", 'candels does not exist! Did you mean "candles"'),
        ("FROM zzz", r'zzz does not exist! Did you mean "\w+"\? `mm sql` lists'),
        ("FROM memory.x", "memory.x is no table of the history; `mm sql` lists what there is"),
        ("SELECT 1; SELECT 2", "2 queries at once; write one"),
        ("EXPLAIN SELECT 1", "EXPLAIN is not a query; write SELECT"),
    ],
)
def test_a_refusal_names_what_it_is_about_and_what_to_write_instead(lake: Lake, query: str, said: str) -> None:
    with pytest.raises(LakeError, match=said):
        lake.sql(query)
