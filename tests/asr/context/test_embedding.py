"""Context embeddings as bytes: what was written is read, what is damaged is refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context.types import QUESTIONS, ContextEmbedding, Phrase
from asr.errors import ContextError

phrases = st.builds(
    Phrase, st.text(max_size=20), st.text(max_size=8), st.floats(-10, 0).map(lambda x: round(x, 4)), st.text(max_size=9)
)


@st.composite
def embeddings(draw: st.DrawFn) -> ContextEmbedding:
    n, width = draw(st.integers(0, 64)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return ContextEmbedding(
        rng.standard_normal((n, width)).astype(np.float32),
        rng.standard_normal(width).astype(np.float32),
        tuple(draw(st.lists(phrases, max_size=5))),
        draw(st.sampled_from(QUESTIONS)),
        draw(st.text(max_size=12)),
    )


def same(a: ContextEmbedding, b: ContextEmbedding) -> bool:
    rest = (a.phrases, a.question, a.model_version) == (b.phrases, b.question, b.model_version)
    return rest and np.array_equal(a.vectors, b.vectors) and np.array_equal(a.summary, b.summary)


@settings(deadline=None)
@given(embeddings())
def test_bytes_bring_back_the_value(embedding: ContextEmbedding) -> None:
    assert same(ContextEmbedding.from_bytes(embedding.to_bytes()), embedding)


@settings(deadline=None)
@given(embeddings(), st.data())
def test_a_cut_embedding_is_refused(embedding: ContextEmbedding, data: st.DataObject) -> None:
    whole = embedding.to_bytes()
    with pytest.raises(ContextError):
        ContextEmbedding.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: b"CCE2" + b)))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ContextError):
        ContextEmbedding.from_bytes(data)


@settings(deadline=None)
@given(embeddings(), st.data())
def test_an_altered_byte_never_fails_otherwise(embedding: ContextEmbedding, data: st.DataObject) -> None:
    altered = bytearray(embedding.to_bytes())
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ContextError):
        assert isinstance(ContextEmbedding.from_bytes(bytes(altered)), ContextEmbedding)


def test_values_that_are_no_numbers_are_refused() -> None:
    bad = ContextEmbedding(np.full((1, 2), np.nan, np.float32), np.zeros(2, np.float32), (), "none", "v")
    with pytest.raises(ContextError, match="no numbers"):
        ContextEmbedding.from_bytes(bad.to_bytes())
