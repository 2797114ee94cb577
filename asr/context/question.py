"""What the assistant asks, by rules: the kind of its question, and the phrases that its turns name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from asr.context.types import MAX_TEXT, MAX_WRITTEN, Phrase, Question, Turn
from asr.text import normalize

TURN_SIGNAL = "turns"
"""Signal of phrases that were found in the dialogue itself."""

_WHICH = re.compile(r"\bwhich\b|\bor\b|\bwhere would you like\b|\bthere are\b|\bi found\b", re.I)
_OPEN = re.compile(r"\b(who|whose|whom|what|where|when|how|why|name|tell me|may i have|could i get|please)\b", re.I)
_YES_NO = re.compile(
    r"^(is|are|do|does|did|shall|should|would|will|can|could|was|were|have|has|ok|so)\b|\bright\?|\bcorrect\?"
    r"|\b(do you want|would you like|shall i|should i|is that|are you)\b",
    re.I,
)
_SENTENCES = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b(?:Dr|Mr|Ms|St|Jr|Sr|Lt)\.)(?<!\b(?:Mrs|Sgt|Col|Gen|Rev)\.)(?<!\b(?:Prof|Capt)\.)\s+"
)
"""Ends of sentences: not the full stop of a title or of an initial."""
_NAME = r"(?:(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|Sgt|Capt|Lt|Col|Gen|Rev|[A-Z])\.|[A-Z0-9](?:[\w'&-]|\.(?=\w))*)"
_CAPITALISED = re.compile(
    rf"\b(?=[A-Z]){_NAME}(?:\s+(?:(?:of|the|and|in|de|du|le|la|del|di|da|van|von|der|&)\s+)*{_NAME})*"
)
"""Words with a capital, and small ones between them; a full stop ends them but behind an abbreviation or an initial."""
_OPENERS = frozenset({
    "i", "the", "there", "which", "who", "whose", "what", "where", "when", "how", "do", "did", "does", "is", "are",
    "shall", "should", "would", "could", "can", "calling", "ok", "okay", "sure", "yes", "no", "so", "and", "or", "for",
    "your", "you", "we", "it", "in", "at", "on", "please", "thanks", "thank", "sorry", "hello", "hi", "great",
    "alright",
})  # fmt: skip


def question_of(turns: Sequence[Turn]) -> Question:
    """What the last turn asks, by its words; "none" unless the last turn is the system's."""
    if not turns or turns[-1].speaker != "system":
        return "none"
    sentences = [s for s in _SENTENCES.split(turns[-1].text[-MAX_TEXT:].strip()) if s]
    if not sentences:
        return "none"
    last = sentences[-1]
    if re.search(r"\bwhich\b|\bwho\b|\bwhose\b", last, re.I) or (_WHICH.search(last) and " or " in last):
        return "which"
    if _WHICH.search(last) and last.endswith("?"):
        return "which"
    if _YES_NO.search(last) and last.endswith("?"):
        return "yes_no"
    return "open" if last.endswith("?") or _OPEN.search(last) else "none"


def phrases_in_turns(turns: Sequence[Turn]) -> list[Phrase]:
    """Names (capitalised words) and offered alternatives of the last two system turns.

    Alternatives are such as "red, blue or green". They are not weighed yet.
    """
    found: dict[str, Phrase] = {}
    for turn in [t for t in turns if t.speaker == "system"][-2:]:
        text = turn.text[-MAX_TEXT:]
        pieces = [m.group() for m in _CAPITALISED.finditer(text)]
        pieces += [part for piece in pieces if " and " in piece for part in piece.split(" and ")]
        named = {w for p in pieces for w in normalize(p).split()} - _OPENERS
        pieces += [a for a in _alternatives(text) if not named & set(normalize(a).split())]
        for piece in pieces:
            words = normalize(piece).split()
            while words and words[0] in _OPENERS:
                words = words[1:]
            if words and len(words) <= 6 and len("".join(words)) > 1:
                text = " ".join(words)
                found.setdefault(text, Phrase(text, TURN_SIGNAL, 0.0, _written(piece, text)))
    return list(found.values())


def _written(piece: str, text: str) -> str:
    """The end of a piece of a turn whose normal form is the text, as it is written; "" where there is none."""
    parts = piece.split()
    while parts and normalize(parts[0]) in _OPENERS:
        parts = parts[1:]
    written = " ".join(parts)
    return written if len(written) <= MAX_WRITTEN and normalize(written) == text else ""


def _alternatives(text: str) -> list[str]:
    out: list[str] = []
    for sentence in _SENTENCES.split(text):
        sides = re.split(r"\bor\b", sentence.rstrip(".!?"))
        if len(sides) < 2:
            continue
        *before, last_left = sides[0].split(",")
        out += [" ".join(last_left.split()[-3:]), " ".join(last_left.split()[-1:])]
        out += [b.strip() for b in before[1:] if len(b.split()) <= 4]
        out += [" ".join(s.split()[:3]) for s in sides[1:]] + [" ".join(s.split()[:1]) for s in sides[1:]]
    return out
