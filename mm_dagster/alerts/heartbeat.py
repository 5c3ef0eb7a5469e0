"""A sign of life for a watcher outside: when it stops, everything here may be dead, and nothing here can say so."""

from __future__ import annotations

import requests

TIMEOUT_SECONDS = 5.0


def beat(url: str) -> str | None:
    """Calls an address once.

    Args:
        url: it may hold a password, and is never part of what is returned.

    Returns:
        Why it did not work, in a few words; None: it did.
    """
    try:
        answer = requests.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.Timeout:
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    except requests.RequestException as error:
        return f"no connection ({type(error).__name__})"
    return None if answer.ok else f"answered with HTTP {answer.status_code}"
