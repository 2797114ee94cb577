"""Spoken alternatives in scoring: the forms of a reference and a hypothesis with the fewest word errors.

Written text may have been said in several ways: "1984" as a year, as a number or digit by digit, "Dr." as "doctor",
"IBM" as a word or in letters. Only the other text can tell which, so of all usual spoken forms of both
(`asr.text.alternatives`) those with the fewest errors count, as NIST's scoring takes the best of the alternatives that
its reference lists. Words that are said differently stay different: a reference that spells "twelve" out is not met by
"one two". The rule is the same for every recogniser and knows no direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rapidfuzz.distance import Levenshtein

from asr.evaluation.spelling_variants import american
from asr.text import alternatives

Words = tuple[str, ...]
Token = tuple[Words, ...]
"""The spoken forms of a token, the normal one first."""

_ERROR, _HYPOTHESIS = 1 << 30, 1 << 15
"""What an error costs. A form costs its place among its token's, so that of equally good ones the usual one is taken, a
hypothesis's more than a reference's: it stays as it is where the reference can follow it."""
_AT_ONCE = 10_000
"""Pairs of words, all forms counted, that are compared at once; longer texts are cut where they agree."""
_CUT = 3
"""Equal words in a row in whose middle texts are cut."""


def closest(reference: str, hypothesis: str, *, any_spelling: bool = False) -> tuple[list[str], list[str]]:
    """The normalised words of two texts, as written or as said, in the spoken forms with the fewest word errors.

    any_spelling: British spellings are taken for the American ones of the same words, on both sides.
    """
    ours, theirs = _tokens(reference, any_spelling), _tokens(hypothesis, any_spelling)
    if all(len(token) == 1 for token in (*ours, *theirs)):
        return _first(ours), _first(theirs)
    chosen_ours, chosen_theirs = list[str](), list[str]()
    for one, other in _pieces(ours, theirs):
        few = sum(len(f) for t in one for f in t) * sum(len(f) for t in other for f in t) <= 16 * _AT_ONCE
        chosen, answer = _best(one, other) if few and _first(one) != _first(other) else (_first(one), _first(other))
        chosen_ours += chosen
        chosen_theirs += answer
    return chosen_ours, chosen_theirs


def _tokens(text: str, any_spelling: bool) -> list[Token]:
    forms = [tuple(dict.fromkeys(tuple(form.split()) for form in token)) for token in alternatives(text)]
    if any_spelling:
        return [tuple(tuple(map(american, form)) for form in token) for token in forms]
    return forms


def _first(tokens: Sequence[Token]) -> list[str]:
    return [word for token in tokens for word in token[0]]


def _pieces(ours: list[Token], theirs: list[Token]) -> list[tuple[list[Token], list[Token]]]:
    """The texts, cut at the same places where they are long and have words in common."""
    sizes = [sum(len(form) for token in tokens for form in token) for tokens in (ours, theirs)]
    if sizes[0] * sizes[1] <= _AT_ONCE:
        return [(ours, theirs)]
    ends = [_ends(tokens) for tokens in (ours, theirs)]
    cuts = [(0, 0)]
    for block in Levenshtein.opcodes(_first(ours), _first(theirs)):
        if block.tag == "equal" and block.src_end - block.src_start >= _CUT:
            middle = (block.src_end - block.src_start) // 2
            places = ends[0].get(block.src_start + middle), ends[1].get(block.dest_start + middle)
            if places[0] is not None and places[1] is not None:
                cuts.append((places[0], places[1]))
    cuts.append((len(ours), len(theirs)))
    return [(ours[a:c], theirs[b:d]) for (a, b), (c, d) in pairwise(cuts)]


def _ends(tokens: Sequence[Token]) -> dict[int, int]:
    """Number of words in the first forms → number of tokens that have them."""
    out, words = {0: 0}, 0
    for place, token in enumerate(tokens, 1):
        words += len(token[0])
        out[words] = place
    return out


Edge = tuple[int, str, int]
"""Where it comes from, its word ("" for none), its cost beside errors."""


def _lattice(tokens: Sequence[Token], price: int) -> list[list[Edge]]:
    """The edges into each node, nodes in order: one for each end of a token, others inside its forms.

    price: of a form a place further on.
    """
    nodes: list[list[Edge]] = [[]]
    for token in tokens:
        start, into = len(nodes) - 1, list[Edge]()
        for place, form in enumerate(token):
            at, cost = start, place * price
            for word in form[:-1]:
                nodes.append([(at, word, cost if at == start else 0)])
                at = len(nodes) - 1
            into.append((at, form[-1] if form else "", cost if at == start else 0))
        nodes.append(into)
    return nodes


def _best(ours: Sequence[Token], theirs: Sequence[Token]) -> tuple[list[str], list[str]]:
    """The paths through both lattices with the least edit distance."""
    rows, columns = _lattice(ours, 1), _lattice(theirs, _HYPOTHESIS)
    table = [[0] * len(columns) for _ in rows]
    steps: list[list[tuple[int, int, str, str]]] = [[(0, 0, "", "")] * len(columns) for _ in rows]
    for i, into in enumerate(rows):
        for j, other in enumerate(columns):
            best, step = (0, (0, 0, "", "")) if i == j == 0 else (1 << 60, (0, 0, "", ""))
            for a, word, extra in into:
                cost = table[a][j] + extra + (_ERROR if word else 0)
                if cost < best:
                    best, step = cost, (a, j, word, "")
            for b, other_word, more in other:
                cost = table[i][b] + more + (_ERROR if other_word else 0)
                if cost < best:
                    best, step = cost, (i, b, "", other_word)
                for a, word, extra in into:
                    if word and other_word:
                        cost = table[a][b] + extra + more + (_ERROR if word != other_word else 0)
                        if cost < best:
                            best, step = cost, (a, b, word, other_word)
            table[i][j], steps[i][j] = best, step
    i, j = len(rows) - 1, len(columns) - 1
    one, two = list[str](), list[str]()
    while i or j:
        i, j, word, other_word = steps[i][j]
        one += [word] if word else []
        two += [other_word] if other_word else []
    return one[::-1], two[::-1]
