"""SentencePiece tokens: id 0 is the blank, id 1 the unknown piece, which is never put out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from asr.errors import ModelError, UnspellableError

WORD_START = "▁"


class Tokenizer:
    """Text to token ids and back.

    Args:
        proto: a serialised SentencePiece model with `<blank>` as id 0 and `<unk>` as id 1.
    """

    blank = 0
    unknown = 1

    def __init__(self, proto: bytes) -> None:
        self.proto = proto
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except RuntimeError:
            raise ModelError("tokens: tokens.model is no SentencePiece model; copy it anew") from None
        if self._pieces.unk_id() != self.unknown or self._pieces.pad_id() != self.blank:
            raise ModelError("tokens: the SentencePiece model needs pad_id 0 (the blank) and unk_id 1")
        self.vocab_size: int = self._pieces.get_piece_size()
        self.pieces: tuple[str, ...] = tuple(self._pieces.id_to_piece(i) for i in range(self.vocab_size))

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """The tokenizer of a SentencePiece model file."""
        return cls(Path(path).read_bytes())

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int) -> Tokenizer:
        """A unigram model over normalised lines; every letter and the apostrophe get a piece."""
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            vocab_size=vocab_size,
            model_type="unigram",
            character_coverage=1.0,
            required_chars="abcdefghijklmnopqrstuvwxyz'",
            pad_id=0,
            pad_piece="<blank>",
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            normalization_rule_name="identity",
            minloglevel=2,
        )
        return cls(out.getvalue())

    def encode(self, text: str) -> list[int]:
        """Token ids of a normalised text.

        Raises:
            UnspellableError: a character of it has no piece.
        """
        ids = list(self._pieces.encode(text))
        if self.unknown in ids:
            raise UnspellableError("text has characters outside a-z and the apostrophe: normalise it first")
        return ids

    def sample(self, text: str) -> list[int]:
        """A random segmentation (Kudo 2018, subword regularisation), for training."""
        ids = list(self._pieces.encode(text, enable_sampling=True, alpha=0.2, nbest_size=-1))
        return ids if self.unknown not in ids else self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, words divided by one space."""
        return " ".join("".join(self.pieces[i] for i in ids).replace(WORD_START, " ").split())

    def can_spell(self, text: str) -> bool:
        """Whether no character of a text is unknown."""
        return self.unknown not in self._pieces.encode(text)

    def starts_word(self, token: int) -> bool:
        """Whether a token begins a word."""
        return self.pieces[token].startswith(WORD_START)
