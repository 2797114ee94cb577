"""torchaudio beside the installed torch: they have to belong together, and pip does not see to it.

Only what is torchaudio's own needs it: its Emformer bundles, its search (to measure ours against) and its forced
alignment (in training). All else runs with any torch, a CPU build included.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from asr.errors import ModelError

PAIR = ("torch==2.11.0", "torchaudio==2.11.0")
"""What the extra `emformer` asks for, and the tests run with."""
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
"""Where CPU builds of both are."""


def load_torchaudio() -> Any:
    """The module torchaudio.

    Raises:
        ModelError: it is missing, or was built for another release of torch, or for CUDA and torch was not.
    """
    try:
        for part in ("functional", "models", "pipelines", "transforms"):
            importlib.import_module(f"torchaudio.{part}")
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"this takes the extra `emformer`: torchaudio {_version('torchaudio')} cannot be loaded beside torch "
            f"{_version('torch')}; install a pair, {shlex.quote(sys.executable)} -m pip install {' '.join(PAIR)} "
            f"(CPU builds: with --index-url {CPU_BUILDS})"
        ) from error


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(missing)"
