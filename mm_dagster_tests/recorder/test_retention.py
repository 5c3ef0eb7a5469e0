"""What is kept: never less than the newest, and no file of the log that no complete segment has."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_dagster.recorder.log import QUARTER_NS, files
from mm_dagster.recorder.retention import DAY_NS, Kept, prune
from mm_dagster.recorder.seal import manifest, seal, unsealed
from mm_dagster_tests.recorder.logs import START
from mm_dagster_tests.recorder.test_seal import MARKET, recorded

NOW = START + 10 * DAY_NS


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of four quarter hours."""
    recorded(tmp_path / "log", 59)
    return tmp_path / "log"


@pytest.fixture
def segments(tmp_path: Path, log: Path) -> Path:
    """The first three, sealed."""
    for quarter in unsealed(log, tmp_path / "segments"):
        seal(MARKET, log, tmp_path / "segments", quarter)
    return tmp_path / "segments"


def test_what_is_not_sealed_stays_however_old_it_is(tmp_path: Path, log: Path) -> None:
    done = prune(log, tmp_path / "segments", Kept(0, 0, 10**18), NOW, lambda _: 0)
    assert (done.logs, done.segments, done.is_short) == ((), (), True)
    assert len(files(log)) == 4


def test_sealed_files_go_by_age_and_the_newest_stays(log: Path, segments: Path) -> None:
    names = [file.path.name for file in files(log)]
    now = START + DAY_NS + 2 * QUARTER_NS + 1
    done = prune(log, segments, Kept(1, 30), now)
    assert done.logs == tuple(names[:2])
    assert (done.segments, done.is_short, done.said) == ((), False, ())
    assert prune(log, segments, Kept(1, 30), NOW).logs == (names[2],)
    assert [file.path.name for file in files(log)] == names[3:]
    assert len(manifest(segments)) == 3


def test_segments_go_by_age_after_their_logs_and_the_newest_stays(log: Path, segments: Path) -> None:
    assert prune(log, segments, Kept(100, 1), NOW).segments == ()
    done = prune(log, segments, Kept(1, 1), NOW)
    assert len(done.logs) == 3
    assert len(done.segments) == 2
    assert len(manifest(segments)) == 1
    assert len(list(segments.glob("*.parquet"))) == 1
    assert unsealed(log, segments) == []


def test_where_room_is_short_logs_go_first_and_no_more_than_needed(log: Path, segments: Path) -> None:
    free = [100, 100, 1000]
    done = prune(log, segments, Kept(100, 100, 500), NOW, lambda _: free.pop(0) if free else 1000)
    assert len(done.logs) == 2
    assert done.segments == ()
    done = prune(log, segments, Kept(100, 100, 500), NOW, lambda _: 0)
    assert (len(done.logs), len(done.segments), done.is_short) == (1, 2, True)
    assert len(files(log)) == 1


def test_a_file_that_changed_since_or_whose_segment_did_stays(log: Path, segments: Path) -> None:
    first, second, third, _ = files(log)
    with first.path.open("ab") as file:
        file.write(b"more")
    row = manifest(segments)[1]
    data = bytearray((segments / row.file).read_bytes())
    data[50] ^= 1
    (segments / row.file).write_bytes(data)
    assert prune(log, segments, Kept(0, 100), NOW).logs == (third.path.name,)
    assert first.path.exists()
    assert second.path.exists()


def test_the_log_of_a_segment_that_is_not_complete_stays(tmp_path: Path, log: Path) -> None:
    first = files(log)[0]
    data = bytearray(first.path.read_bytes())
    data[len(data) // 2] ^= 1
    first.path.write_bytes(data)
    seal(MARKET, log, tmp_path / "segments", START)
    assert prune(log, tmp_path / "segments", Kept(0, 0), NOW).logs == ()
    assert first.path.exists()
