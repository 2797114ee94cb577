"""Streaming log-mel features: 80 bands, 25 ms windows every 10 ms, as Whisper's but with a fixed floor.

Whisper clips each utterance 8 decades below its own maximum, which a stream cannot know; here the floor is fixed.
Frame i is centred on sample 160 i. Frames are computed in aligned blocks of a fixed shape, so that the values do not
depend on how the samples arrive: the features of a whole recording and of any chunking of it agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from asr.audio import SAMPLE_RATE
from asr.audio.level import Level
from asr.audio.mel import mel_filters

WINDOW = 400
HOP = 160
MELS = 80
FRAME_S = HOP / SAMPLE_RATE
BLOCK = 4
"""Frames computed at once (40 ms)."""
FLOOR = 1e-6
"""Mel power below this is silence."""
SILENCE = -0.5
"""The floor's feature."""
_HALF = WINDOW // 2


@cache
def window_and_bank(device: torch.device, mels: int = MELS) -> tuple[torch.Tensor, torch.Tensor]:
    """Whisper's window (400,) and mel filters (201, mels)."""
    bank = mel_filters(WINDOW // 2 + 1, mels, SAMPLE_RATE)
    return torch.hann_window(WINDOW, device=device), bank.to(device)


def log_mel(padded: torch.Tensor) -> torch.Tensor:
    """Features of samples that are already padded by half a window on both sides.

    Args:
        padded: (..., 240 + 160 T) float32 at 16 kHz, -1 to 1.

    Returns:
        (..., T, 80) float32, about -0.5 (silence) to 1.5.
    """
    window, bank = window_and_bank(padded.device)
    frames = padded.unfold(-1, WINDOW, HOP) * window
    power = torch.fft.rfft(frames).abs().square()
    return (power @ bank).clamp(min=FLOOR).log10().add(4.0).div(4.0)


def loudness(features: torch.Tensor) -> torch.Tensor:
    """(..., 80) of `log_mel` → (...), the loudest band's power in dB; -20 at the floor."""
    return 40.0 * features.amax(-1)


@dataclass(frozen=True)
class FeatureStream:
    """Feature extraction of one stream as its samples arrive. A value: `accept` returns the stream behind the samples.

    Features are computed in blocks of a fixed shape; larger blocks cost less, in all.
    """

    function: Callable[[torch.Tensor], torch.Tensor] = log_mel
    """From padded samples to features, as `log_mel`."""
    block: int = BLOCK
    """Frames computed at once."""
    lead: int = 0
    """How many more in the first block."""
    rest: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(_HALF, np.float32))
    """(n,) samples from the first that the next frame reads."""
    level: Level = field(default_factory=Level)
    """How loud the stream has been, for the gain."""
    begun: bool = False
    """Whether the first block has been computed."""

    def accept(self, samples: npt.NDArray[np.float32]) -> tuple[FeatureStream, torch.Tensor]:
        """Read (n,) float32 samples at 16 kHz → the stream behind them, (T, 80) features of whole blocks."""
        rest, level, frames = np.concatenate([self.rest, samples]), self.level, self._next
        blocks = []
        while len(rest) >= (needed := frames * HOP + WINDOW - HOP):
            block = rest[:needed]
            level = level.after(block)
            gain = np.float32(level.gain)
            blocks.append(self.function(torch.from_numpy(block if gain == 1 else gain * block)))
            rest, frames = rest[frames * HOP :], self.block
        after = replace(self, rest=rest, level=level, begun=self.begun or bool(blocks))
        return after, torch.cat(blocks) if blocks else torch.zeros(0, MELS)

    def flush(self) -> tuple[FeatureStream, torch.Tensor]:
        """End the stream, padded with silence up to a whole block → the stream behind it, (T, 80) features."""
        pending, wanted, span = max(0, len(self.rest) - _HALF), self._next * HOP, self.block * HOP
        blocks = 1 + max(0, -(-(pending - wanted) // span)) if pending else 0
        missing = wanted + (blocks - 1) * span + WINDOW - HOP - len(self.rest)
        after, out = self.accept(np.zeros(missing, np.float32)) if blocks else (self, torch.zeros(0, MELS))
        return replace(after, rest=np.zeros(_HALF, np.float32)), out

    @property
    def _next(self) -> int:
        """Frames of the next block."""
        return self.block if self.begun else self.block + self.lead


def features(samples: npt.NDArray[np.float32]) -> torch.Tensor:
    """Features of a whole recording: (n,) float32 at 16 kHz → (T, 80)."""
    stream, begun = FeatureStream().accept(samples)
    return torch.cat([begun, stream.flush()[1]])
