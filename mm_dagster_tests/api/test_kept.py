"""What the server keeps of a page is never shown when it is no longer true, whatever happens to the lake meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mm_dagster.api import kept as module
from mm_dagster.api.kept import Kept, Reading
from mm_dagster.bars import iso
from mm_dagster.history.connection import LakeError
from mm_dagster.history.lake import Commit
from mm_dagster.history.memory import Memory, Stamp
from mm_dagster.pages import gather, live
from mm_dagster.pages.page import Page
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.api.served import AS_OF, home, project_of, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    home(folder)
    project_of(folder).lake.close()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "home")
    return tmp_path / "home"


class Times:
    """A server's pages of one home, whose clock a test puts on, and how often each part was gathered."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.clock = folder, AS_OF + timedelta(minutes=1, seconds=10)
        self.gathered = 0
        self.kept = Kept(self.project)
        real = gather.page

        def page(*given: Any, **more: Any) -> Page:
            self.gathered += 1
            return real(*given, **more)

        monkeypatch.setattr(module.gather, "page", page)

    def project(self) -> Project:
        found = project_of(self.folder)
        found.now = lambda: self.clock  # type: ignore[method-assign]
        return found

    def page(self) -> Page:
        return self.kept.answered(lambda reading: reading.page())


@pytest.fixture
def times(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Times]:
    found = Times(folder, monkeypatch)
    yield found
    found.project().lake.close()


def noted(project: Project, name: str, at: datetime = AS_OF) -> None:
    """A commit that a page shows: an answer of somebody."""
    row = {
        "response_id": name, "grid_id": "eth", "activated_at": project.config.grids[0].activated_at, "at": at,
        "action": "reduced", "note": name, "within_window": None, "person": name,
    }  # fmt: skip
    project.lake.upsert("operator_response", pl.DataFrame([row]), commit=Commit("test", "operator_response", name))


def last_note(page: Page) -> str | None:
    found = page.grids[0].answer
    return found["note"] if found else None


def test_the_same_page_is_gathered_once_and_every_asker_has_it(times: Times) -> None:
    with ThreadPoolExecutor(20) as many:
        pages = list(many.map(lambda _: times.page(), range(40)))
    assert times.gathered == 1
    assert all(one is pages[0] for one in pages)


def test_a_commit_is_shown_at_once(times: Times) -> None:
    assert last_note(times.page()) is None
    for name in ("first", "second"):
        noted(times.project(), name)
        assert last_note(times.page()) == name
    assert times.gathered == 3


def test_an_answer_of_a_person_is_on_the_next_page(folder: Path) -> None:
    with served(folder) as api:
        browser = api.person("anna")
        before = browser.get(f"{api.url}/g/eth", timeout=60).text
        assert browser.get(f"{api.url}/g/eth", timeout=60).text == before
        body = {"action": "reduced", "note": "a word of anna"}
        done = browser.post(f"{api.url}/grids/eth/respond", json=body, timeout=60)
        assert done.status_code == 200, done.text
        assert "a word of anna" in browser.get(f"{api.url}/g/eth", timeout=60).text


def test_an_edited_configuration_is_live_and_an_invalid_one_is_said(times: Times) -> None:
    assert times.page().timezone == "UTC"
    alerts = times.folder / "configuration" / "alerts.yaml"
    alerts.write_text(yaml.safe_dump({"timezone": "Europe/Berlin"}))
    assert times.page().timezone == "Europe/Berlin"
    # As long, and within the same tick of the file system's clock.
    alerts.write_text(yaml.safe_dump({"timezone": "Europe/Athens"}))
    assert times.page().timezone == "Europe/Athens"
    alerts.write_text("timezone: [")
    assert times.page().config_error is not None
    alerts.write_text(yaml.safe_dump({"timezone": "Europe/Berlin"}))
    found = times.page()
    assert (found.timezone, found.config_error) == ("Europe/Berlin", None)


def test_what_grows_old_does_so_at_its_minute(times: Times) -> None:
    limit = AS_OF + times.page().stale_after
    for clock, is_stale in ((limit - timedelta(seconds=1), False), (limit, True), (limit + timedelta(hours=2), True)):
        times.clock = clock
        assert (times.page().stale is not None) == is_stale, clock
    # And back: the clock of a demo that is made again.
    times.clock = AS_OF + timedelta(minutes=1)
    assert times.page().stale is None


