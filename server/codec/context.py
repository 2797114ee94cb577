"""Messages of carryover.v1.Context: events, lists and contexts in, states and embeddings out."""

from __future__ import annotations

from asr.recognition.results import Hypothesis
from carryover.v1 import context_pb2 as pb
from context_store import Body, Entities, Event, ExpectSpeech, Reply, Speak, Transcribe, Utterance
from context_store.validation import check_events, check_name
from server.codec.fields import check_text
from server.codec.inline_context import count_entries, entries_of
from server.codec.recognition import context_info
from server.contexts.cache import State, TurnContext
from server.contexts.rescoring import ContextOutcome
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits

_TIMES = range(100_000_000_000)  # seconds since 1970; what is later was meant as milliseconds


# Requests


def events_of(request: pb.RecordEventsRequest, now_s: float, limits: Limits) -> list[Event]:
    """A request's events.

    Args:
        now_s: the time of those that have none.

    Raises:
        InvalidRequestError: one has an empty or unknown body.
        InvalidEventError: there are none, or an id is malformed.
        TooLargeError: there are more than the store takes in a call.
        LimitError: a text or a list is too long.
    """
    events = [_event(event, f"events[{i}]", now_s, limits) for i, event in enumerate(request.events)]
    check_events(events)  # the store would, but in a thread of its own, which may have to be waited for
    return events


def nbest_of(request: pb.RescoreRequest, limits: Limits) -> tuple[Hypothesis, ...]:
    """Another recogniser's list. Without scores the rank counts. Raises InvalidRequestError, LimitError."""
    entries = request.nbest
    if not entries:
        raise InvalidRequestError("nbest", "is empty; send at least one entry")
    if len(entries) > limits.nbest:
        raise LimitError("nbest", f"nbest: {len(entries)} entries; send at most {limits.nbest}")
    scored = [entry.HasField("score") for entry in entries]
    if any(scored) != all(scored):
        raise InvalidRequestError("nbest.score", "set it in every entry or in none")
    for i, entry in enumerate(entries):
        check_text(f"nbest[{i}].text", entry.text, limits)
        if not abs(entry.score) < float("inf"):
            raise InvalidRequestError(f"nbest[{i}].score", "send a finite number")
    return tuple(
        Hypothesis(text=entry.text, acoustic=entry.score if any(scored) else -float(i))
        for i, entry in enumerate(entries)
    )


def _event(event: pb.Event, field: str, now_s: float, limits: Limits) -> Event:
    check_name(f"{field}.event_id", event.event_id)
    if event.time.seconds not in _TIMES or event.time.nanos not in range(1_000_000_000):
        advice = "send seconds since 1970 and nanos from 0 to 999,999,999, or nothing"
        raise InvalidRequestError(f"{field}.time", advice)
    time_s = event.time.seconds + event.time.nanos / 1e9 if event.HasField("time") else now_s
    return Event(event.event_id, time_s, _body(event, field, limits))


def _body(event: pb.Event, field: str, limits: Limits) -> Body:
    kind = event.WhichOneof("event")
    if kind == "utterance":
        return Utterance(_said(event.utterance.text, f"{field}.utterance.text", limits))
    if kind == "reply":
        return Reply(_said(event.reply.text, f"{field}.reply.text", limits))
    if kind == "entities":
        return _entities(event.entities, f"{field}.entities", limits)
    if kind == "transcribe":
        return Transcribe()
    if kind == "speak":
        return Speak()
    if kind == "expect_speech":
        return ExpectSpeech()
    kinds = "utterance, reply, entities, transcribe, speak, expect_speech"
    raise InvalidRequestError(f"{field}.event", f"set one of {kinds}")


def _said(text: str, field: str, limits: Limits) -> str:
    if not text.strip():
        raise InvalidRequestError(field, "is empty; send the text or leave the event out")
    return check_text(field, text, limits)


def _entities(entities: pb.Entities, field: str, limits: Limits) -> Entities:
    if not entities.entries and not entities.items:
        raise InvalidRequestError(f"{field}.entries", "is empty; send at least one entry or leave the event out")
    count = count_entries(entities)
    if count > limits.entries:
        raise LimitError("entries", f"{field}: {count} entries; send at most {limits.entries}")
    entries = entries_of(entities, field, limits)
    ids, aliases = tuple(entry.id for entry in entries), tuple(entry.aliases for entry in entries)
    weights = tuple(entry.weight for entry in entries)
    return Entities(
        entities.signal,
        tuple(entry.text for entry in entries),
        ids if any(ids) else (),
        aliases if any(aliases) else (),
        weights if any(weight != 1 for weight in weights) else (),
    )


# Responses


def status_message(context: TurnContext) -> pb.GetContextStatusResponse:
    """How far a context is."""
    response = pb.GetContextStatusResponse(
        state=context.state.name,
        reason=context.reason,
        turn_id=context.turn,
        timeline=[pb.StateTime(state=state.name) for state, _ in context.timeline],
        outcome=context.outcome.name if context.outcome else None,
    )
    for entry, (_, time_s) in zip(response.timeline, context.timeline, strict=True):
        entry.time.FromNanoseconds(int(time_s * 1e9))
    if context.state in (State.READY, State.EXPIRED):
        response.expires_at.FromNanoseconds(int(context.expires_s * 1e9))
    return response


def embedding_message(context: TurnContext) -> pb.GetContextEmbeddingResponse:
    """The vectors of a context that is ready."""
    assert context.bundle is not None
    embedding = context.bundle.embedding
    return pb.GetContextEmbeddingResponse(
        turn_id=context.turn,
        model_version=embedding.model_version,
        shape=embedding.vectors.shape,
        values=embedding.vectors.ravel().tolist(),
        summary=embedding.summary.tolist(),
        phrases=[pb.ContextPhrase(phrase=p.text, signal=p.signal, weight=p.weight) for p in embedding.phrases],
    )


def rescored_message(outcome: ContextOutcome, plain: str) -> pb.RescoreResponse:
    """A list in its new order. plain: the text that came first."""
    return pb.RescoreResponse(
        nbest=[pb.RescoredEntry(text=h.text, score=h.score, from_context=h.from_context) for h in outcome.nbest],
        context=context_info(outcome, plain),
    )
