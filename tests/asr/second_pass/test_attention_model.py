"""The network against transformers' Whisper: the same weights, the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.errors import ModelError
from asr.second_pass.model import AttentionModel, load_attention_model
from asr.second_pass.token_tree import TokenTree
from recipes.second_pass.features import log_mel


@pytest.fixture(scope="module")
def model(folder: Path) -> AttentionModel:
    return load_attention_model(folder)


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.randn(2, 120, 80, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_logits_are_those_of_an_independent_implementation(
    peer: Any, model: AttentionModel, features: torch.Tensor
) -> None:
    tokens = torch.tensor([[1, 7, 3, 22, 5], [1, 8, 8, 30, 2]])
    wanted = peer(input_features=features.mT, decoder_input_ids=tokens).logits
    states, _ = model.decoder(tokens, [model.decoder.audio(one) for one in model.encoder(features)])
    assert wanted.std() > 0.1
    torch.testing.assert_close(model.decoder.logits(states), wanted, atol=1e-4, rtol=1e-4)


def test_features_are_those_of_an_independent_implementation() -> None:
    from transformers import WhisperFeatureExtractor

    samples = torch.randn(16_000, generator=torch.Generator().manual_seed(2)) * torch.linspace(0, 0.5, 16_000)
    extractor = WhisperFeatureExtractor(chunk_length=1)
    wanted = torch.tensor(extractor(samples.numpy(), sampling_rate=16_000).input_features)[0].mT
    torch.testing.assert_close(log_mel(samples), wanted, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_padding_behind_an_utterance_changes_nothing_of_it(model: AttentionModel, features: torch.Tensor) -> None:
    alone = model.encoder(features[:1, :70])
    padded = model.encoder(features, torch.tensor([70, 120]))
    torch.testing.assert_close(padded[:1, :35], alone, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_tokens_one_by_one_are_as_tokens_at_once(model: AttentionModel, features: torch.Tensor) -> None:
    audio = [model.decoder.audio(one) for one in model.encoder(features)]
    tokens = torch.tensor([[1, 7, 3, 22], [1, 8, 8, 30]])
    whole, _ = model.decoder(tokens, audio)
    past, parts = None, []
    for at in range(4):
        states, past = model.decoder(tokens[:, at : at + 1], audio, past)
        parts.append(states)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_hypotheses_of_one_utterance_share_its_audio(model: AttentionModel, features: torch.Tensor) -> None:
    encoded = model.encoder(features)
    tokens = torch.tensor([[1, 7, 3], [1, 9, 4], [1, 2, 2], [1, 5, 6]])
    shared, _ = model.decoder(tokens, [model.decoder.audio(one) for one in encoded])
    copied, _ = model.decoder(tokens, [model.decoder.audio(one) for one in encoded.repeat_interleave(2, 0)])
    torch.testing.assert_close(shared, copied, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_tree_of_texts_gives_the_states_of_each_text(model: AttentionModel, features: torch.Tensor) -> None:
    audio = model.decoder.audio(model.encoder(features)[0])
    texts = [[7, 3, 22, 0], [7, 3, 5, 5, 0], [7, 0], [8, 3, 22, 0], [0]]
    tree = TokenTree.of([1, 2], texts)
    assert len(tree.tokens) == 2 + 8
    states = model.decoder.forward_tree(torch.tensor(tree.tokens), tree.depths(), tree.seen(), audio)
    for text, path in zip(texts, tree.texts, strict=True):
        alone, _ = model.decoder(torch.tensor([[1, 2, *text[:-1]]]), [audio])
        assert [tree.steps[step][1] for step in path] == text
        nodes = [tree.steps[step][0] for step in path]
        torch.testing.assert_close(states[nodes], alone[0, 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("damage", ["no folder", "no config", "a size missing", "other sizes", "garbage weights"])
def test_a_folder_that_is_none_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    if damage == "a size missing":
        del config["d_model"]
    if damage == "other sizes":
        config["encoder_layers"] = 3
    if damage != "no config":
        (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"{}" if damage == "garbage weights" else weights)
    with pytest.raises(ModelError):
        load_attention_model(tmp_path / "missing" if damage == "no folder" else tmp_path)
