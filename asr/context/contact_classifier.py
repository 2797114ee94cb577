"""Whether an n-best list without audio names a contact: a logistic regression of seven numbers.

Any list of contacts holds names that sound a bit like any answer, whether or not the one that was said is among
them; which of them is nearest says little. So the evidence is absolute: how far the nearest is from the list in sound,
how much farther than the 1-best is itself, how far the next one is, and whether the 1-best is a name as it stands.
Fitted to real callers with lists of all makes by `recipes.rescorer.callers`; a trained network of the same numbers, or
of twice as many, is no better (recipes/context/NOTEBOOK.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.context.answer_tables import AnswerTables
from asr.context.features import ListDistances, list_distances, name_words
from asr.context.phrase_index import PhraseIndex

FEATURES = ("distance", "excess", "lead", "listed", "given_name", "surname", "one_word")
SIGNAL = "contacts"
_LEAD = 1.5
"""A next contact that is farther than this by so much is no rival."""


@dataclass(frozen=True)
class NamedContact:
    """The whole name of a contact."""

    text: str
    """Normalised."""
    nats: float
    """Log-odds that it was said and not the 1-best, less the margin."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a name."""

    place: int
    """Of the name, the nearest one."""
    values: tuple[float, ...]
    """Its FEATURES."""


def named_contact(
    texts: Sequence[str],
    distances: ListDistances,
    index: PhraseIndex,
    tables: AnswerTables,
    weights: Sequence[float],
) -> NamedContact | None:
    """The contact that a list sounds most like; None where the context has none.

    Args:
        texts: normalised, best first, none empty. distances: of that list. weights: of FEATURES, and a constant.
    """
    places = [i for i, phrase in enumerate(index.phrases) if phrase.signal == SIGNAL]
    if not places:
        return None
    names = [index.phrases[i].text for i in places]
    found = evidence(names, distances.distance[places], texts, tables)
    *factors, constant = weights
    return NamedContact(names[found.place], math.fsum([constant, *np.multiply(factors, found.values).tolist()]))


def evidence(
    names: Sequence[str], distance: NDArray[np.float32], texts: Sequence[str], tables: AnswerTables
) -> Evidence:
    """What speaks for the name that is nearest to a list.

    Args:
        names: N, normalised. distance: (N,) of `list_distances`. texts: the list, normalised, best first.
    """
    plain = texts[0]
    place, *others = np.argsort(distance, kind="stable")[:2].tolist()
    least = float(distance[place])
    lead = min([_LEAD, *(float(distance[other]) - least for other in others)])
    excess = least - float(list_distances([(plain,)], texts)[0])
    given, surname, _ = name_words(plain.split(), tables)
    return Evidence(place, (least, excess, lead, float(names[place] in texts), given, surname, float(" " not in plain)))
