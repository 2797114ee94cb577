"""The contexts that an utterance is recognised with: its own, another's, its own without what is meant, parts of it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz import fuzz

from asr.context.phrase_index import parts_of_forms
from asr.context.types import MAX_FORMS, Context, Entry
from asr.errors import ManifestError
from asr.evaluation.manifest import Utterance
from asr.evaluation.wer import contains, shared_run, spoken_entities
from asr.text import normalize, spoken_forms

CONDITIONS = ("none", "relevant", "irrelevant", "anti", "late")
_WITHOUT = ("none", "late")
TURNS = "turns"
"""The dialogue's turns as a signal of their own, beside the signals of the entries."""


def parse_conditions(names: str) -> tuple[str, ...]:
    """Comma-separated names; *none* comes first whether named or not: all others are compared with it.

    Raises:
        ManifestError: an unknown name.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in CONDITIONS]
    if unknown:
        raise ManifestError(f"condition {unknown[0]!r} is not known; use {', '.join(CONDITIONS)}")
    return tuple(dict.fromkeys(["none", *wanted]))


def need_context(conditions: Sequence[str]) -> bool:
    """Whether any of the conditions takes a context through the models."""
    return any(condition not in _WITHOUT for condition in conditions)


def signal_conditions(utterances: Sequence[Utterance]) -> tuple[str, ...]:
    """`only:SIGNAL` and `without:SIGNAL` for every signal that the utterances' contexts hold."""
    signals = sorted({entry.signal for u in utterances for entry in u.context.entries})
    if any(u.context.turns for u in utterances):
        signals.append(TURNS)
    return tuple(f"{part}:{signal}" for part in ("only", "without") for signal in signals)


def context_for(condition: str, utterances: Sequence[Utterance], index: int, seed: int) -> Context | None:
    """The context of one utterance under a condition; None: there is none to use (*none*, *late*)."""
    own = utterances[index].context
    part, _, signal = condition.partition(":")
    if condition in _WITHOUT:
        return None
    if condition == "irrelevant":
        return irrelevant(utterances, index, seed)
    if condition == "anti":
        return without_target(utterances[index])
    if part == "only":
        return Context(own.turns if signal == TURNS else (), tuple(e for e in own.entries if e.signal == signal))
    if part == "without":
        return Context(() if signal == TURNS else own.turns, tuple(e for e in own.entries if e.signal != signal))
    return own


def irrelevant(utterances: Sequence[Utterance], index: int, seed: int) -> Context:
    """Another dialogue's context that does not hold what is said; empty where there is none."""
    this = utterances[index]
    order = list(range(len(utterances)))
    random.Random(f"{seed} {this.id}").shuffle(order)
    names = [normalize(e.text) for e in this.context.entries]
    if this.target is not None:
        meant = spoken_entities(this.text, this.target, names)
    else:
        meant = tuple(_named(this.text, this.context.entries).values())
    for other in (utterances[i] for i in order):
        if other.context and other.dialogue != this.dialogue and not _holds(other.context, meant):
            return other.context
    return Context()


def _holds(context: Context, phrases: Sequence[str]) -> bool:
    if not phrases:
        return False
    texts = [*(turn.text for turn in context.turns), *(entry.text for entry in context.entries)]
    return any(contains(normalize(text), phrase) for text in texts for phrase in phrases)


def _named(text: str, entries: Sequence[Entry]) -> dict[str, str]:
    """The entries, normalised, that an answer names, and by which of its words.

    They are those that it says whole, else those of which it says the longest part ("bauer" for "meg bauer").
    """
    forms = {of_one[0]: of_one for of_one in (spoken_forms(entry.text, MAX_FORMS) for entry in entries)}
    said = {
        entry: max((part for part, _ in parts_of_forms(of_one) if contains(text, part)), key=_words, default="")
        for entry, of_one in forms.items()
    }
    whole = {entry: run for entry, run in said.items() if any(contains(text, form) for form in forms[entry])}
    longest = max(map(_words, said.values()), default=0)
    return whole or {entry: run for entry, run in said.items() if run and _words(run) == longest}


def _words(text: str) -> int:
    return len(text.split())


def without_target(utterance: Utterance) -> Context:
    """The own context with what is meant taken out.

    Its entries are gone, and where a turn names it, it names the entry that sounds most like it. What is left is what a
    wrong answer would be made of.
    """
    own = utterance.context
    names = [normalize(e.text) for e in own.entries]
    if utterance.target is not None:
        whole = [utterance.target] if utterance.target else []
    else:
        whole = list(_named(utterance.text, own.entries))
    gone = [name for name in names if any(_is(name, phrase) for phrase in whole)]
    entries = tuple(e for e, name in zip(own.entries, names, strict=True) if name not in gone)
    turns = own.turns
    written = [form for e, name in zip(own.entries, names, strict=True) if name in gone for form in _ways(e.text)]
    for phrase in dict.fromkeys([*gone, *whole, *written]):
        instead = _most_alike(phrase, entries)
        turns = tuple(replace(t, text=_swap(t.text, phrase, instead)) for t in turns)
    return Context(turns, entries)


def _ways(text: str) -> tuple[str, ...]:
    """The words of an entry as a turn may have them: as the entry is written, and its spoken forms."""
    return (" ".join(re.findall(r"[\w']+", text)), *spoken_forms(text, MAX_FORMS))


def _is(name: str, phrase: str) -> bool:
    return name == phrase or contains(name, phrase) or (bool(name) and shared_run(phrase, name) == name)


def _most_alike(phrase: str, entries: Sequence[Entry]) -> str:
    return max((e.text for e in entries), key=lambda text: fuzz.ratio(phrase, normalize(text)), default="someone else")


def _swap(text: str, phrase: str, instead: str) -> str:
    pattern = r"[\s\W]+".join(re.escape(word) for word in phrase.split())
    return re.sub(rf"\b{pattern}\b", lambda _: instead, text, flags=re.IGNORECASE) if phrase else text
