"""Waiting for what happens soon, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 30.0
_POLL_S = 0.01


def until(holds: Callable[[], object]) -> None:
    """Waits until a condition holds. Raises AssertionError when it does not for half a minute."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "what was waited for did not happen"
        time.sleep(_POLL_S)
