"""A training checkpoint as a few small files, for machines that take in and give out little.

Half the precision where it does not matter: weights, their average and the second moments in 16 bits, the first moments
(a mean over about ten steps) in 8. Joined again, training goes on from there; it is not bit for bit where it was, which
the checkpoint beside the model is.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import ModelError

PART_BYTES = 15_900_000
MOST_PARTS = 4
INDEX = "checkpoint.json"
_EIGHT = torch.float8_e4m3fn
_EIGHT_MOST = 240.0


def split_checkpoint(checkpoint: Path, folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Writes FOLDER/checkpoint.json and FOLDER/checkpoint-N.bin, at most four, from a checkpoint of `train`.

    Raises:
        ModelError: it does not fit into so many parts.
    """
    held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    for name in ("model", "average"):
        held[name] = {k: v.to(torch.float16) for k, v in held[name].items()}
    held["optimizer"]["state"] = {k: _smaller(v) for k, v in held["optimizer"]["state"].items()}
    file = io.BytesIO()
    torch.save(held, file)
    data = file.getvalue()
    parts = [data[at : at + part_bytes] for at in range(0, len(data), part_bytes)]
    if len(parts) > MOST_PARTS:
        raise ModelError(f"checkpoint of {len(data)} bytes: more than {MOST_PARTS} parts of {part_bytes} bytes")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"checkpoint-{i}.bin" for i in range(len(parts))]
    for old in set(folder.glob("checkpoint-*.bin")) - set(paths):
        old.unlink()
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    index = {"parts": len(parts), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "step": held["step"]}
    (folder / INDEX).write_text(json.dumps(index) + "\n")
    return [folder / INDEX, *paths]


def join_checkpoint(folder: Path, checkpoint: Path) -> None:
    """Writes the checkpoint that was split into FOLDER, as `train` reads it.

    Raises:
        ModelError: a part is missing or of another checkpoint.
    """
    try:
        index = json.loads((folder / INDEX).read_text())
        data = b"".join((folder / f"checkpoint-{i}.bin").read_bytes() for i in range(index["parts"]))
    except OSError as error:
        raise ModelError(f"checkpoint in {folder}: {error.strerror}: {error.filename}") from error
    if hashlib.sha256(data).hexdigest() != index["sha256"]:
        raise ModelError(f"checkpoint in {folder}: its parts are damaged or do not belong together")
    held = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    for name in ("model", "average"):
        held[name] = {k: v.float() for k, v in held[name].items()}
    held["optimizer"]["state"] = {k: _larger(v) for k, v in held["optimizer"]["state"].items()}
    torch.save(held, checkpoint)


def _smaller(moments: dict[str, Tensor]) -> dict[str, Any]:
    first = moments["exp_avg"]
    scale = first.abs().max().clamp(min=1e-30) / _EIGHT_MOST
    return {
        "step": moments["step"],
        "exp_avg": (first / scale).to(_EIGHT).view(torch.uint8),
        "scale": scale,
        "exp_avg_sq": moments["exp_avg_sq"].to(torch.bfloat16),
    }


def _larger(moments: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "step": moments["step"],
        "exp_avg": moments["exp_avg"].view(_EIGHT).float() * moments["scale"],
        "exp_avg_sq": moments["exp_avg_sq"].float(),
    }
