"""Bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.evaluation.statistics import Bootstrap

counts = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8)), min_size=1, max_size=30)


@given(counts, st.integers(0, 5))
def test_the_value_is_the_ratio_and_lies_in_its_interval_when_all_dialogues_are_alike(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    errors, words = np.array(pairs).T
    interval = Bootstrap([str(i) for i in range(len(pairs))], 200, seed).ratio(errors, words)
    assert interval.value == pytest.approx(errors.sum() / words.sum())
    assert (errors / words).min() - 1e-9 <= interval.low <= interval.high <= (errors / words).max() + 1e-9


@given(counts)
def test_equal_conditions_have_no_change_and_no_spread(pairs: list[tuple[int, int]]) -> None:
    errors = np.array(pairs)[:, 0]
    change = Bootstrap([str(i) for i in range(len(pairs))], 100).change(errors, errors)
    if errors.sum():
        assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)
    else:
        assert np.isnan(change.value) and np.isnan(change.low)


def test_the_interval_of_a_share_agrees_with_theory() -> None:
    """400 utterances, half of them wrong: the standard error is 2.5 points."""
    wrong = np.arange(400) % 2
    interval = Bootstrap([str(i) for i in range(400)], 4000, 1).ratio(wrong, np.ones(400))
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.005)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.005)


def test_utterances_of_one_dialogue_are_drawn_together() -> None:
    """Ten dialogues of 40 equal utterances know no more than ten utterances: the interval is √40 times as wide."""
    wrong, each = np.repeat(np.arange(10) % 2, 40), np.ones(400)
    apart = Bootstrap([str(i) for i in range(400)], 2000).ratio(wrong, each)
    together = Bootstrap([str(i // 40) for i in range(400)], 2000).ratio(wrong, each)
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(40**0.5, rel=0.15)


def test_pairing_makes_a_steady_gain_certain() -> None:
    """Every dialogue loses exactly half of its errors, however many it had."""
    before = np.arange(2, 42, 2)
    change = Bootstrap([str(i) for i in range(20)], 500).change(before // 2, before)
    assert (change.value, change.low, change.high) == pytest.approx((-0.5, -0.5, -0.5))


def test_the_same_seed_draws_the_same() -> None:
    errors, words = np.arange(20) % 3, np.full(20, 4)
    names = [str(i) for i in range(20)]
    assert Bootstrap(names, 50, 7).ratio(errors, words) == Bootstrap(names, 50, 7).ratio(errors, words)
    assert Bootstrap(names, 50, 7).ratio(errors, words) != Bootstrap(names, 50, 8).ratio(errors, words)
