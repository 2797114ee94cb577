"""The project's own promises: packages, commands, entry points, a lock without strangers."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file())
OF_BASH = ("test",)
"""Scripts that run no module."""
CONTRACT = ("demo", "serve", "test", "transcribe", "evaluate_wer", "rescore_nbest", "stream_client")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def module_of(script: str) -> str:
    found = re.search(r'lib/run" (\S+) "\$@"', (ROOT / "scripts" / script).read_text())
    assert found, f"scripts/{script} runs no module"
    return found[1]


def test_every_package_folder_is_packaged(project: dict[str, Any]) -> None:
    folders = [path.parent for name in ("asr", "context_store", "server") for path in (ROOT / name).rglob("*.py")]
    folders += [path.parent for path in (ROOT / "clients/python/carryover").rglob("*.py")]
    names = {str(folder.relative_to(ROOT)).removeprefix("clients/python/").replace("/", ".") for folder in folders}
    assert sorted(names) == project["tool"]["setuptools"]["packages"]
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_commands_of_the_contract_are_there() -> None:
    assert set(CONTRACT) <= set(SCRIPTS)
    assert all(os.access(ROOT / "scripts" / name, os.X_OK) for name in SCRIPTS)


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name not in OF_BASH])
def test_every_command_explains_itself(script: str) -> None:
    module = importlib.import_module(module_of(script))
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command()(module.main)
    result = CliRunner().invoke(app, ["--help"], catch_exceptions=False)
    assert result.exit_code == 0 and "Usage:" in result.stdout and len(result.stdout) > 300


def test_the_test_command_explains_itself() -> None:
    result = subprocess.run([ROOT / "scripts" / "test", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: ./scripts/test" in result.stdout


def test_entry_points_lead_to_the_same_commands(project: dict[str, Any]) -> None:
    modules = {module_of(name) for name in SCRIPTS if name not in OF_BASH}
    for name, target in project["project"]["scripts"].items():
        module, attribute = target.split(":")
        assert module in modules, name
        assert callable(getattr(importlib.import_module(module), attribute))


def test_the_lock_names_everything_and_no_place() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|--index|--extra-index|--find-links|--trusted| @ ", lock)
    entries = re.split(r"\n(?=[a-z0-9])", lock)[1:]
    assert len(entries) > 50 and all("--hash=sha256:" in entry for entry in entries)
    locked = {re.split(r"[\[= ]", entry)[0] for entry in entries}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} <= locked


def test_a_ready_environment_is_left_alone(tmp_path: Path) -> None:
    """A call with the stamp of this lock, project and place answers at once and does nothing."""
    environment = fake_tools(tmp_path, **{"python3.11": "exit 1"})
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/bash\nexit 9\n")
    python.chmod(0o755)
    parts = [(ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    stamp = subprocess.run(["cksum"], input=b"".join([*parts, f"{ROOT}\n".encode()]), capture_output=True, check=True)
    (tmp_path / "venv" / "carryover.stamp").write_bytes(stamp.stdout)
    result = subprocess.run([ROOT / "scripts/lib/env"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, environment["CARRYOVER_VENV"] + "\n", "")
    (tmp_path / "venv" / "carryover.stamp").write_text("of another lock")
    result = subprocess.run([ROOT / "scripts/lib/env"], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and result.stderr


def fake_tools(folder: Path, **programs: str) -> dict[str, str]:
    """An environment whose PATH holds the system's tools, no Python and no uv but those given as shell scripts."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("bash", "cat", "cksum", "dirname", "mkdir", "df", "awk", "ls", "flock", "tail"):
        found = [Path(place, name) for place in os.environ["PATH"].split(os.pathsep) if Path(place, name).exists()]
        if found:
            (tools / name).symlink_to(found[0])
    for name, text in programs.items():
        (tools / name).unlink(missing_ok=True)
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    return {"PATH": str(tools), "CARRYOVER_VENV": str(folder / "venv")}


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ({}, "Python 3.11 or newer is missing"),
        ({"python3": "exit 1"}, "Python 3.11 or newer is missing"),
        ({"df": "printf 'head\\nx 1 1 7999 1 /\\n'"}, "not enough disk"),
        ({"python3.11": '[ "$1" = -m ] && exit 1; exit 0'}, "has no working venv module"),
    ],
)
def test_one_clear_line_when_something_is_missing(tmp_path: Path, programs: dict[str, str], message: str) -> None:
    environment = fake_tools(tmp_path, **programs)
    result = subprocess.run([ROOT / "scripts/lib/env"], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("carryover: ") and message in last


def test_a_folder_that_is_no_environment_is_not_touched(tmp_path: Path) -> None:
    environment = fake_tools(tmp_path, **{"python3.11": "exit 0"})
    kept = tmp_path / "venv" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    result = subprocess.run([ROOT / "scripts/lib/env"], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and "is no Python environment" in result.stderr and kept.read_text() == "mine"
