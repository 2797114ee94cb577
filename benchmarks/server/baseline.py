"""What a server says when nothing else is asked of it: the recogniser and its contexts, without a server.

A busy server leaves passes out, so there is not one right result but one of each kind.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from asr.audio import Samples, decode_pcm
from asr.context.bundle import ContextBundle
from asr.decoding import PhraseGraph
from asr.recognition.recognizer import StreamOptions
from asr.recognition.results import Pass, Result
from carryover.audio import linear16
from carryover.v1 import recognizer_pb2 as pb
from context_store import DialogueId
from server.access import DEFAULT_TENANT
from server.app import Parts
from server.codec.recognition import check_streaming
from server.contexts.builder import ContextBuilder, context_of
from server.contexts.rescoring import ContextRescoring
from server.metrics import Metrics
from server.scheduler import Scheduler
from server.settings import Settings

Kind: TypeAlias = tuple[frozenset[str], bool]
"""How a result came about: the names of its passes; whether the dialogue's context was applied."""
Texts: TypeAlias = tuple[Mapping[Kind, str], ...]
"""First transcripts: for each utterance of some audio, by the result's kind."""


def plain_kind(passes: frozenset[str]) -> Kind:
    """The kind of what a result in such passes says without context."""
    return passes - {Pass.CONTEXT_PHRASES.name}, False


@dataclass(frozen=True)
class BaselineRecognizer:
    """The parts of a server with its settings; make it with `open`."""

    parts: Parts
    settings: Settings
    scheduler: Scheduler

    @classmethod
    @contextmanager
    def open(cls, parts: Parts, settings: Settings) -> Iterator[BaselineRecognizer]:
        """It works while inside."""
        scheduler = Scheduler(parts.recognizer, workers=1, metrics=Metrics())
        try:
            yield cls(parts, settings, scheduler)
        finally:
            scheduler.close()

    async def bundle(self, dialogue: str, turn: str) -> ContextBundle:
        """The context of a turn that is in the store, of the default tenant. Raises StoreError, ContextError."""
        turns = await asyncio.to_thread(self.parts.store.read_turns, DialogueId(DEFAULT_TENANT, dialogue))
        context = context_of(turns, turn, self.settings.context.entries)
        return await ContextBuilder(self.parts.encoder, self.scheduler).build(context)

    async def texts(self, samples: Samples, config: pb.StreamingConfig, bundle: ContextBundle | None) -> Texts:
        """Of a stream of LINEAR16 audio, without context and, where there is one, with it."""
        options = check_streaming(config, self.settings.model.nbest, DEFAULT_TENANT).options
        options = replace(options, endpoint=self.settings.endpoint.rule())
        graph = bundle.graph if bundle else None
        texts: list[dict[Kind, str]] = []
        for skipped, searched in itertools.product(((), (Pass.WHOLE_UTTERANCE,), tuple(Pass)), (None, graph)):
            results = await asyncio.to_thread(self._finals, samples, options, searched, skipped)
            texts += [{} for _ in results[len(texts) :]]
            for result, by_kind in zip(results, texts, strict=False):  # without all passes there may be fewer, or more
                passes = frozenset(one.name for one in result.passes)
                by_kind[plain_kind(passes)] = result.nbest[0].text
                if bundle is not None:
                    by_kind[passes, True] = await self._in_context(result, bundle)
        return tuple(texts)

    def _finals(
        self, samples: Samples, options: StreamOptions, graph: PhraseGraph | None, skipped: Sequence[Pass]
    ) -> list[Result]:
        """Final results. graph: a context's phrases. skipped: second passes that results go without."""
        stream = self.parts.recognizer.open(options)
        stream.set_context(graph)

        def results() -> Iterator[Result]:
            while stream.ready:
                stream.skip_second_pass(skipped)
                yield from self.parts.recognizer.advance([stream])[0]

        stream.take(decode_pcm(linear16(samples), "LINEAR16"))
        before_end = list(results())
        stream.end()
        return [result for result in (*before_end, *results()) if result.is_final]

    async def _in_context(self, result: Result, bundle: ContextBundle) -> str:
        rescoring, recognizer = ContextRescoring(self.parts.rescorer, self.scheduler), self.parts.recognizer
        force_score = partial(recognizer.force_score, result.encoded) if result.encoded else None
        return (await rescoring.rescore(bundle, result.nbest, result.biased, force_score)).nbest[0].text
