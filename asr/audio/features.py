"""Streaming log-mel features: 80 bands, 25 ms windows every 10 ms, as Whisper's but with a fixed floor.

Whisper clips each utterance 8 decades below its own maximum, which a stream cannot know; here the floor is fixed.
Frame i is centred on sample 160 i. Frames are computed in aligned blocks of a fixed shape, so that the values do not
depend on how the samples arrive: the features of a whole recording and of any chunking of it agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from asr.audio import SAMPLE_RATE
from asr.audio.level import Level
from asr.pairing import load_torchaudio

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
    bank = load_torchaudio().functional.melscale_fbanks(
        WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
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


class FeatureStream:
    """Turns samples into feature blocks as they arrive.

    `accept` takes (n,) float32 samples at 16 kHz and returns (T, 80), whole blocks; `flush` pads the end with silence
    up to a whole block and ends the stream.

    Args:
        function: from padded samples to features, as `log_mel`.
        block: frames computed at once; larger ones cost less, in all. lead: how many more in the first block.
    """

    def __init__(
        self, function: Callable[[torch.Tensor], torch.Tensor] = log_mel, block: int = BLOCK, lead: int = 0
    ) -> None:
        self._function = function
        self._span, self._wanted = block * HOP, (block + lead) * HOP
        self._rest = np.zeros(_HALF, np.float32)
        self._level = Level()

    def accept(self, samples: npt.NDArray[np.float32]) -> torch.Tensor:
        self._rest = np.concatenate([self._rest, samples])
        blocks = []
        while len(self._rest) >= (needed := self._wanted + WINDOW - HOP):
            block = self._rest[:needed]
            self._level = self._level.after(block)
            gain = np.float32(self._level.gain)
            blocks.append(self._function(torch.from_numpy(block if gain == 1 else gain * block)))
            self._rest, self._wanted = self._rest[self._wanted :], self._span
        return torch.cat(blocks) if blocks else torch.zeros(0, MELS)

    def flush(self) -> torch.Tensor:
        pending = max(0, len(self._rest) - _HALF)
        blocks = 1 + max(0, -(-(pending - self._wanted) // self._span)) if pending else 0
        missing = self._wanted + (blocks - 1) * self._span + WINDOW - HOP - len(self._rest)
        out = self.accept(np.zeros(missing, np.float32)) if blocks else torch.zeros(0, MELS)
        self._rest = np.zeros(_HALF, np.float32)
        return out


def features(samples: npt.NDArray[np.float32]) -> torch.Tensor:
    """Features of a whole recording: (n,) float32 at 16 kHz to (T, 80)."""
    stream = FeatureStream()
    return torch.cat([stream.accept(samples), stream.flush()])
