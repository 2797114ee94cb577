"""One stream's life: samples in, partial and final results out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from asr.audio import SAMPLE_RATE, Resampler, Samples, check_samples
from asr.endpoint import EndpointRule
from asr.errors import ModelError, UnspellableError
from asr.features import MELS, FeatureStream
from asr.hypothesis import Encoded, Hypothesis, Result, Word
from asr.model import is_emformer, load_emformer, load_model
from asr.model.interface import AcousticModel
from asr.search import BeamSearch, Reading, force_score
from asr.tokens import Tokenizer

_TAIL_S = 0.4
"""Silence added at the end of a stream, so that the last words come out."""


@dataclass(frozen=True)
class StreamOptions:
    """How one stream is to be recognised."""

    sample_rate_hertz: int = SAMPLE_RATE
    interim_results: bool = False
    nbest: int = 8
    single_utterance: bool = False
    endpointing: bool = True
    """Off: one utterance from the first sample to the last."""
    endpoint: EndpointRule = field(default_factory=EndpointRule)


class Recognizer:
    """A model with its tokens and search; shared by all streams, holds no state of any.

    Args:
        beam: hypotheses kept, which is also the longest n-best list.
        chunk_ms: audio that the encoder sees at once, which is the latency; a multiple of 40.
    """

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        *,
        beam: int = 8,
        chunk_ms: int = 320,
        version: str = "unnamed",
    ) -> None:
        if model.vocab_size != tokenizer.vocab_size:
            raise ModelError(f"model has {model.vocab_size} outputs, its tokens are {tokenizer.vocab_size}")
        self.model, self.tokenizer, self.version = model, tokenizer, version
        self.search = BeamSearch(model, beam)
        self.chunk_frames = model.chunk_frames(chunk_ms)

    @classmethod
    def load(
        cls, folder: Path | str | None = None, *, device: str = "cpu", beam: int = 8, chunk_ms: int = 320
    ) -> Recognizer:
        """The model in `folder`, or the shipped one, or one of torchaudio's RNN-T bundles by its name.

        `Recognizer.load("EMFORMER_RNNT_BASE_LIBRISPEECH", chunk_ms=160)`: an Emformer reads its own segments only.

        Raises:
            ModelError: a file is missing or the files do not belong together.
        """
        opened: tuple[AcousticModel, Tokenizer, str]
        if folder is not None and is_emformer(folder):
            opened = load_emformer(folder, device)
        else:
            opened = load_model(None if folder is None else Path(folder), device)
        model, tokenizer, version = opened
        return cls(model, tokenizer, beam=beam, chunk_ms=chunk_ms, version=version)

    def open(self, options: StreamOptions | None = None) -> Stream:
        return Stream(self, options or StreamOptions())

    def recognize(self, samples: Samples, sample_rate_hertz: int = SAMPLE_RATE, nbest: int = 8) -> Result:
        """A whole utterance, through the same stream as live audio; (n,) float32, -1 to 1."""
        stream = self.open(StreamOptions(sample_rate_hertz, nbest=nbest, endpointing=False))
        return [*stream.accept(samples), *stream.finish()][-1]

    def unspellable(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that the model's tokens cannot spell."""
        return [t for t in texts if not self.tokenizer.can_spell(t)]

    @torch.inference_mode()
    def force_score(self, encoded: Encoded, texts: Sequence[str]) -> list[Hypothesis]:
        """Each text (normalised) with its exact log P(y|x), token times and confidence.

        Raises:
            UnspellableError: a text has a character that no token spells.
        """
        if self.unspellable(texts):
            raise UnspellableError("a text to score has characters outside a-z and the apostrophe: normalise it first")
        readings = force_score(self.model, encoded.frames, [self.tokenizer.encode(t) for t in texts])
        return [self.hypothesis(reading, encoded.start_s) for reading in readings]

    def hypothesis(self, reading: Reading, start_s: float) -> Hypothesis:
        """A search's reading as text with times; `start_s` is where its first frame is in the stream."""
        times = tuple(start_s + f * self.model.frame_s for f in reading.frames)
        certainty = reading.certainty
        return Hypothesis(
            text=self.tokenizer.decode(reading.tokens),
            acoustic=reading.acoustic,
            tokens=reading.tokens,
            token_times=times,
            words=self._words(reading.tokens, times, certainty),
            confidence=float(np.exp(np.mean(certainty))) if certainty else 0.0,
        )

    def _words(
        self, tokens: Sequence[int], times: Sequence[float], certainty: Sequence[float]
    ) -> tuple[Word, ...]:
        groups: list[list[int]] = []
        for i, token in enumerate(tokens):
            if not groups or self.tokenizer.starts_word(token):
                groups.append([])
            groups[-1].append(i)
        words = []
        for group in groups:
            text = self.tokenizer.decode([tokens[i] for i in group])
            if text:
                sure = float(np.exp(np.mean([certainty[i] for i in group])))
                words.append(Word(text, times[group[0]], times[group[-1]] + self.model.frame_s, sure))
        return tuple(words)


