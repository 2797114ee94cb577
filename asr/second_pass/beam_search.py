"""Beam search of the attention decoder, batched over utterances and their hypotheses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.second_pass.model import Cache, Decoder
from asr.second_pass.packing import Projection
from asr.second_pass.phrase_boosting import START, State, WrittenPhrases

_PRUNING_BEAM = 15.0
"""Nats behind its utterance's likeliest hypothesis at which one is pruned."""
_BLOCK = 64
"""Tokens whose likeliest is found first."""


@dataclass(frozen=True)
class TokenHypothesis:
    """A hypothesis that has ended."""

    tokens: tuple[int, ...]
    """Without prompt and end."""
    log_p: float
    """log P(tokens, end | audio), nats."""
    bonus: float = 0.0
    """The bonus of its phrases, nats."""

    @property
    def score(self) -> float:
        """What hypotheses are ranked by, nats."""
        return self.log_p + self.bonus


class _Open(NamedTuple):
    """A hypothesis that has not ended."""

    tokens: tuple[int, ...]
    log_p: float
    bonus: float
    state: State
    """Where its text is in the phrases."""
    row: int
    """Its place in the batch."""


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    project: Projection,
    audio: Sequence[Cache],
    *,
    prompt: Sequence[int],
    end: int,
    beam: int,
    max_tokens: Sequence[int],
    phrases: Sequence[WrittenPhrases | None] = (),
    device: torch.device | str = "cpu",
) -> list[list[TokenHypothesis]]:
    """Search for likely texts of each utterance: those that have ended when `beam` have, fewer than twice as many.

    A hypothesis ends where that is among the `beam` likeliest steps of its utterance: an end that is likelier than a
    long text only because it is short does not count. Those far behind their utterance's likeliest are pruned.

    Args:
        project: the decoder's output projection, `Decoder.logits` or a packed one; -inf: never put out.
        audio: of `Decoder.audio`, for each of B utterances.
        beam: K, hypotheses kept.
        max_tokens: most tokens of each utterance's texts: one that has so many is made to end.
        phrases: those that are boosted in each utterance's search (shallow fusion); None, and empty ones, change no
            bit.

    Returns:
        The hypotheses of each utterance, best first.
    """
    count = len(max_tokens)
    boosted = [own or None for own in phrases] or [None] * count
    utterances = list(range(count))  # those that are searched on, in the batch's order
    hyps = [[_Open((), 0.0, 0.0, START, i)] for i in range(count)]
    ended: list[list[TokenHypothesis]] = [[] for _ in range(count)]
    states, cache = decoder(torch.tensor([prompt] * count, device=device), audio)
    for length in range(max(max_tokens) + 1):
        log_p = project(states[:, -1]).log_softmax(-1)
        for i in utterances:
            if (own := boosted[i]) is not None:
                for hyp in hyps[i]:
                    own.gains(hyp.state).add_to(log_p[hyp.row], own.vocabulary.kind, end)
        values, tokens = (part.tolist() for part in likeliest(log_p, beam))
        ends = log_p[:, end].tolist()
        for i in utterances:
            if length >= max_tokens[i]:
                nexts = [(hyp, ends[hyp.row], end) for hyp in hyps[i]]
            else:
                nexts = [(h, v, t) for h in hyps[i] for v, t in zip(values[h.row], tokens[h.row], strict=True)]
            steps = [(hyp.log_p + hyp.bonus + value, hyp, token, value) for hyp, value, token in nexts]
            best = sorted(steps, key=lambda step: -step[0])[:beam]
            hyps[i] = []
            for score, hyp, token, value in best:
                if score == -torch.inf:
                    break
                own, state, gain = boosted[i], hyp.state, 0.0
                if own is not None:
                    state, gain = (state, own.end(state)) if token == end else own.step(state, token)
                after, bonus = hyp.log_p + value - gain, hyp.bonus + gain
                if token == end:
                    ended[i].append(TokenHypothesis(hyp.tokens, after, bonus))
                elif score >= best[0][0] - _PRUNING_BEAM:
                    hyps[i].append(_Open((*hyp.tokens, token), after, bonus, state, hyp.row))
            if len(ended[i]) >= beam:
                hyps[i] = []
        going = [place for place, i in enumerate(utterances) if hyps[i]]
        if not going:
            break
        if len(going) < len(utterances):
            audio = [audio[place] for place in going]
            utterances = [utterances[place] for place in going]
        batch = [hyp for i in utterances for hyp in hyps[i]]
        parents = [hyp.row for hyp in batch]
        if parents != list(range(len(log_p))):
            cache = [(k[parents], v[parents]) for k, v in cache]
        last = torch.tensor([hyp.tokens[-1:] for hyp in batch], device=device)
        states, cache = decoder(last, audio, cache, [len(hyps[i]) for i in utterances])
        row = itertools.count()
        for i in utterances:
            hyps[i] = [hyp._replace(row=next(row)) for hyp in hyps[i]]
    return [sorted(own, key=lambda h: -h.score) for own in ended]


def likeliest(log_p: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest of each row of (N, V), at most `count`, and where they are, both (N, count).

    Among the blocks with the largest maxima they all are, so most of a row is read only for its blocks' maxima.
    """
    blocks = F.pad(log_p, (0, -log_p.shape[1] % _BLOCK), value=-torch.inf).unflatten(1, (-1, _BLOCK))
    chosen = blocks.amax(2).topk(min(count, blocks.shape[1])).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    best = inside.topk(min(count, log_p.shape[1]))
    return best.values, chosen.gather(1, best.indices // _BLOCK) * _BLOCK + best.indices % _BLOCK
