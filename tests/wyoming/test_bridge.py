"""The Wyoming library's own client through a bridge to a real server."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping

from asr.audio import read_container
from carryover.audio import linear16
from carryover_wyoming import satellite
from carryover_wyoming.bridge import MOST_CONNECTIONS
from tests.wyoming.conftest import RATE, Running, answers, bridge, recording, run, send, transcribed, until

DEMO = Path(__file__).parents[2] / "server/demo/audio"
CALL_MEG, BAUER = (linear16(read_container(DEMO / f"{name}.flac")[0]) for name in ("call_meg", "bauer"))


def texts(shared: Any, audio: bytes, **config: Any) -> list[str]:
    """Our own final transcripts of a stream."""
    return [text for result in shared.finals(audio, **config) if (text := result.alternatives[0].transcript)]


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def test_it_says_what_it_is(shared: Any) -> None:
    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            (program,) = Info.from_event(event).asr
            assert program.name == "carryover" and program.installed and program.supports_transcript_streaming
            assert program.requires_external_vad and [model.languages for model in program.models] == [["en"]]
            assert program.models[0].name == "tiny"
            await send(client, [Ping("there?").event(), Event("nobody-knows-this", {"a": 1}, b"payload")])
            pong = await client.read_event()
            assert pong is not None and (pong.type, pong.data) == ("pong", {"text": "there?"})
        async with bridge(shared.port, ends_itself=True) as running, running.connect() as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None and not Info.from_event(event).asr[0].requires_external_vad

    run(work())


def test_a_recording_is_transcribed_as_by_a_stream(shared: Any, pcm: bytes) -> None:
    audio = pcm + bytes(2 * RATE) + pcm
    expected = texts(shared, audio)

    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            for _ in range(2):  # one connection, one recording after the other
                await send(client, [Transcribe(language="en-US").event(), *recording(audio)])
                events = await answers(client)
                chunks = [event.data["text"] for event in events if event.type == "transcript-chunk"]
                assert types(events) == [
                    "transcript-start", *["transcript-chunk"] * len(expected), "transcript", "transcript-stop",
                ]  # fmt: skip
                assert "".join(chunks) == events[-2].data["text"] == " ".join(expected)
                assert events[-2].data["language"] == "en" and "context" not in events[-2].data

    assert len(expected) > 1
    run(work())


def test_chunks_come_before_the_audio_ends(shared: Any, pcm: bytes) -> None:
    """An utterance that has ended is told at once; what was told never changes."""

    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            *events, stop = recording(pcm + bytes(4 * RATE))
            await send(client, events)
            early = await answers(client, "transcript-chunk")
            assert types(early) == ["transcript-start", "transcript-chunk"]
            await client.write_event(stop)
            assert types(await answers(client))[-2:] == ["transcript", "transcript-stop"]

    run(work())


def test_any_format(shared: Any, pcm: bytes) -> None:
    samples = np.frombuffer(pcm, "<i2")
    wide = samples.astype(np.int32) << 16
    stereo = np.stack([samples, samples], 1)
    forms = {
        (RATE, 4, 1): wide.astype("<i4").tobytes(),
        (RATE, 3, 1): wide.astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes(),
        (RATE, 2, 2): stereo.astype("<i2").tobytes(),
        (6 * RATE, 2, 3): np.repeat(np.repeat(samples, 6)[:, None], 3, 1).astype("<i2").tobytes(),
    }
    expected = " ".join(texts(shared, pcm))
    repeated = " ".join(texts(shared, np.repeat(samples, 3).tobytes(), sample_rate_hertz=3 * RATE))

    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            for form, audio in forms.items():
                await send(client, recording(audio, form, chunk=1001))  # no whole samples in a chunk
                (transcript,) = [event for event in await answers(client) if event.type == "transcript"]
                assert transcript.data["text"] == (expected if form[0] == RATE else repeated), form

    run(work())


def test_silence_and_nothing(shipped: Any) -> None:
    async def work() -> None:
        async with bridge(shipped.port) as running, running.connect() as client:
            empty = AudioChunk(RATE, 2, 1, b"").event()
            start, stop = AudioStart(RATE, 2, 1).event(), AudioStop().event()
            for events in ([start, stop], [start, empty, stop], recording(bytes(RATE))):
                await send(client, events)
                answered = await answers(client)
                assert types(answered) == ["transcript-start", "transcript", "transcript-stop"]
                assert answered[1].data["text"] == ""

    run(work())


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([Transcribe(language="de").event()], "language: 'de' is not recognised here; send en"),
        ([Transcribe(vad_sensitivity="loud").event()], "vad_sensitivity: send aggressive, default, relaxed"),
        ([Event("transcribe", {"vad_sensitivity": ["default"]})], "vad_sensitivity: send aggressive, default, relaxed"),
        ([Transcribe(context={"turn_id": "2"}).event()], "context: send dialogue_id and turn_id as strings"),
        ([SelectProgram("whisper").event()], "name: the program here is carryover"),
        (recording(b"\0" * 100, (4000, 2, 1)), "rate: send 8000 to 768000"),
        (recording(b"\0" * 100, (RATE, 5, 1)), "width: send 1 to 4"),
        (recording(b"\0" * 100, (RATE, 2, 0)), "channels: send 1 to 16"),
        ([*recording(b"\0" * 100)[:2], recording(b"\0" * 100, (8000, 2, 1))[1]], "one rate, width and number"),
    ],
)
def test_what_cannot_be_honoured_is_named(shared: Any, events: list[Event], told: str) -> None:
    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            await send(client, [SelectProgram("carryover").event(), *events])
            (error,) = [event for event in await answers(client) if event.type == "error"]
            assert told in error.data["text"] and error.data["code"] == "bad-request"
            assert await client.read_event() is None

    run(work())


def test_a_text_without_an_encoding_is_told(shared: Any) -> None:
    async def work() -> None:
        async with bridge(shared.port) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b'{"type": "ping", "data": {"text": "\\ud800"}}\n')
            assert b'"bad-request"' in await reader.read()
            writer.close()

    run(work())


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[1]\n",
        b'{"type": 5}\n',
        b"[" * 60_000 + b"\n",
        b'{"type": "x", "data_length": 99999999}\n',
        b'{"type": "x", "payload_length": -1}\n',
        b'{"type": "x", "payload_length": true}\n{}',
        b"x" * 70_000,
    ],
)
def test_what_is_no_event_ends_its_connection_alone(shared: Any, line: bytes) -> None:
    async def work() -> None:
        async with bridge(shared.port) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(line)
            writer.write_eof()
            answer = json.loads((await reader.read()).split(b"\n")[0] or b"null")
            assert answer is None or answer["type"] == "error"
            writer.close()
            async with running.connect() as client:
                await client.write_event(Ping().event())
                assert await client.read_event() is not None

    run(work())


@pytest.mark.parametrize("left", [errno.ENOTCONN, errno.EHOSTUNREACH])
def test_whoever_has_left_is_no_error_of_the_bridge(
    shared: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, left: int
) -> None:
    """A client that is told why, and has closed already; one whose network is gone."""

    def gone(_: object) -> None:
        raise OSError(left, "gone")

    async def work() -> None:
        async with bridge(shared.port) as running:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.StreamWriter, "write_eof", gone)
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(b"garbage\n")
                assert b'"bad-request"' in await reader.read()
                writer.close()
            await until(lambda: not running.bridge._satellites)
            async with running.connect():
                await until(lambda: running.bridge._satellites)
                (satellite,) = running.bridge._satellites.values()
                satellite._reader.set_exception(OSError(left, "gone"))
                await until(lambda: not running.bridge._satellites)

    run(work())
    assert "a connection failed" not in caplog.text


def test_names_and_terms_become_phrases(shared: Any, pcm: bytes) -> None:
    """The tiny server's context puts its first entry before everything."""

    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            await send(client, [Transcribe(transcript_names=["Meg Bauer", 5, "☃"], transcript_terms=["Jysk"]).event()])  # type: ignore[list-item]
            *events, stop = recording(pcm)
            await send(client, events)
            await until(lambda: shared.encoder.seen and shared.encoder.seen[-1].entries)
            context = shared.encoder.seen[-1]
            assert [(entry.signal, entry.text, entry.weight) for entry in context.entries] == [
                ("names", "Meg Bauer", 1.0), ("names", "Jysk", pytest.approx(0.3)),
            ]  # fmt: skip
            await client.write_event(stop)
            assert "meg bauer" in (await answers(client))[-2].data["text"]
            assert await transcribed(client, pcm) == {"text": " ".join(texts(shared, pcm)), "language": "en"}

    run(work())


