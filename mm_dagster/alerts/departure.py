"""Whether any byte of a request left: what never left was not taken, what left may have been, whatever came back.

An error's name does not say it: a failing TLS handshake and an answer cut off look alike. So the connections themselves
note it, once they stand and are given the first byte.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Departure:
    """One attempt, within `with`.

    Attributes:
        begun: whether a byte of a request was given to a connection that stood.
    """

    def __init__(self) -> None:
        self.begun = False

    def __enter__(self) -> Departure:
        self._token: Token[Departure | None] = _present.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _present.reset(self._token)


_present: ContextVar[Departure | None] = ContextVar("departure", default=None)


class _Noting:
    """Mixed into a connection; what a proxy is told while it connects is no part of the request."""

    _connecting = False

    def connect(self) -> None:
        self._connecting = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:  # type: ignore[attr-defined]
            self.connect()
        attempt = _present.get()
        if attempt is not None and not self._connecting:
            attempt.begun = True
        super().send(data)  # type: ignore[misc]


class _Http(_Noting, HTTPConnection):
    pass


class _Https(_Noting, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class NotingAdapter(HTTPAdapter):
    """Connections that note for the present `Departure` that a request left."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = dict(_POOLS)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """See HTTPAdapter."""
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = dict(_POOLS)
        return manager


_POOLS = {"http": _HttpPool, "https": _HttpsPool}
