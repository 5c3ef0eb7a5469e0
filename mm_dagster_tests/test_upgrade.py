"""A lake and a configuration of an older program under this one, and back with a backup; see data/README.md."""

from __future__ import annotations

import tarfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.history import backup as backups
from mm_dagster.history.lake import Lake
from mm_dagster.tables import registry
from mm_dagster_tests.faults import spine
from mm_dagster_tests.faults.clockwork import computer_clock

pytestmark = pytest.mark.long

ARCHIVE = Path(__file__).parent / "data" / "upgrade.tar.gz"
LAST = datetime(2026, 6, 29, 16, 45, tzinfo=UTC)
"""The older program's last tick."""
NEXT = datetime(2026, 6, 29, 17, 0, tzinfo=UTC)
BAR = ["symbol", "open_time", "close_time", "open", "high", "low", "close", "volume", "status", "venue"]


def silent(_: int) -> None:
    """Progress is nobody's concern here."""


def everything(data: Path) -> dict[str, pl.DataFrame]:
    """All tables, over a connection of their own."""
    lake = Lake(data / "history")
    return {name: lake.read(name) for name in registry.TABLES}


def put_back(folder: Path, data: Path, *, force: bool) -> None:
    """Restores the older program's own backup."""
    backups.restore(folder / "backup.tar.gz", backups.Places(data, folder / "dagster"), force=force, advance=silent)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, pl.DataFrame]]:
    """The folder, the data after this program's first tick, and what the tables held before it."""
    folder = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    data = folder / "data"
    put_back(folder, data, force=False)
    before = everything(data)
    with spine.surroundings(folder / "configuration", data):
        spine._stages()
        with computer_clock(lambda: NEXT):
            spine.tick(folder / "configuration", data, NEXT)
            spine.send(folder / "configuration", data)
    return folder, data, before


def test_the_older_programs_tables_hold_what_it_wrote(
    upgraded: tuple[Path, Path, dict[str, pl.DataFrame]],
) -> None:
    *_, before = upgraded
    assert before["candles"].filter(pl.col("close_time") == LAST)["symbol"].to_list() == [
        "AAA-USDT", "BBB-USDT", "SOL-USDT",
    ]  # fmt: skip
    assert set(before["exit_state"]["grid_id"]) == {"aaa", "bbb", "sol"}


def test_no_candle_of_the_older_program_is_lost_or_changed(
    upgraded: tuple[Path, Path, dict[str, pl.DataFrame]],
) -> None:
    _, data, before = upgraded
    known = before["candles"].filter(pl.col("status") == "TRADED").select(BAR)
    now = everything(data)["candles"].select(BAR)
    assert_frame_equal(now.join(known, on=["symbol", "open_time"], how="semi"), known, check_exact=True)


def test_what_cannot_be_made_again_stays(upgraded: tuple[Path, Path, dict[str, pl.DataFrame]]) -> None:
    _, data, before = upgraded
    now = everything(data)
    for name in ("notification", "operator_response", "grid_episode", "tick"):
        key = registry.TABLES[name].primary_key()
        assert before[name].join(now[name], on=key, how="anti").is_empty(), name


def test_the_simulated_grid_goes_on_where_it_stood(upgraded: tuple[Path, Path, dict[str, pl.DataFrame]]) -> None:
    _, data, before = upgraded
    columns = ["as_of", "state", "since"]
    was = before["exit_state"].filter(pl.col("grid_id") == "sol").select(columns)
    now = everything(data)["exit_state"].filter(pl.col("grid_id") == "sol").select(columns)
    assert_frame_equal(now.filter(pl.col("as_of") <= LAST), was, check_exact=True)
    assert now["as_of"].max() == NEXT


def test_the_way_back_is_the_backup(upgraded: tuple[Path, Path, dict[str, pl.DataFrame]], tmp_path: Path) -> None:
    folder, data, before = upgraded
    places = backups.Places(data, folder / "dagster")
    after = everything(data)
    with backups.beside(data, "backup") as staged:
        left_out = backups.stage(places, staged)
        backups.pack(staged, tmp_path / "new.tar.gz", left_out=left_out, advance=silent)
    spine.close(data)
    put_back(folder, data, force=True)
    for name, rows in everything(data).items():
        assert_frame_equal(rows, before[name], check_exact=True)
    again = tmp_path / "again"
    backups.restore(tmp_path / "new.tar.gz", backups.Places(again, again / "dagster"), force=False, advance=silent)
    for name, rows in everything(again).items():
        assert_frame_equal(rows, after[name], check_exact=True)
