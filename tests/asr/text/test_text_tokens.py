"""Normal forms of texts, and the tokens that spell them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ModelError, UnspellableError
from asr.text import normalize
from asr.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("Play “Good Times” at 7:05, it's the 2nd!", "play good times at seven oh five it's the second"),
        ("12:00", "twelve o'clock"),
        ("Beyoncé & Jay-Z", "beyonce and jay z"),
        ("ŁUKASZ Sørensen, Weißæ", "lukasz sorensen weissae"),
        ("1,250 people, 3.5%", "one thousand two hundred and fifty people three point five percent"),
        ("$20", "twenty dollars"),
        ("007", "zero zero seven"),
        ("'quoted' rock 'n' roll", "quoted rock n roll"),
        ("١٢ Ж ☃", ""),
        ("", ""),
    ],
)
def test_normal_form(raw: str, normal: str) -> None:
    assert normalize(raw) == " ".join(normal.replace("-", " ").split())


@given(st.text(max_size=60))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert set(once) <= set("abcdefghijklmnopqrstuvwxyz' ")


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=8), max_size=5).map(" ".join))
def test_tokens_spell_any_normal_text(tiny_tokenizer: Tokenizer, text: str) -> None:
    assert tiny_tokenizer.decode(tiny_tokenizer.encode(text)) == text
    assert tiny_tokenizer.decode(tiny_tokenizer.sample(text)) == text
    assert tiny_tokenizer.blank not in tiny_tokenizer.encode(text)


def test_what_no_token_spells(tiny_tokenizer: Tokenizer) -> None:
    assert not tiny_tokenizer.can_spell("東京")
    with pytest.raises(UnspellableError):
        tiny_tokenizer.encode("東京")


def test_only_models_with_our_special_tokens() -> None:
    with pytest.raises((ModelError, RuntimeError)):
        Tokenizer(b"")
