"""Many streams as one batch: what each says is what it says alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio import Samples
from asr.recognition.batching import batch_shape, encode_batch, worthwhile
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Pending, Recognizer, Stream, StreamInput, StreamOptions
from asr.recognition.results import Result

RULE = EndpointRule(trailing_silence_s=0.3, max_utterance_s=1.5)


def piece(speech: Samples, number: int) -> Samples:
    """Different audio of different length for each number."""
    return np.roll(speech, -3000 * number)[: 14_000 + 2_500 * number]


def open_stream(recognizer: Recognizer, number: int) -> Stream:
    return recognizer.open(StreamOptions(interim_results=number % 2 == 0, endpoint=RULE))


def alone(recognizer: Recognizer, speech: Samples, number: int) -> list[Result]:
    stream = open_stream(recognizer, number)
    return [*stream.accept(piece(speech, number)), *stream.finish()]


def assert_alike(found: list[Result], expected: list[Result]) -> None:
    """The same results; scores to float tolerance."""
    assert [r.nbest[0].text for r in found] == [r.nbest[0].text for r in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.is_final, one.start_s, one.end_s, one.endpoint_s) == (
            other.is_final, other.start_s, other.end_s, other.endpoint_s,
        )  # fmt: skip
        assert one.nbest[0].score == pytest.approx(other.nbest[0].score, abs=1e-3)
        assert [w.start_s for w in one.nbest[0].words] == [w.start_s for w in other.nbest[0].words]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), count=st.integers(2, 7))
def test_a_streams_results_do_not_depend_on_its_batch(
    tiny_recognizer: Recognizer, speech: Samples, data: st.DataObject, count: int
) -> None:
    """Streams of different age and length, in whatever batches they happen to meet."""
    streams = [open_stream(tiny_recognizer, i) for i in range(count)]
    for i, stream in enumerate(streams):
        stream.take(piece(speech, i))
        stream.end()
    found: list[list[Result]] = [[] for _ in streams]
    while waiting := [i for i, stream in enumerate(streams) if stream.ready]:
        batch = data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique=True))
        for i, results in zip(batch, tiny_recognizer.advance([streams[i] for i in batch]), strict=True):
            found[i] += results
    for i in range(count):
        assert_alike(found[i], alone(tiny_recognizer, speech, i))


def test_a_failed_step_changes_no_stream(tiny_recognizer: Recognizer, speech: Samples) -> None:
    good, bad = open_stream(tiny_recognizer, 0), open_stream(tiny_recognizer, 1)
    for stream in (good, bad):
        stream.take(piece(speech, 0))
        stream.end()
    bad.state = replace(bad.state, encoder=None)
    before = good.state, bad.state
    with pytest.raises(AttributeError):
        tiny_recognizer.advance([good, bad])
    assert good.state is before[0] and bad.state is before[1]
    found = []
    while good.ready:
        found += tiny_recognizer.advance([good])[0]
    assert_alike(found, alone(tiny_recognizer, speech, 0))


@pytest.mark.parametrize("rate", [16_000, 8000])
def test_a_step_is_a_function_of_states_and_inputs(tiny_recognizer: Recognizer, speech: Samples, rate: int) -> None:
    """The same states and inputs give the same again, at any time; inputs of a step are those of single calls."""
    options = StreamOptions(rate, interim_results=True, endpoint=RULE)
    states, walked = [tiny_recognizer.initial_state(options)], []
    for part in np.split(speech, 10):
        before = states
        states, results = tiny_recognizer.step(before, [StreamInput(part)])
        assert [r.nbest for r in tiny_recognizer.step(before, [StreamInput(part)])[1][0]] == [
            r.nbest for r in results[0]
        ]
        while states[0].pending is not Pending.NONE:
            walked.append((states, results))
            states, results = tiny_recognizer.step(states)
        walked.append((states, results))
    states, results = tiny_recognizer.step(states, [StreamInput(end=True)])
    walked.append((states, results))
    while states[0].pending is not Pending.NONE:
        states, results = tiny_recognizer.step(states)
        walked.append((states, results))
    found = [result for _, results in walked for result in results[0]]
    stream = tiny_recognizer.open(options)
    expected = [r for part in np.split(speech, 10) for r in stream.accept(part)] + stream.finish()
    assert [r.nbest for r in found] == [r.nbest for r in expected] and len(found) > 3
    for (before, _), (_, results) in zip(walked, walked[1:], strict=False):
        if before[0].pending is not Pending.NONE:
            again = tiny_recognizer.step(before)[1]
            assert [r.nbest for r in again[0]] == [r.nbest for r in results[0]]
    state = walked[-1][0][0]
    assert state.done and state.finished and tiny_recognizer.step([state], [StreamInput(speech)])[0] == [state]


def test_only_streams_with_a_whole_chunk_go_on(tiny_recognizer: Recognizer, speech: Samples) -> None:
    stream = tiny_recognizer.open()
    stream.take(speech[:1000])
    assert not stream.ready
    with pytest.raises(ValueError, match="ready"):
        tiny_recognizer.advance([stream])


@given(st.integers(1, 300))
def test_batches_are_full_enough(rows: int) -> None:
    taken = worthwhile(rows)
    assert 1 <= taken <= rows < 2 * taken + 1
    assert taken <= batch_shape(taken) <= taken * 4 / 3
    assert worthwhile(taken) == taken


@torch.inference_mode()
def test_a_stream_keeps_no_others_memory(tiny_recognizer: Recognizer) -> None:
    model = tiny_recognizer.model
    windows = [torch.randn(tiny_recognizer.front_end.window_frames, 80) for _ in range(3)]
    steps = encode_batch(model, windows, [model.initial_state(1) for _ in windows])
    for encoded, state in steps:
        (past,) = state.streams
        for kept in (encoded, past.memory.kept):
            assert kept.untyped_storage().nbytes() == kept.numel() * 4
