"""Logs: everything that a process has to say, as lines for people or for programs, on stderr and without a secret.

What we, Dagster and the libraries log goes through one handler, which knows the tick, run, job and asset that a line
belongs to. Secrets are kept out where they are used; what is done here is the last line of defence. It replaces the
values of all variables that the configuration names, and credentials in addresses, in every record before anything
(a terminal, Dagster's event log, a test) sees it. docs/logs.md shows the lines.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

from mm_dagster import environment
from mm_dagster.environment import VariableError

FORMAT, LEVEL = "MM_LOG_FORMAT", "MM_LOG_LEVEL"
"""Variables of the environment: json or human; DEBUG, INFO, WARNING, ERROR or CRITICAL."""
FORMATS = ("human", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TICK_TAG = "mm/as_of"
"""The tag of a run that says which tick it is."""
REQUEST_TAG = "mm/request_id"
"""The tag of a run that says which request asked for it."""
FIELDS = ("symbol", "grid", "venue")
"""What a line may say about itself beside its words, as `extra`."""


# secrets --------------------------------------------------------------------------------------------------------------

MASK = "***"
ALWAYS = environment.PUSHOVER
"""Variables that hold a secret whatever the configuration says."""
_SHORTEST = 4
"""Characters of the shortest secret: less would be found in every other word."""
_SHORTEST_PACKED = 8
"""Likewise of its form in base64, which looks like any other word."""
_TOKEN = 12
"""Characters from which a part of a secret address is a secret by itself: ids and tokens stand anywhere in it."""

# Up to the last @ of the word: a password may hold one.
_CREDENTIALS = re.compile(r"://[^\s\"'<>]*@")
_known: dict[str, str | None] = {}
"""The variables that hold secrets, with the value that each had last."""
_secrets: tuple[str, ...] = ()
"""All that is to be replaced, the longest first."""


def protect(variables: Iterable[str]) -> None:
    """Makes the values of these variables of the environment secrets for the rest of the process."""
    global _secrets
    addresses = (name for name, value in os.environ.items() if _CREDENTIALS.search(value))
    # An address of a proxy needs no scheme.
    proxies = (name for name, value in os.environ.items() if name.lower().endswith("_proxy") and "@" in value)
    values = {name: os.environ.get(name) for name in (*ALWAYS, *variables, *addresses, *proxies)}
    if values.items() <= _known.items():
        return
    _known.update(values)
    found = {form for value in values.values() if value for part in _parts(value) for form in _forms(part)}
    _secrets = tuple(sorted({*_secrets, *found}, key=lambda secret: (-len(secret), secret)))


def named_secrets(settings: Mapping[str, Any]) -> Iterator[str]:
    """The variables that a configuration names: the values of all keys that end with `_env`, at any depth."""
    for key, value in settings.items():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, Mapping):
                yield from named_secrets(one)
            elif key.endswith("_env") and isinstance(one, str):
                yield one


def redact(text: str) -> str:
    """The text with `***` in the place of each secret."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    return _CREDENTIALS.sub(f"://{MASK}@", text) if "@" in text else text


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with `***` in the place of these secrets, however a server that repeats them may write them."""
    for secret in sorted(set(secrets), key=lambda one: (-len(one), one)):
        for form in _written(secret):
            if form in text:
                text = text.replace(form, MASK)
    return text


def clean(error: BaseException) -> None:
    """Takes the secrets out of an error and of all that it was raised from, in place."""
    for one in _chain(error):
        one.args = tuple(_cleaned(arg) for arg in one.args)
        for name, value in vars(one).items():
            # What an error carries beside its words may be half the program.
            if isinstance(value, (str, bytes, list, tuple)):
                vars(one)[name] = _cleaned(value)


def _chain(error: BaseException) -> list[BaseException]:
    """An error and all that lies behind it or in it."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and not any(one is other for other in found):
            found.append(one)
            todo += [one.__cause__, one.__context__, *(arg for arg in one.args if isinstance(arg, BaseException))]
    return found


@contextmanager
def silent(*loggers: str) -> Iterator[None]:
    """Keeps what these loggers say in this thread out of the log: addresses with secrets in them."""
    for name in loggers:
        logging.getLogger(name).addFilter(_is_heard)
    thread = threading.get_ident()
    _silent_threads.add(thread)
    try:
        yield
    finally:
        _silent_threads.discard(thread)


_silent_threads: set[int] = set()


def _is_heard(record: logging.LogRecord) -> bool:
    return record.thread not in _silent_threads


class RedactedError(Exception):
    """Stands for an error whose words held a secret and could not be changed."""


