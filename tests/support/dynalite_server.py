"""Another DynamoDB for tests: dynalite of npm, which shares no code with moto, installed into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

NOT_ON_DYNALITE = {
    "test_erasure.py::test_point_in_time_recovery_of_the_keys_is_noticed": "it has no point-in-time recovery",
    "test_events.py::test_without_expect_speech_nothing_is_read_or_decrypted": (
        "its failed conditions bring no item, so that of a repeated event is read (and not decrypted)"
    ),
    "test_lifetime.py::test_tables_are_made_once_with_expiry_on": "it has no UpdateTimeToLive",
    "test_lifetime.py::test_the_command": "it has no UpdateTimeToLive",
}
"""Tests of tests/context_store that cannot pass there, and why. One that passes is a failure."""

_PACKAGE = Path(__file__).parent / "dynalite"
"""Its version and those of all that it needs are in package-lock.json, with their digests."""
_LEAST_NODE = 20
_INSTALLED_WITHIN_S = 120.0
_NPM = ("npm", "--loglevel=error", "--fetch-retries=0")


@contextmanager
def dynalite_server() -> Iterator[str]:
    """URL of a server of its own, with nothing in it. Skips the test where it can be neither found nor installed."""
    server = subprocess.Popen(
        ["node", "serve.js"], cwd=_installed(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port, "dynalite has not started; what it says is above"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.communicate()  # closes its standard input, with which it ends


def _installed() -> Path:
    """The folder in the user's cache that it is installed in."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("dynalite needs node and npm on the path")
    node = subprocess.run(["node", "-p", "process.versions.node"], capture_output=True, text=True, check=True).stdout
    if int(node.split(".")[0]) < _LEAST_NODE:
        pytest.skip(f"dynalite needs node {_LEAST_NODE} or newer; this is {node.strip()}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carryover"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_PACKAGE.iterdir()))).hexdigest()
    folder = cache / f"dynalite-{digest[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            shutil.copytree(_PACKAGE, made, dirs_exist_ok=True)
            _npm_install(Path(made))
            with suppress(OSError):  # another process was faster
                Path(made).rename(folder)
            Path(made).mkdir(exist_ok=True)  # to be removed
    return folder


def _npm_install(folder: Path) -> None:
    command = [*_NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALLED_WITHIN_S, check=False)
    if done.returncode:
        if subprocess.run([*_NPM, "ping"], cwd=folder, capture_output=True, check=False).returncode:
            pytest.skip("dynalite is not installed yet, and the npm registry cannot be reached")
        raise RuntimeError(f"npm does not install dynalite: {done.stderr}")
