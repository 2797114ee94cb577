"""How to install the packages that only some commands need."""

from __future__ import annotations

import shlex
import sys


def install_hint(extra: str) -> str:
    """The command that brings an extra of pyproject.toml into the environment that runs, from a checkout or a wheel."""
    return f"{shlex.quote(sys.executable)} -m pip install 'carryover-asr[{extra}]'"
