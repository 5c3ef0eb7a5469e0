"""Pushover: the one place that talks to it, with timeouts, retries and errors that can be told apart.

What `pushover_complete` still does: it knows the endpoints and the names of the fields, checks priority, retry and
expire, and packs a picture. It knows no timeout and no address but the real one, and it stumbles over an answer that is
not JSON; our session underneath adds what is missing, by two private methods of the library's and its constant of the
address. All of that is here, and test_pushover.py fails when it changes. Neither token nor user key is ever part of an
error or a log line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from pushover_complete import PushoverAPI, PushoverCompleteError
from pushover_complete.pushover_api import PUSHOVER_API_URL

from mm_dagster import logs, web
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.retries import retry_context

IMAGE_LIMIT = 5 * 1024 * 1024
"""A larger picture is refused together with its message, so it is left out."""
ATTEMPTS = 3
"""Requests for one call: the first, and two after 5xx or no answer."""
WAIT_SECONDS = 5.0
"""Pushover asks for at least so long a wait before the next attempt."""

POLL_SECONDS = 5.0
"""A receipt may not be asked for more often."""

_EMERGENCY = 2
_MOST_BYTES = 2**18
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""What a receipt and a request are called; a receipt becomes part of an address."""
_SHOWN = 300
"""Characters of an error."""


class PushoverRefused(ForeseenError):
    """Pushover said no, and would again: the message must not be sent again as it is."""


class PushoverUnknown(PushoverRefused):
    """It does not know the receipt, or no longer: they are kept for a week."""


class PushoverUnavailable(ForeseenError):
    """No usable answer. The message may or may not have been accepted."""


class PushoverNotTaken(PushoverUnavailable):
    """No usable answer, but the message was surely not accepted."""


class PushoverUnreachable(PushoverNotTaken):
    """No connection could be established."""


class PushoverDown(PushoverNotTaken):
    """It takes nothing for now, or what stands before it lets nothing through."""


class PushoverElsewhere(PushoverNotTaken):
    """It sends to another address. The token is not taken there."""


_GATEWAYS = frozenset({requests.codes.bad_gateway, requests.codes.gateway_timeout})
"""What stands before it says that it did not answer: it may have accepted the message all the same."""


@dataclass(frozen=True)
class Sent:
    """What Pushover said to an accepted message.

    Attributes:
        receipt: names an emergency, to follow or cancel it; None for other priorities.
        request: Pushover's name of the request; None: it gave none.
    """

    receipt: str | None
    request: str | None


@dataclass(frozen=True)
class Receipt:
    """What has become of an emergency.

    Attributes:
        acknowledged: whether somebody did.
        acknowledged_at: when, UTC; None: it does not say.
        device: on which device; None: it does not say.
        expired: whether it rings no more, unacknowledged.
        expires_at: when it stops or stopped to ring, UTC; None: it does not say.
    """

    acknowledged: bool
    acknowledged_at: datetime | None
    device: str | None
    expired: bool
    expires_at: datetime | None


