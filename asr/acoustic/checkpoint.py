"""Models on disk: config.json, encoder.safetensors, transducer.safetensors and tokens.model in one folder.

Matrices are 8-bit integers with a scale for each row (`NAME.scale`), everything else is fp16; computed is in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.acoustic.config import ModelConfig
from asr.acoustic.encoder import Encoder
from asr.acoustic.transducer import Transducer
from asr.errors import ModelError
from asr.fitted import named_version
from asr.text.tokenizer import Tokenizer

SHIPPED = Path(__file__).parent.parent / "weights" / "acoustic"


def save_model(folder: Path, model: Transducer, tokenizer: Tokenizer, version: str) -> None:
    """Write the model, rounded to 8 bits; the encoder goes into a file of its own.

    Args:
        version: its name; what `load_model` gives has a digest of the weights behind it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = pack({k: v.detach().to("cpu", torch.float32) for k, v in model.state_dict().items()})
    for name, chosen in (("encoder", True), ("transducer", False)):
        part = {k: v for k, v in weights.items() if k.startswith("encoder.") == chosen}
        save_file(part, folder / f"{name}.safetensors")
    (folder / "tokens.model").write_bytes(tokenizer.proto)
    config = {"version": version, "model": model.config.to_dict()}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def pack(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors (float32) as they are kept: those of two dimensions and more as int8, each row to its largest value."""
    out = {}
    for name, value in weights.items():
        if value.dim() < 2:
            out[name] = value.half().contiguous()
            continue
        scale = value.abs().amax(tuple(range(1, value.dim())), keepdim=True).clamp(min=1e-12) / 127
        out[name] = (value / scale).round().to(torch.int8).contiguous()
        out[f"{name}.scale"] = scale.contiguous()
    return out


def unpack(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack`, in float32; tensors of other types than int8 as they are."""
    scales = {f"{k}.scale" for k, v in stored.items() if v.dtype == torch.int8}
    return {
        k: v.float() * stored[f"{k}.scale"] if v.dtype == torch.int8 else v.float()
        for k, v in stored.items()
        if k not in scales
    }


def load_model(folder: Path | None = None, device: str = "cpu") -> tuple[Transducer, Tokenizer, str]:
    """Load the model in `folder` (None: the shipped one) in float32, its tokenizer and its version.

    The version is its name and a digest of its weights and tokens.

    Raises:
        ModelError: a file is missing or the files do not belong together.
    """
    folder = SHIPPED if folder is None else Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text())
        tokenizer = Tokenizer.load(folder / "tokens.model")
        files = [folder / "encoder.safetensors", folder / "transducer.safetensors"]
        weights = {name: value for file in files for name, value in load_file(file).items()}
        shape = ModelConfig.from_dict(config["model"])
        version = named_version(str(config["version"]), *files, folder / "tokens.model")
    except ModelError:
        raise
    except KeyError as error:
        raise ModelError(f"acoustic model in {folder}: config.json has no {error}") from error
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(f"acoustic model in {folder}: {error}") from error
    if shape.vocab_size != tokenizer.vocab_size:
        raise ModelError(f"acoustic model in {folder}: {shape.vocab_size} outputs, {tokenizer.vocab_size} tokens")
    model = Transducer(shape)
    try:
        model.load_state_dict(unpack(weights))
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"acoustic model in {folder}: {error}") from error
    return model.to(device).eval(), tokenizer, version


def load_encoder(encoder: Encoder, path: Path) -> None:
    """Start an encoder, all but its last layer, from another's.

    Args:
        path: Whisper tiny.en's (MIT) as safetensors, the whole model as Hugging Face has it or the encoder alone with
            the names of openai/whisper; or a model folder.

    Raises:
        ModelError: there is something else, or of another shape.
    """
    if path.is_dir():
        weights = load_model(path)[0].encoder.state_dict()
    else:
        weights = _whisper_encoder(path)
    for name in [k for k in weights if k.endswith("attn.key.bias") or k.startswith("stack.")]:
        del weights[name]  # Whisper's keys have no bias; some converted files carry zeros
    try:
        missing, unexpected = encoder.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path}: its shape is not that of the preset: {error}") from error
    if unexpected or set(missing) != {"stack.weight", "stack.bias"}:
        raise ModelError(f"{path}: not Whisper tiny.en's encoder ({len(missing)} missing, {len(unexpected)} unknown)")


_HUGGING_FACE = (
    ("model.encoder.", ""), ("layers.", "blocks."), ("self_attn_layer_norm", "attn_ln"),
    ("self_attn.q_proj", "attn.query"), ("self_attn.k_proj", "attn.key"), ("self_attn.v_proj", "attn.value"),
    ("self_attn.out_proj", "attn.out"), ("fc1", "mlp.0"), ("fc2", "mlp.2"), ("final_layer_norm", "mlp_ln"),
    ("layer_norm", "ln_post"),
)  # fmt: skip
"""Parts of the names of Whisper's weights there, and in openai/whisper."""


def _whisper_encoder(path: Path) -> dict[str, Tensor]:
    """The encoder's weights in float32, names as in openai/whisper, without the positions."""
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: no safetensors file of Whisper tiny.en: {error}") from error
    if any(name.startswith("model.encoder.") for name in stored):
        stored = {k: v for k, v in stored.items() if k.startswith("model.encoder.")}
        for theirs, ours in _HUGGING_FACE:
            stored = {k.replace(theirs, ours): v for k, v in stored.items()}
    positions = ("positional_embedding", "embed_positions.weight")
    return {k: v.float() for k, v in stored.items() if k not in positions}
