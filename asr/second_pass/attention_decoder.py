"""The attention decoder of the second pass: its n-best for an ended utterance, and its scores of any texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from asr.audio.features import MELS
from asr.decoding import PhraseGraph
from asr.errors import ModelError
from asr.fitted import content_digest
from asr.second_pass.beam_search import beam_search
from asr.second_pass.model import AttentionModel, Cache, load_attention_model
from asr.second_pass.packing import can_pack, output_projection, pack_linears
from asr.second_pass.phrase_boosting import TokenLetters, WrittenPhrases
from asr.second_pass.token_tree import TokenTree
from asr.second_pass.tokens import WrittenTokens

SHIPPED = Path(__file__).parent.parent / "weights" / "second_pass"

_TAIL_FRAMES = 50
"""Silence behind the utterance, in feature frames of 10 ms: what adapted weights expect."""
_RANGE = 2.0
"""Features are clipped so far below the utterance's loudest: 8 decades, scaled as Whisper's."""

_TOO_LONG = -1e4
_ROWS = 128
"""Nodes of a tree of texts whose next tokens are scored at once."""


@dataclass(frozen=True)
class WrittenHypothesis:
    """A text that the decoder has written."""

    text: str
    """Cased and punctuated."""
    log_p: float
    """log P(text, end | audio), nats, without the bonus of phrases."""


@dataclass(frozen=True)
class DecodedUtterance:
    """An utterance that the attention decoder has decoded."""

    audio: Cache
    """Keys and values of the encoded utterance for each layer's cross-attention, (1, heads, T, D / heads)."""
    written: tuple[WrittenHypothesis, ...]
    """Its n-best list, in the order of its search, in which phrases may have been boosted."""


class AttentionDecoder:
    """An attention model with its tokens; holds no state of any utterance, and of phrases only those of graphs in use.

    Args:
        model: taken over: its weights are packed for inference.
        beam: hypotheses kept, which is the length of the n-best lists.
        version: a digest of the weights.
    """

    def __init__(self, model: AttentionModel, tokens: WrittenTokens, *, beam: int = 5, version: str = "") -> None:
        self.model, self.tokens, self.beam, self.version = model.eval(), tokens, beam, version
        embedding = model.decoder.embed_tokens.weight.detach()
        self._device = embedding.device
        self._letters = TokenLetters(tokens.texts())
        self._phrases: WeakKeyDictionary[PhraseGraph, WrittenPhrases] = WeakKeyDictionary()
        self._project = output_projection(embedding, ~tokens.allowed().to(self._device))
        self._room = model.config.max_target_positions - len(tokens.prompt)
        if can_pack(embedding):
            pack_linears(model)

    @classmethod
    def load(cls, folder: Path = SHIPPED, *, beam: int = 5, device: str = "cpu") -> AttentionDecoder:
        """Load a folder in the Hugging Face form: config.json, model.safetensors, tokenizer.json. Raises ModelError."""
        model = load_attention_model(folder).to(device)
        if model.config.num_mel_bins != MELS:
            bands = model.config.num_mel_bins
            raise ModelError(f"second pass in {folder}: it reads {bands} mel bands; take a model that reads {MELS}")
        tokens = WrittenTokens(folder / "tokenizer.json", model.config.vocab_size)
        return cls(model, tokens, beam=beam, version=content_digest(folder / "model.safetensors"))

    @torch.inference_mode()
    def decode(
        self, features: Sequence[Tensor], max_tokens: Sequence[int], phrases: Sequence[WrittenPhrases | None] = ()
    ) -> list[DecodedUtterance]:
        """Encode utterances and search for their likeliest texts, all in one batch of the search.

        Args:
            features: (F, mels) each, of `asr.audio.features`; at most 30 s.
            max_tokens: most tokens of each utterance's texts; never more than the decoder reads.
            phrases: those that are boosted in each utterance's search; none: no utterance has any.
        """
        decoder, tokens = self.model.decoder, self.tokens
        audio = [decoder.audio(self.model.encoder(self._padded(f)[None].to(self._device))[0]) for f in features]
        room = [min(most, self._room - 1) for most in max_tokens]
        found = beam_search(decoder, self._project, audio, prompt=tokens.prompt, end=tokens.end, beam=self.beam,
                            max_tokens=room, phrases=phrases, device=self._device)  # fmt: skip
        return [
            DecodedUtterance(own, tuple(WrittenHypothesis(tokens.decode(h.tokens), h.log_p) for h in hypotheses))
            for own, hypotheses in zip(audio, found, strict=True)
        ]

    def written_phrases(self, graph: PhraseGraph | None) -> WrittenPhrases | None:
        """A graph's phrases as this decoder's search boosts them, kept for as long as the graph lives."""
        if not graph:
            return None
        known = self._phrases.get(graph)
        if known is None:
            known = self._phrases[graph] = WrittenPhrases.of(graph.spoken, self._letters)
        return known

    def _padded(self, features: Tensor) -> Tensor:
        """(F, mels) → what the encoder reads: floor and padding as Whisper's."""
        floor = float(features.max()) - _RANGE
        frames = max(100 * self.model.config.window_s, len(features) + _TAIL_FRAMES)
        frames = min(frames + frames % 2, 2 * self.model.config.max_source_positions)
        out = features.new_full((frames, features.shape[1]), floor)
        out[: len(features)] = features[:frames].clamp(min=floor)
        return out

    @torch.inference_mode()
    def scores(self, utterances: Sequence[DecodedUtterance], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Score each utterance's written texts; what texts of an utterance have in common is computed once.

        Returns:
            log P(text, end | audio) of each text, nats; very little for those with more tokens than the decoder reads.
        """
        ids = [[(*self.tokens.encode(text), self.tokens.end) for text in own] for own in texts]
        short = [[text for text in own if len(text) <= self._room] for own in ids]
        trees = [TokenTree.of(self.tokens.prompt, own) for own in short]
        scored = [self._log_p(utterance, tree) for utterance, tree in zip(utterances, trees, strict=True)]
        values = iter(torch.cat(scored).tolist() if scored else [])
        out = []
        for own, tree in zip(ids, trees, strict=True):
            log_p = list(islice(values, len(tree.steps)))
            sums = iter([sum(log_p[step] for step in path) for path in tree.texts])
            out.append([next(sums) if len(text) <= self._room else _TOO_LONG for text in own])
        return out

    def _log_p(self, utterance: DecodedUtterance, tree: TokenTree) -> Tensor:
        """(steps,) log-probability of each step of the tree; few nodes at a time, for each has scores of all tokens."""
        if not tree.steps:
            return torch.zeros(0, device=self._device)
        given = torch.tensor(tree.tokens).to(self._device)
        depths, seen = tree.depths().to(self._device), tree.seen().to(self._device)
        states = self.model.decoder.forward_tree(given, depths, seen, utterance.audio)
        nodes, tokens = torch.tensor(tree.steps, device=self._device).T
        out = states.new_empty(len(nodes))
        for at in range(len(self.tokens.prompt) - 1, len(states), _ROWS):
            logits = self._project(states[at : at + _ROWS])
            here = (nodes >= at) & (nodes < at + _ROWS)
            out[here] = logits[nodes[here] - at, tokens[here]] - logits.logsumexp(-1)[nodes[here] - at]
        return out
