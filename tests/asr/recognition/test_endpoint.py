"""The end of an utterance: when the rule ends it, and what the recogniser tells the rule."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import Samples
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Result

times = st.floats(0, 20, allow_nan=False)


@given(heard=times, token=times, doubted=st.none() | times, silence=st.floats(0.1, 3), wait=st.floats(0.1, 3))
def test_ends_after_a_sure_silence_or_a_long_wait(
    heard: float, token: float, doubted: float | None, silence: float, wait: float
) -> None:
    rule = EndpointRule(silence_s=silence, wait_s=wait, longest_s=30)
    ended = rule.ended(heard, token, doubted)
    if heard - token < silence:
        assert not ended
    elif heard - token >= max(silence, wait):
        assert ended
    else:  # between the two, what was in doubt decides
        assert ended == (doubted is None or heard - doubted >= silence)
    assert rule.ended(heard + 0.5, token, doubted) >= ended  # what has ended does not begin again


@given(heard=times, token=times, doubted=st.none() | times)
def test_an_end_is_likely_before_it_is_decided(heard: float, token: float, doubted: float | None) -> None:
    rule = EndpointRule(likely_s=0.3, silence_s=0.7, wait_s=20)
    assert rule.likely(heard, token, doubted) == (heard - max(token, doubted or 0) >= 0.3)
    assert rule.likely(heard, token, doubted) >= rule.ended(heard, token, doubted) or heard >= rule.longest_s
    assert not rule.likely(heard, None, doubted)


def heard_with(recognizer: Recognizer, samples: Samples, rule: EndpointRule, interim: bool) -> list[Result]:
    stream = recognizer.open(StreamOptions(interim_results=interim, endpoint=rule))
    return [result for part in np.split(samples, 50) for result in stream.accept(part)]


def test_a_likely_final_is_what_a_shorter_wait_would_have_decided(
    tiny_recognizer: Recognizer, long_speech: Samples
) -> None:
    rule = EndpointRule(likely_s=0.1, silence_s=0.7, doubt=1.0, wait_s=0.7)
    results = heard_with(tiny_recognizer, long_speech, rule, interim=True)
    likely = [result for result in results if result.likely_final]
    hasty = heard_with(tiny_recognizer, long_speech, replace(rule, silence_s=0.42, wait_s=0.42), interim=False)[0]
    assert hasty.nbest in [result.nbest for result in likely if result.end_s == hasty.end_s]
    assert not any(result.is_final or result.endpoint_s for result in likely)
    finals = [result.nbest for result in results if result.is_final]
    plain = heard_with(tiny_recognizer, long_speech, rule, interim=False)
    assert finals == [result.nbest for result in plain] and not any(result.likely_final for result in plain)


def test_nothing_said_is_lost_where_an_end_is_always_likely(tiny_recognizer: Recognizer, speech: Samples) -> None:
    rule = EndpointRule(likely_s=0.0, silence_s=9, doubt=1.0, wait_s=9, longest_s=9)
    for interim in (True, False):
        stream = tiny_recognizer.open(StreamOptions(interim_results=interim, endpoint=rule))
        results = [*stream.accept(speech), *stream.finish()]
        encoded = results[-1].encoded
        assert encoded is not None and len(encoded.frames) > 8  # likely from the first chunk on, until more was heard
        assert len(encoded.frames) * tiny_recognizer.model.frame_s > stream.progress.sounded


def test_a_likely_final_is_told_once_while_the_text_stays(tiny_recognizer: Recognizer, long_speech: Samples) -> None:
    rule = EndpointRule(likely_s=0.0, silence_s=9, doubt=1.0, wait_s=9, longest_s=9)
    results = heard_with(tiny_recognizer, long_speech, rule, interim=True)
    assert len(results) > 2 and all(result.likely_final for result in results)
    texts = [tuple(h.text for h in result.nbest) for result in results]
    assert all(a != b for a, b in itertools.pairwise(texts))


@given(heard=times, doubted=st.none() | times)
def test_nothing_ends_before_a_token_but_by_its_length(heard: float, doubted: float | None) -> None:
    rule = EndpointRule(longest_s=10, start_s=4)
    assert rule.ended(heard, None, doubted) == (heard >= 10)
    assert rule.unspoken(heard, None) == (heard >= 4) and not rule.unspoken(heard, 0.1)


def first_endpoint(recognizer: Recognizer, samples: Samples, rule: EndpointRule) -> float | None:
    stream = recognizer.open(StreamOptions(endpoint=rule))
    for part in np.split(samples, 20):
        for result in stream.accept(part):
            return result.endpoint_s
    return None


@pytest.fixture
def long_speech(speech: Samples) -> Samples:
    return np.concatenate([speech, np.zeros(32_000, np.float32)])


def test_doubt_only_ever_delays_the_end(tiny_recognizer: Recognizer, long_speech: Samples) -> None:
    """A rule that doubts more never ends an utterance earlier; one that never doubts hears tokens alone."""
    ends = []
    for doubt in (1.0, 0.5, 0.1, 0.0):
        rule = EndpointRule(silence_s=0.3, doubt=doubt, quiet_db=math.inf, wait_s=1.0, longest_s=4.5)
        end = first_endpoint(tiny_recognizer, long_speech, rule)
        ends.append(9.0 if end is None else end)
    assert ends == sorted(ends)
    # doubt 0 doubts every frame: the end is that of the long wait alone
    waiting = EndpointRule(silence_s=1.0, doubt=1.0, wait_s=1.0, longest_s=4.5)
    assert ends[-1] == (first_endpoint(tiny_recognizer, long_speech, waiting) or 9.0)
    assert ends[0] < ends[-1]


def test_a_quiet_frame_is_not_in_doubt(tiny_recognizer: Recognizer, long_speech: Samples) -> None:
    """Not even where every frame is; a tail that is not quiet stays in doubt."""
    noisy = long_speech + 0.05 * np.random.default_rng(0).standard_normal(len(long_speech)).astype(np.float32)
    rule = EndpointRule(silence_s=0.3, doubt=0.0, wait_s=9, longest_s=9)
    assert first_endpoint(tiny_recognizer, long_speech, rule) is not None
    assert first_endpoint(tiny_recognizer, noisy, rule) is None
    assert first_endpoint(tiny_recognizer, long_speech, replace(rule, quiet_db=math.inf)) is None


@torch.inference_mode()
def test_chances_are_those_after_the_leading_hypothesis(tiny_recognizer: Recognizer, speech: Samples) -> None:
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
    torch.testing.assert_close(tiny_recognizer.token_chances(encoded, state), 1 - blank.exp())
