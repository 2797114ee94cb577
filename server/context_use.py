"""A turn's use of its dialogue's context: look it up without waiting, rescore, say what happened."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from asr.context.meaning import meant
from asr.context.phrases import candidates_of
from asr.context.types import BiasedWord, ContextEmbedding, Meant, Rescored
from asr.decoding import PhraseGraph
from asr.recognition.results import Hypothesis
from carryover.v1.recognizer_pb2 import ContextInfo
from context_store import DialogueId
from server import logs, tracing
from server.embedding_cache import State, TurnContext
from server.engine import milliseconds_since
from server.reply_window import Follow, ReplyWindow

ForceScore = Callable[[Sequence[str]], list[Hypothesis]]


class Rescorer(Protocol):
    """What the server needs of `asr.context.rescorer.Rescorer`."""

    def rescore(
        self, nbest: Sequence[Hypothesis], embedding: ContextEmbedding, force_score: ForceScore | None
    ) -> Rescored:
        """The n-best in the order that the context gives it; blocking."""
        ...


@dataclass(frozen=True)
class Used:
    """What context did to one final result.

    nbest: best first; the very same hypotheses unless status is APPLIED. status: a `ContextInfo.Status`.
    context: what was used or waited for. meant: the entries that the first hypothesis names. cause: why it is not
    APPLIED, as one of few words, for the metrics.
    """

    nbest: tuple[Hypothesis, ...]
    status: ContextInfo.Status
    changed: bool = False
    biased_words: tuple[BiasedWord, ...] = ()
    reason: str = ""
    context: TurnContext | None = None
    lookup_ms: float | None = None
    rescore_ms: float | None = None
    age_ms: float | None = None
    meant: tuple[Meant, ...] = ()

    @property
    def cause(self) -> str:
        """Where the context stands, or that there is none in memory."""
        if self.status in (ContextInfo.NOT_REQUESTED, ContextInfo.DISABLED, ContextInfo.APPLIED):
            return ""
        if self.rescore_ms is not None:
            return "rescoring"
        return self.context.state.value if self.context else "store"


@dataclass(frozen=True)
class ContextSource:
    """Where turns find their contexts.

    window: None when context is switched off. rescorer: uses the contexts. run: does that in a thread.
    """

    window: ReplyWindow | None
    rescorer: Rescorer
    run: Callable[..., Awaitable[Any]]

    def open(self, dialogue: DialogueId | None, turn: str) -> ContextUse:
        """The context of one turn, None: of no dialogue. Starts to ask the store, in the background."""
        follow = self.window.follow(dialogue, turn) if self.window and dialogue else None
        return ContextUse(self, follow, requested=dialogue is not None)

    async def rescore(
        self,
        nbest: tuple[Hypothesis, ...],
        more: tuple[Hypothesis, ...],
        embedding: ContextEmbedding,
        force_score: ForceScore | None,
        found: Used,
    ) -> Used:
        """`found` with the n-best and more readings rescored; with the very same n-best and FAILED when that does not
        work."""
        started = time.monotonic()
        try:
            with tracing.span("rescore"):
                weighed = await self.run(_weigh, self.rescorer, (*nbest, *more), embedding, force_score)
            rescored, named = weighed
            best = rescored.nbest[0]
        except Exception as error:
            logs.failure("rescoring_failed", error)
            reason = f"{type(error).__name__} while rescoring"
            return replace(found, status=ContextInfo.FAILED, reason=reason, rescore_ms=milliseconds_since(started))
        return replace(
            found,
            nbest=tuple(rescored.nbest),
            changed=best.text != nbest[0].text,
            biased_words=tuple(rescored.biased_words),
            meant=named,
            rescore_ms=milliseconds_since(started),
        )


@dataclass(frozen=True)
class ContextUse:
    """A turn with its dialogue's context, or with none. Open with `ContextSource.open`."""

    source: ContextSource
    follow: Follow | None
    requested: bool

    async def settled(self) -> None:
        """Waits until the store has said what it knows of the dialogue. For callers that have the time."""
        if self.follow is not None:
            await self.follow.done.wait()

    def graph(self) -> PhraseGraph | None:
        """The context's phrases for the search, if they are there now."""
        found = self._look_up(())
        return found.context.graph if found.context and found.status == ContextInfo.APPLIED else None

    async def apply(
        self, nbest: tuple[Hypothesis, ...], biased: tuple[Hypothesis, ...], force_score: ForceScore | None
    ) -> Used:
        """Rescore with the context if it is there now. Never raises on its account, never waits for it.

        nbest: the plain result. biased: more readings, found by a search led by the context's phrases, not used
        without the context.
        """
        started = time.monotonic()
        found = self._look_up(nbest)
        embedding = found.context.embedding if found.context else None
        if found.status != ContextInfo.APPLIED or embedding is None:
            return found
        found = replace(found, lookup_ms=milliseconds_since(started))
        return await self.source.rescore(nbest, candidates_of(biased), embedding, force_score, found)

    def _look_up(self, nbest: tuple[Hypothesis, ...]) -> Used:
        window, follow = self.source.window, self.follow
        if not self.requested:
            return Used(nbest, ContextInfo.NOT_REQUESTED)
        if window is None or follow is None:
            return Used(nbest, ContextInfo.DISABLED)
        now, context = window.clock(), window.cache.latest(follow.dialogue, besides=follow.turn)
        if context is None:
            return Used(nbest, *_without(follow))
        if window.expired(context):
            return Used(nbest, ContextInfo.EXPIRED, reason="the context is too old to be used", context=context)
        ready_s = context.entered(State.READY)
        if ready_s is None and context.failure:  # it may be being made again
            return Used(nbest, ContextInfo.FAILED, reason=context.failure, context=context)
        if ready_s is None:
            return Used(nbest, ContextInfo.NOT_READY, reason=context.reason or _waiting(context, now), context=context)
        return Used(nbest, ContextInfo.APPLIED, context=context, age_ms=max(0.0, now - ready_s) * 1000)


def _weigh(
    rescorer: Rescorer, nbest: Sequence[Hypothesis], embedding: ContextEmbedding, force_score: ForceScore | None
) -> tuple[Rescored, tuple[Meant, ...]]:
    """Rescored, and the entries that the first reading names. What a client's own phrases brought is known beforehand,
    so it stays, whatever the context says."""

    def prior(found: Sequence[Hypothesis]) -> list[Hypothesis]:
        return [replace(h, language=h.language + h.bias, bias=0.0) if h.bias else h for h in found]

    force = (lambda texts: prior(force_score(texts))) if force_score else None
    rescored = rescorer.rescore(prior(nbest), embedding, force)
    return rescored, meant(rescored.nbest[0].text, embedding)


def _without(follow: Follow) -> tuple[ContextInfo.Status, bool, tuple[BiasedWord, ...], str]:
    """Status, changed, biased words and reason of a turn for which there is nothing in memory."""
    if not follow.answered:
        return ContextInfo.NOT_READY, False, (), "the store has not answered yet"
    if follow.problem:
        return ContextInfo.FAILED, False, (), follow.problem
    if follow.known:
        return ContextInfo.NOT_FOUND, False, (), "no earlier turn of the dialogue expected speech"
    if follow.expired:
        return ContextInfo.EXPIRED, False, (), "what was recorded of the dialogue is too old to be used"
    return ContextInfo.NOT_FOUND, False, (), "nothing of the dialogue is recorded"


def _waiting(context: TurnContext, now: float) -> str:
    state, since = context.timeline[-1]
    return f"{state.value} for {max(0.0, now - since) * 1000:.0f} ms"
