"""One stream as an object: a thin convenience over the recogniser's pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from asr.audio import Samples
from asr.decoding import PhraseGraph
from asr.recognition.results import Pass, Result
from asr.recognition.state import Following, Pending, StreamInput, StreamOptions, StreamState


class PureRecognizer(Protocol):
    """The pure functions that a stream goes on by (`asr.recognition.recognizer.Recognizer`)."""

    def initial_state(self, options: StreamOptions | None = None) -> StreamState:
        """The state of a stream before its audio."""
        ...

    def take(self, state: StreamState, arrived: StreamInput) -> StreamState:
        """The state with what came in."""
        ...

    def step(self, states: Sequence[StreamState]) -> tuple[list[StreamState], list[list[Result]]]:
        """One step of each stream: the new states and the results on the way."""
        ...


class Stream:
    """One stream of audio: its state, and the recogniser's steps over it. Use it from one thread at a time.

    `accept` and `finish` do everything at once. A server that recognises many streams takes the audio in (`take`,
    `end`) and has `Recognizer.advance` work on those that are `ready`, as one batch, until none is.
    """

    def __init__(self, recognizer: PureRecognizer, options: StreamOptions | None = None) -> None:
        self._recognizer = recognizer
        self.state = recognizer.initial_state(options)

    @property
    def pending(self) -> Pending:
        """What the next step does."""
        return self.state.pending

    @property
    def ready(self) -> bool:
        """Whether a step is pending."""
        return self.state.pending is not Pending.NONE

    @property
    def audio_ended(self) -> bool:
        """Whether the audio has ended: what is left are the last chunks and the last result."""
        return self.state.audio_ended

    @property
    def done(self) -> bool:
        """Whether audio that follows is ignored: it has ended, or the one utterance asked for has."""
        return self.state.done

    @property
    def has_speech(self) -> bool:
        """Whether the utterance under way has speech so far; with endpointing."""
        return self.state.utterance.endpoint.last_speech is not None

    @property
    def has_words(self) -> bool:
        """Whether the utterance under way has words so far."""
        return self.state.utterance.has_words

    @property
    def needs_second_pass(self) -> bool:
        """Whether the pending result takes a second pass, which is long."""
        return self.state.needs_second_pass

    def skip_second_pass(self, passes: Iterable[Pass]) -> bool:
        """Have the pending result made without these second passes; returns whether it would have taken one of them."""
        before, self.state = self.state, self.state.skip_second_pass(passes)
        return self.state is not before

    @property
    def revision(self) -> int:
        """Of the options of the utterance under way (`StreamOptions.revision`)."""
        return self.state.options.revision

    def set_context(self, graph: PhraseGraph | None, following: PhraseGraph | None = None) -> None:
        """Also search utterances that end from now on with a context's phrases (`StreamInput.context`).

        Args:
            following: the phrases for those from the next one on, where `change` has said that these are another's.
        """
        later = self.state.following and replace(self.state.following, context=following)
        self.state = self._recognizer.take(self.state, StreamInput(context=graph, following=later))

    def change(self, options: StreamOptions, context: PhraseGraph | None = None) -> None:
        """Recognise utterances from the next one on with other options and another context (`Following`)."""
        self.state = self._recognizer.take(self.state, StreamInput(following=Following(options, context)))

    def clear_context(self) -> bool:
        """Go on without the context's phrases; returns whether there were any."""
        had = self.state.context is not None
        self.set_context(None)
        return had

    def take(self, samples: Samples) -> None:
        """Read (n,) float32 samples, -1 to 1, at the stream's rate. Raises AudioError; then nothing of them is read."""
        self.state = self._recognizer.take(self.state, StreamInput(samples))

    def end(self) -> None:
        """End the audio."""
        self.state = self._recognizer.take(self.state, StreamInput(end=True))

    def end_utterance(self) -> None:
        """End the utterance, not the audio (`StreamInput.finalize`). Raises ValueError where something is pending."""
        self.state = self._recognizer.take(self.state, StreamInput(finalize=True))

    def accept(self, samples: Samples) -> list[Result]:
        """Read samples as `take`, and return the results that they bring. Raises AudioError."""
        self.take(samples)
        return self._run()

    def finish(self) -> list[Result]:
        """End the stream and return what is left of it; a stream without speech gives one empty final result."""
        if self.done:
            return []
        self.end()
        return self._run()

    def finalize(self) -> list[Result]:
        """End the utterance now; its final result, empty where nothing was said, has `finalized`."""
        if self.done:
            return []
        self.end_utterance()
        return self._run()

    def _run(self) -> list[Result]:
        results: list[Result] = []
        while self.ready:
            (self.state,), (found,) = self._recognizer.step([self.state])
            results += found
        return results
