"""How people answer, counted: what stands around an entity, and whole answers that name none."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Set
from pathlib import Path

from asr.context.phrase_index import parts_of
from asr.context.question import question_of
from asr.context.types import QUESTIONS
from asr.text import normalize
from recipes.context.data import Sample
from recipes.synthesis.corpus import first_column


def count_tables(
    samples: Iterable[Sample],
    names: Set[str],
    *,
    carriers: int = 48,
    answers: int = 60,
    least: int = 3,
    longest: int = 4,
) -> dict[str, object]:
    """Log probabilities of the most frequent carriers and common answers, as config.json keeps them.

    Args:
        samples: what was said after contexts. names: words that make an answer no common one.
        least: occurrences below which nothing is kept.
        longest: words of a common answer at most.
    """
    around: Counter[tuple[str, str]] = Counter()
    whole: dict[str, Counter[str]] = {q: Counter() for q in QUESTIONS}
    for sample in samples:
        named = _around(sample)
        if named is not None:
            around[named] += 1
        elif 0 < len(sample.answer.split()) <= longest and not names & set(sample.answer.split()):
            whole[question_of(sample.context.turns)][sample.answer] += 1
    total = sum(around.values()) or 1
    kept = [(b, a, n) for (b, a), n in around.most_common(carriers) if n >= least and len(b.split() + a.split()) <= 4]
    if not any((b, a) == ("", "") for b, a, _ in kept):
        kept.append(("", "", total))
    return {
        "carriers": [[b, a, round(math.log(n / total), 2)] for b, a, n in kept],
        "answers": {
            q: [[t, round(math.log(n / sum(c.values())), 2)] for t, n in c.most_common(answers) if n >= least]
            for q, c in whole.items()
        },
    }


def add_names(tables: Path, data: Path, given: int = 2000, surnames: int = 8000) -> None:
    """Adds the most frequent names of data/text/names to a file of tables that has none, as config.json keeps them.

    All of them, also those that are kept for test by their hash: what is learned is what a name is worth, and no name.
    """
    known = json.loads(tables.read_text())
    for key, file, limit in (("given", "given_names", given), ("surnames", "surnames", surnames)):
        names = first_column(data / "text" / "names" / f"{file}.tsv.gz", limit)
        known.setdefault(key, " ".join(map(normalize, names)))
    tables.write_text(json.dumps(known))


def _around(sample: Sample) -> tuple[str, str] | None:
    if sample.target is None:
        return None
    for part, _ in sorted(parts_of(normalize(sample.context.entries[sample.target].text)), key=lambda p: -len(p[0])):
        before, found, after = f" {sample.answer} ".partition(f" {part} ")
        if found:
            return before.strip(), after.strip()
    return None
