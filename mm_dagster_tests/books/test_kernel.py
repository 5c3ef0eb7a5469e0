"""The compiled walk through a window against a plain one: the same whole numbers, to the last."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mm_dagster.books import features, kernel
from mm_dagster.books.kernel import walk
from mm_dagster.books.tape import Op
from mm_dagster_tests.books.plain_features import plain_recoveries, plain_walk, random_tape, tape_of_rows, told

START = 1_770_000_300_000_000_000
END = START + 60 * 10**9
TRIALS = 400


def test_the_compiled_walk_finds_what_the_plain_one_finds() -> None:
    seen: Counter = Counter()
    for seed in range(TRIALS):
        tape = random_tape(seed, START, END)
        end_ns = END if seed % 3 else START + 7_300_000_000
        levels = 1 + seed % 7
        found, plain = told(walk(tape, START, end_ns, levels)), told(plain_walk(tape, START, end_ns, levels))
        assert found == plain, seed
        seen["sides missing"] += any(second and not (second.bid and second.ask) for second in found["seconds"])
        seen["lost"] += any(second is None for second in found["seconds"])
        seen["deep"] += any(second and second.bid_depths[-1] for second in found["seconds"])
        seen["out of reach"] += any(second and None in second.ask_depths for second in found["seconds"])
        seen["beyond 64 bits"] += max(found["bid_lots_ns"]) > 2**63
        seen["flow beyond 64 bits"] += any(abs(one) > 2**63 for one in found["flow"])
        seen["no book at the end"] += found["digest"] is None
        seen["never"] += found["in_sync_ns"] == 0
        usual, took = plain_recoveries([tuple(row) for row in found["steps"]], min(end_ns, max(tape.until_ns, START)))
        recovered = features.recovery(np.array(found["steps"]), min(end_ns, max(tape.until_ns, START)))
        assert recovered["recoveries"] == (None if usual is None else len(took)), seed
        assert recovered["recovery_ms"] == (float(np.median(took)) / 1e6 if took else None), seed
        seen["recovered"] += bool(took)
    assert all(seen[name] >= 8 for name in seen), seen
    assert len(seen) == 9, seen


@pytest.mark.parametrize("seed", range(20))
def test_the_loops_are_compiled_to_what_is_written(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = random_tape(1000 + seed, START, END)
    compiled = told(walk(tape, START, END, 3))
    for name in [name for name in vars(kernel) if hasattr(getattr(kernel, name), "py_func")]:
        monkeypatch.setattr(kernel, name, getattr(kernel, name).py_func)
    assert told(walk(tape, START, END, 3)) == compiled


def test_what_comes_at_the_end_is_of_the_next_window() -> None:
    rows = [
        (START - 1, Op.BEGIN, 0, 0),
        (START - 1, Op.BID, 99, 5),
        (START - 1, Op.ASK, 101, 7),
        (START - 1, Op.STANDS, 0, 0),
        (END, Op.BID, 100, 5),
        (END, Op.STANDS, 0, 1),
    ]
    tape = tape_of_rows([tuple(map(int, row)) for row in rows], END)  # type: ignore[misc]
    here, then = walk(tape, START, END, 1), walk(tape, END, END + 10**9, 1)
    assert (here.in_sync_ns, here.flow, here.last) == (END - START, (0,) * 61, (99, 5, 101, 7))
    assert [second.bid for second in here.seconds if second] == [99] * 61
    # The tape ends with the first nanosecond of the second window, and knows nothing of a third one.
    never = walk(tape, END + 10**9, END + 2 * 10**9, 1)
    assert (never.in_sync_ns, never.last, never.digest, never.seconds) == (0, None, None, (None, None))
    assert never.steps.tolist() == [[END + 10**9, 0, 0]]
    assert (then.flow, then.last) == ((5, 0), (100, 5, 101, 7))
    assert [second and second.bid for second in then.seconds] == [99, None]


@pytest.mark.parametrize("length", [0, -1, 2**40 + 1])
def test_a_window_that_is_none_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="a window of"):
        walk(random_tape(1, START, END), START, START + length, 1)


def test_the_longest_window_of_the_largest_amounts_fits() -> None:
    most = 2**63 - 1
    rows = [(START - 1, Op.BEGIN, 0, 0), (START - 1, Op.BID, 2**62 - 1, most), (START - 1, Op.ASK, 2**62, most)]
    rows += [(START - 1, Op.STANDS, 0, 0)]
    end_ns = START + kernel.LONGEST_NS
    walked = walk(tape_of_rows([tuple(map(int, row)) for row in rows], end_ns), START, end_ns, 1)  # type: ignore[misc]
    assert walked.bid_lots_ns == (most * 2**40,)
    assert walked.bid_ns == (2**62 - 1) * 2**40
    second = walked.seconds[-1]
    assert second is not None
    assert second.ask_depths[0] == 2**62 * most
