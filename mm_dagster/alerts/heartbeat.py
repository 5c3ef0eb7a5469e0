"""A sign of life for a watcher outside: when it stops, everything here may be dead, and nothing here can say so."""

from __future__ import annotations

import requests

from mm_dagster import web

TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 2**20


def beat(url: str) -> str | None:
    """Calls an address once.

    Args:
        url: it may hold a password, and is never part of what is returned.

    Returns:
        Why it did not work, in a few words; None: it did.
    """
    try:
        with web.Session(_MOST_BYTES, (url,)) as session:
            answer = session.get(url, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        return web.reason(error, TIMEOUT_SECONDS, "the address")
    return None if answer.ok else f"answered with HTTP {answer.status_code}"
