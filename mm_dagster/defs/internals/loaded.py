"""What a run needs, loaded before there is one: Python's fork server imports this module, see forking.py.

Nothing here may start a thread, or open what a run would share with the next. What cannot be loaded is told again by
the run that needs it.
"""

import logging

import numpy as np

logger = logging.getLogger("mm_dagster")


def _load() -> None:
    from mm_dagster.arrays import natural_log
    from mm_dagster.defs.loading import load

    load()
    # What stages import when they need it.
    import mm_dagster.grid.account
    import mm_dagster.market.connection  # ccxt
    import mm_dagster.pipeline.notify  # noqa: F401

    # With the first compiled loop numba looks through all that can be compiled.
    natural_log(np.ones(1))


try:
    _load()
except (Exception, SystemExit) as error:
    logger.warning("nothing is loaded before the runs, which load it each for itself: %s", error)
