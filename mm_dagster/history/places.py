"""Where the files of a lake are: a folder, or a prefix of a bucket in object storage. Both are asked in the same words.

Names are relative and with slashes, like `files/main/candles/year=2026/month=6/ducklake-1.parquet`. DuckDB reads and
writes the Parquet files by itself; this is for all else: what is there, the marker, the trash, copies and checksums.
The client of S3 is pyarrow's: it lists, reads, writes, copies and deletes, and is installed anyway. Whatever the
storage answers becomes one line with the remedy.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mm_dagster.history.connection import LakeError, one_line, quoted

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

FILES = "files"
PARTS = ("lake.json", "checksums.json", FILES, "trash", "copies")
"""What a lake consists of, beside its catalogue; names with a dot are files."""
_TRIES = 3
"""How often what was uploaded is read back before it is called lost."""
_CHUNK = 2**20


@dataclass(frozen=True, order=True)
class Stored:
    """A file of a place.

    Attributes:
        name: relative to the place.
        size: in bytes.
        changed_ns: when it was written, nanoseconds since 1970.
    """

    name: str
    size: int
    changed_ns: int

    @property
    def base(self) -> str:
        """Its last part. Those of Parquet files are unique, wherever they are moved."""
        return PurePosixPath(self.name).name


class Place(Protocol):
    """What a folder and a bucket have in common. Raises LakeError, or OSError of a folder."""

    def __hash__(self) -> int:
        """One lake a place."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """What DuckDB must load for it."""

    @property
    def is_remote(self) -> bool:
        """Whether it is no folder."""

    def url(self, name: str = "") -> str:
        """Where a file is, as DuckDB reads it."""

    def secret(self) -> str | None:
        """The statement that gives DuckDB the key."""

    def settings(self) -> dict[str, object]:
        """Settings of DuckDB for it."""

    def files(self, below: str) -> list[Stored]:
        """All files below a folder, in the order of their names; nothing where there is none."""

    def read(self, name: str) -> bytes | None:
        """What a file holds; None: there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all, in place of another one."""

    def fetch(self, name: str, target: Path) -> None:
        """A file as a new local one, whose folder is made."""

    def put(self, source: Path, name: str) -> None:
        """A local file as one of this place, read back and compared."""

    def move(self, old: str, new: str) -> None:
        """Gives a file another name; it is never without one."""

    def holds_a_lake(self) -> bool:
        """Whether there is anything of a lake."""

    def set_aside(self, name: str) -> None:
        """Moves all of a lake below another name; called again, it goes on."""

    def delete(self, names: Iterable[str]) -> None:
        """Deletes files, and folders that are empty then; one that is gone already is no error."""

    def fingerprint(self, file: Stored) -> str:
        """Tells whether a file is as it was: what it holds, or when the storage says that it was written."""

    def explain(self, error: BaseException) -> str | None:
        """What went wrong with the place, in one line with the remedy; None: it is not about the place."""


@dataclass(frozen=True)
class Folder:
    """A folder of this computer."""

    path: Path

    extensions: ClassVar[tuple[str, ...]] = ()
    is_remote: ClassVar[bool] = False

    def __str__(self) -> str:
        return str(self.path)

    def url(self, name: str = "") -> str:
        return str(self.path / name)

    def secret(self) -> str | None:
        return None

    def settings(self) -> dict[str, object]:
        return {}

    def files(self, below: str) -> list[Stored]:
        found = []
        for path in (self.path / below).rglob("*"):
            with suppress(FileNotFoundError):  # the upkeep clears away meanwhile
                if path.is_file():
                    known = path.stat()
                    found.append(Stored(path.relative_to(self.path).as_posix(), known.st_size, known.st_mtime_ns))
        return sorted(found)

    def read(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if os.path.lexists(path) else None

    def write(self, name: str, content: bytes) -> None:
        path = self.path / name
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def fetch(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A file of a lake never changes.
            os.link(self.path / name, target)
        except OSError:
            shutil.copyfile(self.path / name, target)

    def put(self, source: Path, name: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def move(self, old: str, new: str) -> None:
        target = self.path / new
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.path / old, target)

    def holds_a_lake(self) -> bool:
        return any((self.path / part).exists() for part in PARTS)

    def set_aside(self, name: str) -> None:
        for part in PARTS:
            if os.path.lexists(self.path / part):
                self.move(part, f"{name}/{part}")

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.path / name
            path.unlink(missing_ok=True)
            for parent in path.relative_to(self.path).parents:
                with suppress(OSError):
                    if parent.name:
                        (self.path / parent).rmdir()

    def fingerprint(self, file: Stored) -> str:
        with (self.path / file.name).open("rb") as content:
            return hashlib.file_digest(content, "blake2b").hexdigest()[:32]

    def explain(self, error: BaseException) -> str | None:
        return None


@dataclass(frozen=True)
class Bucket:
    """A prefix of a bucket in object storage that speaks S3.

    Attributes:
        path: bucket and prefix, like `s3://my-bucket/grids`.
        key: what signs, with its secret and the token of a temporary one; never in an error.
        endpoint: host and port, with http:// where it is not https; None: Amazon's.
        region: where the bucket is.
        retries: how often a request is repeated that failed.
        wait: seconds before the first repetition.
        timeout: seconds without an answer.
    """

    path: str
    key: str = field(repr=False)
    key_secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    region: str = "us-east-1"
    retries: int = 12
    wait: float = 0.5
    timeout: int = 20

    extensions: ClassVar[tuple[str, ...]] = ("httpfs",)
    is_remote: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.path

    def url(self, name: str = "") -> str:
        return f"{self.path}/{name}".removesuffix("/")

    @property
    def _root(self) -> str:
        return self.path.removeprefix("s3://")

    @property
    def _host(self) -> tuple[str, str]:
        """Scheme and host of the endpoint; of Amazon an empty host."""
        scheme, _, host = (self.endpoint or "").rpartition("://")
        return scheme or "https", host

    def secret(self) -> str | None:
        # Its SCOPE ends with a slash, so that it covers no neighbour whose name only begins alike. Nothing outside of
        # it is ever asked for: connection.lock_down refuses that first.
        scheme, host = self._host
        given = {
            "KEY_ID": self.key, "SECRET": self.key_secret, "SESSION_TOKEN": self.token, "REGION": self.region,
            "ENDPOINT": host or None, "URL_STYLE": "path" if host else "vhost", "SCOPE": f"{self.path}/",
        }  # fmt: skip
        parts = [f"{name} '{quoted(value)}'" for name, value in given.items() if value]
        parts.append(f"USE_SSL {str(scheme == 'https').lower()}")
        return f"CREATE SECRET files (TYPE s3, PROVIDER config, {', '.join(parts)})"

    def settings(self) -> dict[str, object]:
        return {
            "http_retries": self.retries,
            "http_retry_wait_ms": round(self.wait * 1000),
            "http_retry_backoff": 1.5,
            "http_timeout": self.timeout,
        }

    def files(self, below: str) -> list[Stored]:
        from pyarrow.fs import FileSelector, FileType

        with self._asking():
            try:
                found = self._client.get_file_info(FileSelector(f"{self._root}/{below}".rstrip("/"), recursive=True))
            except FileNotFoundError:
                # Not `allow_not_found`: to that a bucket that is gone is an empty one.
                return []
        # What ends with a slash is how some clients write down an empty folder.
        return sorted(
            Stored(one.path.removeprefix(f"{self._root}/"), one.size, one.mtime_ns)
            for one in found
            if one.type == FileType.File
        )

    def read(self, name: str) -> bytes | None:
        for _ in range(_TRIES):
            with self._asking():
                try:
                    with self._client.open_input_stream(f"{self._root}/{name}") as stream:
                        content = bytes(stream.read())
                except FileNotFoundError:
                    return None
            # An answer that was torn in its head says nothing of a length, and nothing of ours is empty.
            if content:
                return content
        raise LakeError(f"{self.url(name)}: is empty, which nothing of a lake is; see `mm history rescue`")

    def write(self, name: str, content: bytes) -> None:
        for _ in range(_TRIES):
            with self._asking(), self._client.open_output_stream(f"{self._root}/{name}") as stream:
                stream.write(content)
            if self.read(name) == content:
                return
        raise self._lost(name)

    def fetch(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._asking(), self._client.open_input_file(f"{self._root}/{name}") as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK)

    def put(self, source: Path, name: str) -> None:
        with source.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").hexdigest()
        for _ in range(_TRIES):
            with (
                self._asking(),
                source.open("rb") as file,
                self._client.open_output_stream(f"{self._root}/{name}") as stream,
            ):
                shutil.copyfileobj(file, stream, _CHUNK)
            if self.digest(name) == wanted:
                return
        raise self._lost(name)

    def digest(self, name: str) -> str | None:
        """The sha256 of what a file holds; None: there is none."""
        digest = hashlib.sha256()
        with self._asking():
            try:
                with self._client.open_input_stream(f"{self._root}/{name}") as stream:
                    while part := stream.read(_CHUNK):
                        digest.update(part)
            except FileNotFoundError:
                return None
        return digest.hexdigest()

    def move(self, old: str, new: str) -> None:
        # Not the client's own move: it deletes the old one whether or not the copy was stored.
        old_path, new_path = f"{self._root}/{old}", f"{self._root}/{new}"
        with self._asking():
            size = self._client.get_file_info(old_path).size
            if size is None:
                return  # a listing may be older than what it lists
            for _ in range(_TRIES):
                self._client.copy_file(old_path, new_path)
                if self._client.get_file_info(new_path).size == size:
                    self._client.delete_file(old_path)
                    return
        raise self._lost(new)

    def holds_a_lake(self) -> bool:
        return bool(self._parts())

    def set_aside(self, name: str) -> None:
        for part in self._parts():
            self.move(part, f"{name}/{part}")

    def _parts(self) -> list[str]:
        """All files of a lake, and no others that are below the prefix."""
        alone = [part for part in PARTS if "." in part and self.read(part) is not None]
        return alone + [file.name for part in PARTS if "." not in part for file in self.files(part)]

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with self._asking(), suppress(FileNotFoundError):
                self._client.delete_file(f"{self._root}/{name}")

    def fingerprint(self, file: Stored) -> str:
        # What a storage says of itself: it keeps its own checksums, and whoever writes a file again makes it newer.
        return f"{file.size} bytes at {file.changed_ns}"

    @property
    def _client(self) -> S3FileSystem:
        return _client(self, os.getpid())

    def _lost(self, name: str) -> LakeError:
        return LakeError(
            f"{self.url(name)}: the storage said that it had stored it, and it is not there; nothing else was changed. "
            "Try again, and ask who runs the storage"
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever the client says becomes one line."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            told = self._in_full(error)
            raise LakeError(self.explain(told) or f"{self.path}: {one_line(told)}") from error

    def _in_full(self, error: OSError) -> OSError:
        """The same error in the storage's words: an answer to a HEAD has none, that to a listing does."""
        if "No response body" in str(error):
            from pyarrow.fs import FileSelector

            try:
                self._client.get_file_info(FileSelector(f"{self._root}/{FILES}"))
            except FileNotFoundError:
                return error
            except OSError as told:
                return told
        return error

    def explain(self, error: BaseException) -> str | None:
        said = str(error)
        if "s3://" not in said and "http" not in said.lower() and "AWS Error" not in said:
            return None
        for words, told in _REMEDIES:
            if re.search(words, said):
                place = self.endpoint or f"Amazon S3, {self.region}"
                return f"{self.path}: {told.format(place=place, times=self.retries + 1)}"
        return None


