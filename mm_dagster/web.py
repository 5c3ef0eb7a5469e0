"""HTTP as a program with secrets must speak it: no redirect, a deadline for the whole answer, a bound for its size.

`requests` follows a redirect with headers and bodies that hold keys, starts its timeout anew with every byte that
arrives, and keeps whatever is sent. What is below here does none of it, whichever library builds the request:

- a 3xx is an error that names the host, and nothing is asked there;
- `timeout` counts from the first packet to the last byte, connecting, encryption and a proxy's greeting included;
- a body is read up to a bound, counted after it is unpacked;
- a secret that a server repeats is taken out of the answer before anybody reads it;
- a proxy of the environment (HTTPS_PROXY, NO_PROXY) is used as by every other program, never for this computer, unless
  the caller names another one, or none;
- it is known whether any byte of a request left: what never left was not taken, what left may have been, whatever came
  back. An error's name does not say it: a failing handshake and an answer cut off look alike.

The private hooks of urllib3 that this takes are all in this module; test_web.py fails when they change.
"""

from __future__ import annotations

import io
import ipaddress
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

from mm_dagster import logs
from mm_dagster.text import number_text

SECONDS = 15.0
"""For an answer, where the caller says nothing."""
_PIECE = 64 * 1024
_LEAST = 12
"""Characters of a secret that is taken out of answers: a shorter one may stand in a number by chance."""
_PROXY = "the environment's proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY)"
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,100}")


class Redirected(requests.RequestException):
    """The server sends to another address. No redirect is followed. The message is one line without a secret."""


class TooLarge(requests.RequestException):
    """An answer of more bytes than it may have. The message is one line."""


class BrokenOff(requests.ConnectionError):
    """An answer that ends before it is whole, or that cannot be unpacked."""


class Session(requests.Session):
    """A session of `requests` by the rules of this module. Not safe for use by several threads at once."""

    def __init__(self, most_bytes: int, secrets: Sequence[str] = (), proxy: str | None = None) -> None:
        """
        Args:
            most_bytes: of an answer's body, unpacked.
            secrets: what is taken out of answers.
            proxy: address of a proxy; `none`: none; None: the environment's.
        """
        super().__init__()
        self._proxy = proxy
        # Proxies and certificates of the environment are looked up below; a login of ~/.netrc is nobody's wish here.
        self.trust_env = False
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(most_bytes, secrets))

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """Adds the environment's proxy and certificates."""
        if self._proxy is not None:
            proxies = {} if self._proxy == "none" else {"http": self._proxy, "https": self._proxy}
        elif not proxies and not is_loopback(urlsplit(url).hostname or ""):
            proxies = get_environ_proxies(url)
        if verify is None or verify is True:
            verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        return dict(super().merge_environment_settings(url, proxies or {}, stream, verify, cert))


class _Adapter(HTTPAdapter):
    """What carries a request out, and reads its answer whole."""

    def __init__(self, most_bytes: int, secrets: Sequence[str]) -> None:
        self._most_bytes = most_bytes
        self._secrets = [secret for secret in secrets if len(secret) >= _LEAST]
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Connections that know the deadline."""
        super().init_poolmanager(*arguments, ssl_context=_context(), **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Likewise through a proxy."""
        if urlsplit(proxy).scheme.lower().startswith("socks"):
            raise requests.exceptions.InvalidProxyURL("a SOCKS proxy")
        is_new = proxy not in self.proxy_manager
        if is_new:
            options |= {"ssl_context": _context(), "proxy_ssl_context": _context()}
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Sends a request and reads the whole answer.

        Raises:
            Redirected: the answer is a redirect.
            TooLarge: it has too many bytes.
            BrokenOff: it is not whole.
            requests.Timeout: it was not whole in time.
            requests.RequestException: see `requests`.
        """
        seconds = max(filter(None, timeout), default=SECONDS) if isinstance(timeout, tuple) else timeout or SECONDS
        with _deadline(float(seconds)):
            try:
                response = super().send(request, True, seconds, verify, cert, proxies)
                body = self._body(response)
            except (Redirected, TooLarge):
                raise
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if _is_over():
                    raise requests.ReadTimeout(f"no answer within {number_text(seconds)} s", request=request) from None
                if isinstance(error, requests.RequestException):
                    raise
                raise BrokenOff(f"the answer broke off ({type(error).__name__})", request=request) from None
        # A plain file in the place of the connection: requests reads it as it is.
        response.raw = io.BytesIO(self._scrubbed(body))
        return response

    def _body(self, response: requests.Response) -> bytes:
        body = bytearray()
        raw = response.raw
        whole = False
        try:
            if 300 <= response.status_code < 400:
                raise Redirected(_whereto(response, self._secrets), request=response.request, response=response)
            for piece in raw.stream(_PIECE, decode_content=True):
                body += piece
                if len(body) > self._most_bytes:
                    raise TooLarge(f"an answer of more than {self._most_bytes:,} bytes", request=response.request)
                if _is_over():
                    raise TimeoutError
            whole = True
        finally:
            if not whole:
                raw.close()
            raw.release_conn()
        for name, value in list(response.headers.items()):
            response.headers[name] = logs.without(value, self._secrets)
        response.reason = logs.without(str(response.reason or ""), self._secrets)
        return bytes(body)

    def _scrubbed(self, body: bytes) -> bytes:
        """Every byte as it was, but for what repeats a secret."""
        if not self._secrets:
            return body
        text = body.decode("utf-8", "surrogateescape")
        cleaned = logs.without(text, self._secrets)
        return body if cleaned == text else cleaned.encode("utf-8", "surrogateescape")


class Requests:
    """Stands in the place of the module `requests` in a library that calls its functions."""

    def __init__(self, most_bytes: int) -> None:
        """
        Args:
            most_bytes: of an answer's body, unpacked.
        """
        self._most_bytes = most_bytes

    def __getattr__(self, name: str) -> Any:
        if name not in ("request", "get", "options", "head", "post", "put", "patch", "delete"):
            return getattr(requests, name)

        def ask(*arguments: Any, **options: Any) -> requests.Response:
            with Session(self._most_bytes) as session:
                return cast(requests.Response, getattr(session, name)(*arguments, **options))

        return ask

    def stand_in(self, package: str) -> None:
        """Takes the place of `requests` in every loaded module of a package."""
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{package}.") and vars(module).get("requests") is requests:
                vars(module)["requests"] = self


def reason(error: requests.RequestException, seconds: float, setting: str) -> str:
    """Why there was no answer, in a few words without an address.

    Args:
        error: what `Session` raised.
        seconds: the deadline.
        setting: what to correct after a redirect.
    """
    match error:
        case Redirected():
            return f"{error}; no redirect is followed: correct {setting}"
        case TooLarge():
            return str(error)
        case requests.Timeout():
            return f"no answer within {number_text(seconds)} s"
        case requests.exceptions.InvalidProxyURL():
            return f"{_PROXY} is none that is spoken here; give an address like http://proxy.example.com:8080"
        case requests.exceptions.ProxyError():
            return f"no connection through {_PROXY}"
        case BrokenOff():
            return "an answer that broke off"
        case _:
            return f"no connection ({type(error).__name__})"


def is_loopback(host: str) -> bool:
    """Whether a host is this computer, however it is written."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # 127.1 and 0x7f000001 are addresses, too, for those who resolve names.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except OSError:
            return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


