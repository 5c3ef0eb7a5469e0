"""Which runs there are, for the sensors that ask for one at a time."""

from datetime import UTC, datetime, timedelta

import dagster as dg

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
EACH_ROUND_SECONDS = 4
"""For a sensor on which somebody waits. Dagster's daemon goes round every five: with as many it would now and then find
that it had looked a moment less than five ago, and leave out a round."""


def under_way(instance: dg.DagsterInstance, job: str, longest: timedelta, tags: dict[str, str] | None = None) -> bool:
    """Whether a run of a job waits or works. One that was killed stays STARTED for ever: what is older is dead.

    Args:
        instance: whose runs.
        job: its name.
        longest: a run that is older is dead.
        tags: that it has; None: any.
    """
    lately = datetime.now(UTC) - longest
    wanted = dg.RunsFilter(job_name=job, statuses=[*UNFINISHED], created_after=lately, tags=tags)
    return bool(instance.get_runs_count(wanted))