def test_within_a_minute_nothing_is_gathered_and_in_the_next_the_lake_is_not_asked(
    times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    times.page()
    times.clock += timedelta(seconds=20)
    times.page()
    assert times.gathered == 1
    asked: list[str] = []
    monkeypatch.setattr("mm_dagster.history.lake.Lake._read", lambda self, table, *_: asked.append(table))
    monkeypatch.setattr("mm_dagster.history.lake.Lake._checked", lambda self, query: asked.append(query))
    times.clock += timedelta(minutes=1)
    assert times.page().clock == times.clock
    assert times.gathered == 2
    assert asked == []


# the lake in other hands ----------------------------------------------------------------------------------------------


def by_rename(copy: Path, history: Path) -> None:
    history.rename(history.with_name("was"))
    shutil.copytree(copy, history)


def by_catalog_alone(copy: Path, history: Path) -> None:
    """As whoever restores by hand does: another file in the place of the catalogue, and its log gone."""
    for beside in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (history / beside).unlink(missing_ok=True)
    fresh = history / "fresh"
    shutil.copyfile(copy / "catalog.sqlite", fresh)
    fresh.replace(history / "catalog.sqlite")


def taken(project: Project, folder: Path) -> Path:
    """A copy of the history as it is."""
    copy = folder / "copy"
    project.lake.copy_to(copy)
    return copy


def over_the_old_one(copy: Path, history: Path) -> None:
    """The same file with another content."""
    for beside in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (history / beside).unlink(missing_ok=True)
    shutil.copyfile(copy / "catalog.sqlite", history / "catalog.sqlite")


@pytest.mark.parametrize("asks_between", [True, False])
@pytest.mark.parametrize("put_back", [by_rename, by_catalog_alone, over_the_old_one])
def test_a_restored_lake_that_counts_on_to_the_same_number_is_another(
    times: Times, tmp_path: Path, put_back: Callable[[Path, Path], None], asks_between: bool
) -> None:
    project = times.project()
    copy = taken(project, tmp_path)
    noted(project, "lost with the disk")
    number = project.lake.stamp().number
    assert last_note(times.page()) == "lost with the disk"
    put_back(copy, times.folder / "data" / "history")
    if asks_between:
        assert last_note(times.page()) is None
    noted(times.project(), "after the restore")
    assert times.project().lake.stamp().number == number
    assert last_note(times.page()) == "after the restore"


def test_a_catalogue_that_is_gone_is_an_error_and_no_page_of_before(times: Times, tmp_path: Path) -> None:
    times.page()
    history = times.folder / "data" / "history"
    history.rename(tmp_path / "elsewhere")
    (history).mkdir()
    shutil.copy(tmp_path / "elsewhere" / "lake.json", history)
    for _ in range(2):
        with pytest.raises(LakeError, match="catalog"):
            times.page()
    shutil.rmtree(history)
    (tmp_path / "elsewhere").rename(history)
    assert times.page().as_of == AS_OF


def test_the_upkeep_changes_nothing_of_a_page(times: Times) -> None:
    noted(times.project(), "kept")
    before = times.page()
    for _ in range(2):
        times.project().lake.maintain(0)
        after = times.page()
        assert last_note(after) == "kept"
        assert after.grids == before.grids
        assert after.markets == before.markets


def test_stamps_of_two_commits_differ_and_of_one_do_not(times: Times) -> None:
    lake = times.project().lake
    first = lake.stamp()
    assert first == lake.stamp() == Project(*_folders(times.folder)).whole_lake.stamp()
    noted(times.project(), "one")
    assert lake.stamp() != first


def _folders(folder: Path) -> tuple[str, str]:
    return str(folder / "configuration"), str(folder / "data")


# at the same moment ---------------------------------------------------------------------------------------------------


def test_a_failure_is_told_to_who_waited_and_not_kept(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    together, real = threading.Barrier(5, timeout=30), module.Kept.once
    failing = gather.page
    calls: list[int] = []

    def fails(*_: Any, **__: Any) -> Page:
        calls.append(1)
        raise LakeError("the disk is away")

    def once(self: Kept, *given: Any) -> Any:
        together.wait()
        return real(self, *given)

    monkeypatch.setattr(module.gather, "page", fails)
    monkeypatch.setattr(module.Kept, "once", once)

    def asked(_: int) -> str:
        try:
            times.page()
        except LakeError as error:
            return str(error)
        return "a page"

    with ThreadPoolExecutor(5) as many:
        assert set(many.map(asked, range(5))) == {"the disk is away"}
    monkeypatch.setattr(module.Kept, "once", real)
    monkeypatch.setattr(module.gather, "page", failing)
    assert times.page().as_of == AS_OF
    assert 1 <= len(calls) <= 5


def test_a_page_that_a_commit_came_into_is_not_kept(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    real, writes = gather._markets, [1]

    def markets(*given: Any) -> Any:
        found = real(*given)
        if writes.pop() if writes else 0:
            noted(times.project(), "meanwhile")
        return found

    monkeypatch.setattr(gather, "_markets", markets)
    assert last_note(times.page()) is None
    assert last_note(times.page()) == "meanwhile"
    assert last_note(times.page()) == "meanwhile"


def test_a_reading_of_before_a_commit_finds_and_leaves_nothing_of_after(times: Times) -> None:
    old = times.kept.reading()
    noted(times.project(), "new")
    assert last_note(times.page()) == "new"
    # It reads what is there by now, and that is not taken for what was there at its commit.
    assert last_note(old.page()) == "new"
    assert last_note(times.page()) == "new"
    assert times.gathered >= 2


def test_who_looks_is_in_no_page_of_another(folder: Path) -> None:
    with served(folder) as api:
        anna, bert = api.person("anna-maria"), api.person("bertram")
        for path in ("/", "/g/eth", "/right", "/state"):
            assert "anna-maria" in anna.get(api.url + path, timeout=60).text
            other = bert.get(api.url + path, timeout=60).text
            assert "bertram" in other
            assert "anna-maria" not in other


def test_a_page_that_was_looked_at_is_warm_after_a_commit(times: Times) -> None:
    made: list[datetime] = []

    def of_grid(reading: Reading) -> str:
        found = reading.page(30)
        made.append(reading.clock)
        return live.now(found, reading.drawn(found), reading.nights(found))

    times.kept.answered(of_grid)
    times.kept.looked_at("/g/eth", of_grid)
    noted(times.project(), "new")
    times.kept.warm()
    gathered = times.gathered
    times.kept.answered(of_grid)
    assert last_note(times.page()) == "new"
    assert times.gathered == gathered
    assert len(made) == 3


# the memory -----------------------------------------------------------------------------------------------------------


def frame(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})


def test_the_memory_is_bounded_and_forgets_what_was_asked_for_longest_ago() -> None:
    memory = Memory(most_bytes=8 * 1_000)
    stamp = Stamp("lake", 1)
    reads: list[int] = []

    def asked(number: int) -> None:
        recall = memory.of(stamp)
        recall.rows(number, lambda: reads.append(number) or frame(400))  # type: ignore[func-returns-value]
        assert recall.keep(lambda: stamp)

    for number in (1, 2, 1, 3, 1):
        asked(number)
    assert reads == [1, 2, 3]
    assert memory.bytes <= 8_000
    asked(2)
    assert reads == [1, 2, 3, 2]


def test_ever_new_questions_about_next_to_nothing_fill_the_memory_no_more_than_others() -> None:
    memory, stamp = Memory(most_bytes=8_000), Stamp("lake", 1)
    for second in range(200):
        recall = memory.of(stamp)
        recall.rows(second, lambda: frame(1))
        assert recall.keep(lambda: stamp)
    assert len(memory._rows) < 16


def test_rows_that_are_changed_in_place_are_nobody_elses() -> None:
    memory, stamp = Memory(), Stamp("lake", 1)
    recall = memory.of(stamp)
    recall.rows("a", lambda: frame(3)).insert_column(0, pl.Series("y", [1, 2, 3]))
    assert recall.keep(lambda: stamp)
    assert memory.of(stamp).rows("a", lambda: frame(9)).columns == ["x"]


def test_of_another_commit_nothing_is_remembered() -> None:
    memory, first, second = Memory(), Stamp("lake", 1), Stamp("lake", 2)
    old = memory.of(first)
    old.rows("a", lambda: frame(1))
    new = memory.of(second)
    new.rows("a", lambda: frame(2))
    assert new.keep(lambda: second)
    assert old.keep(lambda: first)
    assert memory.of(second).rows("a", lambda: frame(3)).height == 2
    torn = memory.of(second)
    torn.rows("b", lambda: frame(4))
    assert not torn.keep(lambda: Stamp("lake", 3))
    # Once torn it stays so, however little it reads after that.
    assert not torn.keep(lambda: second)
    assert memory.of(second).rows("b", lambda: frame(5)).height == 5


# a time before there was anything -------------------------------------------------------------------------------------


def test_a_page_of_before_the_activation_says_so_and_blames_nobody(times: Times) -> None:
    began = times.project().config.grids[0].activated_at
    before = gather.page(times.project(), began - timedelta(days=3), looked_up=True)
    (one,) = before.grids
    assert one.waits_for == f"It was not active yet: this episode begins {iso(began)}."
    assert one.advice == one.waits_for
    words = " ".join([*before.problems, before.stale or "", live.history(before, {}, ())])
    assert "No tick had run by then." in words
    for misleading in (
        "local time taken for UTC",
        "No tick has run yet",
        "mm up",
        "Set-up is not finished",
        "mm doctor",
    ):
        assert misleading not in words
    # Whoever looks at now is told what may be wrong with a time that lies ahead.
    ahead = gather.page(times.project(), began - timedelta(days=3))
    assert "A local time taken for UTC looks like this." in str(ahead.grids[0].waits_for)
    assert any("No tick has run yet" in one for one in ahead.problems)


def test_a_page_of_the_past_speaks_of_the_past(times: Times) -> None:
    later = gather.page(times.project(), AS_OF + timedelta(hours=3), looked_up=True)
    assert any(one.startswith("The schedule did not run then: ") and one.endswith(" before.") for one in later.problems)
    assert later.stale == f"no grid was judged since {iso(AS_OF)}, 3 h before that."
