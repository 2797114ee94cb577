"""A recogniser: a model with its tokens and search, and the batches of streams that it works on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.acoustic import is_emformer, load_emformer, load_model
from asr.acoustic.checkpoint import SHIPPED
from asr.acoustic.interface import AcousticModel
from asr.audio import SAMPLE_RATE, Samples
from asr.audio.features import FRAME_S, MELS
from asr.decoding import (
    BEAM,
    BeamSearch,
    BeamState,
    BoostedPhrase,
    NBestEntry,
    PhraseCompiler,
    PhraseGraph,
    force_score,
    stack_states,
    unstack_states,
)
from asr.decoding.ngram import NGram
from asr.errors import ModelError, UnspellableError
from asr.fitted import FittedWeights, ModelVersions, weights_for
from asr.pairing import load_torchaudio
from asr.recognition.batching import batch_shape, encode_batch
from asr.recognition.calibration import Calibration, Evidence, load_calibration, log_odds
from asr.recognition.results import Encoded, Hypothesis, Pass, Result, Word
from asr.recognition.streams import LED_BEAM, Chunk, Heard, Progress, Row, Stream, StreamOptions
from asr.recognition.word_times import sound_of, word_spans
from asr.second_pass.second_pass import SHIPPED as SHIPPED_SECOND_PASS
from asr.second_pass.second_pass import Attended, SecondPass
from asr.second_pass.written import written_forms
from asr.text import spoken_forms
from asr.text.tokenizer import Tokenizer
from asr.threads import one_thread

__all__ = ["Recognizer", "Stream", "StreamOptions"]

_SPOKEN_FORMS = 6
"""Ways to say a text that the attention decoder wrote, the usual ones first: "545" is five hundred and forty five, or
five forty five; which, the transducer heard."""
_POSTERIOR_TEMPERATURE = 3.0
"""By which scores that the attention decoder has a part in are divided to be log-probabilities."""
_LEAST_SHARE = 1e-30
_RANKED = 8
"""Hypotheses of the search that the attention decoder scores at least, however few are asked for."""
_LONGEST_ATTENDED_S = 30.0
"""Whisper's window: longer utterances go without it."""


