"""What each signal of the context is worth: alone, and by what is lost without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.evaluation.statistics import Bootstrap, Interval


@dataclass(frozen=True)
class Worth:
    """Relative changes of the errors, paired."""

    alone: Interval
    """With this signal only, against none."""
    left_out: Interval
    """With all others, against all of them."""
    errors_alone: tuple[int, int]
    errors_left_out: tuple[int, int]
    """Their numbers before and after."""

    @property
    def verdict(self) -> str:
        """Either "helps" or "harms" where an interval says so, else "not significant"."""
        if self.alone.high < 0 or self.left_out.low > 0:
            return "helps"
        return "harms" if self.alone.low > 0 or self.left_out.high < 0 else "not significant"


def worths(errors: Mapping[str, npt.ArrayLike], bootstrap: Bootstrap) -> dict[str, Worth]:
    """By signal, from each utterance's errors (U,) under `none`, `relevant`, `only:SIGNAL` and `without:SIGNAL`."""
    signals = [c.removeprefix("only:") for c in errors if c.startswith("only:")]
    none, all_ = np.asarray(errors["none"]), np.asarray(errors["relevant"])
    found = {}
    for s in signals:
        only, without = np.asarray(errors[f"only:{s}"]), np.asarray(errors[f"without:{s}"])
        found[s] = Worth(
            bootstrap.change(only, none), bootstrap.change(without, all_),
            (int(none.sum()), int(only.sum())), (int(all_.sum()), int(without.sum())),
        )  # fmt: skip
    return found
