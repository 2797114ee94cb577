"""Packages of npm for tests, installed into the user's cache once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

_LEAST_NODE = 20
_INSTALLED_WITHIN_S = 120.0
_NPM = ("npm", "--loglevel=error", "--fetch-retries=0")


def installed(package: Path) -> Path:
    """The folder in the user's cache that has a copy of a folder with a package-lock.json, and what that names.

    Skips the test where there is no node and npm, or where the packages are not there yet and the registry cannot be
    reached, unless CARRYOVER_TEST_REGISTRY is "required".
    """
    name = package.name
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip(f"{name} needs node and npm on the path")
    node = subprocess.run(["node", "-p", "process.versions.node"], capture_output=True, text=True, check=True).stdout
    if int(node.split(".")[0]) < _LEAST_NODE:
        pytest.skip(f"{name} needs node {_LEAST_NODE} or newer; this is {node.strip()}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carryover"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(package.iterdir()))).hexdigest()
    folder = cache / f"{name}-{digest[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            shutil.copytree(package, made, dirs_exist_ok=True)
            _npm_install(name, Path(made))
            with suppress(OSError):  # another process was faster
                Path(made).rename(folder)
            Path(made).mkdir(exist_ok=True)  # to be removed
    return folder


def _npm_install(name: str, folder: Path) -> None:
    command = [*_NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALLED_WITHIN_S, check=False)
    if done.returncode:
        required = os.environ.get("CARRYOVER_TEST_REGISTRY") == "required"
        if not required and subprocess.run([*_NPM, "ping"], cwd=folder, capture_output=True, check=False).returncode:
            pytest.skip(f"{name} is not installed yet, and the npm registry cannot be reached")
        raise RuntimeError(f"npm does not install {name}: {done.stderr}")
