"""Phrases over letters: what texts gain, against reading the words, and that the tokens make no difference."""

from __future__ import annotations

import string

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding import BoostedPhrase
from asr.second_pass.attention_decoder import SHIPPED
from asr.second_pass.phrase_boosting import START, State, TokenLetters, WrittenPhrases, letters_of
from asr.second_pass.tokens import WrittenTokens
from asr.text import spoken_forms
from tests.support.phrase_rules import TABLE, gained, vocabularies

PIECES = [*string.ascii_letters, *string.digits, *"'.,-!", " ", " me", " Me", "meg", " meg", "eg", " ba", "uer", " no"]
PIECES += [" now", "no", " a", " ab", "ab", " way", "'s", " -", " Meg", "g", " j", "ack", " call", ", no", "a b", None]


@pytest.fixture(scope="module")
def letters() -> TokenLetters:
    return TokenLetters(PIECES)


@st.composite
def spellings(draw: st.DrawFn, text: str) -> list[int]:
    """Any tokens that spell a text."""
    left, tokens = text, []
    while left:
        tokens.append(draw(st.sampled_from([i for i, piece in enumerate(PIECES) if piece and left.startswith(piece)])))
        left = left[len(PIECES[tokens[-1]]) :]
    return tokens


def followed(phrases: WrittenPhrases, tokens: list[int]) -> tuple[State, float]:
    state, total = START, 0.0
    for token in tokens:
        state, gain = phrases.step(state, token)
        total += gain
    return state, total


@pytest.mark.parametrize(("weights", "text", "bonus"), TABLE)
def test_what_a_text_gains(letters: TokenLetters, weights: dict[str, float], text: str, bonus: float) -> None:
    phrases = WrittenPhrases(weights, letters)
    assert phrases.bonus(text) == bonus
    assert phrases.bonus(text.title().replace(" ", ", ") + ".") == bonus
    state, total = followed(phrases, [PIECES.index(c) for c in f" {text}"])
    assert total + phrases.end(state) == bonus


@pytest.mark.parametrize(
    ("text", "bonus"),
    [
        ("Ask Dr. O'Brien-Smith.", 3),
        ("ask Dr Obrien Smith", 3),
        ("ask Doctor O'Brien Smith!", 3),
        ("ask Dr. O'Brien", 0),
        ("ask Dr. O'Brien-Smiths", 0),
        ("a Boeing 747, please", 3),
        ("a boeing seven forty seven", 3),
        ("a Boeing 7478", 0),
        ("a Boeing-747", 3),
        ("on MTV.", 3),
        ("on M. T. V.", 3),
        ("in C#", 0),
        ("in C", 0),
        ("in c sharp", 3),
        ("Beyoncé", 3),
        ("Beyonce", 3),
    ],
)
def test_a_phrase_matches_in_spoken_and_written_form(letters: TokenLetters, text: str, bonus: float) -> None:
    given = [BoostedPhrase(t, 3.0) for t in ("Dr. O’Brien-Smith", "Boeing 747", "MTV", "C#", "Beyoncé")]
    spoken = {form: phrase for phrase in given for form in spoken_forms(phrase.text)}
    plain = text.replace("é", "e")
    assert WrittenPhrases.of(spoken, letters, share=1.0, per_letter=9.0).bonus(plain) == bonus


def test_a_phrase_grants_its_share_and_at_most_so_much_for_each_letter(letters: TokenLetters) -> None:
    spoken = {"meg": BoostedPhrase("Meg", 60.0), "meg bauer": BoostedPhrase("Meg Bauer", 4.0)}
    phrases = WrittenPhrases.of(spoken, letters, share=0.5, per_letter=1.5)
    assert phrases.bonus("Meg") == 4.5 and phrases.bonus("Meg Bauer") == 2.0


def test_without_phrases_there_are_no_gains(letters: TokenLetters) -> None:
    assert not WrittenPhrases({}, letters) and not WrittenPhrases({"?!": 3.0, "meg": 0.0}, letters)
    assert WrittenPhrases({}, letters).bonus("meg") == 0


def test_a_phrase_is_granted_letter_by_letter_and_taken_back_when_it_is_left(letters: TokenLetters) -> None:
    phrases = WrittenPhrases({"meg bauer": 8.0}, letters)
    totals = [followed(phrases, [PIECES.index(c) for c in " meg bauer"[:n]])[1] for n in range(11)]
    assert totals == sorted(totals) and totals[2] > 0 and totals[-1] == 8.0
    assert totals[4] == totals[5]  # a space grants nothing
    state, total = followed(phrases, [PIECES.index(" meg"), PIECES.index(" ba")])
    assert 0 < total == -phrases.end(state)
    assert phrases.step(state, PIECES.index(" ba"))[1] == -total
    state, total = followed(phrases, [PIECES.index(" meg"), PIECES.index(" ba"), PIECES.index("uer")])
    assert total == 8.0 and phrases.end(state) == 0.0
    assert phrases.step(state, PIECES.index("."))[1] == phrases.step(state, PIECES.index(" no"))[1] == 0.0
    assert phrases.step(state, PIECES.index("a"))[1] == -8.0


@st.composite
def lists(draw: st.DrawFn) -> tuple[dict[str, float], st.SearchStrategy[str]]:
    """Weights of phrases, and texts of the same words."""
    word = st.sampled_from(draw(vocabularies))
    phrases = st.lists(word, min_size=1, max_size=4).map(" ".join)
    weights = draw(st.dictionaries(phrases, st.sampled_from([-2.0, 0.5, 1.0, 3.0]), min_size=1, max_size=5))
    return weights, st.lists(word, max_size=8).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_texts_gain_the_same_whatever_tokens_spell_them(data: st.DataObject) -> None:
    weights, texts = data.draw(lists())
    phrases = WrittenPhrases(weights, TokenLetters(PIECES))
    for text in data.draw(st.lists(texts, min_size=1, max_size=4)):
        assert phrases.bonus(text) == gained(weights, text)
        one, other = (followed(phrases, data.draw(spellings(f" {text}"))) for _ in range(2))
        assert one == other
        assert one[1] + phrases.end(one[0]) == gained(weights, text)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_gains_of_all_tokens_are_those_of_each(data: st.DataObject) -> None:
    weights, texts = data.draw(lists())
    vocabulary = TokenLetters(PIECES)
    phrases = WrittenPhrases(weights, vocabulary)
    text = f" {data.draw(texts)}"
    state, _ = followed(phrases, data.draw(spellings(text[: data.draw(st.integers(0, len(text)))])))
    scores = torch.zeros(len(PIECES))
    phrases.gains(state).add_to(scores, vocabulary.kind, end=len(PIECES) - 1)
    wanted = [phrases.step(state, token)[1] for token in range(len(PIECES) - 1)]
    assert scores.tolist() == [*wanted, phrases.end(state)]


def test_the_shipped_vocabulary_spells_words_within_words() -> None:
    """No token of it ends a word and begins the next, so none is to be followed alone."""
    tokens = WrittenTokens(SHIPPED / "tokenizer.json", 51864)
    vocabulary = TokenLetters(tokens.texts())
    assert not vocabulary.uneven
    phrases = WrittenPhrases({"Meg Bauer": 5.0}, vocabulary)
    for text in ("Call Meg Bauer.", "MEG BAUER", "meg bauer,", "Meg-Bauer"):
        state, total = followed(phrases, tokens.encode(text))
        assert total + phrases.end(state) == phrases.bonus(text) == 5.0
    assert letters_of(" O'Brien-Smith, 7:05") == " obrien smith 7 05"
