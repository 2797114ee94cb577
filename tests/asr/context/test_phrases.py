from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context.phrases import MAX_BOOST, SIGNAL, rescore_phrases
from asr.context.rescorer import ForceScore
from asr.hypothesis import Hypothesis

HEARD = (Hypothesis("power", -6.0), Hypothesis("our", -6.5), Hypothesis("bow are", -9.0))


def test_a_boost_moves_a_reading_up() -> None:
    rescored = rescore_phrases(HEARD, [("our", 1.0)], None)
    assert [h.text for h in rescored.nbest] == ["our", "power", "bow are"]
    assert rescored.nbest[0].bias == 1.0
    assert rescored.changed
    assert [(w.word, w.phrase, w.signal) for w in rescored.biased_words] == [("our", "our", SIGNAL)]


def test_too_small_a_boost_does_not() -> None:
    rescored = rescore_phrases(HEARD, [("our", 0.2)], None)
    assert [h.text for h in rescored.nbest] == [h.text for h in HEARD]
    assert not rescored.changed


def test_a_phrase_that_sounds_like_it_joins(sounds_like: Callable[[str], ForceScore]) -> None:
    rescored = rescore_phrases(HEARD, [("Bauer", 3.0)], sounds_like("bauer"))
    assert rescored.nbest[0].text == "bauer"
    assert rescored.nbest[0].from_context


@pytest.mark.parametrize("phrases", [[], [("", 3.0)], [("?!", 3.0)], [("elephant", 3.0)], [("our", float("nan"))]])
def test_phrases_that_no_one_said_change_nothing(phrases: list[tuple[str, float]]) -> None:
    rescored = rescore_phrases(HEARD, phrases, None)
    assert all(a is b for a, b in zip(rescored.nbest, HEARD, strict=True))


def test_boosts_are_bounded_and_a_repeated_phrase_counts_once() -> None:
    rescored = rescore_phrases(HEARD, [("our", 1e9), ("OUR", 2.0)], None)
    assert rescored.nbest[0].bias == MAX_BOOST


def test_a_negative_boost_moves_a_reading_down() -> None:
    assert rescore_phrases(HEARD, [("power", -2.0)], None).nbest[0].text == "our"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["our", "bow", "bow are", "x", "1 2 3"]), st.floats(-30, 30)), max_size=4))
def test_the_readings_stay_those_of_the_list(phrases: list[tuple[str, float]]) -> None:
    rescored = rescore_phrases(HEARD, phrases, None)
    assert sorted(h.text for h in rescored.nbest) == sorted(h.text for h in HEARD)
    assert [h.score for h in rescored.nbest] == sorted((h.score for h in rescored.nbest), reverse=True)


def test_ten_thousand_phrases_are_taken() -> None:
    phrases = [("our", 5.0)] + [(f"filler {'x' * (i % 30)}", 1.0) for i in range(10_000)]
    assert rescore_phrases(HEARD, phrases, None).nbest[0].text == "our"
