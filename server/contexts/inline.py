"""Contexts that come with a stream: made in the background like those of dialogues, kept nowhere else."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asr.context.types import Context
from context_store import DialogueId
from server import logs
from server.contexts.builder import ContextBuilder
from server.contexts.cache import Outcome, State, TurnContext
from server.contexts.handle import ContextHandle, NoContext, Status
from server.settings import ContextSettings


class InlineContexts:
    """Makes contexts that are stored nowhere, one of a tenant at a time. Belongs to one event loop.

    Args:
        late: whether audio is late, so that no context is made.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        builder: ContextBuilder,
        settings: ContextSettings,
        *,
        late: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._builder = builder
        self._settings = settings
        self._late = late
        self._clock = clock
        self._ticks = itertools.count()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @contextmanager
    def attach(self, context: Context, tenant: str) -> Iterator[ContextHandle]:
        """The handle on a context, which is being made; one without turns and entries counts as none.

        What was dropped or has failed is made again when the handle asks. Nothing is left of it behind.
        """
        made = TurnContext(
            DialogueId(tenant, "-"),
            turn="",
            version=0,
            order=(0, 0.0, ""),
            expires_s=float("inf"),
            stored_until=0,
            tick=next(self._ticks),
            timeline=[(State.TRIGGERED, self._clock())],
        )

        wanted = bool(context) and self._settings.enabled
        absent = NoContext(Status.NOT_REQUESTED if self._settings.enabled else Status.DISABLED)

        def ask(number: int) -> None:
            if wanted and made.bundle is None and (handle.making is None or handle.making.done()):
                handle.making = asyncio.get_running_loop().create_task(self._make(made, context, tenant))
            handle.say(number, absent)  # there is no store to be waited for

        handle = ContextHandle(self._clock, lambda context: False, ask, 0.0)
        if wanted:
            handle.push(made)
        handle.ask()
        try:
            yield handle
        finally:
            if handle.making is not None:
                handle.making.cancel()

    async def _make(self, made: TurnContext, context: Context, tenant: str) -> None:
        if self._late():
            made.outcome, made.reason = Outcome.DROPPED, "dropped: the server is busy with audio"
            return
        try:
            async with asyncio.timeout(self._settings.deadline_s), self._turns[tenant]:
                made.enter(State.ENCODING, self._clock())
                made.bundle = await self._builder.build(context)
        except TimeoutError:
            self._fail(made, f"not ready {self._settings.deadline_s:g} s after it was sent")
        except Exception as error:
            logs.failure("context_failed", error)
            self._fail(made, f"{type(error).__name__} while encoding")
        else:
            made.enter(State.READY, self._clock())
            made.outcome = Outcome.MADE

    def _fail(self, made: TurnContext, reason: str) -> None:
        made.enter(State.FAILED, self._clock())
        made.outcome, made.reason, made.failure = Outcome.FAILED, reason, reason
