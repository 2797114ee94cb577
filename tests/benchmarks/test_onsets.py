"""Nothing of an answer is lost, whenever it begins and wherever an utterance is cut from the next."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asr.audio import SAMPLE_RATE, Samples, read_at_16k
from asr.recognition.endpointing import EndpointRule, quietest_place
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Result

ANSWERS = Path(__file__).parents[1] / "support" / "answers"
NO_SHRINKING = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
DEMO = Path(__file__).parents[2] / "server" / "demo" / "audio"


@pytest.fixture(scope="module")
def shipped() -> Recognizer:
    return Recognizer.load()


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def noise(seconds: float) -> Samples:
    return (1e-3 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def finals(recognizer: Recognizer, samples: Samples, options: StreamOptions) -> list[Result]:
    stream = recognizer.open(options)
    found = [r for at in range(0, len(samples), 1600) for r in stream.accept(samples[at : at + 1600])]
    return [r for r in [*found, *stream.finish()] if r.is_final]


def text(results: list[Result]) -> str:
    return " ".join(r.nbest[0].text for r in results if r.nbest[0].text)


@pytest.mark.parametrize(
    ("before", "options", "onsets"),
    [
        (silence, StreamOptions(), (3.72, 3.76, 5.64)),
        (noise, StreamOptions(single_utterance=True), (3.72, 3.76)),
        (silence, StreamOptions(interim_results=True, endpoint=EndpointRule(leading_silence_s=1.0)), (1.48,)),
    ],
)
def test_an_answer_is_heard_wherever_it_begins(
    shipped: Recognizer, before: object, options: StreamOptions, onsets: tuple[float, ...]
) -> None:
    """Also where silence was dropped when it had begun and no token of it had come."""
    assert callable(before)
    for name in ("no", "help"):
        word = read_at_16k(ANSWERS / f"{name}.opus")
        for onset in onsets:
            found = finals(shipped, np.concatenate([before(onset), word, silence(1.2)]), options)
            assert text(found) == name, onset
            (said,) = [w for r in found for w in r.nbest[0].words]
            assert onset < said.start_s < onset + 0.6


def test_a_word_in_the_middle_of_a_cut_is_heard_once(shipped: Recognizer) -> None:
    """Speech that goes on longer than an utterance may is cut between words."""
    loud = {name: read_at_16k(DEMO / f"{name}.flac") for name in ("call_meg", "bauer")}
    call, bauer = (x[slice(*np.flatnonzero(np.abs(x) > 0.02)[[0, -1]])] for x in loud.values())
    said = np.concatenate([call, silence(0.1), bauer, silence(0.1)] * 4 + [silence(1.0)])
    rule = EndpointRule(max_utterance_s=2.0)
    for lead in (0.1, 0.25):
        found = finals(shipped, np.concatenate([silence(lead), said]), StreamOptions(endpoint=rule))
        words = text(found).split()
        assert len(found) >= 3 and len(words) == 12
        assert words[2::3] == ["bower"] * 4  # and never "bow" and "hour"


@settings(
    max_examples=5, deadline=None, phases=NO_SHRINKING, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.permutations(range(6)),
    silence_s=st.sampled_from([0.1, 0.3, 0.7]),
    likely_s=st.sampled_from([0.1, 0.4, 1.0]),
    longest_s=st.sampled_from([1.0, 2.5, 30.0]),
    second_pass=st.booleans(),
    interim=st.booleans(),
)
def test_utterances_have_all_of_the_audio_between_them(
    tiny_recognizer: Recognizer, speech: Samples, order: list[int], silence_s: float, likely_s: float,
    longest_s: float, second_pass: bool, interim: bool,
) -> None:  # fmt: skip
    """Each begins where the one before ends; only where nothing was said for long a gap is left."""
    recognizer = Recognizer(tiny_recognizer.model, tiny_recognizer.tokenizer, beam=6, second_pass=second_pass)
    parts = np.split(speech[:24_000], 6)
    samples = np.concatenate([*(parts[i] for i in order), silence(4.5), *(parts[i] for i in order[:3])])
    rule = EndpointRule(
        trailing_silence_s=silence_s, likely_silence_s=likely_s, max_utterance_s=longest_s, leading_silence_s=1.0
    )
    found = finals(recognizer, samples, StreamOptions(endpoint=rule, interim_results=interim))
    assert len(found) >= 2
    frame_s, chunk_s = recognizer.model.frame_s, recognizer.front_end.chunk_frames / 100
    for before, after in zip(found, found[1:], strict=False):
        assert before.encoded is not None and before.endpoint_s is not None
        end_s = before.start_s + frame_s * len(before.encoded.frames)
        assert before.end_s == pytest.approx(min(end_s, len(samples) / SAMPLE_RATE))
        assert end_s < before.endpoint_s + 1e-6
        assert all(t < end_s - 1e-6 for h in before.nbest for t in h.token_times)
        gap = after.start_s - end_s
        assert abs(gap) < 1e-6 or gap > chunk_s - 1e-6  # unspoken audio that was dropped
    other = finals(recognizer, samples, StreamOptions(endpoint=rule, interim_results=not interim))
    assert [r.nbest for r in found] == [r.nbest for r in other]


def test_the_quietest_place() -> None:
    loud = [0.0] * 10 + [-40.0] * 5 + [0.0] * 3 + [-41.0] * 5 + [0.0] * 4
    # of places about as quiet the last, with two quiet frames on each side
    assert quietest_place(loud, range(3, 25)) == 21
    assert quietest_place(loud, range(3, 16)) == 13
    assert quietest_place([0.0] * 9, [3, 4]) == 4
