"""When words begin and end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import Samples, read_at_16k
from asr.recognition.recognizer import Recognizer
from asr.recognition.word_times import sound_of, word_spans
from benchmarks.word_times import at_pauses, energy_bounds, streamed

ANSWERS = Path(__file__).parents[2] / "support" / "answers"
QUIET, LOUD = -20.0, 20.0


def _sound(*lengths: int) -> tuple[bool, ...]:
    """Quiet and loud frames by turns."""
    levels = [(QUIET, LOUD)[i % 2] for i, length in enumerate(lengths) for _ in range(length)]
    return sound_of(torch.tensor(levels))


def test_a_word_reaches_over_the_sound_around_its_tokens() -> None:
    sound = _sound(10, 12, 10)
    assert word_spans([(13, 18)], sound, 32.0) == [(10.0, 21.75)]
    assert word_spans([(13, 13)], sound, 32.0) == [(10.0, 21.75)]  # one token: a word is not one frame long


def test_tokens_that_come_behind_their_sound_belong_to_it() -> None:
    assert word_spans([(24, 25)], _sound(20, 4, 10), 34.0) == [(20.0, 23.75)]


def test_words_with_a_pause_between_leave_it_out() -> None:
    assert word_spans([(7, 9), (22, 24)], _sound(5, 6, 8, 7, 5), 31.0) == [(5.0, 10.75), (19.0, 25.75)]


def test_a_closure_is_no_pause() -> None:
    assert word_spans([(7, 7)], _sound(5, 4, 2, 4, 5), 20.0) == [(5.0, 14.75)]


def test_words_without_a_pause_meet_before_the_second() -> None:
    (_, end), (start, _) = word_spans([(7, 9), (15, 17)], _sound(5, 16, 5), 26.0)
    assert end == start == 12.0


def test_without_sound_tokens_are_late_and_early_by_what_is_usual() -> None:
    assert word_spans([(10, 14)], (), float("inf")) == [(7.0, 16.0)]


def test_breath_before_a_word_is_no_sound() -> None:
    levels = torch.tensor([-20.0] * 6 + [8.0] * 3 + [46.0] * 8 + [-20.0] * 6)
    assert word_spans([(11, 13)], sound_of(levels), 23.0) == [(9.0, 16.75)]


def test_steady_noise_bounds_a_word() -> None:
    ((start, end),) = word_spans([(50, 52)], _sound(1, 120, 1), 122.0)
    assert 50 - 8 <= start < 50 and 52 < end <= 52 + 12


def test_a_slow_word_lasts_as_long_as_its_sound() -> None:
    assert word_spans([(6, 6)], _sound(5, 20, 5), 30.0) == [(5.0, 24.75)]


frames = st.lists(st.integers(0, 60), min_size=2, max_size=16).map(sorted)


@given(frames=frames, sound=st.lists(st.booleans(), max_size=61), end=st.floats(0.0, 61.0))
def test_words_are_in_order_apart_and_in_the_audio(frames: list[int], sound: list[bool], end: float) -> None:
    tokens = list(zip(frames[::2], frames[1::2], strict=False))
    spans = word_spans(tokens, sound, end)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges) and edges[0] >= 0.0 and edges[-1] <= end


def test_loudness_of_nothing_is_no_sound() -> None:
    assert sound_of(torch.zeros(0)) == ()
    assert sound_of(torch.full((4,), 3.0)) == (False,) * 4


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.96])
def test_no_word_of_any_alternative_is_outside_its_audio(
    tiny_recognizer: Recognizer, speech: Samples, seconds: float
) -> None:
    samples = speech[: int(16_000 * seconds)]
    result = tiny_recognizer.recognize(samples, nbest=6)
    forced = tiny_recognizer.force_score(result.encoded, [" ".join(["meg"] * 40)]) if result.encoded else []
    assert any(h.words for h in result.nbest)
    for hypothesis in (*result.nbest, *forced):
        edges = np.array([edge for w in hypothesis.words for edge in (w.start_s, w.end_s)])
        assert (np.diff(edges) >= 0).all() and (edges >= 0).all() and (edges <= seconds + 1e-9).all()


@pytest.mark.parametrize("pause_s", [0.4, 1.5])
def test_words_are_where_their_sound_is_in_every_utterance_of_a_stream(pause_s: float) -> None:
    """With the first pass alone, with both, and where a text is forced as a context's is."""
    bounds = {"help": (0.32, 0.625), "no": (0.33, 0.67)}  # of their energy, 30 dB above the room's
    quiet, samples, true = np.zeros(round(pause_s * 16_000), np.float32), np.zeros(0, np.float32), []
    for name in ("help", "no", "help"):
        begin_s = len(samples) / 16_000 + pause_s
        true.append([begin_s + edge for edge in bounds[name]])
        samples = np.concatenate([samples, quiet, read_at_16k(ANSWERS / f"{name}.opus")])
    samples = np.concatenate([samples, quiet])
    for second_pass in (False, True):
        recognizer = Recognizer.load(second_pass=second_pass)
        finals = streamed(recognizer, samples)
        words = [w for r in finals for w in r.nbest[0].words]
        assert [w.text for w in words] == ["help", "no", "help"]
        forced = [w for r in finals if r.encoded for w in recognizer.force_score(r.encoded, [r.nbest[0].text])[0].words]
        for found in (words, forced):
            assert np.array([(w.start_s, w.end_s) for w in found]) == pytest.approx(np.array(true), abs=0.1)
        for one in finals:
            for hypothesis in one.nbest:
                edges = [one.start_s, *(edge for w in hypothesis.words for edge in (w.start_s, w.end_s)), one.end_s]
                assert edges == sorted(edges)


def test_energy_shows_where_a_sound_is() -> None:
    samples = np.full(16_000, 1e-5, np.float32)
    samples[4_000:9_600] = 0.1
    assert energy_bounds(samples) == pytest.approx((0.25, 0.6), abs=0.011)
    assert energy_bounds(np.full(16_000, 0.1, np.float32)) is None


def test_words_beside_a_pause_have_the_edges_of_their_sound() -> None:
    samples = np.full(32_000, 1e-5, np.float32)
    for start_s, end_s in ((0.3, 0.8), (1.2, 1.7)):
        samples[round(16_000 * start_s) : round(16_000 * end_s)] = 0.1
    first, second = at_pauses(samples, [("help", 0.25, 0.9), ("no", 1.1, 1.75)])
    assert (first.start_s, first.end_s) == pytest.approx((0.3, 0.8), abs=0.011)
    assert (second.start_s, second.end_s) == pytest.approx((1.2, 1.7), abs=0.011)
    (met, _) = at_pauses(samples, [("help", 0.25, 1.1), ("no", 1.1, 1.75)])
    assert met.end_s == 1.1 and not met.before_pause
