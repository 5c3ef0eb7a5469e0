"""What a command loads before it does anything: benchmarks/start.py measures what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mm_dagster_tests.conftest import PROJECT

OF_THE_DEMO = {"MM_CONFIG_DIR": str(PROJECT / "configs" / "demo"), "DAGSTER_HOME": str(PROJECT)}
HEAVY = {"dagster", "ccxt", "matplotlib", "optuna", "numba", "sqlalchemy"}
"""Each takes from a sixth of a second to two of a processor."""

LOADED = """
import json, sys
note = sys.argv.pop()
from mm_dagster.cli import main
try:
    main()
finally:
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps(loaded), file=open(note, "w"))
"""


def loaded_by(command: tuple[str, ...], folder: Path) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own on an empty folder, and the packages that it loaded."""
    places = {"MM_CONFIG_DIR": str(PROJECT / "configs" / "demo"), "MM_DATA_DIR": str(folder)}
    places |= {"MM_DAGSTER_DIR": str(folder / "dagster"), "DAGSTER_HOME": str(PROJECT)}
    note = folder / "loaded.json"
    # A file of its own: nothing that a command says is mistaken for it.
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command, str(note)],
        env={**os.environ, **places}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert note.is_file(), done.stderr
    return done.returncode, set(json.loads(note.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "needs"),
    [
        (("--help",), 0, set()),
        (("sql", "select 1"), 0, set()),
        (("status",), 0, set()),
        (("metrics",), 0, set()),
        # The beats of the daemon are in Dagster's storage, which only Dagster reads; on an empty folder there are none.
        (("health", "live"), 1, {"dagster", "sqlalchemy"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_loads_none_of_the_heavy_packages_that_it_does_not_need(
    command: tuple[str, ...], code: int, needs: set[str], tmp_path: Path
) -> None:
    ended, loaded = loaded_by(command, tmp_path)
    assert ended == code
    assert loaded & HEAVY == needs


@pytest.mark.slow
def test_the_help_opens_neither_the_history_nor_the_configuration(tmp_path: Path) -> None:
    _, loaded = loaded_by(("--help",), tmp_path)
    assert not loaded & {"duckdb", "dataframely", "pydantic", "sqlalchemy", "git", "requests"}


def test_the_tables_load_no_sqlalchemy_and_leave_it_to_whoever_needs_it() -> None:
    """A contract with dataframely: its schemas work without, see tables/dataframely_internals.py."""
    script = (
        "import sys; from mm_dagster.tables import registry; assert not any(n.startswith('sqlalchemy') for n in "
        "sys.modules); registry.TABLES['candles'].create_empty(); import sqlalchemy.orm; import dagster"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


READ_ONLY = """
import sys
from mm_dagster import environment
environment._can_write = lambda folder: False
from mm_dagster.cli import main
try:
    main()
except SystemExit as end:
    import numba
    print(numba.config.CACHE_DIR, end.code, file=open(sys.argv[-1], "w"))
"""


@pytest.mark.slow
def test_where_code_and_home_are_read_only_kernels_are_kept_below_the_data(tmp_path: Path) -> None:
    """numba looks for its folder when it is imported, and refuses to work without one."""
    places = {
        "MM_CONFIG_DIR": str(PROJECT / "configs" / "demo"),
        "MM_DATA_DIR": str(tmp_path),
        "DAGSTER_HOME": str(PROJECT),
    }
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    note = tmp_path / "note"
    script = READ_ONLY.replace("sys.argv[-1]", repr(str(note)))
    subprocess.run(
        [sys.executable, "-c", script, "sql", "select 1"],
        env={**clean, **places}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert note.read_text().split() == [str(tmp_path / "cache" / "numba"), "0"]


@pytest.mark.parametrize(
    "encoding",
    [pytest.param("latin-1", marks=pytest.mark.long), pytest.param("cp1252", marks=pytest.mark.long), "ascii"],
)
def test_a_terminal_that_is_not_utf_8_gets_plain_characters(tmp_path: Path, encoding: str) -> None:
    script = "import sys; from mm_dagster.cli import main; main()"
    places = {
        "MM_CONFIG_DIR": str(PROJECT / "configs" / "demo"),
        "MM_DATA_DIR": str(tmp_path),
        "DAGSTER_HOME": str(PROJECT),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, "sql", "SELECT 'Zoë ── ●×·–… ≥ 1' AS said"],
        env={**os.environ, **places, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout.decode(encoding)
    assert done.returncode == 0
    assert "?" not in said
    assert ("Zoe" if encoding == "ascii" else "Zoë") in said
    assert ">= 1" in said
