"""What goes in (turns and entries), what comes out (an embedding), and what rescoring returns."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr.errors import ContextError
from asr.recognition.results import Hypothesis
from asr.text import spoken_forms

Speaker = Literal["user", "system"]
Question = Literal["none", "open", "which", "yes_no"]
QUESTIONS: tuple[Question, ...] = ("none", "open", "which", "yes_no")

MAX_VECTORS = 64
MAX_TURNS = 8
"""Older turns are ignored."""
MAX_PHRASES = 5_000
"""Entries past this many are ignored, last first."""
MAX_TEXT = 400
"""Characters of a turn (its end) or an entry (its beginning) that are read."""

MAX_FORMS = 6
"""Spoken forms of an entry."""
MAX_IDS = 8
"""Entries of one spelling whose ids are kept."""
MAX_ALIASES = 16
"""Aliases of an entry."""
WEIGHTS = 0.01, 100.0
"""Least and most of an entry's weight."""
MAX_WRITTEN = 100
"""Characters of an entry's own spelling; a longer one is reported in its normal form."""

_MAGIC = b"CCE2"
_MAX_BYTES = 8_000_000
_MAX_WIDTH = 1024


@dataclass(frozen=True)
class Turn:
    """One turn of the dialogue, as it was recognised or said; any casing."""

    speaker: Speaker
    text: str


@dataclass(frozen=True)
class Entry:
    """Something a service knows: the signal is any name ("contacts", "devices", or one of your own)."""

    signal: str
    text: str
    id: str = ""
    """The service's own, "": none."""
    aliases: tuple[str, ...] = ()
    """Other names of it."""
    weight: float = 1.0
    """How much likelier than another entry it is to be named, a factor."""


@dataclass(frozen=True)
class Context:
    """What is known before an answer; anything may be empty."""

    turns: tuple[Turn, ...] = ()
    """Oldest first."""
    entries: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return any(t.text.strip() for t in self.turns) or any(e.text.strip() for e in self.entries)


@dataclass(frozen=True)
class Phrase:
    """A phrase that may be said next."""

    text: str
    """Normalised words."""
    signal: str
    weight: float
    """Log of the probability that this entry is the one meant."""
    written: str = ""
    """As its source writes it, for reports and for its other spoken forms; "" where that is not known."""
    ids: tuple[str, ...] = ()
    """Of the entries that are so written, at most MAX_IDS; empty: they have none."""
    aliases: tuple[str, ...] = ()
    """Other names of the entries, as their source writes them."""

    @property
    def name(self) -> str:
        """As it is reported."""
        return self.written or self.text

    @property
    def forms(self) -> tuple[str, ...]:
        """The usual ways to say it and its aliases, `text` first."""
        own = spoken_forms(self.written, MAX_FORMS)[1:] if self.written else ()
        others = (form for alias in self.aliases for form in spoken_forms(alias, MAX_FORMS))
        return tuple(dict.fromkeys((self.text, *own, *others)))

    def name_of(self, form: str) -> str:
        """How the name is written that one of its forms says: its own or an alias; "" where it is not known."""
        if self.aliases and form != self.text and form not in spoken_forms(self.name, MAX_FORMS):
            return next((alias for alias in self.aliases if form in spoken_forms(alias, MAX_FORMS)), self.written)
        return self.written


