"""A maker on paper reads a log that grows: cut anywhere and killed at any time it makes what the study makes of it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from mm_dagster.errors import ForeseenError
from mm_dagster.makers.matching import PlanError
from mm_dagster.makers.paper import Finished
from mm_dagster.makers.quotes import EXPECTED_VALUE, GLFT, NAIVE
from mm_dagster.makers.study import Made, MakersError, Study, stretches, study
from mm_dagster.pipeline import paper_maker
from mm_dagster.pipeline.makers import sealed
from mm_dagster.pipeline.paper_maker import PAPER, PaperBook, PaperMakerError, Watch
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.log import SECOND_NS, files
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


@pytest.fixture(scope="module")
def studied(whole: Project) -> Study:
    """The study's own code over all of it at once."""
    folder = place(whole)
    for quarter in unsealed(folder.log, folder.segments):
        seal(f"{EXCHANGE}:{SYMBOL}", folder.log, folder.segments, quarter)
    left_out: list[str] = []
    tracks = tuple(sealed(whole, EXCHANGE, SYMBOL, manifest(folder.segments), left_out))
    assert left_out == []
    config = whole.config.makers
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


@pytest.mark.long
@pytest.mark.parametrize(("maker", "seed"), [(NAIVE, 1), (EXPECTED_VALUE, 2), (GLFT, 3), (EXPECTED_VALUE, 4)])
def test_cut_anywhere_and_killed_at_any_time_it_makes_what_the_study_makes(
    maker: str, seed: int, whole: Project, studied: Study, tmp_path: Path
):
    expected = dict(zip(studied.starts.tolist(), studied.made[maker], strict=True))
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
    # None but those in which it was killed or had not begun is lacking.
    length = 3 * 60 * SECOND_NS
    lacks = [start for start in expected if start not in done]
    assert all(start < (begun[0] or 0) or any(start < (at or 0) <= start + length for at in begun) for start in lacks)
    fills = same_as(expected, done)
    assert fills > 10
    kept = project.lake.read("maker_study")
    assert set(kept["study"]) == {PAPER}
    assert kept.height == len(done)
    assert kept["passes"].null_count() == kept.height
    assert project.lake.read("trial").is_empty()
    closed = sum(len(one.made.ledger.fills) for one in done.values())
    assert project.lake.read("maker_fill").height == closed


