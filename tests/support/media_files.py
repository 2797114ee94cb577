"""Recordings as browsers and phones make them."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import soxr

from tests.support.tiny_recognizer import speech

SPEECH = speech()
RATE = 16_000
"""Of `SPEECH`, Hz."""


def media_file(kind: str, codec: str, rate: int = RATE, channels: int = 1, seconds: int = 3) -> bytes:
    """A file of one codec with the speech of the tiny recogniser, again and again."""
    file, layout = io.BytesIO(), "mono" if channels == 1 else "stereo"
    samples = soxr.resample(np.tile(SPEECH, seconds // 3), RATE, rate)
    with av.open(file, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, channels)[None].astype(np.float32), "flt", layout)
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(stream.format.name, layout, rate, frame_size=960)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(piece))
    return file.getvalue()
