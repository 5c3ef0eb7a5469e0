"""A few of the injected faults, in every run of the tests; all of them: `make test-faults`."""

from __future__ import annotations

import pytest

from mm_dagster_tests.faults import channels, edits, others, run, storage
from mm_dagster_tests.faults.document import ACCEPTED, accepted
from mm_dagster_tests.faults.judge import Result

SAMPLE = [
    ("edits", edits.Task("torn at any byte", 1)),
    ("edits", edits.Task("a bit flipped at any byte", 2)),
    ("edits", edits.Task("something odd at any byte", 3)),
    ("others", others.Task("git: HEAD", 4)),
    ("others", others.Task("git: index", 5)),
    ("others", others.Task("git: a link is pushed", 6)),
    pytest.param("storage", storage.Task("catalogue", "locked by a reader", 7), marks=pytest.mark.long),
    ("channels", channels.Task("taken, no answer", 1, 8)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("tier", "task"), SAMPLE, ids=lambda one: one if isinstance(one, str) else one.what)
def test_a_fault_loses_doubles_invents_and_changes_nothing(tier: str, task: object) -> None:
    failed = run.failures(run.one(tier, task))
    assert [(one.seed, dict(one.counts), one.notes) for one in failed] == []


def test_the_plan_holds_a_thousand_faults_with_fixed_seeds() -> None:
    planned = run.plan(2, ())
    many = sum(len(task.lies) if tier == "venue" else _trials(task) for tier, task in planned)
    assert many >= 1_000
    assert repr([task for tier, task in run.plan(2, ()) if tier != "venue"]) == repr(
        [task for tier, task in planned if tier != "venue"]
    )


def _trials(task: object) -> int:
    return edits.READ_ONLY_A_TASK if getattr(task, "what", "") in edits._SPOIL else 1


def test_what_the_document_excuses_is_excused_once_and_only_there() -> None:
    kind, measure, _ = ACCEPTED[0]
    twice = Result(f"{kind} no answer", "x")
    twice.add(measure, 2)
    assert accepted(twice)[measure] == 1
    assert run.failures([twice]) == [twice]
    elsewhere = Result("candles: empty page", "x")
    elsewhere.add(measure, 1)
    assert run.failures([elsewhere]) == [elsewhere]
