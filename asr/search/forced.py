"""Forced scoring: how likely is a given text, and when were its tokens said?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from asr.model.interface import AcousticModel
from asr.search.state import Reading

Prefix = tuple[int, ...]


def _emissions(model: AcousticModel, encoded: Tensor, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank (N, T, U + 1) and of the next token (N, T, U), float64.

    Texts that begin alike share their prefixes' predictions, so each prefix is joined with the audio once.
    """
    nodes: dict[Prefix, int] = {(): 0}
    for text in texts:
        for u in range(1, len(text) + 1):
            nodes.setdefault(tuple(text[:u]), len(nodes))
    outputs = _prefix_outputs(model, nodes)
    scores = [model.join(encoded, out[:, None]).log_softmax(-1) for out in outputs.split(32)]
    by_node = [row for part in scores for row in part]
    longest, frames = max(map(len, texts)), len(encoded)
    blank = torch.full((len(texts), frames, longest + 1), -torch.inf, dtype=torch.float64)
    token = torch.full((len(texts), frames, longest), -torch.inf, dtype=torch.float64)
    for i, text in enumerate(texts):
        for u in range(len(text) + 1):
            scores_here = by_node[nodes[tuple(text[:u])]]
            blank[i, :, u] = scores_here[:, model.blank]
            if u < len(text):
                token[i, :, u] = scores_here[:, text[u]]
    return blank, token


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


def force_score(model: AcousticModel, encoded: Tensor, texts: Sequence[Sequence[int]]) -> list[Reading]:
    """Each text with its log P(y|x) over all alignments (Graves 2012, eq. 16-17) and its likeliest token times.

    Args:
        encoded: (T, J), T ≥ 1, as `AcousticModel.encode` gives it.
        texts: token ids; an empty text is silence.
    """
    if not texts:
        return []
    blank, token = _emissions(model, encoded, texts)
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
        _reading(tokens, float(total[i, len(tokens)]), entered[:, i].tolist(), blank[i], token[i])
        for i, tokens in enumerate(texts)
    ]


def _reading(tokens: Sequence[int], score: float, entered: list[list[int]], blank: Tensor, token: Tensor) -> Reading:
    at, when = len(tokens), [0] * len(tokens)
    for t in range(len(entered) - 1, -1, -1):
        below = entered[t][at]
        when[below:at] = [t] * (at - below)
        at = below
    rows, columns = torch.tensor(when, dtype=torch.int64), torch.arange(len(tokens))
    certainty = token[rows, columns] - torch.log1p(-blank[rows, columns].exp().clamp(max=1 - 1e-6))
    return Reading(tuple(tokens), tuple(when), tuple(certainty.tolist()), score)
