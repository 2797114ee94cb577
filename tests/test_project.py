"""The project's own promises: packages, commands, entry points, a lock without strangers."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from server.commands.main import COMMANDS, app

ROOT = Path(__file__).parents[1]
ENV = ROOT / "scripts/lib/env"
CLIENT = "clients/python/pyproject.toml"
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
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())
    for base, tops, wheel in ((ROOT, ("asr", "context_store", "server"), project),
                              (ROOT / "clients/python", ("carryover",), client)):  # fmt: skip
        folders = [path.parent for name in tops for path in (base / name).rglob("*.py")]
        names = {str(folder.relative_to(base)).replace("/", ".") for folder in folders}
        assert sorted(names) == wheel["tool"]["setuptools"]["packages"]
        assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_project_asks_for_the_client_of_this_checkout(project: dict[str, Any]) -> None:
    """They share the generated modules: an older client lacks fields that the server answers with."""
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    assert f"carryover-client>={client['version']}" in project["project"]["dependencies"]
    assert client["version"] == project["project"]["version"]


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


def test_one_command_has_every_installed_one_as_its_script_is_called(project: dict[str, Any]) -> None:
    assert project["project"]["scripts"] == dict.fromkeys(("carryover", "carryover-asr"), "server.commands.main:app")
    modules = {name.replace("_", "-"): module_of(name) for name in SCRIPTS if name not in OF_BASH}
    packages = ("asr.", "context_store.", "server.")
    installed = {name: module for name, module in modules.items() if module.startswith(packages)}
    assert {name: module for name, (module, _, _) in COMMANDS.items()} == installed | {
        "check-health": "server.commands.check_health"
    }


def test_its_help_lists_them_without_loading_them() -> None:
    """No library of models, stores or servers: they take seconds."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom server.commands.main import app\n"
        "result = CliRunner().invoke(app, ['--help'])\nprint(result.stdout)\nassert result.exit_code == 0\n"
        "print('loaded:', {name.partition('.')[0] for name in sys.modules}"
        " & {'asr', 'boto3', 'carryover', 'context_store', 'grpc', 'numpy', 'torch'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "loaded: set()" in done.stdout
    for name, (_, group, line) in COMMANDS.items():
        assert f"{name} " in done.stdout and group in done.stdout and line.split()[0] in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_of_them_is_loaded_when_it_is_called(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"], prog_name="carryover", catch_exceptions=False)
    assert result.exit_code == 0 and f"carryover {name}" in result.stdout
    command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
    assert (command.help or "").split()[0] in result.stdout


def test_a_command_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["serv"], prog_name="carryover")
    assert result.exit_code == 2 and "No such command 'serv'" in result.stderr and "serve" in result.stderr


def test_the_version_is_the_projects(project: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.stdout == f"carryover {project['project']['version']}\n"


def test_the_lock_names_everything_and_no_place() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|--index|--extra-index|--find-links|--trusted| @ ", lock)
    entries = re.split(r"\n(?=[a-z0-9])", lock)[1:]
    assert len(entries) > 50 and all("--hash=sha256:" in entry for entry in entries)
    locked = {re.split(r"[\[= ]", entry)[0] for entry in entries}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for name in ("dev", "emformer", "eval", "local", "otel", "web") for r in
              extras[name])]  # fmt: skip
    ours = {"carryover-asr", "carryover-client"}  # installed from the checkout
    assert {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} - ours <= locked and not ours & locked


