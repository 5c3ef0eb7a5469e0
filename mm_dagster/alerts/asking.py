"""Asking a channel's service over HTTP: what goes wrong becomes one of the errors of `channel`, without a secret."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from mm_dagster import logs, web
from mm_dagster.alerts.channel import Elsewhere, Refused, Unavailable, Unreachable
from mm_dagster.retries import retry_context

ATTEMPTS = 3
"""Requests for one call: the first, and two after what may pass."""
GATEWAYS = frozenset({requests.codes.bad_gateway, requests.codes.gateway_timeout})
"""What stands before a service says that it did not answer: it may have accepted the message all the same."""
_SHOWN = 300
"""Characters of an error."""

T = TypeVar("T")


class Asking:
    """How one service is asked.

    Attributes:
        where: its name and host.
    """

    def __init__(
        self, name: str, api_url: str, setting: str, seconds: float, wait_seconds: float, secrets: Sequence[str]
    ) -> None:
        """
        Args:
            name: of the service.
            api_url: where it is asked.
            setting: what to correct when it sends elsewhere.
            seconds: the deadline of one request.
            wait_seconds: pause before the second attempt; it doubles before the third.
            secrets: what is no part of any error.
        """
        self.where = f"{name} at {urlsplit(api_url).hostname}"
        self._setting = setting
        self._seconds = seconds
        self._wait_seconds = wait_seconds
        self._secrets = tuple(secrets)

    def __call__(self, again: type[Unavailable] | tuple[()], request: Callable[[], T]) -> T:
        """Asks once, and twice more after errors of one kind.

        Args:
            again: the kind; never what sends elsewhere. (): none.
            request: sends one request and judges the answer.

        Raises:
            Refused: it said no.
            Unavailable: no usable answer; a NotTaken, if no byte of the request left.
        """
        attempts = retry_context(
            on=lambda error: isinstance(error, again) and not isinstance(error, Elsewhere),
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=self._wait_seconds,
            wait_max=4 * self._wait_seconds,
            wait_jitter=self._wait_seconds / 5,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return self._once(request)
        except (Refused, Unavailable) as error:
            # Raised anew, so that no trace leads into frames whose variables hold the secrets.
            failure = type(error)(self.shown(str(error)))
        raise failure

    def _once(self, request: Callable[[], T]) -> T:
        departure = web.Departure()
        try:
            with departure:
                return request()
        except requests.JSONDecodeError:
            raise Unavailable(f"{self.where} gave an answer that is not JSON") from None
        except requests.RequestException as error:
            kind: type[Unavailable] = Unavailable if departure.begun else Unreachable
            if isinstance(error, web.Redirected):
                kind = Elsewhere
            raise kind(f"{self.where}: {web.reason(error, self._seconds, self._setting)}") from None

    def shown(self, text: str) -> str:
        """One short line without the secrets; they are taken out first, lest half of one is left by the cut."""
        return " ".join(logs.redact(logs.without(text, self._secrets)).split())[:_SHOWN]


def json_of(response: requests.Response) -> dict[str, Any] | None:
    """The JSON object of an answer; None: it is none."""
    try:
        body = response.json()
    except requests.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