def test_a_dialogue_passes_through_both_ways(shared: Any, pcm: bytes, dialogue: str) -> None:
    shared.ask(dialogue, "1", "meg bauer")
    shared.wait_for("READY", dialogue)

    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            place = {"dialogue_id": dialogue, "turn_id": "2"}
            *events, stop = recording(pcm)
            await send(client, [Transcribe(context=place).event(), *events])
            await asyncio.to_thread(shared.run, shared.store_answered())
            await client.write_event(stop)
            (transcript,) = [event.data for event in await answers(client) if event.type == "transcript"]
            assert transcript["context"] == {**place, "status": "APPLIED"}
            assert transcript["text"].startswith("meg bauer")

    run(work())


@pytest.mark.parametrize(("sensitivity", "text"), [("aggressive", "call meg"), ("relaxed", None)])
def test_silence_ends_a_command(shipped: Any, sensitivity: str, text: str | None) -> None:
    """The transcript comes without audio-stop; what follows is dropped until then."""

    async def work() -> None:
        async with bridge(shipped.port) as running, running.connect() as client:
            *events, stop = recording(CALL_MEG + bytes(RATE) + BAUER)
            await send(client, [Transcribe(vad_sensitivity=sensitivity).event(), *events])
            if text is not None:
                assert (await answers(client))[-2].data["text"] == text
            await client.write_event(stop)
            if text is None:
                assert (await answers(client))[-2].data["text"].startswith("call meg ")
            await client.write_event(Ping().event())
            pong = await client.read_event()
            assert pong is not None and pong.type == "pong"

    run(work())


