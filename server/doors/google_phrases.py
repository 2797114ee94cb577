"""Google's speech adaptation as phrases, and the dialogue that stands among its stored phrase sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from carryover.v1 import recognizer_pb2 as pb
from server.codec.fields import check_phrase
from server.doors.terms import nats
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits

_DIALOGUE, _TURN = "phraseSets/dialogue-", "-turn-"
_OWN_CLASS = re.compile(r"\$\{([^{}]*)\}")
_GOOGLES_CLASS = re.compile(r"\$[A-Z][A-Z_]+")


def dialogue_and_turn(field_name: str, references: Iterable[str]) -> dict[str, str]:
    """The ids in the names of stored phrase sets, `…/phraseSets/dialogue-ID[-turn-TURN]`; none where there is no name.

    Raises:
        InvalidRequestError: there are several, or it is another one.
    """
    ids: dict[str, str] = {}
    for reference in references:
        parent, _, named = reference.partition(_DIALOGUE)
        dialogue, has_turn, turn = named.rpartition(_TURN)
        if not has_turn:
            dialogue, turn = named, ""
        if not dialogue or (parent and not parent.endswith("/")) or bool(has_turn) != bool(turn):
            advice = "phrase sets are not stored here; send them inline, or name a dialogue: phraseSets/dialogue-ID"
            raise InvalidRequestError(field_name, advice)
        if ids:
            raise InvalidRequestError(field_name, "names several dialogues; name one")
        ids = {"dialogue_id": dialogue, "turn_id": turn}
    return ids


def boost(field_name: str, *values: float) -> float | None:
    """The first boost that is set; Google ignores negative ones. Raises InvalidRequestError."""
    return next((nats(field_name, value) for value in values if not value <= 0), None)


@dataclass
class Phrases:
    """Collects phrases, with classes put in, into `speech_contexts`.

    Args:
        field_name: of errors.
    """

    field_name: str
    limits: Limits
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Items by the names that phrases have for their class."""
    _by_boost: dict[float | None, list[str]] = field(default_factory=dict)
    _count: int = 0

    def add(self, phrase: str, nats_: float | None) -> None:
        """Take a phrase, for each item of a class in it. Raises InvalidRequestError, LimitError."""
        for one in self._expanded(phrase):
            self._count += 1
            if self._count > self.limits.phrases:
                most = self.limits.phrases
                raise LimitError("phrases", f"{self.field_name}: more than {most} phrases; send at most {most}")
            self._by_boost.setdefault(nats_, []).append(check_phrase(self.field_name, one, self.limits))

    def contexts(self) -> list[pb.SpeechContext]:
        """All of them."""
        return [pb.SpeechContext(phrases=phrases, boost=nats_) for nats_, phrases in self._by_boost.items()]

    def _expanded(self, phrase: str) -> Iterator[str]:
        if _GOOGLES_CLASS.search(phrase):
            advice = "holds a class of Google's, which is not known here; send its items as a custom class"
            raise InvalidRequestError(self.field_name, advice)
        texts = _OWN_CLASS.split(phrase)  # text, class, text, ...
        if len(texts) == 1:
            yield phrase
            return
        names = texts[1::2]
        check_phrase(self.field_name, "".join(texts[::2]), self.limits)  # before it is written many times
        check_phrase(self.field_name, "x" * len(names), self.limits)
        if not all(name in self.classes for name in names):
            raise InvalidRequestError(self.field_name, "names a class that is not in custom_classes; send it there")
        for items in product(*(self.classes[name] for name in names)):
            yield "".join(text + item for text, item in zip(texts[::2], (*items, ""), strict=True))


def classes_of(custom_classes: Iterable[Any]) -> dict[str, tuple[str, ...]]:
    """Items of inline classes, by id and by resource name."""
    found: dict[str, tuple[str, ...]] = {}
    for one in custom_classes:
        items = tuple(item.value for item in one.items)
        for name in (getattr(one, "custom_class_id", ""), one.name, one.name.rpartition("/")[2]):
            if name:
                found[name] = items
    return found
