"""The calibration of confidences as the evaluation measures it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.evaluation.reliability import reliability, words_right


def test_words_are_right_where_the_reference_has_them() -> None:
    assert words_right("call meg bauer", "call beg meg power") == [True, False, True, False]
    assert words_right("yes", "") == [] and words_right("", "yes") == [False]


def test_a_curve_by_hand() -> None:
    curve = reliability([0.95, 0.95, 0.95, 0.95, 0.25, 1.0], [True, True, True, False, False, True])
    assert curve is not None and curve.words == 6
    low, high = curve.bins
    assert (low.words, low.confidence, low.right) == (1, 0.25, 0.0)
    assert (high.words, high.right) == (5, 0.8) and high.confidence == pytest.approx(0.96)
    assert curve.error == pytest.approx((1 * 0.25 + 5 * 0.16) / 6)
    assert reliability([], []) is None


@given(st.integers(0, 2**32 - 1))
def test_honest_confidences_have_a_small_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.random(4000)
    honest = reliability(sure.tolist(), (rng.random(4000) < sure).tolist())
    boastful = reliability(np.sqrt(sure).tolist(), (rng.random(4000) < sure).tolist())
    assert honest is not None and boastful is not None
    assert honest.error < 0.06 < 0.1 < boastful.error
