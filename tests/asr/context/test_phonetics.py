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


@pytest.mark.parametrize(("a", "b"), [("hill", "hille"), ("sean", "shaun"), ("philip", "phillip"), ("clark", "clarke")])
def test_what_sounds_the_same_is_the_same(a: str, b: str) -> None:
    assert phonetics.distance(phonetics.phones(a), phonetics.phones(b)) < 0.15


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


@settings(deadline=None)
@given(st.lists(sounds, min_size=1, max_size=4), st.lists(sounds, min_size=1, max_size=4))
def test_a_span_is_the_best_run_of_words(rows: list[str], heard: list[str]) -> None:
    starts = np.cumsum([0, *map(len, heard[:-1])]).tolist()
    ids = phonetics.encode(["".join(heard)])[0][0]
    found, _ = phonetics.spans_and_whole(*phonetics.encode(rows), ids, starts)
    runs = ["".join(heard[i:j]) for i in range(len(heard)) for j in range(i + 1, len(heard) + 1)]
    for row, value in zip(rows, found, strict=True):
        nothing = phonetics.distance(row, "")
        assert value == pytest.approx(min([nothing, *(phonetics.distance(row, r) for r in runs)]), abs=1e-3)
