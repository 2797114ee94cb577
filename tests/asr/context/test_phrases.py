"""Phrase boosting: a context's phrases for the search, and the words that a client's phrases support."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asr.context.phrase_index import PhraseIndex
from asr.context.phrases import SIGNAL, candidates_of, graph_phrases, supported_words
from asr.context.types import ContextEmbedding, Phrase
from asr.decoding import BoostedPhrase
from asr.recognition.results import Hypothesis

NOTHING = np.zeros((0, 4), np.float32)


def embedding(*phrases: Phrase) -> ContextEmbedding:
    return ContextEmbedding(NOTHING, np.zeros(4, np.float32), phrases, "which", "test")


def test_a_context_brings_its_phrases_and_their_parts() -> None:
    found = graph_phrases(PhraseIndex([Phrase("meg bauer", "contacts", -0.5), Phrase("kitchen", "places", -9.0)]))
    by_text = {p.text: p for p in found}
    assert set(by_text) == {"meg bauer", "meg", "bauer", "kitchen"}
    assert by_text["bauer"].signal == "contacts" and by_text["kitchen"].signal == "places"
    assert by_text["kitchen"].weight > 0
    halves = by_text["meg"].weight + by_text["bauer"].weight
    assert halves <= by_text["meg bauer"].weight <= 1.2 * halves


def test_nothing_known_brings_nothing() -> None:
    assert graph_phrases(PhraseIndex(())) == ()


def test_what_a_led_search_brings_is_what_has_a_phrase_and_its_bonus_is_taken_back() -> None:
    found = candidates_of([Hypothesis("bauer", -15.0, 0.5, 16.0), Hypothesis("bau", -14.0)])
    assert found == (Hypothesis("bauer", -15.0, 0.5, from_context=True),)


def phrases(*texts: str) -> dict[str, BoostedPhrase]:
    return {text: BoostedPhrase(text, 3.0, SIGNAL) for text in texts}


def test_the_words_that_phrases_support() -> None:
    found = supported_words("call meg bauer now", phrases("meg", "meg bauer", "bauer now please"))
    assert [(w.word, w.phrase, w.signal) for w in found] == [
        ("meg", "meg bauer", SIGNAL), ("bauer", "meg bauer", SIGNAL),
    ]  # fmt: skip
    assert supported_words("call megan", phrases("meg", "")) == ()
    assert supported_words("call meg", {"meg": BoostedPhrase("meg", 0.0, SIGNAL)}) == ()
    written = BoostedPhrase("Dr. Meg", 3.0, SIGNAL)
    named = supported_words("call doctor meg", {"doctor meg": written, "dr meg": written})
    assert [(w.word, w.phrase) for w in named] == [("doctor", "Dr. Meg"), ("meg", "Dr. Meg")]


WORDS = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)


@given(WORDS, st.lists(WORDS, max_size=4))
def test_supported_words_stand_in_the_text_in_order_and_in_their_phrase(text: str, listed: list[str]) -> None:
    found = supported_words(text, phrases(*listed))
    rest = iter(text.split())
    assert all(w.word in rest for w in found)
    assert all(w.phrase in listed and w.word in w.phrase.split() for w in found)
    if any(word in listed for word in text.split()):
        assert found
