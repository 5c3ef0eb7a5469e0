"""Somebody's own function: whatever it does or gives ends in one line, and what is right goes through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.planted import planted
from mm_dagster.pipeline.foreign import IdeaError, Named, named
from mm_dagster.pipeline.ideas import Idea
from mm_dagster.research.study import frame_of
from mm_dagster_tests.strategies.settings import NO_FUNDING, days_of

DAYS = 12
CANDLES = planted(0.3, DAYS, 2, 4)
FRAMES = [frame_of(CANDLES, NO_FUNDING, symbol, days_of(CANDLES)) for symbol in ("P00-USDT", "P01-USDT")]
BARS = FRAMES[0].height

HEAD = """
import os, sys, time
import numpy as np
import polars as pl

calls = []


"""

LOOKS_AHEAD = {
    "shift": "return (candles['close'].shift(-1) > candles['close']).fill_null(False)",
    "roll": "c = candles['close'].to_numpy(); return np.sign(np.roll(c, -1) - c)",
    "mean of all": "return candles['close'] > candles['close'].mean()",
    "extremes of all": "c = candles['close']; return (c - c.min()) / (c.max() - c.min())",
    "backfill": "c = candles['close']; d = np.where(np.arange(c.len()) % 96 == 0, c, np.nan); "
    "return pl.Series(d).fill_nan(None).backward_fill().fill_null(0.0) > c",
    "centred": "return candles.select(pl.col('close').rolling_mean(9, center=True).fill_null(0) > pl.col('close'))",
    "tomorrow": "c = candles['close'].to_numpy(); d = np.zeros(len(c)); d[:-96] = np.sign(c[96:] - c[:-96]); return d",
    # Only at one bar a day: where it gains it is caught.
    "at midnight": "c = candles['close'].to_numpy(); d = np.zeros(len(c)); at = np.arange(95, len(c) - 1, 96); "
    "d[at] = np.sign(c[at + 1] - c[at]); return d",
    # Always in, but before the greatest falls.
    "out in time": "c = candles['close'].to_numpy(); d = np.ones(len(c)); m = np.append(c[1:] / c[:-1] - 1, 0.0); "
    "d[m < -0.008] = 0; return d",
    "how many": "return np.full(candles.height, (candles.height % 7) / 7)",
    "sorted": "return candles['close'].rank() / candles.height",
}

WRONG = {
    "none": ("return None", "it gives NoneType, not one position a bar"),
    "text": ("return ['long'] * candles.height", "it gives list, not one position a bar"),
    "number": ("return 1.0", "it gives 1 positions of shape \\(\\) for 1,152 bars"),
    "too few": ("return np.zeros(candles.height - 1)", "it gives 1151 positions of shape \\(1151,\\) for 1,152 bars"),
    "too many": ("return np.zeros(candles.height + 5)", "1157 positions"),
    "two columns": ("return np.zeros((candles.height, 2))", "of shape \\(1152, 2\\)"),
    "frame": ("return candles.select('open', 'close')", "a frame of 2 columns"),
    "complex": ("return np.zeros(candles.height) + 1j", "it gives ndarray, not one position a bar"),
    "generator": ("return (0.0 for _ in range(candles.height))", "it gives generator"),
    "ragged": ("return [[1.0], [1.0, 2.0]]", "ValueError"),
    "nan": (
        "d = np.zeros(candles.height); d[3] = np.nan; return d",
        "the position at 2025-01-01T01:00:00Z is nan; say 0 where it holds nothing",
    ),
    "null": ("return candles['close'].shift(1) > 1", "the position at 2025-01-01T00:15:00Z is nan"),
    "infinite": ("return np.full(candles.height, -np.inf)", "is -inf"),
    "too much": (
        "return np.full(candles.height, 1.5)",
        "the position at 2025-01-01T00:15:00Z is 1.5; it lies in \\[-1, 1\\]",
    ),
    "raises": ("return candles['closing']", "ColumnNotFoundError in line 10: .*closing"),
    "raises without words": ("raise KeyError", "KeyError in line 10: KeyError"),
    "many lines": ("raise ValueError('one\\ntwo')", "ValueError in line 10: one$"),
    "exits": ("sys.exit(0)", "SystemExit in line 10: 0"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt in line 10"),
    "ends": ("os._exit(0)", "it ended its process"),
    "kills": ("os.kill(os.getpid(), 9)", "it ended its process"),
    "recursion": ("return idea(candles)", "RecursionError"),
    "chance": ("return np.random.default_rng().uniform(-1, 1, candles.height)", "called twice with the same candles"),
    "memory": (
        "calls.append(1); return np.full(candles.height, len(calls) / 5)",
        "is 0.2, then .* is 0.4; use neither",
    ),
    "clock": ("return np.full(candles.height, time.time_ns() % 997 / 1000)", "called twice"),
    "endless": ("\n    while True:\n        pass", "it does not end within 3 seconds"),
    "sleeps": ("time.sleep(60)", "it does not end within 3 seconds"),
}

RIGHT = {
    "list": "return [0.5] * candles.height",
    "series": "return candles['close'].rolling_mean(20).fill_null(0.0) < candles['close']",
    "frame": "return candles.select((pl.col('close') > pl.col('open')).cast(pl.Float64))",
    "integers": "return np.ones(candles.height, np.int8)",
    "flags": "return (candles['close'] > 90).to_list()",
    "short": "return -np.ones(candles.height)",
    "rounding": "return np.full(candles.height, 1 + 1e-12)",
    "prints": "print('hello'); sys.stdout.write('x'); return np.zeros(candles.height)",
    "writes into its candles": "c = candles['close'].to_numpy().copy(); c[:] = 0; return c",
    "keeps a table": "calls.append(candles.height); return np.zeros(candles.height)",
    "closes its stdout": "sys.stdout.close(); return np.zeros(candles.height)",
}


def file_of(folder: Path, body: str) -> str:
    path = folder / "my_idea.py"
    path.write_text(f"{HEAD}def idea(candles):\n    {body}\n")
    return f"{path}:idea"


@pytest.fixture(scope="module")
def worker() -> Iterator[Idea]:
    """One process for all of them, which has to outlive whatever they do."""
    with Idea(Named(Path("nothing.py"), "nothing", ""), seconds=3.0) as one:
        yield one


@pytest.fixture
def idea(tmp_path: Path, worker: Idea, request: pytest.FixtureRequest) -> Idea:
    worker._what = named(file_of(tmp_path, request.param))
    return worker


@pytest.mark.parametrize("idea", LOOKS_AHEAD.values(), ids=LOOKS_AHEAD, indirect=True)
def test_who_looks_ahead_is_told_where(idea: Idea) -> None:
    with pytest.raises(
        IdeaError, match=r"^--strategy my_idea.py:idea: P0.-USDT: it looks ahead: the position at 2025-"
    ):
        idea.examine(FRAMES)


@pytest.mark.slow
@pytest.mark.parametrize(("idea", "says"), WRONG.values(), ids=WRONG, indirect=["idea"])
def test_whatever_is_wrong_is_one_line(idea: Idea, says: str) -> None:
    with pytest.raises(IdeaError, match=says) as raised:
        idea.examine(FRAMES)
    assert str(raised.value).startswith("--strategy my_idea.py:idea: P00-USDT: ")
    assert "\n" not in str(raised.value)
    # And it can be asked again, for the same answer.
    with pytest.raises(IdeaError):
        idea.examine(FRAMES)


@pytest.mark.parametrize("idea", RIGHT.values(), ids=RIGHT, indirect=True)
def test_what_is_right_goes_through(idea: Idea, capfd: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []
    idea.examine(FRAMES, done.append)
    assert done == ["P00-USDT", "P01-USDT"]
    held = idea(FRAMES[0])
    assert held.shape == (BARS,)
    assert held.dtype == np.float64
    assert np.abs(held).max() <= 1.0
    assert capfd.readouterr().out == "", "what it prints is none of the answer"


def test_it_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("WIDTH = 10\n")
    body = "import helper; return candles['close'].rolling_mean(helper.WIDTH).fill_null(0) > 0"
    with Idea(named(file_of(tmp_path, body))) as one:
        one.examine(FRAMES[:1])
        assert one(FRAMES[0]).tolist() == [0.0] * 9 + [1.0] * (BARS - 9)


def test_what_is_no_function_is_said(tmp_path: Path) -> None:
    right = file_of(tmp_path, "return None")
    path = right.rpartition(":")[0]
    for text, says in (
        ("my_idea", "--strategy my_idea: write PATH:FUNCTION, as in my_idea.py:my_idea"),
        (path, "write PATH:FUNCTION"),
        (f"{path}:", "write PATH:FUNCTION"),
        (f"{path}:two words", "write PATH:FUNCTION"),
        (f"{tmp_path}/nothing.py:idea", "nothing.py: No such file"),
        (f"{tmp_path}:idea", "Is a directory"),
    ):
        with pytest.raises(IdeaError) as raised:
            named(text)
        assert says in str(raised.value)
    unreadable = ((b"def idea(:\n", "line 1: invalid syntax"), (b"\xff\xfe", "no UTF-8"), (b"x\0y", "null byte"))
    for content, says in unreadable:
        (tmp_path / "my_idea.py").write_bytes(content)
        with pytest.raises(IdeaError, match=says):
            named(right)
    (tmp_path / "my_idea.py").write_text("idea = 5\nraised = 1\n")
    with Idea(named(right)) as one, pytest.raises(IdeaError, match="there is no function idea"):
        one(FRAMES[0])
    (tmp_path / "my_idea.py").write_text("import nowhere_to_be_found\n")
    with Idea(named(right)) as one, pytest.raises(IdeaError, match="ModuleNotFoundError in line 1: No module"):
        one(FRAMES[0])


def test_the_process_is_gone_when_it_is_over(tmp_path: Path) -> None:
    with Idea(named(file_of(tmp_path, "return np.zeros(candles.height)"))) as one:
        one(FRAMES[0])
        child = one._child
        assert child.is_alive()
    assert not child.is_alive()


def test_a_hole_is_null_and_an_empty_frame_is_no_trouble(tmp_path: Path) -> None:
    holes = FRAMES[0].with_columns(pl.when(pl.int_range(pl.len()) % 50 > 0).then("close").alias("close"))
    with Idea(named(file_of(tmp_path, "return candles['close'].is_not_null().cast(pl.Float64)"))) as one:
        one.examine([holes])
        assert set(one(holes).tolist()) == {0.0, 1.0}
        assert one(FRAMES[0].head(0)).size == 0
