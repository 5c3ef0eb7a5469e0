"""What was foreseen: an error that says in one line what is wrong and what to do."""

from __future__ import annotations


class ForeseenError(Exception):
    """What can go wrong and says in one line what to do. `mm` shows the line alone, without a trace."""

    is_complete = False
    """Whether the line says all: what `mm` knows of full disks and rights belongs to the data, and not to this."""
