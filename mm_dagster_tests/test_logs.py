"""Logs: lines for people and for programs, with the tick and the run; and no secret anywhere that is written to."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
import stamina
import structlog

from mm_dagster import logs, retries
from mm_dagster.bars import BAR, iso
from mm_dagster.defs.describe import stage_asset
from mm_dagster.defs.partitions import partition_of
from mm_dagster.environment import VariableError
from mm_dagster.pipeline import snapshots
from mm_dagster.tables import registry
from mm_dagster_tests.defs.live import Live, flash_crash, grid_file

SECRET = "s3cret-of-the-environment"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test configures is gone after it."""
    root, ours = logging.getLogger(), logging.getLogger("mm_dagster")
    kept = [(one, list(one.handlers), one.level) for one in (root, ours)]
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(logs, "_known", {})
    monkeypatch.setattr(logs, "_secrets", ())
    for variable in (logs.FORMAT, logs.LEVEL):
        monkeypatch.delenv(variable, raising=False)
    yield
    for one, handlers, level in kept:
        one.handlers[:] = handlers
        one.setLevel(level)
    logging.setLogRecordFactory(factory)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What was logged as JSON, with one secret in the environment."""
    monkeypatch.setenv("MM_TEST_SECRET", SECRET)
    monkeypatch.setenv(logs.FORMAT, "json")
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.protect(["MM_TEST_SECRET"])
    return stream


def lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


# lines ----------------------------------------------------------------------------------------------------------------


def test_a_line_for_programs_says_when_how_bad_who_and_what(said: io.StringIO) -> None:
    logging.getLogger("mm_dagster.market").warning("%d bars are late", 3, extra={"symbol": "ETH-USDT"})
    (line,) = lines(said)
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {
        "level": "warning",
        "logger": "mm_dagster.market",
        "event": "3 bars are late",
        "symbol": "ETH-USDT",
    }


def test_a_line_for_people_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("urllib3").warning("no answer")
    logging.getLogger("urllib3").debug("a detail")
    (line,) = stream.getvalue().splitlines()
    assert "[warning" in line
    assert "no answer" in line
    assert "[urllib3]" in line


def test_libraries_that_use_structlog_are_heard_alike(said: io.StringIO) -> None:
    logs.adopt_structlog()
    structlog.get_logger("a.library").warning("it happened", key=SECRET, count=1)
    (line,) = lines(said)
    assert (line["logger"], line["event"], line["key"], line["count"]) == ("a.library", "it happened", "***", 1)


@pytest.mark.parametrize(("variable", "value"), [(logs.FORMAT, "xml"), (logs.LEVEL, "loud")])
def test_a_setting_that_is_none_is_refused_with_the_choices(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(VariableError, match=f"{variable}: '{value}' is none of"):
        logs.configure()


def test_a_run_writes_each_line_once_with_tick_run_job_and_asset(said: io.StringIO) -> None:
    def candles(context):  # type: ignore[no-untyped-def]
        context.log.error("by Dagster's log", extra={"symbol": "ETH-USDT"})
        logging.getLogger("mm_dagster.alerts").error("by ours")
        logging.getLogger("urllib3").error("by a library's")
        return dg.MaterializeResult()

    candles.__module__ = "mm_dagster.defs.market"
    settings = {"python_logs": {"managed_python_loggers": ["mm_dagster"]}}
    with dg.DagsterInstance.ephemeral(settings=settings) as instance:
        asset = stage_asset(kinds={"ccxt"})(candles)
        tags = {logs.TICK_TAG: "2026-01-10T12:15:00Z", "mm/kind": "tick"}
        run = dg.materialize([asset], instance=instance, tags=tags)
        kept = [entry.user_message for entry in instance.all_logs(run.run_id) if not entry.is_dagster_event]
    found = [line for line in lines(said) if line["event"].startswith("by ")]
    assert [line["event"] for line in found] == ["by Dagster's log", "by ours", "by a library's"]
    for line in found:
        assert (line["tick"], line["run_id"], line["asset"]) == (tags[logs.TICK_TAG], run.run_id, "candles")
        assert line["job"]
    assert found[0]["symbol"] == "ETH-USDT"
    assert kept == ["by Dagster's log", "by ours"]


def test_a_retry_is_told_without_the_arguments_of_the_call(said: io.StringIO) -> None:
    tries = []
    retries.say_each()

    @stamina.retry(on=OSError, attempts=2, wait_initial=0.001, wait_max=0.002)
    def call(key: str) -> None:
        tries.append(key)
        if len(tries) == 1:
            raise OSError(f"refused {key}")

    call("a key that is no known secret")
    (line,) = lines(said)
    assert line["logger"] == "mm_dagster.retry"
    assert "attempt 1 failed (OSError)" in line["event"]
    assert "key" not in line["event"]


# secrets --------------------------------------------------------------------------------------------------------------


def test_a_secret_is_replaced_in_words_arguments_fields_and_traces(said: io.StringIO) -> None:
    log = logging.getLogger("anything")
    log.warning(f"in the words {SECRET}")
    log.warning("in the arguments %s", {"key": SECRET})
    log.warning("in a field", extra={"symbol": SECRET})
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError(f"called with {SECRET}") from error
    except RuntimeError:
        log.exception("in the trace")
    assert len(lines(said)) == 4
    assert "RuntimeError: called with ***" in lines(said)[-1]["exception"]
    assert SECRET not in said.getvalue()


def test_a_record_holds_no_secret_for_any_other_handler_either(said: io.StringIO) -> None:
    others = io.StringIO()
    other = logging.StreamHandler(others)
    logging.getLogger().addHandler(other)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("anything").exception("%s", SECRET)
    finally:
        logging.getLogger().removeHandler(other)
    assert "ValueError: ***" in others.getvalue()
    assert SECRET not in others.getvalue()


ADDRESS = "json://me:pass%20word@127.0.0.1:8080/services/T0KEN-in-the-path?key=abcdefghijkl"


@pytest.mark.parametrize(
    "words",
    [
        ADDRESS,
        "pass word",
        "pass%20word",
        "/services/T0KEN-in-the-path",
        quote(ADDRESS, safe=""),
        json.dumps({"url": ADDRESS}),
        base64.b64encode(b"me:pass word").decode(),
        "abcdefghijkl",
    ],
)
def test_of_an_address_every_part_that_opens_something_is_secret(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("MM_TEST_URL", ADDRESS)
    logs.protect(["MM_TEST_URL"])
    told = logs.redact(f"it was {words}!")
    assert logs.MASK in told
    for part in ("pass word", "pass%20word", "T0KEN", "abcdefghijkl", base64.b64encode(b"me:pass word").decode()):
        assert part not in told


def test_credentials_in_an_address_are_never_written_known_or_not() -> None:
    assert logs.redact("GET https://me:p@ss@host/path") == "GET https://***@host/path"
    assert logs.redact("mail me@host, see https://host/a") == "mail me@host, see https://host/a"


def test_a_configuration_names_its_secrets() -> None:
    settings = {
        "markets": {"venues": {"main": {"account": {"key_env": "A", "secret_env": "B", "passphrase_env": None}}}},
        "alerts": {"apprise": ({"url_env": "C"}, {"url_env": "D"}), "heartbeat": {"url_env": "E"}},
    }
    assert list(logs.named_secrets(settings)) == ["A", "B", "C", "D", "E"]


def test_an_error_leaves_a_step_without_its_secret(said: io.StringIO) -> None:
    class OwnWords(Exception):
        def __str__(self) -> str:
            return f"always {SECRET}"

    with pytest.raises(ValueError, match=r"wrong: \*\*\*") as plain, logs.bound():
        raise ValueError(f"wrong: {SECRET}")
    assert SECRET not in repr(plain.value)
    with pytest.raises(logs.RedactedError, match=r"OwnWords: always \*\*\*"), logs.bound():
        raise OwnWords


# everything that was written ------------------------------------------------------------------------------------------

AS_OF = datetime(2025, 10, 10, 21, 30, tzinfo=UTC)
SECRETS = {
    "PUSHOVER_TOKEN": "a0wrong0token0of0thirty0letter",
    "PUSHOVER_USER": "u0wrong0user0of0thirty0letters",
    "MM_KEY": "account-key-nobody-may-see",
    "MM_SECRET": "account-secret-nobody-may-see",
    "MM_PASSPHRASE": "account-passphrase-nobody-may-see",
    "MM_APPRISE": "json://caller:apprise-password@127.0.0.1:9/apprise-path-token",
    "MM_HEARTBEAT": "http://watcher:heartbeat-password@127.0.0.1:9/heartbeat-path-token",
    "MM_CATALOG": "postgresql://lake:catalog-password@127.0.0.1:9/lake",
}
NEEDLES = [
    *SECRETS.values(),
    "apprise-password",
    "apprise-path-token",
    "heartbeat-password",
    "heartbeat-path-token",
    "catalog-password",
    base64.b64encode(b"caller:apprise-password").decode(),
    base64.b64encode(b"watcher:heartbeat-password").decode(),
    *(quote(value, safe="") for value in SECRETS.values()),
]


@pytest.mark.long
def test_no_secret_is_in_anything_that_a_failing_project_writes(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for variable, value in {**SECRETS, logs.FORMAT: "json", logs.LEVEL: "DEBUG"}.items():
        monkeypatch.setenv(variable, value)
    for folder in ("here", "dagster"):
        (tmp_path / folder).mkdir()
    with (
        flash_crash(tmp_path / "here", shared_data, ("ADA-USDT",)) as live,
        dg.DagsterInstance.local_temp(
            str(tmp_path / "dagster"),
            overrides={"python_logs": {"managed_python_loggers": ["mm_dagster"]}, "telemetry": {"enabled": False}},
        ) as instance,
    ):
        live.instance = instance
        _with_everything_wrong(live)
        monkeypatch.setattr(Live, "environment", _with_secrets)
        logs.configure()
        assert _run(live, "tick").success
        assert _run(live, "send_alerts").success
        monkeypatch.setattr(snapshots, "render_snapshot", _fail)
        failed = _run(live, "tick")
        assert not failed.success
        for command in (("status",), ("doctor",), ("alert-test",)):
            told = live.mm("--debug", *command)
            _assert_clean("mm " + " ".join(command), (told.output + repr(told.exception)).encode())
        log = subprocess.run(
            ["git", "-C", live.folder / "data" / "mirror", "log", "-p", "--all"], capture_output=True, check=True
        )
        assert b"ADA-USDT" in log.stdout
        _assert_clean("the mirror", log.stdout)
        lake = live.lake()
        for table in registry.TABLES:
            _assert_clean(table, lake.read(table).write_json().encode())
        assert lake.read("notification")["status"].to_list().count("FAILED") >= 1
    out, err = capfd.readouterr()
    _assert_clean("stdout", out.encode())
    _assert_clean("stderr", err.encode())
    # They were there to be found: the trace of the failed step was written, without them.
    assert "RuntimeError: told ***" in err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"catalog.sqlite", "runs.db"} <= {path.name for path in written}
    assert any(path.suffix == ".err" and b"RuntimeError" in path.read_bytes() for path in written)
    for path in written:
        _assert_clean(str(path.relative_to(tmp_path)), path.read_bytes())


def _with_everything_wrong(live: Live) -> None:
    """A grid that must stop, keys that nobody knows, channels that nobody answers for."""
    account = {"key_env": "MM_KEY", "secret_env": "MM_SECRET", "passphrase_env": "MM_PASSPHRASE"}
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": live.exchange.url, "account": account}
    live.configure(
        [grid_file("ada")],
        markets={
            "venues": {"main": venue},
            "markets": [{"symbol": "ADA-USDT", "venue": "main"}],
            "candles": {"late_bar_wait_seconds": 0},
        },
        alerts={
            "pushover": {"api_url": live.pushover.api_url},
            "apprise": [{"url_env": "MM_APPRISE"}],
            "heartbeat": {"url_env": "MM_HEARTBEAT"},
        },
    )
    live.exchange.now = AS_OF + BAR / 15


def _with_secrets(live: Live, data: str = "data") -> dict[str, str]:
    folder = live.folder / data
    return {
        "MM_CONFIG_DIR": str(live.config_dir),
        "MM_DATA_DIR": str(folder),
        "MM_DAGSTER_DIR": str(folder / "dagster"),
        **SECRETS,
    }


def _run(live: Live, job: str) -> dg.ExecuteInProcessResult:
    loud = {"loggers": {"console": {"config": {"log_level": "DEBUG"}}}}
    if job != "tick":
        return live.run(job, run_config=loud)
    config = {**loud, "resources": {"turn": {"config": {"as_of": iso(AS_OF)}}}}
    return live.run(job, partition_key=partition_of(AS_OF), run_config=config, raise_on_error=False)


def _fail(*_: object) -> str:
    """As a library would that quotes all that it was given."""
    raise RuntimeError(f"told {', '.join(os.environ[name] for name in SECRETS)}")


def _assert_clean(where: str, written: bytes) -> None:
    found = [needle for needle in NEEDLES if needle.encode() in written]
    assert not found, f"{where} holds {found}"
