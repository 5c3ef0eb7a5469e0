"""Whatever apprise can reach, as a channel: with a deadline, and without a word of its addresses.

An address of apprise holds passwords and tokens in any of its parts, so nothing of it is ever shown but the name of
the service. For the same reason what apprise, and the client underneath it, write to the log is not kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm_dagster import logs, web
from mm_dagster.alerts.channel import Channel, Message, Sent, Unavailable
from mm_dagster.text import number_text

if TYPE_CHECKING:
    import apprise

TIMEOUT_SECONDS = 15.0
"""For one message to one address, all in all."""
_MOST_BYTES = 2**20
_LOGGERS = ("apprise", "urllib3.connectionpool")
"""What would write addresses to the log, which may hold secrets."""


class AddressError(ValueError):
    """An address that apprise cannot read."""


class Apprise(Channel):
    """One or several addresses in the notation of apprise, all of which are given each message."""

    name = "apprise"

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Connects nothing yet.

        Args:
            urls: addresses like `mailto://...`; secret.
            timeout_seconds: for one message to one address, all in all.

        Raises:
            AddressError: there is none, or one cannot be read; it says which, not what it is.
        """
        # Costs as much as the rest of a command's start, and most configurations have no second channel.
        import apprise

        if not urls:
            raise AddressError("the second channel has no address")
        self._timeout_seconds = timeout_seconds
        asset = apprise.AppriseAsset(app_id="mm_dagster", app_desc="", app_url="", storage_mode="memory")
        self._services: list[tuple[str, apprise.NotifyBase]] = []
        for number, url in enumerate(urls, start=1):
            with logs.silent(*_LOGGERS):
                service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
            if not isinstance(service, apprise.NotifyBase):
                raise AddressError(f"address {number} of the second channel is none that apprise can read")
            service.socket_connect_timeout = service.socket_read_timeout = timeout_seconds
            # Its plugins follow redirects with their tokens, and read whatever is sent.
            web.Requests(_MOST_BYTES).stand_in("apprise.plugins")
            label = str(service.service_name or "a service")
            self._services.append((label if len(urls) == 1 else f"{label} (address {number})", service))

    def send(self, message: Message) -> Sent:
        """Sends title, text and link to all addresses at once, without trying again.

        Returns:
            Who took it, and who did not.

        Raises:
            Unavailable: nobody took it within the timeout. It may or may not have arrived.
        """
        title, body = message.title, f"{message.text}\n{message.url}" if message.url else message.text
        took: list[str] = []
        threads = [
            threading.Thread(target=self._give, args=(label, service, title, body, took), daemon=True)
            for label, service in self._services
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + self._timeout_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        taken = list(took)
        missed = [label for label, _ in self._services if label not in taken]
        failure = f"{', '.join(missed)} did not take it within {number_text(self._timeout_seconds)} s"
        if not taken:
            raise Unavailable(failure)
        return Sent(detail=f"{', '.join(taken)} took it" + (f"; {failure}" if missed else ""))

    @staticmethod
    def _give(label: str, service: apprise.NotifyBase, title: str, body: str, took: list[str]) -> None:
        with logs.silent(*_LOGGERS):
            try:
                taken = service.notify(body=body, title=title, notify_type="warning")
            except Exception:
                # Plugins of every kind: whatever one of them stumbles over, its words may hold the address.
                taken = False
        if taken:
            took.append(label)
