"""Streams that are steered: utterances that are ended by hand, options that change between utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asr.audio import SAMPLE_RATE, Samples
from asr.decoding import BoostedPhrase
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer, Stream, StreamInput, StreamOptions
from asr.recognition.results import Result, SpeechEvent

RATE = SAMPLE_RATE
FRAME = 640
"""Samples of an encoded frame."""
UNENDING = EndpointRule(
    trailing_silence_s=60, likely_silence_s=60, no_token_s=60, leading_silence_s=60, max_utterance_s=60
)

places = st.integers(0, 32_000)
cuts = st.lists(st.integers(0, 32_000), max_size=8)


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Two seconds that the tiny model takes for words."""
    rng, t = np.random.default_rng(5), np.arange(32_000) / RATE
    tone = np.sin(2 * np.pi * (200 + 500 * t) * t) * (np.sin(2 * np.pi * 1.5 * t) > -0.2)
    return (0.3 * tone + 0.05 * rng.standard_normal(len(t))).astype(np.float32)


def pieces(samples: Samples, at: Sequence[int]) -> list[Samples]:
    """The samples in pieces, cut at these places."""
    return np.split(samples, sorted(min(place, len(samples)) for place in at))


def told(stream: Stream, samples: Samples, at: Sequence[int] = ()) -> list[Result]:
    """The results that samples bring, handed over in pieces."""
    return [result for piece in pieces(samples, at) for result in stream.accept(piece)]


def heard(results: Sequence[Result]) -> list[object]:
    """All that results say, bit for bit."""
    return [(r.nbest, r.is_final, r.start_s, r.end_s, r.finalized, r.passes, r.biased, r.revision) for r in results]


@settings(max_examples=12)
@given(place=places, first=cuts, second=cuts, interim=st.booleans())
def test_a_finalized_utterance_does_not_depend_on_how_its_audio_is_cut(
    tiny_recognizer: Recognizer, speech: Samples, place: int, first: list[int], second: list[int], interim: bool
) -> None:
    def run(at: list[int]) -> list[object]:
        stream = tiny_recognizer.open(StreamOptions(interim_results=interim))
        before = told(stream, speech[:place], at)
        ended = stream.finalize()
        assert [result.finalized for result in ended] == [True] and ended[0].is_final
        return heard([r for r in [*before, *ended, *told(stream, speech, at), *stream.finish()] if r.is_final])

    assert run(first) == run(second)


@settings(max_examples=8)
@given(place=places, rate=st.sampled_from([8_000, 16_000, 44_100]))
def test_a_finalized_utterance_is_that_of_a_stream_that_ends_there(
    tiny_recognizer: Recognizer, speech: Samples, place: int, rate: int
) -> None:
    options = StreamOptions(rate, endpoint=UNENDING)
    ended, finalized = tiny_recognizer.open(options), tiny_recognizer.open(options)
    results = [*ended.accept(speech[:place]), *ended.finish()]
    (result,) = [*finalized.accept(speech[:place]), *finalized.finalize()]
    assert heard([replace(result, finalized=False)]) == heard(results)


