"""Back-off n-gram models over tokens: modified Kneser-Ney, mixed by source, pruned by what a removal costs.

An n-gram of k tokens is one int64: its tokens from the first to the last, a fixed number of bits each, so that sorted
n-grams stand by context. The blank's id (0) stands for a text's edges: first in an n-gram it is the beginning, last the
end; it is nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.decoding.ngram import NGram
from asr.errors import ModelError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
EDGE = 0


@dataclass(frozen=True)
class Level:
    """n-grams of one length, n of them, c contexts.

    gram (n,) sorted; prob (n,) P(last token | the others); context (c,) sorted and back_off (c,): the factor of the
    shorter context's probabilities for tokens that have no n-gram here; seen (n,): the n-gram's share of the text.
    """

    gram: Ints
    prob: Floats
    context: Ints
    back_off: Floats
    seen: Floats


@dataclass(frozen=True)
class BackOffModel:
    """levels[k - 1] holds the n-grams of k tokens; the first has all V tokens. bits: of one token."""

    levels: tuple[Level, ...]
    bits: int


def join_texts(texts: Sequence[Sequence[int]]) -> Ints:
    """All texts as one sequence with an edge before, between and after them; empty ones are left out."""
    flat = [EDGE]
    for text in texts:
        if text:
            flat.extend(text)
            flat.append(EDGE)
    return np.array(flat, np.int64)


def _windows(flat: Ints, length: int, bits: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The n-gram that begins at each position, and whether no edge is within it."""
    count = max(0, len(flat) - length + 1)
    gram, whole = np.zeros(count, np.int64), np.ones(count, np.bool_)
    for i in range(length):
        part = flat[i : i + count]
        gram = gram << bits | part
        if 0 < i < length - 1:
            whole &= part != EDGE
    if length == 1:
        whole[:1] = False  # the first edge is no text's end
    return gram, whole


def _look_up(sorted_keys: Ints, values: Floats, keys: Ints, default: Floats | float) -> Floats:
    """values[i] where sorted_keys[i] is the key, elsewhere the default."""
    if not len(sorted_keys):
        return np.zeros(len(keys)) + default
    at = np.searchsorted(sorted_keys, keys).clip(max=len(sorted_keys) - 1)
    return np.where(sorted_keys[at] == keys, values[at], default)


def _starts(values: Ints) -> Ints:
    """Where runs of equal values begin."""
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1))


def _sums(values: Floats | Ints, starts: Ints) -> Floats:
    """Sums of runs."""
    return np.add.reduceat(values, starts).astype(float) if len(starts) else np.zeros(0)


def _discounts(counts: Ints) -> Floats:
    """D(0) = 0, D(1), D(2), D(3+) of Chen and Goodman 1999, equation 26; fixed ones where the counts give none."""
    n = [int((counts == c).sum()) for c in (1, 2, 3, 4)]
    if min(n) == 0:
        return np.array([0.0, 0.5, 0.75, 0.9])
    y = n[0] / (n[0] + 2 * n[1])
    found = [c - (c + 1) * y * n[c] / n[c - 1] for c in (1, 2, 3)]
    return np.array([0.0, *(min(max(d, 0.1), c) for c, d in zip((0.95, 1.9, 2.9), found, strict=True))])


def _count(flat: Ints, order: int, bits: int) -> list[tuple[Ints, Ints, Ints]]:
    """n-grams of each length, their counts in the text, and the counts that Kneser-Ney smooths.

    Those are the text's at the longest length and after a beginning, elsewhere the number of different tokens before.
    """
    raw = []
    for length in range(1, order + 1):
        gram, whole = _windows(flat, length, bits)
        raw.append(np.unique(gram[whole], return_counts=True))
    out = []
    for length, (gram, count) in enumerate(raw, 1):
        if length == order:
            out.append((gram, count, count))
            continue
        suffix, before = np.unique(raw[length][0] & ((1 << bits * length) - 1), return_counts=True)
        begins = gram >> bits * (length - 1) == EDGE if length > 1 else np.zeros(len(gram), np.bool_)
        varied = _look_up(suffix, before.astype(float), gram, 1.0).astype(np.int64)
        out.append((gram, count, np.where(begins, count, varied)))
    return out


