"""What is kept of logs and segments: by days, and by what is free on the disk.

A file of a log goes only when a complete segment has it, and the newest never. Where room is short, files of the log go
first, since segments have what is in them; then the oldest segments, and the newest never.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mm_dagster.recorder.log import QUARTER_NS, LogFile, files
from mm_dagster.recorder.seal import Segment, is_intact, manifest

DAY_NS = 24 * 4 * QUARTER_NS


@dataclass(frozen=True)
class Kept:
    """What a folder may hold.

    Attributes:
        log_days: days that a file of the log is kept after its quarter hour, once it is sealed.
        segment_days: days that a segment is kept.
        free_bytes: what is to be free on the disk; 0: whatever is.
    """

    log_days: float
    segment_days: float
    free_bytes: int = 0


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        logs: names of files of the log.
        segments: names of segments.
        is_short: whether still less than asked for is free, and nothing is left that may go.
        said: what could not be removed, one line each.
    """

    logs: tuple[str, ...]
    segments: tuple[str, ...]
    is_short: bool
    said: tuple[str, ...]


def prune(
    log: Path,
    segments: Path,
    kept: Kept,
    now_ns: int,
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> Pruned:
    """Removes what need not be kept, the oldest first.

    Args:
        log: folder of a log.
        segments: folder of its segments.
        kept: how much is.
        now_ns: nanoseconds since 1970, UTC.
        free: how much is free on the disk, bytes.
    """
    said: list[str] = []

    def is_short() -> bool:
        return kept.free_bytes > 0 and log.is_dir() and free(log) < kept.free_bytes

    def remove(*paths: Path) -> bool:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            said.append(f"{paths[0]}: cannot be removed: {error.strerror or error}")
            return False
        return True

    gone_logs = [
        file.path.name
        for file in _sealed(log, segments)
        if (_age_days(file.quarter_ns, now_ns) > kept.log_days or is_short()) and remove(file.path)
    ]
    has_log = {file.quarter_ns for file in files(log)}
    gone_segments = [
        row.file
        for row in manifest(segments)[:-1]
        if row.quarter_ns not in has_log
        and (_age_days(row.quarter_ns, now_ns) > kept.segment_days or is_short())
        and remove(segments / row.file, segments / f"{Path(row.file).stem}.json")
    ]
    return Pruned(tuple(gone_logs), tuple(gone_segments), is_short(), tuple(said))


def _sealed(log: Path, segments: Path) -> Iterator[LogFile]:
    """Files of a log that a complete segment has, and that are still what was sealed; not the newest."""
    rows: dict[int, Segment] = {row.quarter_ns: row for row in manifest(segments) if row.is_complete}
    intact: dict[int, bool] = {}
    for file in files(log)[:-1]:
        row = rows.get(file.quarter_ns)
        sizes = {part.name: part.size for part in row.parts} if row else {}
        if row is None or sizes.get(file.path.name) != file.path.stat().st_size:
            continue
        if file.quarter_ns not in intact:
            intact[file.quarter_ns] = is_intact(segments, row)
        if intact[file.quarter_ns]:
            yield file


def _age_days(quarter_ns: int, now_ns: int) -> float:
    return (now_ns - quarter_ns - QUARTER_NS) / DAY_NS
