"""The acoustic model: streaming equals the whole, states are values, files are read as they were written."""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asr.acoustic import PRESETS, ModelConfig, Transducer, load_encoder, load_model, save_model
from asr.acoustic.encoder import chunk_mask
from asr.acoustic.streaming import EncoderState
from asr.errors import ModelError
from asr.text.tokenizer import Tokenizer


def stream(model: Transducer, features: torch.Tensor, chunk: int) -> torch.Tensor:
    """(B, F, 80) in chunks of `chunk` feature frames."""
    batch = len(features)
    before, after = torch.randn(batch, model.lookback, 80), torch.zeros(batch, model.lookahead, 80)
    padded, state, out = torch.cat([before, features, after], 1), model.initial_state(batch), []
    for at in range(0, features.shape[1], chunk):
        encoded, state = model.encode(padded[:, at : at + model.lookback + chunk + model.lookahead], state)
        out.append(encoded)
    return torch.cat(out, 1)


@pytest.mark.parametrize("chunk", [8, 16, 32])
@torch.inference_mode()
def test_streaming_computes_what_training_computes(tiny_model: Transducer, chunk: int) -> None:
    """Over more frames than there are positions, and with garbage before the first frame."""
    features = torch.randn(2, 320, 80)
    whole = tiny_model.join_encoded(tiny_model.encoder(features, chunk // 2))
    assert tiny_model.config.positions < 320 // 2
    exact = copy.deepcopy(tiny_model).train()
    assert torch.allclose(stream(exact, features, chunk), whole, atol=1e-5)
    assert torch.allclose(stream(tiny_model, features, chunk), whole, atol=2e-2)  # the weights rounded to fp16


@torch.inference_mode()
def test_an_encoder_state_is_a_value(tiny_model: Transducer) -> None:
    """What one chunk leaves behind in the memory that states share does not show after another chunk."""
    state = tiny_model.initial_state(2)
    for _ in range(3):
        _, state = tiny_model.encode(torch.randn(2, 19, 80), state)
    first, second = torch.randn(2, 2, 19, 80)
    alone, after = tiny_model.encode(first, state)
    behind = tiny_model.encode(second, after)[0]
    for _ in range(6):  # beyond the room of the memory
        _, other = tiny_model.encode(second, state)
        tiny_model.encode(first, other)
    assert torch.equal(tiny_model.encode(first, state)[0], alone)
    assert torch.equal(tiny_model.encode(second, after)[0], behind)


@torch.inference_mode()
def test_inference_follows_the_weights(tiny_model: Transducer) -> None:
    model, features = copy.deepcopy(tiny_model), torch.randn(1, 19, 80)
    before = model.encode(features, model.initial_state(1))[0]
    weights = {name: 2 * value for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    after = model.encode(features, model.initial_state(1))[0]
    assert not torch.allclose(after, before)
    fresh = Transducer(model.config).eval()
    fresh.load_state_dict(weights)
    assert torch.equal(fresh.encode(features, fresh.initial_state(1))[0], after)


@torch.inference_mode()
def test_streams_at_different_ages_share_a_batch(tiny_model: Transducer) -> None:
    features, need = torch.randn(1, 3 + 3 * 16, 80), 2 + 16 + 1
    alone = [tiny_model.initial_state(1)]
    outputs = []
    for i in range(3):
        out, state = tiny_model.encode(features[:, 16 * i : 16 * i + need], alone[-1])
        outputs.append(out)
        alone.append(state)

    both = torch.cat([features[:, :need], features[:, 32 : 32 + need]])
    together, _ = tiny_model.encode(both, EncoderState(alone[0].streams + alone[2].streams))
    assert torch.allclose(together, torch.cat([outputs[0], outputs[2]]), atol=1e-5)


def test_chunk_mask() -> None:
    assert chunk_mask(6, 2, 2).int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
    ]


@torch.inference_mode()
def test_predictor_steps_agree_with_the_whole(tiny_model: Transducer) -> None:
    tokens = torch.tensor([[5, 9, 5, 7]])
    whole = tiny_model.predictor(tokens)
    out, state = tiny_model.start(1)
    steps = [out]
    for token in tokens[0]:
        out, state = tiny_model.predict(token[None], state)
        steps.append(out)
    assert torch.allclose(torch.stack(steps, 1), whole, atol=1e-6)


@torch.inference_mode()
def test_the_joiner_follows_its_weights_and_computes_what_training_computes(tiny_model: Transducer) -> None:
    model = copy.deepcopy(tiny_model)
    encoded, predicted = 3 * torch.randn(5, 1, model.join_width), 3 * torch.randn(7, model.config.joined)
    for _ in range(2):
        quick = model.join(encoded, predicted)
        assert torch.allclose(quick, model.train().join(encoded, predicted), atol=1e-5)
        model.join_out.weight *= 2
        model.join_out.bias.add_(1)
        model.eval()
    assert not torch.allclose(quick, tiny_model.join(encoded, predicted), atol=1e-2)


@torch.inference_mode()
def test_a_copy_of_a_model_in_use_follows_its_own_weights(tiny_model: Transducer) -> None:
    features, predicted = torch.randn(1, 32, 80), torch.randn(1, 1, tiny_model.config.joined)
    model = copy.deepcopy(tiny_model).eval()

    def output(model: Transducer) -> torch.Tensor:
        return model.join(model.join_encoded(model.encoder(features, 8)), predicted)

    before, changed = output(model), copy.deepcopy(model)
    changed.join_out.bias.add_(1)
    assert torch.allclose(output(changed), before + 1, atol=1e-5)
    assert torch.equal(output(model), before)


@torch.inference_mode()
def test_ctc_scores_are_those_of_all_alignments(tiny_model: Transducer) -> None:
    encoded = torch.randn(5, tiny_model.join_width)
    chances = encoded[:, tiny_model.config.joined :].log_softmax(-1)
    texts = [(), (3,), (3, 4), (3, 3), (4, 3, 4)]
    sums = {text: [-torch.inf] for text in texts}
    for path in itertools.product((tiny_model.blank, 3, 4), repeat=5):
        text = tuple(token for token, _ in itertools.groupby(path) if token != tiny_model.blank)
        if text in sums:
            sums[text].append(float(chances[range(5), path].sum()))
    truth = [float(torch.tensor(sums[text]).logsumexp(0)) for text in texts]
    assert tiny_model.ctc_scores(encoded, texts).tolist() == pytest.approx(truth, abs=1e-4)


@torch.inference_mode()
def test_a_text_that_ctc_cannot_spell_in_so_few_frames_counts_as_guessed(tiny_model: Transducer) -> None:
    guess = -math.log(tiny_model.vocab_size)
    encoded = torch.randn(2, tiny_model.join_width)
    assert tiny_model.ctc_scores(encoded, [(3, 3)]).tolist() == pytest.approx([4 * guess])  # wants a blank between
    assert tiny_model.ctc_scores(encoded[:0], [(), (3,)]).tolist() == pytest.approx([0.0, guess])


def test_files(tmp_path: Path, tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    save_model(tmp_path, tiny_model, tiny_tokenizer, "v1")
    model, tokenizer, version = load_model(tmp_path)
    assert version.startswith("v1-") and tokenizer.pieces == tiny_tokenizer.pieces
    for name, weight in model.state_dict().items():
        before = tiny_model.state_dict()[name]
        largest = before.abs().amax(tuple(range(1, before.dim())), keepdim=True)
        assert ((weight - before).abs() <= largest * (0.5 / 127 + 1e-3)).all()
    (tmp_path / "encoder.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="encoder|header|acoustic model"):
        load_model(tmp_path)


def test_missing_and_mismatched_files(tmp_path: Path, tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="config.json"):
        load_model(tmp_path)
    save_model(tmp_path, Transducer(PRESETS["tiny"](99)), tiny_tokenizer, "v1")
    with pytest.raises(ModelError, match="99 outputs"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="unknown fields: colour"):
        ModelConfig.from_dict({"vocab_size": 9, "colour": 1})


@pytest.mark.parametrize("chunk_ms", [0, 30, 100, -40, 100_000])
def test_impossible_chunks(tiny_model: Transducer, chunk_ms: int) -> None:
    with pytest.raises(ModelError, match="multiple of 40"):
        tiny_model.chunk_frames(chunk_ms)


HUGGING_FACE = {
    "blocks.": "layers.", "attn_ln.": "self_attn_layer_norm.", "mlp_ln.": "final_layer_norm.", "mlp.0.": "fc1.",
    "mlp.2.": "fc2.", "attn.query.": "self_attn.q_proj.", "attn.key.": "self_attn.k_proj.",
    "attn.value.": "self_attn.v_proj.", "attn.out.": "self_attn.out_proj.", "ln_post.": "layer_norm.",
}  # fmt: skip


def test_an_encoder_starts_from_whispers_file_by_either_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs, one, other = (Transducer(PRESETS["tiny"](8)).encoder for _ in range(3))
    kept = {k: v.detach().contiguous() for k, v in theirs.state_dict().items() if not k.startswith("stack.")}
    save_file(kept, tmp_path / "encoder.safetensors")
    others = ("model.decoder.layer_norm.weight", "model.encoder.embed_positions.weight")
    renamed = {name: torch.zeros(2) for name in others}
    for name, value in kept.items():
        for ours, hugging in HUGGING_FACE.items():
            name = name.replace(ours, hugging) if name.startswith(ours) or f".{ours}" in name else name
        renamed[f"model.encoder.{name}"] = value
    save_file(renamed, tmp_path / "model.safetensors")
    load_encoder(one, tmp_path / "encoder.safetensors")
    load_encoder(other, tmp_path / "model.safetensors")
    for name, value in kept.items():
        assert torch.equal(one.state_dict()[name], value) and torch.equal(other.state_dict()[name], value), name
    (tmp_path / "nothing.safetensors").write_bytes(b"nothing")
    for name in ("nothing.safetensors", "absent.safetensors"):
        with pytest.raises(ModelError, match="no safetensors file of Whisper"):
            load_encoder(one, tmp_path / name)
