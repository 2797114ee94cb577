"""A context as the network's items: turns cut to pieces, entries spelled with their signal, overlaps of words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asr.context.model import ITEM_KINDS, OVERLAPS
from asr.context.question import phrases_in_turns
from asr.context.types import MAX_ALIASES, MAX_IDS, MAX_PHRASES, MAX_TEXT, MAX_TURNS, MAX_WRITTEN, Context, Phrase
from asr.text import normalize
from asr.text.tokenizer import Tokenizer

MAX_ENCODED_ENTRIES = 512
"""Entries past this many are phrases, but are not read by the network."""
_PIECES_OF_LATE_TURNS, _PIECES_OF_EARLY_TURNS = 4, 2


@dataclass(frozen=True)
class Items:
    """tokens (N, L) int64, kinds (N,), ages (N,), overlaps (N, OVERLAPS); turn pieces first, then the entries."""

    tokens: Tensor
    kinds: Tensor
    ages: Tensor
    overlaps: Tensor
    turns: int

    def __len__(self) -> int:
        return len(self.tokens)


def entries_of(context: Context) -> list[Phrase]:
    """The entries, normalised and without repetition, then what the turns name; at most MAX_PHRASES.

    Their weights are the logarithms of the entries' own factors. Entries of one spelling with other aliases are others.
    What is named in the turns is left out where an entry holds it. Empty or unspellable ones are left out.
    """
    found: dict[tuple[str, tuple[str, ...]], Phrase] = {}
    for entry in context.entries:
        if len(found) == MAX_PHRASES:
            break
        text = _normal(entry.text[:MAX_TEXT])
        if text:
            written = " ".join(entry.text.split())
            others = (" ".join(alias.split())[:MAX_WRITTEN] for alias in entry.aliases[:MAX_ALIASES])
            aliases = tuple(alias for alias in others if normalize(alias))
            prior = math.log(entry.weight) if entry.weight != 1 else 0.0
            phrase = Phrase(text, entry.signal, prior, written if len(written) <= MAX_WRITTEN else "", (), aliases)
            known_as = found.setdefault((text, aliases), phrase)
            if entry.id and entry.id not in known_as.ids and len(known_as.ids) < MAX_IDS:
                found[text, aliases] = replace(known_as, ids=(*known_as.ids, entry.id))
    known = [f" {text} " for text, _ in found]
    known += [f" {_normal(alias)} " for _, aliases in found for alias in aliases]
    for phrase in phrases_in_turns(context.turns[-MAX_TURNS:]):
        if len(found) < MAX_PHRASES and not any(f" {phrase.text} " in text for text in known):
            found.setdefault((phrase.text, ()), phrase)
    return list(found.values())


def asked_of(context: Context) -> str:
    """The words of the last turn, normalised, where it is the system's; else ""."""
    last = context.turns[-1] if context.turns else None
    return _normal(last.text[-MAX_TEXT:]) if last is not None and last.speaker == "system" else ""


def items_of(
    context: Context, entries: Sequence[Phrase], tokenizer: Tokenizer, item_tokens: int, max_age: int
) -> Items:
    """entries: from `entries_of`, at most MAX_ENCODED_ENTRIES of them are used."""
    rows: list[list[int]] = []
    kinds: list[int] = []
    ages: list[int] = []
    turns = [t for t in context.turns[-MAX_TURNS:] if t.text.strip()]
    for age, turn in zip(range(len(turns) - 1, -1, -1), turns, strict=True):
        ids = tokenizer.encode(_normal(turn.text[-MAX_TEXT:]))
        pieces = [ids[i : i + item_tokens] for i in range(0, len(ids), item_tokens)]
        for piece in pieces[-(_PIECES_OF_LATE_TURNS if age < 2 else _PIECES_OF_EARLY_TURNS) :]:
            rows.append(piece)
            kinds.append(ITEM_KINDS.index(turn.speaker))
            ages.append(min(age, max_age))
    n_turns = len(rows)
    used = entries[:MAX_ENCODED_ENTRIES]
    signals = {s: tokenizer.encode(_normal(s[:40]))[: item_tokens // 4] for s in {entry.signal for entry in used}}
    for entry in used:
        rows.append((signals[entry.signal] + tokenizer.encode(entry.text))[:item_tokens])
    kinds += [ITEM_KINDS.index("entry")] * len(used)
    ages += [0] * len(used)
    tokens = torch.zeros((len(rows), max(map(len, rows), default=1)), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    over = torch.cat([torch.zeros(n_turns, OVERLAPS), overlaps(context, used)])
    return Items(tokens, torch.tensor(kinds, dtype=torch.long), torch.tensor(ages, dtype=torch.long), over, n_turns)


def overlaps(context: Context, entries: Sequence[Phrase]) -> Tensor:
    """(N, OVERLAPS): entry named in the last system turn; share of its words there.

    Share of its words in the last user turn; named there, divided by how many are named so (log); log of the number of
    entries.
    """
    last = dict.fromkeys(("user", "system"), "")
    for turn in context.turns[-MAX_TURNS:]:
        last[turn.speaker] = f" {_normal(turn.text[-MAX_TEXT:])} "
    said = {s: set(text.split()) for s, text in last.items()}
    rows = []
    for entry in entries:
        words = entry.text.split()
        named = 1.0 if f" {entry.text} " in last["system"] else 0.0
        shares = [sum(w in said[s] for w in words) / len(words) for s in ("system", "user")]
        rows.append([named, *shares])
    crowd = math.log1p(sum(r[0] for r in rows))
    size = math.log1p(len(rows)) / 5
    return torch.tensor([[*r, r[0] * crowd, size] for r in rows], dtype=torch.float32).reshape(len(rows), OVERLAPS)


def _normal(text: str) -> str:
    """`normalize`, with words that no one says (over 30 letters) cut, so that nothing grows past its bound."""
    return re.sub(r"\S{31,}", lambda m: m.group()[:30], normalize(text))