def test_a_ready_environment_is_left_alone(tmp_path: Path) -> None:
    """A call with the stamp of this lock, project and place answers at once and does nothing."""
    environment = fake_tools(tmp_path, **{"python3.11": "exit 1"})
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/bash\nexit 9\n")
    python.chmod(0o755)
    for torch, more in (("locked", []), ("cpu", ["deploy/torch-cpu.txt"])):
        files = ("requirements.lock", "pyproject.toml", CLIENT, "clients/wyoming/pyproject.toml", *more)
        parts = [(ROOT / name).read_bytes() for name in files]
        whole = b"".join([*parts, f"{ROOT} {torch}\n".encode()])
        stamp = subprocess.run(["cksum"], input=whole, capture_output=True, check=True)
        (tmp_path / "venv" / "carryover.stamp").write_bytes(stamp.stdout)
        (tmp_path / "venv" / "carryover.torch").write_text(f"{torch}\n")  # what it was made with counts
        result = subprocess.run([ENV], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert (result.returncode, result.stdout, result.stderr) == (0, environment["CARRYOVER_VENV"] + "\n", "")
    (tmp_path / "venv" / "carryover.stamp").write_text("of another lock")
    result = subprocess.run([ENV], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and result.stderr


PYTHON = r"""
[ "$1" = -c ] && exit 0
mkdir -p "$4/bin"
: >"$4/pyvenv.cfg"
printf '#!/bin/bash\necho "$@" >>{log}\n' >"$4/bin/python"
chmod 755 "$4/bin/python"
"""


def test_what_is_installed_with_the_cpu_build_of_torch_and_without(tmp_path: Path) -> None:
    """As pip is called: the lock by its hashes, that build, our two distributions."""
    log = tmp_path / "log"
    environment = fake_tools(tmp_path, **{"python3.11": PYTHON.replace("{log}", str(log))})
    venv = tmp_path / "venv"

    def installs(**more: str) -> list[str]:
        log.write_text("")
        subprocess.run([ENV], capture_output=True, check=True, env=environment | more)
        return [line for line in log.read_text().splitlines() if line.startswith("-m pip")]

    ours = " ".join(f"--editable {place}" for place in (ROOT / "clients/python", ROOT / "clients/wyoming", ROOT))
    ours = f"--no-deps --no-build-isolation {ours}"
    lock, build, last = installs(CARRYOVER_TORCH="cpu")
    assert lock.endswith(f"--require-hashes -r {venv}/requirements.lock") and last.endswith(ours)
    assert build.endswith(f"--retries 1 --timeout 15 -r {ROOT}/deploy/torch-cpu.txt")
    whole, rest = ((place / "requirements.lock").read_text() for place in (ROOT, venv))
    assert re.search(r"^nvidia-|^torch==|^triton==", whole, re.MULTILINE)
    assert not re.search(r"^(nvidia-.*|cuda-.*|torch|torchaudio|triton)==", rest, re.MULTILINE)
    part = subprocess.run([ROOT / "scripts/lib/split_lock", "torch", ROOT / "requirements.lock"], capture_output=True)
    assert sorted((rest + part.stdout.decode()).splitlines()) == sorted([*whole.splitlines(), *comments(whole)])
    assert installs() == []  # it stays as it was made
    lock, last = installs(CARRYOVER_TORCH="locked")
    assert lock.endswith(f"--require-hashes -r {ROOT}/requirements.lock") and last.endswith(ours)
    assert installs() == []


def comments(lock: str) -> list[str]:
    """The comments that both parts of a lock keep."""
    return [line for line in lock.splitlines() if line.startswith("#")]


def fake_tools(folder: Path, **programs: str) -> dict[str, str]:
    """An environment whose PATH holds the system's tools, no Python and no uv but those given as shell scripts."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("bash", "cat", "chmod", "cksum", "dirname", "env", "mkdir", "df", "awk", "ls", "flock", "tail"):
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
        ({"torch": "cpu", "df": "printf 'head\\nx 1 1 2999 1 /\\n'"}, "needs 3000 MB"),
        ({"torch": "gpu"}, "set it to cpu (a CPU build of torch) or locked"),
    ],
)
def test_one_clear_line_when_something_is_missing(tmp_path: Path, programs: dict[str, str], message: str) -> None:
    torch = {"CARRYOVER_TORCH": programs["torch"]} if "torch" in programs else {}
    environment = fake_tools(tmp_path, **{name: text for name, text in programs.items() if name != "torch"}) | torch
    result = subprocess.run([ENV], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("carryover: ") and message in last


def test_a_folder_that_is_no_environment_is_not_touched(tmp_path: Path) -> None:
    environment = fake_tools(tmp_path, **{"python3.11": "exit 0"})
    kept = tmp_path / "venv" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    result = subprocess.run([ENV], capture_output=True, text=True, env=environment)
    assert result.returncode == 1 and "is no Python environment" in result.stderr and kept.read_text() == "mine"
