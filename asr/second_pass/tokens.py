"""Whisper's tokens: written text with capitals, digits and punctuation, by GPT-2's byte-level BPE."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import tiktoken
import torch
from torch import Tensor

from asr.errors import ModelError

_NO_TEXT = frozenset("[](){}<>♪♫*#_~^|\\@")
"""Characters of sounds and music ("[Music]", "♪") and of markup, which nobody says."""
_MULTILINGUAL = 51_865
"""Models of so many tokens and more take a language token."""
_PIECES = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""Within which GPT-2's tokens are merged."""


class WrittenTokens:
    """The tokens of a tokenizer.json beside a Whisper model of `vocabulary` outputs.

    end: ends a text. prompt: what each text begins after: English, a transcript, no timestamps.

    Raises:
        ModelError: the file is missing, or is not Whisper's.
    """

    def __init__(self, path: Path, vocabulary: int) -> None:
        try:
            file = json.loads(path.read_text(encoding="utf-8"))
            special = {str(token["content"]): int(token["id"]) for token in file["added_tokens"]}
            self.end = special["<|endoftext|>"]
            language = ("<|en|>", "<|transcribe|>") if vocabulary >= _MULTILINGUAL else ()
            names = ("<|startoftranscript|>", *language, "<|notimestamps|>")
            self.prompt = tuple(special[name] for name in names)
            of = _bytes_of_characters()
            words = {bytes(of[c] for c in t): int(i) for t, i in file["model"]["vocab"].items() if t not in special}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: not a Whisper model's tokenizer.json ({type(error).__name__})") from error
        self.vocabulary = vocabulary
        self._encoding = tiktoken.Encoding("whisper", pat_str=_PIECES, mergeable_ranks=words, special_tokens=special)
        self._words = words

    def encode(self, text: str) -> list[int]:
        """The tokens of a text after the prompt; Whisper's texts begin with a space."""
        return self._encoding.encode_ordinary(f" {text.strip()}")

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without surrounding spaces."""
        return self._encoding.decode(list(tokens)).strip()

    def texts(self) -> list[str | None]:
        """What each token spells, where English needs it: printable ASCII without marks of sounds and markup.

        None for the others, the special ones among them.
        """
        texts: list[str | None] = [None] * self.vocabulary
        for data, token in self._words.items():
            text = data.decode("ascii", "replace")
            if token != self.end and text.isascii() and text.isprintable() and not _NO_TEXT & set(text):
                texts[token] = text
        return texts

    def allowed(self) -> Tensor:
        """(V,) bool: the end, and the tokens that have `texts`."""
        mask = torch.tensor([text is not None for text in self.texts()])
        mask[self.end] = True
        return mask


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's way of writing bytes as characters.

    Printable ones stand for themselves, the others for those from U+0100 on, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
