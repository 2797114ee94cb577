"""A voice agent without any cloud: a recorded user, a scripted assistant, and Carryover in between.

    ./scripts/serve
    python clients/pipecat/example.py

The user says "call Meg", the assistant asks back for two seconds, the user answers "Bauer". It prints each transcript,
and the status of the context that it was recognised with. Another server, and other recordings of 16 kHz, may be given:

    python clients/pipecat/example.py HOST:PORT FIRST.wav ANSWER.wav
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from carryover import Audio, read_audio
from pipecat_carryover import CarryoverContextObserver, CarryoverSTTService

RECORDINGS = Path(__file__).parents[2] / "server/demo/audio"
RATE, PIECE_S, SPEECH_S = 16_000, 0.02, 2.0
SILENCE = bytes(int(RATE * PIECE_S) * 2)


class ScriptedLLM(LLMService):
    """Says one reply after the other, word by word as a language model does."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__(settings=LLMSettings())
        self._replies = iter(replies)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        for word in next(self._replies, "Done.").split():
            await self.push_frame(LLMTextFrame(f"{word} "))
        await self.push_frame(LLMFullResponseEndFrame())


class SilentTTS(TTSService):
    """Speaks each sentence as two seconds of silence."""

    def __init__(self, **kwargs: Any) -> None:
        settings = TTSSettings(model=None, voice=None, language=None)
        ends = {"push_start_frame": True, "push_stop_frames": True, "stop_frame_timeout_s": 0.2}
        super().__init__(settings=settings, **ends, **kwargs)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        samples = bytes(int(self.sample_rate * SPEECH_S) * 2)
        yield TTSAudioRawFrame(samples, self.sample_rate, 1, context_id=context_id)


class Loudspeaker(BaseOutputTransport):
    """Takes as long as the audio lasts."""

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await asyncio.sleep(len(frame.audio) / 2 / frame.sample_rate)
        return True


class Room(BaseObserver):
    """Notices transcripts and the end of what the assistant says."""

    def __init__(self) -> None:
        super().__init__(observe_every_push=False)
        self.transcripts: list[TranscriptionFrame] = []
        self.transcribed, self.silent = asyncio.Event(), asyncio.Event()

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, TranscriptionFrame):
            self.transcripts.append(data.frame)
            self.transcribed.set()
        elif isinstance(data.frame, BotStoppedSpeakingFrame):
            self.silent.set()


async def speak(worker: PipelineWorker, room: Room, recordings: Sequence[Audio]) -> None:
    """The microphone: what the user says, each time when the assistant has ended, and silence in between."""
    loop = asyncio.get_running_loop()
    start_s, count = loop.time(), 0

    async def push(samples: bytes) -> None:
        nonlocal count
        for place in range(0, len(samples), len(SILENCE)):
            piece = samples[place : place + len(SILENCE)].ljust(len(SILENCE), b"\0")
            await worker.queue_frame(InputAudioRawFrame(piece, RATE, 1))
            count += 1
            await asyncio.sleep(max(0.0, start_s + count * PIECE_S - loop.time()))

    for number, recording in enumerate(recordings, 1):
        room.transcribed.clear()
        room.silent.clear()
        await push(recording.samples)
        ended = room.silent if number < len(recordings) else room.transcribed
        while not ended.is_set():
            await push(SILENCE)


async def converse(server: str, recordings: Sequence[Audio], replies: Sequence[str]) -> Room:
    """A whole dialogue."""
    stt = CarryoverSTTService(server=server, turn_detection=True)
    stt.set_entities("contacts", ["Meg Jones", "Meg Bauer"])
    context = LLMContextAggregatorPair(LLMContext())
    output = Loudspeaker(TransportParams(audio_out_enabled=True, audio_out_end_silence_secs=0))
    pipeline = Pipeline([stt, context.user(), ScriptedLLM(replies), SilentTTS(), output, context.assistant()])
    room = Room()
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
        observers=[CarryoverContextObserver(stt), room],
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_pipeline_started(worker: PipelineWorker, frame: StartFrame) -> None:
        started.set()

    async def talk() -> None:
        await started.wait()
        await speak(worker, room, recordings)
        await worker.stop_when_done()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())
    return room


def read(path: str | Path) -> Audio:
    """A recording, as the microphone has it."""
    audio = read_audio(path)
    if (audio.rate, audio.encoding) != (RATE, "LINEAR16"):
        raise SystemExit(f"{path}: give a recording of 16 kHz with 16 bits a sample")
    return audio


def main(server: str = "127.0.0.1:50051", *files: str) -> None:
    """Print what was recognised, and with which context."""
    question = "Do you mean Meg Jones or Meg Bauer?"
    recordings = [read(file) for file in files or (RECORDINGS / "call_meg.flac", RECORDINGS / "bauer.flac")]
    room = asyncio.run(converse(server, recordings, [question]))
    for frame in room.transcripts:
        print(frame.result.context.status, frame.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
