"""The life of an utterance: it grows by chunks, its end is decided, a result concludes it, and the next begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.audio import SAMPLE_RATE
from asr.audio.features import FRAME_S
from asr.decoding import BeamSearch, NBestEntry
from asr.recognition.batching import search_batch
from asr.recognition.endpointing import Decision, cut_place, decide, speech_probabilities
from asr.recognition.finalize import FinalRequest
from asr.recognition.results import Hypothesis, Pass, Result, SpeechEvent
from asr.recognition.state import Pending, SearchState, StreamOptions, StreamState, Utterance
from asr.recognition.word_times import sound_of, word_spans
from asr.text.tokenizer import Tokenizer

_FIRST_BEAM = 8
"""Hypotheses kept while audio comes in, where the final result is of a second pass."""


class UtteranceLifecycle:
    """What chunks and results do to the utterance that a stream is in; holds no state of any.

    Args:
        second_passes: the passes of a final result beside the streaming one.
    """

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        search: BeamSearch,
        second_passes: tuple[Pass, ...],
    ) -> None:
        self._model, self._tokenizer, self._search = model, tokenizer, search
        self._second_passes = second_passes
        self._ratio = round(model.frame_s / FRAME_S)  # feature frames for each encoded frame

    def begin(self, options: StreamOptions, start: int) -> Utterance:
        """An utterance without audio, behind so many frames of the stream."""
        graph = options.graph if options.graph and options.graph.accepted else None
        beam = min(_FIRST_BEAM, self._search.beam) if self._second_passes else self._search.beam
        return Utterance(SearchState(self._search.start(1, beam), graph), start, waiting_from=start)

    def without_passed(
        self, states: Sequence[StreamState], windows: Sequence[Tensor], frames: Sequence[Tensor]
    ) -> tuple[list[StreamState], list[Tensor], list[Tensor]]:
        """The states before a chunk, ready for it: an utterance without words is the next one, if one is to follow.

        Args:
            windows: (lookback + chunk + lookahead, 80) features of each chunk.
            frames: (T, J) encoded frames of each.

        Returns:
            The states, and the chunks without what belongs to utterances that were finalized.
        """
        states = [
            state if state.following is None or state.utterance.has_words else self._next_utterance(state, 0)
            for state in states
        ]
        passed = [min(state.passed, len(new)) for state, new in zip(states, frames, strict=True)]
        return (
            [replace(state, passed=state.passed - count) for state, count in zip(states, passed, strict=True)],
            [window[count * self._ratio :] for window, count in zip(windows, passed, strict=True)],
            [new[count:] for new, count in zip(frames, passed, strict=True)],
        )

    def grow(self, state: StreamState, window: Tensor, frames: Tensor, search: SearchState) -> Utterance:
        """The utterance with a chunk more."""
        old, model = state.utterance, self._model
        new = window[model.lookback + model.lookahead :] if old.features else window
        chunk = window[model.lookback : len(window) - model.lookahead]
        loudness = model.loudness(chunk).unflatten(0, (len(frames), -1)).amax(-1)
        return replace(
            old,
            search=search,
            features=(*old.features, new) if self._second_passes else (),
            encoded=(*old.encoded, frames),
            loudness=(*old.loudness, loudness),
        )

    def with_evidence(self, states: Sequence[StreamState]) -> list[StreamState]:
        """The states with the endpointer's evidence of the newest piece of each utterance."""
        out = list(states)
        places = [i for i, state in enumerate(states) if state.options.endpointing]
        utterances = [states[i].utterance for i in places]
        probabilities = speech_probabilities(
            self._model, self._search, [u.encoded[-1] for u in utterances], [u.search.beam for u in utterances]
        )
        for i, utterance, speech in zip(places, utterances, probabilities, strict=True):
            endpoint = utterance.endpoint.after(states[i].options.endpoint, speech, utterance.loudness[-1])
            out[i] = replace(out[i], utterance=replace(utterance, endpoint=endpoint))
        return out

    def end_or_partial(self, state: StreamState) -> tuple[StreamState, list[Result]]:
        """What the endpointer decides behind a chunk, else the partial result that the chunk brings, if any."""
        options, utterance, frame_s = state.options, state.utterance, self._model.frame_s
        nbest = self._search.nbest(utterance.search.beam, 0)
        if bool(nbest[0].tokens) != utterance.has_words:
            utterance = replace(utterance, has_words=not utterance.has_words)
            state = replace(state, utterance=utterance)
        if options.endpointing:
            last_token, before = nbest[0].frames[-1] if nbest[0].frames else None, utterance.endpoint.likely_frames
            endpoint, decision = decide(options.endpoint, utterance.endpoint, last_token, frame_s)
            if state.resumption is not None:
                decision = Decision.CONTINUE  # it ends in a moment
            chunk = len(utterance.encoded[-1])
            if options.speech_events:
                ended = decision is Decision.END or endpoint.likely_frames is not None
                state = self._with_speech(state, nbest[0], ended=ended)
                utterance = state.utterance
            waited_s = (utterance.end - utterance.waiting_from) * frame_s
            timed_out = waited_s >= options.endpoint.start_timeout_s and not utterance.has_words
            if decision is Decision.RESTART or (timed_out and state.resumption is None):
                kept = math.ceil(options.endpoint.kept_s(endpoint.frames * frame_s) / frame_s)
                cut = max(0, endpoint.frames - math.ceil(kept / chunk) * chunk)
                if timed_out:
                    return replace(state, due=Pending.FINAL, cut=cut or endpoint.frames), []
                return self._next_utterance(state, cut), []
            utterance = replace(utterance, endpoint=endpoint)
            if endpoint.likely_frames is None:
                utterance = replace(utterance, likely_search=None, provisional=None, last_likely_text=None)
            elif endpoint.likely_frames != before:
                utterance = replace(utterance, likely_search=utterance.search, provisional=None)
            state = replace(state, utterance=utterance)
            if decision is Decision.END:
                loudness = torch.cat(utterance.loudness)
                cut = cut_place(endpoint, nbest[0], loudness, chunk, self._tokenizer, frame_s)
                return replace(state, due=Pending.FINAL, cut=cut), []
        return self._partial(state, nbest) if options.interim_results and not state.resumption else (state, [])

    def _with_speech(self, state: StreamState, best: NBestEntry, *, ended: bool) -> StreamState:
        """The state with what a chunk tells of speech: it begins with a new token, and ends with the silence behind.

        Args:
            ended: whether the utterance has ended, or probably.
        """
        utterance = state.utterance
        tokens = [frame for frame in best.frames if frame >= utterance.silent_from]
        begins, ends = bool(tokens) and not state.speaking, ended or not tokens
        if not begins and not (ends and state.speaking):
            return state
        start_s, end_s = self._end_s(state), self._end_s(state)
        if tokens:
            sound = sound_of(torch.cat(utterance.loudness))
            ((start, end),) = word_spans([(tokens[0], tokens[-1])], sound, utterance.frames)
            start_s, end_s = ((utterance.start + frame) * self._model.frame_s for frame in (start, end))
        events = [SpeechEvent(True, start_s)] if begins else []
        if ends:
            events.append(SpeechEvent(False, end_s))
            utterance = replace(utterance, silent_from=utterance.frames)
        return _with_events(replace(state, utterance=utterance), events)

    @staticmethod
    def _with_last_speech(state: StreamState, result: Result) -> StreamState:
        """The state with the end of the speech of a stream or an utterance that was ended by hand.

        Words that only the second pass has begin and end here.
        """
        words, heard = result.nbest[0].words, state.speaking or state.utterance.silent_from
        events = [SpeechEvent(True, words[0].start_s)] if words and not heard else []
        if events or state.speaking:
            events.append(SpeechEvent(False, words[-1].end_s if words else result.end_s))
        return _with_events(state, events)

    def _partial(self, state: StreamState, nbest: Sequence[NBestEntry]) -> tuple[StreamState, list[Result]]:
        """The partial result that is new, if any; where the end is likely, a likely final is due in its place."""
        utterance, best, decode = state.utterance, nbest[0], self._tokenizer.decode
        text, likely_text = decode(best.tokens), utterance.last_likely_text
        is_known = text == utterance.last_partial_text and (likely_text is not None or not utterance.likely_search)
        if utterance.provisional is not None or is_known:
            return state, []
        state = replace(state, utterance=replace(utterance, last_partial_text=text))
        if utterance.likely_search:
            return replace(state, due=Pending.LIKELY_FINAL), []
        start_s = utterance.start * self._model.frame_s
        times = tuple(start_s + f * self._model.frame_s for f in best.frames)
        hypothesis = Hypothesis(text, best.acoustic, best.language, best.bias, tokens=best.tokens, token_times=times)
        begin_so = [f"{decode(e.tokens)} ".startswith(f"{text} ") for e in nbest]
        stability = _share(nbest, begin_so) if text else 0.0
        revision = state.options.revision
        return state, [Result((hypothesis,), False, stability, start_s, self._end_s(state), revision=revision)]

    def request(self, state: StreamState) -> FinalRequest:
        """What the pending result is made from."""
        utterance, model = state.utterance, self._model
        plain, searched_with = utterance.provisional or (None, None)
        is_current = plain is not None and searched_with is state.context
        if plain is not None and not is_current:
            passes = tuple(one for one in plain.passes if one is not Pass.CONTEXT_PHRASES)
            plain = replace(plain, biased=(), passes=passes)
        search = utterance.likely_search or utterance.search
        frames = state.cut or search.frames
        features = model.lookback + frames * self._ratio + model.lookahead
        return FinalRequest(
            search=search,
            frames=torch.cat(utterance.encoded)[:frames] if utterance.encoded else None,
            features=torch.cat(utterance.features)[:features] if state.needs_second_pass else None,
            loudness=torch.cat(utterance.loudness)[:frames] if utterance.loudness else None,
            start_s=utterance.start * model.frame_s,
            end_s=min((utterance.start + frames) * model.frame_s, state.front_end.samples / SAMPLE_RATE),
            nbest=state.options.nbest,
            skipped=state.skipped,
            plain=plain,
            context=None if is_current else state.context,
        )

    def conclude(self, state: StreamState, result: Result) -> tuple[StreamState, list[Result]]:
        """The state behind the result that was pending, and the result as it goes out, if it does."""
        utterance, frame_s = state.utterance, self._model.frame_s
        skipped = result.skipped or tuple(one for one in self._second_passes if one in state.skipped)
        result = replace(result, end_s=self._end_s(state), skipped=skipped, revision=state.options.revision)
        text, state_after = result.nbest[0].text, replace(state, skipped=frozenset(), speech_events=())
        if state.pending is Pending.LIKELY_FINAL:
            provisional = (result, state.context) if state.needs_second_pass else None
            likely = [replace(result, is_final=False, likely_final=True)]
            noted = replace(utterance, last_likely_text=text, provisional=provisional)
            after = replace(state_after, due=Pending.NONE, utterance=noted)
            return after, [] if text in ("", utterance.last_likely_text) else likely
        if (
            state.pending is Pending.FINAL and not text and utterance.has_words
        ):  # the second pass has no words: a partial result is taken back
            empty = replace(result, is_final=False, stability=0.0, passes=(), skipped=())
            return self._next_utterance(state_after, state.cut), [empty] if utterance.last_partial_text else []
        if state.pending is Pending.FINAL:
            finished = state.options.single_utterance
            counted = replace(state_after, finals=state.finals + 1, finished=finished)
            after = self._next_utterance(counted, utterance.frames if finished else state.cut)
            end_s = min((utterance.start + state.cut) * frame_s, result.end_s)
            return after, [replace(result, end_s=end_s, endpoint_s=utterance.end * frame_s)]
        if state.options.speech_events:
            state_after = self._with_last_speech(state_after, result)
        if state.resumption is not None:
            return self._resumed(state_after), [replace(result, finalized=True)]
        return replace(state_after, finished=True), [result] if text or not state.finals else []

    def _resumed(self, state: StreamState) -> StreamState:
        """The state behind the result of an utterance that was finalized: the next one, on the audio as it was."""
        resumption = state.resumption
        assert resumption is not None
        state = self._followed(state)
        return replace(
            state,
            front_end=resumption.front_end,
            encoder=resumption.encoder,
            utterance=self.begin(state.options, resumption.start),
            passed=resumption.start - resumption.encoded,
            resumption=None,
            finals=state.finals + 1,
            finished=state.options.single_utterance,
        )

    @staticmethod
    def _followed(state: StreamState) -> StreamState:
        """The state with the options and the context of the next utterance."""
        following = state.following
        if following is None:
            return state
        return replace(state, options=following.options, context=following.context, following=None)

    def _next_utterance(self, state: StreamState, cut: int) -> StreamState:
        """The state in the next utterance, which begins with what follows the first `cut` frames of this one.

        The frames that follow are searched anew, without the text before.
        """
        state = self._followed(state)
        old, begun = state.utterance, self.begin(state.options, state.utterance.start + cut)
        if not old.has_words:  # the wait goes on, unless it was too long
            begun = replace(begun, waiting_from=old.end if state.due is Pending.FINAL else old.waiting_from)
        state = replace(state, utterance=begun, due=Pending.NONE, cut=0)
        if cut == old.frames:
            return state
        encoded = torch.cat(old.encoded)[cut:].clone()
        (search,) = search_batch(self._search, [encoded], [begun.search])
        features = (torch.cat(old.features)[cut * self._ratio :].clone(),) if old.features else ()
        loudness = (torch.cat(old.loudness)[cut:].clone(),)
        has_words = bool(self._search.nbest(search.beam, 0)[0].tokens)
        begun = replace(
            begun, search=search, features=features, encoded=(encoded,), loudness=loudness, has_words=has_words
        )
        return self.with_evidence([replace(state, utterance=begun)])[0]

    def _end_s(self, state: StreamState) -> float:
        """Where the recognised audio ends, seconds into the stream."""
        return min(state.utterance.end * self._model.frame_s, state.front_end.samples / SAMPLE_RATE)


def _with_events(state: StreamState, events: Sequence[SpeechEvent]) -> StreamState:
    """The state behind a step that brought these speech events; none is before the last one or behind the audio."""
    for event in events:
        end_s = state.front_end.samples / SAMPLE_RATE
        event = replace(event, time_s=min(max(event.time_s, state.last_event_s), end_s))
        noted = (*state.speech_events, event)
        state = replace(state, speaking=event.begins, last_event_s=event.time_s, speech_events=noted)
    return state


def _share(nbest: Sequence[NBestEntry], chosen: Sequence[bool]) -> float:
    """The chosen entries' part of the n-best list's probability."""
    posteriors = np.exp([e.score - nbest[0].score for e in nbest])
    return float(posteriors[np.array(chosen)].sum() / posteriors.sum())
