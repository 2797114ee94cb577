"""What `pip install` of the project gives: dependencies that fit together, commands that run outside the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from asr.errors import ModelError
from asr.pairing import PAIR, load_torchaudio

ROOT = Path(__file__).parents[1]
PACKAGES = ("asr", "context_store", "clients/python/carryover", "server")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=! ;]", requirement)[0].lower().replace("_", "-")


def test_torch_and_torchaudio_are_one_pair_everywhere() -> None:
    """pip cannot tell which torchaudio goes with which torch: both are named exactly, as the tests ran with them."""
    wanted = [r for r in PROJECT["dependencies"] if name_of(r) in ("torch", "torchaudio")]
    assert tuple(wanted) == PAIR
    for lock in ("requirements.lock", "deploy/requirements.lock"):
        lines = (ROOT / lock).read_text().splitlines()
        assert {line.rstrip(" \\") for line in lines if re.match(r"torch(audio)?==", line)} == set(PAIR)
    assert {f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchaudio")} == set(PAIR)


def test_a_pair_that_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    """A command that needs a model says what to install, instead of an undefined symbol."""
    broken = tmp_path / "torchaudio"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise OSError('libtorchaudio.so: undefined symbol: torch_exception')\n")
    line = json.dumps({"id": "a", "path": str(ROOT / "server/demo/audio/bauer.flac"), "text": "bauer"})
    (tmp_path / "list.jsonl").write_text(line + "\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "asr.commands.transcribe", "list.jsonl", "--out", "-"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "undefined symbol" not in done.stderr
    assert f"python -m pip install {' '.join(PAIR)}" in done.stderr


def test_a_missing_torchaudio_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(ModelError, match="install a pair, python -m pip install torch==") as caught:
        load_torchaudio()
    assert len(str(caught.value).splitlines()) == 1


def imported(folder: str, *, lazily: bool) -> set[str]:
    """Top-level names that the modules of a package import; lazily: also inside of functions."""
    names = set()
    for file in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree) if lazily else tree.body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
    return names - {"asr", "carryover", "context_store", "server"} - set(sys.stdlib_module_names)


def test_every_import_is_declared_and_everything_declared_is_used() -> None:
    brings = {"aws_cryptographic_material_providers": ["aws-encryption-sdk"], "botocore": ["boto3"]}
    of = {**packages_distributions(), **brings}
    wanted = {name_of(r) for r in PROJECT["dependencies"]}
    used = {"torch", "torchaudio"}  # torchaudio by name, in asr.pairing
    for package in ("asr", "context_store", "server"):
        at_once = imported(package, lazily=False)
        needed = {name: {name_of(d) for d in of.get(name, [name])} for name in at_once}
        assert not {name for name, makers in needed.items() if not makers & wanted}, f"{package}: not declared"
        used |= {maker for name in imported(package, lazily=True) for maker in map(name_of, of.get(name, [name]))}
    client = imported("clients/python/carryover", lazily=True)
    used |= {maker for name in client for maker in map(name_of, of.get(name, [name]))}
    assert not wanted - used, "declared and imported nowhere"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment with our wheel, which sees the tests' third-party packages, not our checkout.

    Installing the packages anew would take 5 GB: a path file stands for them.
    """
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    source = folder / "source"  # a build leaves files behind
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "third_parties.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")) + "\n")
    return folder / "venv/bin"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_wheel_recognises_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    names = "asr, carryover.v1, context_store, server"
    code = f"import {names}; print(*(module.__file__ for module in ({names})))"
    place = run([str(installed / "python"), "-c", code], tmp_path)
    assert place.returncode == 0, place.stderr
    assert all(str(installed.parent) in file and str(ROOT) not in file for file in place.stdout.split())
    demo = run([str(installed / "carryover-demo"), "--json"], tmp_path)
    assert demo.returncode == 0, demo.stderr
    assert json.loads(demo.stdout)["expected"] == "bauer" and json.loads(demo.stdout)["status"] == "APPLIED"


def test_the_wheel_has_every_file_that_the_packages_need(installed: Path) -> None:
    site = next((installed.parent / "lib").glob("python*/site-packages"))
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                name = str(file.relative_to(ROOT)).removeprefix("clients/python/")
                assert (site / name).is_file(), name


def test_every_installed_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    for name in PROJECT["scripts"]:
        assert (installed / name).is_file(), name
    check = "from importlib.metadata import entry_points\nfor e in entry_points(group='console_scripts'):\n" \
            "    if e.name.startswith('carryover-'): e.load()"  # fmt: skip
    loaded = run([str(installed / "python"), "-c", check], tmp_path)
    assert loaded.returncode == 0, loaded.stderr
