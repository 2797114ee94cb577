"""Phrases of a request: in use however they are written, reported as they were sent."""

from __future__ import annotations

import pytest

from asr.context.phrases import supported_words
from asr.recognition.recognizer import Recognizer
from carryover.v1 import recognizer_pb2 as pb
from server.codec.recognition import check_phrases
from server.settings import Limits

PHRASES = ["St. John", "MTV", "Boeing 747", "the 90s", "$5.50", "Dr. Smith", "Mr. Jones", "Blink-182"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("call saint john", "St. John"), ("watch m t v", "MTV"), ("a boeing seven forty seven", "Boeing 747"),
        ("songs of the nineties", "the 90s"), ("pay five fifty", "$5.50"), ("doctor smith please", "Dr. Smith"),
        ("mister jones", "Mr. Jones"), ("play blink one eighty two", "Blink-182"),
    ],
)  # fmt: skip
def test_phrases_are_reported_as_they_are_written(tiny_recognizer: Recognizer, said: str, written: str) -> None:
    phrases = check_phrases([pb.SpeechContext(phrases=PHRASES)], Limits(), tiny_recognizer)
    assert phrases.report is not None and phrases.report.accepted == len(PHRASES) and not phrases.report.rejected
    assert phrases.graph is not None and len(phrases.graph) == len(PHRASES)
    found = supported_words(said, phrases.graph.spoken)
    assert found and {(w.phrase, w.signal) for w in found} == {(written, "speech_contexts")}
    assert phrases.graph.bonus(tiny_recognizer.tokenizer.encode(said)) > 0


@pytest.mark.parametrize("phrase", ["don\u02bct stop", "Kow\u00adalski", "ＡＢＣ", "ﬁve ½", "Øystein", "№ 5", "🄰"])
def test_letters_in_other_clothes_are_letters(tiny_recognizer: Recognizer, phrase: str) -> None:
    phrases = check_phrases([pb.SpeechContext(phrases=[phrase, "улица", "Ж 5"])], Limits(), tiny_recognizer)
    assert phrases.report is not None and phrases.report.accepted == 1
    assert [r.phrase for r in phrases.report.rejected] == ["улица", "Ж 5"]


def test_of_a_phrase_that_is_sent_twice_the_larger_boost_counts(tiny_recognizer: Recognizer) -> None:
    contexts = [
        pb.SpeechContext(phrases=["Dr. Smith"], boost=2.0), pb.SpeechContext(phrases=["doctor SMITH"], boost=7.0),
        pb.SpeechContext(phrases=["Doctor Smith"], boost=0.0),
    ]  # fmt: skip
    phrases = check_phrases(contexts, Limits(), tiny_recognizer)
    assert [(p.text, p.weight) for p in phrases.usable] == [("doctor SMITH", 7.0)]