@contextmanager
def bound(**known: str | None) -> Iterator[None]:
    """Binds what is known to every line of this thread, and lets no error out that holds a secret.

    Raises:
        RedactedError: in the place of an error that cannot be cleaned.
    """
    import structlog

    with structlog.contextvars.bound_contextvars(**{name: value for name, value in known.items() if value}):
        try:
            yield
        except Exception as error:
            if safe := _safe(error):
                raise safe from None
            raise


def request_id() -> str | None:
    """The number of the request for which something is done here: of the API, or what this process was begun for."""
    structlog = sys.modules.get("structlog")  # without it nothing was bound
    bound_here = structlog.contextvars.get_contextvars().get("request_id") if structlog else None
    return bound_here or environment.request_id()


def _safe(error: BaseException) -> RedactedError | None:
    """Cleans an error; what to raise in its place where that is not enough."""
    if not _holds_secret(error):
        return None
    clean(error)
    return RedactedError(redact(f"{type(error).__name__}: {error}")) if _holds_secret(error) else None


def _holds_secret(error: BaseException) -> bool:
    chain = _chain(error)
    carried = (value for one in chain for value in vars(one).values() if isinstance(value, str))
    words = "\n".join([*map(str, chain), *carried])
    return redact(words) != words


def _cleaned(value: Any, depth: int = 3) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return value if redact(text) == text else redact(text).encode()
    if type(value) in (list, tuple) and depth:
        return type(value)(_cleaned(item, depth - 1) for item in value)
    if type(value) is dict and depth:
        return {key: _cleaned(item, depth - 1) for key, item in value.items()}
    return value


def _parts(value: str) -> Iterator[str]:
    """A secret, and what is secret by itself in one that is an address."""
    yield value
    _, found, rest = value.partition("://")
    if not found:
        # Of a proxy without a scheme; a passphrase with an @ in it is no address.
        login, at, _ = value.rpartition("@")
        if at and ":" in login:
            yield login
            yield login.partition(":")[2]
        return
    credentials, _, place = rest.rpartition("@")
    if credentials:
        yield credentials
        yield base64.b64encode(unquote(credentials).encode()).decode()
        yield credentials.partition(":")[2]
    host = re.split(r"[/?#]", place, maxsplit=1)[0].partition(":")[0]
    for part in re.split(r"[/?#&=:@,]+", rest):
        # A name with dots in the place of a host is a host; without, services of apprise have tokens there.
        if len(part) >= _TOKEN and not (part == host and "." in host):
            yield part


def _forms(secret: str) -> Iterator[str]:
    """How a secret is written by those who quote it."""
    secret = secret.strip().strip("'\"").strip()
    # A name of a host is told in small letters.
    cases = (secret, secret.lower(), secret.upper())
    for form in dict.fromkeys((*cases, unquote(secret), *_addressed(secret), html.escape(secret))):
        for written in (form, json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], repr(form)[1:-1]):
            if len(written) >= _SHORTEST:
                yield written
    yield from _packed(secret.encode())


def _addressed(secret: str) -> Iterator[str]:
    """As a part of an address, or of one within another; the digits of %2F are written in small letters, too."""
    for form in (quote(secret), quote(secret, safe=""), quote_plus(secret), quote(quote(secret, safe=""), safe="")):
        yield form
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), form)


def _packed(secret: bytes) -> Iterator[str]:
    """In hex, and in base64 wherever it stands in a longer text: beside its neighbours only the middle is its own."""
    if len(secret) < _SHORTEST:
        return
    yield secret.hex()
    yield secret.hex().upper()
    for before, begin in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(secret)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            middle = encode(bytes(before) + secret).decode()[begin:whole]
            if len(middle) >= _SHORTEST_PACKED:
                yield middle


@lru_cache(maxsize=64)
def _written(secret: str) -> tuple[str, ...]:
    """All forms of a secret, the longest first."""
    return tuple(sorted(set(_forms(secret)), key=lambda form: (-len(form), form)))


# lines ----------------------------------------------------------------------------------------------------------------


