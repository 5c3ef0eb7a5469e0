"""Every rule against a venue that is honest and a line that drops, doubles, delays, swaps, cuts and spoils."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from mm_dagster.books.sync import Reason, Rule
from mm_dagster_tests.books.venue import Line

SHORT = 50
"""Trials of a rule in the short suite; the long one has 1,000 of all four together, and these are not among them."""


def _hold(rule: Rule, seeds: Iterable[int]) -> Counter:
    seen: Counter = Counter()
    for seed in seeds:
        trial = Line(rule, seed).run()
        told = (rule, seed, trial)
        assert trial.wrong == 0, told
        assert trial.untold == 0, told
        assert trial.uncovered == 0, told
        assert trial.differ == 0, told
        assert trial.is_live, told
        seen.update(synced=trial.synced, losses=trial.losses, gaps=len(trial.gaps), replays=trial.replays)
        seen.update(dropped=trial.dropped, renewed=trial.renewed)
        seen.update(trial.reasons)
        seen.update({f"fault {name}": count for name, count in trial.faults.items()})
    return seen


def _was_tried(rule: Rule, seen: Counter) -> None:
    """That the trials were hard: each fault was made, and each reason that a rule knows was told."""
    faults = {"drop", "twice", "late", "swap", "cut", "garbage", "failed"}
    reasons = {Reason.DISCONNECTED, Reason.UNREADABLE, Reason.SNAPSHOT_FAILED}
    if rule is Rule.KRAKEN:
        faults |= {"checksum", "digit"}
        reasons |= {Reason.CHECKSUM, Reason.UNTRUSTED}
    else:
        faults |= {"stale", "overlap"}
        reasons |= {Reason.MISSED, Reason.STALE_SNAPSHOT}
        assert seen["renewed"] > 10, seen
        # Two true books never differ; one that is wrong may.
        assert not seen[Reason.DISAGREED], seen
    assert not [fault for fault in sorted(faults) if seen[f"fault {fault}"] < 10], seen
    assert not [reason for reason in sorted(reasons) if not seen[reason]], seen
    assert seen["losses"] > 100
    assert seen["synced"] > 1000
    assert seen["replays"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(Rule))
def test_no_book_is_wrong_and_each_loss_is_told(rule: Rule) -> None:
    _was_tried(rule, _hold(rule, range(SHORT)))


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(Rule))
def test_behind_a_good_line_nothing_is_lost(rule: Rule) -> None:
    for seed in range(10):
        trial = Line(rule, seed, steps=300, is_good=True).run()
        first, *others = trial.gaps
        assert first.reasons[0] is Reason.START
        # A price that leaves a snapshot of eight levels is the venue's doing, and not the line's.
        assert {gap.reasons[0] for gap in others} <= {Reason.OUT_OF_REACH}
        assert not others or rule is not Rule.KRAKEN
        assert trial.wrong == 0
        assert trial.synced > 250


@pytest.mark.long
@pytest.mark.parametrize("rule", list(Rule))
def test_a_thousand_trials(rule: Rule) -> None:
    seen = _hold(rule, range(1000, 1250))
    _was_tried(rule, seen)
    print(rule, dict(seen))
