"""The end of an utterance: when the rule ends it, and what the recogniser tells the rule."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.acoustic import Transducer
from asr.audio import Samples
from asr.recognition.endpointing import EndpointRule, speech_probabilities
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Result
from asr.text.tokenizer import Tokenizer

times = st.floats(0, 20, allow_nan=False)


@given(length=times, token=times, speech=st.none() | times, silence=st.floats(0.1, 3), wait=st.floats(0.1, 3))
def test_an_utterance_ends_after_trailing_silence_or_without_new_tokens(
    length: float, token: float, speech: float | None, silence: float, wait: float
) -> None:
    rule = EndpointRule(trailing_silence_s=silence, no_token_s=wait, max_utterance_s=30)
    ended = rule.ended(length, token, speech)
    if length - token < silence:
        assert not ended
    elif length - token >= max(silence, wait):
        assert ended
    else:  # between the two, frames of speech decide
        assert ended == (speech is None or length - speech >= silence)
    assert rule.ended(length + 0.5, token, speech) >= ended  # what has ended does not begin again


@given(length=times, token=times, speech=st.none() | times)
def test_an_end_is_likely_before_it_is_decided(length: float, token: float, speech: float | None) -> None:
    rule = EndpointRule(likely_silence_s=0.3, trailing_silence_s=0.7, no_token_s=20)
    assert rule.likely(length, token, speech) == (length - max(token, speech or 0) >= 0.3)
    assert rule.likely(length, token, speech) >= rule.ended(length, token, speech) or length >= rule.max_utterance_s
    assert not rule.likely(length, None, speech)


def results_with(recognizer: Recognizer, samples: Samples, rule: EndpointRule, interim: bool) -> list[Result]:
    stream = recognizer.open(StreamOptions(interim_results=interim, endpoint=rule))
    return [result for part in np.split(samples, 50) for result in stream.accept(part)]


def test_a_likely_final_is_what_a_shorter_wait_would_have_decided(
    tiny_recognizer: Recognizer, long_speech: Samples
) -> None:
    rule = EndpointRule(likely_silence_s=0.1, trailing_silence_s=0.7, speech_threshold=1.0, no_token_s=0.7)
    results = results_with(tiny_recognizer, long_speech, rule, interim=True)
    likely = [result for result in results if result.likely_final]
    hasty = results_with(
        tiny_recognizer, long_speech, replace(rule, trailing_silence_s=0.42, no_token_s=0.42), interim=False
    )[0]
    assert hasty.nbest in [result.nbest for result in likely if result.end_s == hasty.end_s]
    assert not any(result.is_final or result.endpoint_s for result in likely)
    finals = [result.nbest for result in results if result.is_final]
    plain = results_with(tiny_recognizer, long_speech, rule, interim=False)
    assert finals == [result.nbest for result in plain] and not any(result.likely_final for result in plain)


def test_no_audio_is_lost_where_an_end_is_always_likely(tiny_recognizer: Recognizer, speech: Samples) -> None:
    rule = EndpointRule(
        likely_silence_s=0.0, trailing_silence_s=9, speech_threshold=1.0, no_token_s=9, max_utterance_s=9
    )
    for interim in (True, False):
        stream = tiny_recognizer.open(StreamOptions(interim_results=interim, endpoint=rule))
        results = [*stream.accept(speech), *stream.finish()]
        encoded = results[-1].encoded
        assert encoded is not None and len(encoded.frames) > 8  # likely from the first chunk on, until more was length
        assert len(encoded.frames) * tiny_recognizer.model.frame_s > stream.state.utterance.endpoint.likely_speech_s


def test_a_likely_final_is_sent_once_while_the_text_stays(tiny_recognizer: Recognizer, long_speech: Samples) -> None:
    rule = EndpointRule(
        likely_silence_s=0.0, trailing_silence_s=9, speech_threshold=1.0, no_token_s=9, max_utterance_s=9
    )
    results = results_with(tiny_recognizer, long_speech, rule, interim=True)
    assert len(results) > 2 and all(result.likely_final for result in results)
    texts = [tuple(h.text for h in result.nbest) for result in results]
    assert all(a != b for a, b in itertools.pairwise(texts))


@given(length=times, speech=st.none() | times)
def test_nothing_ends_before_a_token_but_by_its_length(length: float, speech: float | None) -> None:
    rule = EndpointRule(max_utterance_s=10, leading_silence_s=4)
    assert rule.ended(length, None, speech) == (length >= 10)
    assert rule.without_speech(length, None) == (length >= 4) and not rule.without_speech(length, 0.1)


def first_endpoint(recognizer: Recognizer, samples: Samples, rule: EndpointRule) -> float | None:
    stream = recognizer.open(StreamOptions(endpoint=rule))
    for part in np.split(samples, 20):
        for result in stream.accept(part):
            return result.endpoint_s
    return None


@pytest.fixture
def long_speech(speech: Samples) -> Samples:
    return np.concatenate([speech, np.zeros(32_000, np.float32)])


def test_a_lower_speech_threshold_only_delays_the_end(tiny_recognizer: Recognizer, long_speech: Samples) -> None:
    """A lower threshold never ends an utterance earlier; at 1 tokens alone count."""
    ends = []
    for threshold in (1.0, 0.5, 0.1, 0.0):
        rule = EndpointRule(
            trailing_silence_s=0.3,
            speech_threshold=threshold,
            silence_level_db=math.inf,
            no_token_s=1.0,
            max_utterance_s=4.5,
        )
        end = first_endpoint(tiny_recognizer, long_speech, rule)
        ends.append(9.0 if end is None else end)
    assert ends == sorted(ends)
    # at 0 every frame is speech: the end is that of the wait for a token alone
    waiting = EndpointRule(trailing_silence_s=1.0, speech_threshold=1.0, no_token_s=1.0, max_utterance_s=4.5)
    assert ends[-1] == (first_endpoint(tiny_recognizer, long_speech, waiting) or 9.0)
    assert ends[0] < ends[-1]


def test_a_frame_below_the_silence_level_is_no_speech(tiny_recognizer: Recognizer, long_speech: Samples) -> None:
    """Not even where every frame is; a tail that is not quiet stays speech."""
    noisy = long_speech + 0.05 * np.random.default_rng(0).standard_normal(len(long_speech)).astype(np.float32)
    rule = EndpointRule(trailing_silence_s=0.3, speech_threshold=0.0, no_token_s=9, max_utterance_s=9)
    assert first_endpoint(tiny_recognizer, long_speech, rule) is not None
    assert first_endpoint(tiny_recognizer, noisy, rule) is None
    assert first_endpoint(tiny_recognizer, long_speech, replace(rule, silence_level_db=math.inf)) is None


@torch.inference_mode()
def test_speech_probabilities_follow_the_leading_hypothesis(tiny_recognizer: Recognizer, speech: Samples) -> None:
    model, search = tiny_recognizer.model, tiny_recognizer.search
    result = tiny_recognizer.recognize(speech)
    assert result.encoded is not None
    encoded = result.encoded.frames
    state = search.step(encoded[None], search.start(1))
    best = search.nbest(state, 0)[0]
    predicted, predictor = model.start(1)
    for token in best.tokens:
        predicted, predictor = model.predict(torch.tensor([token]), predictor)
    blank = model.join(encoded, predicted).log_softmax(-1)[:, model.blank]
    (found,) = speech_probabilities(model, search, [encoded], [state])
    torch.testing.assert_close(found, 1 - blank.exp())
    first, second = speech_probabilities(model, search, [encoded[:9], encoded], [state, state])  # of several streams
    torch.testing.assert_close(torch.cat([first, second]), torch.cat([found[:9], found]))


def test_a_wait_for_words_that_is_too_long_ends_with_an_empty_final(
    silent_recognizer: Recognizer,
) -> None:
    """However the audio is cut, and again after as long; nothing of what is said then is lost."""
    rule = EndpointRule(start_timeout_s=3.0)
    audio = np.zeros(10 * 16_000, np.float32)
    found = []
    for size in (1600, 7777, len(audio)):
        stream = silent_recognizer.open(StreamOptions(endpoint=rule))
        results = [r for start in range(0, len(audio), size) for r in stream.accept(audio[start : start + size])]
        assert all(result.is_final and not result.nbest[0].text for result in results)
        found.append([result.endpoint_s for result in results])
    assert found[0] == found[1] == found[2]
    assert found[0] == pytest.approx([3.0, 6.0, 9.0], abs=0.7)
    stream = silent_recognizer.open(StreamOptions(endpoint=replace(rule, start_timeout_s=math.inf)))
    assert stream.accept(audio) == []
    once = silent_recognizer.open(StreamOptions(endpoint=rule, single_utterance=True))
    assert len(once.accept(audio)) == 1 and once.done


@pytest.fixture
def silent_recognizer(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> Recognizer:
    """A tiny recogniser that hears nothing."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.join_out.bias[0] += 100.0
    return Recognizer(model, tiny_tokenizer, beam=2, version="silent")
