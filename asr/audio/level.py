"""Automatic gain: quiet speech is raised to the level that the models know, as it comes.

A block of audio is raised by what the loudest sound so far, this block included, is below `TARGET_DB`, never by more
than `MOST_DB` and never lowered. Only what stands out from the background counts as a sound: steady noise is not
raised, and neither is anything of a stream that is loud enough, bit for bit. The blocks are the aligned ones of
`asr.audio.features.FeatureStream`, so gains do not depend on how the samples arrive; no block waits for a later one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

TARGET_DB = -32.0
"""Level of the loudest sound that is aimed at, dB of full scale: that of speech with a peak of -24 dBFS or so."""
MOST_DB = 36.0
_STANDS_OUT_DB = 9.0
"""Over the background: steady noise varies by less within a block."""
_RELEASE_DB = 0.08
_RISE_DB = 0.03
"""Each frame of 10 ms: how fast a loud sound is forgotten while quieter ones follow, and how fast the background may
rise."""
_FRAME = 160
_LEAST_DB = -90.0


@dataclass(frozen=True)
class Level:
    """How loud a stream has been so far."""

    loudest: float | None = None
    """The loudest sound, slowly forgotten, dB of full scale; None until something stood out from the background."""
    background: float = math.inf
    """The background's level, dB of full scale."""

    def after(self, samples: npt.NDArray[np.float32]) -> Level:
        """The level with the next block, (n,) at 16 kHz. Digital silence tells nothing about the background."""
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        power = np.square(frames - frames.mean(1, keepdims=True)).mean(1)
        if not (power := power[power > 0]).size:
            return self
        loud, soft = (max(_LEAST_DB, 10 * math.log10(p)) for p in (float(power.max()), float(power.min())))
        background = min(soft, self.background + _RISE_DB * len(frames))
        if loud < background + _STANDS_OUT_DB:
            return replace(self, background=background)
        held = loud if self.loudest is None else max(loud, self.loudest - _RELEASE_DB * len(frames))
        return Level(held, background)

    @property
    def gain(self) -> float:
        """By which the block is multiplied, 1 at least."""
        raised = 0.0 if self.loudest is None else min(MOST_DB, max(0.0, TARGET_DB - self.loudest))
        return 10 ** (raised / 20) if raised else 1.0