@dataclass(frozen=True)
class ContextEmbedding:
    """A context as the rescorer reads it: a value, which `to_bytes` serialises."""

    vectors: NDArray[np.float32]
    """(n, d) float32, n at most 64, turns first; none for an empty context."""
    summary: NDArray[np.float32]
    """(d,) float32."""
    phrases: tuple[Phrase, ...]
    question: Question
    """What the last system turn asks."""
    model_version: str
    asked: str = ""
    """Its words, normalised; "" where the user spoke last."""

    @property
    def empty(self) -> bool:
        """Whether it holds nothing at all."""
        return len(self.vectors) == 0 and not self.phrases

    def to_bytes(self) -> bytes:
        """A little-endian record: magic, header length, JSON header, vectors, summary."""
        fields = {
            "version": self.model_version,
            "question": self.question,
            "shape": list(self.vectors.shape),
            "phrases": [[p.text, p.signal, round(p.weight, 4), p.written] for p in self.phrases],
            "ids": {str(i): p.ids for i, p in enumerate(self.phrases) if p.ids},
            "asked": self.asked,
        }
        if aliases := {str(i): p.aliases for i, p in enumerate(self.phrases) if p.aliases}:
            fields["aliases"] = aliases
        header = json.dumps(fields, ensure_ascii=True).encode()
        values = np.concatenate([self.vectors.reshape(-1), self.summary]).astype("<f4")
        return _MAGIC + struct.pack("<I", len(header)) + header + values.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> ContextEmbedding:
        """Reads what `to_bytes` wrote; every size is checked before it is used.

        Raises:
            ContextError: the bytes are not a whole embedding of this format.
        """
        try:
            return cls._parse(data)
        except (ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
            if isinstance(error, ContextError):
                raise
            raise ContextError("context embedding: damaged, encode the context again") from None

    @classmethod
    def _parse(cls, data: bytes) -> ContextEmbedding:
        if data[:4] != _MAGIC or len(data) > _MAX_BYTES:
            raise ContextError("context embedding: not of this format, encode the context again")
        (size,) = struct.unpack("<I", data[4:8])
        if 8 + size > len(data):
            raise ContextError("context embedding: cut short, encode the context again")
        header = json.loads(data[8 : 8 + size])
        n, width = (int(x) for x in header["shape"])
        if not (0 <= n <= MAX_VECTORS and 0 < width <= _MAX_WIDTH and len(data) == 8 + size + 4 * (n + 1) * width):
            raise ContextError("context embedding: its sizes do not fit, encode the context again")
        values = np.frombuffer(data, "<f4", offset=8 + size).astype(np.float32)
        ids = {int(i): tuple(map(str, own[:MAX_IDS])) for i, own in header.get("ids", {}).items()}
        aliases = {int(i): tuple(map(str, own[:MAX_ALIASES])) for i, own in header.get("aliases", {}).items()}
        phrases = tuple(
            Phrase(str(t), str(s), float(w), str(n), ids.get(i, ()), aliases.get(i, ()))
            for i, (t, s, w, n) in enumerate(header["phrases"])
        )
        if not np.isfinite(values).all() or not all(math.isfinite(p.weight) for p in phrases):
            raise ContextError("context embedding: holds values that are no numbers, encode the context again")
        if header["question"] not in QUESTIONS or len(phrases) > MAX_PHRASES:
            raise ContextError("context embedding: its header does not fit, encode the context again")
        return cls(
            vectors=values[: n * width].reshape(n, width),
            summary=values[n * width :],
            phrases=phrases,
            question=header["question"],
            model_version=str(header["version"]),
            asked=str(header.get("asked", "")),
        )


@dataclass(frozen=True)
class BiasedWord:
    """A word of the answer that only the context brought, and the phrase that did; "": no phrase, but the dialogue."""

    word: str
    phrase: str
    signal: str
    nats: float = 0.0
    """What the context adds to the answer's score over the plain 1-best's."""
    rank: int = 0
    """The answer's place by sound and language model alone, from 1, among the hypotheses and candidates that were
    weighed; 0 where nothing was weighed."""
    id: str = ""
    """Of the phrase's entry, "": it has none, or several have its name."""


@dataclass(frozen=True)
class Meant:
    """An entry that a text names, as its service writes it."""

    entry: str
    signal: str
    id: str = ""
    """The service's own, "": it has none."""


@dataclass(frozen=True)
class Rescored:
    """An n-best list in its new order."""

    nbest: tuple[Hypothesis, ...]
    changed: bool = False
    """Another text came first because of the context."""
    biased_words: tuple[BiasedWord, ...] = ()
