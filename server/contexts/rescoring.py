"""What is done with a stream's context: a result is rescored with it, or stays as it is and says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from asr.context.bundle import ContextBundle
from asr.context.entity_linking import meant
from asr.context.phrases import candidates_of
from asr.context.rescorer import Rescorer
from asr.context.types import BiasedWord, Meant, Rescored
from asr.recognition.results import Hypothesis
from server import logs, tracing
from server.contexts.cache import TurnContext
from server.contexts.handle import ContextHandle, NoContext, Status
from server.scheduler import Scheduler, Work

ForceScore = Callable[[Sequence[str]], list[Hypothesis]]


@dataclass(frozen=True)
class ContextOutcome:
    """What the context did to one result."""

    nbest: tuple[Hypothesis, ...]
    """Best first; the very same hypotheses unless the status is APPLIED."""
    status: Status
    reason: str = ""
    """Why the status is not APPLIED."""
    changed: bool = False
    """Another text came first because of the context."""
    biased_words: tuple[BiasedWord, ...] = ()
    meant: tuple[Meant, ...] = ()
    """The entries that the first hypothesis names."""
    context: TurnContext | None = None
    """What was used, or waited for."""
    bundle: ContextBundle | None = field(default=None, repr=False)
    """What was used."""
    lookup_ms: float | None = None
    rescore_ms: float | None = None
    age_ms: float | None = None
    """Milliseconds from the context being ready to its use."""

    @property
    def cause(self) -> str:
        """Why it is not APPLIED, in one of few words, for the metrics: the context's state, or that there is none."""
        if self.status in (Status.NOT_REQUESTED, Status.DISABLED, Status.APPLIED):
            return ""
        if self.rescore_ms is not None:
            return "rescoring"
        return self.context.state.value if self.context else "store"


@dataclass(frozen=True)
class ContextRescoring:
    """Rescores results with contexts, in one of the scheduler's threads.

    work: RESCORE where somebody is speaking. tenant: on whose behalf.
    """

    rescorer: Rescorer
    scheduler: Scheduler
    work: Work = Work.RESCORE
    tenant: str = ""

    async def apply(
        self,
        handle: ContextHandle,
        nbest: tuple[Hypothesis, ...],
        biased: tuple[Hypothesis, ...] = (),
        force_score: ForceScore | None = None,
    ) -> ContextOutcome:
        """Rescore with a turn's context if it is there now. Never raises on its account, never waits for it.

        Args:
            nbest: the plain result.
            biased: more hypotheses, of a search that the context's phrases biased; dropped without the context.
            force_score: exact scores of texts for the utterance; None: there is no audio.
        """
        started = time.monotonic()
        ready, context = handle.ready(), handle.context
        if isinstance(ready, NoContext):
            return ContextOutcome(nbest, ready.status, ready.reason, context=context)
        lookup_ms, age_ms = milliseconds_since(started), handle.age_ms
        outcome = await self.rescore(ready, nbest, biased, force_score)
        return replace(outcome, context=context, lookup_ms=lookup_ms, age_ms=age_ms)

    async def rescore(
        self,
        bundle: ContextBundle,
        nbest: tuple[Hypothesis, ...],
        biased: tuple[Hypothesis, ...] = (),
        force_score: ForceScore | None = None,
    ) -> ContextOutcome:
        """Rescore with a context; where that does not work, the very same n-best is FAILED."""
        started = time.monotonic()
        hypotheses = (*nbest, *candidates_of(biased))
        rescore = partial(_rescore, self.rescorer, hypotheses, bundle, force_score)
        try:
            with tracing.span("rescore"):
                rescored, named = await self.scheduler.run(self.work, rescore, tenant=self.tenant)
            best = rescored.nbest[0]
        except Exception as error:
            logs.failure("rescoring_failed", error)
            reason = f"{type(error).__name__} while rescoring"
            return ContextOutcome(nbest, Status.FAILED, reason, rescore_ms=milliseconds_since(started))
        return ContextOutcome(
            tuple(rescored.nbest),
            Status.APPLIED,
            changed=best.text != nbest[0].text,
            biased_words=tuple(rescored.biased_words),
            meant=named,
            bundle=bundle,
            rescore_ms=milliseconds_since(started),
        )


def _rescore(
    rescorer: Rescorer, nbest: Sequence[Hypothesis], bundle: ContextBundle, force_score: ForceScore | None
) -> tuple[Rescored, tuple[Meant, ...]]:
    """Rescored, and the entries that the 1-best names.

    The bonus for a client's own phrases is known beforehand, so it stays, whatever the context says.
    """

    def prior(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        return [replace(h, language=h.language + h.bias, bias=0.0) if h.bias else h for h in hypotheses]

    force = (lambda texts: prior(force_score(texts))) if force_score else None
    rescored = rescorer.rescore(prior(nbest), bundle.embedding, force, bundle.index)
    return rescored, meant(rescored.nbest[0].text, bundle.embedding, bundle.index)


def milliseconds_since(started: float) -> float:
    """Milliseconds since a `time.monotonic()`."""
    return (time.monotonic() - started) * 1000
