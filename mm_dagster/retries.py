"""Retries of what may pass, by stamina: each is a line in the log, without the arguments of the call.

Whoever retries imports `retry_context` from here, since what is said of a retry is a setting of the whole process.
"""

from __future__ import annotations

import logging

import stamina.instrumentation
from stamina import retry_context

__all__ = ["retry_context"]


def _say(details: stamina.instrumentation.RetryDetails) -> None:
    # Keys may be among the arguments.
    logging.getLogger("mm_dagster.retry").info(
        "%s: attempt %d failed (%s); again in %.1f s",
        details.name,
        details.retry_num,
        type(details.caused_by).__name__,
        details.wait_for,
    )


def say_each() -> None:
    """From now on each retry of this process is a line of ours; importing this module does it."""
    stamina.instrumentation.set_on_retry_hooks((_say,))


say_each()
