"""What each signal of a context is worth."""

from __future__ import annotations

import numpy as np

from asr.evaluation.signals import worths
from asr.evaluation.statistics import Bootstrap


def test_what_each_signal_is_worth() -> None:
    none = np.full(60, 2.0)
    some = np.arange(60) % 3 == 0
    errors = {
        "none": none, "relevant": none - 1, "only:good": none - 1, "only:idle": none, "only:bad": none + some,
        "without:good": none, "without:idle": none - 1, "without:bad": none - 1 - some,
    }  # fmt: skip
    found = worths(errors, Bootstrap([str(i) for i in range(60)], draws=200))
    assert {name: w.verdict for name, w in found.items()} == {
        "good": "helps",
        "idle": "not significant",
        "bad": "harms",
    }
    assert (found["good"].alone.value, found["good"].left_out.value) == (-0.5, 1.0)
