"""Streaming transformer encoder: Whisper's blocks with chunked attention.

A frame attends to its own chunk and to a fixed number of frames before the chunk (chunked attention as in Chen et al.
2021, arXiv:2010.11395; chunk sizes drawn at random in training as in WeNet's U2, arXiv:2012.05481). `forward` is for
whole utterances in training; `asr.acoustic.streaming` computes the same function chunk by chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.acoustic.config import ModelConfig

LOOKAHEAD = 1
"""Feature frames after the chunk that the convolutions read (10 ms)."""
LOOKBACK = 2
"""Feature frames before the chunk that the convolutions read."""


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width) sinusoidal positions, as in Whisper."""
    scale = math.log(10_000) / (width // 2 - 1)
    inverse = torch.exp(-scale * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * inverse[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention; B: utterances, T: frames, D: width, H: heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, H, T, D / H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Queries, keys, values (B, H, T, D / H) → (B, T, D). mask: True where attended to."""
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(out.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """A pre-norm transformer block of Whisper's encoder, with masked attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn_ln = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """X (B, T, D), mask (T, T), True = seen."""
        normed = self.attn_ln(x)
        q, k, v = (self.attn.split(f(normed)) for f in (self.attn.query, self.attn.key, self.attn.value))
        x = x + self.attn.attend(q, k, v, mask)
        return x + self.mlp(self.mlp_ln(x))


def chunk_mask(frames: int, chunk: int, past: int, device: torch.device | None = None) -> Tensor:
    """(T, T) bool: which frame (column) each frame (row) sees."""
    at = torch.arange(frames, device=device)
    start = at // chunk * chunk
    return (at[None] < (start + chunk)[:, None]) & (at[None] >= (start - past)[:, None])


class Encoder(nn.Module):
    """(B, F, 80) log-mel frames of 10 ms to (B, T, encoded) frames of 40 ms."""

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.mels, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(config.positions, config.width), persistent=False)
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.blocks))
        self.ln_post = nn.LayerNorm(config.width)
        self.stack = nn.Linear(2 * config.width, config.encoded)

    def forward(self, features: Tensor, chunk: int, offset: Tensor | None = None) -> Tensor:
        """Whole utterances, for training: (B, F / 4, encoded) of what `frames` takes."""
        return self.stacked(self.frames(features, chunk, offset))

    def stacked(self, frames: Tensor) -> Tensor:
        """(B, F / 2, width) to (B, F / 4, encoded): two frames make one."""
        return self.stack(frames.unflatten(1, (-1, 2)).flatten(2))

    def frames(self, features: Tensor, chunk: int, offset: Tensor | None = None) -> Tensor:
        """Frames of 20 ms of whole utterances.

        Args:
            features: (B, F, 80), F a multiple of 4.
            chunk: frames of 20 ms in a chunk, even.
            offset: (B,) int64, the position of the first frame; zeros if None.

        Returns:
            (B, F / 2, width).
        """
        x = F.gelu(self.conv1(features.mT))
        x = F.gelu(self.conv2(x)).mT
        at = torch.arange(x.shape[1], device=x.device)[None]
        if offset is not None:
            at = at + offset[:, None]
        x = x + self.positions[at % self.config.positions].to(x.dtype)
        mask = chunk_mask(x.shape[1], chunk, self.config.past, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return self.ln_post(x)
