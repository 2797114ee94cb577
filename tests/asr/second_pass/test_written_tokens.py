"""The tokens of the shipped attention decoder against an independent implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ModelError
from asr.second_pass.attention_decoder import SHIPPED
from asr.second_pass.tokens import WrittenTokens

tokenizers = pytest.importorskip("tokenizers")
FILE = SHIPPED / "tokenizer.json"
WRITTEN, PEER = WrittenTokens(FILE, 51_864), tokenizers.Tokenizer.from_file(str(FILE))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
def test_texts_have_the_tokens_of_an_independent_implementation(text: str) -> None:
    if "<|" not in text:
        assert WRITTEN.encode(text) == PEER.encode(f" {text.strip()}", add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["Call Meg Bauer.", "It's $5.50, isn't it?", "516-69", "L-O-N-G-V-I-E-W", "Dr. Brown"])
def test_a_text_comes_back_and_may_be_put_out(text: str) -> None:
    ids = WRITTEN.encode(text)
    assert WRITTEN.decode(ids) == text
    assert WRITTEN.allowed()[ids].all()


def test_what_nobody_says_may_not_be_put_out() -> None:
    allowed = WRITTEN.allowed()
    for text in ("[Music]", "(laughs)", "♪", "émigré", "<|en|>"):
        assert not allowed[WRITTEN.encode(text)].all()
    assert allowed[WRITTEN.end]
    assert not allowed[list(WRITTEN.prompt)].any()


def test_a_multilingual_model_is_prompted_with_the_language() -> None:
    assert len(WRITTEN.prompt) == 2
    assert len(WrittenTokens(FILE, 51_865).prompt) == 4


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"added_tokens": [], "model": {"vocab": {}}})])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError):
        WrittenTokens(tmp_path / "tokenizer.json", 51_864)
