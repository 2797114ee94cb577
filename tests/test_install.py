"""What `pip install` of the project gives: dependencies that fit together, commands that run outside the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PathDistribution, packages_distributions, version
from pathlib import Path

import pytest

from asr.errors import ModelError
from asr.pairing import PAIR, load_torchaudio
from tests.support.torchaudio_pair import need_torchaudio

ROOT = Path(__file__).parents[1]
PACKAGES = ("asr", "context_store", "clients/python/carryover", "server")
CLIENT = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=! ;]", requirement)[0].lower().replace("_", "-")


def test_torch_and_torchaudio_are_one_pair_everywhere() -> None:
    """pip cannot tell which torchaudio goes with which torch: both are named exactly, as the tests ran with them."""
    assert tuple(PROJECT["optional-dependencies"]["emformer"]) == PAIR
    assert [r for r in PROJECT["dependencies"] if name_of(r).startswith("torch")] == ["torch>=2.11"]
    held = {"requirements.lock": PAIR, "deploy/torch-cuda.lock": PAIR[:1], "deploy/requirements.lock": ()}
    for lock, named in held.items():
        lines = (ROOT / lock).read_text().splitlines()
        assert {line.rstrip(" \\") for line in lines if re.match(r"torch(audio)?==", line)} == set(named)
    need_torchaudio()  # or another torch is installed than the locked one
    assert {f"{name}=={version(name)}" for name in ("torch", "torchaudio")} == set(PAIR)


def test_a_pair_that_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    """A command that needs torchaudio says what to install, instead of an undefined symbol."""
    broken = tmp_path / "torchaudio"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise OSError('libtorchaudio.so: undefined symbol: torch_exception')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    manifest = str(ROOT / "samples/followups.jsonl")
    command = [sys.executable, "-m", "asr.commands.evaluate_wer", manifest, "--model", "EMFORMER_RNNT_BASE_LIBRISPEECH"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "undefined symbol" not in done.stderr
    assert f"-m pip install {' '.join(PAIR)}" in done.stderr


def test_a_missing_torchaudio_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(ModelError, match="install a pair, .* -m pip install torch==") as caught:
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
    used = {"carryover-client"}  # under its package's name
    extras = {"aiohttp", "av", "jinja2", "markupsafe"}  # of `web`, `media`, `eval`, in modules that only they load
    for package in ("asr", "context_store", "server"):
        at_once = imported(package, lazily=False)
        needed = {name: {name_of(d) for d in of.get(name, [name])} for name in at_once - extras}
        assert not {name for name, makers in needed.items() if not makers & wanted}, f"{package}: not declared"
        used |= {maker for name in imported(package, lazily=True) for maker in map(name_of, of.get(name, [name]))}
    assert not wanted - used, "declared and imported nowhere"
    wanted = {name_of(r) for r in CLIENT["dependencies"]}
    makers = [{name_of(d) for d in of.get(name, [name])} for name in imported("clients/python/carryover", lazily=False)]
    assert all(found & wanted for found in makers) and wanted <= set().union(*makers), "of the client"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment with our wheels, made from a checkout by the README's command.

    It sees the tests' third-party packages: installing them anew would take 5 GB, a path file stands for them. pip
    still checks that all that ours ask for is there, in a version that they take.
    """
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"  # a build leaves files behind
    for name in ("asr", "clients/python", "context_store", "server"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (site / "third_parties.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")) + "\n")
    (command,) = re.findall(
        r"pip install --no-compile (\./clients/python '\.\[local\]')", (ROOT / "README.md").read_text()
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    install = ["--python", str(folder / "venv/bin/python"), "install", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, *install, *shlex.split(command)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "venv/bin"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_wheel_recognises_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    names = ("asr", "carryover.v1", "context_store", "server")
    code = f"from importlib.util import find_spec; print(*(find_spec(name).origin for name in {names}))"
    place = run([str(installed / "python"), "-c", code], tmp_path)
    assert place.returncode == 0, place.stderr
    places = place.stdout.split()
    assert len(places) == len(names) and all(str(installed.parent) in file for file in places)
    demo = run([str(installed / "carryover"), "demo", "--json"], tmp_path)
    assert demo.returncode == 0, demo.stderr
    assert json.loads(demo.stdout)["expected"] == "bauer" and json.loads(demo.stdout)["status"] == "APPLIED"


def test_the_wheel_has_every_file_that_the_packages_need(installed: Path) -> None:
    site = next((installed.parent / "lib").glob("python*/site-packages"))
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                name = str(file.relative_to(ROOT)).removeprefix("clients/python/")
                assert (site / name).is_file(), name


def test_the_client_and_the_project_share_no_file(installed: Path) -> None:
    site = next((installed.parent / "lib").glob("python*/site-packages"))
    ours, client = (
        {str(file) for file in PathDistribution(next(site.glob(f"{name}-*.dist-info"))).files or ()}
        for name in ("carryover_asr", "carryover_client")
    )
    assert "carryover/client.py" in client and "server/app.py" in ours and not ours & client


def test_the_installed_commands_explain_themselves(installed: Path, tmp_path: Path) -> None:
    (one, other) = PROJECT["scripts"]
    for words in ((one,), (other,), (one, "serve")):
        done = run([str(installed / words[0]), *words[1:], "--help"], tmp_path)
        assert done.returncode == 0 and f"Usage: {' '.join(words)}" in done.stdout, done.stderr