class Pushover:
    """An application's access to one user or group. Not safe for use by several threads at once."""

    name = "pushover"

    def __init__(self, token: str, user: str, config: PushoverConfig, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """Connects nothing yet.

        Args:
            token: the application's token.
            user: key of the user or group.
            config: address, timeout, and how an emergency rings.
            wait_seconds: pause before the second attempt; it doubles before the third.
        """
        self._user = user
        self._config = config
        self._wait_seconds = wait_seconds
        self._secrets = tuple(secret for secret in (token, user) if secret)
        self._receipts: dict[str, tuple[float, Receipt]] = {}
        self._api = _Client(token, _Session(config.api_url, config.timeout_seconds, self._secrets))

    def send(
        self,
        title: str,
        message: str,
        priority: int,
        *,
        timestamp: datetime,
        url: str | None = None,
        image: bytes | None = None,
    ) -> Sent:
        """Sends one message, and again, at most three times, only while no connection can be established.

        What may have been accepted is not sent again here: whether it is, is the ledger's business.

        Args:
            title: at most 250 characters.
            message: plain text, at most 1,024 characters, not empty.
            priority: -2 to 2; 2 rings until it is acknowledged, cancelled or expired.
            timestamp: the time that the message shows, UTC.
            url: supplementary address, at most 512 characters.
            image: a PNG; one over 5 MiB is left out.

        Raises:
            PushoverRefused: it said no; never retried.
            PushoverUnreachable: no connection could be established, three times.
            PushoverNotTaken: it is out of order, or sends elsewhere.
            PushoverUnavailable: a timeout, or no usable answer: it may have been accepted.
        """
        emergency = priority == _EMERGENCY
        attachment = ("chart.png", image, "image/png") if image and len(image) <= IMAGE_LIMIT else None
        answer = self._call(
            PushoverUnreachable,
            "send_message",
            self._user,
            message,
            title=title,
            url=url,
            image=attachment,
            priority=priority,
            retry=self._config.emergency_retry_seconds if emergency else None,
            expire=self._config.emergency_expire_seconds if emergency else None,
            timestamp=int(timestamp.timestamp()),
            html=None,
        )
        return Sent(receipt=self._name_in(answer, "receipt"), request=self._name_in(answer, "request"))

    def cancel(self, receipt: str) -> None:
        """Stops an emergency from ringing.

        Raises:
            PushoverRefused: it does not know the receipt, or says no otherwise.
            PushoverUnavailable: no usable answer, three times.
        """
        self._call(PushoverUnavailable, "cancel_receipt", receipt)

    def receipt(self, receipt: str) -> Receipt:
        """Asks what has become of an emergency; within five seconds of an answer it gives the same one again.

        Raises:
            PushoverUnknown: it does not know the receipt, or no longer.
            PushoverRefused: it says no otherwise.
            PushoverUnavailable: no usable answer, three times.
        """
        asked_at, known = self._receipts.get(receipt, (0.0, None))
        if known and time.monotonic() - asked_at < POLL_SECONDS:
            return known
        answer = self._call(PushoverUnavailable, "check_receipt", receipt)
        found = Receipt(
            acknowledged=answer.get("acknowledged") == 1,
            acknowledged_at=_time(answer.get("acknowledged_at")),
            device=self._shown(str(answer.get("acknowledged_by_device") or "")) or None,
            expired=answer.get("expired") == 1,
            expires_at=_time(answer.get("expires_at")),
        )
        self._receipts[receipt] = (time.monotonic(), found)
        return found

    def validate(self) -> list[str]:
        """Asks whether token and user key are good, without sending anything.

        Returns:
            Names of the user's active devices.

        Raises:
            PushoverRefused: one of them is not.
            PushoverUnavailable: no usable answer, three times.
        """
        devices = self._call(PushoverUnavailable, "validate", self._user).get("devices")
        return [self._shown(str(device)) for device in devices] if isinstance(devices, list) else []

    def _call(self, again: type[PushoverUnavailable], method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        attempts = retry_context(
            on=lambda error: isinstance(error, again) and not isinstance(error, PushoverElsewhere),
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=self._wait_seconds,
            wait_max=4 * self._wait_seconds,
            wait_jitter=self._wait_seconds / 5,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return self._once(method, *arguments, **options)
        except (PushoverRefused, PushoverUnavailable) as error:
            # Raised anew, so that no trace leads into frames whose variables hold the secrets.
            failure = type(error)(self._shown(str(error)))
        raise failure

    def _once(self, method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        where = f"Pushover at {urlsplit(self._config.api_url).hostname}"
        departure = web.Departure()
        try:
            with departure:
                answer = getattr(self._api, method)(*arguments, **options)
        except PushoverCompleteError as error:
            raise PushoverRefused(f"{where} refused: {error}") from None
        except requests.JSONDecodeError:
            raise PushoverUnavailable(f"{where} gave an answer that is not JSON") from None
        except requests.RequestException as error:
            kind: type[PushoverUnavailable] = PushoverUnavailable if departure.begun else PushoverUnreachable
            if isinstance(error, web.Redirected):
                kind = PushoverElsewhere
            said = web.reason(error, self._config.timeout_seconds, "pushover.api_url in alerts.yaml")
            raise kind(f"{where}: {said}") from None
        return dict(answer)

    def _shown(self, text: str) -> str:
        """One short line without the secrets; they are taken out first, lest half of one is left by the cut."""
        return " ".join(logs.redact(logs.without(text, self._secrets)).split())[:_SHOWN]

    def _name_in(self, answer: dict[str, Any], key: str) -> str | None:
        """A name that an answer gives; None: it gives none, or what is no name, or one of our secrets."""
        name = answer.get(key)
        is_one = isinstance(name, str) and _NAME.fullmatch(name) and logs.without(name, self._secrets) == name
        return name if is_one else None


class _Session(web.Session):
    """Requests with a timeout, to the configured address, whose answers are judged before the library reads them."""

    def __init__(self, api_url: str, timeout: float, secrets: Sequence[str]) -> None:
        super().__init__(_MOST_BYTES, secrets)
        self._api_url = api_url.rstrip("/") + "/"
        self._timeout = timeout

    def request(self, method: str, url: str | bytes, *arguments: Any, **options: Any) -> requests.Response:
        """Sends a request of the library.

        Raises:
            PushoverRefused: it says no, in JSON.
            PushoverDown: 500, 503 and 429, and 4xx that are not in its own words: it may be otherwise in an hour.
            PushoverUnavailable: other 5xx, or no JSON object.
            requests.RequestException: no answer, see `web`.
        """
        address = self._api_url + str(url).removeprefix(PUSHOVER_API_URL)
        options |= {"timeout": self._timeout}
        response = super().request(method, address, *arguments, **options)
        where = f"Pushover at {urlsplit(self._api_url).hostname}"
        code = response.status_code
        if code == requests.codes.too_many_requests:
            raise PushoverDown(f"{where} takes no more: the application's messages of this month are spent (429)")
        if 400 <= code < 500 and "receipt" in (_json(response) or {}):
            raise PushoverUnknown(f"{where} refused ({code}): {_errors(response)}")
        if 400 <= code < 500 and "status" not in (_json(response) or {}):
            # Pushover says no in JSON: this is a proxy, or the page of a network that wants a login.
            raise PushoverDown(f"{where}: it is not Pushover that answers ({code}), something stands in between")
        if 400 <= code < 500:
            raise PushoverRefused(f"{where} refused ({code}): {_errors(response)}")
        if code != requests.codes.ok:
            kind = PushoverDown if code >= 500 and code not in _GATEWAYS else PushoverUnavailable
            raise kind(f"{where} is out of order ({code})")
        body = _json(response)
        if body is None:
            raise PushoverUnavailable(f"{where} gave an answer that is not JSON")
        if body.get("status") != 1:
            raise PushoverRefused(f"{where} refused: {_errors(response)}")
        return response


class _Client(PushoverAPI):  # type: ignore[misc]  # the library has no types
    """The library's client, with every request through our session; most of its calls would make their own."""

    def __init__(self, token: str, session: _Session) -> None:
        super().__init__(token)
        self._session = session

    def _generic_post(
        self,
        endpoint: str,
        url_parameter: str | None = None,
        payload: Any = None,
        session: Any = None,
        files: Any = None,
    ) -> Any:
        return super()._generic_post(endpoint, url_parameter, payload, session or self._session, files)

    def _generic_get(
        self, endpoint: str, url_parameter: str | None = None, payload: Any = None, session: Any = None
    ) -> Any:
        return super()._generic_get(endpoint, url_parameter, payload, session or self._session)


def _time(seconds: object) -> datetime | None:
    """A Unix time; 0 and everything that is none are no time."""
    if not isinstance(seconds, int) or not 0 < seconds < 2**36:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _json(response: requests.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except requests.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _errors(response: requests.Response) -> str:
    """What it has to say for itself; a page of HTML has nothing to say."""
    errors = (_json(response) or {}).get("errors")
    words = "; ".join(str(error) for error in errors) if isinstance(errors, list) else str(errors or "")
    return words or "it did not say why"
