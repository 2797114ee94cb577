"""A context with all that is made of it: what a stream needs to use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asr.context.phrase_index import PhraseIndex
from asr.context.phrases import graph_phrases
from asr.context.types import ContextEmbedding
from asr.decoding import BoostedPhrase, PhraseGraph


@dataclass(frozen=True)
class ContextBundle:
    """A value, complete from the start: nothing of it is made on its first use."""

    embedding: ContextEmbedding
    """For rescoring."""
    index: PhraseIndex
    """Its phrases by their sound and words, as the rescorer and the spelling of results look them up."""
    graph: PhraseGraph | None
    """Its phrases as the search follows them; None: there are none, or they were given up to save memory."""


def build_bundle(
    embedding: ContextEmbedding, compile_phrases: Callable[[tuple[BoostedPhrase, ...]], PhraseGraph | None]
) -> ContextBundle:
    """Make all that is made of an embedding. CPU bound: some milliseconds for each hundred phrases.

    Args:
        compile_phrases: as `Recognizer.compile` with `of_context`.
    """
    index = PhraseIndex(embedding.phrases)
    phrases = graph_phrases(index)
    return ContextBundle(embedding, index, compile_phrases(phrases) if phrases else None)
