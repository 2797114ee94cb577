"""One stream's life: samples in; chunks of it, searched in batches with other streams'; results out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from asr.audio import SAMPLE_RATE, Resampler, Samples, check_samples
from asr.audio.features import FRAME_S, MELS, FeatureStream
from asr.decoding import BeamState, BoostedPhrase, NBestEntry, PhraseGraph
from asr.recognition.endpointing import EndpointRule, quietest
from asr.recognition.results import Hypothesis, Pass, Result
from asr.threads import one_thread

if TYPE_CHECKING:
    from asr.recognition.recognizer import Recognizer

_TAIL_S = 0.2
"""Silence added at the end of a stream, so that the last words come out. On dev, more adds none."""

FIRST_BEAM = 8
"""Hypotheses kept while audio comes in, where the final result is of a second pass."""
_SPLIT_S = 5.0
"""An utterance that grew too long is cut between words of the last so many seconds."""
LED_BEAM = 16
"""Hypotheses that the search led by a context's phrases keeps: fewer lose names that the phrases bring."""


@dataclass(frozen=True)
class StreamOptions:
    """How one stream is to be recognised."""

    sample_rate_hertz: int = SAMPLE_RATE
    interim_results: bool = False
    """Also results that may still change; with endpointing on, one of them where the end is likely (`likely_final`)."""
    nbest: int = 8
    single_utterance: bool = False
    endpointing: bool = True
    """Off: one utterance from the first sample to the last."""
    endpoint: EndpointRule = field(default_factory=EndpointRule)
    phrases: tuple[BoostedPhrase, ...] = ()
    """Phrases to expect from the first utterance on; their bonus is part of the score (`Hypothesis.bias`)."""
    graph: PhraseGraph | None = None
    """Such phrases as `Recognizer.compile` made them, in place of `phrases`."""


@dataclass(frozen=True)
class Row:
    """A search: its hypotheses, and the phrases that they are led by."""

    beam: BeamState
    graph: PhraseGraph | None


@dataclass(frozen=True)
class Chunk:
    """What a chunk of a stream became: (T, J) encoded frames, the encoder's new state, the new hypotheses."""

    encoded: Tensor
    encoder: Any
    beam: BeamState


@dataclass(frozen=True)
class Heard:
    """What the final result of an utterance is made from.

    row: the search as it stands, of (T, J) encoded frames, None: there are none. searched: it has read those frames and
    no others; else they are to be searched anew. features: (lookback + F + lookahead, 80) of the utterance, where it is
    to be heard once more, though not in the passes left_out. known: the plain result, where it is settled already.
    context: phrases of a context that are yet to be searched for. start_s, end_s: seconds into the stream, of the
    utterance's audio. loudness: (T,) dB of the frames.
    """

    row: Row
    searched: bool
    frames: Tensor | None
    features: Tensor | None
    known: Result | None
    context: PhraseGraph | None
    start_s: float
    nbest: int
    loudness: Tensor | None = None
    end_s: float = math.inf
    left_out: frozenset[Pass] = frozenset()

    def takes(self, second: Pass) -> bool:
        """Whether it is to be heard once more in such a pass."""
        return self.features is not None and second not in self.left_out


@dataclass(frozen=True)
class Progress:
    """How far a stream is. A value: a step makes a new one, and an error on the way leaves the old one.

    encoder: the model's state. row: the search. features, encoded, loudness: this utterance's so far, chunk by chunk;
    loudness is that of its encoded frames, dB, with endpointing. start, frames: encoded frames before this utterance,
    and with it.
    doubted: the last of this utterance's frames in which a token was likelier than the endpoint's rule takes for none.
    paused: the search when the utterance's end became likely, else None. sounded: seconds into it of the last sound
    before that. due: the result that has to be made before the stream goes on, "likely" or "final", else "".
    cut: of how many of its frames that result is, 0: of all; the next utterance begins with those behind. settled: the
    final result with the phrases that it was searched for, where it is known by now. told: the leading text of the last
    likely final, while the end is likely. shown: that of the last interim result.
    """

    encoder: Any
    row: Row
    features: tuple[Tensor, ...] = ()
    encoded: tuple[Tensor, ...] = ()
    loudness: tuple[Tensor, ...] = ()
    start: int = 0
    frames: int = 0
    doubted: int | None = None
    paused: Row | None = None
    sounded: float = 0.0
    due: str = ""
    cut: int = 0
    settled: tuple[Result, PhraseGraph | None] | None = None
    told: str | None = None
    finals: int = 0
    shown: str = ""
    done: bool = False


