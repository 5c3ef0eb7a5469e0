"""What deploy/ says is true of the program, and its commands run: three processes, a real PostgreSQL, a tick."""

from __future__ import annotations

import importlib
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import requests
import yaml
from click.testing import Result
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from mm_dagster import cli, environment
from mm_dagster.bars import BAR, floor_bar, iso
from mm_dagster.cli import up
from mm_dagster.defs.partitions import partition_of
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.pipeline.groups import ASKED_TAG
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.history.samples import sample
from mm_dagster_tests.postgres import Postgres

DEPLOY = PROJECT / "deploy"
PATIENCE_SECONDS = 400


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


# files ----------------------------------------------------------------------------------------------------------------


def test_the_two_instances_differ_in_nothing_but_their_storage() -> None:
    sqlite = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    postgres = read("postgres/dagster.yaml")
    given = sqlite.pop("storage")["custom"]
    assert issubclass(getattr(importlib.import_module(given["module"]), given["class"]), DagsterSqliteStorage)
    assert postgres.pop("storage") == {"postgres": {"postgres_url": {"env": "MM_DAGSTER_URL"}}}
    assert postgres == sqlite


def test_the_instance_of_several_hosts_differs_in_who_runs_and_how_many() -> None:
    one, many = read("postgres/dagster.yaml"), read("celery/dagster.yaml")
    given = many.pop("run_launcher")
    launcher = getattr(importlib.import_module(given["module"]), given["class"])
    assert given["config"] == {"broker": {"env": "MM_BROKER_URL"}}
    assert validate_config(launcher.config_type(), given["config"]).success
    runs = many["concurrency"].pop("runs")
    [backfills] = runs["tag_concurrency_limits"]
    assert backfills["key"] == ASKED_TAG
    assert backfills["limit"] < runs["max_concurrent_runs"], "there is always a place for the tick"
    assert one["concurrency"].pop("runs")["tag_concurrency_limits"][0]["key"] == ASKED_TAG
    del one["run_launcher"]
    assert many.pop("run_retries")["max_retries"] >= one.pop("run_retries")["max_retries"]
    assert many["run_monitoring"].pop("start_timeout_seconds") <= 300
    assert many["run_monitoring"].pop("cancel_timeout_seconds") <= 60
    assert many == one


