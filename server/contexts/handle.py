"""What a stream holds of its dialogue's context."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from asr.context.bundle import ContextBundle
from server.contexts.cache import State, TurnContext


class Status(Enum):
    """What became of a result's context; names as in the interface."""

    NOT_REQUESTED = "not requested"
    DISABLED = "disabled"
    NOT_FOUND = "not found"
    NOT_READY = "not ready"
    EXPIRED = "expired"
    FAILED = "failed"
    APPLIED = "applied"


@dataclass(frozen=True)
class NoContext:
    """Why there is no context for a turn now."""

    status: Status
    reason: str = ""
    """For the client; no user text."""


_NOT_ANSWERED = NoContext(Status.NOT_READY, "the store has not answered yet")
_PATIENCE_S = 1.0
"""So long what the store said last counts while it has not answered anew. Nobody has spoken and been silent in less, so
that it counts for nothing but audio that comes faster than it was spoken."""


class ContextHandle:
    """The context of one turn, for as long as the turn's stream is open: which one it is, is pushed here.

    None counts before the store has said what it knows of the dialogue: what is in memory may be of an older turn than
    another replica has recorded, or of a dialogue that was erased there.

    Args:
        clock: seconds since 1970.
        expired: whether a context is too old to be used.
        ask: asks the store in the background, and has `say` called with the number that it is given.
        unconfirmed_s: the longest that what the store said last counts while it has not answered anew.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        expired: Callable[[TurnContext], bool],
        ask: Callable[[int], None],
        unconfirmed_s: float,
    ) -> None:
        self.answered = asyncio.Event()
        """The store has said what it knows of the dialogue, or failed to, or there is nothing to ask it."""
        self.making: asyncio.Task[None] | None = None
        """Makes the context, where it is one that came with the request."""
        self._clock = clock
        self._expired = expired
        self._ask = ask
        self._patience_s = min(_PATIENCE_S, unconfirmed_s)
        self._asked = 0
        self._asked_s = 0.0
        self._heard = 0
        self._known = False
        self._absent = _NOT_ANSWERED
        self._pushed: TurnContext | None = None

    @property
    def context(self) -> TurnContext | None:
        """The context that applies, in whichever state."""
        return self._pushed if self._known and self._is_answered() else None

    def push(self, context: TurnContext | None) -> None:
        """From now on this context applies."""
        self._pushed = context

    def ask(self) -> None:
        """Ask the store again: an utterance begins."""
        self._asked += 1
        self._asked_s = time.monotonic()
        self._ask(self._asked)

    def say(self, number: int, absent: NoContext, *, known: bool = True) -> None:
        """The store has answered a question, and what is pushed is up to date.

        Args:
            number: of the question; an answer to an older one than the last answered counts for nothing.
            absent: why there is no context as long as none is pushed.
            known: False: there is no context, whatever is pushed.
        """
        if number >= self._heard:
            self._heard, self._known, self._absent = number, known, absent
        self.answered.set()

    def _is_answered(self) -> bool:
        """Has the store answered the last question, or may it take its time yet?"""
        return self._heard == self._asked or time.monotonic() - self._asked_s < self._patience_s

    def ready(self) -> ContextBundle | NoContext:
        """The bundle, if it is there now."""
        context = self.context
        if context is None:
            return self._absent if self._is_answered() else _NOT_ANSWERED
        if self._expired(context):
            return NoContext(Status.EXPIRED, "the context is too old to be used")
        if context.bundle is not None:
            return context.bundle
        if context.failure:  # it may be being made again
            return NoContext(Status.FAILED, context.failure)
        state, since_s = context.timeline[-1]
        waiting = f"{state.value} for {max(0.0, self._clock() - since_s) * 1000:.0f} ms"
        return NoContext(Status.NOT_READY, context.reason or waiting)

    @property
    def age_ms(self) -> float | None:
        """Milliseconds since the context was ready."""
        ready_s = self.context.entered(State.READY) if self.context else None
        return None if ready_s is None else max(0.0, self._clock() - ready_s) * 1000