@pytest.mark.slow
def test_looked_at_some_times_it_makes_what_the_study_makes(whole: Project, studied: Study, tmp_path: Path):
    project = project_in(tmp_path)
    log = Growing(whole, project)
    log.grow(int(0.5 * log.size))
    book = PaperBook(project, EXCHANGE, SYMBOL, EXPECTED_VALUE)
    done: dict[int, Finished] = {}
    begun = book.until_ns
    while log.written < log.size:
        log.grow(log.size // 29)
        done |= {one.stretch.track.from_ns: one for one in book.read()}
    assert len(done) > 3
    # On what was under way when it began it does not quote: that would be with hindsight.
    assert begun is not None
    assert begun <= min(done) < begun + 2 * 3 * 60 * SECOND_NS
    assert same_as(dict(zip(studied.starts.tolist(), studied.made[EXPECTED_VALUE], strict=True)), done) > 10


def same_as(expected: dict[int, Made], done: dict[int, Finished]) -> int:
    """How many fills there were, all those of the study."""
    fills = 0
    for start, one in done.items():
        whole_one = expected[start]
        assert one.made.matched.fills.tolist() == whole_one.matched.fills.tolist()
        assert one.made.matched.quotes.tolist() == whole_one.matched.quotes.tolist()
        assert one.made.ledger.fills.tolist() == whole_one.ledger.fills.tolist()
        assert one.made.ledger.twice_mid.tolist() == whole_one.ledger.twice_mid.tolist()
        assert [each.fills.tolist() for each in one.made.shifted] == [e.fills.tolist() for e in whole_one.shifted]
        fills += len(one.made.matched.fills)
    return fills


# what is foreseen -----------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(whole: Project, tmp_path: Path) -> Iterator[tuple[Project, Growing, PaperBook]]:
    """A maker in the middle of a log."""
    project = project_in(tmp_path)
    log = Growing(whole, project)
    log.grow(int(0.4 * log.size))
    book = PaperBook(project, EXCHANGE, SYMBOL, NAIVE)
    yield project, log, book
    book.close()


def read_all(log: Growing, book: PaperBook) -> int:
    count = 0
    while log.written < log.size:
        log.grow(log.size // 40)
        count += len(list(book.read()))
    return count


def one_line(error: BaseException) -> str:
    assert isinstance(error, ForeseenError)
    assert "\n" not in str(error)
    return str(error)


def test_nothing_or_too_little_recorded_is_said(whole: Project, tmp_path: Path):
    project = project_in(tmp_path)
    with pytest.raises(PaperMakerError) as said:
        PaperBook(project, EXCHANGE, SYMBOL, NAIVE)
    assert "nothing is recorded; `mm record`" in one_line(said.value)
    log = Growing(whole, project)
    log.grow(3)
    with pytest.raises(PaperMakerError) as said:
        PaperBook(project, EXCHANGE, SYMBOL, NAIVE)
    assert "no book yet" in one_line(said.value)
    log.grow(int(0.1 * log.size))
    with pytest.raises(MakersError) as few:
        PaperBook(project, EXCHANGE, SYMBOL, NAIVE)
    assert "2 of 3 whole stretches of 3 minutes with a book are missing" in one_line(few.value)
    (tmp_path / "configuration" / "makers.yaml").write_text(yaml.safe_dump(MAKERS | {"stretch_minutes": 20}))
    with pytest.raises(MakersError) as long:
        PaperBook(Project(str(tmp_path / "configuration"), str(tmp_path / "data")), EXCHANGE, SYMBOL, NAIVE)
    assert "stretch_minutes is 20" in one_line(long.value)


def test_a_log_that_is_removed_beneath_it_ends_it(begun: tuple[Project, Growing, PaperBook]):
    project, _, book = begun
    assert list(book.read()) == []
    folder = place(project).log
    shutil.rmtree(folder)
    with pytest.raises(TailError) as said:
        list(book.read())
    assert "were removed before they were read; begin again" in one_line(said.value)


def test_files_that_are_pruned_before_they_are_read_end_it(whole: Project, begun: tuple[Project, Growing, PaperBook]):
    project, log, book = begun
    log.grow(log.size)
    folder = place(project).log
    there = files(folder)
    assert len(there) > 3
    for one in there[:-1]:
        one.path.unlink()
    with pytest.raises(TailError) as said:
        list(book.read())
    assert "were removed" in one_line(said.value)


def test_damage_in_the_newest_file_ends_it_and_a_torn_frame_does_not(begun: tuple[Project, Growing, PaperBook]):
    project, log, book = begun
    for _ in range(5):
        log.grow(1)
        assert list(book.read()) == []
    newest = files(place(project).log)[-1].path
    content = bytearray(newest.read_bytes())
    log.grow(20_000)
    grown = bytearray(newest.read_bytes())
    grown[len(content) + 5_000] ^= 0x10
    newest.write_bytes(grown)
    list(book.read())
    with pytest.raises(TailError) as said:
        list(book.read())
    assert "what follows is lost; see to the disk" in one_line(said.value)


def test_a_decision_that_would_be_another_one_ends_it(begun: tuple[Project, Growing, PaperBook]):
    _, log, book = begun
    while book.maker.live is None or book.maker.live.decided < 20:
        log.grow(2_000)
        assert list(book.read()) == []
    live = book.maker.live
    live.matched.quotes[3, 0, 0] += 1
    log.grow(20_000)
    with pytest.raises(MakersError) as said:
        list(book.read())
    assert "a decision that was made would be another one now" in one_line(said.value)


def test_quotes_that_do_not_fit_into_whole_numbers_end_it(whole: Project, tmp_path: Path):
    project = project_in(tmp_path)
    great = MAKERS | {"risk_aversion": 10, "inventory": 1e12}
    (tmp_path / "configuration" / "makers.yaml").write_text(yaml.safe_dump(great))
    log = Growing(whole, project)
    log.grow(int(0.5 * log.size))
    book = PaperBook(Project(str(tmp_path / "configuration"), str(tmp_path / "data")), EXCHANGE, SYMBOL, EXPECTED_VALUE)
    with pytest.raises(PlanError) as said:
        read_all(log, book)
    assert "lower risk_aversion or inventory in makers.yaml" in one_line(said.value)


MARKET = MarketStatus(
    EXCHANGE, SYMBOL, "IN_SYNC", (), 1, 1, 0, 1.0, 0, 0, None, None, "x.log", 1
)  # fmt: skip


def test_what_the_recorder_says_of_itself_ends_it_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = project_in(tmp_path)
    now = [NOON]
    monkeypatch.setattr(paper_maker, "now_here", lambda: now[0])
    watch = Watch(project, EXCHANGE, SYMBOL)
    root = root_of(project.data)

    def said(may: timedelta = timedelta(0)) -> str:
        with pytest.raises(PaperMakerError) as error:
            watch.look(may)
        return one_line(error.value)

    assert "no recorder ever ran here; start `mm record`" in said()
    root.mkdir(parents=True)
    status = Status(ns(NOON), True, 1, ns(NOON), "1", 2**40, (MARKET,))
    write_whole(root, status)
    watch.look(timedelta(0))
    now[0] = NOON + timedelta(seconds=31)
    assert "nothing was heard of the recorder since 2026-02-03T12:00:00Z; start `mm record`" in said()
    now[0] = NOON
    write_whole(root, replace(status, is_running=False))
    assert "the recorder was ended at 2026-02-03T12:00:00Z" in said()
    write_whole(root, replace(status, markets=()))
    assert "does not record it" in said()
    write_whole(root, replace(status, markets=(replace(MARKET, problem="the disk is full; make room"),)))
    assert "the disk is full; make room" in said()
    write_whole(root, replace(status, markets=(replace(MARKET, phase="SYNCING"),)))
    assert "its book is not in sync (SYNCING)" in said()
    # Under way it may be without one for a while, since a recorder asks again by itself.
    watch = Watch(project, EXCHANGE, SYMBOL)
    watch.look()
    now[0] = NOON + timedelta(seconds=20)
    watch.look()
    assert "not in sync" in said(timedelta(seconds=20))
    write_whole(root, status)
    watch.look()
    assert watch.without_since is None
