"""Dialogue context for recognition: encoding it, and weighing n-best lists with it."""

from asr.context.encoder import ContextEncoder
from asr.context.rescorer import NullContext, Rescorer
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
    "Entry",
    "NullContext",
    "Phrase",
    "Rescored",
    "Rescorer",
    "Turn",
]
