"""The context encoder: its inputs, its embedding, its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context import Context, ContextEmbedding, ContextEncoder, Entry, Turn
from asr.context.checkpoint import ContextModels, read_weights, save_model
from asr.context.inputs import entries_of
from asr.context.question import TURN_SIGNAL, phrases_in_turns, question_of
from asr.context.types import MAX_PHRASES, MAX_TURNS, MAX_VECTORS
from asr.errors import ModelError

MEG = Context(
    (Turn("user", "call Meg"), Turn("system", "Do you mean Meg Jones or Meg Bauer?")),
    (Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer"), Entry("contacts", "Tom Power")),
)


def same(a: ContextEmbedding, b: ContextEmbedding) -> bool:
    return bool(np.array_equal(a.vectors, b.vectors)) and a.phrases == b.phrases and a.question == b.question


def test_a_context_becomes_vectors_phrases_and_a_question(encoder: ContextEncoder) -> None:
    embedding = encoder.encode(MEG)
    assert embedding.vectors.dtype == np.float32
    assert embedding.vectors.shape[1] == embedding.summary.shape[0]
    assert [p.text for p in embedding.phrases] == ["meg jones", "meg bauer", "tom power"]
    assert {p.signal for p in embedding.phrases} == {"contacts"}
    assert sum(np.exp(p.weight) for p in embedding.phrases) <= 1.0 + 1e-5
    assert embedding.question == "which"
    assert embedding.model_version == encoder.model_version


@pytest.mark.parametrize("context", [Context(), Context((Turn("user", " "),), (Entry("x", ""), Entry("x", "?!")))])
def test_nothing_known_is_an_empty_embedding(encoder: ContextEncoder, context: Context) -> None:
    assert encoder.encode(context).empty


def test_encoding_twice_gives_the_same(encoder: ContextEncoder) -> None:
    before = torch.get_rng_state()
    assert same(encoder.encode(MEG), encoder.encode(MEG))
    assert torch.equal(before, torch.get_rng_state())


def test_turns_past_the_limit_are_not_read(encoder: ContextEncoder) -> None:
    turns = tuple(Turn("user" if i % 2 else "system", f"turn {'a' * (i + 1)}") for i in range(MAX_TURNS + 5))
    assert same(encoder.encode(Context(turns)), encoder.encode(Context(turns[-MAX_TURNS:])))


def test_who_said_it_and_when_matters(encoder: ContextEncoder) -> None:
    a, b = Turn("user", "call meg"), Turn("system", "which one")
    plain = encoder.encode(Context((a, b))).vectors
    assert not np.array_equal(plain, encoder.encode(Context((replace(a, speaker="system"), b))).vectors)
    assert not np.array_equal(plain, encoder.encode(Context((b, a))).vectors)


def test_a_signal_of_ones_own_needs_no_code(encoder: ContextEncoder) -> None:
    named = [encoder.encode(Context((), (Entry(s, "meg"),))) for s in ("contacts", "my aquarium", "日本", "")]
    assert [e.phrases[0].signal for e in named] == ["contacts", "my aquarium", "日本", ""]
    assert not np.array_equal(named[0].vectors, named[1].vectors)


@pytest.mark.parametrize("count", [65, 600, MAX_PHRASES + 10])
def test_many_entries_share_64_vectors_and_all_stay_phrases(encoder: ContextEncoder, count: int) -> None:
    letters = "abcdefghij"
    entries = tuple(Entry("contacts", "n" + "".join(letters[int(c)] for c in str(i))) for i in range(count))
    embedding = encoder.encode(Context(MEG.turns, entries))
    assert len(embedding.vectors) == MAX_VECTORS
    assert len(embedding.phrases) == min(MAX_PHRASES, count + 2)  # the two that the question names, where there is room


def test_a_megabyte_of_text_is_cut(encoder: ContextEncoder) -> None:
    huge = "meg bauer " * 100_000
    embedding = encoder.encode(Context((Turn("user", huge), Turn("system", huge)), (Entry("x" * 10**6, huge),)))
    assert len(embedding.to_bytes()) < 20_000_000
    assert all(len(p.text) <= 400 for p in embedding.phrases)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.builds(Turn, st.sampled_from(["user", "system"]), st.text(max_size=60)), max_size=4),
    st.lists(st.builds(Entry, st.text(max_size=10), st.text(max_size=30)), max_size=6),
)
def test_any_text_can_be_encoded(encoder: ContextEncoder, turns: list[Turn], entries: list[Entry]) -> None:
    embedding = encoder.encode(Context(tuple(turns), tuple(entries)))
    assert np.isfinite(embedding.vectors).all()
    assert len(embedding.vectors) <= MAX_VECTORS
    assert same(ContextEmbedding.from_bytes(embedding.to_bytes()), embedding) or embedding.phrases


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ("Do you mean Meg Jones or Meg Bauer?", "which"),
        ("Which device do you mean?", "which"),
        ("Who do you want to call?", "which"),
        ("Should I call Meg Bauer?", "yes_no"),
        ("Calling Meg Bauer, is that right?", "yes_no"),
        ("What time?", "open"),
        ("Done.", "none"),
        ("", "none"),
        ("Do you mean Dr. Brown or Mr. Brown?", "which"),
        ("I found Sgt. Poe. Is that right?", "yes_no"),
    ],
)
def test_the_kind_of_question_is_read_off_its_words(said: str, question: str) -> None:
    assert question_of([Turn("user", "x"), Turn("system", said)]) == question
    assert question_of([Turn("system", said), Turn("user", "x")]) == "none"


def test_names_and_alternatives_of_a_question_are_phrases_without_any_service() -> None:
    found = {e.text for e in phrases_in_turns([Turn("system", "Do you mean Meg Jones or Meg Bauer?")])}
    assert {"meg jones", "meg bauer"} <= found
    assert {"red", "green"} <= {e.text for e in phrases_in_turns([Turn("system", "Would you like red or green?")])}


def test_an_entry_keeps_its_services_signal_where_the_turns_name_it_too() -> None:
    signals = {e.text: e.signal for e in entries_of(Context(MEG.turns, MEG.entries[1:]))}
    assert signals["meg bauer"] == "contacts"
    assert signals["meg jones"] == TURN_SIGNAL


def test_weights_come_back_from_a_folder(encoder: ContextEncoder, tmp_path: Path) -> None:
    save_model(tmp_path, encoder.model, encoder.tokenizer, {"version": "v2"})
    read = read_weights(tmp_path)
    again = ContextEncoder(read.model, read.tokenizer, read.version)
    assert again.model_version.startswith("v2-")
    assert again.encode(MEG).vectors == pytest.approx(encoder.encode(MEG).vectors, abs=0.02)


def test_broken_weights_say_so(encoder: ContextEncoder, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        read_weights(tmp_path)
    save_model(tmp_path, encoder.model, encoder.tokenizer, {"version": "v2"})
    (tmp_path / "context.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError):
        ContextModels.load(tmp_path)