def test_the_bridge_may_end_commands_by_itself(shipped: Any) -> None:
    async def work() -> None:
        async with bridge(shipped.port, ends_itself=True) as running, running.connect() as client:
            await send(client, recording(CALL_MEG + bytes(4 * RATE))[:-1])
            assert (await answers(client))[-2].data["text"] == "call meg"

    run(work())


async def vanish(running: Running, events: list[Event]) -> None:
    """A client that goes away without a word."""
    client = running.connect()
    await client.connect()
    await send(client, events)
    assert client._writer is not None
    connection = client._writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client._writer.transport.abort()


def test_a_satellite_that_vanishes_harms_nobody(shared: Any, pcm: bytes) -> None:
    async def work() -> None:
        async with bridge(shared.port) as running:
            for count in range(1, 4):
                await vanish(running, recording(pcm)[: -count * 2])
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b'{"type": "audio-chunk", "data_length": 50}\n{"rate"')
            writer.close()
            async with running.connect() as client:
                assert (await transcribed(client, pcm))["text"] == " ".join(texts(shared, pcm))
            await until(lambda: not running.bridge._satellites)
            await until(lambda: not shared.server.streams.running)

    run(work())


def test_a_satellite_that_falls_silent_is_told(shared: Any, pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(satellite, "SILENT_S", 0.5)

    async def work() -> None:
        async with bridge(shared.port) as running, running.connect() as client:
            await send(client, recording(pcm)[:3])
            events = await answers(client)
            assert events[-1].type == "error" and events[-1].data["code"] == "timeout"
        await until(lambda: not shared.server.streams.running)

    run(work())


def test_a_satellite_that_reads_nothing_is_left(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers fill the connection; then it is given up, and others are served meanwhile."""
    monkeypatch.setattr(satellite, "_WRITE_S", 0.5)

    async def work() -> None:
        async with bridge(shared.port) as running:
            client = running.connect()
            await client.connect()
            assert client._writer is not None

            async def flood() -> None:
                ping = Ping("x" * 60_000).event()
                while True:
                    await client.write_event(ping)

            flooding = asyncio.get_running_loop().create_task(flood())
            async with running.connect() as other:
                await other.write_event(Ping().event())
                assert await other.read_event() is not None
            with pytest.raises(ConnectionError):
                await flooding
            client._writer.transport.abort()

    run(work())


def test_too_many_connections_are_refused(shared: Any) -> None:
    async def work() -> None:
        async with bridge(shared.port) as running:
            async with AsyncExitStack() as stack:
                for _ in range(MOST_CONNECTIONS):
                    await stack.enter_async_context(running.connect())
                await until(lambda: len(running.bridge._satellites) == MOST_CONNECTIONS)
                refused = await stack.enter_async_context(running.connect())
                await refused.write_event(Ping().event())
                event = await refused.read_event()
                assert event is not None and (event.type, event.data["code"]) == ("error", "busy")
            await until(lambda: not running.bridge._satellites)

    run(work())


def test_a_server_that_goes_away_and_comes_back(workshop: Any, pcm: bytes) -> None:
    """A recording under way fails with a reason; the next ones reach whoever listens on the port then."""
    replica = workshop.start()
    expected = " ".join(texts(replica, pcm))

    async def work() -> None:
        async with bridge(replica.port) as running:
            async with running.connect() as client:
                await send(client, recording(pcm)[:3])
                assert (await answers(client, "transcript-start"))[-1].type == "transcript-start"
                await until(lambda: replica.server.streams.running)
                await asyncio.to_thread(replica.run, replica.server._started[0].stop(0))
                error = (await answers(client))[-1]
                assert error.type == "error" and error.data["code"] in ("UNAVAILABLE", "CANCELLED")
            again = await asyncio.to_thread(workshop.start, port=replica.port)
            assert again.port == replica.port
            async with running.connect() as client:
                assert (await transcribed(client, pcm))["text"] == expected

    run(work())
