"""The daemon's log without what did not happen: a sensor that looked and found nothing says so every few seconds.

Dagster knows levels for all of its daemon or for nothing; of these two daemons only the lines of an idle look go.
"""

import logging

DAEMONS = ("SensorDaemon", "SchedulerDaemon")
IDLE = ("Checking for new runs for sensor: ", "No run requests returned for ")
SKIPPED = " skipped: "


class NothingHappened(logging.Filter):
    """Lets pass what is no line of an idle look."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        idle = said.startswith(IDLE) or (said.startswith("Sensor ") and SKIPPED in said)
        return not idle or record.levelno > logging.INFO


def leave_out() -> None:
    """Leaves such lines out of the log of this process."""
    for name in DAEMONS:
        logger = logging.getLogger(f"dagster.daemon.{name}")
        if not any(isinstance(one, NothingHappened) for one in logger.filters):
            logger.addFilter(NothingHappened())
