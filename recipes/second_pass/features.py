"""Whisper's log-mel features of a whole utterance: 80 bands, 25 ms windows every 10 ms.

Unlike `asr.audio.features`, whose floor is fixed because a stream cannot look ahead, these are clipped 8 decades below
the utterance's own maximum, as the model was trained (Radford et al. 2022, arXiv:2212.04356).
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.audio.features import HOP, WINDOW, window_and_bank

_RANGE = 8.0
"""Decades between the loudest band of an utterance and its floor."""


def log_mel(samples: Tensor, mels: int = 80) -> Tensor:
    """Features of one utterance.

    Args:
        samples: (n,) float32 at 16 kHz, -1 to 1; at least 201.
        mels: bands.

    Returns:
        (n // 160, mels) float32.
    """
    window, bank = window_and_bank(samples.device, mels)
    spectrum = torch.stft(samples, WINDOW, HOP, window=window, return_complex=True)[:, :-1]
    power = spectrum.abs().square().mT @ bank
    logarithm = power.clamp(min=1e-10).log10()
    return logarithm.clamp(min=float(logarithm.max()) - _RANGE).add(4.0).div(4.0)
