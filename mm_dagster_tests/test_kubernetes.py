"""What deploy/ has for Kubernetes are objects of it, as far as can be known without a cluster and without helm.

The plain objects are checked as they stand. Of the chart's values those are built that its templates build of them: the
code server's Deployment by hand, and a run's Job by dagster_k8s itself, from the configuration that the chart hands to
its launcher. The chart's own templates and schema cannot be had here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra dev")
dagster_k8s = pytest.importorskip("dagster_k8s", reason="dagster-k8s is in the extra cluster")

from dagster._config import process_config, resolve_to_config_type  # noqa: E402
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job  # noqa: E402
from kubernetes.client import ApiClient  # noqa: E402

from mm_dagster_tests.conftest import PROJECT  # noqa: E402

DEPLOY = PROJECT / "deploy"
VERSION = "1.37"


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def check(one: dict[str, Any]) -> None:
    """Refuses what is no object of Kubernetes, with a key that it does not know, too."""
    kubernetes_validate.validate(one, VERSION, strict=True)


@pytest.mark.parametrize("name", ["kubernetes-page.yaml", "kubernetes-daemon.yaml"])
def test_the_plain_objects_are_objects_of_kubernetes(name: str) -> None:
    found = objects(name)
    assert found
    for one in found:
        check(one)


def test_a_key_that_kubernetes_does_not_know_is_found() -> None:
    [one] = objects("kubernetes-daemon.yaml")
    one["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        check(one)


def values(*names: str) -> dict[str, Any]:
    """Values as helm merges them: a mapping key by key, what is null taken away."""

    def merged(below: Any, above: Any) -> Any:
        if not isinstance(below, dict) or not isinstance(above, dict):
            return above
        both = {key: merged(below.get(key), above[key]) if key in above else below[key] for key in {*below, *above}}
        return {key: value for key, value in both.items() if value is not None}

    found: Any = {}
    for name in names:
        [one] = objects(name)
        found = merged(found, one)
    return dict(found)


def test_the_pod_of_the_code_server_is_one() -> None:
    [code] = values("helm-values.yaml")["dagster-user-deployments"]["deployments"]
    labels = {"component": "user-deployments", "deployment": code["name"]}
    container = {
        "name": "dagster-user-deployments",
        "image": f"{code['image']['repository']}:{code['image']['tag']}",
        "imagePullPolicy": code["image"]["pullPolicy"],
        "args": ["dagster", "api", "grpc", *code["codeServerArgs"]],
        "env": code["env"],
        "envFrom": [{"secretRef": one} for one in code["envSecrets"]],
        "ports": [{"name": "grpc", "containerPort": code["port"]}],
        **{name: code[name] for name in ("volumeMounts", "securityContext", "resources")},
    }
    pod = {"securityContext": code["podSecurityContext"], "volumes": code["volumes"], "containers": [container]}
    check(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": code["name"]},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )


def launcher_config() -> dict[str, Any]:
    """What the chart writes into dagster.yaml for its launcher of pods."""
    given = values("helm-values.yaml", "helm-values-runs.yaml")
    assert list(given["runLauncher"]["config"]) == ["k8sRunLauncher"]
    own = dict(given["runLauncher"]["config"]["k8sRunLauncher"])
    image = own.pop("image")
    own["job_image"] = f"{image['repository']}:{image['tag']}"
    own["image_pull_policy"] = image["pullPolicy"]
    own["envSecrets"] = [one["name"] for one in own["envSecrets"]]
    run = own.pop("runK8sConfig")
    snake = {re.sub("([A-Z])", lambda found: f"_{found[0].lower()}", key): value for key, value in own.items()}
    return snake | {
        "run_k8s_config": {re.sub("([A-Z])", lambda found: f"_{found[0].lower()}", k): v for k, v in run.items()},
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "mm-dagster-instance",
        "postgres_password_secret": given["global"]["postgresqlSecretName"],
        "service_account_name": "mm-dagster",
    }


def test_the_launcher_of_pods_takes_its_values_and_makes_jobs_of_them() -> None:
    taken = process_config(resolve_to_config_type(dagster_k8s.K8sRunLauncher.config_type()), launcher_config())
    assert taken.success, [error.message for error in taken.errors or []]
    value = dict(taken.value or {})
    kept = {name: value[name] for name in DagsterK8sJobConfig._fields if name in value}
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(**kept),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-4711",
        user_defined_k8s_config=UserDefinedDagsterK8sConfig.from_dict(value["run_k8s_config"]),
    )
    made = ApiClient().sanitize_for_serialization(job)
    check(made)
    pod = made["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [code] = values("helm-values.yaml")["dagster-user-deployments"]["deployments"]
    assert pod["securityContext"] == code["podSecurityContext"]
    assert container["securityContext"] == code["securityContext"]
    assert {one["name"] for one in code["volumes"]} <= {one["name"] for one in pod["volumes"]}
    assert {"name": "MM_DATA_DIR", "value": "/data"} in container["env"]


def test_a_value_that_the_launcher_does_not_know_is_found() -> None:
    wrong = launcher_config() | {"volumesMounts": []}
    found = process_config(resolve_to_config_type(dagster_k8s.K8sRunLauncher.config_type()), wrong)
    assert "volumesMounts" in str([error.message for error in found.errors or []])


def test_the_two_daemons_are_on_two_nodes_and_are_what_the_code_server_is() -> None:
    [daemon] = objects("kubernetes-daemon.yaml")
    [code] = values("helm-values.yaml")["dagster-user-deployments"]["deployments"]
    pod = daemon["spec"]["template"]
    [container] = pod["spec"]["containers"]
    assert container["image"] == f"{code['image']['repository']}:{code['image']['tag']}"
    assert container["args"] == yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["daemon"]["command"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert {one["name"]: one["value"] for one in code["env"]}.items() <= given.items()
    assert (given["MM_CODE_HOST"], given["MM_CODE_PORT"]) == (code["name"], str(code["port"]))
    assert given["DAGSTER_HOME"] == "/app/deploy/postgres"
    [apart] = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert daemon["spec"]["replicas"] == 2
    secrets = {one["metadata"]["name"]: one["spec"]["data"] for one in objects("external-secrets.yaml")}
    assert "MM_DAGSTER_URL" in {one["secretKey"] for one in secrets["mm-dagster"]}
    assert Path(given["DAGSTER_HOME"]).relative_to("/app") == Path("deploy/postgres")
