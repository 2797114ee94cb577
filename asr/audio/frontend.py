"""The front end of a stream: samples in, windows of features out, one for each chunk of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asr.audio.features import MELS, FeatureStream
from asr.audio.samples import SAMPLE_RATE, Resampler, Samples, check_samples

_TAIL_S = 0.2
"""Silence added at the end of a stream, so that the last words come out. On dev, more adds none."""


@dataclass(frozen=True)
class FrontEndState:
    """A stream's audio that the encoder has not read. A value, but for the resampler (`Resampler`)."""

    resampler: Resampler
    features: FeatureStream
    buffered: Tensor
    """(F, 80) features from the first that the next window reads."""
    window_frames: int
    """Feature frames of a window."""
    samples: int = 0
    """Samples read so far, at 16 kHz."""
    ended: bool = False
    """Whether the audio has ended."""

    @property
    def ready(self) -> bool:
        """Whether a whole window is there."""
        return len(self.buffered) >= self.window_frames


@dataclass(frozen=True)
class FrontEnd:
    """Resampling, features and windows for one acoustic model.

    A window is a chunk's feature frames (10 ms) with those that the encoder reads before and behind it.
    """

    function: Callable[[Tensor], Tensor]
    """From padded samples to features (`AcousticModel.features`)."""
    lookback: int
    """Feature frames before a chunk."""
    chunk_frames: int
    """Feature frames of a chunk."""
    lookahead: int
    """Feature frames behind a chunk."""

    @property
    def window_frames(self) -> int:
        """Feature frames of a window."""
        return self.lookback + self.chunk_frames + self.lookahead

    def start(self, rate: int) -> FrontEndState:
        """A stream without audio, sampled at `rate` hertz. Raises AudioError for a rate that is not supported."""
        features = FeatureStream(self.function, self.chunk_frames, self.lookahead)
        return FrontEndState(Resampler.start(rate), features, torch.zeros(self.lookback, MELS), self.window_frames)

    def accept(self, state: FrontEndState, samples: Samples) -> FrontEndState:
        """Read (n,) float32 samples, -1 to 1, at the stream's rate.

        Raises:
            AudioError: not mono float32, or NaN.
            ValueError: an older state of a stream at another rate than 16 kHz (`Resampler`).
        """
        resampler, resampled = state.resampler.accept(check_samples(samples))
        return self._read(replace(state, resampler=resampler), resampled)

    def complete(self, state: FrontEndState) -> FrontEndState:
        """Read all samples that have come in, those too that the resampler holds; the audio goes on behind them.

        Raises ValueError as `accept`.
        """
        resampler, resampled = state.resampler.restart()
        return self._read(replace(state, resampler=resampler), resampled)

    def end(self, state: FrontEndState) -> FrontEndState:
        """End the audio: fill the last chunk up with silence. Raises ValueError as `accept`."""
        resampler, resampled = state.resampler.flush()
        state = self._read(replace(state, resampler=resampler), resampled)
        features, tail = state.features.accept(np.zeros(int(_TAIL_S * SAMPLE_RATE), np.float32))
        features, last = features.flush()
        return replace(state, features=features, buffered=torch.cat([state.buffered, tail, last]), ended=True)

    def next_window(self, state: FrontEndState) -> tuple[FrontEndState, Tensor]:
        """The state behind the next chunk, and its (lookback + chunk + lookahead, 80) features, of a `ready` state."""
        window = state.buffered[: self.window_frames]
        return replace(state, buffered=state.buffered[self.chunk_frames :]), window

    def _read(self, state: FrontEndState, samples: Samples) -> FrontEndState:
        features, new = state.features.accept(samples)
        buffered = torch.cat([state.buffered, new]) if len(new) else state.buffered
        return replace(state, features=features, buffered=buffered, samples=state.samples + len(samples))