def train_kneser_ney(texts: Sequence[Sequence[int]], vocab_size: int, order: int, rare_from: int = 5) -> BackOffModel:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999) over token ids.

    Args:
        rare_from: n-grams of so many tokens and more are left out if they occur once.
    Raises:
        ModelError: the n-grams do not fit 63 bits, or there is no text.
    """
    bits = max(1, (vocab_size - 1).bit_length())
    if bits * order > 63:
        raise ModelError(f"order {order} over {vocab_size} tokens is too long: at most {63 // bits}")
    flat = join_texts(texts)
    if len(flat) < 2:
        raise ModelError("no text to train a language model on")
    levels: list[Level] = []
    for length, (gram, count, smoothed) in enumerate(_count(flat, order, bits), 1):
        kept = (count > 1) | (length < rare_from)
        discount = np.where(kept, _discounts(smoothed)[smoothed.clip(max=3)], smoothed)
        if not levels:
            total = smoothed.sum()
            prob = np.full(vocab_size, discount.sum() / total / vocab_size)
            prob[gram] += (smoothed - discount) / total
            share = np.zeros(vocab_size)
            share[gram] = count / count.sum()
            none = np.zeros(0, np.int64)
            levels.append(Level(np.arange(vocab_size), prob, none, none.astype(float), share))
            continue
        starts = _starts(gram >> bits)
        total_of = _sums(smoothed, starts)
        back_off = _sums(discount, starts) / total_of
        of = (np.cumsum(np.isin(np.arange(len(gram)), starts, assume_unique=True)) - 1)[kept]
        lower = levels[-1].prob[np.searchsorted(levels[-1].gram, gram[kept] & ((1 << bits * (length - 1)) - 1))]
        prob = (smoothed - discount)[kept] / total_of[of] + back_off[of] * lower
        used = np.unique(of)
        levels.append(
            Level(gram[kept], prob, (gram >> bits)[starts][used], back_off[used], count[kept] / (len(flat) - 1))
        )
    return BackOffModel(tuple(levels), bits)


def mix(models: Sequence[BackOffModel], shares: Floats) -> BackOffModel:
    """One model with the n-grams of all; back-off is worked out anew.

    A source counts in a context as much as the context is likely to be of it: P(w | h) = Σ w_i(h) P_i(w | h) with
    w_i(h) proportional to share_i times how often h is expected in a text of source i (Bayesian interpolation, Allauzen
    and Riley 2011). With fixed weights prose would pay in every word for the share of digit strings.

    Args:
        shares: (M,) of the texts.
    """
    bits, none = models[0].bits, np.zeros(0)
    lengths = np.array([1 / m.levels[0].seen[EDGE] for m in models])
    shares_of_tokens = shares * lengths / (shares @ lengths)
    sources = [_Source.begin(m.levels[0], n) for m, n in zip(models, lengths, strict=True)]
    prob, seen = (shares_of_tokens @ np.stack(x) for x in ([s.prob for s in sources], [s.seen for s in sources]))
    levels = [Level(np.arange(len(prob)), prob, none.astype(np.int64), none, seen)]
    for k in range(1, len(models[0].levels)):
        gram = np.unique(np.concatenate([m.levels[k].gram for m in models]))
        prefix = np.searchsorted(levels[-1].gram, gram >> bits)
        suffix = np.searchsorted(levels[-1].gram, gram & ((1 << bits * k) - 1))
        weights = [share * s.expected[prefix] for share, s in zip(shares, sources, strict=True)]
        sources = [
            s.extend(m.levels[k], gram, gram >> bits, prefix, suffix) for s, m in zip(sources, models, strict=True)
        ]
        prob, seen, total = np.zeros(len(gram)), np.zeros(len(gram)), np.sum(weights, 0)
        for weight, share, source in zip(weights, shares_of_tokens, sources, strict=True):
            prob += weight / total * source.prob
            seen += share * source.seen
        levels.append(_with_back_off(gram, prob, seen, levels[-1].prob[suffix], bits))
    return BackOffModel(tuple(levels), bits)


@dataclass(frozen=True)
class _Source:
    """What a source says of n-grams h w: P(w | h), how often h w is expected in a text, its share of the texts."""

    prob: Floats
    expected: Floats
    seen: Floats

    @classmethod
    def begin(cls, level: Level, length: float) -> _Source:
        """Of single tokens; length: of a text, its end included. A text begins once, and its edge is that too."""
        return cls(level.prob, length * (0.999 * level.seen + 0.001 * level.prob), level.seen)

    def extend(self, level: Level, gram: Ints, context: Ints, prefix: Ints, suffix: Ints) -> _Source:
        """Of n-grams of one token more; prefix, suffix: where theirs stand in this one."""
        backed_off = self.prob[suffix] * _look_up(level.context, level.back_off, context, 1.0)
        prob = _look_up(level.gram, level.prob, gram, backed_off)
        return _Source(prob, self.expected[prefix] * prob, _look_up(level.gram, level.seen, gram, 0.0))


def _with_back_off(gram: Ints, prob: Floats, seen: Floats, lower: Floats, bits: int) -> Level:
    """A level whose contexts give to other tokens what its n-grams leave."""
    context = gram >> bits
    starts = _starts(context)
    left, unseen = (1 - _sums(p, starts) for p in (prob, lower))
    return Level(gram, prob, context[starts], left.clip(1e-9) / unseen.clip(1e-9), seen)


def _costs(model: BackOffModel) -> list[Floats]:
    """Nats a token that removing each n-gram alone costs (Stolcke 1998, equation 5), or a longer one that it begins.

    The contexts' probabilities are their shares of the text: those of Kneser-Ney's shorter n-grams are not meant for it
    (Siivola et al. 2007).
    """
    bits = model.bits
    costs: list[Floats] = []
    for k, level in enumerate(model.levels[1:], 1):
        below = model.levels[k - 1]
        lower = below.prob[np.searchsorted(below.gram, level.gram & ((1 << bits * k) - 1))]
        of = np.searchsorted(level.context, level.gram >> bits)
        starts = _starts(level.gram >> bits)
        left, unseen = (1 - _sums(p, starts)[of] for p in (level.prob, lower))
        left, unseen = left.clip(1e-9), unseen.clip(1e-9)
        change = np.log((left + level.prob) / (unseen + lower)) - np.log(left / unseen)
        loss = (
            level.prob * (np.log(level.prob / lower) - np.log((left + level.prob) / (unseen + lower))) - left * change
        )
        costs.append(below.seen[np.searchsorted(below.gram, level.gram >> bits)] * loss)
    for k in range(len(costs) - 1, 0, -1):  # an n-gram stays as long as one that it begins
        parent = np.searchsorted(model.levels[k].gram, model.levels[k + 1].gram >> bits)
        np.maximum.at(costs[k - 1], parent, costs[k])
    return costs


def prune(model: BackOffModel, arcs: int) -> BackOffModel:
    """The model with at most `arcs` n-grams longer than one token: those that are dearest to remove."""
    costs = _costs(model)
    every = np.concatenate(costs)
    least = np.partition(every, len(every) - arcs - 1)[len(every) - arcs - 1] if arcs < len(every) else -np.inf
    levels = [model.levels[0]]
    for level, cost in zip(model.levels[1:], costs, strict=True):
        keep = cost > least
        if not keep.any():
            break
        context = level.gram[keep] >> model.bits
        at = np.searchsorted(level.context, context[_starts(context)])
        levels.append(
            Level(level.gram[keep], level.prob[keep], level.context[at], level.back_off[at], level.seen[keep])
        )
    return BackOffModel(tuple(levels), model.bits)


def to_automaton(model: BackOffModel, tokens_hash: str, version: str) -> NGram:
    """The automaton of the model; its back-off weights follow from what the n-grams leave."""
    token, children, left = [], [], [np.zeros(1)]
    for k, level in enumerate(model.levels):
        token.append(level.gram & ((1 << model.bits) - 1))
        longer = model.levels[k + 1].gram >> model.bits if k + 1 < len(model.levels) else np.zeros(0, np.int64)
        children.append(np.searchsorted(longer, level.gram, "right") - np.searchsorted(longer, level.gram, "left"))
        if k:
            left.append(np.log((1 - _sums(level.prob, _starts(level.gram >> model.bits))).clip(1e-9)))
    return NGram(
        np.concatenate(token),
        np.log(np.concatenate([level.prob for level in model.levels])),
        np.concatenate(children),
        np.concatenate(left),
        order=len(model.levels),
        vocab_size=len(model.levels[0].gram),
        tokens_hash=tokens_hash,
        blank=EDGE,
        version=version,
    )
