"""The recogniser: a pure step over stream states, in five stages.

    front end → encoder → beam search → endpointer → finalizer

A step (`Recognizer.step`) takes the states of several streams and gives their next ones with the results on the way.
The stages are called in this order, and none calls one before it; a final result that ends before the newest frames is
followed by a search of those, which begin the next utterance. Their code: `asr.audio.frontend`, `batching` (encoder
and search), `endpointing`, `finalize`; what they mean for an utterance from its begin to its end: `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asr.acoustic import is_emformer, load_emformer, load_model
from asr.acoustic.checkpoint import SHIPPED
from asr.acoustic.interface import AcousticModel
from asr.audio import SAMPLE_RATE, Samples
from asr.audio.features import MELS
from asr.audio.frontend import FrontEnd
from asr.decoding import BEAM, BeamSearch, BoostedPhrase, PhraseCompiler, PhraseGraph
from asr.decoding.ngram import NGram
from asr.errors import ModelError
from asr.fitted import FittedWeights, ModelVersions, weights_for
from asr.recognition.batching import encode_batch, search_batch
from asr.recognition.calibration import Calibration, load_calibration
from asr.recognition.finalize import Finalizer
from asr.recognition.lifecycle import UtteranceLifecycle
from asr.recognition.results import Encoded, Hypothesis, Pass, Result
from asr.recognition.scoring import Scorer
from asr.recognition.state import Following, Pending, Resumption, StreamInput, StreamOptions, StreamState
from asr.recognition.stream import Stream
from asr.second_pass.attention_decoder import SHIPPED as SHIPPED_SECOND_PASS
from asr.second_pass.attention_decoder import AttentionDecoder
from asr.text.tokenizer import Tokenizer
from asr.threads import one_thread

__all__ = ["Following", "Pending", "Recognizer", "Stream", "StreamInput", "StreamOptions", "StreamState"]


class Recognizer:
    """Acoustic model, search and second pass; shared by all streams, holds no state of any.

    Making one packs the weights and computes the tables: nothing is left to be made by the first stream.

    Args:
        beam: hypotheses kept, which is also the longest n-best list.
        chunk_ms: audio that the encoder sees at once, which is the latency; a multiple of 40.
        version: of the acoustic model.
        language: an n-gram model over the same tokens.
        weights: of the scores, fitted to these models; language_weight, token_bonus, ctc_weight, attention_weight take
            the place of one of them, where given. The CTC head's log P(y|x) is added where final hypotheses are ranked
            and texts are scored (hybrid CTC, Watanabe et al. 2017, on the n-best list).
        calibration: of the words' confidences, fitted to this model with this language model.
        second_pass: final results are of the utterance encoded and searched once more, as a whole, so that each frame
            has seen what comes behind it (Zhang et al. 2020, arXiv:2012.05481), with a model that can do that.
        attention: an attention decoder, which decodes utterances that have ended, beside the second pass: its own texts
            join the n-best, and its score of every text is added (two passes: Sainath et al. 2019, arXiv:1908.10992).
        attention_calibration: of the words' confidences in results with the attention decoder.

    Raises:
        ModelError: the models do not belong together, or the acoustic model cannot encode such chunks.
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
        attention: AttentionDecoder | None = None,
        attention_weight: float | None = None,
        attention_calibration: Calibration | None = None,
    ) -> None:
        if model.vocab_size != tokenizer.vocab_size:
            raise ModelError(f"model has {model.vocab_size} outputs, its tokens are {tokenizer.vocab_size}")
        if language is not None and not language.fits(tokenizer):
            raise ModelError("the language model was made for other tokens; train one for the acoustic model's")
        self.model, self.tokenizer, self.version, self.language = model, tokenizer, version, language
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
            model, beam, language=language, language_weight=self.weights.language, token_bonus=self.weights.token_bonus
        )
        self.front_end = FrontEnd(model.features, model.lookback, model.chunk_frames(chunk_ms), model.lookahead)
        self.scorer = Scorer(
            model, tokenizer, self.search, self.weights, language, calibration, self.attention, attention_calibration
        )
        self.finalizer = Finalizer(model, self.search, self.scorer, self.attention)
        self.lifecycle = UtteranceLifecycle(model, tokenizer, self.search, self.second_passes)
        self._compiler = PhraseCompiler(tokenizer)
        self._warm_up()

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
        """Load the model in `folder`, or the shipped one, or one of torchaudio's RNN-T bundles by its name.

        `Recognizer.load("EMFORMER_RNNT_BASE_LIBRISPEECH", chunk_ms=160)`: an Emformer reads its own segments only.

        Args:
            folder: None: the shipped model.
            device: of the acoustic model and the attention decoder, as torch names it.
            language: None: the shipped n-gram model, where it was made for the model's tokens and `language_weight` is
                not 0.
            second_pass: a folder with another attention decoder than the shipped one: a Whisper model in the Hugging
                Face form; False: neither it nor the whole utterance's encoding.
            fitted: the file with the weights of their scores; None: the fitted.json beside the attention decoder or the
                acoustic model that belongs to them.

        Raises:
            ModelError: a file is missing or the files do not belong together, `fitted` is of other models, there is no
                such device, or one of torchaudio's bundles is named and torchaudio cannot be loaded.

        Warns:
            UnfittedWarning: no weights were fitted to these models together, and defaults stand in.
        """
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
            decoder = SHIPPED_SECOND_PASS if second_pass is True else second_pass
            attention = AttentionDecoder.load(decoder, device=device)
            folders.insert(0, decoder)
            if language:
                attention_calibration = load_calibration(decoder, version, language.version, attention.version)
        weights = weights_for(_versions(version, language, attention), folders, fitted)
        return cls(
            model, tokenizer, beam=beam, chunk_ms=chunk_ms, version=version, weights=weights,
            language=language, language_weight=language_weight, token_bonus=token_bonus,
            calibration=load_calibration(beside, version, language.version) if language else None,
            ctc_weight=ctc_weight, second_pass=second_pass is not False,
            attention=attention, attention_calibration=attention_calibration,
        )  # fmt: skip

    def _warm_up(self) -> None:
        """Have all made that is made at its first use: weights packed for inference, tables."""
        noise = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE // 2)
        self.recognize(noise.astype(np.float32))
        if self.attention is not None:
            self.attention.decode([torch.zeros(50, MELS)], [2])

    @one_thread()
    def compile(self, phrases: Iterable[BoostedPhrase], *, of_context: bool = False) -> PhraseGraph:
        """Compile phrases for the searches; what cannot be used is in the graph's `dropped`, with the reason.

        Nothing of them is kept beyond the graph's life: several streams with the same phrases may share it
        (`StreamOptions.graph`).

        Args:
            of_context: phrases of a context, which the attention decoder's search does not boost.
        """
        graph = self._compiler.compile(tuple(phrases))
        if self.attention is not None and not of_context:
            self.attention.written_phrases(graph)
        return graph

    # Streams

    @one_thread()
    @torch.inference_mode()
    def initial_state(self, options: StreamOptions | None = None) -> StreamState:
        """The state of a stream before its audio.

        Raises:
            ValueError: `nbest` is below 1.
            AudioError: the sample rate is not supported.
        """
        options = options or StreamOptions()
        if options.nbest < 1:
            raise ValueError("nbest must be at least 1")
        return StreamState(
            options=options,
            second_passes=self.second_passes,
            front_end=self.front_end.start(options.sample_rate_hertz),
            encoder=self.model.initial_state(1),
            utterance=self.lifecycle.begin(options, 0),
        )

    @one_thread()
    @torch.inference_mode()
    def take(self, state: StreamState, arrived: StreamInput) -> StreamState:
        """The first stage: the state with what came in, its audio as features. It is short work.

        A state that is `done` ignores audio.

        Raises:
            AudioError: the samples are not mono float32, or NaN.
            ValueError: an older state of a stream at another rate than 16 kHz, with other audio than before; something
                is pending that has to come before or behind `finalize`; options of another sample rate.
        """
        if arrived.context is not ...:
            state = replace(state, context=arrived.context)
        if arrived.following is not None:
            if arrived.following.options.sample_rate_hertz != state.options.sample_rate_hertz:
                raise ValueError("a stream's sample rate cannot change: open another one")
            state = replace(state, following=arrived.following)
        if state.resumption is not None and (arrived.samples is not None or arrived.finalize or arrived.end):
            raise ValueError("the stream is being finalized: make its steps until nothing is pending")
        if state.done:
            return state
        front_end = state.front_end
        if arrived.samples is not None:
            front_end = self.front_end.accept(front_end, arrived.samples)
        if arrived.end:
            front_end = self.front_end.end(front_end)
        state = state if front_end is state.front_end else replace(state, front_end=front_end)
        return self._finalizing(state) if arrived.finalize else state

    def _finalizing(self, state: StreamState) -> StreamState:
        """The state whose steps end its utterance: on its audio with silence behind it, which is given up then."""
        if state.pending is not Pending.NONE:
            raise ValueError("finalize: make the steps of the audio before until nothing is pending")
        front_end = self.front_end.complete(state.front_end)
        start = front_end.samples // round(self.model.frame_s * SAMPLE_RATE)
        encoded = state.utterance.end - state.passed
        resumption = Resumption(front_end, state.encoder, encoded, max(encoded, start))
        return replace(state, front_end=self.front_end.end(front_end), resumption=resumption)

    @one_thread()
    @torch.inference_mode()
    def step(
        self, states: Sequence[StreamState], inputs: Sequence[StreamInput] = ()
    ) -> tuple[list[StreamState], list[list[Result]]]:
        """One step of each stream: what is `pending` once the inputs are taken in, one chunk or one result.

        Chunks are one batch and results another, and streams with phrases batches of their own. A stream's text does
        not depend on the others; its scores may, in their last bits, depend on how many they are.

        Args:
            states: of different streams.
            inputs: what comes into each of them; empty: nothing.

        Returns:
            The state of each stream behind the step, and the results that the step brought. A stream with nothing
            pending only takes its input in.

        Raises:
            Exception: any error of any of the streams; the old states stay valid, and the step may be made again.
        """
        after = [self.take(*pair) for pair in zip(states, inputs, strict=True)] if inputs else list(states)
        results: list[list[Result]] = [[] for _ in after]
        chunks = [i for i, state in enumerate(after) if state.pending is Pending.CHUNK]
        finals = [i for i, state in enumerate(after) if state.pending.is_result]
        for places, work in ((finals, self._make_results), (chunks, self._recognize_chunks)):
            for place, made in zip(places, work([after[i] for i in places]), strict=True):
                after[place], results[place] = made
        return after, results

    def open(self, options: StreamOptions | None = None) -> Stream:
        """A new stream. Raises as `initial_state`."""
        return Stream(self, options)

    def advance(self, streams: Sequence[Stream]) -> list[list[Result]]:
        """One step of each stream (`step`), which all streams make or none; returns the results of each.

        Args:
            streams: different ones, all `ready`; none of them in use elsewhere.

        Raises:
            ValueError: a stream has nothing pending.
            Exception: any error of any of the streams; then none of them has changed.
        """
        if not all(stream.ready for stream in streams):
            raise ValueError("a stream has no whole chunk and no result pending: advance those that are ready")
        states, results = self.step([stream.state for stream in streams])
        for stream, state in zip(streams, states, strict=True):
            stream.state = state
        return results

    def recognize(
        self,
        samples: Samples,
        sample_rate_hertz: int = SAMPLE_RATE,
        nbest: int = 8,
        graph: PhraseGraph | None = None,
    ) -> Result:
        """Recognise a whole utterance, through the same steps as live audio.

        Args:
            samples: (n,) float32, -1 to 1.
            graph: boosted phrases, of `compile`.

        Raises:
            AudioError: the samples or the rate cannot be used.
        """
        stream = self.open(StreamOptions(sample_rate_hertz, nbest=nbest, endpointing=False, graph=graph))
        return [*stream.accept(samples), *stream.finish()][-1]

    # Steps

    def _recognize_chunks(self, states: Sequence[StreamState]) -> list[tuple[StreamState, list[Result]]]:
        """The states behind the chunk that is ready in each, with the partial results that it brings."""
        if not states:
            return []
        taken = [self.front_end.next_window(state.front_end) for state in states]
        windows = [window for _, window in taken]
        encoded = encode_batch(self.model, windows, [state.encoder for state in states])
        after = [
            replace(state, front_end=front_end, encoder=encoder, skipped=frozenset(), speech_events=())
            for state, (front_end, _), (_, encoder) in zip(states, taken, encoded, strict=True)
        ]
        frames = [frames for frames, _ in encoded]
        if any(state.passed or state.following for state in states):
            after, windows, frames = self.lifecycle.without_passed(after, windows, frames)
        out: list[tuple[StreamState, list[Result]]] = [(state, []) for state in after]
        places = [i for i, new in enumerate(frames) if len(new)]
        searches = search_batch(self.search, [frames[i] for i in places], [after[i].utterance.search for i in places])
        grown = [
            replace(after[i], utterance=self.lifecycle.grow(after[i], windows[i], frames[i], search))
            for i, search in zip(places, searches, strict=True)
        ]
        for i, state in zip(places, self.lifecycle.with_evidence(grown), strict=True):
            out[i] = self.lifecycle.end_or_partial(state)
        return out

    def _make_results(self, states: Sequence[StreamState]) -> list[tuple[StreamState, list[Result]]]:
        """The states behind the result that is pending in each, with that result."""
        results = self.finalizer.finalize([self.lifecycle.request(state) for state in states])
        return [self.lifecycle.conclude(state, result) for state, result in zip(states, results, strict=True)]

    # Results that are there

    @one_thread()
    @torch.inference_mode()
    def with_context(self, result: Result, graph: PhraseGraph | None, nbest: int = 8) -> Result:
        """A final result as a stream with this context would have given it: `biased` is added."""
        return self.finalizer.with_contexts([result], [graph], [nbest])[0]

    @one_thread()
    @torch.inference_mode()
    def force_score(self, encoded: Encoded, texts: Sequence[str], graph: PhraseGraph | None = None) -> list[Hypothesis]:
        """Score texts (normalised) exactly, with token times and confidences; comparable with the search's hypotheses.

        Args:
            encoded: of a result.
            graph: phrases whose bonus goes into `bias`; None: 0.

        Raises:
            UnspellableError: a text has a character that no token spells.
        """
        return self.scorer.force_score(encoded, texts, graph)

    def unspellable(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that the model's tokens cannot spell."""
        return self.scorer.unspellable(texts)


def _versions(acoustic: str, language: NGram | None, attention: AttentionDecoder | None) -> ModelVersions:
    return ModelVersions(acoustic, language.version if language else "", attention.version if attention else "")


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
