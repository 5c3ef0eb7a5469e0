"""The pace at which one venue is asked, shared by all threads that ask it."""

from __future__ import annotations

import threading
import time

_SLOWEST = 8.0
"""How many times slower than allowed the pace may become."""


class TooLate(Exception):
    """A turn that would not come in time."""


class Pace:
    """Spaces calls evenly. A venue that says "too many requests" makes everybody wait, and then go at half the pace.

    It stays slower for as long as the object lives, which is a run: who shares the venue's limit does not go away.
    """

    def __init__(self, seconds: float, first_hold: float, longest_hold: float) -> None:
        """
        Args:
            seconds: from one call of weight 1 to the next.
            first_hold: how long everybody waits after the first refusal, seconds; it doubles with each.
            longest_hold: seconds.
        """
        self._seconds = seconds
        self._hold = first_hold
        self._longest_hold = longest_hold
        self._slower = 1.0
        self._next = 0.0
        self._held_at = 0.0
        self._lock = threading.Lock()

    def take(self, weight: float | None = None, until: float | None = None, credit: float = 0.0) -> None:
        """Waits for its turn; weights are ccxt's, and None is 1.

        Args:
            weight: of the call.
            until: seconds of the monotonic clock; None: it waits as long as it takes.
            credit: how many seconds in which nobody asked may be made up for, where the venue counts over a longer
                time; none of it once it has refused a call as one too many.

        Raises:
            TooLate: at once, since it would not have its turn by then.
        """
        while (wait := self._wait(1.0 if weight is None else weight, credit)) > 0:
            if until is not None and time.monotonic() + wait > until:
                raise TooLate
            time.sleep(wait)

    def slow_down(self, asked_at: float) -> None:
        """The venue refused a call as one too many. Refusals of calls from before the last hold say nothing new.

        Args:
            asked_at: when the call was made, seconds of the monotonic clock.
        """
        with self._lock:
            if asked_at <= self._held_at:
                return
            self._held_at = time.monotonic()
            self._next = max(self._next, self._held_at + self._hold)
            self._hold = min(2 * self._hold, self._longest_hold)
            self._slower = min(2 * self._slower, _SLOWEST)

    def _wait(self, weight: float, credit: float) -> float:
        """Takes the turn and says 0, or says how long to wait before looking again."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return self._next - now
            since = max(self._next, now - credit) if self._slower == 1.0 else now
            self._next = since + weight * self._seconds * self._slower
            return 0.0