def host_of(address: str) -> str:
    """The host of an address, also of one without a scheme; empty where there is none."""
    return urlsplit(address if "//" in address else f"//{address}").hostname or ""


def is_private(host: str) -> bool:
    """Whether a host is only found in its own network: a private address, or a name that no public domain has.

    Those of carriers and of some VPNs (100.64.0.0/10) are private, too.
    """
    host = host.strip("[]").rstrip(".").lower()
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".home", ".internal", ".home.arpa"))


def _whereto(response: requests.Response, secrets: Sequence[str]) -> str:
    """Where a redirect leads: its host, and nothing else of it."""
    location = response.headers.get("Location", "")
    try:
        parts = urlsplit(urljoin(response.url or "", location))
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        host = ""
    host = logs.redact(logs.without(host, secrets))
    if not location or not _HOST.fullmatch(host):
        return f"it answers with HTTP {response.status_code}, a redirect to nowhere"
    return f"it redirects to {host} (HTTP {response.status_code})"


# the deadline ---------------------------------------------------------------------------------------------------------

_now = threading.local()
"""The deadline of this thread's request, seconds of the monotonic clock."""


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    _now.end = time.monotonic() + seconds
    try:
        yield
    finally:
        del _now.end


def _left() -> float:
    """Seconds to the deadline.

    Raises:
        TimeoutError: it is over.
    """
    left: float = _now.end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _is_over() -> bool:
    return time.monotonic() >= _now.end


class _Timed:
    """A socket whose reads and writes, all together, end at the deadline."""

    def recv(self, *arguments: Any) -> bytes:
        return cast(bytes, self._in_time("recv", *arguments))

    def recv_into(self, *arguments: Any) -> int:
        return cast(int, self._in_time("recv_into", *arguments))

    def send(self, *arguments: Any) -> int:
        return cast(int, self._in_time("send", *arguments))

    def sendall(self, *arguments: Any) -> None:
        self._in_time("sendall", *arguments)

    def _in_time(self, name: str, *arguments: Any) -> Any:
        self.settimeout(_left())  # type: ignore[attr-defined]
        return getattr(super(), name)(*arguments)


class _Plain(_Timed, socket.socket):
    pass


class _Tls(_Timed, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self._in_time("do_handshake", block)


class _Connecting:
    """Connects within the deadline: each of a host's addresses has its share of what is left."""

    def _new_conn(self) -> socket.socket:
        connection = cast(HTTPConnection, self)
        host = connection.host
        try:
            found = socket.getaddrinfo(host.strip("[]"), connection.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            failure = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise NameResolutionError(host, connection, failure) from error
        last: OSError = OSError("it has no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            try:
                end = _Plain(family, kind, protocol)
            except OSError as error:
                last = error
                continue
            try:
                end.settimeout(_left() / (len(found) - number))
                for option in connection.socket_options or ():
                    end.setsockopt(*option)
                end.connect(address)
                return end
            except OSError as error:
                last = error
                end.close()
        if isinstance(last, TimeoutError):
            raise ConnectTimeoutError(connection, f"connecting to {host} timed out") from last
        raise NewConnectionError(connection, f"no connection: {last}") from last


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


class _Connection(_Noting, _Connecting, HTTPConnection):
    pass


class _TlsConnection(_Noting, _Connecting, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


def _context() -> ssl.SSLContext:
    context = create_urllib3_context()
    context.sslsocket_class = _Tls
    return context
