"""The mel filter bank of the features: Slaney's scale, each filter of equal area (Slaney 1998, Auditory Toolbox).

The values are those of `torchaudio.functional.melscale_fbanks` with `norm="slaney"` and `mel_scale="slaney"`, bit for
bit: the shipped models were trained with them. Whisper's filters are the same.
"""

from __future__ import annotations

import math

import torch

_HZ_A_MEL = 200 / 3
"""Below `_BEND_HZ`, where the scale is linear."""
_BEND_HZ = 1000.0
_BEND_MEL = _BEND_HZ / _HZ_A_MEL
_STEP = math.log(6.4) / 27
"""Of ln(Hz) for a mel above `_BEND_HZ`, where the scale is logarithmic."""


def mel_filters(bins: int, mels: int, sample_rate: int) -> torch.Tensor:
    """Triangular filters from 0 Hz to half the sample rate: (bins, mels) float32, to multiply power spectra with.

    Args:
        bins: frequencies of a spectrum, 0 Hz and half the sample rate included.
        mels: how many filters; centres are evenly spaced on the mel scale.
        sample_rate: in Hz.
    """
    frequencies = torch.linspace(0, sample_rate // 2, bins)
    top = _BEND_MEL + math.log(sample_rate / 2 / _BEND_HZ) / _STEP
    points = _hz(torch.linspace(0, top, mels + 2))
    widths = points[1:] - points[:-1]
    slopes = points.unsqueeze(0) - frequencies.unsqueeze(1)
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    areas = 2 / (points[2:] - points[:-2])
    return torch.minimum(rising, falling).clamp(min=0) * areas


def _hz(mels: torch.Tensor) -> torch.Tensor:
    above = _BEND_HZ * torch.exp(_STEP * (mels - _BEND_MEL))
    return torch.where(mels >= _BEND_MEL, above, _HZ_A_MEL * mels)