def test_the_image_installs_what_the_tests_ran_with() -> None:
    def pinned(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", path.read_text(), re.MULTILINE))

    image, tested = pinned(DEPLOY / "requirements.txt"), pinned(PROJECT / "constraints.txt")
    assert {name: version for name, version in image.items() if tested.get(name) != version} == {}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    names = {re.split(r"[><=\[ ]", one)[0].lower().replace("_", "-") for one in wanted}
    assert names <= image.keys()
    assert not {"pytest", "pgserver", "playwright"} & image.keys()
    # Who starts runs elsewhere builds it with what that needs, and nothing else differs.
    cluster = pinned(DEPLOY / "requirements-cluster.txt")
    assert image.items() <= cluster.items()
    assert {name: version for name, version in cluster.items() if tested.get(name) != version} == {}
    assert {"dagster-celery", "dagster-k8s", "redis"} <= cluster.keys() - image.keys()


def test_the_image_runs_as_nobody_special_and_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    users = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert users == [("10001", "10001")]
    assert "--require-hashes" in text
    assert "HEALTHCHECK" in text
    sources = [part for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for part in line.split()[:-1]]
    assert len(sources) > 5
    assert [part for part in sources if not (PROJECT / part).exists()] == []
    let_in = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert set(sources) <= let_in


def test_the_image_finds_a_home_in_its_volume_and_the_services_are_told_where_theirs_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    # A variable of ours would come before every home.
    assert "MM_" not in text.replace("MM_DATA_DIR=/tmp/warm mm demo", "")
    assert re.findall(r"(?m)^(?:VOLUME|WORKDIR) (/data)$", text) == ["/data", "/data"]
    [command] = re.findall(r"(?m)^CMD (\[.*\])$", text)
    assert json.loads(command) == ["mm", "up", "--host", up.ANY]
    program = read("compose.yaml")["x-program"]
    assert program["volumes"][0] == "data:/data"
    assert {name: program["environment"][name] for name in ("MM_DATA_DIR", "MM_DAGSTER_DIR")} == {
        "MM_DATA_DIR": "/data",
        "MM_DAGSTER_DIR": "/data/dagster",
    }
    assert "MM_CONFIG_DIR=/configs\n" in (DEPLOY / "example.env").read_text()


def test_every_command_of_the_containers_is_one_that_is_installed() -> None:
    # What others make has commands of its own.
    services = {name: one for name, one in read("compose.yaml")["services"].items() if "build" in one}
    commands = [service["command"] for service in services.values()]
    probes = [service["healthcheck"]["test"] for service in services.values()]
    assert {probe[0] for probe in probes} == {"CMD"}
    commands += [probe[1:] for probe in probes]
    assert len(commands) == 10
    assert [command for command in commands if not shutil.which(command[0], path=_path())] == []
    units = "\n".join(path.read_text() for path in (DEPLOY / "systemd").iterdir())
    for binary in re.findall(r"ExecStart=/opt/mm_dagster/\.venv/bin/(\S+)", units):
        assert shutil.which(binary, path=_path())
    assert callable(importlib.import_module("mm_dagster.definitions").defs)
    assert "mm_dagster.definitions" in services["code"]["command"]
    for deployment in read("helm-values.yaml")["dagster-user-deployments"]["deployments"]:
        assert "mm_dagster.definitions" in deployment["codeServerArgs"]


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def test_every_variable_that_is_set_is_one_that_is_read() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    set_here = {name for path in files for name in re.findall(r"\b(?:MM|PUSHOVER)_[A-Z_]+\b", path.read_text())}
    read_there = "\n".join(
        path.read_text()
        for path in [
            *(PROJECT / "mm_dagster").rglob("*.py"), *PROJECT.glob("*.yaml"), *DEPLOY.glob("*/dagster.yaml"),
            DEPLOY / "workspace.yaml",
        ]
        # It also names those that others read.
        if path != Path(environment.__file__)
    )  # fmt: skip
    ours = {*environment._OURS, *environment.PUSHOVER}
    unread = {name for name in set_here - ours if name not in read_there}
    # Compose's own, and the one whose name the configuration chooses.
    assert unread == {"MM_CONFIGS", "MM_PORT", "MM_DOMAIN", "MM_CATALOG_URL"}
    assert {name for name in set_here - ours if name.startswith("MM_")} == set(environment._OTHERS)


def test_nothing_is_open_to_the_network_and_no_secret_is_written_down() -> None:
    services = read("compose.yaml")["services"]
    # The proxy is what opens the page to the network, with TLS, for those who ask for it.
    ports = [port for name, service in services.items() if name != "proxy" for port in service.get("ports", [])]
    assert [port.partition(":")[0] for port in ports] == ["127.0.0.1"] * 2
    assert services["proxy"]["profiles"] == ["tls"]
    ours = ("code", "daemon", "webserver", "page")
    assert all("no-new-privileges:true" in services[name]["security_opt"] for name in ours)
    for line in (DEPLOY / "example.env").read_text().splitlines():
        if re.match(r"#?(PUSHOVER|POSTGRES)_", line):
            assert line.endswith("="), line
    everything = "\n".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    assert re.findall(r"://[^:@/\s]+:([^@\s]+)@", everything.replace("user:password@", "")) == []


def test_the_chart_is_told_what_the_instance_of_the_other_ways_says() -> None:
    values = read("helm-values.yaml")
    instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    assert values["additionalInstanceConfig"]["concurrency"] == instance["concurrency"]
    assert values["additionalInstanceConfig"]["nux"] == instance["nux"]
    daemon = values["dagsterDaemon"]
    assert daemon["runMonitoring"]["enabled"] is instance["run_monitoring"]["enabled"]
    assert daemon["runMonitoring"]["pollIntervalSeconds"] == instance["run_monitoring"]["poll_interval_seconds"]
    assert daemon["runRetries"]["maxRetries"] == instance["run_retries"]["max_retries"]
    kept = instance["retention"]["sensor"]["purge_after_days"]
    assert kept.items() <= values["retention"]["sensor"]["purgeAfterDays"].items()
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    assert {name: launcher[name] for name in ("module", "class")} == instance["run_launcher"]
    assert issubclass(getattr(importlib.import_module(launcher["module"]), launcher["class"]), dg.DefaultRunLauncher)
    secrets = {one["metadata"]["name"] for one in yaml.safe_load_all((DEPLOY / "external-secrets.yaml").read_text())}
    [deployment] = values["dagster-user-deployments"]["deployments"]
    assert secrets == {values["global"]["postgresqlSecretName"], deployment["envSecrets"][0]["name"]}


def page_objects() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes-page.yaml").read_text())}


def test_the_page_in_a_cluster_is_where_the_lake_is_and_is_reached_by_tls_alone() -> None:
    values, found = read("helm-values.yaml"), page_objects()
    assert set(found) == {"Deployment", "Service", "Ingress"}
    [code] = values["dagster-user-deployments"]["deployments"]
    pod = found["Deployment"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    assert container["image"] == f"{code['image']['repository']}:{code['image']['tag']}"
    trusted = read("compose.yaml")["services"]["page"]["environment"]["FORWARDED_ALLOW_IPS"]
    assert container["env"] == [*code["env"], {"name": "FORWARDED_ALLOW_IPS", "value": trusted}]
    assert [one["secretRef"] for one in container["envFrom"]] == code["envSecrets"]
    assert pod["spec"]["volumes"] == code["volumes"]
    assert container["volumeMounts"] == code["volumeMounts"]
    assert code["podSecurityContext"].items() <= pod["spec"]["securityContext"].items()
    [term] = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchLabels"] == {"component": "user-deployments", "deployment": code["name"]}
    named = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert named == pod["metadata"]["labels"] == found["Service"]["spec"]["selector"]
    [port] = found["Service"]["spec"]["ports"]
    assert port["targetPort"] in {one["name"] for one in container["ports"]}
    assert found["Service"]["spec"]["type"] == "ClusterIP"
    ingress = found["Ingress"]["spec"]
    [rule] = ingress["rules"]
    assert [one["hosts"] for one in ingress["tls"]] == [[rule["host"]]]
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": found["Service"]["metadata"]["name"],
        "port": {"name": port["name"]},
    }
    assert rule["host"] in container["args"]
    secrets = yaml.safe_load_all((DEPLOY / "external-secrets.yaml").read_text())
    filled = {one["metadata"]["name"]: [part["secretKey"] for part in one["spec"]["data"]] for one in secrets}
    assert "MM_API_TOKEN" in filled[container["envFrom"][0]["secretRef"]["name"]]


@pytest.mark.long
def test_the_command_of_the_page_answers_its_probe_and_who_calls_it_by_another_name_is_sent_away(
    tmp_path: Path,
) -> None:
    [container] = page_objects()["Deployment"]["spec"]["template"]["spec"]["containers"]
    configure(tmp_path)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    program, *arguments = container["args"]
    assert program == "mm"
    # As it stands there, but for where it listens: no other address than this computer's own in a test.
    arguments[arguments.index("0.0.0.0")] = "127.0.0.1"
    command = [sys.executable, "-c", "from mm_dagster.cli import main; main()", *arguments, "--port", str(port)]
    places = {"MM_CONFIG_DIR": str(tmp_path / "configuration"), "MM_DATA_DIR": str(tmp_path / "data")}
    probe = container["livenessProbe"]["httpGet"]

    def status(host: str) -> int:
        address = f"http://127.0.0.1:{port}{probe['path']}"
        return int(requests.get(address, headers={"Host": host}, timeout=10).status_code)

    running = subprocess.Popen(command, env={**os.environ, **places}, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert running.poll() is None, running.stderr.read() if running.stderr else ""
            assert time.monotonic() < deadline
            try:
                assert status(probe["httpHeaders"][0]["value"]) == 200
                break
            except requests.ConnectionError:
                time.sleep(0.2)
        assert [status(host) for host in ("grids.example.com", "mm-page", "mm-page:80")] == [200] * 3
        # A pod's own address, which is what a probe calls it by unless it is told a name.
        assert [status(host) for host in ("10.1.2.3:8080", "evil.example")] == [421] * 2
    finally:
        running.terminate()
        running.wait(20)


# processes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, postgres: Postgres) -> tuple[Path, dict[str, str]]:
    """A folder with a small configuration, and the environment of the containers with both halves in PostgreSQL."""
    configuration = tmp_path / "configs"
    (configuration / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    (configuration / "history.yaml").write_text("catalog: {url_env: MM_CATALOG_URL}\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    return tmp_path, {
        **own,
        "PATH": _path(),
        "MM_CONFIG_DIR": str(configuration),
        "MM_DATA_DIR": str(tmp_path / "data"),
        "MM_DAGSTER_DIR": str(tmp_path / "data" / "dagster"),
        "DAGSTER_HOME": str(DEPLOY / "postgres"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "MM_DAGSTER_URL": postgres.database().replace("://", "+psycopg2://"),
        "MM_CATALOG_URL": postgres.database(),
    }


def mm(place: tuple[Path, dict[str, str]], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from mm_dagster.cli import main; main()", *arguments]
    return subprocess.run(
        command, env=place[1], cwd=place[0], check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def test_an_instance_in_postgres_is_made_by_its_home_alone(
    place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place[1].items():
        monkeypatch.setenv(name, value)
    found, _ = dagster_instance_config(str(DEPLOY / "postgres"))
    assert "postgres" in found["storage"]
    with dg.DagsterInstance.from_config(str(DEPLOY / "postgres")) as instance:
        assert type(instance.run_storage).__module__.startswith("dagster_postgres")
        assert instance.run_monitoring_enabled
        assert instance.get_runs_count() == 0


@pytest.fixture
def health(place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`mm health` in this process, on that place."""
    monkeypatch.setattr(os, "environ", place[1])
    cli.project_here.cache_clear()
    yield lambda *arguments: CliRunner().invoke(cli.app, ["health", *arguments])
    cli.project_here.cache_clear()


def test_health_says_in_one_line_what_is_not_well(
    health: Callable[..., Result], place: tuple[Path, dict[str, str]]
) -> None:
    asked = health("live")
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert re.fullmatch("not live: daemon: [A-Z_]+ has never run; start `mm daemon`, or `mm up`", str(asked.exception))
    del place[1]["MM_CATALOG_URL"]
    # A probe is a process of its own.
    cli.project_here.cache_clear()
    asked = health("ready", "--json")
    rows = {row["part"]: row for row in json.loads(asked.stdout)}
    assert asked.exit_code == 1
    assert rows["lake"]["detail"].endswith(
        "catalog.url_env: MM_CATALOG_URL is not set; give it an address like "
        "postgresql://user:password@host:5432/database"
    )
    assert rows["code location"]["result"] == "OK"


@pytest.mark.slow
def test_health_follows_the_daemon_the_tick_and_the_newest_bar(
    health: Callable[..., Result], place: tuple[Path, dict[str, str]]
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    lake = Lake(Path(place[1]["MM_DATA_DIR"]) / "history", place[1]["MM_CATALOG_URL"])

    def live_at(daemon: datetime) -> Result:
        with dg.DagsterInstance.get() as instance:
            for name in instance.get_required_daemon_types():
                instance.add_daemon_heartbeat(DaemonHeartbeat(daemon.timestamp(), name, "one"))
        return health("live")

    def ready_at(tick: datetime, bar: datetime) -> Result:
        row = {"as_of": bar, "started_at": tick, "finished_at": tick, "symbols_ok": [], "symbols_failed": []}
        lake.upsert("tick", pl.DataFrame([row]), commit=Commit("", "", ""))
        source = cli.project_here().config.market("ETH-USDT").source
        candle = sample("candles", [bar - BAR], ("ETH-USDT",)).with_columns(source=pl.lit(source))
        lake.upsert("candles", candle, commit=Commit("", "", ""))
        return health("ready")

    assert "last beat" in str(live_at(now - timedelta(minutes=6)).exception)
    assert live_at(now).stdout == "live: configuration, lake, daemon\n"
    closed = floor_bar(now)
    late = ready_at(now - timedelta(minutes=36), closed - 8 * BAR)
    assert re.match(r"not ready: tick: the last one finished .*, 36 min ago", str(late.exception))
    stale = ready_at(now, closed - 4 * BAR)
    assert re.match("not ready: newest bar: ETH-USDT: the newest known bar closed", str(stale.exception))
    assert ready_at(now, closed).exit_code == 0


@pytest.fixture
def containers(place: tuple[Path, dict[str, str]]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The three services of compose.yaml, by their own commands, on loopback ports of their own."""
    folder, environment = place
    services = read("compose.yaml")["services"]
    ports = {"4000": str(_free_port()), "3000": str(_free_port())}
    place[1].update(MM_CODE_HOST="127.0.0.1", MM_CODE_PORT=ports["4000"], MM_TEST_PORT=ports["3000"])
    replaced = {"0.0.0.0": "127.0.0.1", "/app/deploy/workspace.yaml": str(DEPLOY / "workspace.yaml"), **ports}
    running = {}
    for name in ("code", "daemon", "webserver"):
        command = [replaced.get(part, part) for part in services[name]["command"]]
        log = (folder / f"{name}.log").open("wb")
        running[name] = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        if name == "code":
            probe = [replaced.get(part, part) for part in services["code"]["healthcheck"]["test"][1:]]
            wait_until(lambda probe=probe: _succeeds(probe, environment))  # type: ignore[misc]
    yield running
    for process in running.values():
        process.send_signal(signal.SIGTERM)
    for process in running.values():
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _succeeds(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode == 0


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.5)


def _ask(port: str, query: str, **variables: object) -> Any:
    """What the web server answers; None: not up yet."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


_LAUNCH = """
mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }"""


@pytest.mark.long
def test_the_services_of_the_compose_file_run_a_tick_on_postgres_and_become_ready(
    place: tuple[Path, dict[str, str]], containers: dict[str, subprocess.Popen[bytes]]
) -> None:
    folder, environment = place
    port = environment["MM_TEST_PORT"]
    wait_until(lambda: _ask(port, "{ version }") is not None)
    wait_until(lambda: mm(place, "health", "live").returncode == 0)
    as_of = floor_bar(datetime.now(UTC) - timedelta(minutes=1))
    launched = _ask(
        port,
        _LAUNCH,
        parameters={
            "selector": {
                "repositoryLocationName": "mm_dagster",
                "repositoryName": "__repository__",
                "jobName": "tick",
            },
            "runConfigData": {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition_of(as_of)}]},
        },
    )
    assert launched["launchRun"]["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["launchRun"]["run"]["runId"]

    def status() -> str:
        answer = _ask(port, "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        return str(answer["runOrError"]["status"]) if answer else ""

    wait_until(lambda: status() in ("SUCCESS", "FAILURE"))
    assert status() == "SUCCESS", (folder / "code.log").read_text()[-3000:]
    ready = mm(place, "health", "ready")
    assert (ready.returncode, ready.stdout) == (
        0,
        "ready: configuration, lake, daemon, code location, tick, newest bar\n",
    )
    lake = Lake(folder / "data" / "history", environment["MM_CATALOG_URL"])
    assert lake.read("regime_verdict")["as_of"].max() == as_of
    assert not (folder / "data" / "history" / "catalog.sqlite").exists()
    assert not list((folder / "data").rglob("*.db"))
    assert {process.poll() for process in containers.values()} == {None}
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"p%C3%A4ssword" not in everything
    assert "pässword".encode() not in everything


def test_the_page_behind_the_proxy_knows_who_asks_and_where_dagster_is() -> None:
    services = read("compose.yaml")["services"]
    page = services["page"]["environment"]
    # What all services are told, it is told, too.
    assert services["code"]["environment"].items() <= page.items()
    trusted = [ipaddress.ip_network(one) for one in page["FORWARDED_ALLOW_IPS"].split(",")]
    assert all(one.is_private or one.is_loopback for one in trusted)
    assert any(ipaddress.ip_address("172.18.0.5") in one for one in trusted)
    assert page["MM_DAGSTER_LINK"] == "http://127.0.0.1:${MM_PORT:-3000}"
    assert f":{page['MM_PAGE_LINK'].rpartition(':')[2]}:" in services["page"]["ports"][0]
    assert "./Caddyfile:/etc/caddy/Caddyfile:ro" in services["proxy"]["volumes"]
    assert (DEPLOY / "Caddyfile").is_file()
