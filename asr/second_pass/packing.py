"""Weights as inference on a CPU wants them: int8 matrices in FBGEMM's layout, inputs quantised as they come."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Projection = Callable[[Tensor], Tensor]
"""(N, D) states → (N, V) scores of the next token before the softmax."""


class Int8Linear(nn.Module):
    """x (..., I) → x Wᵀ + b (..., O) by int8 products: a scale for each row of W, and one for each row of x.

    The kernel quantises by one scale for all rows of a call. Here each row is brought to the range from -1 to 1 first,
    and a row with these bounds stands beside them, so that the outputs of one row do not depend on the others.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127
        with warnings.catch_warnings():  # the kernel takes nothing else; torch 2.13 says that it will go one day
            warnings.filterwarnings("ignore", r"torch\.quantize_per_tensor, torch\.quantize_per_channel and other")
            rows = torch.quantize_per_channel(weight, scale, torch.zeros(len(scale), dtype=torch.int64), 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(rows, None)
        self._bounds = F.one_hot(torch.tensor([0]), weight.shape[1]).float()
        self._bounds[0, 1] = -1.0
        self._bias = weight.new_zeros(1) if bias is None else bias
        self._short = not torch.cpu._is_vnni_supported()
        """Whether inputs have seven bits: without VNNI, sums of two products of eight bits do not fit."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., out), as the linear layer that was packed."""
        rows = x.reshape(-1, x.shape[-1])
        largest = rows.abs().amax(-1, keepdim=True).clamp_(min=1e-12)
        unit = torch.cat([rows / largest, self._bounds])
        out: Tensor = torch.ops.quantized.linear_dynamic(unit, self._packed, self._short)
        return torch.addcmul(self._bias, out[:-1], largest).view(*x.shape[:-1], -1)


def can_pack(weight: Tensor) -> bool:
    """Whether this machine, and this torch, have the kernels."""
    there = hasattr(torch, "quantize_per_channel") and hasattr(torch.ops.quantized, "linear_prepack")
    return weight.device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines and there


def pack_linears(module: nn.Module) -> None:
    """Replace the linear layers in a module, for inference only."""
    for name, layer in module.named_children():
        if isinstance(layer, nn.Linear):
            bias = layer.bias.detach() if layer.bias is not None else None
            setattr(module, name, Int8Linear(layer.weight.detach(), bias))
        else:
            pack_linears(layer)


def output_projection(embedding: Tensor, banned: Tensor) -> Projection:
    """The projection onto (V, D) token embeddings, int8 where there are kernels for it.

    Args:
        banned: (V,) bool, tokens whose score is -inf.
    """
    bias = embedding.new_zeros(len(embedding)).masked_fill(banned, -torch.inf)
    if can_pack(embedding):
        return Int8Linear(embedding, bias)
    return lambda states: F.linear(states, embedding, bias)
