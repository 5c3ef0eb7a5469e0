"""The code location of the trials: the job `history` and the sensor that makes the runs of a backfill.

Without the schedules and the other sensors, which would work beside on the quarter hours of today.
"""

import dagster as dg

from mm_dagster.defs.loading import load

_EVERYTHING = load()


@dg.definitions
def defs() -> dg.Definitions:
    """What a backfill by the queue needs."""
    repository = _EVERYTHING.get_repository_def()
    return dg.Definitions(
        assets=_EVERYTHING.assets,
        asset_checks=_EVERYTHING.asset_checks,
        jobs=[job for job in _EVERYTHING.jobs or () if getattr(job, "name", "") == "history"],
        sensors=[repository.get_sensor_def("backfills_are_asked_for")],
        resources=_EVERYTHING.resources,
        executor=_EVERYTHING.executor,
        loggers=_EVERYTHING.loggers,
    )
