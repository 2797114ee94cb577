"""Phrases and the language model in a stream's life: what they change, and what they leave as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asr.acoustic import Transducer
from asr.audio import Samples
from asr.decoding import BoostedPhrase
from asr.decoding.ngram import NGram, hash_tokens
from asr.errors import ModelError
from asr.fitted import FittedWeights
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Pending, Recognizer, StreamOptions
from asr.recognition.results import Pass, Result
from asr.text.tokenizer import Tokenizer

RULE = EndpointRule(trailing_silence_s=0.3, max_utterance_s=1.0)


PHRASE = "bauer"
"""A word that the tiny model emits when it is boosted."""


def everything(result: Result) -> tuple[object, ...]:
    return result.nbest, result.is_final, result.stability, result.start_s, result.end_s, result.endpoint_s


def test_a_boosted_phrase_raises_the_hypotheses_that_have_it(tiny_recognizer: Recognizer, speech: Samples) -> None:
    phrases = [BoostedPhrase(PHRASE, 15.0), BoostedPhrase("j", 2.0)]
    graph = tiny_recognizer.compile(phrases)
    plain, boosted = tiny_recognizer.recognize(speech[:12_000]), tiny_recognizer.recognize(speech[:12_000], graph=graph)
    assert not any(h.bias for h in plain.nbest) and sum(h.bias > 0 for h in boosted.nbest) >= 2
    assert any(PHRASE in h.text.split() for h in boosted.nbest)
    for hypothesis in boosted.nbest:
        assert hypothesis.bias == pytest.approx(graph.bonus(hypothesis.tokens), abs=1e-3)
    assert [h.score for h in boosted.nbest] == sorted((h.score for h in boosted.nbest), reverse=True)


def test_phrases_that_nobody_can_say_change_no_bit(tiny_recognizer: Recognizer, speech: Samples) -> None:
    unspellable = tiny_recognizer.recognize(
        speech, graph=tiny_recognizer.compile([BoostedPhrase("東京"), BoostedPhrase("")])
    )
    assert everything(unspellable) == everything(tiny_recognizer.recognize(speech))


def recognised(
    recognizer: Recognizer, speech: Samples, context: str, phrases: tuple[BoostedPhrase, ...]
) -> list[Result]:
    stream = recognizer.open(StreamOptions(interim_results=True, endpoint=RULE, graph=recognizer.compile(phrases)))
    if context:
        stream.set_context(recognizer.compile([BoostedPhrase(context, 15.0)]))
    return [*stream.accept(speech), *stream.finish()]


@pytest.mark.parametrize("phrases", [(), (BoostedPhrase("call meg", 4.0),)])
def test_a_context_beside_the_search_leaves_its_result_bit_for_bit(
    tiny_recognizer: Recognizer, speech: Samples, phrases: tuple[BoostedPhrase, ...]
) -> None:
    plain = recognised(tiny_recognizer, speech, "", phrases)
    boosted = recognised(tiny_recognizer, speech, PHRASE, phrases)
    assert [everything(r) for r in boosted] == [everything(r) for r in plain]
    for result in boosted:
        assert not {h.text for h in result.biased} & {h.text for h in result.nbest}
        assert result.is_final or not result.biased
    assert any(result.biased for result in boosted)
    assert not any(result.biased for result in plain)
    graph = tiny_recognizer.compile([BoostedPhrase(PHRASE, 15.0)])
    for before, after in zip(plain, boosted, strict=True):
        if after.is_final:  # the same, searched for afterwards
            assert tiny_recognizer.with_context(before, graph).biased == after.biased


def test_a_context_may_come_while_the_utterance_is_spoken(tiny_recognizer: Recognizer, speech: Samples) -> None:
    graph = tiny_recognizer.compile([BoostedPhrase(PHRASE, 15.0)])
    stream = tiny_recognizer.open(StreamOptions(endpointing=False))
    stream.accept(speech[:40_000])
    stream.set_context(graph)
    found = [*stream.accept(speech[40_000:]), *stream.finish()][-1]
    plain = tiny_recognizer.recognize(speech)
    assert found.biased and found.biased == tiny_recognizer.with_context(plain, graph).biased
    assert everything(found) == everything(plain)
    assert found.passes == (*plain.passes, Pass.CONTEXT_PHRASES)


def test_a_result_names_the_context_that_it_was_searched_with_and_no_other(
    tiny_recognizer: Recognizer, speech: Samples
) -> None:
    """A likely final that was searched for a context's phrases becomes a final result without them, or with others'."""
    graphs = [tiny_recognizer.compile([BoostedPhrase(phrase, 15.0)]) for phrase in (PHRASE, "meg")]
    rule = EndpointRule(
        likely_silence_s=0.0, trailing_silence_s=9, speech_threshold=1.0, no_token_s=9, max_utterance_s=9
    )
    for context in (None, *graphs):
        stream = tiny_recognizer.open(StreamOptions(interim_results=True, endpoint=rule))
        stream.set_context(graphs[0])
        *_, likely = stream.accept(speech[:24_000])
        assert likely.likely_final and stream.state.utterance.provisional is not None
        stream.set_context(context)
        stream.state = replace(stream.state, due=Pending.FINAL)
        ((final,),) = tiny_recognizer.advance([stream])
        assert likely.passes == (Pass.STREAMING, Pass.WHOLE_UTTERANCE, Pass.CONTEXT_PHRASES)
        assert final.passes == likely.passes[: 2 if context is None else 3]
        assert (final.nbest, final.skipped) == (likely.nbest, ())


@pytest.fixture
def language(tiny_tokenizer: Tokenizer) -> NGram:
    """Tokens one by one, the shorter pieces likelier."""
    length, vocab = np.array([len(piece) for piece in tiny_tokenizer.pieces]), tiny_tokenizer.vocab_size
    log_prob = -length - np.log(np.exp(-length).sum())
    return NGram(
        np.arange(vocab), log_prob, np.zeros(vocab, np.int64), np.zeros(1),
        order=2, vocab_size=vocab, tokens_hash=hash_tokens(tiny_tokenizer),
    )  # fmt: skip


def test_the_language_model_is_a_part_of_its_own(
    tiny_model: Transducer, tiny_tokenizer: Tokenizer, language: NGram, speech: Samples
) -> None:
    weights = FittedWeights(language=0.5, token_bonus=0.25)
    recognizer = Recognizer(tiny_model, tiny_tokenizer, beam=6, language=language, weights=weights)
    result = recognizer.recognize(speech)
    assert [h.score for h in result.nbest] == sorted((h.score for h in result.nbest), reverse=True)
    assert result.encoded is not None
    forced = recognizer.force_score(result.encoded, ["call meg", "yes"])
    for hypothesis in (*result.nbest, *forced):
        expected = 0.5 * language.score(hypothesis.tokens) + 0.25 * len(hypothesis.tokens)
        assert hypothesis.language == pytest.approx(expected, abs=1e-3)
        assert hypothesis.bias == 0
    heavier = Recognizer(tiny_model, tiny_tokenizer, language=language, language_weight=2.0, token_bonus=0.0)
    best = heavier.recognize(speech).nbest[0]
    assert best.language == pytest.approx(2 * language.score(best.tokens), abs=1e-3)


def test_a_language_model_of_no_weight_changes_no_bit(
    tiny_recognizer: Recognizer, tiny_model: Transducer, tiny_tokenizer: Tokenizer, language: NGram, speech: Samples
) -> None:
    without = Recognizer(tiny_model, tiny_tokenizer, beam=6, language=language, language_weight=0.0, token_bonus=0.0)
    assert everything(without.recognize(speech)) == everything(tiny_recognizer.recognize(speech))


def test_a_language_model_of_other_tokens_is_refused(
    tiny_model: Transducer, tiny_tokenizer: Tokenizer, language: NGram
) -> None:
    language.tokens_hash = "other"
    with pytest.raises(ModelError, match="other tokens"):
        Recognizer(tiny_model, tiny_tokenizer, language=language)
