"""Language model and phrases in the search: what they add, whom they touch, and whom they must not."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from asr.acoustic import Transducer
from asr.decoding import (
    BeamSearch,
    BeamState,
    BoostedPhrase,
    NBestEntry,
    PhraseGraph,
    compile_phrases,
    stack_states,
    unstack_states,
)
from asr.decoding.ngram import NGram
from asr.text.tokenizer import Tokenizer
from tests.support.toy_transducer import Toy, brute_force

Array = npt.NDArray[Any]
Unpruned = partial(BeamSearch, pruning_beam=math.inf, blank_threshold=1.0)


class Bigram:
    """log P(token | last token) of a random table; the state is the last token, at first the blank."""

    def __init__(self, vocab_size: int, blank: int, seed: int = 0) -> None:
        self.blank, self.start = blank, blank
        table = torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
        self.table = table.numpy()

    def scores(self, state: Array) -> Array:
        scores = self.table[state].copy()
        scores[:, self.blank] = 0.0
        return scores

    def max_score(self, state: Array) -> Array:
        return np.asarray(np.delete(self.table, self.blank, 1).max(1)[state])

    def advance(self, state: Array, token: Array) -> tuple[Array, Array]:
        return self.table[state, token], token

    def final(self, state: Array) -> Array:
        return np.asarray(self.table[state, self.blank])

    def score(self, tokens: Sequence[int]) -> float:
        path = [self.blank, *tokens, self.blank]
        return float(sum(self.table[a, b] for a, b in zip(path, path[1:], strict=False)))


def bigram(vocab_size: int, blank: int, seed: int = 0) -> NGram:
    return cast(NGram, Bigram(vocab_size, blank, seed))


def toy_tokens(blank: int) -> Tokenizer:
    """▁a, b and ▁b round a blank: "ab", "a", "b", "bb", "a b" …"""
    pieces = ["▁a", "b", "▁b"]
    pieces.insert(blank, "")
    return cast(Tokenizer, SimpleNamespace(pieces=tuple(pieces), vocab_size=4, blank=blank))


def toy_graph(blank: int, **weights: float) -> PhraseGraph:
    return compile_phrases([BoostedPhrase(k.replace("_", " "), v) for k, v in weights.items()], toy_tokens(blank))


def noise(seed: int, frames: int, width: int = 4) -> Tensor:
    return torch.randn(1, frames, width, generator=torch.Generator().manual_seed(seed))


def run(search: BeamSearch, encoded: Tensor, graph: PhraseGraph | None = None) -> list[NBestEntry]:
    return search.nbest(search.step(encoded, search.start(1), [graph]), 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("blank", [0, 2, 3])
def test_scores_are_those_of_the_definition(seed: int, blank: int) -> None:
    model, language, encoded = Toy(seed, blank), bigram(4, blank, seed), 1.5 * noise(seed, 2)
    graph = toy_graph(blank, ab=2.0, b=-1.0, a_b=3.0, ab_ab=4.0)
    truth = brute_force(model, encoded[0], 2)
    search = Unpruned(model, 128, 2, language, language_weight=0.7, token_bonus=0.4)
    found = run(search, encoded, graph)
    assert {r.tokens: pytest.approx(r.acoustic, abs=1e-4) for r in found} == truth
    for entry in found:
        assert entry.bias == graph.bonus(entry.tokens)
        expected = 0.7 * language.score(entry.tokens) + 0.4 * len(entry.tokens)
        assert entry.language == pytest.approx(expected, abs=1e-4)
    sums = [r.acoustic + r.language + r.bias for r in found]
    assert sums == sorted(sums, reverse=True)
    assert [r.tokens for r in found] != [r.tokens for r in run(Unpruned(model, 128, 2), encoded)]


@pytest.mark.parametrize("seed", range(4))
def test_phrases_move_no_times(seed: int) -> None:
    """Whatever its rank, a entry has the frames, certainties and acoustic score that it has without phrases."""
    model, encoded = Toy(seed), 1.5 * noise(seed, 3)
    graph = toy_graph(0, ab=4.0, b=-1.0, a_b=8.0)
    plain = {r.tokens: r for r in run(Unpruned(model, 64, 1), encoded)}
    biased = run(Unpruned(model, 64, 1), encoded, graph)
    assert len(biased) == len(plain) == 40 and any(r.bias for r in biased)
    for entry in biased:
        same = plain[entry.tokens]
        assert entry.frames == same.frames
        assert entry.log_confidence == pytest.approx(same.log_confidence, abs=1e-5)
        assert entry.acoustic == pytest.approx(same.acoustic, abs=1e-4)


def speech_like(model: Transducer, streams: int, frames: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(streams, frames, model.join_width, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_without_fusion_no_bit_changes(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    encoded = speech_like(tiny_model, 1, 40)
    search = Unpruned(tiny_model, 5)
    plain = search.nbest(search.step(encoded, search.start(1)), 0)
    empty = compile_phrases([], tiny_tokenizer)
    for graphs in ([None], [empty], []):
        state = search.step(encoded, search.start(1), graphs)
        assert search.nbest(state, 0) == plain and state.fusion is None
    for other in (Unpruned(tiny_model, 5, language=bigram(56, 0)), Unpruned(tiny_model, 5, language_weight=0.5)):
        assert other.nbest(other.step(encoded, other.start(1)), 0) == plain
    # phrases that never begin add nothing, though they are followed
    unspoken = compile_phrases([BoostedPhrase("q" * 9, 5.0)], tiny_tokenizer)
    found = search.nbest(search.step(encoded, search.start(1), [unspoken]), 0)
    assert [(r.tokens, r.frames, r.log_confidence) for r in found] == [
        (r.tokens, r.frames, r.log_confidence) for r in plain
    ]
    assert all(r.bias == 0 for r in found)


def assert_alike(one: list[NBestEntry], other: list[NBestEntry]) -> None:
    assert [(r.tokens, r.frames, r.bias) for r in one] == [(r.tokens, r.frames, r.bias) for r in other]
    for a, b in zip(one, other, strict=True):
        assert a.acoustic == pytest.approx(b.acoustic, abs=1e-3)
        assert a.language == pytest.approx(b.language, abs=1e-3)


def graphs_for(tokenizer: Tokenizer) -> list[PhraseGraph | None]:
    """The second and fourth streams have phrases, such as random weights will put out."""
    letters = [BoostedPhrase(x, 4.0) for x in "abcdefghijklmnopqrstuvwxyz"]
    names = [BoostedPhrase(x, 9.0) for x in ("the", "of", "is", "it", "me", "a you", "to me")]
    return [None, compile_phrases(letters, tokenizer), None, compile_phrases(names, tokenizer)]


@torch.inference_mode()
@pytest.mark.parametrize("spoken", [False, True])
def test_phrases_of_a_stream_change_no_other_stream(
    tiny_model: Transducer, tiny_tokenizer: Tokenizer, spoken: bool
) -> None:
    language = bigram(56, 0) if spoken else None
    search = Unpruned(tiny_model, 5, language=language, language_weight=0.3, token_bonus=0.5 * spoken)
    encoded, graphs = speech_like(tiny_model, 4, 40), graphs_for(tiny_tokenizer)
    together = search.step(encoded, search.start(4), graphs)
    changed = 0
    for i, graph in enumerate(graphs):
        alone = run(search, encoded[i : i + 1], graph)
        assert_alike(search.nbest(together, i), alone)
        plain = run(search, encoded[i : i + 1])
        changed += alone[0].tokens != plain[0].tokens
        assert (alone == plain) == (graph is None)
    assert changed  # the phrases are found, or nothing was tested


@torch.inference_mode()
@pytest.mark.parametrize("spoken", [False, True])
def test_streams_of_different_age_stack(tiny_model: Transducer, tiny_tokenizer: Tokenizer, spoken: bool) -> None:
    language = bigram(56, 0) if spoken else None
    search = Unpruned(tiny_model, 5, language=language, language_weight=0.3)
    encoded, graphs = speech_like(tiny_model, 4, 100), graphs_for(tiny_tokenizer)
    ages = [0, 13, 90, 31]
    states: list[BeamState] = []
    for i, (age, graph) in enumerate(zip(ages, graphs, strict=True)):
        state = search.start(1)
        states.append(search.step(encoded[i : i + 1, :age], state, [graph]) if age else state)
    for first in (0, 1):  # apart and together again, in another company
        batch = [0, 1, 2, 3] if not first else [3, 1]
        stacked = stack_states([states[i] for i in batch])
        piece = torch.stack([encoded[i, ages[i] : ages[i] + 5] for i in batch])
        stacked = search.step(piece, stacked, [graphs[i] for i in batch])
        for i, state in zip(batch, unstack_states(stacked), strict=True):
            states[i], ages[i] = state, ages[i] + 5
    for i, graph in enumerate(graphs):
        assert int(states[i].time[0]) == ages[i]
        assert_alike(search.nbest(states[i], 0), run(search, encoded[i : i + 1, : ages[i]], graph))
    for state in (states[0], states[2]):  # a plain stream leaves a mixed batch as it came
        assert state.graphs == () and (state.fusion is None) == (language is None)


@torch.inference_mode()
def test_a_stacked_state_is_a_value(tiny_model: Transducer) -> None:
    search, encoded = Unpruned(tiny_model, 5), speech_like(tiny_model, 2, 30)
    parts = [search.step(encoded[i : i + 1, :10], search.start(1)) for i in range(2)]
    before = [search.nbest(p, 0) for p in parts]
    stacked = stack_states(parts)
    search.step(encoded[:, 10:], stacked)
    assert [search.nbest(p, 0) for p in parts] == before
    assert [search.nbest(p, 0) for p in unstack_states(stacked)] == before
    assert stack_states(parts[:1]) is parts[0] and unstack_states(parts[0]) == [parts[0]]
    with pytest.raises(ValueError, match="no states"):
        stack_states([])
    spoken = Unpruned(tiny_model, 5, language=bigram(56, 0), language_weight=1.0)
    with pytest.raises(ValueError, match="language model"):
        stack_states([parts[0], spoken.start(1)])


@torch.inference_mode()
def test_phrases_do_not_change_within_an_utterance(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    search, encoded = Unpruned(tiny_model, 5), speech_like(tiny_model, 1, 20)
    _, letters, _, names = graphs_for(tiny_tokenizer)
    begun = search.step(encoded, search.start(1), [letters])
    assert search.nbest(search.step(encoded, begun), 0) == search.nbest(search.step(encoded, begun, [letters]), 0)
    for graph in (names, None):
        with pytest.raises(ValueError, match="before its first frame"):
            search.step(encoded, begun, [graph])
    with pytest.raises(ValueError, match="2 graphs for 1 streams"):
        search.step(encoded, search.start(1), [letters, names])


@torch.inference_mode()
def test_cutting_the_frames_changes_nothing_with_phrases(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    search = Unpruned(tiny_model, 5, language=bigram(56, 0), language_weight=0.2, token_bonus=0.3)
    encoded, graph = speech_like(tiny_model, 1, 30, 2), graphs_for(tiny_tokenizer)[1]
    whole = run(search, encoded, graph)
    for sizes in ([8, 16, 6], [1, 7, 2, 20]):
        state = search.start(1)
        for part in encoded.split(sizes, dim=1):
            state = search.step(part, state, [graph])
        assert_alike(search.nbest(state, 0), whole)
        assert search.nbest(state, 0) == whole or sizes[0] == 1  # bit for bit where the cuts are at blocks of frames


@torch.inference_mode()
def test_an_unfinished_phrase_has_no_bonus_in_the_nbest(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    search, encoded = Unpruned(tiny_model, 6), speech_like(tiny_model, 1, 60, 5)
    graph = compile_phrases([BoostedPhrase(t, 8.0) for t in ("the kitchen", "to jack", "a fox", "me")], tiny_tokenizer)
    state, held, granted = search.start(1), 0, 0
    for part in encoded.split(1, dim=1):
        state = search.step(part, state, [graph])
        assert state.fusion is not None and state.fusion.bias is not None
        held += int((state.fusion.bias > 0).sum())
        for entry in search.nbest(state, 0):
            assert entry.bias == graph.bonus(entry.tokens)
            granted += entry.bias > 0
    assert held > granted  # some were under way, or nothing was tested


def frames_of(*rows: dict[int, float]) -> Tensor:
    """(1, T, 4) encoded frames for a model without memory, log P of tokens; the blank, 0, has the rest."""
    out = torch.full((len(rows), 4), -30.0)
    for t, row in enumerate(rows):
        for token, score in row.items():
            out[t, token] = score
        out[t, 0] = math.log1p(-sum(math.exp(s) for s in row.values()))
    return out[None]


class Memoryless(Toy):
    def __init__(self) -> None:
        super().__init__(0)
        self.table = torch.zeros(4, 4)


def test_no_phrase_appears_in_silence() -> None:
    """Ten seconds in which each token has a chance of one in a million, and the largest bonus there is."""
    search = Unpruned(Memoryless(), 8)
    silence = frames_of(*[{1: -14.0, 2: -14.0, 3: -14.0}] * 250)
    graph = toy_graph(0, ab=1000.0, a=1000.0, b=1000.0, a_b=1000.0)
    best = run(search, silence, graph)[0]
    assert best.tokens == () and best.bias == 0


def test_a_phrase_does_not_loop() -> None:
    """Said once, it would be cheap to say again: less than its bonus, in every frame."""
    search = Unpruned(Memoryless(), 8)
    graph = toy_graph(0, a=4.0)
    sound = frames_of({1: -0.3}, *[{1: -3.5}] * 12)
    nbest = run(search, sound, graph)
    assert nbest[0].tokens == (1,) and nbest[0].bias == 4.0
    assert all(r.bias == 4.0 * (len(r.tokens) > 0) for r in nbest)


def test_a_phrase_is_found_that_the_beam_would_lose() -> None:
    """The graph is in the search: with room for one hypothesis no later rescoring could bring the phrase back."""
    model = Toy(0)
    model.table = torch.tensor([[0.0] * 4, [4.0, -30, 0, -30], [10.0, -30, -30, -30], [4.0, -30, 0, -30]])
    sound = torch.tensor([[[0.0, 2, -30, 3], [0.0, -30, 8, -30]]])  # ▁a or, likelier, ▁b; then b
    search = Unpruned(model, 1)
    assert run(search, sound)[0].tokens == (3, 2)
    found = run(search, sound, toy_graph(0, ab=3.0))[0]
    assert found.tokens == (1, 2) and found.bias == 3.0


def test_states_are_frozen(tiny_model: Transducer) -> None:
    state: Any = Unpruned(tiny_model, 2).start(1)
    with pytest.raises(AttributeError):
        state.time = 3
    assert replace(state, time=state.time + 1).time.tolist() == [1]
