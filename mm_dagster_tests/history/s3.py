"""Object storage on loopback: moto in a process of its own, with signatures checked, behind a proxy that does harm.

The proxy stands between the program and the storage. It counts what is asked, and a test tells it what to do with each
request: pass it on, or one of `HARMS`. Nothing of the program is replaced: DuckDB's httpfs and pyarrow's client speak
to a server, as they would to any other.

    with s3.running() as storage:
        storage.url("bucket/prefix")         # s3://bucket/prefix
        storage.proxy.harm = lambda asked: "503" if asked.method == "PUT" else None
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

HARMS = ("503", "500", "reset", "reset after", "torn", "dropped", "delayed", "lost")
"""What the proxy can do with a request, beside passing it on.

503, 500: answered so, and not passed on; reset: the connection is, before anything was done; reset after: it was done,
and the answer never came; torn: half of the answer's body comes; dropped: nothing ever comes; delayed: late; lost: an
upload is answered with 200, and nothing is stored. A 4xx word of S3, like `ExpiredToken`, is answered as such.
"""
REGION = "eu-central-1"
BUCKET = "lakes"
DROPPED_SECONDS = 30.0
"""How long the proxy stays silent at most; every client has given up by then."""
DELAYED_SECONDS = 0.5
_ERRORS = {"503": (503, "SlowDown"), "500": (500, "InternalError")}
_REFUSALS = {"NoSuchBucket": 404, "NoSuchKey": 404, "InvalidArgument": 400}
"""Words of S3 whose status is not 403."""
_SERVER = """
import json, os, sys, threading
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"
from werkzeug.serving import make_server
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends

ACCOUNT, (bucket, other, region) = "123456789012", sys.argv[1:]
iam, s3 = iam_backends[ACCOUNT]["aws"], s3_backends[ACCOUNT]["aws"]
keys = {}
for name, actions in (("writer", "s3:*"), ("reader", ["s3:Get*", "s3:List*", "s3:Head*"])):
    iam.create_user(region, name, "/", None)
    rule = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(name, "own", json.dumps(rule))
    made = iam.create_access_key(name)
    keys[name] = (made.access_key_id, made.secret_access_key)
for name in (bucket, other):
    s3.create_bucket(name, region)
