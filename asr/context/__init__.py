"""Dialogue context for recognition: encoding it, and weighing n-best lists with it."""

from asr.context.checkpoint import ContextModels
from asr.context.encoder import ContextEncoder
from asr.context.phrase_index import PhraseIndex
from asr.context.rescorer import Rescorer
from asr.context.types import (
    BiasedWord,
    Context,
    ContextEmbedding,
    Entry,
    Phrase,
    Rescored,
    Turn,
)

__all__ = [
    "BiasedWord",
    "Context",
    "ContextEmbedding",
    "ContextEncoder",
    "ContextModels",
    "Entry",
    "Phrase",
    "PhraseIndex",
    "Rescored",
    "Rescorer",
    "Turn",
]
