"""The chart renders to what the schemas and the server take, and to what the plain manifests say."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate as checker
import pytest
import yaml

from server.app import LIVENESS, SERVICES
from server.settings import Settings, load_settings
from tests.support.helm_charts import CHART, ChartError, check_operator_resources, helm, render
from tests.support.pages import blocks

ROOT = Path(__file__).parents[2]
KMS = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-0000-0000-000000000000"
LEAST = {"kmsKey": KMS}
MOST: dict[str, Any] = {
    "kmsKey": KMS,
    "image": {"repository": "registry.example/carryover", "tag": "0.2.0-cuda"},
    "imagePullSecrets": [{"name": "pull"}],
    "config": {
        "drain_s": 60,
        "limits": {"streams": 100, "message_bytes": 33_554_432},
        "traces": {"endpoint": "http://collector:4318", "share": 0.1},
    },
    "http": {"enabled": True},
    "tls": {"clientCaSecret": "carryover-clients"},
    "serviceAccount": {"create": False, "name": "speech"},
    "env": [{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "deployment.environment=test"}],
    "gpu": {"enabled": True},
    "autoscaling": {"enabled": False},
    "replicas": 3,
    "networkPolicy": {
        "clients": [{"podSelector": {"matchLabels": {"app": "assistant"}}}],
        "egress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "podAnnotations": {"example.com/a": "b"},
    "podLabels": {"team": "speech"},
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "high",
}
BARE: dict[str, Any] = {
    "config": {"store": {"endpoint": "http://dynamodb:8000"}},
    "serviceAccount": {"create": False},
    "autoscaling": {"enabled": False},
    "disruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
}


def kinds(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The resources by kind; the first of several."""
    return {resource["kind"]: resource for resource in reversed(resources)}


def settings_of(resources: list[dict[str, Any]], folder: Path) -> Settings:
    """The server's settings, as it reads them from the file that the chart mounts."""
    (folder / "carryover.toml").write_text(kinds(resources)["ConfigMap"]["data"]["carryover.toml"])
    return load_settings(folder / "carryover.toml", {}, {})


def test_helm_finds_nothing_wrong() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), values=LEAST)


@pytest.mark.parametrize("values", [LEAST, MOST, BARE], ids=["least", "most", "bare"])
def test_what_is_rendered_fits_the_schemas_and_itself(values: dict[str, Any], tmp_path: Path) -> None:
    resources = render(values, "voice")
    operators = [r for r in resources if r["apiVersion"].startswith("monitoring.coreos.com/")]
    for resource in resources:
        assert resource["metadata"]["name"].startswith("voice-carryover")
        if resource not in operators:
            for version in ("1.33", "1.36"):
                checker.validate(resource, version, strict=True)
    check_operator_resources(operators)
    settings, deployment = settings_of(resources, tmp_path), kinds(resources)["Deployment"]["spec"]
    pod, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {"grpc": settings.port, "health": settings.health_port, "metrics": settings.metrics_port}
    assert ports == listens | ({"http": settings.http_port} if settings.http_port else {})
    named = {port["targetPort"] for port in kinds(resources)["Service"]["spec"]["ports"]}
    if "NetworkPolicy" in kinds(resources):
        named |= {p["port"] for rule in kinds(resources)["NetworkPolicy"]["spec"]["ingress"] for p in rule["ports"]}
    assert named == ports.keys() - {"health"}
    assert pod["terminationGracePeriodSeconds"] > settings.drain_s + 5
    for probe, service in (("startupProbe", None), ("readinessProbe", SERVICES[0]), ("livenessProbe", LIVENESS)):
        assert container[probe]["grpc"]["port"] == settings.health_port
        assert container[probe]["grpc"].get("service") == service
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in (settings.tls.certificate, settings.tls.key, settings.tls.client_ca, settings.access.keys_file):
        assert path is None or str(path.parent) in mounted, path
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for resource in resources:
        spec = resource.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        assert (selector.get("matchLabels") or selector).items() <= labels.items()


