"""Weights packed for inference: near the exact ones, and each row's scores its own."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from asr.second_pass.packing import output_projection, pack_linears


def test_scores_are_near_the_exact_ones_and_independent_of_other_rows() -> None:
    random = torch.Generator().manual_seed(3)
    embedding = torch.randn(200, 64, generator=random)
    states = torch.randn(6, 64, generator=random) * torch.tensor([0.1, 1.0, 3.0, 0.5, 2.0, 30.0])[:, None]
    banned = torch.arange(200) == 7
    project = output_projection(embedding, banned)
    together, exact = project(states), F.linear(states, embedding)
    assert (together[:, 7] == -torch.inf).all()
    together, exact = together[:, ~banned], exact[:, ~banned]
    assert ((together - exact).abs().amax(1) < 0.03 * exact.abs().amax(1)).all()
    for row, scores in zip(states, together, strict=True):
        assert torch.equal(project(row[None])[0, ~banned], scores)


def test_packed_layers_are_near_the_exact_ones() -> None:
    torch.manual_seed(4)
    layers = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Sequential(nn.Linear(48, 8, bias=False)))
    x = torch.randn(5, 32)
    exact = layers(x)
    pack_linears(layers)
    torch.testing.assert_close(layers(x), exact, atol=2e-2, rtol=2e-2)
    assert not any(isinstance(layer, nn.Linear) for layer in layers.modules())
