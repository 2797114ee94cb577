"""How long to wait for a context, and how often to ask."""

from __future__ import annotations

import time

from carryover.errors import NotReadyError
from carryover.results import ContextStatus

_FIRST_S, _MOST_S, _GROWTH = 0.02, 0.25, 1.5
_ADVICE = {
    "RECORDED": "no event of the turn expects speech, so none is made; record expect_speech",
    "FAILED": "it could not be made",
    "EXPIRED": "it is older than the server keeps it",
}


_ADVICE_OF_TURN = {
    "DROPPED": "it was dropped; record the turn's events again, or open the next turn's stream, to have it made",
    "SUPERSEDED": "a newer turn's is made in its place; wait for that one",
}
"""By outcome, of a named turn. Asking for the latest context has a dropped one made again, or finds the newer one."""


class Readiness:
    """A wait for a context.

    Args:
        timeout_s: for all of it, seconds.
        turn: whose; empty: the latest.
    """

    def __init__(self, timeout_s: float, turn: str) -> None:
        self._timeout_s = timeout_s
        self._outcomes = _ADVICE_OF_TURN if turn else {}
        self._ends_s = time.monotonic() + timeout_s
        self._pause_s = _FIRST_S

    @property
    def left_s(self) -> float:
        """Seconds that are left; never so few that the server could not be asked at all."""
        return max(1.0, self._ends_s - time.monotonic())

    def reached(self, status: ContextStatus) -> bool:
        """Whether the context is ready. Raises NotReadyError when it will not be, or not in time."""
        if status.state == "READY":
            return True
        problem = _ADVICE.get(status.state) or self._outcomes.get(status.outcome)
        if problem is None and time.monotonic() >= self._ends_s:
            problem = f"it is {status.state} after {self._timeout_s:g} s"
        if problem is None:
            return False
        raise NotReadyError(
            f"the context of turn {status.turn}: {problem}" + f" ({status.reason})" * bool(status.reason)
        )

    def pause_s(self) -> float:
        """Seconds until the next question; more each time."""
        pause_s, self._pause_s = self._pause_s, min(_MOST_S, self._pause_s * _GROWTH)
        return max(0.0, min(pause_s, self._ends_s - time.monotonic()))
