"""The n-gram model against the definition of a back-off model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding import ngram
from asr.decoding.ngram import SHIPPED, STEP, NGram, hash_tokens
from asr.errors import ModelError
from asr.text.tokenizer import Tokenizer

VOCAB, ORDER = 5, 4
Gram = tuple[int, ...]
Table = dict[Gram, float]


def automaton(table: Table, left: Table, vocab: int = VOCAB, tokens_hash: str = "") -> NGram:
    """The model of n-grams that all have their prefixes and contexts' left-over probabilities."""
    grams = sorted(table, key=lambda g: (len(g), g))
    contexts = [(), *(g for g in grams if any(other[:-1] == g for other in table))]
    return NGram(
        np.array([g[-1] for g in grams]),
        np.array([math.log(table[g]) for g in grams]),
        np.array([sum(other[:-1] == g for other in table) for g in grams]),
        np.array([math.log(left[c]) for c in contexts]),
        order=ORDER,
        vocab_size=vocab,
        tokens_hash=tokens_hash,
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, Table]:
    """Random n-grams: each prefix of one is one, a suffix need not be; nothing follows the end, so 0 only begins."""
    share = st.floats(0.05, 1.0)
    grams: set[Gram] = {(t,) for t in range(VOCAB)}
    longer = st.tuples(st.integers(0, VOCAB - 1), *[st.integers(1, VOCAB - 1)] * (ORDER - 1))
    for gram in draw(st.lists(longer, max_size=12)):
        grams |= {gram[:n] for n in range(1, draw(st.integers(1, ORDER)) + 1)}
    for gram in draw(st.lists(st.sampled_from(sorted(grams)), max_size=4)):
        if len(gram) < ORDER and (len(gram) == 1 or gram[-1] != 0):
            grams.add((*gram, 0))
    return {g: draw(share) for g in sorted(grams)}, {g[:-1]: draw(share) for g in sorted(grams)}


def back_off_probability(table: Table, left: Table, context: Gram, token: int) -> float:
    """P(token | context) by the definition."""
    if context and not any(g[:-1] == context for g in table):
        return back_off_probability(table, left, context[1:], token)
    arcs = {g[-1]: p for g, p in table.items() if g[:-1] == context}
    total = sum(arcs.values()) + (left[context] if context else 0.0)
    if token in arcs:
        return arcs[token] / total
    unseen = 1 - sum(back_off_probability(table, left, context[1:], t) for t in arcs)
    rest = left[context] / total / max(unseen, 1e-6)
    return rest * back_off_probability(table, left, context[1:], token)


def states_of(model: NGram, text: Sequence[int]) -> list[int]:
    states = [model.start]
    for token in text:
        states.append(int(model.advance(np.array(states[-1:]), np.array([token]))[1][0]))
    return states


texts = st.lists(st.integers(1, VOCAB - 1), max_size=7)


@settings(max_examples=60, deadline=None)
@given(tables(), texts)
def test_scores_are_those_of_the_definition(drawn: tuple[Table, Table], text: list[int]) -> None:
    model = automaton(*drawn)
    states = np.array(states_of(model, text))
    scores, final = model.scores(states), model.final(states)
    assert scores.shape == (len(text) + 1, VOCAB) and scores.dtype == np.float32
    for i in range(len(text) + 1):
        context = (0, *text[:i])[-(ORDER - 1) :]
        expected = [math.log(back_off_probability(*drawn, context, t)) for t in range(VOCAB)]
        assert scores[i, 1:].tolist() == pytest.approx(expected[1:], abs=1e-4)
        assert scores[i, 0] == 0.0
        assert float(final[i]) == pytest.approx(expected[0], abs=1e-4)
    whole = sum(float(scores[i, t]) for i, t in enumerate(text)) + float(final[-1])
    assert model.score(text) == pytest.approx(whole, abs=1e-3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tables())
def test_each_state_is_a_distribution(drawn: tuple[Table, Table]) -> None:
    model = automaton(*drawn)
    every = np.arange(len(drawn[1]))
    total = np.exp(model.scores(every)[:, 1:].astype(float)).sum(1) + np.exp(model.final(every).astype(float))
    # back-off cannot be exact where the arcs' tokens have all of the shorter context's probability
    lower = np.array([sum(g[:-1] == c for g in drawn[0]) for c in sorted(drawn[1], key=lambda c: (len(c), c))])
    assert total[lower < VOCAB].tolist() == pytest.approx([1.0] * int((lower < VOCAB).sum()), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(tables(), st.lists(texts, min_size=1, max_size=5))
def test_a_row_does_not_depend_on_the_others(drawn: tuple[Table, Table], batch: list[list[int]]) -> None:
    model = automaton(*drawn)
    states = np.array([s for text in batch for s in states_of(model, text)])
    together, tokens = model.scores(states), np.arange(len(states)) % (VOCAB - 1) + 1
    scores, moved = model.advance(states, tokens)
    assert np.array_equal(scores, together[np.arange(len(states)), tokens])
    assert np.array_equal(model.max_score(states), together[:, 1:].max(1))
    for i in range(len(states)):
        assert np.array_equal(together[i], model.scores(states[i : i + 1])[0])
        assert moved[i] == model.advance(states[i : i + 1], tokens[i : i + 1])[1][0]
    alone = [model.score(text) for text in batch]
    assert model.score_texts(batch) == pytest.approx(alone, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(tables(), st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), max_size=5))
