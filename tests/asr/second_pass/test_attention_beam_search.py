"""The attention decoder's beam search against every text that there is."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.second_pass.beam_search import beam_search, likeliest
from asr.second_pass.model import AttentionModel, load_attention_model
from asr.second_pass.packing import Projection
from asr.second_pass.phrase_boosting import TokenLetters, WrittenPhrases

END, PROMPT, ALLOWED = 0, (1, 2), (0, 5, 9, 17)
SPELLED = {5: " meg", 9: " ba", 17: "uer"}


@pytest.fixture(scope="module")
def model(folder: Path) -> AttentionModel:
    return load_attention_model(folder)


@pytest.fixture(scope="module")
def project(model: AttentionModel) -> Projection:
    mask = torch.ones(40, dtype=torch.bool)
    mask[list(ALLOWED)] = False
    return lambda states: model.decoder.logits(states).masked_fill(mask, -torch.inf)


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
def test_a_wide_beam_finds_the_likeliest_texts(model: AttentionModel, project: Projection, seed: int) -> None:
    wanted = sorted(every_text(model, features(seed), 3).items(), key=lambda item: -item[1])
    audio = [model.decoder.audio(model.encoder(features(seed))[0].detach())]
    (found,) = beam_search(model.decoder, project, audio, prompt=PROMPT, end=END, beam=200, max_tokens=[3])
    assert [h.tokens for h in found] == [text for text, _ in wanted]
    assert [h.log_p for h in found] == pytest.approx([p for _, p in wanted], abs=1e-3)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_utterances_of_a_batch_are_as_alone(model: AttentionModel, project: Projection, beam: int) -> None:
    with torch.inference_mode():
        audio = [model.decoder.audio(model.encoder(f)[0]) for f in (features(1, 100), features(2, 60))]
    options: dict[str, Any] = {"prompt": PROMPT, "end": END, "beam": beam}
    both = beam_search(model.decoder, project, audio, max_tokens=[6, 4], **options)
    for found, one, longest in zip(both, audio, (6, 4), strict=True):
        (own,) = beam_search(model.decoder, project, [one], max_tokens=[longest], **options)
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

    (found,) = beam_search(Sure(), project, [], prompt=PROMPT, end=END, beam=3, max_tokens=[20])  # type: ignore[arg-type]
    assert tuple(range(3, 13)) in [h.tokens for h in found]


def test_a_bound_of_nothing_gives_the_empty_text(model: AttentionModel, project: Projection) -> None:
    audio = [model.decoder.audio(model.encoder(features(3))[0].detach())]
    (found,) = beam_search(model.decoder, project, audio, prompt=PROMPT, end=END, beam=3, max_tokens=[0])
    assert [h.tokens for h in found] == [()]


def written(tokens: tuple[int, ...]) -> str:
    return "".join(SPELLED[t] for t in tokens)


LISTS = [{"meg bauer": 6.0}, {"meg": 2.5, "meg ba": 4.0, "bauer": 3.0}, {"uer": 5.0, "bauer": -3.0}, {"meg meg": 8.0}]


@pytest.mark.parametrize("weights", LISTS)
@pytest.mark.parametrize("seed", range(2))
def test_phrases_bring_a_wide_beam_to_the_best_by_log_p_and_bonus(
    model: AttentionModel, project: Projection, seed: int, weights: dict[str, float]
) -> None:
    phrases = WrittenPhrases(weights, TokenLetters([SPELLED.get(token) for token in range(40)]))
    bonus = {text: phrases.bonus(written(text)) for text in every_text(model, features(seed), 3)}
    wanted = sorted(
        ((p + bonus[text], text, p) for text, p in every_text(model, features(seed), 3).items()), reverse=True
    )
    audio = [model.decoder.audio(model.encoder(features(seed))[0].detach())]
    (found,) = beam_search(
        model.decoder, project, audio,
        prompt=PROMPT, end=END, beam=200, max_tokens=[3], phrases=[phrases],
    )  # fmt: skip
    assert [h.tokens for h in found] == [text for _, text, _ in wanted]
    assert [h.bonus for h in found] == [bonus[text] for _, text, _ in wanted]
    assert any(h.bonus for h in found)
    assert [h.log_p for h in found] == pytest.approx([p for *_, p in wanted], abs=1e-3)


def test_phrases_touch_no_bit_of_other_utterances_and_none_where_there_are_none(
    model: AttentionModel, project: Projection
) -> None:
    with torch.inference_mode():
        audio = [model.decoder.audio(one) for one in model.encoder(torch.cat([features(1), features(2)]))]
    letters = TokenLetters([SPELLED.get(token) for token in range(40)])
    boosted, empty = WrittenPhrases({"meg bauer": 9.0}, letters), WrittenPhrases({}, letters)
    options: dict[str, Any] = {"prompt": PROMPT, "end": END, "beam": 3, "max_tokens": [6, 6]}
    plain = beam_search(model.decoder, project, audio, **options)
    assert beam_search(model.decoder, project, audio, phrases=[None, empty], **options) == plain
    one, other = beam_search(model.decoder, project, audio, phrases=[boosted, None], **options)
    assert "meg bauer" in written(one[0].tokens) and one != plain[0]
    assert [h.tokens for h in other] == [h.tokens for h in plain[1]]
    assert [h.log_p for h in other] == pytest.approx([h.log_p for h in plain[1]], abs=1e-4)


def test_a_phrase_that_is_never_finished_brings_nothing(model: AttentionModel, project: Projection) -> None:
    """A narrow beam may follow a phrase for a while; what ends has none of its bonus."""
    audio = [model.decoder.audio(model.encoder(features(2))[0].detach())]
    phrases = WrittenPhrases({"meg bauers": 9.0}, TokenLetters([SPELLED.get(token) for token in range(40)]))
    (found,) = beam_search(
        model.decoder, project, audio,
        prompt=PROMPT, end=END, beam=4, max_tokens=[5], phrases=[phrases],
    )  # fmt: skip
    assert found and all(h.bonus == 0 and h.score == h.log_p for h in found)


@pytest.mark.parametrize("size", [1, 40, 64, 65, 200, 1000])
@pytest.mark.parametrize("count", [1, 5, 70])
def test_the_likeliest_are_those_of_a_full_search(size: int, count: int) -> None:
    scores = torch.randn(3, size, generator=torch.Generator().manual_seed(size))
    values, places = likeliest(scores, count)
    wanted = scores.topk(min(count, size))
    assert torch.equal(values, wanted.values) and torch.equal(places, wanted.indices)
