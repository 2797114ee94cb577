"""Beam search and forced alignment against enumeration and torchaudio's loss."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from asr.acoustic import Transducer
from asr.decoding import BeamSearch, force_score
from tests.support.torchaudio_pair import need_torchaudio
from tests.support.toy_transducer import Toy, brute_force

Unpruned = partial(BeamSearch, pruning_beam=math.inf, blank_threshold=1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blank", [0, 2, 3])
def test_a_wide_beam_finds_what_enumeration_finds(seed: int, blank: int) -> None:
    model = Toy(seed, blank)
    encoded = 1.5 * torch.randn(2, 4, generator=torch.Generator().manual_seed(100 + seed))
    truth = brute_force(model, encoded, 2)
    search = Unpruned(model, beam=128, max_symbols=2)
    found = search.nbest(search.step(encoded[None], search.start(1)), 0)
    assert {r.tokens: pytest.approx(r.acoustic, abs=1e-4) for r in found} == truth
    assert found[0].tokens == max(truth, key=lambda k: truth[k])


def test_a_narrow_beam_only_loses_probability() -> None:
    model, encoded = Toy(5), torch.randn(4, 4, generator=torch.Generator().manual_seed(5))
    truth = brute_force(model, encoded, 2)
    search = Unpruned(model, beam=4, max_symbols=2)
    found = search.nbest(search.step(encoded[None], search.start(1)), 0)
    assert len(found) == 4 and all(r.acoustic <= truth[r.tokens] + 1e-4 for r in found)


def test_forced_score_is_the_sum_over_all_alignments() -> None:
    model, encoded = Toy(7), torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    truth = brute_force(model, encoded, 3)
    texts = [(), (1,), (2, 2), (3, 1, 2), (1, 1)]
    for entry in force_score(model, encoded, texts):
        assert entry.acoustic == pytest.approx(truth[entry.tokens], abs=1e-4)


@torch.inference_mode()
def test_forced_score_agrees_with_torchaudios_loss(tiny_model: Transducer) -> None:
    encoded = torch.randn(20, tiny_model.join_width)
    tokens = torch.tensor([[7, 9, 7, 30]])
    logits = tiny_model.join(encoded[:, None], tiny_model.predictor(tokens)[0][None])
    loss = need_torchaudio().functional.rnnt_loss(
        logits[None], tokens.int(), torch.tensor([20]).int(), torch.tensor([4]).int(), blank=0, reduction="sum"
    )
    entry = force_score(tiny_model, encoded, [(9,), (7, 9, 7, 30), ()])[1]
    assert entry.acoustic == pytest.approx(-float(loss), abs=1e-3)
    assert list(entry.frames) == sorted(entry.frames) and max(entry.frames) < 20


@torch.inference_mode()
def test_a_stream_does_not_depend_on_its_batch(tiny_model: Transducer) -> None:
    search = Unpruned(tiny_model, beam=5)
    encoded = 3 * torch.randn(3, 40, tiny_model.join_width, generator=torch.Generator().manual_seed(0))
    encoded = torch.cat([encoded, encoded.flip(0) + 0.01])  # some have texts in common
    together = search.step(encoded, search.start(6))
    for i in range(6):
        alone = search.nbest(search.step(encoded[i : i + 1], search.start(1)), 0)
        shared = search.nbest(together, i)
        assert [r.tokens for r in alone] == [r.tokens for r in shared]
        assert [r.frames for r in alone] == [r.frames for r in shared]
        assert [r.acoustic for r in alone] == pytest.approx([r.acoustic for r in shared], abs=1e-3)
    assert len({search.nbest(together, i)[0].tokens for i in range(3)}) > 1


@torch.inference_mode()
def test_streams_of_a_batch_may_be_of_different_length(tiny_model: Transducer) -> None:
    search, lengths = Unpruned(tiny_model, beam=5), (3, 40, 0, 17)
    encoded = 3 * torch.randn(4, 40, tiny_model.join_width, generator=torch.Generator().manual_seed(0))
    together = search.step(encoded, search.start(4), lengths=lengths)
    assert tuple(together.time) == lengths
    for i, length in enumerate(lengths):
        alone = search.nbest(search.step(encoded[i : i + 1, :length], search.start(1)), 0)
        shared = search.nbest(together, i)
        assert [(r.tokens, r.frames) for r in alone] == [(r.tokens, r.frames) for r in shared]
        assert [r.acoustic for r in alone] == pytest.approx([r.acoustic for r in shared], abs=1e-3)


@torch.inference_mode()
def test_a_state_may_have_a_beam_of_its_own(tiny_model: Transducer) -> None:
    encoded = torch.randn(2, 12, tiny_model.join_width)
    narrow, wide = Unpruned(tiny_model, 3), Unpruned(tiny_model, 9)
    given, own = narrow.step(encoded, narrow.start(2, 9)), wide.step(encoded, wide.start(2))
    for stream in range(2):
        assert len(narrow.nbest(given, stream)) > 3 and narrow.nbest(given, stream) == wide.nbest(own, stream)


@torch.inference_mode()
def test_cutting_the_frames_changes_nothing(tiny_model: Transducer) -> None:
    search = Unpruned(tiny_model, beam=5)
    encoded = 3 * torch.randn(1, 30, tiny_model.join_width, generator=torch.Generator().manual_seed(2))
    whole = search.nbest(search.step(encoded, search.start(1)), 0)
    for sizes in ([8, 16, 6], [1, 7, 2, 20]):
        state = search.start(1)
        for part in encoded.split(sizes, dim=1):
            state = search.step(part, state)
        found = search.nbest(state, 0)
        assert [(r.tokens, r.frames) for r in found] == [(r.tokens, r.frames) for r in whole]
        assert [r.acoustic for r in found] == pytest.approx([r.acoustic for r in whole], abs=1e-3)
        assert found == whole or sizes[0] == 1  # bit for bit where the cuts are at blocks of frames


@torch.inference_mode()
def test_hypotheses_are_distinct_sorted_and_outgrow_their_buffer(
    tiny_model: Transducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.decoding.beam_search.ROOM", 4)
    search = Unpruned(tiny_model, beam=5)
    encoded = 3 * torch.randn(1, 400, tiny_model.join_width, generator=torch.Generator().manual_seed(3))
    nbest = search.nbest(search.step(encoded, search.start(1)), 0)
    assert len({r.tokens for r in nbest}) == len(nbest) == 5
    assert len(nbest[0].tokens) > 8
    scores = [r.acoustic for r in nbest]
    assert scores == sorted(scores, reverse=True) and all(math.isfinite(s) for s in scores)
    assert all(c <= 1e-6 for r in nbest for c in r.log_confidence)


@pytest.mark.parametrize("seed", range(4))
def test_pruning_only_loses_unlikely_hypotheses(seed: int) -> None:
    model, encoded = Toy(seed), 1.5 * torch.randn(2, 4, generator=torch.Generator().manual_seed(100 + seed))
    truth = brute_force(model, encoded, 2)
    for margin in (1.0, 8.0):
        search = Unpruned(model, beam=128, max_symbols=2, pruning_beam=margin, blank_threshold=1.0)
        found = search.nbest(search.step(encoded[None], search.start(1)), 0)
        assert all(r.acoustic <= truth[r.tokens] + 1e-4 for r in found)
        assert margin == 8.0 or len(found) < len(truth)
    assert found[0].tokens == max(truth, key=lambda k: truth[k])
    assert found[0].acoustic == pytest.approx(truth[found[0].tokens], abs=0.05)


@torch.inference_mode()
def test_skipped_blank_frames_are_as_if_they_were_not_there(tiny_model: Transducer) -> None:
    encoded = 3 * torch.randn(3, 40, tiny_model.join_width, generator=torch.Generator().manual_seed(8))
    encoded[2, :, -tiny_model.vocab_size + tiny_model.blank] = 40.0  # of this stream all frames are skipped
    encoded[1, 8:24, -tiny_model.vocab_size + tiny_model.blank] = 40.0
    probabilities = tiny_model.blank_probabilities(encoded)
    ctc = encoded[..., -tiny_model.vocab_size :].log_softmax(-1)
    assert torch.allclose(probabilities.log(), ctc[..., tiny_model.blank], atol=1e-5)
    threshold = float(probabilities[0].median())
    skipping, plain = Unpruned(tiny_model, 5, blank_threshold=threshold), Unpruned(tiny_model, 5)
    together = skipping.start(3)
    for part in encoded.split([8, 32], dim=1):
        together = skipping.step(part, together)
    for i in range(3):
        kept = (probabilities[i] <= threshold).nonzero()[:, 0]
        truth = plain.nbest(plain.step(encoded[i : i + 1, kept], plain.start(1)), 0)
        found = skipping.nbest(together, i)
        assert [r.tokens for r in found] == [r.tokens for r in truth]
        assert [r.frames for r in found] == [tuple(kept[list(r.frames)].tolist()) for r in truth]
        assert [r.acoustic for r in found] == pytest.approx([r.acoustic for r in truth], abs=1e-3)
        if len(kept):
            texts = [r.tokens for r in found]
            forced = force_score(tiny_model, encoded[i], texts, threshold)
            assert forced == [
                replace(r, frames=tuple(kept[list(r.frames)].tolist()))
                for r in force_score(tiny_model, encoded[i, kept], texts)
            ]
    assert [r.tokens for r in skipping.nbest(together, 2)] == [()] and together.time.tolist() == [40] * 3
    assert force_score(tiny_model, encoded[2], [(3,)], threshold) == force_score(tiny_model, encoded[2], [(3,)])


@torch.inference_mode()
def test_a_predictor_that_is_not_cached_gives_the_same_search(
    tiny_model: Transducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a predictor that remembers all tokens."""
    encoded = 3 * torch.randn(2, 40, tiny_model.join_width, generator=torch.Generator().manual_seed(6))
    kept = Unpruned(tiny_model, 5)
    monkeypatch.setattr("asr.decoding.joiner_cache._ROOM", 0)
    forgotten = Unpruned(tiny_model, 5)
    one, other = (search.step(encoded, search.start(2)) for search in (kept, forgotten))
    assert one.predicted is None and other.predicted is not None
    for i in range(2):
        a, b = kept.nbest(one, i), forgotten.nbest(other, i)
        assert [(r.tokens, r.frames) for r in a] == [(r.tokens, r.frames) for r in b]
        assert [r.acoustic for r in a] == pytest.approx([r.acoustic for r in b], abs=1e-3)


def test_impossible_beams(tiny_model: Transducer) -> None:
    with pytest.raises(ValueError, match="beam is 0"):
        BeamSearch(tiny_model, beam=0)
    with pytest.raises(ValueError, match="max_symbols -1"):
        BeamSearch(tiny_model, beam=4, max_symbols=-1)
    with pytest.raises(ValueError, match="pruning_beam is 0"):
        BeamSearch(tiny_model, pruning_beam=0)
    with pytest.raises(ValueError, match="blank_threshold is 0"):
        BeamSearch(tiny_model, blank_threshold=0)
    with pytest.raises(ValueError, match="language_weight is -1"):
        BeamSearch(tiny_model, language_weight=-1)