def configure(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends all logs of this process to stderr; the last call counts.

    Args:
        level: the threshold where MM_LOG_LEVEL says nothing.
        stream: in the place of stderr.

    Raises:
        VariableError: MM_LOG_FORMAT or MM_LOG_LEVEL cannot be read; all else is done, with the defaults.
    """
    style, threshold = "human", level
    wrong: VariableError | None = None
    try:
        style = environment.choice(FORMAT, FORMATS, style, str.lower)
        threshold = environment.choice(LEVEL, LEVELS, level, str.upper)
    except VariableError as error:
        wrong = error
    protect(())
    logging.setLogRecordFactory(_record)
    logging.captureWarnings(True)
    root, ours = logging.getLogger(), logging.getLogger("mm_dagster")
    for logger, kind in ((root, Handler), (ours, _Mark)):
        for old in [one for one in logger.handlers if isinstance(one, kind)]:
            logger.removeHandler(old)
    root.addHandler(Handler(style, threshold, stream))
    root.setLevel(threshold)
    # A run keeps what we say at INFO in its own log, whatever the terminal shows.
    ours.addHandler(_Mark())
    ours.setLevel(min(logging.INFO, root.level))
    for chatty, enough in (("numba", logging.INFO), ("matplotlib", logging.INFO), ("alembic", logging.WARNING)):
        logging.getLogger(chatty).setLevel(max(enough, root.level))
    # Dagster's servers give these handlers of their own, on stdout.
    for name in ("dagster", "dagster-webserver"):
        logging.getLogger(name).handlers.clear()
    if wrong:
        raise wrong


def is_configured() -> bool:
    """Whether `configure` was called in this process."""
    return any(isinstance(one, Handler) for one in logging.getLogger().handlers)


def handler_of_runs(level: int) -> logging.Handler:
    """What writes the lines of a run that Dagster hands out: in the chosen format, from the higher of both thresholds.

    What our own modules log is left to the root's handler, which has it, too.
    """
    chosen = next((one for one in logging.getLogger().handlers if isinstance(one, Handler)), None)
    style, threshold = (chosen.style, chosen.level) if chosen else ("human", logging.WARNING)
    handler = Handler(style, max(level, threshold), chosen.fixed if chosen else None)
    handler.addFilter(lambda record: not hasattr(record, "origin"))
    return handler


class Handler(logging.StreamHandler):
    """Writes lines to stderr, whatever that is at the moment."""

    def __init__(self, style: str, level: str | int, stream: TextIO | None = None) -> None:
        logging.Handler.__init__(self, level)
        self.style, self.fixed = style, stream

    @property
    def stream(self) -> TextIO:
        """Where lines go."""
        return self.fixed or sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        # Made with the first line: structlog takes as long to load as a third of polars, and many commands say nothing.
        if self.formatter is None:
            self.setFormatter(_formatter(self.style, colours=self.stream.isatty()))
        return redact(super().format(record))


def adopt_structlog() -> None:
    """Sends what libraries say by structlog to the logs of this process, too."""
    import structlog
    from structlog.stdlib import ProcessorFormatter

    structlog.configure(
        processors=[structlog.stdlib.PositionalArgumentsFormatter(), ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _formatter(style: str, *, colours: bool) -> logging.Formatter:
    """Makes of a record one line, or several where it has a trace and is for people."""
    import structlog
    from structlog.stdlib import ProcessorFormatter

    renderer: list[Any]
    if style == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    return ProcessorFormatter(
        processors=[
            structlog.contextvars.merge_contextvars,
            _describe,
            ProcessorFormatter.remove_processors_meta,
            *renderer,
        ]
    )


class _Mark(logging.Handler):
    """Notes which of our modules a record is from, since Dagster hands it on under its own name."""

    def handle(self, record: logging.LogRecord) -> bool:
        record.origin = record.name
        return True


def _describe(_: Any, __: str, event: Any) -> Any:
    """The fields of a line: time, level, logger, and of a run its tick, id, job and asset."""
    record: logging.LogRecord = event["_record"]
    # Dagster puts the context into the words; here it has fields of its own.
    meta = getattr(record, "dagster_meta", None) or {}
    tags = meta.get("job_tags") or {}
    happened = meta.get("dagster_event")
    failure = getattr(getattr(happened, "event_specific_data", None), "error", None)
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {
        "timestamp": time,
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": (meta.get("orig_message") or happened.event_type_value) if happened else meta.get("orig_message"),
        "tick": tags.get(TICK_TAG),
        "run_id": meta.get("run_id"),
        "job": meta.get("job_name"),
        "asset": meta.get("step_key"),
        **{name: getattr(record, name, None) for name in FIELDS},
        "dagster_event": happened.event_type_value if happened else None,
        "exception": failure.to_string() if failure else None,
    }
    known = {name: value for name, value in fields.items() if value}
    if "request_id" not in event and (asked := environment.request_id()):
        known["request_id"] = asked
    first = {name: known.get(name, event.get(name)) for name in ("timestamp", "level", "logger", "event")}
    return {**first, **event, **known}


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """A log record without secrets: in its words, its arguments and its error."""
    record = logging.LogRecord(*args, **kwargs)
    if isinstance(record.msg, str) or record.args:
        try:
            words = record.getMessage()
        except Exception:
            # Words and arguments that do not fit: whoever writes the record says so.
            words = None
        if words is not None and redact(words) != words:
            record.msg, record.args = redact(words), ()
    if record.exc_info and record.exc_info[1] is not None and (safe := _safe(record.exc_info[1])):
        record.exc_info = (type(safe), safe, None)
    return record