server = make_server(
    "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True,
    request_handler=MotoRequestHandler,
)
print(json.dumps({"port": server.server_port, "keys": keys}), flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
"""


@dataclass(frozen=True)
class Asked:
    """A request that the proxy saw.

    Attributes:
        method: of HTTP.
        path: with the query.
        number: how many were seen before it.
    """

    method: str
    path: str
    number: int

    @property
    def uploads(self) -> bool:
        """Whether it is one after which an object is expected to be there."""
        return (self.method == "PUT" and "uploadId=" not in self.path) or (
            self.method == "POST" and "uploadId=" in self.path
        )


Harm = Callable[[Asked], str | None]


def seldom(share: float, seed: int, harms: tuple[str, ...] = HARMS) -> Harm:
    """One of these harms at random, to this share of the requests; an upload alone can be lost."""
    random_ = random.Random(seed)
    turn = threading.Lock()

    def harm(asked: Asked) -> str | None:
        with turn:
            if random_.random() >= share:
                return None
            # Uploads are few among the requests, and only they can be lost.
            possible = [one for one in harms if one != "lost"]
            return random_.choice([*possible, *("lost" for _ in possible if "lost" in harms and asked.uploads)])

    return harm


class Proxy:
    """Passes requests on to the storage, or does harm to them.

    Attributes:
        harm: asked for each request; None passes it on.
        delay: seconds that each request takes longer.
        counts: how many requests there were, by method.
        done: how often each harm was done.
        asked: all requests in their order.
    """

    def __init__(self, port: int) -> None:
        """
        Args:
            port: of the storage.
        """
        self._upstream = port
        self.harm: Harm = lambda _: None
        self.delay = 0.0
        self.counts: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self._turn = threading.Lock()
        self._ended = threading.Event()
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    proxy._serve(self.request, self.rfile)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def heal(self) -> None:
        """No harm from here on, and nothing counted yet."""
        self.harm, self.delay = (lambda _: None), 0.0
        with self._turn:
            self.counts.clear()
            self.done.clear()
            self.asked.clear()

    def _note(self, method: str, path: str) -> Asked:
        with self._turn:
            asked = Asked(method, path, len(self.asked))
            self.asked.append(asked)
            self.counts[method] += 1
        return asked

    def _serve(self, client: socket.socket, stream: object) -> None:
        """All requests of one connection."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=DROPPED_SECONDS)
        try:
            while request := _request(client, stream):
                asked = self._note(request.method, request.path)
                harm = self.harm(asked)
                if harm:
                    with self._turn:
                        self.done[harm] += 1
                if self.delay:
                    time.sleep(self.delay)
                if not self._answer(client, upstream, request, harm):
                    return
        finally:
            upstream.close()

    def _answer(
        self, client: socket.socket, upstream: http.client.HTTPConnection, request: _Request, harm: str | None
    ) -> bool:
        """Answers a request; False: the connection is of no more use."""
        if harm == "reset":
            _reset(client)
            return False
        if harm == "dropped":
            self._ended.wait(DROPPED_SECONDS)
            return False
        if harm == "delayed":
            time.sleep(DELAYED_SECONDS)
        elif harm == "lost":
            client.sendall(_stored(request))
            return True
        elif harm is not None and harm not in ("reset after", "torn"):
            status, word = _ERRORS.get(harm, (_REFUSALS.get(harm, 403), harm))
            client.sendall(_refusal(request, status, word))
            return True
        status, reason, headers, body = _passed_on(upstream, request)
        if harm == "reset after":
            _reset(client)
            return False
        head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
        if harm == "torn":
            # Without a body there is nothing to tear but the head.
            whole = head.encode() + b"\r\n" + body
            client.sendall(whole[: len(whole) - max(1, len(body) // 2)] if body else whole[: len(whole) // 2])
            return False
        client.sendall(head.encode() + b"\r\n" + body)
        return True


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)


def _request(client: socket.socket, stream: object) -> _Request | None:
    """The next request of a connection; None: it ended."""
    read = stream  # a buffered reader of the connection
    line = read.readline(65537).decode("latin-1")  # type: ignore[attr-defined]
    if not line.strip():
        return None
    method, path, _ = line.split(" ", 2)
    headers = []
    while (line := read.readline(65537).decode("latin-1")).strip():  # type: ignore[attr-defined]
        name, _, value = line.partition(":")
        headers.append((name.strip(), value.strip()))
    given = {name.lower(): value for name, value in headers}
    if given.get("expect", "").lower() == "100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if given.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int(read.readline().split(b";")[0], 16):  # type: ignore[attr-defined]
            body += read.read(size)  # type: ignore[attr-defined]
            read.readline()  # type: ignore[attr-defined]
        read.readline()  # type: ignore[attr-defined]
        headers = [(name, value) for name, value in headers if name.lower() != "transfer-encoding"]
        headers.append(("Content-Length", str(len(body))))
    else:
        body = read.read(int(given.get("content-length", 0)))  # type: ignore[attr-defined]
    return _Request(method, path, headers, body)


def _passed_on(
    upstream: http.client.HTTPConnection, request: _Request
) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """The storage's own answer. The request is sent to the byte, since its headers are signed."""
    for attempt in range(2):
        try:
            upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in ("expect", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders(request.body)
            answer = upstream.getresponse()
            body = answer.read()
            break
        except (OSError, http.client.HTTPException):
            # It closes a connection that was idle.
            upstream.close()
            if attempt:
                raise
    left_out = ("connection", "transfer-encoding", "keep-alive")
    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in left_out]
    if request.method != "HEAD" and not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("Content-Length", str(len(body))))
    return answer.status, answer.reason, headers, body


def _refusal(request: _Request, status: int, word: str) -> bytes:
    said = "" if request.method == "HEAD" else f"<Error><Code>{word}</Code><Message>injected</Message></Error>"
    return _reply(status, word, "application/xml", said)


def _stored(request: _Request) -> bytes:
    """What the storage says of an upload; nothing was stored."""
    tag = hashlib.md5(request.body).hexdigest()
    if request.method != "POST":
        return _reply(200, "OK", "application/xml", "", f'ETag: "{tag}"\r\n')
    key = re.sub(r"\?.*", "", request.path)
    return _reply(
        200, "OK", "application/xml",
        f'<CompleteMultipartUploadResult><Key>{key}</Key><ETag>"{tag}-1"</ETag></CompleteMultipartUploadResult>',
    )  # fmt: skip


def _reply(status: int, reason: str, kind: str, said: str, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(said)}\r\n{more}\r\n{said}"
    ).encode()


def _reset(client: socket.socket) -> None:
    """Ends a connection by RST, and not in good order."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The server's own goodbye would send a FIN first.
    os.close(client.detach())


@dataclass(frozen=True)
class Storage:
    """Object storage with two buckets, and one key that writes and one that only reads.

    Attributes:
        proxy: what the program speaks to.
        keys: key and secret of `writer` and `reader`.
    """

    proxy: Proxy
    keys: dict[str, tuple[str, str]]

    def url(self, path: str, bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{path}"


@contextlib.contextmanager
def running() -> Iterator[Storage]:
    """Object storage for as long as it is needed; its process ends with this one.

    Raises:
        RuntimeError: it does not start here.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER, BUCKET, f"other-{BUCKET}", REGION],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            line = server.stdout.readline()
            if not line:
                raise RuntimeError("moto does not start")
            said = json.loads(line)
            with Proxy(said["port"]) as proxy:
                yield Storage(proxy, {name: tuple(pair) for name, pair in said["keys"].items()})
        finally:
            server.stdin.close()
            server.kill()
