"""An ended utterance heard as a whole by an attention decoder: its n-best, and the scores of any texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.errors import ModelError
from asr.features import MELS
from asr.second_pass.beam_search import beam_search
from asr.second_pass.model import AttentionModel, Cache, load_attention_model
from asr.second_pass.packing import can_pack, output_projection, pack_linears
from asr.second_pass.tokens import WrittenTokens

SHIPPED = Path(__file__).parent.parent / "weights" / "second_pass"

_TAIL_FRAMES = 50
"""Silence behind the utterance, in feature frames of 10 ms: what adapted weights expect."""
_RANGE = 2.0
"""Features are clipped so far below the utterance's loudest: 8 decades, scaled as Whisper's."""

_TOO_LONG = -1e4


@dataclass(frozen=True)
class WrittenHypothesis:
    """text: as the model wrote it, cased and punctuated. log_p: nats."""

    text: str
    log_p: float


@dataclass(frozen=True)
class Attended:
    """An utterance that the attention decoder has heard.

    audio: what it reads of it, (1, heads, T, D / heads) keys and values of each layer. written: its own n-best, best
    first.
    """

    audio: Cache
    written: tuple[WrittenHypothesis, ...]


class SecondPass:
    """An attention model with its tokens; holds no state of any utterance.

    Args:
        model: taken over: its weights are packed for inference.
        beam: hypotheses kept, which is the length of the n-best lists.
        version: a digest of the weights.
    """

    def __init__(self, model: AttentionModel, tokens: WrittenTokens, *, beam: int = 5, version: str = "") -> None:
        self.model, self.tokens, self.beam, self.version = model.eval(), tokens, beam, version
        embedding = model.decoder.embed_tokens.weight.detach()
        self._device = embedding.device
        self._banned = ~tokens.allowed().to(self._device)
        self._project = output_projection(embedding)
        if can_pack(embedding):
            pack_linears(model)

    @classmethod
    def load(cls, folder: Path = SHIPPED, *, beam: int = 5, device: str = "cpu") -> SecondPass:
        """A folder in the Hugging Face form (config.json, model.safetensors, tokenizer.json). Raises ModelError."""
        model = load_attention_model(folder).to(device)
        if model.config.num_mel_bins != MELS:
            heard = model.config.num_mel_bins
            raise ModelError(f"second pass in {folder}: it hears {heard} mel bands, take a model that hears {MELS}")
        tokens = WrittenTokens(folder / "tokenizer.json", model.config.vocab_size)
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]
        return cls(model, tokens, beam=beam, version=digest)

    @torch.inference_mode()
    def hear(self, features: Sequence[Tensor], longest: Sequence[int]) -> list[Attended]:
        """Encodes utterances and searches for their likeliest texts, in one batch.

        Args:
            features: (F, mels) each, of `asr.features` or `asr.second_pass.features`; at most 30 s.
            longest: most tokens of each utterance's texts; never more than the decoder reads.
        """
        room = self.model.config.max_target_positions - len(self.tokens.prompt) - 1
        padded = [self._padded(f.to(self._device)) for f in features]
        lengths = torch.tensor([len(f) for f in padded], device=self._device)
        encoded = self.model.encoder(pad_sequence(padded, batch_first=True), lengths)
        lengths //= 2
        decoder, tokens = self.model.decoder, self.tokens
        audio = decoder.audio(encoded)
        heard = torch.arange(encoded.shape[1], device=self._device) < lengths[:, None]
        found = beam_search(decoder, self._project, audio, heard, prompt=tokens.prompt, end=tokens.end,
                            banned=self._banned, beam=self.beam, longest=[min(n, room) for n in longest])  # fmt: skip
        return [
            Attended(
                [(keys[i : i + 1, :, :length], values[i : i + 1, :, :length]) for keys, values in audio],
                tuple(WrittenHypothesis(tokens.decode(h.tokens), h.log_p) for h in hyps),
            )
            for i, (hyps, length) in enumerate(zip(found, lengths.tolist(), strict=True))
        ]

    def _padded(self, features: Tensor) -> Tensor:
        """(F, mels) → what the encoder reads: floor and padding as Whisper's."""
        floor = float(features.max()) - _RANGE
        frames = max(100 * self.model.config.window_s, len(features) + _TAIL_FRAMES)
        frames = min(frames + frames % 2, 2 * self.model.config.max_source_positions)
        out = features.new_full((frames, features.shape[1]), floor)
        out[: len(features)] = features[:frames].clamp(min=floor)
        return out

    @torch.inference_mode()
    def scores(self, attended: Attended, texts: Sequence[str]) -> list[float]:
        """log P(text, end | audio) of each written text, nats; very little for those with more tokens than it reads."""
        if not texts:
            return []
        prompt = torch.tensor(self.tokens.prompt, device=self._device)
        room = self.model.config.max_target_positions - len(prompt)
        ids = [[*self.tokens.encode(text), self.tokens.end] for text in texts]
        tokens = [torch.tensor(one[:room], device=self._device) for one in ids]
        given = pad_sequence([torch.cat([prompt, t[:-1]]) for t in tokens], batch_first=True)
        states, _ = self.model.decoder(given, attended.audio)
        after = torch.cat([s[len(prompt) - 1 :][: len(t)] for s, t in zip(states, tokens, strict=True)])
        logits = self._project(after).masked_fill_(self._banned, -torch.inf)
        log_p = logits.gather(1, torch.cat(tokens)[:, None])[:, 0] - logits.logsumexp(-1)
        sums = [float(part.sum()) for part in log_p.split([len(t) for t in tokens])]
        return [score if len(one) <= room else _TOO_LONG for score, one in zip(sums, ids, strict=True)]
