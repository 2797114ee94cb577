"""Hypotheses in written form: their text, their words and the words' times."""

from __future__ import annotations

import numpy as np
import pytest

from asr.context.phrase_index import PhraseIndex
from asr.context.spelling import phrase_spelling
from asr.context.types import BiasedWord, ContextEmbedding, Phrase
from asr.decoding import BoostedPhrase
from asr.recognition.results import Hypothesis, Word
from asr.recognition.written_form import written_hypothesis, written_nbest
from asr.second_pass.attention_decoder import DecodedUtterance, WrittenHypothesis
from asr.text import normalize, spoken_forms


def hypothesis(text: str, written: str = "") -> Hypothesis:
    words = tuple(Word(w, i / 2, i / 2 + 0.4, 0.9 - i / 20) for i, w in enumerate(text.split()))
    return Hypothesis(text, -1.0, words=words, confidence=0.5, written=written)


def attended(*texts: str) -> DecodedUtterance:
    return DecodedUtterance([], tuple(WrittenHypothesis(text, -float(i)) for i, text in enumerate(texts)))


def embedding(*entries: str, signal: str = "contacts") -> ContextEmbedding:
    phrases = tuple(Phrase(normalize(e), signal, -1.0, e) for e in entries)
    return ContextEmbedding(np.zeros((0, 4), np.float32), np.zeros(4, np.float32), phrases, "none", "v")


def text(*arguments: object, **options: object) -> str:
    return written_hypothesis(*arguments, **options).text  # type: ignore[arg-type]


def test_words_are_what_stands_between_spaces_with_the_times_of_what_was_said() -> None:
    said = hypothesis("it was five dollars and twenty cents", "It was $5.20.")
    found = written_hypothesis(said, attended("It was $5.20."))
    assert (found.text, found.score, found.confidence) == ("It was $5.20.", said.score, said.confidence)
    assert [(w.text, w.start_s, w.end_s) for w in found.words] == [
        ("It", 0.0, 0.4), ("was", 0.5, 0.9), ("$5.20.", 1.0, 3.4),
    ]  # fmt: skip
    assert [w.confidence for w in found.words] == pytest.approx([0.9, 0.85, 0.6])


def test_written_words_that_share_a_spoken_one_share_its_time() -> None:
    found = written_hypothesis(hypothesis("rock roll", "Rock & roll."), attended("Rock & roll."))
    assert [(w.text, w.start_s, w.end_s) for w in found.words] == [
        ("Rock", 0.0, 0.4), ("&", 0.4, 0.4), ("roll.", 0.5, 0.9),
    ]  # fmt: skip


def test_the_likeliest_written_form_is_taken() -> None:
    decoded = attended("Call Meg Bauer, at 5:30.", "call meg bauer at five thirty")
    assert text(hypothesis("call meg bauer at five thirty", "Call Meg Bauer, at 5:30."), decoded) == (
        "Call Meg Bauer, at 5:30."
    )
    assert text(hypothesis("meg bauer", "Meg Bauer."), attended("Meg Bower.")) == "Meg Bauer."
    assert text(hypothesis("meg bauer", "Meg Bauer."), attended("meg bauer")) == "Meg Bauer."


def test_a_text_that_was_not_written_is_written_like_one_that_was() -> None:
    said = hypothesis("call mike at five thirty i think", "Call mike at five thirty i think.")
    assert text(said, attended("Call Mag at 5:30, I think.")) == "Call Mike at 5:30, I think."
    assert text(said, attended("What a day!")) == "Call mike at five thirty I think."


def test_a_text_unlike_any_written_one_is_still_a_sentence() -> None:
    assert text(hypothesis("i said call i b m")) == "I said call I B M."
    assert text(hypothesis("")) == ""
    assert written_hypothesis(Hypothesis("call meg", -1.0)).words == ()


def test_texts_that_are_written_alike_are_one_alternative() -> None:
    decoded = attended("The Wi-Fi.", "The Hi-Fi.")
    found = written_nbest([hypothesis(t) for t in ("the wifi", "the wi fi", "the hi fi", "wife")], decoded, max_count=2)
    assert [h.text for h in found] == ["The Wi-Fi.", "The Hi-Fi."]


def test_a_clients_phrases_are_spelled_as_they_were_sent() -> None:
    spoken = {form: BoostedPhrase(p, 5.0) for p in ("Fresh Thyme", "MTV") for form in spoken_forms(p)}
    spelling = phrase_spelling(spoken)
    assert text(hypothesis("go to fresh thyme"), attended("Go to fresh time!"), spelling) == "Go to Fresh Thyme!"
    assert text(hypothesis("play m t v"), None, spelling) == "Play MTV."


def test_a_contexts_entries_are_spelled_as_they_were_recorded() -> None:
    known = embedding("Dr. Meg O'Brian", "the Rusty Anchor", "Jysk")
    spelling = phrase_spelling(None, PhraseIndex(known.phrases))
    assert text(hypothesis("call doctor meg o'brian now"), None, spelling) == "Call Dr. Meg O'Brian now."
    assert text(hypothesis("the rusty anchor"), None, spelling) == "The Rusty Anchor."
    assert text(hypothesis("which rusty anchor"), None, spelling) == "Which Rusty Anchor."
    assert text(hypothesis("is jysk open"), None, spelling) == "Is Jysk open."
    assert text(hypothesis("we are rusty"), None, spelling) == "We are rusty."  # a word alone may be any word


def test_a_word_that_only_the_context_brought_is_spelled_as_its_entry() -> None:
    biased = [BiasedWord("mckay", "Ann McKay", "contacts")]
    said = hypothesis("i mean mckay of course please")
    assert (
        text(said, None, phrase_spelling(None, PhraseIndex(embedding("Ann McKay").phrases)))
        == "I mean mckay of course please."
    )
    assert (
        text(said, None, phrase_spelling(None, PhraseIndex(embedding("Ann McKay").phrases), biased))
        == "I mean McKay of course please."
    )
