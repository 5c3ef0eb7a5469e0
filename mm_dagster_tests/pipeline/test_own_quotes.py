"""Somebody's own quotes: whatever the function does or gives ends in one line, and what is right goes through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mm_dagster.config.makers import MakersConfig
from mm_dagster.makers.own import quoted
from mm_dagster.makers.study import Stretch, stretches
from mm_dagster.makers.track import track_of
from mm_dagster.pipeline.foreign import IdeaError, Named, named
from mm_dagster.pipeline.own_quotes import OwnQuotes
from mm_dagster_tests.makers.synthetic import market

HEAD = """
import ctypes, os, sys, threading, time
import numpy as np

calls = []


class Odd:
    def __repr__(self):
        raise RuntimeError('never shown')

    def __float__(self):
        raise SystemExit(3)


class OddError(Exception):
    def __str__(self):
        raise KeyboardInterrupt


"""

WRONG = {
    "text": ("return 'buy'", "it gives 'buy'; give"),
    "number": ("return 100.0", "it gives 100.0; give"),
    "three": ("return 1, 2, 3", "it gives \\(1, 2, 3\\)"),
    "nan": ("return float('nan'), None", "its bid is nan where the mid is 100"),
    "infinite": ("return None, float('inf')", "its ask is inf"),
    "far away": ("return moment.bid / 2, None", "its bid is 50"),
    "no price": ("return object(), None", "its bid is <object"),
    "array": ("return np.zeros(2)", "it gives array"),
    "array as price": ("return np.array([1.0, 2.0]), None", "and no price"),
    "complex": ("return 1j, None", "its bid is 1j, and no price"),
    "cannot be shown": ("return Odd()", "it gives Odd"),
    "leaves in float": ("return Odd(), None", "SystemExit"),
    "raises": ("return moment.price", "AttributeError in line 22: .*price"),
    "many lines": ("raise ValueError('one\\ntwo')", "ValueError in line 22: one$"),
    "raises what cannot be shown": ("raise OddError", "OddError, which cannot be shown: KeyboardInterrupt"),
    "writes into the moment": ("moment.bid = 3", "FrozenInstanceError"),
    "exits": ("sys.exit(0)", "SystemExit in line 22: 0"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt in line 22"),
    "ends": ("os._exit(0)", "it ended its process"),
    "kills": ("os.kill(os.getpid(), 9)", "it ended its process"),
    "segfault": ("ctypes.string_at(0)", "it ended its process"),
    "recursion": ("return mine(moment)", "RecursionError"),
    "memory": ("return bytearray(1 << 60), None", "MemoryError"),
    "endless": ("\n    while True:\n        pass", "it does not end within 4 seconds"),
    "sleeps": ("time.sleep(60)", "it does not end within 4 seconds"),
    "locks": ("threading.Lock().acquire(); a = threading.Lock(); a.acquire(); a.acquire()", "it does not end within 4"),
    "closes the pipe": ("os.closerange(3, 64); return None", "it ended its process|cannot be read"),
}  # fmt: skip

RIGHT = {
    "none": "return None",
    "pair of none": "return None, None",
    "list": "return [moment.bid, moment.ask]",
    "numpy": "return np.float32(moment.bid), np.float64(moment.ask)",
    "prints": "print('hello'); sys.stdout.write('x'); return moment.bid, None",
    "remembers": "calls.append(moment.at_ns); return (moment.bid, None) if len(calls) % 2 else None",
    "closes its stdout": "sys.stdout.close() if not calls else None; calls.append(1); return None",
    "would take": "return moment.ask, moment.bid",
}

BROKEN = {
    "syntax": ("def mine(moment:\n", "line 1"),
    "missing": ("def other(moment): return None\n", "there is no function mine"),
    "no function": ("mine = 3\n", "there is no function mine"),
    "fails to load": ("import nothing_of_this_name\n", "ModuleNotFoundError in line 1"),
    "exits as it loads": ("raise SystemExit\n", "SystemExit in line 1"),
}


def file_of(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text)
    return f"{path}:mine"


def body(text: str) -> str:
    return f"{HEAD}def mine(moment):\n    {text}\n"


@pytest.fixture(scope="module")
def stretch() -> Stretch:
    config = MakersConfig(stretch_minutes=0.5, learn_stretches=1, order=20, inventory=100, least_order=1)
    return stretches([track_of(market(1, 70, False))], config)[1]


@pytest.fixture(scope="module")
def worker() -> Iterator[OwnQuotes]:
    """One process for all of them, which has to outlive whatever they do."""
    with OwnQuotes(Named(Path("nothing.py"), "nothing", ""), 0.1, seconds=4.0) as one:
        yield one


@pytest.mark.long
@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_is_one_line(text: str, says: str, tmp_path: Path, stretch: Stretch, worker: OwnQuotes):
    worker._what = named(file_of(tmp_path, body(text)), "--quotes")
    with pytest.raises(IdeaError) as raised:
        worker(stretch)
    said = str(raised.value)
    assert said.startswith("--quotes mine.py:mine: simulated:NOISE-USDT, 2023-11-14 22:")
    assert "\n" not in said
    assert re.search(says, said), said


@pytest.mark.long
@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_is_right_goes_through(
    text: str, tmp_path: Path, stretch: Stretch, worker: OwnQuotes, capfd: pytest.CaptureFixture[str]
):
    worker._what = named(file_of(tmp_path, body(text)), "--quotes")
    plan = worker(stretch)
    assert plan.price.shape == (len(stretch.moments.at), 2, 1)
    assert (worker(stretch).price == plan.price).all()
    assert capfd.readouterr().out == ""


def tried(text: str, folder: Path, stretch: Stretch, worker: OwnQuotes) -> None:
    worker._what = named(file_of(folder, text), "--quotes")
    worker(stretch)


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line(text: str, says: str, tmp_path: Path, stretch: Stretch, worker: OwnQuotes):
    with pytest.raises(IdeaError, match=says) as raised:
        tried(text, tmp_path, stretch, worker)
    assert str(raised.value).startswith("--quotes ")
    assert "\n" not in str(raised.value)


def test_the_process_quotes_as_a_call_would(tmp_path: Path, stretch: Stretch, worker: OwnQuotes):
    text = "return (moment.bid, None) if moment.inventory <= 0 else (None, moment.ask)"
    worker._what = named(file_of(tmp_path, body(text)), "--quotes")
    plan = worker(stretch)
    here = quoted(stretch, lambda m: (m.bid, None) if m.inventory <= 0 else (None, m.ask), 0.1)
    assert (plan.price == here.price).all()
    assert (plan.lots == here.lots).all()
    assert np.count_nonzero(plan.lots[:, 1]) > 0
