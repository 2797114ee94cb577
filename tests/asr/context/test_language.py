"""The pointer over phrases, and what the context makes of a text's likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context import Context, ContextEncoder, Entry, Turn
from asr.context.context_lm import copy_rows, language_scores
from asr.context.copying import COPY_FEATURES, NEVER, PhrasePrefixes
from asr.context.model import ContextModel
from asr.context.phrase_index import PhraseIndex
from asr.text.tokenizer import Tokenizer

MEG = Context(
    (Turn("system", "Do you mean Meg Jones or Meg Bauer?"),),
    (Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer")),
)
texts = st.lists(st.sampled_from(["meg", "bauer", "jones", "call", "the", "baul", "yes"]), max_size=4).map(" ".join)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.pieces[t] for t in tokenizer.encode(text)]


def test_a_phrase_is_as_likely_as_its_share(tiny_tokenizer: Tokenizer) -> None:
    prefixes = PhrasePrefixes([("meg jones", 0.6), ("meg bauer", 0.2), ("bauer", 0.2)])
    for text, share in (("meg jones", 0.6), ("bauer", 0.2), ("meg bauer", 0.2)):
        rows = prefixes.rows(pieces(tiny_tokenizer, text))
        assert rows[:-1, 0].sum() == pytest.approx(math.log(share), abs=1e-4)


def test_what_is_no_phrase_is_never_copied(tiny_tokenizer: Tokenizer) -> None:
    rows = PhrasePrefixes([("bauer", 1.0)]).rows(pieces(tiny_tokenizer, "zoe"))
    assert rows[:-1, 0].min() == NEVER
    nothing = PhrasePrefixes([]).rows(pieces(tiny_tokenizer, "zoe"))
    assert (nothing[:, 0] == NEVER).all()


def test_a_phrase_may_follow_other_words_and_another_phrase(tiny_tokenizer: Tokenizer) -> None:
    prefixes = PhrasePrefixes([("meg", 0.5), ("bauer", 0.5)])
    for text in ("call bauer", "meg bauer"):
        rows = prefixes.rows(pieces(tiny_tokenizer, text))
        assert rows[len(pieces(tiny_tokenizer, text.split()[0])), 0] > -6
    inside = PhrasePrefixes([("meg bauer", 1.0)]).rows(pieces(tiny_tokenizer, "meg bauer"))
    assert (inside[1:-1, 1] == 1.0).all()
    assert inside[-1, 2] == 1.0


@settings(deadline=None)
@given(st.dictionaries(texts.filter(bool), st.floats(0.01, 1.0), max_size=4), texts)
def test_copied_probabilities_are_probabilities(tiny_tokenizer: Tokenizer, named: dict[str, float], text: str) -> None:
    rows = PhrasePrefixes(named.items()).rows(pieces(tiny_tokenizer, text))
    assert rows.shape == (len(pieces(tiny_tokenizer, text)) + 1, 1 + COPY_FEATURES)
    assert (rows[:, 0] <= 1e-6).all()
    assert np.isfinite(rows).all()


@settings(deadline=None, max_examples=30)
@given(hypotheses=st.lists(texts, min_size=1, max_size=6), known=st.booleans())
def test_readings_scored_together_score_as_the_network_reads_each(
    network: ContextModel, tiny_tokenizer: Tokenizer, encoder: ContextEncoder, hypotheses: list[str], known: bool
) -> None:
    embedding = encoder.encode(MEG if known else Context((Turn("system", "yes?"),)))
    index = PhraseIndex(embedding.phrases)
    scores = language_scores(hypotheses, embedding, index, network, tiny_tokenizer)
    for i, text in enumerate(hypotheses):
        row = tiny_tokenizer.encode(text)
        ids = torch.tensor([row], dtype=torch.long)
        copies = torch.from_numpy(copy_rows([row], index.prefixes, tiny_tokenizer)) if known else None
        with torch.inference_mode():
            states = network.answer_states(ids)
            vectors = torch.from_numpy(embedding.vectors)[None]
            with_context = float(network.read_out(states, ids, vectors, None, copies).sum())
            without = float(network.read_out(states, ids, None, None, None).sum())
        assert scores.with_context[i] == pytest.approx(with_context, abs=1e-3)
        assert scores.without[i] == pytest.approx(without, abs=1e-3)
        assert scores.tokens[i] == len(row)
