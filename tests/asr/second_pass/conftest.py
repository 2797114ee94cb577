"""A tiny attention model with random weights, made by an independent implementation of Whisper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

SIZES = {
    "vocab_size": 40, "num_mel_bins": 80, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "max_source_positions": 60, "max_target_positions": 30,
}  # fmt: skip


@pytest.fixture(scope="session")
def peer() -> Any:
    """transformers' Whisper, sure enough of itself that its likeliest texts differ."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(5)
    tokens: dict[str, Any] = SIZES | {
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "decoder_start_token_id": 1,
    }
    model = WhisperForConditionalGeneration(WhisperConfig(**tokens, suppress_tokens=[])).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(4.0)
    return model


@pytest.fixture(scope="session")
def folder(peer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files in the Hugging Face form, without tokens."""
    path = tmp_path_factory.mktemp("whisper")
    peer.save_pretrained(path)
    return path
