"""The fit of what speaks for a hypothesis that names an entry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from asr.context.evidence import EVIDENCE
from asr.context.types import Context, Entry, Turn
from recipes.rescorer.fit import Example, cross_fitted, fit, report
from recipes.rescorer.lists import HypothesisList, read_lists


def drawn(seed: int, count: int) -> list[Example]:
    """Of two hypotheses the one that is nearer in sound is right, if it is near; else the plain 1-best is."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        rows = rng.normal(size=(2, len(EVIDENCE)))
        rows[:, 0] = 1.0
        unlike = rows[:, EVIDENCE.index("unlike")]
        right = int(unlike.argmin()) if unlike.min() < -0.5 else -1
        errors = np.array([int(right >= 0), *(int(k != right) for k in range(2))])
        out.append(
            Example(f"{seed}-{i}", "ab"[i % 2], "kind", ("relevant", "anti")[i % 2], i % 2 == 0, rows, errors, 1)
        )
    return out


def test_the_fit_finds_what_tells_right_from_wrong() -> None:
    weights = dict(zip(EVIDENCE, fit(drawn(1, 300)), strict=True))
    assert weights["unlike"] < -2 and weights["constant"] < 0
    assert all(abs(weights[name]) < 0.8 for name in EVIDENCE if name not in ("unlike", "constant"))
    judged = [(e, e.chosen(np.array(list(weights.values())))) for e in drawn(2, 200)]
    assert sum(errors for _, errors in judged) < 0.15 * len(judged)


def test_what_is_judged_was_not_fitted_to() -> None:
    examples = drawn(3, 120)
    for part in (lambda e: e.fold, lambda e: e.make):
        errors = cross_fitted(examples, part)
        assert sorted(e.id for e, _ in errors) == sorted(e.id for e in examples)
    assert report("title", errors).row_count == 2


def test_without_readings_that_name_an_entry_the_plain_1best_stands() -> None:
    alone = Example("x", "a", "k", "relevant", True, np.zeros((0, len(EVIDENCE))), np.array([2]), 3)
    assert alone.chosen(np.ones(len(EVIDENCE))) == 2


def test_lists_are_read_as_they_were_written(tmp_path: Path) -> None:
    context = Context((Turn("system", "Meg or Ann?"),), (Entry("contacts", "Meg Bauer"),))
    one = HypothesisList("u1", "espeak", "two", "anti", False, "bauer", True, context, (("power", -1.0, 0.5, -2.0),), 1)
    (tmp_path / "lists.jsonl").write_text(json.dumps(asdict(one)) + "\n")
    assert list(read_lists(tmp_path / "lists.jsonl")) == [one]
    (hypothesis,) = one.hypotheses()
    assert (hypothesis.text, hypothesis.score) == ("power", pytest.approx(-2.5))
