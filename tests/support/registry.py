"""Environments of other packages than the tests' own, made once outside the checkout from the package registry."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carryover"

_MADE_WITHIN_S = 900.0


class RegistryError(Exception):
    """Packages could not be installed."""


@contextmanager
def skip_where_out_of_reach(error: type[Exception] = RegistryError) -> Iterator[None]:
    """Skips the test where the registry cannot be reached, unless CARRYOVER_TEST_REGISTRY is "required"."""
    try:
        yield
    except error as problem:
        if os.environ.get("CARRYOVER_TEST_REGISTRY") == "required":
            raise
        pytest.skip(f"the package registry cannot be reached: {problem}")


def environment_with(requirements: Sequence[str], made_in: str = "") -> Path:
    """The Python of an environment that has exactly these packages and what they need, nothing of the tests' own.

    It is made at the first call and kept. made_in: a period, in each of which it is made anew. Raises RegistryError.
    """
    asked = " ".join((f"{sys.version_info.major}.{sys.version_info.minor}", made_in, *requirements))
    folder = CACHE / "environments" / hashlib.sha256(asked.encode()).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:  # a folder that is there is complete
            made = Path(place, "environment")
            venv.create(made, with_pip=False, symlinks=True)
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made / "bin/python")]
            command += ["install", "--quiet", "--retries", "1", *requirements]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_MADE_WITHIN_S)
            except subprocess.TimeoutExpired:
                raise RegistryError(f"pip took longer than {_MADE_WITHIN_S / 60:g} minutes") from None
            if done.returncode:
                raise RegistryError((done.stderr.strip() or "pip failed").splitlines()[-1])
            if not folder.exists():
                made.rename(folder)
    return folder / "bin/python"
