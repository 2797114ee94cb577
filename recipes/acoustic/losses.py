"""RNN-T loss on a band of the lattice around the CTC alignment.

The full lattice costs frames × tokens × vocabulary; almost all of its probability lies near the diagonal. As in pruned
RNN-T (Kuang et al. 2022, arXiv:2206.13236) only a few token positions are kept for each frame; here they are chosen
around the CTC head's forced alignment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.pairing import load_torchaudio

_NEVER = -1e30


def band_starts(
    ctc: Tensor, targets: Tensor, frames: Tensor, counts: Tensor, blank: int, width: int, ahead: int = 1
) -> Tensor:
    """First token position of each frame's band, (B, T) int64, rising by at most one a frame.

    Args:
        ctc: (B, T, V) log-probabilities; targets (B, U); frames, counts (B,): how much of them counts. An utterance
            needs a frame for each of its tokens, and one more for each immediate repetition.
        width: token positions kept; `ahead` of them lie before the token that CTC has reached.
    """
    starts = torch.zeros(ctc.shape[:2], dtype=torch.int64)
    device, ctc, targets = ctc.device, ctc.detach().float().cpu(), targets.cpu()  # at once: each copy waits for a GPU
    align = load_torchaudio().functional.forced_align
    for i, (t, u) in enumerate(zip(frames.tolist(), counts.tolist(), strict=True)):
        if not u:
            continue
        path, _ = align(ctc[i : i + 1, :t], targets[i : i + 1, :u], blank=blank)
        before = torch.nn.functional.pad(path[0, :-1], (1, 0), value=blank)
        reached = ((path[0] != blank) & (path[0] != before)).cumsum(0)
        starts[i, :t] = (reached + ahead + 1 - width).clamp(0, max(0, u + 1 - width))
        starts[i, t:] = starts[i, t - 1]
    return starts.to(device)


def banded_rnnt_loss(
    logits: Tensor, targets: Tensor, starts: Tensor, frames: Tensor, counts: Tensor, blank: int
) -> Tensor:
    """-log P(y|x) over the alignments inside the band, summed over the batch; an upper bound of the full loss.

    Args:
        logits: (B, T, S, V), entry (t, k) after reading `starts[t] + k` tokens.
        targets: (B, U); frames, counts: (B,).
    """
    scores = logits.log_softmax(-1)
    at = starts[..., None] + torch.arange(logits.shape[2], device=logits.device)
    batch = torch.arange(len(targets), device=logits.device)[:, None, None]
    following = targets[batch, at.clamp(max=targets.shape[1] - 1)]
    token = scores.gather(-1, following[..., None])[..., :-1, 0]
    climbs = torch.nn.functional.pad(token.cumsum(-1), (1, 0))
    shifts = torch.nn.functional.pad(starts[:, 1:] - starts[:, :-1], (0, 1))
    columns = torch.arange(logits.shape[2], device=logits.device)
    alpha = torch.full_like(climbs[:, 0], _NEVER)
    alpha[:, 0] = 0.0
    ended = []
    for t in range(logits.shape[1]):
        alpha = climbs[:, t] + (alpha - climbs[:, t]).logcumsumexp(1) + scores[:, t, :, blank]
        ended.append(alpha)
        padded = torch.nn.functional.pad(alpha, (0, 1), value=_NEVER)
        alpha = padded.gather(1, (columns + shifts[:, t, None]).clamp(max=len(columns)))
    last = torch.stack(ended, 1)[torch.arange(len(targets)), frames.long() - 1]
    place = counts.long() - starts.gather(1, frames.long()[:, None] - 1)[:, 0]
    return -last.gather(1, place[:, None]).sum()