def test_the_row_cache_changes_nothing(drawn: tuple[Table, Table], calls: list[list[int]]) -> None:
    model = automaton(*drawn)
    with patch.object(ngram, "CACHED_STATES", 2):
        small = automaton(*drawn)
    for call in calls:
        states = np.array(call) % len(drawn[1])
        tokens = states % VOCAB
        assert np.array_equal(model.scores(states), small.scores(states))
        assert np.array_equal(model.advance(states, tokens), small.advance(states, tokens))


@settings(max_examples=20, deadline=None)
@given(drawn=tables(), text=texts)
def test_a_saved_model_is_the_same_but_for_rounding(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Table, Table], text: list[int]
) -> None:
    model, folder = automaton(*drawn), tmp_path_factory.mktemp("ngram")
    model.save(folder)
    loaded = NGram.load(folder)
    assert loaded.order == ORDER and loaded.version.startswith(f"{model.version}-")
    assert states_of(loaded, text) == states_of(model, text)
    empty = np.array([0])
    assert loaded.scores(empty).tolist()[0] == pytest.approx(model.scores(empty).tolist()[0], abs=1.01 * STEP)
    total = np.exp(loaded.scores(empty)[:, 1:]).sum() + np.exp(loaded.final(empty))
    assert float(total[0]) == pytest.approx(1.0, abs=1e-5)


def uniform(tokenizer: Tokenizer) -> NGram:
    size = tokenizer.vocab_size
    table: Table = {(t,): 1.0 for t in range(size)} | {(0, 5): 1.0}
    return automaton(table, {(): 1.0, (0,): 1.0}, size, hash_tokens(tokenizer))


def test_no_text_and_an_empty_text(tiny_tokenizer: Tokenizer) -> None:
    model = uniform(tiny_tokenizer)
    assert model.score_texts([]) == []
    assert model.score([]) == pytest.approx(math.log(0.5 / (tiny_tokenizer.vocab_size - 1)), abs=1e-5)
    assert model.score([5, 6]) == pytest.approx(math.log(0.5) - 2 * math.log(tiny_tokenizer.vocab_size), abs=1e-5)
    texts = [[5, 6], [], [6, 5, 5, 7]]
    assert [len(scores) for scores in model.token_scores(texts)] == [3, 1, 5]
    assert [sum(scores) for scores in model.token_scores(texts)] == pytest.approx(model.score_texts(texts), abs=1e-4)


def test_other_tokens_are_refused(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    uniform(tiny_tokenizer).save(tmp_path)
    assert NGram.load(tmp_path, tiny_tokenizer).fits(tiny_tokenizer)
    other = Tokenizer.train(["quick brown foxes jump over lazy dogs", "pack my box with five jugs"], 36)
    with pytest.raises(ModelError, match="made for other tokens"):
        NGram.load(tmp_path, other)
    assert NGram.load_shipped(other) is None


def test_damaged_files_are_refused(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    uniform(tiny_tokenizer).save(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(json.dumps(json.loads(config) | {"vocab_size": 7}))
    with pytest.raises(ModelError, match="arcs"):
        NGram.load(tmp_path)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "ngram.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="language model in"):
        NGram.load(tmp_path)
    with pytest.raises(ModelError, match="language model in"):
        NGram.load(tmp_path / "nowhere")


def test_the_shipped_model_spells() -> None:
    tokenizer = Tokenizer.load(SHIPPED.parent / "acoustic" / "tokens.model")
    model = NGram.load_shipped(tokenizer)
    assert model is not None

    def better(text: str, than: str) -> bool:
        return model.score(tokenizer.encode(text)) > model.score(tokenizer.encode(than))

    assert better("can you tell me what kind of gas", "can you tellm me what kint of gas")
    assert better("the second one", "the sekond wun") and better("four two seven", "for too sevin")
    states = np.array([0, model.start, *states_of(model, tokenizer.encode("what is the weather"))])
    total = np.exp(model.scores(states)[:, 1:]).sum(1) + np.exp(model.final(states))
    assert total.tolist() == pytest.approx([1.0] * len(states), abs=1e-3)