@settings(max_examples=8)
@given(place=places)
def test_no_audio_behind_a_finalized_utterance_is_lost_or_heard_twice(
    tiny_recognizer: Recognizer, speech: Samples, place: int
) -> None:
    """The next utterance has the encoder's frames that the stream would have had anyway, to the last bit."""
    options = StreamOptions(endpoint=UNENDING)
    cut = tiny_recognizer.open(options)
    audio = np.concatenate([speech, speech])
    cut.accept(audio[:place])
    cut.finalize()
    (second,) = [*cut.accept(audio[place:]), *cut.finish()]
    assert second.start_s == pytest.approx(place // FRAME * tiny_recognizer.model.frame_s)
    once = Recognizer(tiny_recognizer.model, tiny_recognizer.tokenizer, beam=6, second_pass=False)
    streams = [once.open(options) for _ in range(2)]
    streams[0].accept(audio)
    streams[1].accept(audio[:place])
    streams[1].finalize()
    streams[1].accept(audio[place:])
    every, later = (torch.cat(stream.state.utterance.encoded) for stream in streams)
    assert torch.equal(every[place // FRAME :], later)


def test_an_utterance_without_speech_is_finalized_too(tiny_recognizer: Recognizer, speech: Samples) -> None:
    stream, silent = tiny_recognizer.open(), tiny_recognizer.open()
    silence = silent.finish()[0].nbest
    for _ in range(3):
        (result,) = stream.finalize()
        assert result.finalized and result.is_final and result.nbest == silence
    stream.accept(speech)
    assert stream.finalize()[-1].nbest[0].text
    (result,) = stream.finalize()
    assert result.finalized and result.start_s == result.end_s == 2.0


def test_a_stream_of_one_utterance_ends_with_the_finalized_one(tiny_recognizer: Recognizer, speech: Samples) -> None:
    stream = tiny_recognizer.open(StreamOptions(single_utterance=True, endpoint=UNENDING))
    stream.accept(speech)
    assert stream.finalize()[-1].nbest[0].text and stream.done
    assert stream.accept(speech) == stream.finalize() == stream.finish() == []


def test_finalizing_takes_the_likely_final_over(tiny_recognizer: Recognizer, speech: Samples) -> None:
    rule = EndpointRule(likely_silence_s=0.2, trailing_silence_s=9, no_token_s=9, speech_threshold=1.0)
    stream = tiny_recognizer.open(StreamOptions(interim_results=True, endpoint=rule))
    results = told(stream, np.concatenate([speech, np.zeros(RATE, np.float32)]), range(0, 48_000, 1600))
    likely = [result for result in results if result.likely_final][-1]
    assert stream.state.utterance.provisional is not None
    (final,) = stream.finalize()
    assert final.nbest == likely.nbest and not final.likely_final


def test_what_is_not_recognised_yet_is_not_finalized(tiny_recognizer: Recognizer, speech: Samples) -> None:
    state = tiny_recognizer.take(tiny_recognizer.initial_state(), StreamInput(speech))
    with pytest.raises(ValueError, match="nothing is pending"):
        tiny_recognizer.take(state, StreamInput(finalize=True))
    state = tiny_recognizer.take(tiny_recognizer.initial_state(), StreamInput(finalize=True))
    with pytest.raises(ValueError, match="being finalized"):
        tiny_recognizer.take(state, StreamInput(speech))
    with pytest.raises(ValueError, match="sample rate"):
        tiny_recognizer.open().change(StreamOptions(8_000))


# Options that change


def words(recognizer: Recognizer, stream: Stream) -> bool:
    """Whether the utterance under way has words."""
    return bool(recognizer.search.nbest(stream.state.utterance.search.beam, 0)[0].tokens)


def boosted(recognizer: Recognizer, *phrases: str) -> StreamOptions:
    graph = recognizer.compile([BoostedPhrase(phrase, 9.0) for phrase in phrases])
    return StreamOptions(interim_results=True, endpoint=UNENDING, graph=graph, revision=1)


@settings(max_examples=10)
@given(place=places, at=cuts)
def test_a_change_of_options_changes_no_bit_of_the_utterance_under_way(
    tiny_recognizer: Recognizer, speech: Samples, place: int, at: list[int]
) -> None:
    options = StreamOptions(interim_results=True, endpoint=UNENDING)
    plain, changed = tiny_recognizer.open(options), tiny_recognizer.open(options)
    told(plain, speech[:place], at)
    told(changed, speech[:place], at)
    begun = words(tiny_recognizer, changed)
    changed.change(boosted(tiny_recognizer, "lights", "zoe vexed"))
    expected, found = ([*told(s, speech[place:], at), *s.finalize()] for s in (plain, changed))
    if begun:
        assert heard(found) == heard(expected)
    else:
        assert {result.revision for result in found} == {1}
    assert changed.revision == 1
    (later,) = [result for result in [*changed.accept(speech), *changed.finish()] if result.is_final]
    assert later.revision == 1


@settings(max_examples=8)
@given(at=cuts, place=st.integers(0, 12_000))
def test_a_change_before_any_word_is_as_if_it_had_been_there_from_the_start(
    tiny_recognizer: Recognizer, speech: Samples, at: list[int], place: int
) -> None:
    options = boosted(tiny_recognizer, "lights", "zoe vexed")
    from_the_start, changed = tiny_recognizer.open(options), tiny_recognizer.open(StreamOptions(endpoint=UNENDING))
    told(changed, speech[:place], at)
    assume(not words(tiny_recognizer, changed))
    changed.change(options)
    expected = [*from_the_start.accept(speech), *from_the_start.finish()][-1]
    found = [*changed.accept(speech[place:]), *changed.finish()][-1]
    assert [h.text for h in found.nbest] == [h.text for h in expected.nbest]
    assert [h.score for h in found.nbest] == pytest.approx([h.score for h in expected.nbest], abs=1e-3)


def test_the_next_utterance_has_the_next_context(tiny_recognizer: Recognizer, speech: Samples) -> None:
    first = tiny_recognizer.compile([BoostedPhrase("kitchen lights", 9.0)], of_context=True)
    second = tiny_recognizer.compile([BoostedPhrase("zoe vexed", 9.0)], of_context=True)
    options = StreamOptions(endpoint=UNENDING)
    stream = tiny_recognizer.open(options)
    stream.set_context(first)
    stream.accept(speech)
    stream.change(replace(options, revision=1))
    stream.set_context(first, second)
    assert stream.state.context is first
    (one,) = stream.finalize()
    assert stream.state.context is second and stream.state.following is None
    (two,) = [*stream.accept(speech), *stream.finalize()]
    alone = tiny_recognizer.recognize(speech)
    assert one.biased == tiny_recognizer.with_context(replace(one, biased=()), first).biased
    assert two.biased == tiny_recognizer.with_context(replace(two, biased=()), second).biased
    assert one.nbest[0].text == alone.nbest[0].text and (one.revision, two.revision) == (0, 1)


# Speech events


def events_of(recognizer: Recognizer, stream: Stream, samples: Samples, size: int) -> list[SpeechEvent]:
    """The speech events of audio that comes in pieces of so many samples, step by step."""
    found: list[SpeechEvent] = []
    for start in range(0, len(samples) + size, size):
        stream.take(samples[start : start + size])
        if start >= len(samples):
            stream.end()
        while stream.ready:
            recognizer.advance([stream])
            found += stream.state.speech_events
    return found


@pytest.mark.parametrize("likely_s", [0.2, 60.0])
def test_speech_events_alternate_and_do_not_depend_on_the_pieces(
    tiny_recognizer: Recognizer, speech: Samples, likely_s: float
) -> None:
    rule = replace(UNENDING, likely_silence_s=likely_s, trailing_silence_s=0.6, speech_threshold=1.0)
    audio = np.concatenate([speech, np.zeros(RATE, np.float32), speech])
    options = StreamOptions(endpoint=rule, speech_events=True)
    events = events_of(tiny_recognizer, tiny_recognizer.open(options), audio, 1600)
    assert events and [event.begins for event in events] == [True, False] * (len(events) // 2)
    assert events == events_of(tiny_recognizer, tiny_recognizer.open(options), audio, 7777)
    times = [event.time_s for event in events]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= len(audio) / RATE
    silent = tiny_recognizer.open(replace(options, speech_events=False))
    assert events_of(tiny_recognizer, silent, audio, 1600) == []


def test_an_utterance_that_is_finalized_has_ended(tiny_recognizer: Recognizer, speech: Samples) -> None:
    stream = tiny_recognizer.open(StreamOptions(endpoint=UNENDING, speech_events=True))
    stream.accept(speech)
    assert stream.state.speaking
    (result,) = stream.finalize()
    (event,) = stream.state.speech_events
    assert not event.begins and not stream.state.speaking
    assert event.time_s == (result.nbest[0].words[-1].end_s if result.nbest[0].words else result.end_s)


# Batches


@settings(max_examples=5)
@given(seeds=st.lists(st.integers(0, 99), min_size=2, max_size=4, unique=True))
def test_steered_streams_of_one_batch_are_each_what_they_are_alone(
    tiny_recognizer: Recognizer, speech: Samples, seeds: list[int]
) -> None:
    """Whoever finalizes or changes what, and when: the others' texts are theirs."""
    phrases = boosted(tiny_recognizer, "lights", "zoe vexed")

    def script(seed: int) -> list[Samples | StreamOptions | None]:
        rng = np.random.default_rng(seed)
        parts: list[Samples | StreamOptions | None] = list(np.split(speech, sorted(rng.integers(0, 32_000, 3))))
        parts.insert(int(rng.integers(1, 4)), None)
        parts.insert(int(rng.integers(1, 4)), phrases)
        return parts

    def act(stream: Stream, part: Samples | StreamOptions | None) -> None:
        if part is None:
            stream.end_utterance()
        elif isinstance(part, StreamOptions):
            stream.change(part)
        else:
            stream.take(part)

    def run(chosen: list[int]) -> list[list[str]]:
        streams = [tiny_recognizer.open(StreamOptions(endpoint=UNENDING)) for _ in chosen]
        scripts, found = [script(seed) for seed in chosen], [list[str]() for _ in chosen]
        for turn in range(6):
            for stream, parts in zip(streams, scripts, strict=True):
                act(stream, parts[turn]) if turn < len(parts) else stream.end()
            while ready := [i for i, stream in enumerate(streams) if stream.ready]:
                for i, results in zip(ready, tiny_recognizer.advance([streams[i] for i in ready]), strict=True):
                    found[i] += [result.nbest[0].text for result in results if result.is_final]
        return found

    assert run(seeds) == [run([seed])[0] for seed in seeds]
