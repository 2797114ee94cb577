"""Beam search of the attention decoder, batched over utterances and their hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.second_pass.model import Cache, Decoder
from asr.second_pass.packing import Projection


@dataclass(frozen=True)
class TokenHypothesis:
    """tokens: without prompt and end. log_p: log P(tokens, end | audio), nats."""

    tokens: tuple[int, ...]
    log_p: float


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    project: Projection,
    audio: Cache,
    heard: Tensor | None,
    *,
    prompt: Sequence[int],
    end: int,
    banned: Tensor,
    beam: int,
    longest: Sequence[int],
) -> list[list[TokenHypothesis]]:
    """The likeliest texts of each utterance, best first, at most `beam`; fewer where fewer ended.

    A hypothesis leaves the beam when it ends; an utterance is done when it has `beam` ended ones that no hypothesis of
    the beam can overtake, because log-probabilities only fall. A hypothesis at its bound is made to end.

    Args:
        project: the decoder's output projection, `Decoder.logits` or a packed one.
        audio: of `Decoder.audio` for B utterances.
        heard: (B, T) bool, which encoded frames are of the utterance; None: all.
        banned: (V,) bool, tokens that are never put out; not `end`.
        beam: K, hypotheses kept.
        longest: most tokens of each utterance's texts.
    """
    count, device = len(longest), banned.device
    tokens = torch.tensor([prompt] * count, device=device)
    states, cache = decoder(tokens, audio, heard)
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
        at_end = total[:, :, end].clone()
        total[:, :, end] = -torch.inf
        total = total.masked_fill((length >= bound)[:, :, None], -torch.inf)
        best = total.flatten(1).topk(beam)
        for i, ends in enumerate(at_end.tolist()):
            ended[i] += [TokenHypothesis(texts[i][k], p) for k, p in enumerate(ends) if p > -torch.inf]
            ended[i] = sorted(ended[i], key=lambda h: -h.log_p)[:beam]
        parent, token = best.indices // total.shape[-1], best.indices % total.shape[-1]
        for i, (parents, new) in enumerate(zip(parent.tolist(), token.tolist(), strict=True)):
            texts[i] = [(*texts[i][p], t) for p, t in zip(parents, new, strict=True)]
        worst = [hyps[-1].log_p if len(hyps) == beam else -torch.inf for hyps in ended]
        score = best.values.masked_fill(best.values <= torch.tensor(worst, device=device)[:, None], -torch.inf)
        if not bool((score > -torch.inf).any()):
            break
        rows = (parent + torch.arange(count, device=device)[:, None] * beam).flatten()
        cache = [(k[rows], v[rows]) for k, v in cache]
        states, cache = decoder(token.reshape(-1, 1), audio, heard, cache)
        log_p = _next(project, states[:, -1], banned)
    return ended


def _next(project: Projection, states: Tensor, banned: Tensor) -> Tensor:
    """(N, D) → (N, V) log-probabilities of the next token."""
    return project(states).masked_fill(banned, -torch.inf).log_softmax(-1)
