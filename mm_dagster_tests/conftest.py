"""What every room's tests share: the real market data, where it is there."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from mm_dagster import home, logs
from mm_dagster_tests import examples, lakes
from mm_dagster_tests import postgres as real

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROJECT = Path(__file__).resolve().parent.parent

SLOW_FIRST = (
    "cli/test_cli",
    "history/test_lake",
    "execution/test_kills",
    "test_words_and_figures",
    "execution/test_machine",
    "history/test_lake_postgres",
    "cli/test_bad_inputs",
    "pipeline/test_stages",
    "market/test_faulty_answers",
    "cli/test_home",
    "cli/test_three_grids",
    "defs/test_flash_crash",
    "defs/test_trouble",
    "defs/test_live_equals_backfill",
    "faults/test_sample",
    "history/test_lost_catalog",
    "history/test_analysts",
    "pipeline/test_troubles",
    "defs/test_account",
)
"""The longest files: begun last, one of them would keep one worker while the others have nothing left to do.

Every second of the first ones needs no kernel: in a fresh clone one worker compiles while the other does these.
"""


def pytest_configure(config: pytest.Config) -> None:
    """How many examples are tried; and Ctrl-C, which what a shell begins in the background ignores, as would all that
    the tests start.
    """
    examples.choose(config.option.markexpr or "")
    # How long an example takes says more of the machine than of the code.
    settings.register_profile("house", deadline=None, max_examples=examples.examples(examples.USUAL))
    settings.load_profile("house")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order in which workers are to take them."""
    place = {f"mm_dagster_tests/{name}.py": number for number, name in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.split("::")[0], len(place)))


@pytest.fixture(autouse=True)
def logs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test hears another's log settings, nor masks another's secrets: a command sets both for its process."""
    monkeypatch.setattr(logs, "_known", {})
    monkeypatch.setattr(logs, "_secrets", ())
    loggers = [logging.getLogger(name) for name in ("", "mm_dagster")]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    for one, handlers, level, propagate in before:
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture(autouse=True)
def no_home_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the home of whoever runs it."""
    monkeypatch.delenv(home.VARIABLE, raising=False)
    monkeypatch.setattr(home, "note", lambda: Path("/nonexistent/mm-dagster/home"))


@pytest.fixture(scope="session", autouse=True)
def cheap_lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lakes that cost little to make and to open: most tests need one, and few are about that."""
    with lakes.cheap(tmp_path_factory.mktemp("lake")):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real candles and recorded API answers; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real market data is not here ({folder.name}); set MM_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[real.Postgres]:
    """A real PostgreSQL; tests that need it skip where none starts."""
    pytest.importorskip("pgserver", reason="pgserver is not installed; it is in the extra dev")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(real.running())
        except Exception as error:
            pytest.skip(f"no PostgreSQL starts here: {type(error).__name__}: {error}")
        yield server


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn in a test."""
    # Imported here because matplotlib takes a second to load, and few tests draw.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from mm_dagster.pictures import style

    kept: list[Figure] = []

    class Kept(FigureCanvasAgg):
        def __init__(self, figure: Figure) -> None:
            kept.append(figure)
            super().__init__(figure)

    monkeypatch.setattr(style, "FigureCanvasAgg", Kept)
    return kept
