"""Final results in written form: what a client gets with `automatic_punctuation`, and what changes without: nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from asr.context.bundle import build_bundle
from asr.context.types import BiasedWord, ContextEmbedding, Phrase
from asr.recognition.recognizer import StreamOptions
from asr.recognition.results import Encoded, Hypothesis, Result, Word
from asr.second_pass.attention_decoder import DecodedUtterance, WrittenHypothesis
from carryover.v1 import recognizer_pb2 as pb
from server.codec.recognition import Phrases, TurnRequest, check_streaming, check_utterance, final_message
from server.contexts.handle import Status
from server.contexts.rescoring import ContextOutcome
from server.recognizer_service import in_written_form


def hypothesis(text: str, written: str = "") -> Hypothesis:
    words = tuple(Word(w, float(i), i + 0.5, 0.9) for i, w in enumerate(text.split()))
    return Hypothesis(text, -1.0, words=words, confidence=0.9, written=written)


def result(*nbest: Hypothesis, wrote: str = "") -> Result:
    heard = DecodedUtterance([], (WrittenHypothesis(wrote, -1.0),)) if wrote else None
    return Result(nbest, True, 1.0, 0.0, 9.0, encoded=Encoded(torch.zeros(1, 1), 0.0, heard))


def context(*entries: str) -> Any:
    phrases = tuple(Phrase(entry.lower(), "contacts", -1.0, entry) for entry in entries)
    embedding = ContextEmbedding(np.zeros((0, 4), np.float32), np.zeros(4, np.float32), phrases, "none", "v")
    return build_bundle(embedding, lambda phrases: None)


def test_the_option_is_read_from_both_configurations() -> None:
    stream = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
    assert not check_streaming(stream, 8, "t").written
    assert not check_utterance(pb.RecognitionConfig(), 8, "t").written
    stream.automatic_punctuation = True
    assert check_streaming(stream, 8, "t").written
    assert check_utterance(pb.RecognitionConfig(automatic_punctuation=True), 8, "t").written


def test_transcript_words_and_plain_transcript_are_written() -> None:
    best = hypothesis("pay five dollars and twenty cents", "Pay $5.20.")
    heard = result(best, hypothesis("pay five dollars"), wrote="Pay $5.20.")
    used, plain = in_written_form(heard, ContextOutcome(heard.nbest, Status.NOT_REQUESTED), Phrases(), 2)
    request = TurnRequest("FILE", StreamOptions(), 2, words=True, dialogue=None, turn="", written=True)
    sent = final_message(heard, used, plain, (), request)
    assert sent.context.plain_transcript == sent.alternatives[0].transcript == "Pay $5.20."
    assert [(w.word, w.start, w.end) for w in sent.alternatives[0].words] == [("Pay", 0.0, 0.5), ("$5.20.", 1.0, 5.5)]
    assert sent.alternatives[1].transcript == "Pay five dollars."
    assert (sent.alternatives[0].score, sent.context.changed) == (best.score, False)


def test_a_context_that_was_used_spells_the_transcript_and_leaves_the_plain_one() -> None:
    heard = result(hypothesis("call meg mcbower", "Call Meg McBower."), wrote="Call Meg McBower.")
    brought = replace(hypothesis("call meg macbauer", "Call meg macbauer."), from_context=True)
    known = context("Meg MacBauer")
    biased = (BiasedWord("macbauer", "Meg MacBauer", "contacts"),)
    applied = ContextOutcome((brought, *heard.nbest), Status.APPLIED, changed=True, biased_words=biased, bundle=known)
    used, plain = in_written_form(heard, applied, Phrases(), 8)
    assert [h.text for h in used.nbest] == ["Call Meg MacBauer.", "Call Meg McBower."]
    assert plain == "Call Meg McBower."
    assert used.nbest[0].from_context and used.changed
    missed, _ = in_written_form(result(brought), ContextOutcome((brought,), Status.NOT_READY), Phrases(), 8)
    assert missed.nbest[0].text == "Call meg macbauer."


def test_silence_is_an_empty_transcript() -> None:
    silence = Result((Hypothesis("", -1.0),), True, 1.0, 0.0, 1.0)
    used, plain = in_written_form(silence, ContextOutcome(silence.nbest, Status.NOT_REQUESTED), Phrases(), 1)
    assert [h.text for h in used.nbest] == [plain] == [""]
