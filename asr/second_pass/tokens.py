"""Whisper's tokens: written text with capitals, digits and punctuation, by a byte-level BPE."""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
from torch import Tensor

from asr.errors import ModelError

_NO_TEXT = frozenset("[](){}<>♪♫*#_~^|\\@")
"""Characters of sounds and music ("[Music]", "♪") and of markup, which nobody says."""

_MULTILINGUAL = 51_865
"""Models of so many tokens and more are told the language."""


class WrittenTokens:
    """The tokens of a tokenizer.json beside a Whisper model of `vocabulary` outputs.

    end: ends a text. prompt: what each text begins after: English, a transcript, no timestamps.

    Raises:
        ModelError: the file is missing, or is not Whisper's.
    """

    def __init__(self, path: Path, vocabulary: int) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise ModelError(f"{path}: not a tokenizer.json that can be read: {error}") from error
        self.vocabulary = vocabulary
        self.end = self._special("<|endoftext|>")
        language = ("<|en|>", "<|transcribe|>") if vocabulary >= _MULTILINGUAL else ()
        self.prompt = tuple(map(self._special, ("<|startoftranscript|>", *language, "<|notimestamps|>")))

    def _special(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise ModelError(f"tokenizer.json has no {name}: give a Whisper model's")
        return int(token)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text after the prompt; Whisper's texts begin with a space."""
        ids: list[int] = self._tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids
        return ids

    def decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def allowed(self) -> Tensor:
        """(V,) bool: the end, and tokens of printable ASCII without marks of sounds and markup: what English needs."""
        mask = torch.zeros(self.vocabulary, dtype=torch.bool)
        for token in range(self.end):
            text = self._tokenizer.decode([token], skip_special_tokens=False)
            mask[token] = text.isascii() and text.isprintable() and bool(text) and not _NO_TEXT & set(text)
        mask[self.end] = True
        return mask
