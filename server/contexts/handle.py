"""What a stream holds of its dialogue's context."""

from __future__ import annotations

import asyncio
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


class ContextHandle:
    """The context of one turn, for as long as the turn's stream is open: which one it is, is pushed here.

    Args:
        clock: seconds since 1970.
        expired: whether a context is too old to be used.
        absent: why there is no context, as long as none is pushed.
    """

    def __init__(self, clock: Callable[[], float], expired: Callable[[TurnContext], bool], absent: NoContext) -> None:
        self.context: TurnContext | None = None
        """The context that applies, in whichever state."""
        self.absent = absent
        """Why there is none while `context` is None."""
        self.answered = asyncio.Event()
        """The store has said what it knows of the dialogue, or there is nothing to ask it."""
        self._clock = clock
        self._expired = expired

    def push(self, context: TurnContext | None) -> None:
        """From now on this context applies."""
        self.context = context

    def ready(self) -> ContextBundle | NoContext:
        """The bundle, if it is there now."""
        context = self.context
        if context is None:
            return self.absent
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
