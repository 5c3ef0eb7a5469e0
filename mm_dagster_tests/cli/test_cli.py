"""The `mm` command as a person or a script calls it, on a simulated market.

In a process of its own wherever that can make a difference: what else writes to stdout, signals, credentials.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import stamina.instrumentation
import yaml
from polars.testing import assert_frame_equal

from mm_dagster import cli
from mm_dagster.bars import BAR, Span, iso, parse_time
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.history.views import VIEWS
from mm_dagster.tables.registry import TABLES, dtypes
from mm_dagster_tests.cli.small import called, configure

pytestmark = pytest.mark.slow

MM = [sys.executable, "-c", "from mm_dagster.cli import main; main()"]
PATIENCE_SECONDS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small configuration, and two days of history."""
    folder = tmp_path_factory.mktemp("cli")
    configure(folder)
    code, _, errors = called(environment(folder), "backfill", "--from", "2026-06-25", "--to", "2026-06-26")
    assert code == 0, errors
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Everything that is written goes below the folder, whatever the caller's environment says."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    return {**own, "MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MM, *arguments], env={**environment(folder), **more}, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def test_json_is_an_array_of_objects_and_nothing_else_is_on_stdout(folder: Path) -> None:
    # The tick loads all that the others load.
    is_array_of_objects(run(folder, "tick", "--as-of", "2026-06-27T00:00Z", "--json").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--json"),
        ("sql", "SELECT as_of, half_life FROM regime_features ORDER BY as_of", "--json"),
        ("doctor", "--json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_json_of_every_command_is_an_array_of_objects(
    mm: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...]
) -> None:
    is_array_of_objects(mm(*arguments)[1])


def is_array_of_objects(said: str) -> None:
    rows = json.loads(said)
    assert rows
    assert all(isinstance(row, dict) for row in rows)


