"""An ended utterance heard as a whole by an attention decoder: its n-best, and the scores of any texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.second_pass.beam_search import beam_search
from asr.second_pass.model import AttentionModel, Cache, load_hugging_face
from asr.second_pass.tokens import WrittenTokens

_TAIL_FRAMES = 50
"""Silence behind the utterance, in feature frames of 10 ms: what adapted weights expect."""
_RANGE = 2.0
"""Features are clipped so far below the utterance's loudest: 8 decades, scaled as Whisper's."""


@dataclass(frozen=True)
class WrittenHypothesis:
    """text: as the model wrote it, cased and punctuated. log_p: nats."""

    text: str
    log_p: float


@dataclass(frozen=True)
class HeardUtterance:
    """What the decoder reads of an utterance: (1, heads, T, D / heads) keys and values of each layer."""

    audio: Cache
    seconds: float


class SecondPass:
    """An attention model with its tokens; holds no state of any utterance.

    Args:
        window_s: seconds that utterances are padded to, 30 for stock weights; 0: the utterance and half a second.
        beam: hypotheses kept, which is the length of the n-best lists.
    """

    def __init__(self, model: AttentionModel, tokens: WrittenTokens, *, window_s: float = 0.0, beam: int = 5) -> None:
        self.model, self.tokens, self.beam = model.eval(), tokens, beam
        self._window_frames = int(100 * window_s)
        self._banned = ~tokens.allowed()

    @classmethod
    def load(cls, folder: Path, *, window_s: float = 30.0, beam: int = 5) -> SecondPass:
        """A folder in the Hugging Face form (config.json, model.safetensors, tokenizer.json). Raises ModelError."""
        model = load_hugging_face(folder)
        tokens = WrittenTokens(folder / "tokenizer.json", model.config.vocab_size)
        return cls(model, tokens, window_s=window_s, beam=beam)

    @torch.inference_mode()
    def hear(self, features: Sequence[Tensor]) -> list[HeardUtterance]:
        """Encodes utterances, in one batch.

        Args:
            features: (F, mels) each, of `asr.features` or `asr.second_pass.features`.
        """
        padded = [self._padded(f) for f in features]
        lengths = torch.tensor([len(f) for f in padded], device=padded[0].device)
        encoded = self.model.encoder(pad_sequence(padded, batch_first=True), lengths)
        heard = []
        for frames, length, feature in zip(encoded, lengths.tolist(), features, strict=True):
            audio = self.model.decoder.audio(frames[None, : length // 2])
            heard.append(HeardUtterance(audio, len(feature) / 100))
        return heard

    def _padded(self, features: Tensor) -> Tensor:
        """(F, mels) → what the encoder reads: floor and padding as Whisper's."""
        floor = float(features.max()) - _RANGE
        frames = max(self._window_frames, len(features) + _TAIL_FRAMES)
        frames = min(frames + frames % 2, 2 * self.model.config.max_source_positions)
        out = features.new_full((frames, features.shape[1]), floor)
        out[: len(features)] = features[:frames].clamp(min=floor)
        return out

    @torch.inference_mode()
    def nbest(self, heard: Sequence[HeardUtterance], longest: Sequence[int]) -> list[list[WrittenHypothesis]]:
        """The likeliest texts of each utterance, best first.

        Args:
            longest: most tokens of each.
        """
        audio, mask = _together(heard)
        found = beam_search(
            self.model.decoder, audio, mask, prompt=self.tokens.prompt, end=self.tokens.end, banned=self._banned,
            beam=self.beam, longest=longest,
        )  # fmt: skip
        return [[WrittenHypothesis(self.tokens.decode([*h.tokens]), h.log_p) for h in hyps] for hyps in found]

    @torch.inference_mode()
    def scores(self, heard: HeardUtterance, texts: Sequence[str]) -> list[float]:
        """log P(text, end | audio) of each written text, nats."""
        if not texts:
            return []
        prompt = torch.tensor(self.tokens.prompt)
        tokens = [torch.tensor([*self.tokens.encode(text), self.tokens.end]) for text in texts]
        given = pad_sequence([torch.cat([prompt, t[:-1]]) for t in tokens], batch_first=True)
        states, _ = self.model.decoder(given, heard.audio)
        after = torch.cat([s[len(prompt) - 1 :][: len(t)] for s, t in zip(states, tokens, strict=True)])
        logits = self.model.decoder.logits(after).masked_fill(self._banned, -torch.inf)
        log_p = logits.log_softmax(-1).gather(1, torch.cat(tokens)[:, None])[:, 0]
        return [float(part.sum()) for part in log_p.split([len(t) for t in tokens])]


def _together(heard: Sequence[HeardUtterance]) -> tuple[Cache, Tensor]:
    """Utterances as one batch: keys and values, and (B, T) which frames are whose."""
    lengths = torch.tensor([h.audio[0][0].shape[2] for h in heard])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    layers = []
    for layer in range(len(heard[0].audio)):
        keys, values = (
            pad_sequence([h.audio[layer][kind][0].transpose(0, 1) for h in heard], batch_first=True).transpose(1, 2)
            for kind in (0, 1)
        )
        layers.append((keys, values))
    return layers, mask
