"""carryover.v1.Context: events of dialogues in, what became of them out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from asr.context.types import Context
from asr.recognition.results import Hypothesis
from carryover.v1 import context_pb2 as pb
from context_store.validation import check_name
from server import logs
from server.access import Caller
from server.codec.context import (
    embedding_message,
    events_of,
    nbest_of,
    rescored_message,
    status_message,
)
from server.codec.fields import optional_turn, required_dialogue
from server.codec.inline_context import inline_context_of
from server.codec.wire import SMALL_BYTES
from server.contexts.builder import ContextBuilder
from server.contexts.handle import Status
from server.contexts.manager import ContextManager
from server.contexts.rescoring import ContextOutcome, ContextRescoring
from server.errors import InvalidRequestError
from server.quota import Quota
from server.scheduler import Scheduler, Work
from server.settings import Limits


class ContextService:
    """The service over one manager of contexts.

    Args:
        rescoring: of live results; lists are rescored in other threads.
        rescores: quota of Rescore calls.
        clock: seconds since 1970, the time of events without one.
    """

    def __init__(
        self,
        contexts: ContextManager,
        builder: ContextBuilder,
        rescoring: ContextRescoring,
        scheduler: Scheduler,
        limits: Limits,
        rescores: Quota,
        clock: Callable[[], float],
    ) -> None:
        self._contexts = contexts
        self._builder = builder
        self._rescoring = replace(rescoring, work=Work.RESCORE_LIST)
        self._scheduler = scheduler
        self._limits = limits
        self._rescores = rescores
        self._clock = clock
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def RecordEvents(self, request: pb.RecordEventsRequest, caller: Caller) -> pb.RecordEventsResponse:  # noqa: N802
        """Records events; starts the reply window when one of the turn's events expects speech."""
        dialogue = required_dialogue(caller.tenant, request.dialogue_id)
        turn = check_name("turn_id", request.turn_id)
        arguments = (request, self._clock(), self._limits)
        if request.ByteSize() > SMALL_BYTES:
            events = await self._scheduler.run(Work.DECODE, events_of, *arguments, tenant=caller.tenant)
        else:
            events = events_of(*arguments)
        triggered = await self._contexts.record(dialogue, turn, events)
        logs.note(dialogue=logs.short_hash(dialogue.id), events=len(events), triggered=triggered)
        return pb.RecordEventsResponse(triggered=triggered)

    async def GetContextStatus(  # noqa: N802
        self, request: pb.GetContextStatusRequest, caller: Caller
    ) -> pb.GetContextStatusResponse:
        """How far a turn's context is."""
        dialogue = required_dialogue(caller.tenant, request.dialogue_id)
        return status_message(await self._contexts.status(dialogue, optional_turn(request.turn_id)))

    async def GetContextEmbedding(  # noqa: N802
        self, request: pb.GetContextEmbeddingRequest, caller: Caller
    ) -> pb.GetContextEmbeddingResponse:
        """A turn's context as vectors."""
        dialogue = required_dialogue(caller.tenant, request.dialogue_id)
        return embedding_message(await self._contexts.embedding(dialogue, optional_turn(request.turn_id)))

    async def Rescore(self, request: pb.RescoreRequest, caller: Caller) -> pb.RescoreResponse:  # noqa: N802
        """Orders another recogniser's n-best list."""
        nbest = nbest_of(request, self._limits)
        source = request.WhichOneof("source")
        with self._rescores.one(caller.tenant):  # they share threads with recognition and with contexts
            if source == "context":
                outcome = await self._rescore_inline(caller, nbest, inline_context_of(request.context, self._limits))
            elif source == "dialogue_id":
                outcome = await self._rescore_stored(caller, nbest, request.dialogue_id, request.turn_id)
            else:
                raise InvalidRequestError("source", "set dialogue_id or context")
        return rescored_message(outcome, nbest[0].text)

    async def DeleteDialogue(  # noqa: N802
        self, request: pb.DeleteDialogueRequest, caller: Caller
    ) -> pb.DeleteDialogueResponse:
        """Erases a dialogue."""
        dialogue = required_dialogue(caller.tenant, request.dialogue_id)
        deleted = await self._contexts.erase(dialogue)
        logs.note(dialogue=logs.short_hash(dialogue.id), items_deleted=deleted)
        return pb.DeleteDialogueResponse(items_deleted=deleted)

    async def _rescore_stored(
        self, caller: Caller, nbest: tuple[Hypothesis, ...], dialogue_id: str, turn_id: str
    ) -> ContextOutcome:
        dialogue = required_dialogue(caller.tenant, dialogue_id)
        with self._contexts.attach(dialogue, optional_turn(turn_id)) as handle:
            await handle.answered.wait()  # nobody is speaking: there is time
            return await replace(self._rescoring, tenant=caller.tenant).apply(handle, nbest)

    async def _rescore_inline(self, caller: Caller, nbest: tuple[Hypothesis, ...], context: Context) -> ContextOutcome:
        if not self._contexts.enabled:
            return ContextOutcome(nbest, Status.DISABLED)
        async with self._turns[caller.tenant]:  # one of a tenant at a time: others' contexts use the encoder too
            bundle = await self._builder.build(context, search=False)
            return await replace(self._rescoring, tenant=caller.tenant).rescore(bundle, nbest)
