"""The API as a program and a browser meet it: what it says is what the lake says, and who may not, learns nothing."""

from __future__ import annotations

import io
import json
import logging
import random
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests

from mm_dagster import logs
from mm_dagster.api.collecting import Collecting
from mm_dagster.api.pages import reachable
from mm_dagster.pipeline import clock
from mm_dagster.pipeline.access import FAILURES, WINDOW_SECONDS, Access, AccessError, TooManyFailures
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.api.served import AS_OF, TOKEN, Served, home, project_of, served
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.conftest import PROJECT

pytestmark = pytest.mark.slow

ROUTES = (
    "/ready",
    "/status",
    "/grids",
    "/grids/eth",
    "/grids/eth/history",
    "/portfolio",
    "/alerts",
    "/performance/stats",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    home(made)
    return made


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[Served]:
    with served(folder) as found:
        yield found


def test_what_it_says_of_a_grid_is_what_the_lake_says(api: Served) -> None:
    (row,) = api.get("/grids").json()["grids"]
    stored = project_of(api.folder).lake.read("exit_state").sort("as_of").row(-1, named=True)
    assert (row["grid"], row["state"], row["as_of"]) == ("eth", stored["state"], "2026-06-29T16:45:00Z")
    assert row["total_pnl"] == project_of(api.folder).lake.read("grid_risk").sort("as_of")["total_pnl"][-1]
    assert api.get("/grids/eth").json() == row
    whole = api.get("/status").json()
    assert (whole["worst"], whole["simulated"], whole["grids"]) == ("eth", True, [row])


def test_a_history_comes_in_pages_that_join(api: Served) -> None:
    first = api.get("/grids/eth/history?since=2026-06-29T16:15:00Z&limit=1").json()
    rows, following = list(first["rows"]), first["next_since"]
    while following:
        page = api.get(f"/grids/eth/history?since={following}&limit=1").json()
        rows, following = rows + page["rows"], page["next_since"]
    assert [row["as_of"] for row in rows] == sorted({row["as_of"] for row in rows})
    assert rows[-1]["as_of"] == "2026-06-29T16:45:00Z"
    assert api.get("/grids/eth/history?since=2026-06-29T16:15:00Z").json()["rows"] == rows


def test_readiness_names_what_is_late(api: Served) -> None:
    answer = api.get("/ready")
    parts = {row["part"]: row["result"] for row in answer.json()["parts"]}
    assert parts["configuration"] == "OK"
    assert answer.status_code == (200 if set(parts.values()) == {"OK"} else 503)
    assert requests.get(f"{api.url}/health", timeout=20).json() == {"status": "ok"}


def test_every_route_is_in_the_openapi_document_and_none_is_open_but_health(api: Served) -> None:
    described = api.get("/openapi.json").json()["paths"]
    assert {path for path in described if "{" not in path} >= {
        "/health",
        *(route for route in ROUTES if "eth" not in route),
    }
    for path, methods in described.items():
        for method in methods:
            called = path.replace("{grid_id}", "eth").replace("{run_id}", "x")
            answer = requests.request(method, api.url + called, json={}, timeout=30)
            allowed = {("/health", "get"): (200,), ("/enter", "post"): (403, 422), ("/leave", "post"): (403,)}
            assert answer.status_code in allowed.get((path, method), (401,)), (method, path, answer.text)


def test_an_answer_is_the_row_of_mm_respond_and_says_whose_it_was(api: Served) -> None:
    browser = api.person("anna")
    answer = browser.post(
        f"{api.url}/grids/eth/respond", json={"action": "reduced", "note": "a <b>half</b>"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    (row,) = project_of(api.folder).lake.read("operator_response").to_dicts()
    assert (row["grid_id"], row["action"], row["note"]) == ("eth", "reduced", "a <b>half</b>")
    assert (row["person"], row["through"], row["told_by"]) == ("anna", "page", None)
    assert answer.json()["response_id"] == row["response_id"]


def test_what_cannot_be_answered_is_said(api: Served) -> None:
    cases = [
        ("/grids/nobody/respond", {"action": "kept"}, 404, "there is no grid 'nobody'"),
        ("/grids/eth/respond", {"action": "sell"}, 422, "action"),
        ("/grids/eth/respond", {"action": "reopened"}, 409, "nothing to reopen"),
        ("/grids/eth/respond", {"action": "kept", "at": "2099-01-01T00:00:00Z"}, 422, "lies ahead"),
        ("/grids/eth/respond", {"action": "kept", "more": 1}, 422, "more"),
        ("/grids/eth/respond", {"action": "kept", "note": "x" * 501}, 422, "note"),
    ]
    for path, body, status, says in cases:
        answer = api.program.post(api.url + path, json=body, timeout=60)
        assert (answer.status_code, says in answer.json()["error"]) == (status, True), answer.text
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_code_is_spent_once_whoever_comes_first(api: Served) -> None:
    code = api.access.new_code("bert", 60)
    with ThreadPoolExecutor(8) as many:
        entered = list(
            many.map(
                lambda _: (
                    requests.post(
                        f"{api.url}/enter", json={"code": code.lower()}, headers={"Origin": api.url}, timeout=30
                    ).status_code
                ),
                range(8),
            )
        )
    assert sorted(entered) == [204] + [403] * 7


def test_the_cookie_is_for_this_server_alone_and_is_forgotten(api: Served) -> None:
    browser = requests.Session()
    browser.headers["Origin"] = api.url
    entered = browser.post(f"{api.url}/enter", json={"code": api.access.new_code(None, 60)}, timeout=20)
    cookie = entered.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=lax", "path=/"))
    assert browser.get(f"{api.url}/status", timeout=60).status_code == 200
    assert browser.post(f"{api.url}/leave", timeout=20).status_code == 204
    assert browser.get(f"{api.url}/status", timeout=20).status_code == 401


def test_who_fails_too_often_is_told_to_wait_and_the_right_key_is_let_in(tmp_path: Path) -> None:
    moment = [1_000.0]
    access = Access(tmp_path, TOKEN, now=lambda: moment[0])
    code = access.new_code("anna", 3_600)
    for _ in range(FAILURES):
        assert access.redeem("WRONG", "1.2.3.4") is None
    with pytest.raises(TooManyFailures):
        access.redeem("WRONG", "1.2.3.4")
    with pytest.raises(TooManyFailures):
        access.program("Bearer wrong", "1.2.3.4")
    # Others may come from the same address, behind a proxy.
    assert access.redeem(code, "1.2.3.4") is not None
    assert access.program(f"Bearer {TOKEN}", "1.2.3.4") is not None
    assert access.program("Bearer wrong", "5.6.7.8") is None
    moment[0] += WINDOW_SECONDS + 1
    assert access.redeem("WRONG", "1.2.3.4") is None


def test_a_code_and_a_session_end(tmp_path: Path) -> None:
    moment = [1_000.0]
    access = Access(tmp_path, None, now=lambda: moment[0])
    late, session = access.new_code("anna", 60), access.redeem(access.new_code("bert", 60), "-")
    assert session is not None
    found = access.person_of(session)
    assert found is not None
    assert found.person == "bert"
    moment[0] += 61
    assert access.redeem(late, "-") is None
    assert Access(tmp_path, None, now=lambda: moment[0]).person_of(session) is not None
    moment[0] += 31 * 86_400
    assert access.person_of(session) is None
    # Nothing that lets anybody in is kept as it is, and nobody else reads the file.
    kept = (tmp_path / "access.sqlite").read_bytes()
    assert session.encode() not in kept
    assert (tmp_path / "access.sqlite").stat().st_mode & 0o077 == 0


def test_a_token_that_can_be_guessed_is_refused_and_without_one_no_program_may(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="has 5 bytes, and needs 32"):
        Access(tmp_path, "guess")
    access = Access(tmp_path, None)
    assert access.program("Bearer ", "-") is None
    assert access.program("Bearer None", "-") is None


def test_a_tick_of_its_own_is_one_run_for_one_key(folder: Path) -> None:
    waits = Collecting((sys.executable, "-c", "import sys; sys.stdin.read(); import time; time.sleep(600)"))
    with served(folder, collecting=waits) as api:
        first = api.program.post(f"{api.url}/metrics/collect", headers={"Idempotency-Key": "a"}, timeout=20)
        again = api.program.post(f"{api.url}/metrics/collect", headers={"Idempotency-Key": "a"}, timeout=20)
        other = api.program.post(f"{api.url}/metrics/collect", timeout=20)
        assert (first.status_code, again.json(), other.status_code) == (202, first.json(), 409)
        where = first.headers["location"]
        assert api.get(where).json() == {"run_id": first.json()["run_id"], "state": "running"}
        process = waits.run(first.json()["run_id"])
        assert process is not None
    # It ends with the server.
    assert process.process.wait(20) != 0


def test_news_come_when_the_history_changes(api: Served) -> None:
    with api.program.get(f"{api.url}/stream", stream=True, timeout=60) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        assert next(lines) == "retry: 3000"
        api.program.post(f"{api.url}/grids/eth/respond", json={"action": "kept"}, timeout=60)
        api.program.post(f"{api.url}/grids/eth/respond", json={"action": "reduced"}, timeout=60)
        assert any(line == "event: changed" for line in lines)


HOSTILE_IDS = (
    "../../etc/passwd", "%2e%2e%2f", "eth'; DROP TABLE candles; --", "<script>alert(1)</script>", "a" * 3_000,
    "eth%00", "eth%0d%0aX-Injected:%201", "𝕖𝕥𝕙", "..;/", "eth%3Fx=1%23y",
)  # fmt: skip


@pytest.mark.parametrize("trials", [100, pytest.param(1_000, marks=pytest.mark.long)])
def test_hostile_requests_do_nothing_and_learn_nothing(api: Served, trials: int) -> None:
    before = project_of(api.folder).lake.read("operator_response").height
    browser, chance, answered, secrets = api.person(), random.Random(21), 0, 0
    cookie = browser.cookies["mm_session"]
    program, mine = {"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"mm_session={cookie}"}
    origins = ["https://evil.example", "null", "", "http://127.0.0.1.evil.example"]
    hosts = ["evil.example", "127.0.0.1.evil.example", ""]
    broken = [b"", b"null", b"[]", b"\xff\xfe", b'{"action":{}}', b'{"action":"stopped"', b"x" * 20_000]
    stop: dict[str, Any] = {"method": "POST", "path": "/grids/eth/respond", "body": {"action": "stopped"}}
    moves: list[Callable[[], dict[str, Any]]] = [
        lambda: {"method": "GET", "path": chance.choice(ROUTES)},
        lambda: {"method": "GET", "path": chance.choice(ROUTES), "headers": program | {"Authorization": "Bearer x"}},
        lambda: {"method": "GET", "path": chance.choice(ROUTES), "headers": {"Cookie": f"mm_session={cookie[:-1]}"}},
        lambda: stop,
        # A page from elsewhere, with the cookie of the person who looks at it.
        lambda: stop | {"headers": mine | {"Origin": chance.choice(origins)}},
        lambda: stop | {"headers": mine | {"Origin": api.url, "Sec-Fetch-Site": "cross-site"}},
        lambda: {"method": "POST", "path": "/metrics/collect", "headers": mine},
        lambda: {"method": "GET", "path": "/status", "headers": program | {"Host": chance.choice(hosts)}},
        lambda: {"method": "POST", "path": "/enter", "body": {"code": chance.choice(["", "AAAA-AAAA", "x" * 64, "'"])}},
        lambda: {"method": "GET", "path": "/grids/" + chance.choice(HOSTILE_IDS), "headers": program},
        lambda: {"method": chance.choice(["PUT", "DELETE", "TRACE"]), "path": "/grids/eth", "headers": program},
        lambda: {"method": "POST", "path": "/grids/eth/respond", "raw": chance.choice(broken), "headers": program},
        lambda: {"method": "GET", "path": "/health", "headers": {"X-Request-ID": chance.choice(["a\tb", "x" * 99])}},
    ]
    for trial in range(trials):
        asked: dict[str, Any] = chance.choice(moves)()
        status, text = _raw(api.url, **asked)
        answered += status > 0
        assert status == 0 or 400 <= status < 500 or asked["path"] == "/health", (trial, asked, status, text[:300])
        secrets += TOKEN in text or cookie in text or "Traceback" in text
        secrets += "\nx-injected" in text.partition("\r\n\r\n")[0].lower()
    assert secrets == 0
    assert answered > 0.9 * trials
    assert project_of(api.folder).lake.read("operator_response").height == before


def _raw(
    url: str, method: str, path: str, body: Any = None, raw: bytes | None = None, headers: Any = None
) -> tuple[int, str]:
    """A request as a socket sends it; whatever cannot be sent so is cut. 0: the server hung up."""
    host, port = url.removeprefix("http://").split(":")
    content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    heads = {"Host": f"{host}:{port}", "Content-Type": "application/json", "Content-Length": str(len(content)),
             "Connection": "close"} | (headers or {})  # fmt: skip
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in heads.items()), "", ""]
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        stream.sendall("\r\n".join(lines).encode("utf-8", "surrogatepass") + content)
        answer = b""
        try:
            while piece := stream.recv(65_536):
                answer += piece
        except ConnectionError:
            pass
    if not answer.startswith(b"HTTP/1.1 "):
        return 0, ""
    return int(answer[9:12]), answer.decode("utf-8", "replace")


def test_a_body_that_dawdles_holds_nobody_up(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm_dagster.api.gate.BODY_SECONDS", 0.3)
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        heads = (
            f"Host: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\nContent-Type: application/json"
        )
        slow.sendall(f"POST /grids/eth/respond HTTP/1.1\r\n{heads}\r\n\r\n{{".encode())
        began = time.monotonic()
        answer = slow.recv(4_096)
        assert answer[9:12] in (b"408", b"400")
        assert time.monotonic() - began < 10
    assert requests.get(f"{api.url}/health", timeout=20).status_code == 200
    assert AS_OF.year == 2026


PAGES = ("/", "/g/eth", "/g/nobody", "/right", "/history", "/history?as_of=2026-06-29T16:30Z", "/state")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_whoever_has_entered_and_keeps_to_itself(api: Served, path: str) -> None:
    door = requests.get(api.url + path, timeout=60)
    assert (door.status_code, "ETH-USDT" in door.text) == (401, False)
    browser = api.person("anna")
    answer = browser.get(api.url + path, timeout=60)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.content) < 150_000
    part = browser.get(api.url + path, headers={"X-Part": "main"}, timeout=60).text
    assert "<!doctype" not in part.lower()
    for asked in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
        file = requests.get(api.url + asked, timeout=60)
        assert (file.status_code, "immutable" in file.headers["cache-control"]) == (200, True)


def test_a_time_that_is_none_is_said_and_a_file_outside_is_not_given(api: Served) -> None:
    answer = api.person().get(f"{api.url}/history?as_of=yesterday", timeout=60)
    assert (answer.status_code, "yesterday" in answer.text) == (400, True)
    for path in ("/static/../live.py", "/static/%2e%2e/live.py", "/static/live.py", "/static/..%2flive.py"):
        assert requests.get(api.url + path, timeout=20).status_code in (401, 404)


# the number of a request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["a" * 65, "short", "x" * 9_000, 'id"; DROP', "id\tid-12345", "<b>12345678</b>", "mm/../12345678", "é" * 9]
)
def test_a_number_that_could_break_a_line_is_replaced(api: Served, given: str) -> None:
    answer = requests.get(f"{api.url}/health", headers={"X-Request-ID": given.encode()}, timeout=20)
    number = answer.headers.get("x-request-id", "")
    # The longest is cut off by the server before it reaches us.
    assert answer.status_code in (200, 400, 431)
    if answer.status_code == 200:
        assert re.fullmatch(r"[0-9a-f]{32}", number)
    assert given not in answer.text


def test_each_answer_has_a_number_its_own_or_the_one_that_was_sent(api: Served) -> None:
    sent = api.get("/status", headers={"X-Request-ID": "from-a-proxy.1234"})
    assert sent.headers["x-request-id"] == "from-a-proxy.1234"
    numbers = set()
    browser = api.person()
    for answer in (
        api.get("/status"), api.get("/nowhere"), requests.get(f"{api.url}/status", timeout=20),
        browser.get(f"{api.url}/", timeout=60), browser.get(f"{api.url}/static/live.js", timeout=20),
        requests.get(f"{api.url}/health", headers={"Host": "evil.example"}, timeout=20),
    ):  # fmt: skip
        numbers.add(answer.headers["x-request-id"])
    assert len(numbers) == 6
    with api.program.get(f"{api.url}/stream", stream=True, timeout=60) as stream:
        assert re.fullmatch(r"[0-9a-f]{32}", stream.headers["x-request-id"])


def test_a_line_of_the_log_and_a_commit_carry_the_number(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    handler = logs.Handler("json", "INFO", said)
    logger = logging.getLogger("mm_dagster.api")
    logger.addHandler(handler)
    try:
        monkeypatch.setattr("mm_dagster.api.answers.status", _fails)
        failed = api.get("/status", headers={"X-Request-ID": "failing-12345"})
    finally:
        logger.removeHandler(handler)
    assert (failed.status_code, failed.json()["request_id"]) == (500, "failing-12345")
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [line["request_id"] for line in lines] == ["failing-12345"]
    assert "the reason" in lines[0]["exception"]
    heads = {"X-Request-ID": "answering-12345"}
    # Of its own: the clock stands, and an answer that is there already leaves no commit.
    body = {"action": "reduced", "note": "with a number"}
    done = api.program.post(f"{api.url}/grids/eth/respond", json=body, headers=heads, timeout=60)
    assert done.status_code == 200
    written = [one for one in _commits(project_of(api.folder)) if one.get("request_id") == "answering-12345"]
    assert "operator_response" in {one["asset"] for one in written}


def _fails(*_: Any) -> Any:
    raise RuntimeError("the reason")


def _commits(project: Project) -> list[dict[str, Any]]:
    """What each commit says of itself, oldest first."""
    return [json.loads(text) for text in project.lake.snapshots()["commit_extra_info"].drop_nulls()]


@pytest.mark.long
def test_a_tick_that_was_asked_for_carries_the_number_in_lines_commits_and_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(tmp_path)
    places = {"MM_CONFIG_DIR": "configuration", "MM_DATA_DIR": "data", "MM_DAGSTER_DIR": "dagster"}
    for variable, name in places.items():
        monkeypatch.setenv(variable, str(tmp_path / name))
    for variable in ("DAGSTER_HOME", "MM_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MM_LOG_FORMAT", "json")
    monkeypatch.setenv("MM_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    clock.start(tmp_path / "data", AS_OF + timedelta(minutes=1))
    with served(tmp_path, collecting=Collecting()) as api:
        capfd.readouterr()
        heads = {"X-Request-ID": "tonight-12345"}
        asked = api.program.post(f"{api.url}/metrics/collect", headers=heads, timeout=60)
        assert asked.status_code == 202, asked.text
        where, deadline = asked.headers["location"], time.monotonic() + 300
        while api.get(where).json()["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        said = capfd.readouterr().err
        assert api.get(where).json()["state"] == "done", said[-3_000:]
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    of_run = [line for line in lines if line.get("run_id")]
    assert len(of_run) > 10
    assert {line.get("request_id") for line in lines} == {"tonight-12345"}
    commits = _commits(project_of(tmp_path))
    written = [one for one in commits if one.get("asset") == "exit_state"]
    assert written
    assert {one.get("request_id") for one in written} == {"tonight-12345"}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        runs = {run.job_name: run for run in instance.get_runs()}
    assert runs["tick"].tags["mm/request_id"] == "tonight-12345"
    assert runs["tick"].run_id in {one["run_id"] for one in written}
    assert {run.tags.get("mm/request_id") for run in runs.values()} == {"tonight-12345"}


@pytest.mark.parametrize(
    ("address", "host", "seen"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1", True),
        ("http://127.0.0.1:3000", "localhost", True),
        ("http://127.0.0.1:3000", "grids.example.com", False),
        ("http://[::1]:3000", "192.0.2.7", False),
        ("https://dagster.example.com", "grids.example.com", True),
        (None, "127.0.0.1", False),
    ],
)
def test_an_address_of_this_computer_is_given_to_nobody_elsewhere(address: str | None, host: str, seen: bool) -> None:
    assert reachable(address, host) == (address if seen else None)
