"""The fit of what decides whether a list names a contact."""

from __future__ import annotations

import numpy as np

from asr.context.contact_classifier import FEATURES
from recipes.rescorer.callers import KINDS, Lists, changed, fit_with_margin, nats


def drawn(rng: np.random.Generator, calls: int) -> Lists:
    """Lists in which a name that is in the n-best is mostly the caller's where the 1-best is no name."""
    kind = np.tile(np.arange(len(KINDS)), calls)
    present = np.array([KINDS[k].present for k in kind])
    values = rng.normal(size=(len(kind), len(FEATURES)))
    named = values[:, FEATURES.index("given_name")] > 0
    right = present & (values[:, FEATURES.index("excess")] < 0.5)
    return Lists(
        values, right & ~named, ~right & named, right, named, np.zeros(len(kind), bool), kind,
        np.array([KINDS[k].contacts for k in kind]), np.repeat(np.arange(calls) % 4, len(KINDS)),
    )  # fmt: skip


def test_the_fit_finds_what_speaks_for_a_contact_and_does_little_harm() -> None:
    learned, others = (drawn(np.random.default_rng(seed), 60) for seed in (1, 2))
    weights = dict(zip((*FEATURES, "constant"), fit_with_margin(learned), strict=True))
    assert weights["excess"] < 0 and weights["given_name"] < 0
    change = changed(others, nats(others, np.array(list(weights.values()))))
    assert (change & others.worse)[others.names >= 10].mean() < 0.03
    assert (change & others.gained).sum() > others.gained.sum() / 2
