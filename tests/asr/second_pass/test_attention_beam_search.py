"""The attention decoder's beam search against every text that there is."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from asr.second_pass.beam_search import beam_search
from asr.second_pass.model import AttentionModel, load_attention_model

END, PROMPT, ALLOWED = 0, (1, 2), (0, 5, 9, 17)


@pytest.fixture(scope="module")
def model(folder: Path) -> AttentionModel:
    return load_attention_model(folder)


@pytest.fixture(scope="module")
def banned() -> torch.Tensor:
    mask = torch.ones(40, dtype=torch.bool)
    mask[list(ALLOWED)] = False
    return mask


def features(seed: int, frames: int = 80) -> torch.Tensor:
    return torch.randn(1, frames, 80, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def every_text(model: AttentionModel, feature: torch.Tensor, longest: int) -> dict[tuple[int, ...], float]:
    """log P of each text of at most so many tokens, by teacher forcing; END is the only way to end."""
    audio = [model.decoder.audio(model.encoder(feature)[0])]
    out = {}
    for length in range(longest + 1):
        for text in itertools.product(ALLOWED[1:], repeat=length):
            states, _ = model.decoder(torch.tensor([[*PROMPT, *text]]), audio)
            logits = model.decoder.logits(states)[0, len(PROMPT) - 1 :]
            log_p = logits[:, list(ALLOWED)].log_softmax(-1)
            wanted = torch.tensor([ALLOWED.index(t) for t in (*text, END)])
            out[text] = float(log_p.gather(1, wanted[:, None]).sum())
    return out


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_likeliest_texts(model: AttentionModel, banned: torch.Tensor, seed: int) -> None:
    wanted = sorted(every_text(model, features(seed), 3).items(), key=lambda item: -item[1])
    audio = [model.decoder.audio(model.encoder(features(seed))[0].detach())]
    (found,) = beam_search(
        model.decoder, model.decoder.logits, audio, prompt=PROMPT, end=END, banned=banned, beam=200, longest=[3]
    )
    assert [h.tokens for h in found] == [text for text, _ in wanted]
    assert [h.log_p for h in found] == pytest.approx([p for _, p in wanted], abs=1e-3)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_utterances_of_a_batch_are_as_alone(model: AttentionModel, banned: torch.Tensor, beam: int) -> None:
    with torch.inference_mode():
        audio = [model.decoder.audio(model.encoder(f)[0]) for f in (features(1, 100), features(2, 60))]
    options = {"prompt": PROMPT, "end": END, "banned": banned, "beam": beam}
    both = beam_search(model.decoder, model.decoder.logits, audio, longest=[6, 4], **options)
    for found, one, longest in zip(both, audio, (6, 4), strict=True):
        (own,) = beam_search(model.decoder, model.decoder.logits, [one], longest=[longest], **options)
        assert [h.tokens for h in found] == [h.tokens for h in own]
        assert [h.log_p for h in found] == pytest.approx([h.log_p for h in own], abs=1e-3)
        assert all(len(h.tokens) <= longest for h in found)
        assert len(found) < 2 * beam


def test_an_early_end_that_is_unlikely_does_not_crowd_out_a_long_text() -> None:
    """A decoder that is sure of ten tokens and gives an end before them one chance in a thousand at each."""

    class Sure:
        def __call__(self, tokens: torch.Tensor, *_: object) -> tuple[torch.Tensor, list[object]]:
            return tokens[..., None].float(), []

    def project(states: torch.Tensor) -> torch.Tensor:
        """After the prompt's 2 come 3, 4, ... 12, and the end."""
        logits = torch.full((len(states), 40), -40.0)
        last = states[:, -1].long()
        sure = torch.where(last < 12, last + 1, torch.full_like(last, END))
        logits[:, [5, 6, 7, 8]] = -4.0
        logits[:, END] = -7.0
        return logits.scatter(1, sure[:, None], 0.0)

    banned = torch.zeros(40, dtype=torch.bool)
    (found,) = beam_search(Sure(), project, [], prompt=PROMPT, end=END, banned=banned, beam=3, longest=[20])  # type: ignore[arg-type]
    assert tuple(range(3, 13)) in [h.tokens for h in found]


def test_a_bound_of_nothing_gives_the_empty_text(model: AttentionModel, banned: torch.Tensor) -> None:
    audio = [model.decoder.audio(model.encoder(features(3))[0].detach())]
    (found,) = beam_search(
        model.decoder, model.decoder.logits, audio, prompt=PROMPT, end=END, banned=banned, beam=3, longest=[0]
    )
    assert [h.tokens for h in found] == [()]
