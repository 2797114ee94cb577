"""Whisper's network: an audio encoder and an attention decoder (Radford et al. 2022, arXiv:2212.04356).

Legend: B utterances, K hypotheses of each, F feature frames of 10 ms, T = F / 2 encoded frames of 20 ms, U text tokens,
D width, V vocabulary. Modules are named as in the Hugging Face form of the weights, so that a folder in that form loads
as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from asr.acoustic.checkpoint import unpack
from asr.errors import ModelError

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of each decoder layer, each (rows, heads, length, D / heads)."""


@dataclass(frozen=True)
class AttentionModelConfig:
    """Sizes of the network, by the names of Whisper's config.json."""

    vocab_size: int
    num_mel_bins: int
    d_model: int
    encoder_layers: int
    decoder_layers: int
    encoder_attention_heads: int
    decoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    max_source_positions: int
    """Most encoded frames, 20 ms each."""
    max_target_positions: int
    """Most text tokens, the prompt included."""
    window_s: int = 30
    """Seconds that the weights want an utterance padded to; 0: they are adapted to the bare utterance."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AttentionModelConfig:
        """Raises ModelError: a size is missing."""
        values = {"window_s": 30, **values}
        try:
            return cls(**{name: int(values[name]) for name in cls.__dataclass_fields__})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"config.json is not of a Whisper model: {error} is missing or no number") from error


class Attention(nn.Module):
    """Multi-head attention, with the parameters' names of Hugging Face's Whisper."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, heads, T, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (B, T, D), each (B, heads, T, D / heads)."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """(B, U, D) queries → (B, U, D).

        Args:
            mask: True where attended to, broadcast to (B, heads, U, T); None: everything.
        """
        out = F.scaled_dot_product_attention(self._split(self.q_proj(x)), keys, values, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def to_each(self, x: Tensor, others: Sequence[tuple[Tensor, Tensor]], rows: Sequence[int]) -> Tensor:
        """(sum of rows, U, D) queries → (sum of rows, U, D), so many rows to each utterance's own keys and values.

        These differ in length and are attended to one after the other: no utterance is padded, none depends on another.
        """
        queries = self.q_proj(x).split(list(rows))
        out = [
            F.scaled_dot_product_attention(self._split(q.flatten(0, 1)[None]), *own).transpose(1, 2).reshape(q.shape)
            for q, own in zip(queries, others, strict=True)
        ]
        return self.out_proj(torch.cat(out))


class EncoderLayer(nn.Module):
    """A Transformer layer, normalised before each part."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) → (B, T, D). mask: True where attended to; None: everything."""
        normed = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normed, *self.self_attn.keys_values(normed), mask)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Encoder(nn.Module):
    """Log-mel features to frames of 20 ms."""

    def __init__(self, config: AttentionModelConfig) -> None:
        super().__init__()
        width = config.d_model
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, config.encoder_attention_heads, config.encoder_ffn_dim)
            for _ in range(config.encoder_layers)
        )
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, F, mels) features, F even → (B, F / 2, D) encoded frames.

        lengths: (B,) frames of each utterance; what is behind them changes nothing of it. None: all are F long.
        """
        x = features.mT
        mask = None
        if lengths is not None:
            valid = torch.arange(x.shape[-1], device=x.device) < lengths[:, None]
            x = F.gelu(self.conv1(x * valid[:, None])) * valid[:, None]
            mask = valid[:, None, None, ::2]
        else:
            x = F.gelu(self.conv1(x))
        x = F.gelu(self.conv2(x)).mT
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers:
            x = layer(x, mask)
        return self.layer_norm(x)


class DecoderLayer(nn.Module):
    """A Transformer layer that also attends to encoded frames."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor] | None,
        audio: Sequence[tuple[Tensor, Tensor]],
        rows: Sequence[int],
        seen: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(hypotheses, U, D) → (hypotheses, U, D), with the keys and values of all tokens so far.

        Args:
            past: keys and values of the tokens before.
            audio: those of each utterance's encoded frames, which so many rows share.
            seen: which tokens may be attended to; None: all.
        """
        normed = self.self_attn_layer_norm(x)
        keys, values = self.self_attn.keys_values(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = x + self.self_attn(normed, keys, values, seen)
        x = x + self.encoder_attn.to_each(self.encoder_attn_layer_norm(x), audio, rows)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))), (keys, values)


class Decoder(nn.Module):
    """Tokens and encoded frames to the next token."""

    def __init__(self, config: AttentionModelConfig) -> None:
        super().__init__()
        width = config.d_model
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.embed_positions = nn.Embedding(config.max_target_positions, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.decoder_attention_heads, config.decoder_ffn_dim)
            for _ in range(config.decoder_layers)
        )
        self.layer_norm = nn.LayerNorm(width)

    def audio(self, encoded: Tensor) -> Cache:
        """(T, D) encoded frames of an utterance → what each layer reads of them, computed once for all tokens."""
        layers = cast(Iterable[DecoderLayer], self.layers)
        return [layer.encoder_attn.keys_values(encoded[None]) for layer in layers]

    def forward(
        self, tokens: Tensor, audio: Sequence[Cache], past: Cache | None = None, rows: Sequence[int] | None = None
    ) -> tuple[Tensor, Cache]:
        """The states after each token, from which `logits` tells the next one.

        Args:
            tokens: (hypotheses, U) int64, those that follow what `past` holds; those of an utterance stand together.
            audio: of `audio`, for each of B utterances.
            past: of an earlier call; None: the tokens are the first.
            rows: hypotheses of each utterance; None: all have as many.

        Returns:
            (hypotheses, U, D) states, and the keys and values with these tokens.
        """
        rows = rows or [len(tokens) // len(audio)] * len(audio)
        start = past[0][0].shape[2] if past else 0
        at = torch.arange(start + tokens.shape[1], device=tokens.device)
        seen = at[None] <= at[start:, None] if tokens.shape[1] > 1 else None
        return self._forward(tokens, at[start:], seen, audio, rows, past)

    def forward_tree(self, tokens: Tensor, positions: Tensor, seen: Tensor, audio: Cache) -> Tensor:
        """The states after each node of a tree of tokens, in which texts of an utterance share what they begin with.

        Args:
            tokens: (U,) int64, the nodes.
            positions: (U,) int64, how deep each stands.
            seen: (U, U) bool: row u tells the nodes from the root to u, itself included.
            audio: of `audio`.

        Returns:
            (U, D) states.
        """
        return self._forward(tokens[None], positions, seen, [audio], [1], None)[0][0]

    def _forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        seen: Tensor | None,
        audio: Sequence[Cache],
        rows: Sequence[int],
        past: Cache | None,
    ) -> tuple[Tensor, Cache]:
        x = self.embed_tokens(tokens) + self.embed_positions(positions)
        new: Cache = []
        for i, layer in enumerate(self.layers):
            x, kept = layer(x, past[i] if past else None, [own[i] for own in audio], rows, seen)
            new.append(kept)
        return self.layer_norm(x), new

    def logits(self, states: Tensor) -> Tensor:
        """(..., D) states → (..., V) scores of the next token before the softmax."""
        return F.linear(states, self.embed_tokens.weight)


class AttentionModel(nn.Module):
    """Encoder and decoder; the output projection is the token embedding."""

    def __init__(self, config: AttentionModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)


def load_attention_model(folder: Path) -> AttentionModel:
    """A Whisper model of any size in float32.

    Args:
        folder: in the Hugging Face form (config.json, model.safetensors); weights as int8 with a scale for each row
            (`asr.acoustic.checkpoint.pack`), fp16 or float32.

    Raises:
        ModelError: a file is missing, or is not of a Whisper model.
    """
    try:
        config = AttentionModelConfig.from_dict(json.loads((folder / "config.json").read_text()))
        stored = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"second pass in {folder}: {error}") from error
    model = AttentionModel(config)
    weights = {name.removeprefix("model."): value for name, value in stored.items() if name != "proj_out.weight"}
    try:
        model.load_state_dict(unpack(weights))
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"second pass in {folder}: {error}") from error
    return model.eval()
