"""The compose file fits its schema, itself and the server; what it starts of ours starts here as it says.

No engine is needed: `first-start`, `tables` and `server` run as processes of this machine, with the file's commands and
environment.
"""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.server.processes import server_process
from context_store.local_server import local_server
from server.commands import stream_client
from server.commands.main import app
from server.settings import load_settings
from tests.deploy.test_alerts import promtool
from tests.support.container_steps import of
from tests.support.waiting import PATIENT

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STORE = "http://dynamodb:8000"
SECRETS = "/etc/carryover"


def check_schema(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_fits_the_schema(tmp_path: Path) -> None:
    checked = check_schema(FOLDER / "compose.yaml")
    assert checked.returncode == 0, checked.stdout
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(COMPOSE | {"services": {"server": {"imagee": "x"}}}))
    assert "imagee" in check_schema(tmp_path / "compose.yaml").stdout


def test_it_fits_itself_and_the_image() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
        assert set(service.get("networks", ())) <= {"default", *COMPOSE["networks"]}
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    build = SERVICES["server"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()
    (label,) = of("LABEL")
    version = re.search(r'image\.version="([^"]+)"', label)
    assert version and SERVICES["server"]["image"] == f"carryover:{version[1]}"
    assert SERVICES["first-start"]["command"] == [SECRETS]
    ids = {f"{SECRETS}/{path}" for path in ("server.pem", "server-key.pem", "keys", "wrapping.key")}
    environment = SERVICES["server"]["environment"]
    assert ids == {value for value in environment.values() if value.startswith(SECRETS)}
    settings = load_settings(None, {}, {k: v for k, v in environment.items() if k.startswith("CARRYOVER_")})
    published = [f"127.0.0.1:{port}:{port}" for port in (settings.port, settings.http_port)]
    assert SERVICES["server"]["ports"] == published
    assert settings.drain_s < int(SERVICES["server"]["stop_grace_period"].removesuffix("s"))
    assert settings.store.endpoint == STORE == SERVICES["tables"]["command"][-1]
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"server:{settings.metrics_port}"]
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{SERVICES['prometheus']['ports'][0].rpartition(':')[2]}"
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards/carryover.yaml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert str(Path(home).parent) == provider["options"]["path"]
    assert any(volume.split(":")[1] == home for volume in SERVICES["grafana"]["volumes"])


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    for volume in SERVICES["prometheus"]["volumes"]:
        source, target, _ = volume.split(":")
        shutil.copy(FOLDER / source, tmp_path / Path(target).name)  # side by side, as in the container
    assert "1 rule files found" in promtool("check", "config", tmp_path / "prometheus.yml")


def first_start(folder: Path) -> dict[str, bytes]:
    """What the service of that name makes."""
    script, folder_argument = SERVICES["first-start"]["entrypoint"][1], SERVICES["first-start"]["command"]
    (source,) = [v.split(":")[0] for v in SERVICES["first-start"]["volumes"] if v.split(":")[1] == script]
    assert folder_argument == [SECRETS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [source, str(folder)])
        runpy.run_path(str(FOLDER / source), run_name="__main__")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_keys_are_made_once_and_nobody_else_reads_them(tmp_path: Path) -> None:
    made = first_start(tmp_path)
    assert sorted(made) == ["client/ca.pem", "client/key", "keys", "server-key.pem", "server.pem", "wrapping.key"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*") if path.is_file())
    assert first_start(tmp_path) == made
    (tmp_path / "client").rename(tmp_path / "client.new")  # as an interrupted start leaves it
    again = first_start(tmp_path)
    assert (
        again.keys() == made.keys() and again["keys"] != made["keys"] and again["wrapping.key"] == made["wrapping.key"]
    )


@pytest.mark.slow
def test_what_it_starts_of_ours_answers_a_client_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_start(tmp_path)
    with local_server() as dynamodb:
        here = {STORE: dynamodb, SECRETS: str(tmp_path)}

        def local(text: str) -> str:
            for there, place in here.items():
                text = text.replace(there, place)
            return text

        for name, value in SERVICES["tables"]["environment"].items():
            monkeypatch.setenv(name, value)
        tables = CliRunner().invoke(app, [local(word) for word in SERVICES["tables"]["command"]])
        assert tables.exit_code == 0, tables.output
        environment = {name: local(value) for name, value in SERVICES["server"]["environment"].items()}
        # else as it is, with TLS and keys
        free = {"CARRYOVER_HOST": "127.0.0.1", "CARRYOVER_METRICS_PORT": "0", "CARRYOVER_HTTP_PORT": "0"}
        with server_process(environment | free | PATIENT, private=False) as server:
            asked = [str(ROOT / "server/demo/audio/call_meg.flac"), "--server", f"127.0.0.1:{server.port}"]
            client = tmp_path / "client"
            known = [*asked, "--ca", str(client / "ca.pem"), "--key-file", str(client / "key"), "--fast"]
            done = CliRunner().invoke(stream_client.app, known)
            assert done.exit_code == 0, done.output
            assert "call meg" in done.stdout.lower()
            stranger = CliRunner().invoke(stream_client.app, [*asked, "--ca", str(client / "ca.pem")])
            assert stranger.exit_code and "UNAUTHENTICATED" in stranger.output
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(server.metrics_url, timeout=30) as answer:
                assert b"carryover_certificate_expiry_timestamp_seconds 1" in answer.read()  # a time, not 0


def test_the_dashboard_finds_its_source() -> None:
    """Grafana fills the variable of a provisioned dashboard with the default source of that kind."""
    variables = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())["templating"]["list"]
    assert {"name": "datasource", "type": "datasource", "query": "prometheus"} in variables
    asked = [variable for variable in variables if variable["type"] == "query"]
    assert asked and all(variable["refresh"] for variable in asked)  # 0 or none: never asked for, and `All` is nothing
