"""Phones by letter rules and their weighted edit distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context import phonetics

words = st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=14)
texts = st.lists(words, min_size=1, max_size=5).map(" ".join)
sounds = st.text(phonetics.PHONES, min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("said", "near", "far"),
    [
        ("bauer", "power", "jones"),
        ("meg", "mag", "tom"),
        ("schmidt", "smith", "garcia"),
        ("call bauer", "call power", "play music"),
        ("phoebe", "feeby", "robert"),
        ("knight", "nite", "king"),
    ],
)
def test_what_sounds_alike_is_near(said: str, near: str, far: str) -> None:
    heard = phonetics.phones(said)
    assert phonetics.distance(heard, phonetics.phones(near)) < 0.5 * phonetics.distance(heard, phonetics.phones(far))


SAME = """
hill hille|sean shaun|philip phillip|clark clarke|bower bauer|hart heart|gray grey|lowe low|rowe row|poole pool
steele steel|reid reed|neil neal|keith keeth|leigh lee|wright right|moore more|knight night|browne brown|cooke cook
skye sky|hale hail|gayle gale|boyle boil|brian bryan
"""


@pytest.mark.parametrize(
    ("a", "b"), [tuple(pair.split()) for line in SAME.split("\n") for pair in line.split("|") if pair]
)
def test_what_sounds_the_same_is_the_same(a: str, b: str) -> None:
    assert phonetics.distance(phonetics.phones(a), phonetics.phones(b)) < 0.15


def test_letters_sound_like_their_names() -> None:
    said = [phonetics.phones(f"e r i {last}") for last in "cks"]
    assert phonetics.distance(said[0], said[1]) > 0.3 and phonetics.distance(phonetics.phones("c"), "si") == 0
    assert phonetics.distance(said[1], said[2]) > 0.3


@settings(deadline=None)
@given(texts)
def test_every_text_has_phones_of_the_set(text: str) -> None:
    assert set(phonetics.phones(text)) <= set(phonetics.PHONES)


@settings(deadline=None)
@given(sounds, sounds)
def test_distance_is_symmetric_and_zero_on_itself(a: str, b: str) -> None:
    assert phonetics.distance(a, a) == 0
    assert phonetics.distance(a, b) == pytest.approx(phonetics.distance(b, a), abs=1e-4)
    assert phonetics.distance(a, b) >= 0


@settings(deadline=None)
@given(st.lists(sounds, min_size=1, max_size=6), sounds)
def test_a_batch_gives_what_its_rows_give(rows: list[str], other: str) -> None:
    together = phonetics.distances(*phonetics.encode(rows), *phonetics.encode([other]))
    assert together == pytest.approx([phonetics.distance(r, other) for r in rows], abs=1e-4)


heard_words = st.lists(sounds, min_size=1, max_size=4)


@settings(deadline=None)
@given(st.lists(sounds, min_size=1, max_size=6), st.lists(sounds, min_size=1, max_size=3), st.data())
def test_rows_are_compared_with_those_that_are_meant(rows: list[str], others: list[str], data: st.DataObject) -> None:
    to = data.draw(st.lists(st.integers(0, len(others) - 1), min_size=len(rows), max_size=len(rows)))
    found = phonetics.distances(*phonetics.encode(rows), *phonetics.encode(others), to=np.array(to))
    assert found == pytest.approx([phonetics.distance(r, others[i]) for r, i in zip(rows, to, strict=True)], abs=1e-4)


@settings(deadline=None)
@given(st.lists(sounds, min_size=1, max_size=4), st.lists(heard_words, min_size=1, max_size=2))
def test_a_span_is_the_best_run_of_words(rows: list[str], heard: list[list[str]]) -> None:
    starts = [np.cumsum([0, *map(len, words[:-1])]).tolist() for words in heard]
    texts = phonetics.encode(["".join(words) for words in heard])
    found, whole = phonetics.spans_and_whole(*phonetics.encode(rows), *texts, starts)
    for place, words in enumerate(heard):
        runs = ["".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
        for row, span, all_ in zip(rows, found[place], whole[place], strict=True):
            nothing = phonetics.distance(row, "")
            assert span == pytest.approx(min([nothing, *(phonetics.distance(row, r) for r in runs)]), abs=1e-3)
            assert all_ == pytest.approx(phonetics.distance(row, "".join(words)), abs=1e-3)


def test_long_rows_and_short_ones_have_the_same_distances() -> None:
    """Their running minima are taken in another way."""
    few, other = phonetics.encode(["bWR", "jonz", "mEgbWR"]), phonetics.encode(["pWR", "Jonz"])
    many = (np.tile(few[0], (100, 1)), np.tile(few[1], 100))
    once = phonetics.distances(*few, *other, to=np.array([0, 1, 0]))
    assert np.array_equal(phonetics.distances(*many, *other, to=np.tile([0, 1, 0], 100)), np.tile(once, 100))
