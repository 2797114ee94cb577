"""A tiny seeded recogniser that runs in milliseconds, and audio made here."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asr.acoustic import PRESETS, Transducer
from asr.acoustic.streaming import EncoderState
from asr.audio import Samples
from asr.audio.features import FRAME_S, loudness
from asr.text.tokenizer import Tokenizer

_SILENT_DB = -10.0
"""A digital silence is at -20."""

SENTENCES = [
    "call meg bauer please", "do you mean meg jones or meg bauer", "play good times bad times",
    "turn the lights on in the kitchen", "what is the weather in paris tomorrow", "set a timer for ten minutes",
    "send a message to jack quick", "zoe vexed the lazy fox with a jumping dog", "yes", "no", "the second one",
]  # fmt: skip


def tokenizer() -> Tokenizer:
    """Pieces of a few sentences."""
    return Tokenizer.train(SENTENCES, 56)


class SilenceAware(Transducer):
    """Hears nothing in frames without a sound, as a model that was trained does."""

    def encode(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """See `AcousticModel`."""
        encoded, after = super().encode(features, state)
        ratio = round(self.frame_s / FRAME_S)
        own = features[:, self.lookback :][:, : encoded.shape[1] * ratio]
        silent = loudness(own).unflatten(1, (-1, ratio)).amax(-1) < _SILENT_DB
        encoded[..., self.config.joined + self.blank] += 1000.0 * silent
        return encoded, after


def transducer(tokenizer: Tokenizer, kind: type[Transducer] = Transducer) -> Transducer:
    """Random weights, loud enough that different audio gives different text, and mostly blank."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = kind(PRESETS["tiny"](tokenizer.vocab_size)).eval()
    with torch.no_grad():
        model.join_out.weight *= 6
        model.join_in.weight *= 3
        model.join_out.bias[0] += 5.0
        model.join_out.bias[1] = -100.0  # the unknown piece is never learnt either
    return model


def speech() -> Samples:
    """Three seconds at 16 kHz: chirps and noise with pauses, which the tiny model takes for words."""
    rng, t = np.random.default_rng(5), np.arange(48_000) / 16_000
    tone = np.sin(2 * np.pi * (200 + 500 * t) * t) * (np.sin(2 * np.pi * 1.5 * t) > -0.2)
    return (0.3 * tone + 0.05 * rng.standard_normal(len(t))).astype(np.float32)
