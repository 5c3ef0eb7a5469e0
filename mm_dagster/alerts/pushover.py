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
from datetime import UTC, datetime
from typing import Any

import requests
from pushover_complete import PushoverAPI, PushoverCompleteError
from pushover_complete.pushover_api import PUSHOVER_API_URL

from mm_dagster import logs, web
from mm_dagster.alerts.alert import EMERGENCY
from mm_dagster.alerts.asking import GATEWAYS, Asking, json_of
from mm_dagster.alerts.channel import (
    Channel,
    Down,
    Message,
    Receipt,
    Refused,
    Sent,
    Unavailable,
    UnknownReceipt,
    Unreachable,
)
from mm_dagster.config.alerts import PushoverConfig

IMAGE_LIMIT = 5 * 1024 * 1024
"""A larger picture is refused together with its message, so it is left out."""
WAIT_SECONDS = 5.0
"""Pushover asks for at least so long a wait before the next attempt."""

POLL_SECONDS = 5.0
"""A receipt may not be asked for more often."""

_MOST_BYTES = 2**18
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""What a receipt is called; it becomes part of an address."""


class Pushover(Channel):
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
        self._secrets = tuple(secret for secret in (token, user) if secret)
        self._receipts: dict[str, tuple[float, Receipt]] = {}
        self._asking = Asking(
            "Pushover", config.api_url, "pushover.api_url in alerts.yaml", config.timeout_seconds, wait_seconds,
            self._secrets,
        )  # fmt: skip
        session = _Session(config.api_url, config.timeout_seconds, self._secrets, self._asking.where)
        self._api = _Client(token, session)

    def send(self, message: Message) -> Sent:
        """Sends one message, and again, at most three times, only while no connection can be established.

        What may have been accepted is not sent again here: whether it is, is the ledger's business. A picture over
        5 MiB is left out, and so are buttons, which it does not know.

        Raises:
            Refused: it said no; never retried.
            Unreachable: no connection could be established, three times.
            NotTaken: it is out of order, or sends elsewhere.
            Unavailable: a timeout, or no usable answer: it may have been accepted.
        """
        emergency = message.priority == EMERGENCY
        image = message.image
        attachment = ("chart.png", image, "image/png") if image and len(image) <= IMAGE_LIMIT else None
        answer = self._call(
            Unreachable,
            "send_message",
            self._user,
            message.text,
            title=message.title,
            url=message.url,
            image=attachment,
            priority=message.priority,
            retry=self._config.emergency_retry_seconds if emergency else None,
            expire=self._config.emergency_expire_seconds if emergency else None,
            timestamp=int(message.timestamp.timestamp()) if message.timestamp else None,
            html=None,
        )
        return Sent(receipt=self._name_in(answer, "receipt"))

    def cancel(self, receipt: str) -> None:
        """Stops an emergency from ringing.

        Raises:
            Refused: it does not know the receipt, or says no otherwise.
            Unavailable: no usable answer, three times.
        """
        self._call(Unavailable, "cancel_receipt", receipt)

    def receipt(self, receipt: str) -> Receipt:
        """Asks what has become of an emergency; within five seconds of an answer it gives the same one again.

        Raises:
            UnknownReceipt: it does not know the receipt, or no longer.
            Refused: it says no otherwise.
            Unavailable: no usable answer, three times.
        """
        asked_at, known = self._receipts.get(receipt, (0.0, None))
        if known and time.monotonic() - asked_at < POLL_SECONDS:
            return known
        answer = self._call(Unavailable, "check_receipt", receipt)
        found = Receipt(
            acknowledged=answer.get("acknowledged") == 1,
            acknowledged_at=_time(answer.get("acknowledged_at")),
            device=self._asking.shown(str(answer.get("acknowledged_by_device") or "")) or None,
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
            Refused: one of them is not.
            Unavailable: no usable answer, three times.
        """
        devices = self._call(Unavailable, "validate", self._user).get("devices")
        return [self._asking.shown(str(device)) for device in devices] if isinstance(devices, list) else []

    def _call(self, again: type[Unavailable], method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        def request() -> dict[str, Any]:
            try:
                return dict(getattr(self._api, method)(*arguments, **options))
            except PushoverCompleteError as error:
                raise Refused(f"{self._asking.where} refused: {error}") from None

        return self._asking(again, request)

    def _name_in(self, answer: dict[str, Any], key: str) -> str | None:
        """A name that an answer gives; None: it gives none, or what is no name, or one of our secrets."""
        name = answer.get(key)
        is_one = isinstance(name, str) and _NAME.fullmatch(name) and logs.without(name, self._secrets) == name
        return name if is_one else None


class _Session(web.Session):
    """Requests with a timeout, to the configured address, whose answers are judged before the library reads them."""

    def __init__(self, api_url: str, timeout: float, secrets: Sequence[str], where: str) -> None:
        super().__init__(_MOST_BYTES, secrets)
        self._where = where
        self._api_url = api_url.rstrip("/") + "/"
        self._timeout = timeout

    def request(self, method: str, url: str | bytes, *arguments: Any, **options: Any) -> requests.Response:
        """Sends a request of the library.

        Raises:
            Refused: it says no, in JSON.
            Down: 500, 503 and 429, and 4xx that are not in its own words: it may be otherwise in an hour.
            Unavailable: other 5xx, or no JSON object.
            requests.RequestException: no answer, see `web`.
        """
        address = self._api_url + str(url).removeprefix(PUSHOVER_API_URL)
        options |= {"timeout": self._timeout}
        response = super().request(method, address, *arguments, **options)
        where, code = self._where, response.status_code
        if code == requests.codes.too_many_requests:
            raise Down(f"{where} takes no more: the application's messages of this month are spent (429)")
        if 400 <= code < 500 and "receipt" in (json_of(response) or {}):
            raise UnknownReceipt(f"{where} refused ({code}): {_errors(response)}")
        if 400 <= code < 500 and "status" not in (json_of(response) or {}):
            # Pushover says no in JSON: this is a proxy, or the page of a network that wants a login.
            raise Down(f"{where}: it is not Pushover that answers ({code}), something stands in between")
        if 400 <= code < 500:
            raise Refused(f"{where} refused ({code}): {_errors(response)}")
        if code != requests.codes.ok:
            kind = Down if code >= 500 and code not in GATEWAYS else Unavailable
            raise kind(f"{where} is out of order ({code})")
        body = json_of(response)
        if body is None:
            raise Unavailable(f"{where} gave an answer that is not JSON")
        if body.get("status") != 1:
            raise Refused(f"{where} refused: {_errors(response)}")
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


def _errors(response: requests.Response) -> str:
    """What it has to say for itself; a page of HTML has nothing to say."""
    errors = (json_of(response) or {}).get("errors")
    words = "; ".join(str(error) for error in errors) if isinstance(errors, list) else str(errors or "")
    return words or "it did not say why"
