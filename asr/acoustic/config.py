"""Model sizes by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from asr.errors import ModelError


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a chunked-attention RNN-T; frames are 20 ms unless stated otherwise."""

    vocab_size: int
    width: int = 384
    heads: int = 6
    blocks: int = 4
    past: int = 256
    """How many frames before its own chunk a frame sees (5.12 s)."""
    positions: int = 1500
    """Sinusoidal positions are taken modulo this, so that a stream never runs out of them."""
    encoded: int = 512
    """Width of the encoder's output, one vector for two stacked frames (40 ms)."""
    joined: int = 320
    mels: int = 80
    history: int = 2
    """Tokens that the predictor sees."""
    blank: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The configuration of these fields. Raises ModelError where one is unknown."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ModelError(f"model configuration has unknown fields: {', '.join(sorted(unknown))}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Its fields, as `from_dict` takes them."""
        return asdict(self)


def base(vocab_size: int) -> ModelConfig:
    """The shape of Whisper tiny.en's encoder (8 M parameters), whose weights start the training."""
    return ModelConfig(vocab_size)


def tiny(vocab_size: int) -> ModelConfig:
    """Random weights for tests: same code paths, milliseconds to run."""
    return ModelConfig(vocab_size, width=16, heads=2, blocks=2, past=16, positions=60, encoded=24, joined=16)


PRESETS = {"base": base, "tiny": tiny}
