"""One connection of a client: a satellite, Home Assistant, a program."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Info
from wyoming.ping import Ping, Pong

from carryover import CarryoverError, DeadlineError, Final
from carryover_wyoming.audio import AudioFormat, AudioFormatError, Converter
from carryover_wyoming.events import ProtocolError, read_event
from carryover_wyoming.recognition import LANGUAGE, Recognition, Utterance
from carryover_wyoming.request import Request, RequestError

_log = logging.getLogger(__name__)

SILENT_S = 30.0
"""Seconds without an event, while audio is coming in, after which a client counts as gone."""

_WRITE_S, _LINGER_S, _ANSWER_S = 10.0, 2.0, 30.0


class Satellite:
    """Answers the events of one connection, one recording after the other.

    Args:
        info: what the program says of itself.
        recognition: opens streams in the server.

    Attributes:
        busy: a recording is under way, or its answer.
        last: no other recording follows the one that is under way.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        info: Info,
        recognition: Recognition,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._info = info
        self._recognition = recognition
        self._writing = asyncio.Lock()
        self._request: Request | None = None
        self._recording: _Recording | None = None
        self.busy = False
        self.last = False

    async def run(self) -> None:
        """Answer events until the client leaves, or must."""
        try:
            while not (self.last and not self.busy) and (event := await self._next()) is not None:
                await self._take(event)
        except (ProtocolError, RequestError, AudioFormatError) as error:
            await self._refuse(str(error), "bad-request")
        except CarryoverError as error:
            _log.warning("recognition failed: %s: %s", error.code or type(error).__name__, error)
            await self._refuse(f"recognition failed: {error}", error.code or type(error).__name__)
        except TimeoutError:
            await self._refuse(f"nothing came for {SILENT_S:g} s in the middle of a recording", "timeout")
        except OSError:
            pass
        finally:
            if self._recording is not None:
                await self._recording.close()
            await self._close()

    async def turn_away(self) -> None:
        """Take nothing: there are too many connections."""
        await self._refuse("there are too many connections; try again later", "busy")
        await self._close()

    async def _refuse(self, why: str, code: str) -> None:
        """Say why nothing follows. Clients that know no `error` see the connection end."""
        with suppress(OSError):
            await self._write(Error(why, code))
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER_S):  # closed with audio unread, the reason would be lost on its way
                while await self._reader.read(1 << 16):
                    pass

    async def _close(self) -> None:
        """End the connection; what was not taken in time is lost."""
        self._writer.close()
        try:
            async with asyncio.timeout(_WRITE_S):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()

    async def _next(self) -> Event | None:
        """The next event; None: the client has left. Raises what ended the recording."""
        recording = self._recording
        if recording is None:
            return await read_event(self._reader)
        reading = asyncio.ensure_future(read_event(self._reader))
        try:
            async with asyncio.timeout(SILENT_S):
                await asyncio.wait({reading, recording.answering}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    recording.answering.result()  # of a recording that failed nothing more is read
                return await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)  # one at a time may read

    async def _take(self, event: Event) -> None:
        match event.type:
            case "describe":
                await self._write(self._info)
            case "ping":
                await self._write(Pong(Ping.from_event(event).text))
            case "select-program":
                known = [program.name for program in self._info.asr]
                if event.data.get("name") not in known:
                    raise RequestError(f"name: the program here is {', '.join(known)}")
            case "transcribe":
                self._request = self._recognition.request(event.data)
            case "audio-start":
                await self._drop()
                self.busy = True
            case "audio-chunk":
                await self._audio(event)
            case "audio-stop":
                await self._stop()

    async def _audio(self, event: Event) -> None:
        self.busy = True
        if not event.payload:
            return
        form = AudioFormat(*(event.data.get(name, 0) for name in AudioFormat._fields))
        if self._recording is None:
            converter = Converter(form)
            utterance = await self._recognition.open(self._request, converter.rate)
            self._recording = _Recording(converter, utterance, self._write)
        if form != self._recording.converter.format:
            raise AudioFormatError("a recording has one rate, width and number of channels")
        await self._recording.send(event.payload)

    async def _stop(self) -> None:
        if self._recording is not None:
            await self._recording.stop()
            await self._drop()
        elif self.busy:
            for answer in (TranscriptStart(), Transcript(""), TranscriptStop()):
                await self._write(answer)
        self._request, self.busy = None, False

    async def _drop(self) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            await recording.close()

    async def _write(self, answer: Eventable) -> None:
        try:
            async with self._writing, asyncio.timeout(_WRITE_S):
                await async_write_event(answer.event(), self._writer)
        except TimeoutError:
            self._writer.transport.abort()
            raise ConnectionAbortedError("the client takes no answer") from None


class _Recording:
    """A recording under way.

    Attributes:
        answering: the task that sends the transcript when it is there; it raises what broke the stream.
    """

    def __init__(
        self, converter: Converter, utterance: Utterance, write: Callable[[Eventable], Awaitable[None]]
    ) -> None:
        self.converter = converter
        self._utterance = utterance
        self._write = write
        self._ended_s: float | None = None
        self._text = ""
        self.answering = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        """Send each final result as a chunk, since only those never change, then all of it.

        Clients that know no chunks drop them.
        """
        finals: list[Final] = []
        await self._write(TranscriptStart(language=LANGUAGE))
        async for result in self._utterance.stream:
            if isinstance(result, Final):
                if result.transcript:
                    await self._write(TranscriptChunk(" " * any(f.transcript for f in finals) + result.transcript))
                finals.append(result)
        self._text = " ".join(final.transcript for final in finals if final.transcript)
        await self._write(Transcript(self._text, self._utterance.context(finals), LANGUAGE))
        await self._write(TranscriptStop())
        late_ms = None if self._ended_s is None else round(1000 * (time.monotonic() - self._ended_s))
        statuses = sorted({final.context.status for final in finals})
        _log.info("answered: %s results, context %s, %s ms after the audio", len(finals), ",".join(statuses), late_ms)

    async def send(self, piece: bytes) -> None:
        """Send audio on; once the transcript is out, drop it."""
        if not self.answering.done():
            with suppress(CarryoverError):  # `answering` says what it was
                await self._utterance.stream.send(self.converter.convert(piece))

    async def stop(self) -> None:
        """The client's audio has ended. Returns when the transcript is out."""
        self._ended_s = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._utterance.stream.end()
                await self.answering
        except TimeoutError:
            raise DeadlineError(f"the server gave no final result in {_ANSWER_S:g} s", code="TIMEOUT") from None

    async def close(self) -> None:
        """Leave the stream."""
        if not self._text:
            self._utterance.unanswered()
        self.answering.cancel()
        await self._utterance.stream.close()
        await asyncio.gather(self.answering, return_exceptions=True)
