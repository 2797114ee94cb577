"""Word errors: alignment, spoken alternatives, words of phrases, oracle."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.evaluation import spelling_variants
from asr.evaluation.reliability import words_right
from asr.evaluation.wer import Errors, align, count, oracle, shared_run, split_by_phrases, spoken_entities
from asr.text import normalize, spoken_forms

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
    assert " ".join(s.hypothesis for s in steps if s.hypothesis) == heard
    assert all((s.kind == "equal") == (s.reference == s.hypothesis) for s in steps)
    assert all(
        (s.kind == "insert") == (s.reference == "") and (s.kind == "delete") == (s.hypothesis == "") for s in steps
    )
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


@pytest.mark.parametrize(
    ("reference", "heard"),
    [
        (
            "Dr. Smith was born in 1984 and works for IBM",
            "doctor smith was born in nineteen eighty four and works for i b m",
        ),
        ("doctor smith works for i b m", "Dr. Smith works for IBM."),
        ("in 1984", "in one nine eight four"),
        ("Mr. Jones", "mr jones"),
        ("mr and mrs jones", "mister and missus jones"),
        ("I don\u02bct know", "i don't know"),
        ("OK, all right", "okay alright"),
        ("watch TV at 5 PM", "watch t v at five p m"),
        ("watch tv at five pm", "watch t v at 5 p.m."),
        ("h i n i c h", "HINICH"),
        ("call 555-1234", "call five five five one two three four"),
        ("it costs $5.50", "it costs five fifty"),
        ("fifty percent", "50 per cent"),
        ("the 90s", "the nineties"),
        ("Kow\u00adalski", "kowalski"),
    ],
)
def test_a_right_transcript_has_no_errors(reference: str, heard: str) -> None:
    for one, other in ((reference, heard), (heard, reference), (reference, normalize(reference)), (heard, heard)):
        assert count(align(one, other)).total == 0
    assert oracle(reference, ["something else", heard]).total == 0
    if heard == normalize(heard):
        assert all(words_right(reference, heard))


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [
        ("twelve", "one two", 2),
        ("nineteen eighty four", "one nine eight four", 3),
        ("mister jones", "missus jones", 1),
        ("I work for IBM", "i work for i b n", 1),
        ("in 1984", "in nineteen eighty five", 1),
        ("colour", "color", 1),
        ("", "yes", 1),
    ],
)
def test_words_that_are_said_differently_differ(reference: str, heard: str, errors: int) -> None:
    assert count(align(reference, heard)).total == count(align(heard, reference)).total == errors


written = st.lists(
    st.sampled_from(["call", "Dr.", "doctor", "1984", "nineteen", "eighty", "four", "IBM", "i", "b", "5 PM", "$5.50"]),
    max_size=7,
).map(" ".join)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(written, written)
def test_the_forms_with_the_fewest_errors_count(reference: str, heard: str) -> None:
    steps = align(reference, heard)
    forms = [spoken_forms(text, 10_000) for text in (reference, heard)]
    least = min(edit_distance(one.split(), other.split()) for one in forms[0][:16] for other in forms[1][:16])
    assert count(steps).total == count(align(heard, reference)).total <= least
    assert count(align(reference, reference)).total == 0


def test_long_texts_are_compared_in_pieces() -> None:
    text = "please call Dr. Brown at 5 PM about the 1984 report and the other one " * 60
    heard = "please call doctor brown at five p m about the nineteen eighty four report and the other one " * 60
    assert count(align(text, heard)).total == 0
    assert count(align(text, heard.replace("other", "second"))).total == 60


@pytest.mark.parametrize(
    ("british", "american"),
    [
        ("colour", "color"), ("neighbours", "neighbors"), ("organised", "organized"), ("analyse", "analyze"),
        ("theatre", "theater"), ("centres", "centers"), ("travelled", "traveled"), ("catalogue", "catalog"),
        ("defence", "defense"), ("grey", "gray"), ("cheque", "check"), ("programme", "program"),
        ("paediatric", "pediatric"),
        ("litre", "liter"), ("jewellery", "jewelry"), ("realisation", "realization"), ("favourite", "favorite"),
    ],
)  # fmt: skip
def test_british_and_american_spelling_are_the_same_on_request(british: str, american: str) -> None:
    for one, other in ((british, american), (american, british)):
        assert count(align(one, other)).total == 1
        assert count(align(one, other, any_spelling=True)).total == 0


@pytest.mark.parametrize(
    "word", ["four", "hour", "your", "flour", "wise", "rise", "prose", "there", "more", "called", "vogue"]
)
def test_other_words_keep_their_spelling(word: str) -> None:
    assert spelling_variants.american(word) == word


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
