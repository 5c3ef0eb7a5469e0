"""Pushover as it should not be: what was taken and not answered, refused, slow, garbled, or cut."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mm_dagster_tests.faults import small
from mm_dagster_tests.faults.judge import Result
from mm_dagster_tests.faults.phone import Manners

KINDS = {
    "no answer, not taken": Manners(takes=False, status=0),
    "taken, no answer": Manners(takes=True, status=0),
    "500, not taken": Manners(takes=False, status=500, body=b"<html>"),
    "taken, then 500": Manners(takes=True, status=500, body=b"<html>"),
    "taken, then HTML with 200": Manners(takes=True, body=b"<html>thanks</html>"),
    "taken, then an empty body": Manners(takes=True, body=b""),
    "taken, then a torn body": Manners(takes=True, body=b'{"status":'),
    "taken, then status 0": Manners(takes=True, body=b'{"status":0,"errors":["?"]}'),
    "taken, then null": Manners(takes=True, body=b"null"),
    "taken, answered too late": Manners(takes=True, stall=3.0),
    "not taken, 429": Manners(takes=False, status=429, body=b'{"status":0,"errors":["limit"]}'),
    "not taken, 302": Manners(takes=False, status=302, body=b""),
    "not taken, 403 HTML": Manners(takes=False, status=403, body=b"<html>"),
    "not taken, 200 HTML": Manners(takes=False, body=b"<html>portal</html>"),
}


@dataclass(frozen=True)
class Task:
    """One kind of rudeness, so many times in a row."""

    what: str
    times: int
    seed: int


def plan(rounds: int) -> list[Task]:
    """Once, thrice and for a whole tick."""
    rng = random.Random(9)
    return [Task(what, times, rng.randrange(10**6)) for what in KINDS for times in (1, 3, 12)[: max(1, rounds)]]


def run(task: Task) -> list[Result]:
    """An emergency is due; the channel is rude; then it is not."""
    result = Result(f"Pushover: {task.what}", f"channels:{task.what}:{task.times}")
    with small.project() as one:
        one.phone.manners = [KINDS[task.what] for _ in range(task.times)]
        small.attempt(result, lambda: one.tick(0))
        one.phone.manners.clear()
        small.heal(result, one, 1)
    return [result]