def test_all_values_reach_what_they_are_for(tmp_path: Path) -> None:
    resources = render(MOST)
    settings, found = settings_of(resources, tmp_path), kinds(resources)
    assert (settings.store.kms_key, settings.model.device, settings.model.workers) == (KMS, "cuda", 2)
    assert (settings.limits.streams, settings.limits.message_bytes, settings.traces.share) == (100, 32 << 20, 0.1)
    assert settings.tls.client_ca and not settings.access.reflection
    deployment = found["Deployment"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert deployment["replicas"] == 3 and "HorizontalPodAutoscaler" not in found and "ServiceAccount" not in found
    assert container["image"] == "registry.example/carryover:0.2.0-cuda"
    assert container["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": 1}
    assert container["env"] == MOST["env"]
    assert found["NetworkPolicy"]["spec"]["ingress"][0]["from"] == MOST["networkPolicy"]["clients"]
    assert found["NetworkPolicy"]["spec"]["egress"][-1] == MOST["networkPolicy"]["egress"][0]
    assert found["PrometheusRule"]["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    (dashboard,) = [r for r in resources if r["metadata"]["name"].endswith("-dashboard")]
    assert dashboard["data"]["carryover.json"].strip() == (ROOT / "deploy/grafana-dashboard.json").read_text().strip()
    job = found["ServiceMonitor"]["spec"]["jobLabel"]
    assert found["Service"]["metadata"]["labels"][job] == "carryover"  # which the alerts ask for


def test_resources_may_be_unset() -> None:
    """`resources: null` takes the chart's own away, as Helm has it for every value."""
    for gpu, limits in ((False, None), (True, {"nvidia.com/gpu": 1})):
        deployment = kinds(render(LEAST | {"resources": None, "gpu": {"enabled": gpu}}))["Deployment"]
        checker.validate(deployment, "1.36", strict=True)
        assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"].get("limits") == limits


def test_a_role_of_eks_pod_identity_can_be_asked_for() -> None:
    """Its agent listens on the node: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html."""
    rules = kinds(render(LEAST))["NetworkPolicy"]["spec"]["egress"]
    assert {
        "ports": [{"port": 80, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}]
    } in rules  # fmt: skip


def test_the_values_of_the_page_are_some(tmp_path: Path) -> None:
    (values,) = blocks("docs/deployment.md", "yaml")
    settings = settings_of(render(yaml.safe_load(values)), tmp_path)
    assert (settings.limits.streams, settings.limits.tenant_streams) == (16, 12)


def test_new_settings_take_new_pods() -> None:
    def annotation(values: dict[str, Any]) -> str:
        return str(
            kinds(render(values))["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        )

    assert annotation(LEAST) == annotation(LEAST | {"replicas": 5}) != annotation(LEAST | {"config": {"drain_s": 40}})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "kmsKey: give the ARN"),
        (LEAST | {"replica": 3}, "'replica' not allowed"),
        (LEAST | {"image": {"tags": "1"}}, "'tags' not allowed"),
        (LEAST | {"config": {"port": 1}}, "/config/port"),
        (LEAST | {"config": {"store": {"key_file": "key"}}}, "/config/store/key_file"),
        ({"kmsKey": "my-key"}, "/kmsKey"),
    ],
    ids=["no key", "unknown", "unknown below", "port", "key file", "no ARN"],
)
def test_values_that_would_not_do_are_refused_by_name(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ChartError, match=problem):
        render(values)


def test_it_says_what_the_plain_manifests_say(tmp_path: Path) -> None:
    """Two ways to the same pods: what is changed in one is changed in the other."""
    plain = [r for r in yaml.safe_load_all((ROOT / "deploy/kubernetes/carryover.yaml").read_text()) if r]
    chart = render(LEAST)
    assert settings_of(chart, tmp_path) == settings_of(plain, tmp_path)
    assert comparable(chart) == comparable(plain)


def comparable(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The specs by kind, without names that either way gives and without what only the chart has."""
    found = deepcopy(kinds(resources))
    deployment = found["Deployment"]["spec"]
    deployment.pop("replicas", None)  # the autoscaler's
    (container,) = deployment["template"]["spec"]["containers"]
    container.pop("imagePullPolicy", None)
    deployment["template"]["metadata"]["annotations"].pop("checksum/config", None)
    specs = {kind: resource.get("spec", {}) for kind, resource in found.items()}
    return {kind: without_labels(spec) for kind, spec in specs.items()}


def without_labels(value: Any) -> Any:
    """The value without labels and what selects the server's own."""
    if isinstance(value, dict):
        own = {"labels", "selector", "labelSelector", "podSelector"}
        return {key: without_labels(part) for key, part in value.items() if key not in own}
    return [without_labels(part) for part in value] if isinstance(value, list) else value


def test_it_has_the_project_s_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == project


def test_the_operator_s_schemas_do_refuse() -> None:
    (monitor,) = [r for r in render(MOST) if r["kind"] == "ServiceMonitor"]
    monitor["spec"]["endpoints"] = "metrics"
    with pytest.raises(AssertionError, match="endpoints"):
        check_operator_resources([monitor])
