"""Streaming speech-to-text service that knows what the assistant has just asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

from loguru import logger
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextUserTurnFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    StartFrame,
    STTMetadataFrame,
    STTMuteFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.transcriptions.language import Language
from pipecat.turns.eager_end_of_turn_mixin import EagerEndOfTurnSTTServiceMixin
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.time import time_now_iso8601
from pipecat.utils.tracing.service_decorators import traced_stt
from pipecat.utils.types import NOT_GIVEN, NotGiven

from carryover import (
    CarryoverError,
    ChangeRequestError,
    CheckKeyError,
    Endpointing,
    Entry,
    Final,
    LikelyFinal,
    PhraseReport,
    SpeechBegin,
    SpeechEnd,
    aio,
)
from carryover.dialogue import Dialogue
from carryover.unanswered import Unanswered

CARRYOVER_TTFS_P99 = 1.9
"""Seconds from the end of speech to the final transcript, 99 of 100 times: benchmarks.voice_agents.follow_ups, on two
cores that were busy with other work."""

_Stream: TypeAlias = aio.Stream[Any]
_Message: TypeAlias = Callable[[_Stream], Awaitable[None]]

_WAITING = 1000
"""The most messages that wait for a server that cannot be reached: 10 s of audio in frames of 10 ms."""
_LAST_RESULT_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 2.0


@dataclass
class CarryoverSTTSettings(STTSettings):
    """What can be changed while a pipeline runs.

    Parameters:
        phrases: Words and phrases to expect, or the boost of each in nats. Changed without a new connection, from the
            next utterance on.
        likely_silence_s: Silence that gives a likely final transcript, seconds; None: as the server is set. Likewise.
        trailing_silence_s: Silence that ends an utterance, seconds; None: as the server is set. Likewise.
        automatic_punctuation: Transcripts with capitals, punctuation and digits.
        max_alternatives: The most alternatives in a frame's `result`.
        word_times: Words with their times in a frame's `result`.
    """

    phrases: Sequence[str] | Mapping[str, float] | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    likely_silence_s: float | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    trailing_silence_s: float | NotGiven | None = field(default_factory=lambda: NOT_GIVEN)
    automatic_punctuation: bool | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    max_alternatives: int | NotGiven = field(default_factory=lambda: NOT_GIVEN)
    word_times: bool | NotGiven = field(default_factory=lambda: NOT_GIVEN)


class CarryoverSTTService(EagerEndOfTurnSTTServiceMixin, STTService):
    """Speech-to-text on a Carryover server, with the context of the dialogue.

    Unless `turn_detection` is set the pipeline's voice activity detection says when the user has stopped: the utterance
    is ended at once, and its transcript is `finalized`, as is one that the server has ended before. With
    `turn_detection` the server's endpointing leads: it proposes the starts and ends of turns, and with
    `enable_eager_end_of_turn` its likely finals are answered ahead. Otherwise likely finals are interim transcripts
    whose `result` is a `carryover.LikelyFinal`.

    What user and assistant say is recorded in a dialogue of this service's own. Put a `CarryoverContextObserver` beside
    it, so that the assistant's text is known before it is spoken.

    A frame's `result` is the client's typed result, with the words, their times and what the context did. A stream that
    breaks is opened anew, and gets what the one before it has not answered; audio of up to 10 s waits for it. No
    keepalive is needed: a mute stream stays open.

    Event handlers:
        on_connected: The server has accepted the stream.
        on_connection_error: It has not, or the stream broke; the message follows.
    """

    Settings = CarryoverSTTSettings
    _settings: CarryoverSTTSettings

    def __init__(
        self,
        *,
        server: str = "127.0.0.1:50051",
        api_key: str | None = None,
        ca: str | None = None,
        tls: bool = False,
        dialogue: str = "",
        turn_detection: bool = False,
        should_interrupt: bool = True,
        sample_rate: int | None = None,
        settings: CarryoverSTTSettings | None = None,
        ttfs_p99_latency: float | None = CARRYOVER_TTFS_P99,
        **kwargs: Any,
    ) -> None:
        """Initialize the service.

        Args:
            server: HOST:PORT, or any target that gRPC knows.
            api_key: The server's key for this caller, where it takes keys.
            ca: Path of the authorities' certificates to reach the server by TLS.
            tls: TLS with the authorities that gRPC knows.
            dialogue: Id of the dialogue; empty: a new one. One that was recorded before is gone on with.
            turn_detection: The server's endpointing says when turns start and end.
            should_interrupt: With it, a start of a turn interrupts the bot.
            sample_rate: Of the audio, Hz, 8000 to 48000; None: the pipeline's.
            settings: What differs from the defaults.
            ttfs_p99_latency: Measured for your deployment, seconds.
            **kwargs: Of `STTService`, and `enable_eager_end_of_turn`, `eager_match_policy`.
        """
        complete = self.Settings(
            model=None,
            language=Language.EN,
            phrases=(),
            likely_silence_s=None,
            trailing_silence_s=None,
            automatic_punctuation=True,
            max_alternatives=1,
            word_times=False,
        )
        if settings is not None:
            complete.apply_update(settings)
        super().__init__(sample_rate=sample_rate, settings=complete, ttfs_p99_latency=ttfs_p99_latency, **kwargs)
        self._client = aio.Client(server, key=api_key, ca=ca, tls=tls)
        self._dialogue = Dialogue(self._client, dialogue)
        self._turn_detection = turn_detection
        self._should_interrupt = should_interrupt
        self._observed = False
        self._interrupted = False
        self._turn_open = False
        self._connected = self._unreachable = False
        self._spoken_s = 0.0  # where speech ended in the stream, as voice activity detection has it
        self._unanswered = Unanswered(16_000)
        self._report: PhraseReport | None = None
        self._outbox: asyncio.Queue[_Message] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None

    @property
    def dialogue(self) -> Dialogue:
        """The turns that are recorded; its `id` is what to erase."""
        return self._dialogue

    def set_entities(self, signal: str, entries: Sequence[str | Entry]) -> None:
        """Say what a service knows and the user may name, from now on and until it is set again.

        Args:
            signal: A name that the model reads: contacts, devices, places, ..., or one of your own.
            entries: By importance; none: the service knows nothing any more.
        """
        self._dialogue.set_entities(signal, entries)

    def can_generate_metrics(self) -> bool:
        """True: the time to the final transcript, and the audio that was sent."""
        return True

    @property
    def supports_ttfs(self) -> bool:
        """False with `turn_detection`: the transcript comes with the end of the turn."""
        return not self._turn_detection

    def service_metadata_frame(self) -> STTMetadataFrame:
        """The latency, and with `turn_detection` the turn strategies that follow the server."""
        frame = super().service_metadata_frame()
        if self._turn_detection:
            frame.user_turn_strategies = self.recommended_user_turn_strategies(
                enable_interruptions=self._should_interrupt
            )
        return frame

    async def start(self, frame: StartFrame) -> None:
        """Have a stream opened with the first audio."""
        await super().start(frame)
        self._unanswered = Unanswered(self.sample_rate)
        self._dialogue.begin()
        if self._running is None:
            self._running = self.create_task(self._run(), name="carryover_stream")

    async def stop(self, frame: EndFrame) -> None:
        """End the audio and wait for the last transcript."""
        if self._running is not None and not self._unreachable:
            self._put(lambda stream: stream.end())
            await asyncio.wait([self._running], timeout=_LAST_RESULT_S)
        await super().stop(frame)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._dialogue.recorded(), _LAST_RESULT_S)
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        """End the stream at once."""
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        """Close the connection."""
        await super().cleanup()
        await self._close()

    async def process_audio_frame(self, frame: InputAudioRawFrame, direction: FrameDirection) -> None:
        """Take audio; of several channels the first."""
        if frame.num_channels > 1:
            first = memoryview(frame.audio).cast("h")[:: frame.num_channels].tobytes()
            frame = replace(frame, audio=first, num_channels=1)
        await super().process_audio_frame(frame, direction)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Send audio; transcripts come when they are there."""
        self._put(partial(self._send_audio, audio))
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the turns of the dialogue beside the audio."""
        if isinstance(frame, InterruptionFrame):
            self._interrupted = True
        elif isinstance(frame, BotStartedSpeakingFrame):
            self._interrupted = False
        elif isinstance(frame, LLMContextUserTurnFrame) and not self._observed:
            self._dialogue.heard(frame.text)
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame) and not self._turn_detection:
            self.request_finalize()
            self._put(partial(self._end_speech, frame.stop_secs))
        elif isinstance(frame, STTMuteFrame) and frame.mute:  # what comes after it is another utterance
            self._put(lambda stream: stream.finalize())

    def observe(self) -> Dialogue:
        """The dialogue, for an observer that tells it what user and assistant say."""
        self._observed = True
        return self._dialogue

    async def _process_assistant_turn(self, text: str) -> None:
        """Record what nobody announced, and after an interruption what was spoken until then."""
        self._dialogue.spoken(text, interrupted=self._interrupted)
        self._interrupted = False

    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:
        changed = await super()._update_settings(delta)
        fields = changed.keys()
        if self._connected and "phrases" in fields:
            phrases = self._settings.phrases
            self._put(lambda stream: stream.update(phrases=phrases, replace_phrases=True))
        if self._connected and fields & {"likely_silence_s", "trailing_silence_s"}:
            endpointing = self._endpointing()
            self._put(lambda stream: stream.update(endpointing=endpointing))
        failed = self._running is not None and self._running.done()
        if failed or fields & {"automatic_punctuation", "max_alternatives", "word_times"}:
            await self._request_reconnect()
        self._warn_unhandled_updated_settings(fields & {"model", "language"})
        return changed

    async def _do_reconnect(self) -> None:
        if self._running is not None:
            await self.cancel_task(self._running)
            self._connected = False
            self._running = self.create_task(self._run(), name="carryover_stream")

    async def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await self.cancel_task(running)
        await self._dialogue.close()
        await self._client.close()

    def _put(self, message: _Message) -> None:
        """Send something in its turn. Of what waits for too long, the oldest is dropped."""
        if self._outbox.qsize() >= _WAITING:
            self._outbox.get_nowait()
        self._outbox.put_nowait(message)

    async def _run(self) -> None:
        """Keep a stream open until the audio ends."""
        wait_s = _FIRST_WAIT_S
        first: _Message | None = None
        while True:
            first = first or await self._outbox.get()  # a stream without any audio would not stay open
            accepted = False
            try:
                async with self._open() as stream:
                    await stream.send(b"")  # waits until the server has accepted the stream
                    accepted = self._connected = True
                    self._unreachable = False
                    await self._call_event_handler("on_connected")
                    message, first = first, None
                    await self._converse(stream, message)
                return
            except CarryoverError as error:
                self._connected, self._unreachable = False, not accepted
                await self._abandon_utterance()
                await self._call_event_handler("on_connection_error", str(error))
                if accepted:
                    logger.warning(f"{self}: the stream ended, another is opened: {error}")
                    wait_s = _FIRST_WAIT_S
                else:
                    await self.push_error(str(error), exception=error, category=_category(error))
                    if _category(error).is_permanent:
                        return
                    wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
                await asyncio.sleep(error.retry_after_s or wait_s)

    def _open(self) -> _Stream:
        settings = self._settings
        return self._client.stream(
            dialogue=self._dialogue.id,
            rate=self.sample_rate,
            phrases=settings.phrases,
            endpointing=self._endpointing(),
            automatic_punctuation=settings.automatic_punctuation,
            max_alternatives=settings.max_alternatives,
            word_times=settings.word_times,
            voice_activity_events=self._turn_detection,
        )

    def _endpointing(self) -> Endpointing:
        settings = self._settings
        return Endpointing(likely_silence_s=settings.likely_silence_s, trailing_silence_s=settings.trailing_silence_s)

    async def _converse(self, stream: _Stream, first: _Message) -> None:
        """Send what waits, and push what comes back. Raises what broke the stream."""
        sending = self.create_task(self._send(stream, first), name="carryover_sending")
        try:
            async for result in stream:
                self._warn_of_rejected(stream.phrase_report)
                await self._take(result)
        finally:
            await self.cancel_task(sending)

    def _warn_of_rejected(self, report: PhraseReport | None) -> None:
        if report is not self._report and report is not None:
            for rejected in report.rejected:
                logger.warning(f"{self}: the phrase {rejected.phrase!r} is not in use: {rejected.reason}")
        self._report = report

    async def _send(self, stream: _Stream, first: _Message) -> None:
        with suppress(CarryoverError):  # which the results raise too
            await self._send_again(stream)
            await first(stream)
            while True:
                message = await self._outbox.get()
                await message(stream)

    async def _end_speech(self, ago_s: float, stream: _Stream) -> None:
        self._spoken_s = self._unanswered.until_s - ago_s
        await stream.finalize()

    async def _send_audio(self, audio: bytes, stream: _Stream) -> None:
        self._unanswered.sent(audio)
        await stream.send(audio)

    async def _send_again(self, stream: _Stream) -> None:
        """Send what the stream before this one has not answered."""
        pieces, _ = self._unanswered.again()
        self._spoken_s = 0.0
        for piece in pieces:
            await self._send_audio(piece, stream)
        if pieces and self._finalize_requested:
            await stream.finalize()

    async def _take(self, result: Any) -> None:
        if isinstance(result, SpeechBegin):
            if not self._turn_open:
                self._turn_open = True
                await self.broadcast_frame(ProposedUserStartedSpeakingFrame)
        elif isinstance(result, SpeechEnd):
            pass  # the utterance's end counts
        elif isinstance(result, Final):
            await self._take_final(result)
        elif result.transcript:
            if not isinstance(result, LikelyFinal):
                await self._cancel_eager_end_of_turn()  # more is said
            await self.push_frame(
                InterimTranscriptionFrame(
                    result.transcript, self._user_id, time_now_iso8601(), Language.EN, result=result
                )
            )
            await self._handle_transcription(result.transcript, False, Language.EN)
            if isinstance(result, LikelyFinal):
                await self._push_eager_end_of_turn(
                    result.transcript, user_id=self._user_id, language=Language.EN, result=result
                )

    async def _take_final(self, result: Final) -> None:
        self._unanswered.answered(result.end_s)
        if result.transcript:
            if result.finalized:
                self.confirm_finalize()
            self._clear_eager_end_of_turn()
            await self.emit_stt_usage_metrics()
            await self.push_frame(
                TranscriptionFrame(
                    result.transcript,
                    self._user_id,
                    time_now_iso8601(),
                    Language.EN,
                    result=result,
                    finalized=self._turn_detection or result.end_s > self._spoken_s,  # none follows
                )
            )
            await self._handle_transcription(result.transcript, True, Language.EN)
        else:
            await self._cancel_eager_end_of_turn()
        await self._propose_end()

    async def _propose_end(self) -> None:
        if self._turn_open:
            self._turn_open = False
            await self.broadcast_frame(ProposedUserStoppedSpeakingFrame)

    async def _abandon_utterance(self) -> None:
        """End the turn of an utterance whose transcript will not come."""
        await self._cancel_eager_end_of_turn()
        await self._propose_end()

    @traced_stt
    async def _handle_transcription(self, transcript: str, is_final: bool, language: Language | None = None) -> None:
        """Where tracing looks on."""


def _category(error: CarryoverError) -> ErrorCategory:
    if isinstance(error, CheckKeyError):
        return ErrorCategory.AUTHENTICATION
    return ErrorCategory.INVALID_REQUEST if isinstance(error, ChangeRequestError) else ErrorCategory.CONNECTIVITY
