"""Weights as inference on a CPU wants them: fp16 matrices, and an int8 output projection, in FBGEMM's layouts.

A text of a few tokens waits for the weights to be read from memory, and the output projection is half of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Projection = Callable[[Tensor], Tensor]
"""(N, D) states → (N, V) scores of the next token before the softmax."""


class _PackedLinear(nn.Module):
    """x (..., I) → x Wᵀ + b (..., O), with fp16 weights and float32 sums."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.quantized.linear_prepack_fp16(layer.weight.detach().contiguous(), layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)


def can_pack(weight: Tensor) -> bool:
    """Whether this machine has the kernels."""
    return weight.device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines


def pack_linears(module: nn.Module) -> None:
    """Replaces the linear layers in a module, for inference only."""
    for name, layer in module.named_children():
        if isinstance(layer, nn.Linear):
            setattr(module, name, _PackedLinear(layer))
        else:
            pack_linears(layer)


def output_projection(embedding: Tensor) -> Projection:
    """The projection onto (V, D) token embeddings: int8 with a scale for each row where there are kernels for it.

    States are quantised by one scale for all rows of a call. Here each is brought to the same range first, and a row of
    its bounds stands beside them, so that the scores of one do not depend on the others.
    """
    if not can_pack(embedding):
        return lambda states: F.linear(states, embedding)
    scale = embedding.abs().amax(1).clamp(min=1e-12) / 127
    rows = torch.quantize_per_channel(embedding, scale, torch.zeros(len(scale), dtype=torch.int64), 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(rows, None)
    bounds = F.one_hot(torch.tensor([0]), embedding.shape[1]) - F.one_hot(torch.tensor([1]), embedding.shape[1])

    def project(states: Tensor) -> Tensor:
        largest = states.abs().amax(-1, keepdim=True).clamp(min=1e-12)
        unit = torch.cat([states / largest, bounds.to(states.dtype)])
        logits: Tensor = torch.ops.quantized.linear_dynamic(unit, packed, True)
        return logits[:-1].mul_(largest)

    return project
