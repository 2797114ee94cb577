"""torchaudio beside the installed torch: they have to belong together, and pip does not see to it."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from asr.errors import ModelError

PAIR = ("torch==2.11.0", "torchaudio==2.11.0")
"""What pyproject.toml asks for, and the tests run with."""


def load_torchaudio() -> Any:
    """The module torchaudio.

    Raises:
        ModelError: it is missing, or was built for another release of torch.
    """
    try:
        for part in ("functional", "models", "pipelines", "transforms"):
            importlib.import_module(f"torchaudio.{part}")
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"torchaudio {_version('torchaudio')} cannot be loaded beside torch {_version('torch')}: install a pair, "
            f"python -m pip install {' '.join(PAIR)}"
        ) from error


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(missing)"
