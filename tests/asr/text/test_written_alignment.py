"""Written texts word by word, and the written forms of texts in normal form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.text import normalize, spoken_forms
from asr.text.written_alignment import WrittenWord, fit, sentence, with_phrases


def joined(words: tuple[WrittenWord, ...]) -> str:
    return " ".join(w.text for w in words)


@pytest.mark.parametrize(
    ("written", "said", "ends"),
    [
        ("It costs $5.20, doesn't it?", "it costs five dollars and twenty cents doesn't it", [1, 2, 7, 8, 9]),
        ("It costs $5.20.", "it costs five twenty", [1, 2, 4]),
        ("Meet me at 7 p.m. on Main St.", "meet me at seven p m on main street", [1, 2, 3, 4, 6, 7, 8, 9]),
        ("He paid $5 million - really.", "he paid five million dollars really", [1, 2, 4, 5, 5, 6]),
        ("Salt & pepper", "salt and pepper", [1, 2, 3]),
        ("Salt & pepper", "salt pepper", [1, 1, 2]),
        ("Yes and/or no.", "yes and or no", [1, 3, 4]),
        ("The Wi-Fi is off.", "the wifi is off", [1, 2, 3, 4]),
        ("Turn to BBC 1.", "turn to b b c one", [1, 2, 5, 6]),
        ("Beyoncé — live", "beyonce live", [1, 1, 2]),
        ("See P. M. now.", "see pm now", [1, 1.5, 2, 3]),
    ],
)
def test_written_words_stand_for_spoken_ones(written: str, said: str, ends: list[float]) -> None:
    fitted = fit(written, said)
    assert (joined(fitted.words), fitted.differing) == (written, 0)
    assert [w.end for w in fitted.words] == pytest.approx(ends)
    assert [w.start for w in fitted.words] == pytest.approx([0, *ends[:-1]])


@pytest.mark.parametrize(
    ("written", "said", "fitted"),
    [
        ("Call Mag Power, at 5:30.", "call meg bauer at five thirty", "Call Meg Bauer, at 5:30."),
        ("Hello there.", "hello there my friend", "Hello there my friend."),
        ("Hello there my friend.", "hello friend", "Hello friend."),
        ("Hello, friend!", "hello", "Hello!"),
        ("He left. Sheep stayed.", "he left she stayed", "He left. She stayed."),
        ("I got 5 of them.", "i got nine of them", "I got nine of them."),
        ("", "call meg", "Call meg"),
        ("...", "no", "No ..."),
        ("Call Meg.", "", ""),
    ],
)
def test_words_that_differ_take_capitals_and_punctuation(written: str, said: str, fitted: str) -> None:
    assert joined(fit(written, said).words) == fitted


SAID = ["call", "meg", "five", "thirty", "a", "i", "to", "two", "dr", "saint", "b", "c", "dollars", "o'clock"]
spoken = st.lists(st.sampled_from(SAID), max_size=8)
pieces = st.lists(
    st.sampled_from(
        ["Call", "Meg,", "5:30.", "$5", "million", "-", "&", "St.", "Dr.", "B.C.", "“a”", "é", "'", "and/or"]
    ),
    max_size=8,
).map(" ".join)


@given(written=pieces, said=spoken)
def test_every_spoken_word_is_written_in_order(written: str, said: list[str]) -> None:
    words = fit(written, " ".join(said)).words
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(word.text.strip() == word.text != "" for word in words)
    if said:
        assert (edges[0], edges[-1]) == (0, len(said))
        assert all(a == b for a, b in zip(edges[1::2], edges[2::2], strict=False))
    assert len(words) <= len(written.split()) + len(said)


@given(written=pieces)
def test_a_text_fits_what_it_is_said_as(written: str) -> None:
    for said in spoken_forms(written, 4):
        fitted = fit(written, said)
        assert fitted.differing == 0
        assert joined(fitted.words) == (written if said else "")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("is i b m what i want", "Is I B M what I want."), ("i'm at a b c", "I'm at A B C."), ("a", "A."),
        ("play m t v", "Play M T V."), ("call a friend", "Call a friend."), ("", ""),
    ],
)  # fmt: skip
def test_a_text_as_a_sentence(said: str, written: str) -> None:
    assert sentence(said) == written
    assert normalize(written) == said


PHRASES = ("Fresh Thyme", "JYSK", "Boeing 747", "Dr. Brown", "the Beatles", "St. John", "Beyoncé", "Main St.", "iPhone",
           "fresh", "Time Out", "AT&T", "five guys")  # fmt: skip
SPOKEN = {form: phrase for phrase in PHRASES for form in spoken_forms(phrase)}


@pytest.mark.parametrize(
    ("written", "said", "spelled"),
    [
        ("Go to fresh time, now.", "go to fresh thyme now", "Go to Fresh Thyme, now."),
        ("Jisk?", "jysk", "JYSK?"),
        ("I flew a Boeing 7 47. It was big.", "i flew a boeing seven forty seven it was big", None),
        ("Call doctor brown.", "call doctor brown", "Call Dr. Brown."),
        ("The beatles.", "the beatles", "The Beatles."),
        ("Play the beatles.", "play the beatles", "Play the Beatles."),
        ('"Saint John," he said.', "saint john he said", '"St. John," he said.'),
        ("I live on main street.", "i live on main street", "I live on Main St."),
        ("On main street, please.", "on main street please", "On Main St., please."),
        ("Iphone please.", "iphone please", "iPhone please."),
        ("Play beyonce.", "play beyonce", "Play Beyoncé."),
        ("A Fresh one.", "a fresh one", "A Fresh one."),  # written in its normal form it says nothing of its spelling
        ("Five Guys?", "five guys", "Five Guys?"),
        ("A T and T.", "a t and t", "AT&T."),
        ("The b/saint john.", "the b saint john", "The b/saint john."),  # a part of a written word is left alone
    ],
)
def test_phrases_are_written_as_they_are_sent(written: str, said: str, spelled: str | None) -> None:
    words = with_phrases(fit(written, said).words, said, lambda form: SPOKEN.get(form, ""))
    assert joined(words) == (spelled or "I flew a Boeing 747. It was big.")
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges) and (edges[0], edges[-1]) == (0, len(said.split()))
