"""The banded RNN-T loss against torchaudio's."""

import pytest
import torch

from recipes.acoustic.losses import band_starts, banded_rnnt_loss
from tests.support.torchaudio_pair import need_torchaudio

torchaudio = need_torchaudio(module=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_band_as_wide_as_the_text_is_the_whole_lattice(seed: int) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(2, 9, 5, 7, requires_grad=True)
    targets, frames, counts = torch.tensor([[1, 2, 2, 3], [4, 5, 0, 0]]), torch.tensor([9, 6]), torch.tensor([4, 2])
    starts = torch.zeros(2, 9, dtype=torch.int64)
    ours = banded_rnnt_loss(logits, targets, starts, frames, counts, blank=0)
    theirs = torchaudio.functional.rnnt_loss(
        logits, targets.int(), frames.int(), counts.int(), blank=0, reduction="sum"
    )
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-4)
    (a,) = torch.autograd.grad(ours, logits, retain_graph=True)
    (b,) = torch.autograd.grad(theirs, logits)
    assert torch.allclose(a, b, atol=1e-5)


def test_a_narrow_band_is_an_upper_bound_that_holds_the_alignment() -> None:
    torch.manual_seed(1)
    targets, frames, counts = torch.randint(1, 9, (2, 12)), torch.tensor([40, 31]), torch.tensor([12, 7])
    full = torch.randn(2, 40, 13, 9, requires_grad=True)
    starts = band_starts(torch.randn(2, 40, 9).log_softmax(-1), targets, frames, counts, 0, 5)
    steps = starts[:, 1:] - starts[:, :-1]
    assert steps.min() >= 0 and steps.max() <= 1 and starts[:, 0].max() == 0
    at = (starts[..., None] + torch.arange(5)).clamp(max=12)
    band = full.gather(2, at[..., None].expand(-1, -1, -1, 9))
    loss = banded_rnnt_loss(band, targets, starts, frames, counts, 0)
    whole = torchaudio.functional.rnnt_loss(full, targets.int(), frames.int(), counts.int(), blank=0, reduction="sum")
    assert torch.isfinite(loss) and loss >= whole - 1e-3
    (grad,) = torch.autograd.grad(loss, full)
    assert torch.isfinite(grad).all() and grad.abs().sum() > 0