class Recognizer:
    """A model with its tokens and search; shared by all streams, holds no state of any. Making one warms it up: nothing
    is left to be made by the first stream.

    Args:
        beam: hypotheses kept, which is also the longest n-best list.
        chunk_ms: audio that the encoder sees at once, which is the latency; a multiple of 40.
        language: an n-gram model over the same tokens.
        weights: of the scores, fitted to these models; language_weight, token_bonus, ctc_weight, attention_weight:
            one of them in its place, where given. The CTC head's log P(y|x) is added where final readings are ranked
            and texts are scored (hybrid CTC, Watanabe et al. 2017, on the n-best list).
        calibration: of the words' confidences, fitted to this model with this language model; attention_calibration: of
            those of results that the attention decoder has heard too.
        attention: hears utterances that have ended, beside the second pass: its own texts join the n-best, and its
            score of every text is added (two passes: Sainath et al. 2019, arXiv:1908.10992).
        second_pass: final results are of the utterance encoded and searched once more, as a whole, so that each frame
            has heard what comes behind it (Zhang et al. 2020, arXiv:2012.05481), with a model that can do that.
    """

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        *,
        beam: int = BEAM,
        chunk_ms: int = 320,
        version: str = "unnamed",
        language: NGram | None = None,
        language_weight: float | None = None,
        token_bonus: float | None = None,
        weights: FittedWeights | None = None,
        calibration: Calibration | None = None,
        ctc_weight: float | None = None,
        second_pass: bool = True,
        attention: SecondPass | None = None,
        attention_weight: float | None = None,
        attention_calibration: Calibration | None = None,
    ) -> None:
        if model.vocab_size != tokenizer.vocab_size:
            raise ModelError(f"model has {model.vocab_size} outputs, its tokens are {tokenizer.vocab_size}")
        if language is not None and not language.fits(tokenizer):
            raise ModelError("the language model was made for other tokens; train one for the acoustic model's")
        self.model, self.tokenizer, self.version, self.language = model, tokenizer, version, language
        self.calibration, self.attention_calibration = calibration, attention_calibration
        self.second_pass = second_pass and model.max_chunk_frames > 0
        self.attention = attention if self.second_pass else None
        weights = weights or FittedWeights()
        self.weights = replace(
            weights,
            language=_given(language_weight, weights.language if language else 0.0),
            token_bonus=_given(token_bonus, weights.token_bonus if language else 0.0),
            ctc=_given(ctc_weight, weights.ctc),
            attention=_given(attention_weight, weights.attention),
        )
        self.search = BeamSearch(
            model, beam, language=language, language_weight=self.weights.language, token_bonus=self.weights.token_bonus,
        )  # fmt: skip
        self._compiler = PhraseCompiler(tokenizer)
        self.chunk_frames = model.chunk_frames(chunk_ms)
        self.window_frames = model.lookback + self.chunk_frames + model.lookahead
        self._warm()

    @property
    def models(self) -> ModelVersions:
        """Versions of the models that have a part in its scores."""
        return _versions(self.version, self.language, self.attention)

    @property
    def second_passes(self) -> tuple[Pass, ...]:
        """The passes of a final result beside the streaming one."""
        if not self.second_pass:
            return ()
        return (Pass.WHOLE_UTTERANCE, Pass.ATTENTION) if self.attention else (Pass.WHOLE_UTTERANCE,)

    @classmethod
    @one_thread()
    def load(
        cls,
        folder: Path | str | None = None,
        *,
        device: str = "cpu",
        beam: int = BEAM,
        chunk_ms: int = 320,
        language: NGram | None = None,
        language_weight: float | None = None,
        token_bonus: float | None = None,
        ctc_weight: float | None = None,
        second_pass: bool | Path = True,
        fitted: Path | None = None,
    ) -> Recognizer:
        """The model in `folder`, or the shipped one, or one of torchaudio's RNN-T bundles by its name.

        `Recognizer.load("EMFORMER_RNNT_BASE_LIBRISPEECH", chunk_ms=160)`: an Emformer reads its own segments only.
        Without a `language` the shipped n-gram is taken where it was made for the model's tokens; a `language_weight`
        of 0 goes without. second_pass: a folder with another attention decoder than the shipped one: a Whisper model in
        the Hugging Face form; False: neither it nor the whole utterance's encoding. fitted: the file with the weights
        of their scores; None: the fitted.json beside the attention decoder or the acoustic model that belongs to them.

        Raises:
            ModelError: a file is missing or the files do not belong together, `fitted` is of other models, there is no
                such device, or torch and torchaudio are no pair.
        Warns:
            UnfittedWarning: no weights were fitted to these models together, and defaults stand in.
        """
        load_torchaudio()
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            why = str(error).split(". ")[0]
            raise ModelError(f"device {device!r} cannot be used ({why}): use cpu, or cuda where a GPU is") from error
        opened: tuple[AcousticModel, Tokenizer, str]
        if folder is not None and is_emformer(folder):
            opened = load_emformer(folder, device)
        else:
            opened = load_model(None if folder is None else Path(folder), device)
        model, tokenizer, version = opened
        if language is None and language_weight != 0:
            language = NGram.load_shipped(tokenizer)
        beside = SHIPPED if folder is None else Path(folder)
        attention, attention_calibration, folders = None, None, [beside]
        if second_pass is not False and model.max_chunk_frames:
            ear = SHIPPED_SECOND_PASS if second_pass is True else second_pass
            attention = SecondPass.load(ear, device=device)
            folders.insert(0, ear)
            if language:
                attention_calibration = load_calibration(ear, version, language.version, attention.version)
        weights = weights_for(_versions(version, language, attention), folders, fitted)
        return cls(
            model, tokenizer, beam=beam, chunk_ms=chunk_ms, version=version, weights=weights,
            language=language, language_weight=language_weight, token_bonus=token_bonus,
            calibration=load_calibration(beside, version, language.version) if language else None,
            ctc_weight=ctc_weight, second_pass=second_pass is not False,
            attention=attention, attention_calibration=attention_calibration,
        )  # fmt: skip

    def _warm(self) -> None:
        """Has all made that is made at its first use (weights as inference wants them, tables), so that the first
        stream does not wait for it."""
        noise = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE // 2)
        stream = self.open()
        stream.accept(noise.astype(np.float32))
        stream.finish()
        if self.attention is not None:
            self.attention.hear([torch.zeros(50, MELS)], [2])

    @one_thread()
    def open(self, options: StreamOptions | None = None) -> Stream:
        return Stream(self, options or StreamOptions())

    def recognize(
        self,
        samples: Samples,
        sample_rate_hertz: int = SAMPLE_RATE,
        nbest: int = 8,
        phrases: Sequence[BoostedPhrase] = (),
    ) -> Result:
        """A whole utterance, through the same stream as live audio; (n,) float32, -1 to 1.

        Raises:
            AudioError: the samples or the rate cannot be used.
        """
        options = StreamOptions(sample_rate_hertz, nbest=nbest, endpointing=False, phrases=tuple(phrases))
        stream = self.open(options)
        return [*stream.accept(samples), *stream.finish()][-1]

    @one_thread()
    def compile(self, phrases: Iterable[BoostedPhrase], *, of_context: bool = False) -> PhraseGraph:
        """Phrases as the searches follow them; what cannot be used is in the graph's `dropped`, with the reason.

        Nothing of them is kept beyond the graph's life: several streams with the same phrases may share it
        (`StreamOptions.graph`). of_context: phrases of a context, which do not lead the attention decoder's search.
        """
        graph = self._compiler.compile(tuple(phrases))
        if self.attention is not None and not of_context:
            self.attention.written_phrases(graph)
        return graph

    @one_thread()
    @torch.inference_mode()
    def advance(self, streams: Sequence[Stream]) -> list[list[Result]]:
        """One step of each stream, a chunk or the result that is due; returns the results that each step brought.

        Chunks are one batch and results another, and streams with phrases batches of their own: phrases of one do not
        slow the others down. What one stream says does not depend on the others; its scores may, in their last bits,
        depend on how many they are.

        Args:
            streams: different ones, all `ready`; none of them in use elsewhere.

        Raises:
            Any error of any of the streams; then none of them has changed.
        """
        if not all(stream.ready for stream in streams):
            raise ValueError("a stream has no whole chunk and no result due: advance those that are ready")
        due, chunks = [s for s in streams if s.due], [s for s in streams if not s.due]
        after = dict(zip((*due, *chunks), (*self._conclude(due), *self._hear(chunks)), strict=True))
        for stream, (progress, _) in after.items():
            stream.commit(progress)
        return [after[stream][1] for stream in streams]

    def _hear(self, streams: Sequence[Stream]) -> list[tuple[Progress, list[Result]]]:
        """What each stream is after the chunk that is ready."""
        if not streams:
            return []
        encoded = encode_batch(self.model, [s.window for s in streams], [s.progress.encoder for s in streams])
        beams = self._search([frames for frames, _ in encoded], [s.progress.row for s in streams])
        chunks = [Chunk(*step, beam) for step, beam in zip(encoded, beams, strict=True)]
        return [stream.after(chunk) for stream, chunk in zip(streams, chunks, strict=True)]

    def _conclude(self, streams: Sequence[Stream]) -> list[tuple[Progress, list[Result]]]:
        """What each stream is after the result that is due."""
        heard = [stream.heard for stream in streams]
        new = iter(self._results([h for h in heard if h.known is None]))
        plain = [h.known or next(new) for h in heard]
        results = self._with_contexts(plain, [h.context for h in heard], [h.nbest for h in heard])
        return [stream.concluded(result) for stream, result in zip(streams, results, strict=True)]

    def _results(self, heard: Sequence[Heard]) -> list[Result]:
        """Final results without the readings of a context."""
        anew, rows = {}, []
        for i, h in enumerate(heard):
            if h.features is not None and h.takes(Pass.WHOLE_UTTERANCE):
                anew[i] = self.encode_whole(h.features)
                rows.append(Row(self.search.start(1), h.row.graph))
            elif h.frames is not None and not h.searched:
                anew[i] = h.frames
                rows.append(Row(self.search.start(1, _width(h.row)), h.row.graph))
        found = dict(zip(anew, self._search(list(anew.values()), rows), strict=True))
        results = []
        for i, h in enumerate(heard):
            frames, beam = anew.get(i, h.frames), found.get(i, h.row.beam)
            sound = () if h.loudness is None else sound_of(h.loudness)
            encoded = None if frames is None else Encoded(frames, h.start_s, sound=sound, end_s=h.end_s)
            nbest = self.hypotheses(beam, encoded, max(h.nbest, _RANKED))
            if encoded and h.row.graph:
                nbest = self._unless_silent(nbest, encoded)
            passes = (Pass.STREAMING, Pass.WHOLE_UTTERANCE) if h.takes(Pass.WHOLE_UTTERANCE) else (Pass.STREAMING,)
            results.append(Result(nbest, True, 1.0, h.start_s, h.start_s, encoded=encoded, passes=passes))
        results = self._attended(results, heard)
        return [replace(r, nbest=r.nbest[: h.nbest]) for r, h in zip(results, heard, strict=True)]

    def _unless_silent(self, nbest: tuple[Hypothesis, ...], encoded: Encoded) -> tuple[Hypothesis, ...]:
        """The n-best of a search that phrases led, or silence, if that is what is heard without them: phrases say which
        words were said, not whether any were."""
        (silence,) = self._forced([""], encoded, None)
        if silence.score < max(h.score - h.bias for h in nbest):
            return nbest
        (row,) = self._search([encoded.frames], [Row(self.search.start(1), None)])
        return nbest if self.hypotheses(row, encoded, 1)[0].text else (silence,)

    def _attended(self, results: Sequence[Result], heard: Sequence[Heard]) -> list[Result]:
        """The results with what the attention decoder makes of those utterances that are heard once more."""
        out, most = list(results), round(_LONGEST_ATTENDED_S / FRAME_S)
        ears = [
            (i, h.features[self.model.lookback : len(h.features) - self.model.lookahead], r.encoded)
            for i, (r, h) in enumerate(zip(results, heard, strict=True))
            if h.features is not None
            and h.takes(Pass.ATTENTION)
            and len(h.features) - self.model.lookback - self.model.lookahead <= most
            and r.encoded is not None
            and r.nbest[0].text
        ]
        if self.attention is None or not ears:
            return out
        longest = [_most_tokens(results[i].nbest[0].text) for i, *_ in ears]
        phrases = [self.attention.written_phrases(heard[i].row.graph) for i, *_ in ears]
        attended = self.attention.hear([features for _, features, _ in ears], longest, phrases)
        lists, encodings = [], []
        for (i, _, encoded), ear in zip(ears, attended, strict=True):
            known = {h.text for h in results[i].nbest}
            texts = [t for t in _said(ear) if t not in known and not self.unspellable([t])]
            lists.append([*results[i].nbest, *self._forced(texts, encoded, heard[i].row.graph)])
            best = max(h.acoustic + h.language for h in lists[-1])
            encodings.append(replace(encoded, attention=ear, least=best - self.weights.limit))
        for (i, *_), nbest, encoded in zip(ears, self._with_attention(lists, encodings), encodings, strict=True):
            ranked = self._calibrated(sorted(nbest, key=lambda h: -h.score))
            passes = (*results[i].passes, Pass.ATTENTION)
            out[i] = replace(results[i], nbest=ranked, encoded=encoded, passes=passes)
        return out

    def _calibrated(self, nbest: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
        """An n-best list that the attention decoder has scored, with its words' confidences."""
        scores = np.array([h.score for h in nbest]) / _POSTERIOR_TEMPERATURE
        share: dict[str, float] = {}
        for hypothesis, chance in zip(nbest, np.exp(scores - np.logaddexp.reduce(scores)).tolist(), strict=True):
            for word in {w.text for w in hypothesis.words}:
                share[word] = share.get(word, 0.0) + chance

        def calibrated(word: Word) -> Word:
            if word.evidence is None:
                return word
            evidence = replace(word.evidence, posterior=log_odds(math.log(max(share[word.text], _LEAST_SHARE))))
            calibration = self.attention_calibration
            sure = calibration.confidence(evidence) if calibration else word.confidence
            return replace(word, evidence=evidence, confidence=sure)

        return tuple(_with_words(h, tuple(map(calibrated, h.words))) for h in nbest)

    def _with_attention(
        self, lists: Sequence[Sequence[Hypothesis]], encoded: Sequence[Encoded]
    ) -> list[list[Hypothesis]]:
        """Lists of utterances with the attention decoder's scores, where it has heard them: of a text that it wrote
        itself in its own writing, of others in the likeliest of their written forms."""
        ears = [(i, e.attention) for i, e in enumerate(encoded) if self.attention and e.attention]
        out = [list(hypotheses) for hypotheses in lists]
        if self.attention is None or not ears:
            return out
        weight, bonus = self.weights.attention, self.weights.word_bonus
        own = [_said(ear) for _, ear in ears]
        forms = [
            [() if h.text in said else written_forms(h.text) for h in lists[i]]
            for (i, _), said in zip(ears, own, strict=True)
        ]
        scores = self.attention.scores([ear for _, ear in ears], [[f for row in rows for f in row] for rows in forms])
        for (i, _), said, rows, scored in zip(ears, own, forms, scores, strict=True):
            left, least = iter(scored), encoded[i].least
            best = [
                max(zip(islice(left, len(row)), row, strict=True)) if row else said[h.text]
                for h, row in zip(lists[i], rows, strict=True)
            ]
            out[i] = [
                replace(
                    h,
                    attention=weight * log_p + bonus * len(h.text.split()) + max(0.0, least - h.acoustic - h.language),
                    written=written,
                )
                for h, (log_p, written) in zip(lists[i], best, strict=True)
            ]
        return out

    def searched(self, row: Row, encoded: Tensor) -> Row:
        """A search after (T, J) encoded frames more."""
        return replace(row, beam=self._search([encoded], [row])[0])

    def _search(self, encoded: Sequence[Tensor], rows: Sequence[Row]) -> list[BeamState]:
        """The next hypotheses of each row, those with phrases in a batch and those without. encoded: (T, J) each."""
        beams: dict[int, BeamState] = {}
        kinds = [(row.graph is not None, _width(row)) for row in rows]
        for kind in dict.fromkeys(kinds):
            group = [i for i in range(len(rows)) if kinds[i] == kind]
            found = self._search_batch([encoded[i] for i in group], [rows[i] for i in group])
            beams |= zip(group, found, strict=True)
        return [beams[i] for i in range(len(rows))]

    def _search_batch(self, encoded: Sequence[Tensor], rows: Sequence[Row]) -> list[BeamState]:
        missing = batch_shape(len(rows)) - len(rows)
        beams, graphs = [row.beam for row in rows], [row.graph for row in rows]
        beams += [self.search.start(1, _width(rows[0])) for _ in range(missing)]
        led = [*graphs, *[None] * missing] if any(graphs) else []
        batch = pad_sequence([*encoded, *[encoded[0][:0]] * missing], batch_first=True)
        lengths = [*map(len, encoded), *[0] * missing]
        return unstack_states(self.search.step(batch, stack_states(beams), led, lengths))[: len(rows)]

    def token_chances(self, encoded: Tensor, beam: BeamState) -> Tensor:
        """(T,) probability that a token follows a stream's leading hypothesis in each of (T, J) frames, not the blank.

        Says something about the frames after the hypothesis's last token.
        """
        leading = self.search.leading_outputs([beam])[0]
        return 1 - self.model.join(encoded, leading).softmax(-1)[:, self.model.blank]

    @one_thread()
    @torch.inference_mode()
    def encode_whole(self, heard: Tensor) -> Tensor:
        """An utterance's (lookback + F + lookahead, 80) features → (T, J) encoded frames, as one chunk where the model
        can take that many, else as few chunks of equal length."""
        model = self.model
        frames, state = len(heard) - model.lookback - model.lookahead, model.initial_state(1)
        size = 4 * math.ceil(frames / 4 / math.ceil(frames / model.max_chunk_frames))
        pieces = []
        for at in range(0, frames, size):
            piece, state = model.encode(heard[None, at : at + size + model.lookback + model.lookahead], state)
            pieces.append(piece[0])
        return torch.cat(pieces)

    @one_thread()
    @torch.inference_mode()
    def with_context(self, result: Result, graph: PhraseGraph | None, nbest: int = 8) -> Result:
        """A final result as a stream with `set_context(graph)` would have given it: `biased` is added."""
        return self._with_contexts([result], [graph], [nbest])[0]

    def _with_contexts(
        self, results: Sequence[Result], graphs: Sequence[PhraseGraph | None], nbest: Sequence[int]
    ) -> list[Result]:
        out = list(results)
        led = [
            (i, result.encoded, graph)
            for i, (result, graph) in enumerate(zip(results, graphs, strict=True))
            if result.encoded is not None and graph and graph.accepted
        ]
        rows = [Row(self.search.start(1, LED_BEAM), graph) for *_, graph in led]
        beams = self._search([encoded.frames for _, encoded, _ in led], rows)
        for (i, encoded, _), beam in zip(led, beams, strict=True):
            known = {hypothesis.text for hypothesis in out[i].nbest}
            found = self.hypotheses(beam, encoded, nbest[i])
            biased = tuple(h for h in found if h.text not in known)
            out[i] = replace(out[i], biased=biased, passes=(*out[i].passes, Pass.CONTEXT_PHRASES))
        return out

    def unspellable(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that the model's tokens cannot spell."""
        return [t for t in texts if not self.tokenizer.can_spell(t)]

    @one_thread()
    @torch.inference_mode()
    def force_score(self, encoded: Encoded, texts: Sequence[str], graph: PhraseGraph | None = None) -> list[Hypothesis]:
        """Each text (normalised) with its exact log P(y|x), its language score, token times and confidence.

        The scores compare with those of the search's readings. graph: phrases whose bonus goes into `bias`; None: 0.

        Raises:
            UnspellableError: a text has a character that no token spells.
        """
        if self.unspellable(texts):
            raise UnspellableError("a text to score has characters outside a-z and the apostrophe: normalise it first")
        return self._with_attention([self._forced(texts, encoded, graph)], [encoded])[0]

    def _forced(self, texts: Sequence[str], encoded: Encoded, graph: PhraseGraph | None) -> list[Hypothesis]:
        """Each text with the transducer's, the CTC head's and the language model's scores."""
        tokens = [self.tokenizer.encode(text) for text in texts]
        readings = force_score(self.model, encoded.frames, tokens, self.search.blank_threshold)
        readings = self.with_ctc(readings, encoded.frames)
        scores = self._token_scores(readings)
        readings = [
            replace(r, language=self._fused(r, score), bias=graph.bonus(r.tokens) if graph else 0.0)
            for r, score in zip(readings, scores, strict=True)
        ]
        return [self._hypothesis(r, score, encoded) for r, score in zip(readings, scores, strict=True)]

    def _token_scores(self, readings: Sequence[NBestEntry]) -> list[list[float]]:
        """log P of each token of each reading, and of the text's end; empty lists without a language model."""
        if self.language is None:
            return [[] for _ in readings]
        return self.language.token_scores([reading.tokens for reading in readings])

    def _fused(self, reading: NBestEntry, scores: Sequence[float]) -> float:
        """What the search adds for a text's tokens, nats."""
        return self.weights.language * sum(scores) + self.weights.token_bonus * len(reading.tokens)

    def with_ctc(self, readings: Sequence[NBestEntry], frames: Tensor) -> list[NBestEntry]:
        """Readings of (T, J) encoded frames with the CTC head's share in `acoustic`.

        The joiner takes the second of two equal words for an echo of the first; the CTC head, which does not know what
        it put out, hears both.
        """
        ctc = self.weights.ctc * self.model.ctc_scores(frames, [r.tokens for r in readings])
        return [replace(r, acoustic=r.acoustic + c) for r, c in zip(readings, ctc.tolist(), strict=True)]

    def hypotheses(self, beam: BeamState, encoded: Encoded | None, nbest: int) -> tuple[Hypothesis, ...]:
        """What a search read in an encoded utterance, None: it had no frames; best first, of several segmentations of a
        text the likeliest."""
        readings = self.search.nbest(beam, 0)
        if encoded is not None:
            readings = sorted(self.with_ctc(readings, encoded.frames), key=lambda r: -r.score)
        texts: dict[str, NBestEntry] = {}
        for reading in readings:
            texts.setdefault(self.tokenizer.decode(reading.tokens), reading)
        readings = list(texts.values())[:nbest]
        scores = self._token_scores(readings)
        return tuple(self._hypothesis(r, score, encoded) for r, score in zip(readings, scores, strict=True))

    def _hypothesis(self, reading: NBestEntry, scores: Sequence[float], encoded: Encoded | None) -> Hypothesis:
        """scores: of `_token_scores`."""
        start_s = encoded.start_s if encoded else 0.0
        times = tuple(start_s + f * self.model.frame_s for f in reading.frames)
        words = tuple(self._words(reading, scores, encoded)) if encoded else ()
        hypothesis = Hypothesis(
            text=self.tokenizer.decode(reading.tokens),
            acoustic=reading.acoustic,
            language=reading.language,
            bias=reading.bias,
            tokens=reading.tokens,
            token_times=times,
        )
        return _with_words(hypothesis, words)

    def _words(self, reading: NBestEntry, scores: Sequence[float], encoded: Encoded) -> Iterator[Word]:
        groups: list[list[int]] = []
        for i, token in enumerate(reading.tokens):
            if not groups or self.tokenizer.starts_word(token):
                groups.append([])
            groups[-1].append(i)
        texts = [self.tokenizer.decode([reading.tokens[i] for i in group]) for group in groups]
        count, frame_s = len(groups), self.model.frame_s
        said = [(group, text) for group, text in zip(groups, texts, strict=True) if text]
        end = (encoded.end_s - encoded.start_s) / frame_s
        spans = word_spans([(reading.frames[g[0]], reading.frames[g[-1]]) for g, _ in said], encoded.sound, end)
        for (group, text), span in zip(said, spans, strict=True):
            certainty = [reading.log_confidence[i] for i in group]
            sure, evidence = math.exp(sum(certainty) / len(certainty)), None
            if scores:
                evidence = Evidence.of(text, certainty, reading.log_confidence, [scores[i] for i in group], count)
                sure = self.calibration.confidence(evidence) if self.calibration else sure
            start_s, end_s = (encoded.start_s + frames * frame_s for frames in span)
            yield Word(text, start_s, end_s, sure, evidence)


def _with_words(hypothesis: Hypothesis, words: tuple[Word, ...]) -> Hypothesis:
    mean = sum(word.confidence for word in words) / len(words) if words else 0.0
    return replace(hypothesis, words=words, confidence=mean)


def _said(attended: Attended) -> dict[str, tuple[float, str]]:
    """What may have been said of the texts that the attention decoder wrote: the likeliest writing's score, and it."""
    texts: dict[str, tuple[float, str]] = {}
    for written in attended.written:
        for text in spoken_forms(written.text, _SPOKEN_FORMS):
            texts[text] = max((written.log_p, written.text), texts.get(text, (-math.inf, "")))
    return texts


def _most_tokens(text: str) -> int:
    """More of the attention decoder's tokens than a text that sounds like this one can have."""
    return 12 + 2 * len(text.split()) + len(text) // 3


def _width(row: Row) -> int:
    """The hypotheses that a search keeps."""
    return row.beam.acoustic.shape[1]


def _versions(acoustic: str, language: NGram | None, attention: SecondPass | None) -> ModelVersions:
    return ModelVersions(acoustic, language.version if language else "", attention.version if attention else "")


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
