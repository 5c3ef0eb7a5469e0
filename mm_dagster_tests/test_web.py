"""What no client with a secret may do, tried with a server that says every wrong thing there is to say."""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import logging
import pkgutil
import ssl
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from mm_dagster import logs, web
from mm_dagster.alerts import heartbeat
from mm_dagster.alerts.apprise import Apprise
from mm_dagster.alerts.channel import Elsewhere, Message, Refused, Unavailable
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.bars import BAR, Span
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster.config.markets import AccountKeys, CcxtVenue
from mm_dagster.market.account import Credentials, ExchangeAccount
from mm_dagster.market.connection import Retry
from mm_dagster.market.exchange import ExchangeVenue
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.wire import Script, Wire, answer, trickle

BOUND = 100_000
SECONDS = 0.3
SLACK = 4.0
"""Two cores are shared by the other tests; what has no deadline here goes on for ever."""
ONCE = Retry(attempts=1, first_wait=0.005, longest_wait=0.01, jitter=0.0)
KEY = Credentials("key-6422-0192-abcdef", "secret/5f1e+0177==zz", "pass phrase&of%words")
SECRETS = (KEY.key, KEY.secret, str(KEY.passphrase))
TOKEN, USER = "azGDORePK8gMaC0QOYAMyEEuzJnyUi", "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"
T0 = datetime(2026, 1, 10, 12, tzinfo=UTC)
REDIRECTS = ("301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def venue(url: str, seconds: float = SECONDS) -> ExchangeVenue:
    settings = CcxtVenue(kind="ccxt", exchange="kucoin", api_url=url, timeout_seconds=seconds)
    return ExchangeVenue("main", settings, retry=ONCE)


def account(url: str, seconds: float = SECONDS) -> ExchangeAccount:
    keys = AccountKeys(key_env="A", secret_env="B", passphrase_env="C")
    settings = CcxtVenue(kind="ccxt", exchange="kucoin", api_url=url, timeout_seconds=seconds, account=keys)
    return ExchangeAccount("main", settings, KEY, retry=ONCE)


def pushover(url: str, seconds: float = SECONDS) -> Pushover:
    return Pushover(TOKEN, USER, PushoverConfig(api_url=f"{url}/1/", timeout_seconds=seconds), wait_seconds=0.001)


def told_by(ask: Callable[[], object]) -> str:
    """What an error says; nothing but what is foreseen comes out."""
    with pytest.raises((VenueError, Unavailable, Refused, Unavailable)) as caught:
        ask()
    return str(caught.value)


CLIENTS: dict[str, Callable[[str], str]] = {
    "candles": lambda url: told_by(venue(url).check),
    "account": lambda url: told_by(account(url).check),
    "pushover": lambda url: told_by(lambda: pushover(url).send(Message("t", "m", 2, T0))),
    "receipt": lambda url: told_by(lambda: pushover(url).receipt("r" * 30)),
    "heartbeat": lambda url: str(heartbeat.beat(f"{url}/ping/{TOKEN}")),
    "apprise": lambda url: told_by(
        lambda: Apprise([url.replace("http", "json", 1) + f"/{TOKEN}?redirect=yes"], timeout_seconds=SECONDS).send(
            Message("t", "m")
        )
    ),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", REDIRECTS)
def test_no_client_follows_a_redirect(client: str, status: str) -> None:
    with Wire(answer()) as elsewhere:
        places = [f"http://{elsewhere.place}/x", f"//{elsewhere.place}/x", f"https://{elsewhere.place}/x"]
        for location in places[: 1 if status != REDIRECTS[0] else 3]:
            with Wire(answer(b"moved", status, [f"Location: {location}"])) as server:
                said = CLIENTS[client](server.url)
                assert server.asked
        assert elsewhere.asked == []
        if client != "apprise":
            assert f"redirects to {elsewhere.place} (HTTP {status[:3]}); no redirect is followed: correct " in said
        assert not any(secret in said for secret in (*SECRETS, TOKEN, USER))


def test_a_redirect_to_the_same_host_another_path_or_in_a_chain_is_not_followed_either() -> None:
    with Wire(answer(b"", "302 Found", ["Location: /elsewhere"])) as server:
        assert "correct api_url in markets.yaml" in CLIENTS["candles"](server.url)
        assert len(server.asked) == 1


def test_a_redirect_is_not_asked_for_three_times_and_the_message_waits() -> None:
    with Wire(answer(b"", "302 Found", ["Location: http://portal.example/login"])) as server:
        with pytest.raises(Elsewhere, match=r"redirects to portal\.example .*correct pushover\.api_url in alerts"):
            pushover(server.url).send(Message("t", "m", 2, T0))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://",
        "::::",
        "http://[::1",
        f"http://{TOKEN}.example/",
        f"http://u:{TOKEN}@x/",
        "http://\x1b[31m/",
        "x" * 9_000,
    ],
)
def test_a_strange_redirect_is_one_line_without_a_secret(location: str) -> None:
    with Wire(answer(b"", "301 Moved", [f"Location: {location}"])) as server:
        said = CLIENTS["pushover"](server.url)
    assert "redirect" in said
    assert not {"\n", "\x1b"} & set(said)
    assert len(said) < 320
    assert TOKEN.lower() not in said.lower()


