"""Waiting for what happens soon, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 30.0
_POLL_S = 0.01

PATIENT = {
    "CARRYOVER_STORE__CONNECT_TIMEOUT_S": "20", "CARRYOVER_STORE__READ_TIMEOUT_S": "20",
    "CARRYOVER_CONTEXT__DEADLINE_S": "60",
}  # fmt: skip
"""Settings of servers in processes of their own on machines that are busy with something else."""


def until(holds: Callable[[], object]) -> None:
    """Waits until a condition holds. Raises AssertionError when it does not for half a minute."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "what was waited for did not happen"
        time.sleep(_POLL_S)