@pytest.mark.long
def test_a_tick_prints_its_decisions_for_people(folder: Path) -> None:
    done = run(folder, "tick", "--as-of", "2026-06-27T00:15Z")
    assert done.returncode == 0
    assert "Decisions at 2026-06-27T00:15:00Z (SIMULATED)" in done.stdout
    assert "ETH-USDT" in done.stdout
    assert (folder / "data" / "pictures" / "eth.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def mm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """The entry point in this process: exit code, stdout and stderr."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, str, str]:
        cli.project_here.cache_clear()
        monkeypatch.setattr("sys.argv", ["mm", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    yield call
    cli.project_here.cache_clear()
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.mark.parametrize(
    "command",
    ["tick", "backfill", "replay", "respond", "status", "report", "doctor", "sql", "backup", "restore", "tune"],
)
def test_help_says_what_a_command_does_and_shows_examples(
    mm: Callable[..., tuple[int, str, str]], command: str
) -> None:
    code, said, errors = mm(command, "--help")
    assert (code, errors) == (0, "")
    assert f"mm {command}" in said.partition("Examples:")[2]


def test_a_response_is_noted_beside_the_alert_that_it_answers(
    folder: Path, mm: Callable[..., tuple[int, str, str]]
) -> None:
    sent = parse_time("2026-06-26T12:00:00Z")
    began = parse_time("2026-06-23")
    told = dict.fromkeys(dtypes("notification")) | {
        "alert_id": "told", "grid_id": "eth", "activated_at": began, "symbol": "ETH-USDT", "as_of": sent, "priority": 0,
        "kind": "ESCALATION", "state": "LATEST_ACCEPTABLE_EXIT", "state_since": sent, "title": "t", "message": "m",
        "status": "SENT", "attempts": 1, "created_at": sent, "sent_at": sent,
    }  # fmt: skip
    lake = Lake(folder / "data" / "history")
    lake.upsert("notification", pl.DataFrame([told], schema=dtypes("notification")), commit=Commit("", "", ""))
    code, said, errors = mm("respond", "eth", "stopped", "--at", "2026-06-26T12:50:00Z", "--note", "by hand", "--json")
    assert code == 0
    assert "Its file still reads `enabled: true`" in errors
    assert json.loads(said) == [
        {
            "grid_id": "eth", "action": "stopped", "at": "2026-06-26T12:50:00Z", "seconds_from_alert": 3000.0,
            "within_window": True, "note": "by hand",
        }
    ]  # fmt: skip
    (row,) = lake.sql("FROM response_kpis").to_dicts()
    assert (row["month"], row["state"], row["responses"]) == ("2026-06", "LATEST_ACCEPTABLE_EXIT", 1)

    closed = "SELECT closed_at, closed_by FROM grid_episode"
    assert lake.sql(closed).rows() == [(parse_time("2026-06-26T12:50:00Z"), "stopped")]
    code, said, errors = mm("respond", "eth", "kept")
    assert (code, said) == (1, "")
    assert "eth: you noted at 2026-06-26T12:50:00Z that it was stopped; `mm respond eth reopened`" in errors
    assert mm("tick", "--as-of", "2026-06-27T00:15Z", "--json")[0] == 0
    assert lake.sql(closed).rows() == [(parse_time("2026-06-26T12:50:00Z"), "stopped")]
    code, said, _ = mm("status", "--as-of", "2026-06-27T00:20:00Z", "--check")
    assert code == 0
    assert "Stopped by you at 2026-06-26 12:50 UTC. Its file still reads" in " ".join(said.split())
    assert mm("respond", "eth", "reopened", "--at", "2026-06-26T13:00:00Z")[0] == 0
    assert lake.sql(closed).rows() == [(None, None)]
    code, _, errors = mm("respond", "eth", "reopened")
    assert code == 1
    assert "nothing to reopen" in errors
    # The tick above told of all grids without it: that day is not whole any more, and it alone.
    days = ("backfill", "--from", "2026-06-25", "--to", "2026-06-26", "--json")
    (month,) = json.loads(mm(*days)[1])
    assert (month["computed_days"], month["skipped_days"]) == (1, 1)
    assert month["rows_changed"] > 0
    (month,) = json.loads(mm(*days)[1])
    assert (month["computed_days"], month["skipped_days"], month["rows_changed"]) == (0, 2, 0)


def test_days_that_are_whole_are_skipped_with_a_word_and_computed_again_when_asked_to(
    folder: Path, mm: Callable[..., tuple[int, str, str]]
) -> None:
    days = ("backfill", "--from", "2026-06-25", "--to", "2026-06-26", "--json")
    code, said, errors = mm(*days)
    (month,) = json.loads(said)
    assert code == 0
    assert (month["computed_days"], month["skipped_days"], month["rows_changed"]) == (0, 2, 0)
    assert "2 of 2 market days were whole" in errors
    _, said, errors = mm(*days, "--again")
    (month,) = json.loads(said)
    assert (month["computed_days"], month["skipped_days"], month["rows_changed"]) == (2, 0, 0)
    assert "were whole" not in errors


AT_NOON = ("--as-of", "2026-06-26T12:01Z")


def test_the_page_of_a_time_says_what_was_true_then(mm: Callable[..., tuple[int, str, str]], folder: Path) -> None:
    code, said, _ = mm("status", *AT_NOON)
    assert code == 0
    assert "As it stood at 2026-06-26 12:01 UTC · judged as of 2026-06-26 12:00 UTC · SIMULATED" in said
    assert "STALE" not in said
    (row,) = json.loads(mm("status", *AT_NOON, "--grid", "eth", "--json")[1])
    assert (row["as_of"], row["stale"], row["age_seconds"]) == ("2026-06-26T12:00:00Z", False, 60.0)
    assert (row["newest_bar"], row["missing_24h"], row["quarantined_24h"]) == ("2026-06-26T12:00:00Z", 0, 0)
    lake = Lake(folder / "data" / "history")
    then = Span(parse_time("2026-06-26T11:45Z"), parse_time("2026-06-26T12:00Z"))
    (stored,) = lake.read("exit_state", span=then).to_dicts()
    (risk,) = lake.read("grid_risk", span=then).to_dicts()
    assert (row["state"], row["since"]) == (stored["state"], stored["since"].strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert (row["price"], row["total_pnl"], row["p_stop_24h"]) == (risk["price"], risk["total_pnl"], risk["p_stop_24h"])


def test_what_is_stored_is_old_by_now_and_called_so_first(mm: Callable[..., tuple[int, str, str]]) -> None:
    code, said, _ = mm("status")
    assert code == 0
    assert said.startswith("STALE no grid was judged since 2026-06-2")
    assert mm("status", "--check")[0] >= 4


def test_the_exit_code_of_a_check_is_that_of_the_worst_grid(
    mm: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    lake, noon = Lake(folder / "data" / "history"), parse_time("2026-06-26T12:00Z")
    row = lake.read("exit_state", span=Span(noon - BAR, noon))
    commit = Commit("test", "exit_state", "noon")
    codes = {"NORMAL": 0, "WARNING": 3, "LATEST_ACCEPTABLE_EXIT": 5, "MANDATORY_EXIT": 6}
    try:
        for state, code in codes.items():
            lake.upsert("exit_state", row.with_columns(state=pl.lit(state)), commit=commit)
            assert mm("status", *AT_NOON, "--check")[0] == code, state
    finally:
        lake.upsert("exit_state", row, commit=commit)


def test_a_report_is_written_whole_or_not_at_all(
    mm: Callable[..., tuple[int, str, str]], tmp_path: Path, folder: Path
) -> None:
    target = tmp_path / "report.html"
    target.write_text("before")
    code, said, errors = mm("report", "--out", str(target), *AT_NOON, "--days", "1")
    assert (code, said) == (0, "")
    assert f"report: {target} (" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    page = target.read_text()
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert "As of <time>2026-06-26 12:00 UTC</time>" in page
    assert page.count('class="plot') == 2
    assert str(folder) not in page
    code, said, errors = mm("report", "--out", "-", *AT_NOON, "--no-money")
    assert (code, errors) == (0, "")
    assert said.startswith("<!doctype html>")
    assert said.count('class="plot') == 1


def test_ctrl_c_is_the_way_out_of_watching(folder: Path) -> None:
    process = subprocess.Popen(
        [*MM, "status", "--watch", "1"],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    # It is shown twice before it is stopped.
    for _ in range(2):
        while b"refused in 24 h" not in process.stdout.readline():
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, b"")


def test_without_a_command_the_help_is_all_that_is_said(mm: Callable[..., tuple[int, str, str]]) -> None:
    _, said, errors = mm()
    commands = ("tick", "backfill", "replay", "respond", "status", "report", "doctor", "sql", "MM_CONFIG")
    assert all(command in said for command in commands)
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("tick", "--as-of", "soon"), "--as-of: 'soon' is no time; write it like 2026-01-31"),
        (("tick", "--as-of", "2016-12-31"), "choose a quarter hour after 2017-01-01"),
        (("tick", "--as-of", "2199-01-01"), "that has closed"),
        (("backfill",), "--from"),
        (("backfill", "--from", "june"), "--from: 'june' is no time"),
        (
            ("backfill", "--from", "2026-06-25", "--symbols", "ETH-USD"),
            "'ETH-USD' is not in markets.yaml; did you mean ETH-USDT?",
        ),
        (("backfill", "--from", "2026-06-25", "--to", "2026-06-01"), "the first one first"),
        (("backfill", "--from", "2016-12-31", "--to", "2017-01-02"), "choose days from 2017-01-01"),
        (("backfill", "--from", "2026-06-25", "--to", "2199-01-01"), "to today"),
        (("replay", "--from", "2026-06-25", "--to", "2026-06-01"), "the first one first"),
        (
            ("replay", "--from", "2026-06-25", "--symbols", "ETH"),
            "'ETH' is not in markets.yaml; did you mean ETH-USDT?",
        ),
        (
            ("replay", "--from", "2026-01-30", "--to", "2026-02-02"),
            "ETH-USDT: 384 of 384 candles from 2026-01-30T00:00:00Z to 2026-02-03T00:00:00Z are not in the lake, the "
            "first 2026-01-30T00:00:00Z; fetch them with `mm backfill --from 2026-01-30 --to 2026-02-02`",
        ),
        (("respond", "et", "stopped"), "'et' is no grid of the configuration; did you mean eth?"),
        (("respond", "eth", "stoped"), "'stoped' is no response; did you mean stopped?"),
        (("respond", "eth", "kept", "--at", "2199-01-01"), "lies in the future"),
        (("respond", "eth", "kept", "--at", "2026-01-01"), "eth: it did not run at 2026-01-01T00:00:00Z; its first"),
        (("status", "--grid", "et"), "--grid: 'et' is no grid of the configuration; did you mean eth?"),
        (("status", "--as-of", "2199-01-01"), "choose a time after 2017-01-01 that has passed"),
        (("status", "--watch", "5", "--json"), "--watch: shows the present to a person; leave out"),
        (("report",), "--out"),
        (("report", "--out", "/nowhere/x.html"), "--out /nowhere/x.html: No such file or directory; name a file"),
        (("report", "--out", "-", "--open"), "there is no file to open with `--out -`"),
        (("sql", "SELECT * FROM nowhere"), "nowhere does not exist! Did you mean"),
        (("sql", "SELEC 1"), "SELEC"),
        (("sql", "SELECT 1; DELETE FROM candles"), "DELETE is not a query; write SELECT"),
        (("sql", "SELECT CAST('x[/]y' AS INTEGER)"), "x[/]y"),
        (("sql", "FROM tick", "--out", "rows.xls"), "--out rows.xls: a file is one of .csv, .json, .parquet"),
        (("sql", "FROM tick", "--out", "nowhere/rows.csv"), "--out nowhere/rows.csv: No such file or directory"),
        (("sql", "FROM tick", "--format", "csv", "--json"), "--json and --format csv contradict each other"),
        (("sql", "FROM tick", "--at", "soon"), "--at: 'soon' is no time"),
        (("sql", "FROM tick", "--at", "2199-01-01"), "--at 2199-01-01: 2199-01-01T00:00:00Z lies in the future"),
        (("sql", "FROM tick", "--at", "2020-01-01"), "nothing is kept of 2020-01-01T00:00:00Z; the oldest time"),
        (("sql", "--file", "nowhere.sql"), "--file nowhere.sql: No such file or directory"),
        (("sql", "SELECT INTERVAL 1 DAY AS day"), "day is an INTERVAL"),
        (("sql", "FROM candles a, candles b LIMIT 1"), "two columns of the answer have one name"),
        (("tik",), "Did you mean 'tick'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_is_one_line_with_the_remedy(
    mm: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], remedy: str
) -> None:
    code, said, errors = mm(*arguments)
    assert code != 0
    assert said == ""
    assert remedy in errors
    assert len(errors.strip().splitlines()) == 1
    assert "not foreseen" not in errors


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("doctor",),
        ("tick",),
        ("sql", "SELECT 1"),
        ("backfill", "--from", "2026-06-01"),
        ("replay", "--from", "2026-06-25"),
    ],
    ids=lambda command: command[0],
)
def test_a_configuration_that_is_not_there_is_said_by_every_command(
    mm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    code, said, errors = mm(*command)
    assert (code, said) == (1, "")
    assert "nowhere: no such folder; set MM_CONFIG_DIR" in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_file_that_is_no_yaml_is_named_with_its_line(
    mm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "markets.yaml").write_text("venues:\n  main: {kind: simulated\nmarkets: [\n")
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    code, said, errors = mm("status")
    assert (code, said) == (1, "")
    assert "markets.yaml" in errors
    assert "line 3" in errors
    assert len(errors.strip().splitlines()) == 1


def test_an_invalid_edit_is_said_while_the_last_valid_configuration_stays(
    mm: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    grid = folder / "configuration" / "grids" / "eth.yaml"
    valid = grid.read_text()
    try:
        grid.write_text(valid.replace("2480", "9999"))
        code, said, errors = mm("status", "--json")
        assert code == 0
        assert [row["grid"] for row in json.loads(said)] == ["eth"]
        assert "the last valid configuration stays in force" in errors
        assert "stop" in errors
        code, said, _ = mm("doctor", "--json")
        assert code == 1
        parts = {row["part"]: row for row in json.loads(said)}
        assert parts["configuration"]["result"] == "TO DO"
        assert "stop" in parts["configuration"]["detail"]
    finally:
        grid.write_text(valid)


def test_json_is_strict_whatever_a_query_returns(mm: Callable[..., tuple[int, str, str]]) -> None:
    query = (
        "SELECT 'nan'::DOUBLE AS nan, ['inf'::DOUBLE, 1] AS list, {'x': '-inf'::DOUBLE} AS struct, NULL AS nothing, "
        "TIMESTAMPTZ '2026-01-01 00:00:00+00' AS time, DATE '2026-01-01' AS day, 'Zürich [/]' AS text"
    )
    code, said, errors = mm("sql", query, "--json")
    assert (code, errors) == (0, "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(said, parse_constant=refuse) == [
        {
            "nan": "nan",
            "list": ["inf", 1.0],
            "struct": {"x": "-inf"},
            "nothing": None,
            "time": "2026-01-01T00:00:00Z",
            "day": "2026-01-01",
            "text": "Zürich [/]",
        }
    ]
    assert mm("sql", "SELECT 1 AS one WHERE false", "--json") == (0, "[]\n", "")


ODD = """
    SELECT 'a,b "c"' AS text, '' AS nothing, NULL::VARCHAR AS unknown, 'inf'::DOUBLE AS infinite, [1, NULL] AS list,
        {'at': TIMESTAMPTZ '2026-01-01T00:00:00Z', 'x': '-inf'::DOUBLE} AS struct,
        TIMESTAMPTZ '2026-01-01T00:00:00.25Z' AS time, TIMESTAMP '2026-01-01' AS naive, DATE '2026-01-01' AS day
"""


def test_csv_holds_every_value_as_text_that_can_be_read_again(mm: Callable[..., tuple[int, str, str]]) -> None:
    code, said, errors = mm("sql", ODD, "--format", "csv")
    assert (code, errors) == (0, "")
    header, row = csv.reader(said.splitlines())
    values = dict(zip(header, row, strict=True))
    assert values == {
        "text": 'a,b "c"', "nothing": "", "unknown": "", "infinite": "inf", "list": "[1, null]",
        "struct": '{"at": "2026-01-01T00:00:00Z", "x": "-inf"}', "time": "2026-01-01T00:00:00.250Z",
        "naive": "2026-01-01T00:00:00", "day": "2026-01-01",
    }  # fmt: skip
    # An empty text is quoted, and null is nothing.
    assert ',"",,inf,' in said


def test_a_file_has_the_format_of_its_suffix_and_parquet_loses_nothing(
    mm: Callable[..., tuple[int, str, str]], folder: Path, tmp_path: Path
) -> None:
    query = tmp_path / "query.sql"
    query.write_text("FROM exit_state ORDER BY grid_id, as_of")
    code, said, errors = mm("sql", "--file", str(query), "--out", str(tmp_path / "rows.parquet"))
    stored = Lake(folder / "data" / "history").read("exit_state")
    assert (code, said, errors) == (0, "", f"{stored.height} rows in {tmp_path / 'rows.parquet'}\n")
    assert_frame_equal(pl.read_parquet(tmp_path / "rows.parquet"), stored)
    mm("sql", "--file", str(query), "--out", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["as_of"] for row in rows] == [iso(time) for time in stored["as_of"]]
    mm("sql", "--file", str(query), "--out", str(tmp_path / "rows.csv"))
    assert pl.read_csv(tmp_path / "rows.csv").height == stored.height
    mm("sql", "FROM tick WHERE false", "--out", str(tmp_path / "none.parquet"))
    assert pl.read_parquet(tmp_path / "none.parquet").columns == list(dtypes("tick"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "query.sql", "rows.parquet", "rows.json", "rows.csv", "none.parquet"
    }  # fmt: skip


def test_without_a_query_tables_and_views_say_what_they_are(mm: Callable[..., tuple[int, str, str]]) -> None:
    code, said, errors = mm("sql")
    assert (code, errors) == (0, "")
    assert "One row for each change of a grid's exit state" in said
    names = [row["name"] for row in json.loads(mm("sql", "--json")[1])]
    assert names == [*TABLES, *VIEWS, "lake_schema"]


def test_a_table_ends_where_nobody_reads_on(mm: Callable[..., tuple[int, str, str]]) -> None:
    _, said, errors = mm("sql", "SELECT range AS number FROM range(3_000_000_000)")
    assert "999" in said
    assert "1000" not in said
    assert "the first 1,000 rows; `--out rows.parquet` (or .csv, .json) writes all of them" in errors


def test_a_reader_who_has_seen_enough_ends_a_query_without_an_error(folder: Path) -> None:
    process = subprocess.Popen(
        [*MM, "sql", "-", "--format", "csv"], env=environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write("SELECT range AS number FROM range(3_000_000_000)")
    process.stdin.close()
    assert [process.stdout.readline() for _ in range(2)] == ["number\n", "0\n"]
    process.stdout.close()
    assert process.wait(PATIENCE_SECONDS) == 0
    assert process.stderr.read() == ""


def test_ctrl_c_leaves_no_half_file_and_the_old_one_stays(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    target.write_text("old")
    process = subprocess.Popen(
        [*MM, "sql", "SELECT range AS number FROM range(3_000_000_000)", "--out", str(target)],
        env=environment(folder),
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(path.stat().st_size for path in tmp_path.glob(".rows.csv.*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert target.read_text() == "old"


@pytest.mark.long
def test_a_large_answer_is_written_as_it_comes(folder: Path, tmp_path: Path) -> None:
    # As text these rows are 200 MB, and as many in memory if they were gathered first.
    query = "SELECT range AS number, repeat('x', 95) AS text FROM range(2_000_000)"
    script = (
        "import resource, sys; from mm_dagster.cli import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for limit in (" LIMIT 1", ""):
        arguments = ("sql", query + limit, "--out", str(tmp_path / "rows.csv"))
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment(folder), capture_output=True, text=True
        )
        peaks.append(int(done.stdout) / 1024)
    assert (tmp_path / "rows.csv").stat().st_size > 200e6
    assert peaks[1] - peaks[0] < 150


def test_a_grid_that_was_never_evaluated_is_not_called_calm(
    mm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path))
    code, said, _ = mm("status")
    assert code == 0
    assert "Set-up is not finished: " in " ".join(said.split())
    assert "No trigger fires" not in said


DAYS = ("--from", "2026-06-25", "--to", "2026-06-26")


def test_replay_counts_the_verdicts_and_those_that_are_stored_otherwise(
    mm: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    code, said, errors = mm("replay", *DAYS, "--json")
    assert (code, errors) == (0, "")
    (row,) = json.loads(said)
    shares = [row.pop(name) for name in ("range_ok", "range_weak", "transition", "trend", "unknown")]
    assert sum(shares) == pytest.approx(1.0)
    assert row == {"symbol": "ETH-USDT", "bars": 192, "stored": 192, "differs": 0, "first_difference": None}
    # Under other thresholds other verdicts are found; what is stored stays.
    regime = folder / "configuration" / "regime.yaml"
    try:
        regime.write_text("logits: {range_midpoint: 0.9}\n")
        code, said, _ = mm("replay", *DAYS, "--json")
        (other,) = json.loads(said)
        assert code == 0
        assert other["differs"] > 0
        assert DAYS[1] < other["first_difference"] <= "2026-06-27T00:00:00Z"
        code, said, _ = mm("replay", *DAYS, "--check", "--json")
        live = json.loads(said)[-1]
        assert (code, live["proof"], live["result"]) == (0, "live_equals_backfill", "HOLDS")
        assert live["not_compared"] == "192 rows of ETH-USDT were written under another configuration"
    finally:
        # Without the file what it said would stay in force.
        regime.write_text("{}\n")
    assert f"{shares[0]:.1%}" in mm("replay", *DAYS)[1]


def test_replay_proves_a_span_and_names_the_first_cell_that_differs(
    mm: Callable[..., tuple[int, str, str]], folder: Path
) -> None:
    last = ("--from", "2026-06-26", "--to", "2026-06-26", "--check")
    code, said, errors = mm("replay", *last)
    assert (code, errors) == (0, "")
    assert "cells of ETH-USDT on 2026-06-26 recomputed on history cut at each bar: none differs." in said
    assert "cells of ETH-USDT on 2026-06-26 recomputed from the stored candles: none differs." in said
    assert "Nothing was compared on 2026-06-26. Not compared: 192 rows of ETH-USDT have less than 1.5 times" in said
    lake, noon = Lake(folder / "data" / "history"), parse_time("2026-06-26T12:00Z")
    row = lake.read("regime_verdict", span=Span(noon - BAR, noon))
    commit = Commit("test", "regime_verdict", "noon")
    lake.upsert("regime_verdict", row.with_columns(trend_score=pl.lit(0.5)), commit=commit)
    try:
        code, said, errors = mm("replay", *last, "--json")
        assert code == 1
        assert [(proof["result"], proof["differing"]) for proof in json.loads(said)] == [
            ("HOLDS", 0),
            ("NOTHING COMPARED", 0),
            ("DIFFERS", 1),
        ]
        assert errors == (
            "error: live_equals_backfill: ETH-USDT at 2026-06-26T12:00:00Z: trend_score is stored as 0.5, and "
            f"recomputed as {row['trend_score'].item()}\n"
        )
    finally:
        lake.upsert("regime_verdict", row, commit=commit)


def test_ctrl_c_ends_a_replay_at_once_with_130(folder: Path) -> None:
    # The bar is only drawn on a terminal, and tells that the work has begun.
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MM, "replay", "--from", "2026-05-15", "--to", "2026-06-26", "--check"],
        env={**environment(folder), "TERM": "xterm"},
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    while b"replay" not in said:
        said += os.read(ours, 4096)
    # A terminal that nobody reads is full soon, and then the bar waits for it.
    reader = threading.Thread(target=read_to_the_end, args=(ours,))
    reader.start()
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(PATIENCE_SECONDS) == 130
    # A second on an idle machine; other tests may run beside this one. The replay itself takes minutes.
    assert time.monotonic() - began < 10
    reader.join()
    os.close(ours)


def read_to_the_end(terminal: int) -> None:
    """Takes what a process writes, until it has ended: Linux then tells an error in place of an end."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


@pytest.mark.long
def test_credentials_are_called_missing_or_present_and_never_shown(folder: Path) -> None:
    live = folder / "live"
    live.mkdir(exist_ok=True)
    # Nothing listens on port 9: the venue and Pushover are out of reach.
    away = "http://127.0.0.1:9"
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": away}
    markets = {"venues": {"main": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (live / "markets.yaml").write_text(yaml.safe_dump(markets))
    (live / "alerts.yaml").write_text(yaml.safe_dump({"pushover": {"api_url": away}}))
    here = {"MM_CONFIG_DIR": str(live), "MM_DATA_DIR": str(folder / "other")}
    secrets = {"PUSHOVER_TOKEN": "token-nobody-may-see", "PUSHOVER_USER": "user-nobody-may-see"}
    # Both wait for the network that is not there: side by side.
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run, folder, "doctor", "--json", **here, **more) for more in ({}, secrets)]
        without, present = (one.result() for one in runs)
    assert without.returncode == 1
    details = {row["part"]: row["detail"] for row in json.loads(without.stdout)}
    assert "PUSHOVER_TOKEN and PUSHOVER_USER not set" in details["Pushover"]
    assert "nobody-may-see" not in present.stdout + present.stderr


def test_the_doctor_reads_the_second_channel_without_showing_it(
    mm: Callable[..., tuple[int, str, str]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "configuration", tmp_path / "configuration")
    names = {"apprise": [{"url_env": "MM_GOOD"}, {"url_env": "MM_BAD"}], "heartbeat": {"url_env": "MM_UNSET"}}
    (tmp_path / "configuration" / "alerts.yaml").write_text(yaml.safe_dump(names))
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "configuration"))
    monkeypatch.setenv("MM_GOOD", "json://me:hunter2@127.0.0.1/")
    monkeypatch.setenv("MM_BAD", "hunter2 is no address")
    _, said, errors = mm("doctor", "--json")
    found = {row["part"]: (row["result"], row["detail"]) for row in json.loads(said)}
    assert found["address MM_GOOD"] == ("OK", "MM_GOOD can be read; `mm alert-test` tries it")
    assert found["address MM_BAD"][0] == found["address MM_UNSET"][0] == "TO DO"
    assert found["address MM_BAD"][1].startswith("MM_BAD holds no address that apprise can read")
    assert "hunter2" not in said + errors


@pytest.mark.long
def test_ctrl_c_ends_a_backfill_with_130_and_keeps_what_was_finished(folder: Path) -> None:
    process = subprocess.Popen(
        [*MM, "backfill", "--from", "2025-01-01", "--to", "2026-05-31"],
        env=environment(folder),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # The first month is done when the last stage has begun with the next one.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not finished(folder, "2025-02-01T00:00:00Z"):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(PATIENCE_SECONDS) == 130
    assert time.monotonic() - began < 10
    assert process.stderr is not None
    assert b"what was finished stays" in process.stderr.read()
    assert finished(folder, "2025-02-01T00:00:00Z")
    assert not finished(folder, "2026-06-01T00:00:00Z")
    # The same again goes on where it stopped; one day more is enough to see it.
    assert run(folder, "backfill", "--from", "2025-01-01", "--to", "2025-02-01").returncode == 0
    verdicts = Lake(folder / "data" / "history").read("regime_verdict", symbols=["ETH-USDT"])
    months = verdicts.filter(pl.col("as_of").is_between(*map(parse_time, ("2025-01-01T00:15:00Z", "2025-02-02"))))
    assert months.height == 32 * 96


def finished(folder: Path, as_of: str) -> bool:
    """Whether there is a verdict at that time, so that the month that ends there is complete."""
    time = parse_time(as_of)
    return not Lake(folder / "data" / "history").read("regime_verdict", span=Span(time - BAR, time)).is_empty()


def test_the_plan_to_leave_says_what_to_sell_and_what_is_not_known(mm: Callable[..., tuple[int, str, str]]) -> None:
    at = ("--as-of", "2026-06-26T12:01Z")
    code, text, told = mm("exit", "eth", *at)
    assert code == 0, told
    said = " ".join(text.split())
    assert "SIMULATED: there is nothing to sell." in said
    assert "The plan to leave eth, by the bar of 2026-06-26 12:00 UTC." in said
    assert "1. Stop the grid on the exchange" in said
    assert "immediate or cancel" in said
    assert "What is not known:" in said
    code, text, told = mm("exit", "eth", *at, "--json")
    assert code == 0, told
    (row,) = json.loads(text)
    assert row["amount"] > 0
    assert row["minutes"] == 0
    assert row["slice_amount"] == row["amount"]
    assert [one["minutes"] for one in row["horizons"]] == [0, 5, 15, 60]
    for one in row["horizons"]:
        assert one["low_80_bp"] <= one["expected_bp"] <= one["high_80_bp"]
    assert row["limit_price"] == pytest.approx(0.995 * row["price"])
    code, text, _ = mm("exit", "eth", *at, "--over", "15", "--json")
    assert json.loads(text)[0]["slices"] == 15


def test_no_plan_is_said_with_the_reason_and_the_remedy(mm: Callable[..., tuple[int, str, str]]) -> None:
    for arguments, expected in (
        (("exit", "etj"), "etj: there is no such grid; did you mean eth?"),
        (("exit", "eth", "--as-of", "2026-06-26T12:01Z", "--over", "7"), "0, 5, 15, 60 minutes; choose one"),
        (("exit", "eth", "--as-of", "2026-06-22T12:00Z"), "a tick or `mm backfill` computes it"),
    ):
        code, text, told = mm(*arguments)
        assert code == 1
        assert text == ""
        assert expected in " ".join(told.split())
