"""The client for programs with threads; `carryover.aio` has the same for asyncio."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar, Unpack, overload

import grpc

from carryover import messages
from carryover.audio import Audio, Clock, PathLike, format_of, read_audio, recording
from carryover.connect import OPTIONS, Credentials
from carryover.errors import ChangeRequestError, error_of
from carryover.messages import Endpointing, Entities, Entry, InlineContext, Options, Phrases, StreamOptions
from carryover.outbox import Outbox
from carryover.readiness import Readiness
from carryover.results import (
    ContextStatus,
    Embedding,
    PhraseReport,
    Recognition,
    Rescored,
    Result,
    ServerInfo,
    SpeechEvent,
)
from carryover.v1 import context_pb2, recognizer_pb2
from carryover.v1.context_pb2_grpc import ContextStub
from carryover.v1.recognizer_pb2 import StreamingRecognizeRequest as Request
from carryover.v1.recognizer_pb2_grpc import RecognizerStub

Item = TypeVar("Item")
AudioSource: TypeAlias = PathLike | Audio | Iterable[bytes]
"""A WAV file (others where soundfile is installed), samples, a microphone, or any iterable of pieces of raw samples."""


class Client:
    """A connection to a server, or to several replicas of one.

    Calls raise the errors of `carryover.errors`. A call that no server has begun to answer is repeated by itself, up to
    five times within its deadline, when the server says, or after 0.2 s and more. All of its methods may be called from
    several threads. Use it in a `with` statement, or `close` it.

    Args:
        target: HOST:PORT, or a gRPC target with several addresses, such as ipv4:10.0.0.1:50051,10.0.0.2:50051, which
            the calls take in turn; one that does not answer is passed over, and connected again when it is back.
        key: the bearer key. It is sent over TLS, or to this machine.
        ca: PEM file of the authority that signed the server's certificate. None: no TLS, unless `tls`.
        tls: TLS with the authorities that gRPC knows, where there is no `ca`.
        certificate: PEM file of the client's own certificate, for a server that asks for one.
        certificate_key: PEM file of its private key.
        deadline_s: of each call that is not a stream, seconds, repetitions included.

    Raises:
        ChangeRequestError: the target has no port, key, certificate and TLS do not fit together, or a file cannot be
            read. Its methods raise it too, once the client is closed.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        key: str | None = None,
        ca: PathLike | None = None,
        tls: bool = False,
        certificate: PathLike | None = None,
        certificate_key: PathLike | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        self._credentials = Credentials.load(
            target, key=key, ca=ca, tls=tls, certificate=certificate, certificate_key=certificate_key
        )
        self._deadline_s = deadline_s
        self._closed = False
        if self._credentials.tls:
            self._channel = grpc.secure_channel(target, self._credentials.tls, options=OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, options=OPTIONS)
        self._recognizer: Any = RecognizerStub(self._channel)  # type: ignore[no-untyped-call]
        self._context: Any = ContextStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end."""
        self._closed = True
        self._channel.close()

    @overload
    def stream(
        self,
        audio: AudioSource | None = None,
        *,
        voice_activity_events: Literal[False] = False,
        **options: Unpack[StreamOptions],
    ) -> Stream[Result]: ...
    @overload
    def stream(
        self,
        audio: AudioSource | None = None,
        *,
        voice_activity_events: bool,
        **options: Unpack[StreamOptions],
    ) -> Stream[Result | SpeechEvent]: ...
    def stream(
        self,
        audio: AudioSource | None = None,
        *,
        dialogue: str = "",
        turn: str = "",
        context: InlineContext | None = None,
        endpointing: Endpointing | None = None,
        voice_activity_events: bool = False,
        rate: int = 16_000,
        encoding: str = "LINEAR16",
        interim_results: bool = True,
        max_alternatives: int = 1,
        word_times: bool = False,
        phrases: Phrases = (),
        single_utterance: bool = False,
        automatic_punctuation: bool = False,
        real_time: bool = False,
        timeout_s: float | None = None,
    ) -> Stream[Any]:
        """Recognise audio while it comes in.

        The stream is opened at once, and opened again where no server accepts it. From then on it is not repeated,
        since only the caller knows which audio is still of use: where it breaks, it raises RetryLaterError, and a new
        stream of the same dialogue and turn goes on with its context.

        Args:
            audio: is iterated over in another thread. What it raises ends the stream, and is raised by it. None: it is
                given by `Stream.send`, until `Stream.end`.
            dialogue: whose context the turn is recognised with; empty: none.
            turn: this turn's own id, under which its events will be recorded; empty: the dialogue's latest context.
            context: a context that is not stored, in place of a dialogue's.
            endpointing: when utterances end; None: as the server is set.
            voice_activity_events: yield `SpeechBegin` and `SpeechEnd` too.
            rate: of pieces of raw samples, samples a second; files, `Audio` and microphones know theirs.
            encoding: of pieces of raw samples: LINEAR16, FLOAT32, MULAW or ALAW.
            interim_results: yield partial and likely final results too.
            max_alternatives: of final and likely final results, 1 to 32.
            word_times: fill `words`.
            phrases: expected phrases, or a mapping of phrases to their boosts, 0 to 20 nats.
            single_utterance: end after the first final result.
            automatic_punctuation: final and likely final results in written form.
            real_time: send no piece before the time at which it would have been spoken.
            timeout_s: of the whole stream; None: none.

        Returns:
            An iterator over the results, which also steers the stream.

        Raises:
            AudioError: the file cannot be read.
            ChangeRequestError: an argument cannot be used.
        """
        if isinstance(audio, str | os.PathLike):
            audio = read_audio(audio)
        rate, encoding = format_of(audio, rate, encoding)
        options = Options(
            rate, encoding, dialogue, turn, max_alternatives, word_times, phrases, automatic_punctuation,
            interim_results, single_utterance, context, endpointing, voice_activity_events,
        )  # fmt: skip
        pieces = None
        if audio is not None:
            pieces = _spoken(audio, rate, encoding) if real_time else iter(audio)
        outbox = Outbox(Request(config=messages.streaming_config(options)))
        metadata = self._credentials.metadata
        with self._starting():
            call = self._recognizer.StreamingRecognize(iter(outbox), timeout=timeout_s, metadata=metadata)
        call.add_done_callback(lambda _: outbox.close())
        if pieces is not None:
            threading.Thread(target=_feed, args=(pieces, outbox, call), name="carryover audio", daemon=True).start()
        return Stream(call, outbox, pushed=pieces is None)

    def recognize(
        self,
        audio: PathLike | bytes | Audio,
        *,
        dialogue: str = "",
        turn: str = "",
        context: InlineContext | None = None,
        endpointing: Endpointing | None = None,
        max_alternatives: int = 1,
        word_times: bool = False,
        phrases: Phrases = (),
        automatic_punctuation: bool = False,
        timeout_s: float | None = None,
    ) -> Recognition:
        """Recognise one recording as a whole; the arguments are those of `stream`.

        Args:
            audio: a file, or its content, as WAV, FLAC or Ogg, which the server reads; or samples.
            endpointing: the recording is cut into utterances so; None: it is one.
            timeout_s: instead of the client's deadline.

        Raises:
            AudioError: the file cannot be read.
        """
        content, rate, encoding = recording(audio)
        options = Options(
            rate, encoding, dialogue, turn, max_alternatives, word_times, phrases, automatic_punctuation,
            context=context, endpointing=endpointing,
        )  # fmt: skip
        request = messages.recognize_request(content, options)
        return messages.recognition_of(self._call(self._recognizer.Recognize, request, timeout_s))

    def record(
        self,
        dialogue: str,
        turn: str,
        *,
        user: str | None = None,
        reply: str | None = None,
        contacts: Sequence[str | Entry] = (),
        entities: Entities | None = None,
        transcribe: bool = False,
        speak: bool = False,
        expect_speech: bool = False,
        time: datetime | float | None = None,
        timeout_s: float | None = None,
    ) -> bool:
        """Record what happened in a turn, at once or in several calls.

        Recording the same again changes nothing: an event's id is its kind and a keyed hash of its content. The hash's
        key is the bearer key, or the certificate's; without either one of this client object's own, so that another
        object's events are other events. A reply or an utterance with another text is one more event; recorded after
        `expect_speech`, it has the context made anew.

        Args:
            dialogue: its id, 1 to 256 bytes.
            turn: its id, 1 to 256 bytes.
            user: what the user said, as the assistant understood it.
            reply: what the assistant answers or asks.
            contacts: people whom the user may name; short for `entities` of that signal.
            entities: what services know, by signal.
            transcribe: the recogniser is at work on the turn's speech.
            speak: the assistant starts to speak.
            expect_speech: the microphone will re-open: have the next turn's context made now.
            time: when it happened, seconds since 1970 or a datetime with its tzinfo; None: when the server gets it.
            timeout_s: instead of the client's deadline.

        Returns:
            Whether the turn expects speech, so that its context is being made.
        """
        request = messages.record_request(
            dialogue, turn, secret=self._credentials.secret, user=user, reply=reply, contacts=contacts,
            entities=entities, transcribe=transcribe, speak=speak, expect_speech=expect_speech, time=time,
        )  # fmt: skip
        return bool(self._call(self._context.RecordEvents, request, timeout_s).triggered)

    def status(self, dialogue: str, turn: str = "", *, timeout_s: float | None = None) -> ContextStatus:
        """How far a turn's context is; of no turn: of the latest one that expects speech.

        Raises NotFoundError when nothing of it is recorded.
        """
        request = context_pb2.GetContextStatusRequest(dialogue_id=dialogue, turn_id=turn)
        return messages.status_of(self._call(self._context.GetContextStatus, request, timeout_s))

    def wait_until_ready(self, dialogue: str, turn: str = "", timeout: float = 10.0) -> ContextStatus:
        """Wait until a turn's context is ready. No stream needs that: recognition itself never waits.

        Args:
            timeout: seconds.

        Raises:
            NotReadyError: it has failed, is too old, was not asked for, or is not ready in time; or a named turn's was
                dropped, or superseded by a newer turn's.
            NotFoundError: nothing of it is recorded.
        """
        readiness = Readiness(timeout, turn)
        while not readiness.reached(status := self.status(dialogue, turn, timeout_s=readiness.left_s)):
            time.sleep(readiness.pause_s())
        return status

    def embedding(self, dialogue: str, turn: str = "", *, timeout_s: float | None = None) -> Embedding:
        """A turn's context as vectors, for other models. Raises NotFoundError where there is none, or not yet."""
        request = context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue, turn_id=turn)
        return messages.embedding_of(self._call(self._context.GetContextEmbedding, request, timeout_s))

    def rescore(
        self,
        nbest: Sequence[str] | Sequence[tuple[str, float]],
        *,
        dialogue: str = "",
        turn: str = "",
        context: InlineContext | None = None,
        timeout_s: float | None = None,
    ) -> Rescored:
        """Order another recogniser's n-best list with a context.

        Args:
            nbest: texts, best first, each alone or with its log score.
            dialogue: whose context is taken.
            turn: the turn that the list is of; empty: the latest context.
            context: instead of a dialogue's.
            timeout_s: instead of the client's deadline.
        """
        request = messages.rescore_request(nbest, dialogue, turn, context)
        return messages.rescored_of(self._call(self._context.Rescore, request, timeout_s))

    def erase(self, dialogue: str, *, timeout_s: float | None = None) -> int:
        """Erase a dialogue; returns the number of items erased from the store, 0 when there was nothing."""
        request = context_pb2.DeleteDialogueRequest(dialogue_id=dialogue)
        return int(self._call(self._context.DeleteDialogue, request, timeout_s).items_deleted)

    def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """The version, the models and the limits of the server."""
        request = recognizer_pb2.GetServerInfoRequest()
        return messages.server_info_of(self._call(self._recognizer.GetServerInfo, request, timeout_s))

    def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        deadline_s = self._deadline_s if timeout_s is None else timeout_s
        try:
            with self._starting():
                return method(request, timeout=deadline_s, metadata=self._credentials.metadata)
        except grpc.RpcError as error:
            raise error_of(error) from error

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Around the start of a call; another thread may close the client meanwhile."""
        try:
            yield
        except ValueError:  # of gRPC, for a closed channel
            if self._closed:
                raise ChangeRequestError(messages.IS_CLOSED) from None
            raise


class Stream(Generic[Item]):
    """The results of a stream, as they come, and what steers it. Leaving the `with` statement, or `close`, ends it.

    Its methods may be called from several threads, results be taken in one.
    """

    phrase_report: PhraseReport | None = None
    """What became of the phrases, from the first result on, and anew after an update that changes them; None: there
    were none."""

    def __init__(self, call: Any, outbox: Outbox, *, pushed: bool) -> None:
        self._call = call
        self._outbox = outbox
        self._pushed = pushed
        self._results: deque[Any] = deque()
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        while not self._results:
            try:
                response = next(self._call)
            except grpc.RpcError as error:
                if self._outbox.broken is not None:
                    raise self._outbox.broken from None
                if self._closed:
                    raise StopIteration from None
                raise error_of(error) from error
            if response.HasField("speech_context_report"):
                self.phrase_report = messages.phrase_report_of(response.speech_context_report)
            self._results.extend(messages.yielded(response))
        item: Item = self._results.popleft()
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def send(self, piece: bytes) -> None:
        """Send a piece of audio, of a stream that was opened without any; of 0 bytes: nothing is said, but stay open.

        It waits while the server, or the connection, does not keep up. Once the server has ended the stream by itself
        (`single_utterance`), it has no effect.

        Args:
            piece: whole samples of the stream's encoding.

        Raises:
            CarryoverError: what broke the stream, when the results from before are read; ChangeRequestError after `end`
                or `close`, and where the stream has audio of its own.
        """
        if not self._pushed:
            raise ChangeRequestError(messages.HAS_AUDIO)
        self._put(Request(audio=piece))

    def finalize(self) -> None:
        """End the utterance now: a final result with `finalized` answers, behind those of the audio before.

        Audio that follows is the next utterance's. Raises as `send`.
        """
        self._put(Request(finalize=recognizer_pb2.Finalize()))

    def update(
        self,
        *,
        turn: str | None = None,
        phrases: Phrases | None = None,
        replace_phrases: bool = False,
        context: InlineContext | None = None,
        endpointing: Endpointing | None = None,
    ) -> None:
        """Go on otherwise from the next utterance on: one that has words already ends as it began.

        What is not given stays as it is. Raises as `send`.

        Args:
            turn: the turn that is recognised from now on, of the stream's dialogue; empty: the latest context.
            phrases: phrases beside those in use, or a mapping to their boosts.
            replace_phrases: `phrases` take the place of those in use; none given: no phrases any more.
            context: in place of the dialogue's or of an earlier one; an empty one: none any more.
            endpointing: in place of all of the one before.
        """
        update = messages.stream_update(
            turn=turn, phrases=phrases, replace_phrases=replace_phrases, context=context, endpointing=endpointing
        )
        self._put(Request(update=update))

    def end(self) -> None:
        """End the audio: the last final result follows. A source of audio is left where it is. May be repeated."""
        self._outbox.end()

    def close(self) -> None:
        """End the stream without waiting for further results; not an error when it has ended."""
        self._closed = True
        self._call.cancel()
        self._outbox.close()

    def _put(self, request: Request) -> None:
        if self._outbox.put(request):
            return
        if self._outbox.broken is not None:
            raise self._outbox.broken
        if self._closed or self._outbox.ended:
            raise ChangeRequestError(messages.HAS_ENDED)
        if self._call.code() is not grpc.StatusCode.OK:
            raise error_of(self._call)


def _feed(pieces: Iterator[bytes], outbox: Outbox, call: Any) -> None:
    """Send the pieces of a source of audio, which may block."""
    try:
        for piece in pieces:
            if not outbox.put(Request(audio=piece)):
                return
        outbox.end()
    except Exception as error:
        outbox.broken = error
        call.cancel()
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


def _spoken(audio: Iterable[bytes], rate: int, encoding: str) -> Iterator[bytes]:
    """Pieces, each when it has been spoken."""
    clock = Clock(rate, encoding)
    for piece in audio:
        time.sleep(clock.wait_s(piece))
        yield piece
