"""Beam search of the attention decoder, batched over utterances and their hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.second_pass.model import Cache, Decoder
from asr.second_pass.packing import Projection

_MARGIN = 15.0
"""Nats behind its utterance's likeliest hypothesis at which one is dropped."""


@dataclass(frozen=True)
class TokenHypothesis:
    """tokens: without prompt and end. log_p: log P(tokens, end | audio), nats."""

    tokens: tuple[int, ...]
    log_p: float


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    project: Projection,
    audio: Sequence[Cache],
    *,
    prompt: Sequence[int],
    end: int,
    banned: Tensor,
    beam: int,
    longest: Sequence[int],
) -> list[list[TokenHypothesis]]:
    """Likely texts of each utterance, best first: those that have ended when `beam` have, fewer than twice as many.

    A hypothesis ends where that is among the `beam` likeliest steps of its utterance: an end that is likelier than a
    long text only because it is short does not count. Those far behind their utterance's likeliest are dropped.

    Args:
        project: the decoder's output projection, `Decoder.logits` or a packed one.
        audio: of `Decoder.audio`, for each of B utterances.
        banned: (V,) bool, tokens that are never put out; not `end`.
        beam: K, hypotheses kept.
        longest: most tokens of each utterance's texts: one that has so many is made to end.
    """
    count, device = len(longest), banned.device
    tokens = torch.tensor([prompt] * count, device=device)
    states, cache = decoder(tokens, audio)
    log_p = _next(project, states[:, -1], banned)
    cache = [(k.repeat_interleave(beam, 0), v.repeat_interleave(beam, 0)) for k, v in cache]
    score = torch.full((count, beam), -torch.inf, device=device)
    score[:, 0] = 0.0
    log_p = log_p.repeat_interleave(beam, 0)
    texts: list[list[tuple[int, ...]]] = [[()] * beam for _ in range(count)]
    ended: list[list[TokenHypothesis]] = [[] for _ in range(count)]
    bound = torch.tensor(longest, device=device)[:, None]
    for length in range(max(longest) + 1):
        total = score[:, :, None] + log_p.view(count, beam, -1)
        full = (length >= bound)[:, :, None] & (torch.arange(total.shape[-1], device=device) != end)
        best = total.masked_fill_(full, -torch.inf).flatten(1).topk(beam)
        parent, token = best.indices // total.shape[-1], best.indices % total.shape[-1]
        score = best.values
        for i in range(count):
            steps = list(zip(parent[i].tolist(), token[i].tolist(), score[i].tolist(), strict=True))
            ended[i] += [TokenHypothesis(texts[i][p], s) for p, t, s in steps if t == end and s > -torch.inf]
            texts[i] = [(*texts[i][p], t) for p, t, _ in steps]
        score = score.masked_fill((token == end) | (score < score[:, :1] - _MARGIN), -torch.inf)
        score[[len(hyps) >= beam for hyps in ended]] = -torch.inf
        if not bool((score > -torch.inf).any()):
            break
        rows = (parent + torch.arange(count, device=device)[:, None] * beam).flatten()
        cache = [(k[rows], v[rows]) for k, v in cache]
        states, cache = decoder(token.reshape(-1, 1), audio, cache)
        log_p = _next(project, states[:, -1], banned)
    return [sorted(hyps, key=lambda h: -h.log_p) for hyps in ended]


def _next(project: Projection, states: Tensor, banned: Tensor) -> Tensor:
    """(N, D) → (N, V) log-probabilities of the next token."""
    return project(states).masked_fill(banned, -torch.inf).log_softmax(-1)