# deadlines ------------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TRICKLES: dict[str, Script] = {
    "the body": trickle(HEAD + b"Content-Length: 99999\r\n\r\n", b" "),
    "a body without length": trickle(HEAD + b"\r\n", b" "),
    "chunks": trickle(CHUNKED, b"1\r\n \r\n"),
    "the length of a chunk": trickle(CHUNKED, b"0"),
    "trailers": trickle(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
    "the status line": trickle(b"HTTP/1.1 200 ", b"O"),
    "headers": trickle(HEAD, b"X: y\r\n", 0.01),
    "one header": trickle(HEAD + b"X: ", b"y"),
    "100 Continue": trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
    "compressed nothing": trickle(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], b"\x00"),
    "silence": trickle(b"", b""),
}


@pytest.mark.parametrize("what", TRICKLES)
def test_an_answer_that_trickles_ends_at_the_deadline(what: str) -> None:
    with Wire(TRICKLES[what]) as server, web.Session(BOUND) as session:
        begin = time.monotonic()
        with pytest.raises(requests.RequestException) as caught:
            session.get(server.url, timeout=SECONDS)
        assert time.monotonic() - begin < SECONDS + SLACK
    if what not in ("headers", "compressed nothing", "trailers", "the length of a chunk"):
        assert isinstance(caught.value, requests.Timeout)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_has_a_deadline_for_the_whole_answer(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT_SECONDS", SECONDS)
    with Wire(TRICKLES["the body"]) as server:
        begin = time.monotonic()
        assert f"within {SECONDS:g} s" in CLIENTS[client](server.url)
        # Pushover is asked three times.
        assert time.monotonic() - begin < 3 * SECONDS + 2 * SLACK


def test_a_server_that_does_not_read_ends_at_the_deadline() -> None:
    with Wire(lambda _: [9.0]) as server, web.Session(BOUND) as session:
        begin = time.monotonic()
        with pytest.raises(requests.Timeout):
            session.post(server.url, data=bytes(20_000_000), timeout=SECONDS)
        assert time.monotonic() - begin < SECONDS + SLACK


# bounds ---------------------------------------------------------------------------------------------------------------


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small answers that are large."""
    nothing = bytes(200 * BOUND)
    deflated = zlib.compress(nothing)
    for name, body in (
        ("gzip", gzip.compress(nothing)),
        ("deflate", deflated),
        ("deflate", zlib.compress(nothing, wbits=-15) if hasattr(zlib, "MAX_WBITS") else deflated),
        ("gzip, gzip", gzip.compress(gzip.compress(nothing))),
    ):
        yield name, answer(body, headers=[f"Content-Encoding: {name}"])


def test_a_bomb_is_left_where_it_is() -> None:
    for name, said in bombs():
        with Wire(said) as server, web.Session(BOUND) as session:
            tracemalloc.start()
            with pytest.raises(web.TooLarge, match="more than 100,000 bytes"):
                session.get(server.url, timeout=5)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert most < 40 * BOUND, name


@pytest.mark.parametrize("head", [b"Content-Length: 99999999\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_giant_is_left_after_its_first_bytes(head: bytes) -> None:
    piece = b"10000\r\n" + bytes(65536) + b"\r\n" if b"chunked" in head else bytes(65536)
    with Wire(trickle(HEAD + head, piece, 0.0)) as server, web.Session(BOUND) as session, pytest.raises(web.TooLarge):
        session.get(server.url, timeout=5)


@pytest.mark.parametrize(
    ("client", "most"),
    [("candles", 16 * 2**20), ("account", 16 * 2**20), ("pushover", 2**18), ("receipt", 2**18), ("heartbeat", 2**20)],
)
def test_every_client_has_a_bound(client: str, most: int) -> None:
    body = gzip.compress(b"[" + b" " * (most + 1) + b"]")
    with Wire(answer(body, headers=["Content-Encoding: gzip", "Content-Type: application/json"])) as server:
        said = {
            "candles": lambda: told_by(venue(server.url, 9).check),
            "account": lambda: told_by(account(server.url, 9).check),
        }.get(client, lambda: CLIENTS[client](server.url))()
    assert f"an answer of more than {most:,} bytes" in said


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"Content-Length: 50\r\n\r\n{}",
        CHUNKED + b"5\r\nab",
        CHUNKED + b"zz\r\nab",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_an_answer_that_is_none_is_an_error_of_requests(said: bytes) -> None:
    with Wire(said) as server, web.Session(BOUND) as session, pytest.raises(requests.RequestException) as caught:
        session.get(server.url, timeout=1)
    assert "\n" not in web.reason(caught.value, 1, "x")


def test_what_is_left_over_of_one_answer_is_no_part_of_the_next() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse"
    with Wire(first, stays=True) as server, web.Session(BOUND) as session:
        assert [session.get(server.url, timeout=1).text for _ in range(2)] == ["{}", "{}"]
        assert len(server.asked) == 2


# secrets --------------------------------------------------------------------------------------------------------------


def forms(secret: str) -> list[str]:
    """How a server may write what it was sent, made here and not by what is tested."""
    raw = secret.encode()
    return [
        secret,
        quote(secret, safe=""),
        quote(secret, safe="").lower(),
        quote(quote(secret, safe=""), safe=""),
        json.dumps(secret)[1:-1],
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        base64.b64encode(b"user:" + raw + b"!").decode(),
        base64.b64encode(b"a user:" + raw + b"and more").decode(),
        raw.hex(),
        raw.hex().upper(),
    ]


def leaks(text: str, secret: str) -> bool:
    """Whether a text holds a secret, or enough of it in one of its forms."""
    inner = [base64.b64encode(bytes(n) + secret.encode()).decode()[4:-4] for n in range(3)]
    whole = [*forms(secret)[:7], secret.encode().hex(), secret.encode().hex().upper()]
    return any(form in text for form in (*whole, *inner))


@pytest.mark.parametrize("secret", [*SECRETS, TOKEN])
def test_a_secret_that_is_repeated_is_in_no_answer(secret: str) -> None:
    for form in forms(secret):
        said = answer(json.dumps({"x": form, "y": f"<<{form}>>"}).encode(), "200 " + form[:40], [f"X-Back: {form}"])
        with Wire(said) as server, web.Session(BOUND, (secret,)) as session:
            found = session.get(server.url, timeout=1)
        assert not leaks(found.text + str(found.headers), secret), form


def test_an_answer_without_a_secret_is_the_same_to_the_byte() -> None:
    body = bytes(range(256)) * 9
    with Wire(answer(body)) as server, web.Session(BOUND, SECRETS) as session:
        assert session.get(server.url, timeout=1).content == body


@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "401 No", "403 No", "500 Oh", "503 Oh"])
def test_an_exchange_that_repeats_what_it_was_sent_is_quoted_without_it(status: str) -> None:
    def echo(request: bytes) -> list[bytes | float]:
        said = request.decode("latin-1") + " ".join(form for secret in SECRETS for form in forms(secret))
        return [
            answer(json.dumps({"code": "400001", "msg": said}).encode(), status, ["Content-Type: application/json"])
        ]

    with Wire(echo) as server:
        said = CLIENTS["account"](server.url)
        sent = server.asked[-1].decode("latin-1")
    assert not any(leaks(said, secret) for secret in SECRETS)
    proofs = [line.partition(": ")[2] for line in sent.splitlines() if line.upper().startswith("KC-API-")]
    assert not any(proof in said for proof in proofs if len(proof) > 20)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "500 Oh"])
def test_pushover_that_repeats_what_it_was_sent_is_quoted_without_it(status: str) -> None:
    said = " ".join(form for secret in (TOKEN, USER) for form in forms(secret))
    with Wire(answer(json.dumps({"status": 0, "errors": [said]}).encode(), status)) as server:
        told = CLIENTS["pushover"](server.url)
    assert not any(leaks(told, secret) for secret in (TOKEN, USER))


@pytest.mark.parametrize("name", [TOKEN, USER, "../../messages", "a/b", "x\ny", "", 7, None, {"a": 1}, "r" * 300])
def test_what_is_no_name_becomes_no_receipt(name: object) -> None:
    body = json.dumps({"status": 1, "receipt": name}).encode()
    with Wire(answer(body)) as server:
        sent = pushover(server.url).send(Message("t", "m", 2, T0))
    assert sent.receipt is None


def test_a_device_that_is_called_like_the_token_is_not_stored() -> None:
    body = {"status": 1, "acknowledged": 1, "acknowledged_at": 1_768_046_400, "acknowledged_by_device": f"x {TOKEN}"}
    with Wire(answer(json.dumps(body).encode())) as server:
        found = pushover(server.url).receipt("r" * 30)
    assert (found.acknowledged, found.device) == (True, "x ***")


# proxies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("a.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("127.1", True), ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True),
        ("api.kucoin.com", False), ("localhost.example.com", False), ("10.0.0.1", False), ("", False),
    ],
)  # fmt: skip
def test_this_computer_is_known_however_it_is_written(host: str, is_ours: bool) -> None:
    assert web.is_loopback(host) is is_ours


def test_no_client_asks_a_proxy_for_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(answer(b"", "502 No")) as proxy, Wire(answer(b"", "404 No")) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://user:{TOKEN}@{proxy.place}")
        for client in CLIENTS.values():
            client(server.url)
        assert proxy.asked == []
        assert len(server.asked) >= len(CLIENTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_asks_the_proxy_of_the_environment(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(answer(b"", "502 Bad Gateway")) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://user:{TOKEN}@{proxy.place}")
        for scheme in ("http", "https"):
            said = CLIENTS[client](f"{scheme}://venue.invalid")
            assert TOKEN not in said, said
        assert any(b"venue.invalid" in request for request in proxy.asked)
        if client != "apprise":
            assert any(request.startswith(b"CONNECT venue.invalid:443") for request in proxy.asked)
            assert "no connection through the environment's proxy (HTTPS_PROXY" in said
        before = len(proxy.asked)
        monkeypatch.setenv("NO_PROXY", "venue.invalid")
        CLIENTS[client]("http://venue.invalid")
        assert len(proxy.asked) == before


def test_a_proxy_that_trickles_ends_at_the_deadline_and_a_socks_proxy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(trickle(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")) as proxy, web.Session(BOUND) as session:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.place}")
        begin = time.monotonic()
        with pytest.raises(requests.Timeout):
            session.get("https://venue.invalid", timeout=SECONDS)
        assert time.monotonic() - begin < SECONDS + SLACK
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://127.0.0.1:9")
    assert "is none that is spoken here" in CLIENTS["candles"]("https://venue.invalid")
    assert "is none that is spoken here" in CLIENTS["pushover"]("https://venue.invalid")


@pytest.mark.parametrize("value", ["http://bob:s3cret-words@proxy:8080", "bob:s3cret-words@proxy:8080"])
def test_the_login_of_a_proxy_is_a_secret(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    logs.protect(())
    assert "s3cret" not in logs.redact(f"cannot reach {value}, nor s3cret-words")


def test_no_login_of_netrc_goes_anywhere(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Wire(answer()) as server, web.Session(BOUND) as session:
        session.get(server.url, timeout=1)
        assert b"authorization" not in server.asked[0].lower()


# what it stands on ----------------------------------------------------------------------------------------------------


def test_connections_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    connect = web._Connection.connect
    monkeypatch.setattr(web._Connection, "connect", lambda self: (begun.append(self), connect(self)))
    with Wire(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", stays=True) as server, web.Session(BOUND) as session:
        for _ in range(3):
            assert session.get(server.url, timeout=1).text == "{}"
    assert len(begun) == 1


def test_contract_with_urllib3_encrypted_connections_are_ours_too() -> None:
    with Wire(trickle(b"\x16\x03\x03\x00\xff", b"\x00")) as server, web.Session(BOUND) as session:
        begin = time.monotonic()
        with pytest.raises(requests.Timeout):
            session.get(server.url.replace("http", "https"), timeout=SECONDS)
        assert time.monotonic() - begin < SECONDS + SLACK
    assert issubclass(web._context().sslsocket_class, ssl.SSLSocket)
    assert all(hasattr(kind, "_new_conn") for kind in (web.HTTPConnection, web.HTTPSConnection))


def test_contract_with_apprise_every_service_calls_the_module_requests(caplog: pytest.LogCaptureFixture) -> None:
    package = importlib.import_module("apprise.plugins")
    caplog.set_level(logging.CRITICAL, logger="apprise")
    for found in pkgutil.walk_packages(package.__path__, "apprise.plugins."):
        spec = importlib.util.find_spec(found.name)
        assert spec is not None
        text = Path(str(spec.origin)).read_text(encoding="utf-8")
        others = ("requests.Session", "from requests import", "urlopen(", "http.client")
        assert not [other for other in others if other in text], found.name


def test_contract_with_apprise_its_services_speak_by_our_rules() -> None:
    with Wire(answer(b"ok")) as server:
        second = Apprise([server.url.replace("http", "json", 1)], timeout_seconds=5)
        assert second.send(Message("t", "m"))
        assert isinstance(importlib.import_module("apprise.plugins.custom_json").requests, web.Requests)


def test_candles_of_another_host_never_arrive() -> None:
    """A redirect of candles alone, the rest of the venue being well."""
    symbols = [{"symbol": "ETH-USDT", "baseCurrency": "ETH", "quoteCurrency": "USDT", "enableTrading": True}]
    with Wire(
        answer(json.dumps({"code": "200000", "data": [["1766232000", "9", "9", "9", "9", "9", "9"]]}).encode())
    ) as other:

        def script(request: bytes) -> list[bytes | float]:
            if b"candles" in request.split(b"\r\n")[0]:
                return [answer(b"", "302 Found", [f"Location: {other.url}/api/v1/market/candles"])]
            data = 1766232060000 if b"timestamp" in request.split(b"\r\n")[0] else symbols
            return [
                answer(
                    json.dumps({"code": "200000", "data": data}).encode(), headers=["Content-Type: application/json"]
                )
            ]

        with Wire(script) as server:
            begin = datetime(2025, 12, 20, 6, tzinfo=UTC)
            got = venue(server.url, 2).fetch("ETH-USDT", Span(begin, begin + 8 * BAR))
        assert (got.rows.height, got.answered) == (0, ())
        assert "no redirect is followed" in str(got.error)
        assert other.asked == []


@pytest.mark.parametrize(
    ("proxy", "used"),
    [(None, "http://127.0.0.1:3128"), ("none", None), ("http://127.0.0.1:8888", "http://127.0.0.1:8888")],
)
def test_a_caller_names_a_proxy_or_none(monkeypatch: pytest.MonkeyPatch, proxy: str | None, used: str | None) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    with web.Session(1_000, proxy=proxy) as session:
        settings = session.merge_environment_settings("https://api.example.com/x", {}, None, None, None)
    assert settings["proxies"].get("https") == used