_REMEDIES = (
    (
        "operations are disabled by configuration",
        "the catalogue names a file outside of it, which is not asked for; see `mm doctor`",
    ),
    (
        "InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN",
        "the storage does not know the key; check the variable that data.key_env of history.yaml names",
    ),
    (
        "SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH",
        "the secret does not belong to the key; check the variable that data.secret_env of history.yaml names",
    ),
    (
        "ExpiredToken|InvalidToken|TokenRefreshRequired|EXPIRED_TOKEN",
        "the key has expired; set the variables that data.key_env, secret_env and token_env of history.yaml name anew, "
        "and start again",
    ),
    (
        "RequestTimeTooSkewed|REQUEST_TIME_TOO_SKEWED|RequestExpired",
        "this computer's clock is more than minutes away from the storage's; set it, by timedatectl or chrony",
    ),
    ("NoSuchBucket|NO_SUCH_BUCKET", "there is no such bucket at {place}; make it, or mend data.path of history.yaml"),
    (
        "NoSuchKey|NO_SUCH_KEY|HTTP 404|HTTP code 404",
        "a file of it is gone; `mm doctor` names it, and `mm history rescue` puts together what is left",
    ),
    (
        "PermanentRedirect|AuthorizationHeaderMalformed|HTTP status 301|Moved Permanently",
        "the bucket is in another region; mend data.region of history.yaml",
    ),
    (
        "AccessDenied|ACCESS_DENIED|HTTP 403|HTTP code 403|HTTP status 403",
        "the key may not do this; it needs ListBucket of the bucket, and GetObject, PutObject and DeleteObject below "
        "the path",
    ),
    (
        "SlowDown|SLOW_DOWN|HTTP 503|HTTP 429|HTTP status 503|HTTP status 429|ServiceUnavailable|SERVICE_UNAVAILABLE",
        "the storage asked for fewer requests, {times} times; try again later, or raise data.retries of history.yaml",
    ),
    (
        "HTTP 500|HTTP status 500|INTERNAL_FAILURE|InternalError",
        "the storage failed, {times} times; try again later, and ask who runs it",
    ),
    (
        "NETWORK_CONNECTION|curlCode|onnect to server|onnection refused|resolve host|imeout|timed out|receiving data|"
        "partial file|error for HTTP|got nothing|SSL",
        "{place} cannot be reached, or breaks off; check data.endpoint of history.yaml and the network",
    ),
)
"""What clients and storages say, and what to do about it."""


@cache
def _client(bucket: Bucket, process: int) -> S3FileSystem:
    """One client a process: it does not survive a fork."""
    # Imported here because a lake in a folder needs none of it.
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    scheme, host = bucket._host
    more: dict[str, Any] = {"endpoint_override": host} if host else {}
    return S3FileSystem(
        access_key=bucket.key, secret_key=bucket.key_secret, session_token=bucket.token, region=bucket.region,
        scheme=scheme, connect_timeout=bucket.timeout, request_timeout=bucket.timeout, allow_delayed_open=True,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=bucket.retries + 1), **more,
    )  # fmt: skip
