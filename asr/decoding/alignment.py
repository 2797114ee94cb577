"""Forced alignment: the exact log-probability of a given text, and the likeliest frames of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.decoding.state import NBestEntry

Prefix = tuple[int, ...]


def _log_probs(model: AcousticModel, encoded: Tensor, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank (N, T, U + 1) and of the next token (N, T, U), float64.

    Texts that begin alike share their prefixes' predictions, and prefixes with equal predictor outputs share one joint
    distribution: a stateless predictor is joined with the audio once for each of its contexts.
    """
    nodes: dict[Prefix, int] = {(): 0}
    for text in texts:
        for u in range(1, len(text) + 1):
            nodes.setdefault(tuple(text[:u]), len(nodes))
    outputs, which = _prefix_outputs(model, nodes).unique(dim=0, return_inverse=True)
    scores = torch.cat([model.join(encoded, out[:, None]).log_softmax(-1) for out in outputs.split(32)])  # (M, T, V)
    max_length = max(map(len, texts))
    node = torch.zeros(len(texts), max_length + 1, dtype=torch.int64)
    tokens = torch.zeros(len(texts), max_length, dtype=torch.int64)
    for i, text in enumerate(texts):
        node[i, : len(text) + 1] = torch.tensor([nodes[tuple(text[:u])] for u in range(len(text) + 1)])
        tokens[i, : len(text)] = torch.tensor(text, dtype=torch.int64)
    states, place = torch.tensor([len(text) for text in texts])[:, None], torch.arange(max_length + 1)[None]
    row = which.cpu()[node]
    blank = scores[row, :, model.blank].cpu().double().masked_fill((place > states)[:, :, None], -torch.inf)
    token = scores[row[:, :-1], :, tokens].cpu().double().masked_fill((place[:, :-1] >= states)[:, :, None], -torch.inf)
    return blank.transpose(1, 2), token.transpose(1, 2)


def _prefix_outputs(model: AcousticModel, nodes: dict[Prefix, int]) -> Tensor:
    """The predictor's output for each prefix, (nodes, J), level by level; parents stand before their children."""
    output, state = model.start(1)
    levels, level = [output], [cast(Prefix, ())]
    order = list(level)
    while True:
        at = {p: i for i, p in enumerate(level)}
        level = [p for p in nodes if len(p) == len(level[0]) + 1]
        if not level:
            break
        parents = torch.tensor([at[p[:-1]] for p in level])
        tokens = torch.tensor([p[-1] for p in level]).to(output.device)
        predicted, state = model.predict(tokens, tuple(s[parents] for s in state))
        levels.append(predicted)
        order += level
    ranked = torch.empty_like(torch.cat(levels))
    ranked[torch.tensor([nodes[p] for p in order])] = torch.cat(levels)
    return ranked


def force_score(
    model: AcousticModel, encoded: Tensor, texts: Sequence[Sequence[int]], blank_threshold: float = 1.0
) -> list[NBestEntry]:
    """Score each text by its log P(y|x) over all alignments (Graves 2012, eq. 16-17), with its likeliest token frames.

    Args:
        encoded: (T, J), T ≥ 1, as `AcousticModel.encode` gives it.
        texts: token ids; an empty text is silence.
        blank_threshold: as the search's: frames of a likelier blank are skipped, unless all are.

    Returns:
        An entry for each text, `acoustic` in nats.
    """
    if not texts:
        return []
    searched = (model.blank_probabilities(encoded) <= blank_threshold).nonzero()[:, 0]
    if len(searched) < len(encoded) and len(searched):
        kept = force_score(model, encoded[searched], texts)
        return [replace(r, frames=tuple(searched[list(r.frames)].tolist())) for r in kept]
    blank, token = _log_probs(model, encoded, texts)
    rows, frames, states = blank.shape
    # value of having read u tokens before frame t; along the tokens of a frame both recursions run as cumulative ones
    total = torch.full((rows, states), -torch.inf, dtype=torch.float64)
    total[:, 0] = 0.0
    best = total.clone()
    entered = torch.zeros(frames, rows, states, dtype=torch.int64)  # tokens read when frame t began, on the best path
    for t in range(frames):
        climb = torch.nn.functional.pad(token[:, t].clamp(min=-1e4).cumsum(1), (1, 0))
        total = climb + (total - climb).logcumsumexp(1) + blank[:, t]
        highest, entered[t] = (best - climb).cummax(1)
        best = climb + highest + blank[:, t]
    return [
        _entry(tokens, float(total[i, len(tokens)]), entered[:, i].tolist(), blank[i], token[i])
        for i, tokens in enumerate(texts)
    ]


def _entry(tokens: Sequence[int], score: float, entered: list[list[int]], blank: Tensor, token: Tensor) -> NBestEntry:
    at, when = len(tokens), [0] * len(tokens)
    for t in range(len(entered) - 1, -1, -1):
        below = entered[t][at]
        when[below:at] = [t] * (at - below)
        at = below
    rows, columns = torch.tensor(when, dtype=torch.int64), torch.arange(len(tokens))
    log_confidence = token[rows, columns] - torch.log1p(-blank[rows, columns].exp().clamp(max=1 - 1e-6))
    return NBestEntry(tuple(tokens), tuple(when), tuple(log_confidence.tolist()), score)
