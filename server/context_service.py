"""carryover.v1.Context: events of dialogues in, what became of them out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from asr.context.types import Context, ContextEmbedding, Entry, Turn
from asr.recognition.results import Hypothesis
from carryover.v1 import context_pb2 as pb
from carryover.v1.recognizer_pb2 import ContextInfo
from context_store import Event
from context_store.validation import MAX_EVENTS_PER_CALL
from server import logs, results
from server.access import Caller
from server.context_use import ContextSource, Used
from server.embedding_cache import State, TurnContext
from server.encoder_thread import EncoderThread
from server.errors import InvalidRequestError, LimitError, NotFoundError
from server.events import check_entry_id, check_signal, event_of
from server.quota import Places
from server.reply_window import ReplyWindow
from server.requests import check_id, dialogue_and_turn, required_dialogue, too_many_events
from server.settings import Limits
from server.store_threads import StoreThreads
from server.wire import SMALL_BYTES

_SPEAKERS = {pb.ContextTurn.USER: "user", pb.ContextTurn.SYSTEM: "system"}


class ContextService:
    """The service over one store. window: None when context is switched off; events are recorded all the same. beside:
    does work of a tenant in a thread that audio does not wait for."""

    def __init__(
        self,
        store: StoreThreads,
        window: ReplyWindow | None,
        contexts: ContextSource,
        encoder: EncoderThread,
        limits: Limits,
        clock: Callable[[], float],
        beside: Callable[..., Awaitable[Any]],
    ) -> None:
        self._store = store
        self._window = window
        self._contexts = contexts
        self._encoder = encoder
        self._limits = limits
        self._clock = clock
        self._beside = beside
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rescores = Places("rescores", "lists are being rescored", limits.rescores, limits.tenant_rescores)

    async def RecordEvents(self, request: pb.RecordEventsRequest, caller: Caller) -> pb.RecordEventsResponse:  # noqa: N802
        """Records events; starts the reply window when one of the turn's events expects speech."""
        dialogue = required_dialogue(caller.tenant, request.dialogue_id)
        turn = check_id("turn_id", request.turn_id)
        if not request.events:
            raise InvalidRequestError("events", "is empty; send at least one event")
        if len(request.events) > MAX_EVENTS_PER_CALL:
            raise too_many_events()
        now = self._clock()
        large = request.ByteSize() > SMALL_BYTES
        events = await self._beside(caller.tenant, self._events, request, now) if large else self._events(request, now)
        recorded = await self._store.run(self._store.store.record, dialogue, turn, events)
        triggered = False
        if self._window is not None:
            if recorded.generation:
                self._window.begin_anew(dialogue, recorded.generation)
            triggered = recorded.trigger and self._window.trigger(dialogue, turn, recorded)
        logs.note(dialogue=logs.short_hash(dialogue.id), events=len(events), triggered=triggered)
        return pb.RecordEventsResponse(triggered=triggered)

    def _events(self, request: pb.RecordEventsRequest, now_s: float) -> list[Event]:
        return [event_of(event, f"events[{i}]", now_s, self._limits) for i, event in enumerate(request.events)]

    async def GetContextStatus(  # noqa: N802
        self, request: pb.GetContextStatusRequest, caller: Caller
    ) -> pb.GetContextStatusResponse:
        """How far a turn's context is."""
        found = await self._status(caller, request.dialogue_id, request.turn_id)
        response = pb.GetContextStatusResponse(
            state=_state(found.state),
            reason=found.reason,
            turn_id=found.turn,
            timeline=[pb.StateTime(state=_state(state)) for state, _ in found.timeline],
        )
        for entry, (_, time_s) in zip(response.timeline, found.timeline, strict=True):
            entry.time.FromNanoseconds(int(time_s * 1e9))
        if found.state in (State.READY, State.EXPIRED):
            response.expires_at.FromNanoseconds(int(found.expires_s * 1e9))
        return response

    async def GetContextEmbedding(  # noqa: N802
        self, request: pb.GetContextEmbeddingRequest, caller: Caller
    ) -> pb.GetContextEmbeddingResponse:
        """A turn's context as vectors."""
        found = await self._status(caller, request.dialogue_id, request.turn_id, certain=True)
        embedding = found.embedding
        if embedding is None:
            raise NotFoundError(f"the turn's context is {found.state.value}{_advice(found)}")
        return pb.GetContextEmbeddingResponse(
            turn_id=found.turn,
            model_version=embedding.model_version,
            shape=embedding.vectors.shape,
            values=embedding.vectors.ravel().tolist(),
            summary=embedding.summary.tolist(),
            phrases=[pb.ContextPhrase(phrase=p.text, signal=p.signal, weight=p.weight) for p in embedding.phrases],
        )

    async def Rescore(self, request: pb.RescoreRequest, caller: Caller) -> pb.RescoreResponse:  # noqa: N802
        """Orders another recogniser's n-best list."""
        nbest = self._nbest(request)
        source = request.WhichOneof("source")
        with self._rescores.one(caller.tenant):  # they share threads with recognition and with contexts
            if source == "context":
                used = await self._rescore_inline(caller, nbest, self._inline_context(request.context))
            elif source == "dialogue_id":
                used = await self._rescore_stored(caller, nbest, request.dialogue_id, request.turn_id)
            else:
                raise InvalidRequestError("source", "set dialogue_id or context")
        return pb.RescoreResponse(
            nbest=[pb.RescoredEntry(text=h.text, score=h.score, from_context=h.from_context) for h in used.nbest],
            context=results.context_info(used, nbest[0].text),
        )

    async def DeleteDialogue(  # noqa: N802
        self, request: pb.DeleteDialogueRequest, caller: Caller
    ) -> pb.DeleteDialogueResponse:
        """Erases a dialogue."""
        dialogue = required_dialogue(caller.tenant, request.dialogue_id)
        if self._window is not None:
            deleted = await self._window.erase(dialogue)
        else:
            deleted = await self._store.run(self._store.store.delete_dialogue, dialogue)
        logs.note(dialogue=logs.short_hash(dialogue.id), items_deleted=deleted)
        return pb.DeleteDialogueResponse(items_deleted=deleted)

    async def _status(self, caller: Caller, dialogue_id: str, turn_id: str, *, certain: bool = False) -> TurnContext:
        dialogue = required_dialogue(caller.tenant, dialogue_id)
        _, turn = dialogue_and_turn(caller.tenant, dialogue_id, turn_id)
        found = await self._ready_window().status(dialogue, turn, certain=certain)
        if found is None:
            raise NotFoundError(f"nothing is recorded of the {'turn' if turn else 'dialogue'}; record its events first")
        return found

    def _ready_window(self) -> ReplyWindow:
        if self._window is None:
            raise NotFoundError("the server runs with context switched off (its setting is context.enabled)")
        return self._window

    async def _rescore_stored(
        self, caller: Caller, nbest: tuple[Hypothesis, ...], dialogue_id: str, turn_id: str
    ) -> Used:
        dialogue, turn = dialogue_and_turn(caller.tenant, check_id("dialogue_id", dialogue_id), turn_id)
        use = self._source(caller).open(dialogue, turn)
        await use.settled()
        return await use.apply(nbest, (), None)

    async def _rescore_inline(self, caller: Caller, nbest: tuple[Hypothesis, ...], context: Context) -> Used:
        if self._window is None:
            return Used(nbest, ContextInfo.DISABLED)
        async with self._turns[caller.tenant]:  # one of a tenant at a time: others' contexts use the encoder too
            embedding: ContextEmbedding = await self._encoder.encode(context)
            return await self._source(caller).rescore(nbest, (), embedding, None, Used(nbest, ContextInfo.APPLIED))

    def _source(self, caller: Caller) -> ContextSource:
        """Contexts that are used beside recognition: nobody is speaking."""
        return replace(self._contexts, run=partial(self._beside, caller.tenant))

    def _nbest(self, request: pb.RescoreRequest) -> tuple[Hypothesis, ...]:
        entries = request.nbest
        if not entries:
            raise InvalidRequestError("nbest", "is empty; send at least one entry")
        if len(entries) > self._limits.nbest:
            raise LimitError("nbest", f"nbest: {len(entries)} entries; send at most {self._limits.nbest}")
        scored = [entry.HasField("score") for entry in entries]
        if any(scored) != all(scored):
            raise InvalidRequestError("nbest.score", "set it in every entry or in none")
        for i, entry in enumerate(entries):
            _check_length(entry.text, f"nbest[{i}].text", self._limits)
            if not abs(entry.score) < float("inf"):
                raise InvalidRequestError(f"nbest[{i}].score", "send a finite number")
        return tuple(
            Hypothesis(text=entry.text, acoustic=entry.score if any(scored) else -float(i))
            for i, entry in enumerate(entries)
        )

    def _inline_context(self, inline: pb.InlineContext) -> Context:
        for name, found, most in (
            ("turns", len(inline.turns), self._limits.turns),
            ("entries", len(inline.entities), self._limits.entries),
        ):
            if found > most:
                raise LimitError(name, f"context: {found} {name}; send at most {most}")
        turns = []
        for i, turn in enumerate(inline.turns):
            if turn.speaker not in _SPEAKERS:
                raise InvalidRequestError(f"context.turns[{i}].speaker", "set USER or SYSTEM")
            _check_length(turn.text, f"context.turns[{i}].text", self._limits)
            turns.append(Turn("user" if turn.speaker == pb.ContextTurn.USER else "system", turn.text))
        for i, entities in enumerate(inline.entities):
            check_signal(f"context.entities[{i}].signal", entities.signal)
        entries = []
        for i, entities in enumerate(inline.entities):
            entries += [Entry(entities.signal, text) for text in entities.entries]
            entries += [
                Entry(entities.signal, item.text, check_entry_id(f"context.entities[{i}].items.id", item.id))
                for item in entities.items
            ]
        if len(entries) > self._limits.entries:
            most = self._limits.entries
            raise LimitError("entries", f"context.entities: {len(entries)} entries; send at most {most}")
        for entry in entries:
            if len(entry.text) > self._limits.phrase_characters:
                longest = self._limits.phrase_characters
                raise LimitError("phrase_characters", f"context.entities: an entry is longer than {longest} characters")
        return Context(tuple(turns), tuple(entries))


def _check_length(text: str, field: str, limits: Limits) -> None:
    if len(text) > limits.text_characters:
        raise LimitError("text_characters", f"{field}: {len(text)} characters; send at most {limits.text_characters}")


def _advice(context: TurnContext) -> str:
    """What there is to do about a context that is not ready."""
    if context.reason:
        return f" ({context.reason}); send the turn's events again, or open the next turn's stream, to have it made"
    if context.state is State.RECORDED:
        return ": no event of the turn expects speech; record one that does"
    if context.state is State.EXPIRED:
        return ": it is too old; record a new turn that expects speech"
    return "; wait until GetContextStatus says READY"


def _state(state: State) -> pb.ContextState:
    return getattr(pb, state.name)  # type: ignore[no-any-return]