class Stream:
    """One stream of audio. Use it from one thread at a time; errors leave other streams alone."""

    def __init__(self, recognizer: Recognizer, options: StreamOptions) -> None:
        if options.nbest < 1:
            raise ValueError("nbest must be at least 1")
        self.options, self.done = options, False
        self._recognizer = recognizer
        self._resampler = Resampler(options.sample_rate_hertz)
        self._features = FeatureStream(recognizer.model.features)
        self._pending = torch.zeros(recognizer.model.lookback, MELS)
        self._encoder = recognizer.model.initial_state(1)
        self._heard = 0  # samples at 16 kHz
        self._frames = 0  # encoded frames of earlier utterances and this one
        self._finals = 0
        self._begin()

    def _begin(self) -> None:
        self._beam = self._recognizer.search.start(1)
        self._encoded: list[torch.Tensor] = []
        self._start = self._frames
        self._shown = ""

    @torch.inference_mode()
    def accept(self, samples: Samples) -> list[Result]:
        """Reads (n,) float32 samples, -1 to 1, at the stream's rate; returns the results that they brought.

        Raises:
            AudioError: not mono float32, or NaN.
        """
        if self.done:
            return []
        return self._read(self._resampler.accept(check_samples(samples)))

    @torch.inference_mode()
    def finish(self) -> list[Result]:
        """Ends the stream and returns what is left of it; a stream without speech gives one empty final."""
        if self.done:
            return []
        results = self._read(self._resampler.flush())
        heard = self._heard
        results += self._read(np.zeros(int(_TAIL_S * SAMPLE_RATE), np.float32))
        if not self.done:
            self._pending = torch.cat([self._pending, self._features.flush()])
            model, chunk = self._recognizer.model, self._recognizer.chunk_frames
            have = len(self._pending) - model.lookback - model.lookahead
            silence = model.features(torch.zeros(240 + 160))
            missing = -have % chunk if have > 0 else 0
            self._pending = torch.cat([self._pending, silence.expand(missing, -1)])
            results += self._run()
        self._heard = heard
        if not self.done:
            final = self._final(None)
            if final.nbest[0].text or not self._finals:
                results.append(final)
        self.done = True
        return [replace(r, end_s=min(r.end_s, heard / SAMPLE_RATE)) for r in results]

    def _read(self, samples: Samples) -> list[Result]:
        self._heard += len(samples)
        self._pending = torch.cat([self._pending, self._features.accept(samples)])
        return self._run()

    def _run(self) -> list[Result]:
        model, chunk = self._recognizer.model, self._recognizer.chunk_frames
        need = model.lookback + chunk + model.lookahead
        results: list[Result] = []
        while len(self._pending) >= need and not self.done:
            encoded, self._encoder = model.encode(self._pending[None, :need], self._encoder)
            self._pending = self._pending[chunk:]
            self._beam = self._recognizer.search.step(encoded, self._beam)
            self._encoded.append(encoded[0])
            self._frames += encoded.shape[1]
            results += self._look()
        return results

    def _look(self) -> list[Result]:
        """The result that the newest chunk makes due, if any."""
        frame_s, rule = self._recognizer.model.frame_s, self.options.endpoint
        readings = self._recognizer.search.nbest(self._beam, 0)
        frames = readings[0].frames
        heard_s = (self._frames - self._start) * frame_s
        last_s = frames[-1] * frame_s if frames else None
        if self.options.endpointing and rule.unspoken(heard_s, last_s):
            self._begin()
        elif self.options.endpointing and rule.ended(heard_s, last_s):
            final = self._final(self._frames * frame_s)
            self._finals += 1
            self.done = self.options.single_utterance
            self._begin()
            return [final]
        elif self.options.interim_results:
            return self._partial(readings)
        return []

    def _partial(self, readings: list[Reading]) -> list[Result]:
        frame_s = self._recognizer.model.frame_s
        best = self._recognizer.hypothesis(readings[0], self._start * frame_s)
        if best.text == self._shown:
            return []
        self._shown = best.text
        texts = [self._recognizer.tokenizer.decode(r.tokens).split() for r in readings]
        agreed = 0
        while agreed < len(texts[0]) and all(t[: agreed + 1] == texts[0][: agreed + 1] for t in texts):
            agreed += 1
        stability = agreed / len(texts[0]) if texts[0] else 0.0
        return [Result((best,), False, stability, self._start * frame_s, self._frames * frame_s)]

    def _final(self, endpoint_s: float | None) -> Result:
        frame_s = self._recognizer.model.frame_s
        start_s = self._start * frame_s
        readings = self._recognizer.search.nbest(self._beam, 0)
        nbest: dict[str, Hypothesis] = {}
        for reading in readings:  # several segmentations may spell one text: the likeliest stands for it
            hypothesis = self._recognizer.hypothesis(reading, start_s)
            nbest.setdefault(hypothesis.text, hypothesis)
        encoded = Encoded(torch.cat(self._encoded), start_s) if self._encoded else None
        return Result(
            tuple(nbest.values())[: self.options.nbest],
            True,
            1.0,
            start_s,
            self._frames * frame_s,
            endpoint_s,
            encoded,
        )
