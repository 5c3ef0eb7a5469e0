"""A maker on paper reads a log that grows: cut anywhere, killed at any time, it makes what the study makes of the whole."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from mm_dagster.errors import ForeseenError
from mm_dagster.makers.paper import Finished
from mm_dagster.makers.quotes import EXPECTED_VALUE, GLFT, NAIVE
from mm_dagster.makers.study import MakersError, Study, stretches, study
from mm_dagster.pipeline import paper_maker
from mm_dagster.pipeline.makers import sealed
from mm_dagster.pipeline.paper_maker import PAPER, PaperBook, PaperMakerError, Watch
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, files
from mm_dagster.recorder.places import Place, place_of, root_of
from mm_dagster.recorder.seal import manifest, seal, unsealed
from mm_dagster.recorder.status import MarketStatus, Status, write_whole
from mm_dagster.recorder.tail import TailError
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.pipeline.recorder import Recording, ns

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
EXCHANGE, SYMBOL = "binance", "ETH-USDT"
MAKERS = {
    "stretch_minutes": 3, "learn_stretches": 3, "decide_ms": 1000, "order": 500, "inventory": 2000, "least_order": 1,
    "shifts": 2, "touch_share": 1.0, "naive_half_spread_bp": 0.5, "fee_bp": 0, "taker_fee_bp": 0,
    "distances_bp": [0, 1, 2, 5, 10],
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for until it is on the disk, which tests of the log are about."""
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda file: None)


def project_in(folder: Path) -> Project:
    configure(folder)
    (folder / "configuration" / "makers.yaml").write_text(yaml.safe_dump(MAKERS))
    books = {"record": True, "feeds": [{"exchange": EXCHANGE, "markets": [SYMBOL]}]}
    (folder / "configuration" / "books.yaml").write_text(yaml.safe_dump(books))
    return Project(str(folder / "configuration"), str(folder / "data"))


def place(project: Project) -> Place:
    return place_of(root_of(project.data), EXCHANGE, SYMBOL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four quarter hours and a little, with a lost connection, a recorder that was killed, and one that was ended."""
    project = project_in(tmp_path_factory.mktemp("whole"))
    made = Recording(project.data, EXCHANGE, SYMBOL, ns(NOON + timedelta(minutes=-2)))
    made.until(ns(NOON + timedelta(minutes=20)), 0.4)
    made.disconnect()
    made.until(ns(NOON + timedelta(minutes=21)), 0.4)
    made.connect()
    made.until(ns(NOON + timedelta(minutes=37)), 0.4)
    made.kill()
    made.now += 20 * SECOND_NS
    made.start()
    made.until(ns(NOON + timedelta(minutes=46)), 0.4)
    made.until(ns(NOON + timedelta(minutes=60, seconds=5)), 0.4)
    made.stop()
    return project


def studied(project: Project) -> Study:
    """The study's own code over all of it at once."""
    folder = place(project)
    for quarter in unsealed(folder.log, folder.segments):
        seal(f"{EXCHANGE}:{SYMBOL}", folder.log, folder.segments, quarter)
    left_out: list[str] = []
    tracks = tuple(sealed(project, EXCHANGE, SYMBOL, manifest(folder.segments), left_out))
    assert left_out == []
    config = project.config.makers
    return study(stretches(tracks, config), config, fees_bp=())


class Growing:
    """The log of a project as it was when so many of its bytes had been written."""

    def __init__(self, source: Project, project: Project) -> None:
        self._from, self._to = place(source).log, place(project).log
        self._to.mkdir(parents=True)
        self._files = [(one.path.name, one.path.read_bytes()) for one in files(self._from)]
        self.size = sum(len(content) for _, content in self._files)
        self.written = 0

    def grow(self, count: int) -> None:
        """So many bytes more, wherever that cuts a frame; a file has its name once a byte of it is there."""
        end, start = min(self.written + count, self.size), 0
        for name, content in self._files:
            part = content[max(0, self.written - start) : max(0, end - start)]
            if part:
                with (self._to / name).open("ab") as file:
                    file.write(part)
            start += len(content)
        self.written = end


@pytest.mark.parametrize(("maker", "seed"), [(NAIVE, 1), (EXPECTED_VALUE, 2), (GLFT, 3), (NAIVE, 4)])
def test_cut_anywhere_and_killed_at_any_time_it_makes_what_the_study_makes(
    maker: str, seed: int, whole: Project, tmp_path: Path
):
    found = studied(whole)
    expected = dict(zip(found.starts.tolist(), found.made[maker], strict=True))
    rng = random.Random(seed)
    project = project_in(tmp_path)
    log = Growing(whole, project)
    log.grow(int(0.35 * log.size))
    book = PaperBook(project, EXCHANGE, SYMBOL, maker)
    done: dict[int, Finished] = {}
    begun, kills, looks, live = [book.until_ns], 0, 0, 0
    while log.written < log.size:
        log.grow(int(rng.expovariate(1 / (log.size / 80))))
        for one in book.read():
            done[one.stretch.track.from_ns] = one
            book.keep(one)
        looks += 1
        live += book.maker.live is not None
        if rng.random() < 0.06:
            kills += 1
            book.close()
            book = PaperBook(project, EXCHANGE, SYMBOL, maker)
            begun.append(book.until_ns)
    assert looks > 30
    assert live > 10
    assert kills > 0
    fills = 0
    for start, one in done.items():
        whole_one = expected[start]
        assert one.made.matched.fills.tolist() == whole_one.matched.fills.tolist()
        assert one.made.matched.quotes.tolist() == whole_one.matched.quotes.tolist()
        assert one.made.ledger.fills.tolist() == whole_one.ledger.fills.tolist()
        assert one.made.ledger.twice_mid.tolist() == whole_one.ledger.twice_mid.tolist()
        assert [each.fills.tolist() for each in one.made.shifted] == [e.fills.tolist() for e in whole_one.shifted]
        fills += len(one.made.matched.fills)
    assert fills > 10
    # None but those in which it was killed or had not begun is lacking.
    length = 3 * 60 * SECOND_NS
    lacks = [s for s in expected if s not in done]
    assert all(any(s < at <= s + length for at in begun if at) or s < (begun[0] or 0) for s in lacks)
    kept = project.lake.read("maker_study")
    assert set(kept["study"]) == {PAPER}
    assert kept.height == len(done)
    assert kept["passes"].null_count() == kept.height
    assert project.lake.read("trial").is_empty()
    lake_fills = project.lake.read("maker_fill")
    assert lake_fills.height == sum(len(one.made.ledger.fills) for one in done.values())
