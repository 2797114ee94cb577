"""Distillation of the unadapted, full-context encoder into the chunked one; it needs no texts.

The chunked encoder's frames, through a linear map, are drawn towards what the pretrained encoder makes of the same
recording when it hears all of it (after Kurata and Saon 2020, "Knowledge distillation from offline to streaming RNN
transducer"; on the encoder's vectors, not on the outputs). The teacher hears the features before they are masked.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from asr.acoustic import ModelConfig, load_encoder
from asr.acoustic.encoder import Encoder


class Distiller(nn.Module):
    """The teacher, which stays as it is, and the map, which is trained and thrown away afterwards.

    Args:
        pretrained: Whisper tiny.en's encoder as safetensors; the shape has to be the preset's.

    Raises:
        ModelError: the file holds something else.
    """

    def __init__(self, config: ModelConfig, pretrained: Path) -> None:
        super().__init__()
        self.teacher = Encoder(config).requires_grad_(False)
        load_encoder(self.teacher, pretrained)
        self.map = nn.Linear(config.width, config.width)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, frames: Tensor, features: Tensor, lengths: Tensor) -> Tensor:
        """How far the frames are from the teacher's: squared distance by the teacher's variance, mean over all frames.

        Args:
            frames: (B, F / 2, width) of the chunked encoder.
            features: (B, F, 80), unmasked. lengths: (B,) in frames of 10 ms.
        """
        with torch.no_grad():
            aim = self.teacher.frames(features, features.shape[1])
        heard = torch.arange(frames.shape[1], device=frames.device) < (lengths.to(frames.device) // 2)[:, None]
        aim, given = aim[heard].float(), self.map(frames)[heard].float()
        return (given - aim).square().mean() / aim.var(0).mean()
