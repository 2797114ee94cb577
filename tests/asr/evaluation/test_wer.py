from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.evaluation.wer import Errors, align, count, oracle, shared_run, split_by_phrases, spoken_entities

texts = st.lists(st.sampled_from(["meg", "bauer", "jones", "power", "call", "the"]), max_size=8).map(" ".join)
spoken = texts.filter(bool)


def edit_distance(reference: list[str], heard: list[str]) -> int:
    """The textbook recursion, as a table."""
    table = np.add.outer(np.arange(len(reference) + 1), np.arange(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        for j, other in enumerate(heard, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (word != other))
    return int(table[-1, -1])


@given(texts, texts)
def test_the_alignment_is_a_shortest_one_of_the_two_texts(reference: str, heard: str) -> None:
    steps = align(reference, heard)
    assert " ".join(s.reference for s in steps if s.reference) == reference
    assert " ".join(s.heard for s in steps if s.heard) == heard
    assert all((s.kind == "equal") == (s.reference == s.heard) for s in steps)
    assert all((s.kind == "insert") == (s.reference == "") and (s.kind == "delete") == (s.heard == "") for s in steps)
    assert count(steps).total == edit_distance(reference.split(), heard.split())


@given(st.lists(st.tuples(spoken, texts), min_size=1, max_size=5))
def test_word_errors_are_those_of_jiwer(pairs: list[tuple[str, str]]) -> None:
    errors = sum((count(align(reference, heard)) for reference, heard in pairs), Errors())
    theirs = jiwer.process_words([r for r, _ in pairs], [h for _, h in pairs])
    assert errors.rate == pytest.approx(theirs.wer)
    assert errors.words == theirs.hits + theirs.substitutions + theirs.deletions
    assert (errors.substitutions, errors.insertions, errors.deletions) == (
        theirs.substitutions, theirs.insertions, theirs.deletions,
    )  # fmt: skip


@given(texts, texts, st.sets(st.sampled_from(["meg", "bauer", "power"])))
def test_biased_and_other_words_add_up_to_all(reference: str, heard: str, phrases: set[str]) -> None:
    steps = align(reference, heard)
    biased, others = split_by_phrases(steps, phrases)
    assert biased + others == count(steps)
    assert biased.words == sum(word in phrases for word in reference.split())


@given(spoken, st.lists(texts, min_size=1, max_size=5))
def test_the_oracle_is_no_worse_than_any_reading(reference: str, nbest: list[str]) -> None:
    best = oracle(reference, nbest).total
    assert best == min(edit_distance(reference.split(), text.split()) for text in nbest)


def test_a_substitution_counts_where_its_reference_word_belongs() -> None:
    biased, others = split_by_phrases(align("call bauer", "call power"), {"bauer"})
    assert (biased, others) == (Errors(1, 1, 0, 0), Errors(1, 0, 0, 0))


def test_an_insertion_counts_where_the_inserted_word_belongs() -> None:
    biased, others = split_by_phrases(align("call", "call bauer"), {"bauer"})
    assert (biased, others) == (Errors(0, 0, 1, 0), Errors(1, 0, 0, 0))


def test_the_rate_without_words_is_not_a_number() -> None:
    assert np.isnan(Errors(0, 0, 2, 0).rate)


@pytest.mark.parametrize(
    ("reference", "target", "entries", "expected"),
    [
        ("bauer", "meg bauer", [], ("bauer",)),
        ("call meg bauer please", "meg bauer", [], ("meg bauer",)),
        ("the second one", "meg bauer", [], ()),
        ("yes", "", ["yes"], ()),
        ("play kid rock now", None, ["kid rock", "mf doom"], ("kid rock",)),
        ("kidding", None, ["kid"], ()),
    ],
)
def test_entities_are_what_the_reference_says_of_them(
    reference: str, target: str | None, entries: list[str], expected: tuple[str, ...]
) -> None:
    assert spoken_entities(reference, target, entries) == expected


@given(texts, texts)
def test_a_shared_run_stands_in_both_and_is_symmetric_in_length(a: str, b: str) -> None:
    run = shared_run(a, b)
    assert not run or all(f" {run} " in f" {text} " for text in (a, b))
    assert len(run.split()) == len(shared_run(b, a).split())