class Stream:
    """One stream of audio, of `Recognizer.open`. Use it from one thread at a time.

    `accept` and `finish` do everything at once. A server that recognises many streams takes the audio in (`take`,
    `end`) and has `Recognizer.advance` work on those that are `ready`, as one batch, until none is.
    """

    def __init__(self, recognizer: Recognizer, options: StreamOptions) -> None:
        if options.nbest < 1:
            raise ValueError("nbest must be at least 1")
        self.options = options
        self._recognizer = recognizer
        self._resampler = Resampler(options.sample_rate_hertz)
        model = recognizer.model
        self._features = FeatureStream(model.features, recognizer.chunk_frames, model.lookahead)
        self._pending = torch.zeros(model.lookback, MELS)
        self._heard = 0  # samples at 16 kHz
        self._ended = False
        compiled = options.graph is not None or not options.phrases
        self._phrases = options.graph if compiled else recognizer.compile(options.phrases)
        self._context: PhraseGraph | None = None
        self._left_out: frozenset[Pass] = frozenset()
        self.progress = self._begun(Progress(model.initial_state(1), Row(recognizer.search.start(1), None)), 0)

    @property
    def done(self) -> bool:
        """True when the stream ignores what follows: it has ended, or had the one utterance that was asked for."""
        return self._ended or self.progress.done

    @property
    def ending(self) -> bool:
        """The audio has ended: what is left are the last chunks."""
        return self._ended

    @property
    def ready(self) -> bool:
        """A chunk, or a result that is due, waits for `Recognizer.advance`."""
        return not self.progress.done and (len(self._pending) >= self._recognizer.window_frames or bool(self.due))

    @property
    def due(self) -> str:
        """The result that is to be made next: "likely", "final", after `end` and the last chunk "last"; else ""."""
        if self.progress.due or self.progress.done or not self._ended:
            return self.progress.due
        return "" if len(self._pending) >= self._recognizer.window_frames else "last"

    @property
    def again(self) -> bool:
        """The result that is due takes a second pass."""
        progress = self.progress  # which has features only where there is a second pass
        due = bool(self.due and progress.features) and progress.settled is None
        return due and not self._left_out.issuperset(self._recognizer.second_passes)

    def leave_out(self, passes: Iterable[Pass]) -> bool:
        """The result that is due is made without these of the recogniser's `second_passes`; returns whether it would
        have taken one of them."""
        would = self.again
        more = frozenset(passes).intersection(self._recognizer.second_passes) - self._left_out if would else frozenset()
        self._left_out |= more
        return bool(more)

    @torch.inference_mode()
    def set_phrases(self, phrases: Sequence[BoostedPhrase]) -> None:
        """Replaces the phrases to expect; counts from the next utterance of which no word has been recognised."""
        self._phrases = self._recognizer.compile(phrases) if phrases else None
        progress = self.progress
        if not progress.due and not self._recognizer.search.nbest(progress.row.beam, 0)[0].tokens:
            self.progress = self._begun(progress, 0)

    def set_context(self, graph: PhraseGraph | None) -> None:
        """Also searches with the context's phrases when an utterance has ended, from now on: its readings are in
        `Result.biased`, and nothing else of a result depends on them."""
        self._context = graph

    def drop_context(self) -> bool:
        """Gives that search up; returns whether there was one."""
        had, self._context = self._context is not None, None
        return had

    def _begun(self, progress: Progress, at: int) -> Progress:
        """A new utterance, which begins with what follows the first `at` frames of this one."""
        search, graph = self._recognizer.search, self._phrases
        beam = min(FIRST_BEAM, search.beam) if self._recognizer.second_pass else search.beam
        row = Row(search.start(1, beam), graph if graph and graph.accepted else None)
        begun = Progress(progress.encoder, row, start=progress.start + at, frames=progress.frames,
                         finals=progress.finals, done=progress.done)  # fmt: skip
        if begun.start == begun.frames:
            return begun
        encoded = torch.cat(progress.encoded)[at:].clone()
        begun = replace(
            begun,
            row=self._recognizer.searched(row, encoded),
            features=(torch.cat(progress.features)[at * self._ratio :].clone(),) if progress.features else (),
            encoded=(encoded,),
            loudness=(torch.cat(progress.loudness)[at:].clone(),),
        )
        return self._judged(begun) if self.options.endpointing else begun

    @property
    def _ratio(self) -> int:
        """Feature frames for each encoded frame."""
        return round(self._recognizer.model.frame_s / FRAME_S)

    # Audio in

    @one_thread()
    @torch.inference_mode()
    def take(self, samples: Samples) -> None:
        """Reads (n,) float32 samples, -1 to 1, at the stream's rate, up to where a chunk is ready.

        Raises:
            AudioError: not mono float32, or NaN; nothing of them is read.
        """
        if not self.done:
            self._read(self._resampler.accept(check_samples(samples)))

    @one_thread()
    @torch.inference_mode()
    def end(self) -> None:
        """The audio ends here: fills the last chunk up with silence."""
        if self.done:
            return
        self._read(self._resampler.flush())
        tail = self._features.accept(np.zeros(int(_TAIL_S * SAMPLE_RATE), np.float32))
        self._pending = torch.cat([self._pending, tail, self._features.flush()])
        self._ended = True

    def accept(self, samples: Samples) -> list[Result]:
        """Reads samples as `take`, and returns the results that they brought. Raises AudioError."""
        self.take(samples)
        return self._run()

    def finish(self) -> list[Result]:
        """Ends the stream and returns what is left of it; a stream without speech gives one empty final."""
        if self.done:
            return []
        self.end()
        return self._run()

    def _read(self, samples: Samples) -> None:
        self._heard += len(samples)
        new = self._features.accept(samples)
        if len(new):
            self._pending = torch.cat([self._pending, new])

    def _run(self) -> list[Result]:
        results: list[Result] = []
        while self.ready:
            results += self._recognizer.advance([self])[0]
        return results

    # Results out

    @property
    def window(self) -> Tensor:
        """(lookback + chunk + lookahead, 80) features of the chunk that is ready."""
        return self._pending[: self._recognizer.window_frames]

    def after(self, chunk: Chunk) -> tuple[Progress, list[Result]]:
        """What the stream is after a chunk, and the interim result that it brings, if any; changes nothing yet."""
        old = self.progress
        progress = replace(
            old,
            encoder=chunk.encoder,
            row=Row(chunk.beam, old.row.graph),
            features=(*old.features, self._new_features()) if self._recognizer.second_pass else (),
            encoded=(*old.encoded, chunk.encoded),
            loudness=(*old.loudness, self._loudness(len(chunk.encoded))),
            frames=old.frames + len(chunk.encoded),
        )
        options = self.options
        readings = self._recognizer.search.nbest(progress.row.beam, 0)
        if options.endpointing:
            progress = self._judged(progress)
            heard_s, *sounds_s = self._sounds(progress, readings[0])
            if options.endpoint.unspoken(heard_s, sounds_s[0]):
                kept = math.ceil(options.endpoint.kept_s(heard_s) / self._recognizer.model.frame_s)
                whole = math.ceil(kept / len(chunk.encoded)) * len(chunk.encoded)
                return self._begun(progress, max(0, _length(progress) - whole)), []
            sounded = max(s or 0.0 for s in sounds_s)
            if not options.endpoint.likely(heard_s, *sounds_s):
                progress = replace(progress, paused=None, settled=None, told=None)
            elif not progress.paused or sounded > progress.sounded:
                progress = replace(progress, paused=progress.row, sounded=sounded, settled=None)
            if options.endpoint.ended(heard_s, *sounds_s):
                return replace(progress, due="final", cut=self._cut(progress, readings[0])), []
        return self._interim(progress, readings) if options.interim_results else (progress, [])

    def _new_features(self) -> Tensor:
        """Of the chunk that is ready, what the utterance's features do not hold yet."""
        model = self._recognizer.model
        return self.window[model.lookback + model.lookahead :] if self.progress.features else self.window

    def _loudness(self, frames: int) -> Tensor:
        """(T,) dB of the so many encoded frames of the chunk that is ready."""
        model = self._recognizer.model
        own = self.window[model.lookback :][: self._recognizer.chunk_frames]
        return model.loudness(own).unflatten(0, (frames, -1)).amax(-1)

    def _judged(self, progress: Progress) -> Progress:
        """`Progress.doubted` with its newest piece: by what may follow the hypothesis that leads after it."""
        recognizer, rule, encoded = self._recognizer, self.options.endpoint, progress.encoded[-1]
        chances = recognizer.token_chances(encoded, progress.row.beam).cpu()
        loudest = max(float(piece.max()) for piece in progress.loudness)
        doubtful = ((chances > rule.doubt) & (progress.loudness[-1] > loudest - rule.quiet_db)).nonzero()
        first = _length(progress) - len(encoded)
        return replace(progress, doubted=first + int(doubtful[-1])) if len(doubtful) else progress

    def _cut(self, progress: Progress, best: NBestEntry) -> int:
        """Where an utterance that has ended is cut from the next, in its frames: nothing is of both or of none.

        It is where its end became likely, if a chunk has passed since; else the quietest place of the last chunk or,
        where its end was not sure, behind its last token; where speech goes on, between words.
        """
        length, margin = _length(progress), len(progress.encoded[-1])
        if progress.paused and _searched(progress.paused) < length:
            return _searched(progress.paused)
        places = list(range(length - margin if progress.paused else best.frames[-1] + margin, length - 1))
        if not places:
            first = max(length // 2, length - round(_SPLIT_S / self._recognizer.model.frame_s))
            steps = zip(best.frames, best.frames[1:], best.tokens[1:], strict=False)
            gaps = [range(max(a + 1, first), b) for a, b, t in steps if self._recognizer.tokenizer.starts_word(t)]
            places = [place for gap in gaps for place in gap] or list(range(first, length - 1))
        return quietest(torch.cat(progress.loudness).tolist(), places) if places else length

    def _sounds(self, progress: Progress, best: NBestEntry) -> tuple[float, float | None, float | None]:
        """Seconds since the utterance's start: now, its last token, its last frame in doubt."""
        frame_s = self._recognizer.model.frame_s
        last_s = best.frames[-1] * frame_s if best.frames else None
        doubted_s = None if progress.doubted is None else progress.doubted * frame_s
        return _length(progress) * frame_s, last_s, doubted_s

    @property
    def heard(self) -> Heard:
        """What the result that is due is made from."""
        progress, model = self.progress, self._recognizer.model
        known, searched = progress.settled or (None, None)
        if known is not None and searched is not self._context:
            known = replace(known, biased=(), passes=tuple(p for p in known.passes if p is not Pass.CONTEXT_PHRASES))
        row = progress.paused or progress.row
        frames = progress.cut or _searched(row)
        features = model.lookback + frames * self._ratio + model.lookahead
        return Heard(
            row=row,
            searched=frames == _searched(row),
            frames=torch.cat(progress.encoded)[:frames] if progress.encoded else None,
            features=torch.cat(progress.features)[:features] if self.again else None,
            left_out=self._left_out,
            known=known,
            context=None if known is not None and searched is self._context else self._context,
            start_s=progress.start * model.frame_s,
            nbest=self.options.nbest,
            loudness=torch.cat(progress.loudness)[:frames] if progress.loudness else None,
            end_s=min((progress.start + frames) * model.frame_s, self._heard / SAMPLE_RATE),
        )

    def concluded(self, result: Result) -> tuple[Progress, list[Result]]:
        """What the stream is after the result that was due, as it goes out, if it does; changes nothing yet."""
        progress, due = self.progress, self.due
        skipped = result.skipped or tuple(one for one in self._recognizer.second_passes if one in self._left_out)
        result = replace(result, end_s=self._end_s(progress), skipped=skipped)
        text = result.nbest[0].text
        if due == "likely":
            settled = (result, self._context) if self.again else None
            likely = [] if text in ("", progress.told) else [replace(result, is_final=False, likely_final=True)]
            return replace(progress, due="", told=text, settled=settled), likely
        if due == "final" and not text:  # what the first pass took for words was none: what was shown is taken back
            back = [replace(result, is_final=False, stability=0.0, passes=(), skipped=())] if progress.shown else []
            return self._begun(progress, progress.cut), back
        if due == "final":
            frame_s = self._recognizer.model.frame_s
            end_s, now_s = (progress.start + progress.cut) * frame_s, progress.frames * frame_s
            counted = replace(progress, finals=progress.finals + 1, done=self.options.single_utterance)
            begun = self._begun(counted, _length(counted) if counted.done else progress.cut)
            return begun, [replace(result, end_s=min(end_s, result.end_s), endpoint_s=now_s)]
        return replace(progress, done=True), [result] if text or not progress.finals else []

    def commit(self, progress: Progress) -> None:
        """The ready chunk, or the result that was due, is done with."""
        if not self.due:
            self._pending = self._pending[self._recognizer.chunk_frames :]
        self.progress, self._left_out = progress, frozenset()

    def _interim(self, progress: Progress, readings: Sequence[NBestEntry]) -> tuple[Progress, list[Result]]:
        """The interim result that is due, if any."""
        best, decode = readings[0], self._recognizer.tokenizer.decode
        text, known = decode(best.tokens), progress.told
        if progress.settled is not None or (text == progress.shown and (known is not None or not progress.paused)):
            return progress, []
        progress = replace(progress, shown=text)
        if progress.paused:
            return replace(progress, due="likely"), []
        frame_s = self._recognizer.model.frame_s
        start_s = progress.start * frame_s
        times = tuple(start_s + f * frame_s for f in best.frames)
        shown = Hypothesis(text, best.acoustic, best.language, best.bias, tokens=best.tokens, token_times=times)
        stability = _share(readings, [f"{decode(r.tokens)} ".startswith(f"{text} ") for r in readings]) if text else 0.0
        return progress, [Result((shown,), False, stability, start_s, self._end_s(progress))]

    def _end_s(self, progress: Progress) -> float:
        return min(progress.frames * self._recognizer.model.frame_s, self._heard / SAMPLE_RATE)


def _length(progress: Progress) -> int:
    """The utterance's encoded frames so far."""
    return progress.frames - progress.start


def _searched(row: Row) -> int:
    """The frames that a search has read."""
    return int(row.beam.time[0])


def _share(readings: Sequence[NBestEntry], chosen: Sequence[bool]) -> float:
    """The chosen ones' part of the readings' probability."""
    chances = np.exp([r.score - readings[0].score for r in readings])
    return float(chances[np.array(chosen)].sum() / chances.sum())
