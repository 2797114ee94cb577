"""The container file and the manifests fit Kubernetes' schemas, each other, and the server."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, cast

import kubernetes_validate as checker
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from server.app import LIVENESS, SERVICES, door_routes
from server.commands import check_health
from server.commands.main import COMMANDS
from server.metrics import Metrics
from server.settings import Limits, load_settings
from tests.support.container_steps import copied, let_through, of
from tests.support.envoy_schema import EnvoyApi

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))


def resources() -> list[dict[str, Any]]:
    return [resource for file in MANIFESTS for resource in yaml.safe_load_all(file.read_text())]


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [r for r in resources() if (r["kind"], r["metadata"]["name"]) == (kind, name)]
    return found


def envoy_bootstrap() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(one("ConfigMap", "carryover-envoy")["data"]["envoy.yaml"])
    return found


@pytest.mark.parametrize("resource", resources(), ids=lambda r: f"{r['kind']}-{r['metadata']['name']}")
def test_manifests_fit_the_schemas(resource: dict[str, Any]) -> None:
    for version in ("1.33", "1.36"):
        checker.validate(resource, version, strict=True)


def test_the_schemas_do_refuse() -> None:
    wrong = one("Deployment", "carryover")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(checker.ValidationError):
        checker.validate(wrong, "1.36", strict=True)


def test_the_configuration_is_one_that_the_server_takes(tmp_path: Path) -> None:
    file = tmp_path / "carryover.toml"
    file.write_text(one("ConfigMap", "carryover")["data"]["carryover.toml"])
    settings = load_settings(file, {}, {})
    pod = one("Deployment", "carryover")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": settings.port, "health": settings.health_port, "metrics": settings.metrics_port}
    assert (
        pod["terminationGracePeriodSeconds"] > settings.drain_s + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    )
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (settings.tls.certificate, settings.tls.key, settings.access.keys_file, container["args"][2]):
        assert any(str(path).startswith(place) for place in mounted), path
    for probe, service in (("startupProbe", None), ("readinessProbe", SERVICES[0]), ("livenessProbe", LIVENESS)):
        assert container[probe]["grpc"]["port"] == settings.health_port
        assert container[probe]["grpc"].get("service") == service
    target = one("HorizontalPodAutoscaler", "carryover")["spec"]["metrics"][0]["pods"]
    assert target["metric"]["name"] in {
        family.name for family in Metrics().registry.collect() if family.type == "gauge"
    }
    assert int(target["target"]["averageValue"]) < settings.limits.streams


def test_names_that_are_referred_to_exist() -> None:
    labels = {r["metadata"]["name"]: r["spec"]["template"]["metadata"]["labels"] for r in resources() if "template" in
              r.get("spec", {})}  # fmt: skip
    maps = {r["metadata"]["name"] for r in resources() if r["kind"] == "ConfigMap"}
    for resource in resources():
        selector = resource.get("spec", {}).get("selector", {})
        selector = selector.get("matchLabels", selector)
        assert not selector or selector in labels.values()
        for volume in resource.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", ()):
            assert "configMap" not in volume or volume["configMap"]["name"] in maps
    envoy = envoy_bootstrap()
    (cluster,) = envoy["static_resources"]["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    service = one("Service", address["address"])
    assert address["port_value"] in {port["port"] for port in service["spec"]["ports"]}
    assert service["spec"]["clusterIP"] == "None"  # else there is one address, and nothing to hash over
    assert cluster["lb_policy"] == "RING_HASH"
    assert cluster["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] == ["h2"]
    (check,) = cluster["health_checks"]
    assert check["grpc_health_check"]["service_name"] == SERVICES[0]  # not serving while it drains
    (chain,) = envoy["static_resources"]["listeners"][0]["filter_chains"]
    (host,) = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    routed = tuple(route["match"]["prefix"] for route in host["routes"])
    doors = [route.method.path for route in door_routes(cast(Any, None), Limits())]
    assert all(path.startswith(routed) for path in (*(f"/{name}/" for name in SERVICES), *doors))
    assert all(route["route"] == host["routes"][0]["route"] for route in host["routes"])
    (policy,) = host["routes"][0]["route"]["hash_policy"]
    assert f"`{policy['header']['header_name']}`" in (ROOT / "docs" / "deployment.md").read_text()


def test_envoy_would_take_its_configuration() -> None:
    assert EnvoyApi().problems(envoy_bootstrap()) == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("lb_polcy",), "RING_HASH", "no field named"),
        (("lb_policy",), "RINGHASH", "Invalid enum value"),
        (("name",), "", "has fewer than 1 characters"),
        (("health_checks", 0, "timeout"), 2, "not a string"),
        (("health_checks", 0, "timeout"), "0s", "is too short"),
        (("health_checks", 0, "interval"), None, "is required"),
        (("health_checks", 0, "grpc_health_check"), None, "is required"),
        (("transport_socket", "typed_config", "snii"), "x", "no field named"),
        (("transport_socket", "typed_config", "@type"), "type.googleapis.com/envoy.None", "Can not find"),
        (("outlier_detection", "interval"), "soon", "Duration"),
    ],
)
def test_envoy_would_refuse(path: tuple[str | int, ...], value: Any, problem: str) -> None:
    """A mistake in the cluster, wherever it stands."""
    wrong = envoy_bootstrap()
    place: Any = wrong["static_resources"]["clusters"][0]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (found,) = EnvoyApi().problems(wrong)
    assert problem in found


def test_the_container_has_what_a_server_needs_as_everything_was_tested() -> None:
    """Its locks are parts of the whole one: all that the project depends on, and nothing for developers alone."""
    locks = ("requirements.lock", "deploy/requirements.lock", "deploy/torch-cuda.lock")
    whole, rest, cuda = (entries((ROOT / name).read_text()) for name in locks)
    part = rest | cuda
    assert not rest.keys() & cuda.keys() and "torch" in cuda and "torchaudio" not in part
    assert not any(re.match("nvidia|cuda|triton|torch", name) for name in rest)
    assert part.items() <= whole.items() and all("--hash=sha256:" in entry for entry in part.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {Requirement(text) for text in project["project"]["dependencies"]}
    for extra in ("media", "otel", "web"):
        needed |= {Requirement(text) for text in project["project"]["optional-dependencies"][extra]}
    needed |= {Requirement(text) for text in project["build-system"]["requires"]}  # it is built without isolation
    for requirement in needed:
        assert requirement.name in part or requirement.name == "carryover-client", requirement  # from the checkout
    assert not part.keys() & {"pytest", "mypy", "ruff", "hypothesis"}


def entries(lock: str) -> dict[str, str]:
    """What a lock says of each package: version and hashes, without who needs it where."""
    plain = re.sub(r" ; .*(?= \\$)", "", re.sub(r"^ *#.*\n", "", lock, flags=re.MULTILINE), flags=re.MULTILINE)
    found = re.split(r"\n(?=[a-z0-9])", plain)
    return {re.split(r"[\[= ]", entry)[0]: entry.strip() for entry in found}


def test_the_container_file_names_what_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (base,) = {found[1] for line in of("FROM") if (found := re.match(r"python:([\d.]+)-slim", line))}
    assert base in SpecifierSet(project["project"]["requires-python"])
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert packages | {"clients/python"} <= set(copied())
    labels = dict(label.split("=", 1) for label in shlex.split(of("LABEL")[0]))
    assert labels["org.opencontainers.image.version"] == project["project"]["version"]
    assert labels["org.opencontainers.image.description"] in project["project"]["description"]
    (command,) = json.loads(of("ENTRYPOINT")[0])
    assert command in project["project"]["scripts"]
    asked = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert asked[0] == command and {asked[1], *json.loads(of("CMD")[0])} <= set(COMMANDS)
    ports = {int(port) for line in of("EXPOSE") for port in line.split()}
    assert f"CARRYOVER_HEALTH_PORT={check_health.DEFAULT_PORT}" in of("ENV")[-1]
    (container,) = one("Deployment", "carryover")["spec"]["template"]["spec"]["containers"]
    assert ports == {port["containerPort"] for port in container["ports"]}


def test_a_build_gets_what_it_copies_and_nothing_else(tmp_path: Path) -> None:
    sent = let_through(ROOT)
    wanted = {
        str(file.relative_to(ROOT))
        for name in copied()
        for file in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
        if file.is_file()
    }
    assert sent == {name for name in wanted if not re.search(r"(^|/)(__pycache__|build|[^/]*\.egg-info)/", name)}
    assert any(name.startswith("asr/weights/") and name.endswith(".safetensors") for name in sent)
    private = (
        ".venv/bin/python", ".git/config", ".env", "data/a.wav", "runs/model.ckpt", "tests/test_a.py", "keys.txt",
        "asr/__pycache__/a.pyc", "server/doors/__pycache__/a.pyc", "clients/python/carryover_client.egg-info/PKG-INFO",
        "clients/pipecat/a.py", "deploy/kubernetes/a.yaml",
    )  # fmt: skip
    for name in (*private, "asr/a.py", "deploy/requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert let_through(tmp_path) == {"asr/a.py", "deploy/requirements.lock"}
