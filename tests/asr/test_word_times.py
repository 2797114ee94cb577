"""When words begin and end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import Samples
from asr.recognizer import Recognizer
from asr.word_times import sound_of, word_spans

QUIET, LOUD = -20.0, 20.0


def _sound(*lengths: int) -> tuple[bool, ...]:
    """Quiet and loud frames by turns."""
    levels = [(QUIET, LOUD)[i % 2] for i, length in enumerate(lengths) for _ in range(length)]
    return sound_of(torch.tensor(levels))


def test_a_word_reaches_over_the_sound_around_its_tokens() -> None:
    sound = _sound(10, 12, 10)
    assert word_spans([(13, 18)], sound, 32.0) == [(10.5, 21.5)]
    assert word_spans([(13, 13)], sound, 32.0) == [(10.5, 21.5)]  # one token: a word is not one frame long


def test_tokens_that_come_behind_their_sound_belong_to_it() -> None:
    assert word_spans([(24, 25)], _sound(20, 4, 10), 34.0) == [(20.5, 23.5)]


def test_words_with_a_pause_between_leave_it_out() -> None:
    assert word_spans([(7, 9), (22, 24)], _sound(5, 6, 8, 7, 5), 31.0) == [(5.5, 10.5), (19.5, 25.5)]


def test_a_closure_is_no_pause() -> None:
    assert word_spans([(7, 7)], _sound(5, 4, 2, 4, 5), 20.0) == [(5.5, 14.5)]


def test_words_without_a_pause_meet_before_the_second() -> None:
    (_, end), (start, _) = word_spans([(7, 9), (15, 17)], _sound(5, 16, 5), 26.0)
    assert end == start == 13.0


def test_without_sound_tokens_are_late_and_early_by_what_is_usual() -> None:
    assert word_spans([(10, 14)], (), float("inf")) == [(8.0, 16.0)]


def test_breath_before_a_word_is_no_sound() -> None:
    levels = torch.tensor([-20.0] * 6 + [8.0] * 3 + [46.0] * 8 + [-20.0] * 6)
    assert word_spans([(11, 13)], sound_of(levels), 23.0) == [(9.5, 16.5)]


def test_steady_noise_bounds_a_word() -> None:
    ((start, end),) = word_spans([(50, 52)], _sound(1, 120, 1), 122.0)
    assert 50 - 8 <= start < 50 and 52 < end <= 52 + 12


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
