"""A voice agent without any cloud: a recorded user, a scripted agent, and Carryover in between.

    ./scripts/serve
    pip install soundfile
    python clients/livekit/example.py

The user says "call Meg", the agent asks back for two seconds, the user answers "Bauer". It prints each transcript, and
the status of the context that it was recognised with. No room is needed. Another server, and other recordings of
16 kHz, may be given:

    python clients/livekit/example.py HOST:PORT FIRST.wav ANSWER.wav
"""

import asyncio
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent, AgentSession, APIConnectOptions, llm, stt, tts
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from livekit.plugins.carryover import STT, ContextAgentMixin

from carryover import Audio, Entry, read_audio

RECORDINGS = Path(__file__).parents[2] / "server/demo/audio"
RATE, PIECE_S, SPEECH_S = 16_000, 0.02, 2.0
SAMPLES = int(RATE * PIECE_S)
SILENCE = bytes(SAMPLES * 2)


class ScriptedLLM(llm.LLM):
    """Says one reply after the other, word by word as a language model does."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__()
        self._replies = iter(replies)

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: Any = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **kwargs: Any,
    ) -> llm.LLMStream:
        stream = ScriptedReply(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)
        stream.text = next(self._replies, "Done.")
        return stream


class ScriptedReply(llm.LLMStream):
    text: str

    async def _run(self) -> None:
        for word in self.text.split():
            delta = llm.ChoiceDelta(role="assistant", content=f"{word} ")
            self._event_ch.send_nowait(llm.ChatChunk(id="scripted", delta=delta))


class SilentTTS(tts.TTS):
    """Speaks everything as two seconds of silence."""

    def __init__(self) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1)

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return SilentSpeech(tts=self, input_text=text, conn_options=conn_options)


class SilentSpeech(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(request_id=uuid.uuid4().hex, sample_rate=RATE, num_channels=1, mime_type="audio/pcm")
        output_emitter.push(bytes(int(RATE * SPEECH_S) * 2))
        output_emitter.flush()


class Loudspeaker(AudioOutput):
    """Takes as long as the audio lasts."""

    def __init__(self) -> None:
        super().__init__(label="loudspeaker", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.silent = asyncio.Event()
        self._pushed_s = self._started_s = 0.0
        self._ending: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._pushed_s:
            self._started_s = asyncio.get_running_loop().time()
        self._pushed_s += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._pushed_s:
            end_s = self._started_s + self._pushed_s
            self._ending = asyncio.get_running_loop().call_at(end_s, self._end, self._pushed_s, False)

    def clear_buffer(self) -> None:
        if self._pushed_s:
            played_s = asyncio.get_running_loop().time() - self._started_s
            self._end(min(played_s, self._pushed_s), True)

    def _end(self, played_s: float, interrupted: bool) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._pushed_s = 0.0
        self.silent.set()
        self.on_playback_finished(playback_position=played_s, interrupted=interrupted)


class Microphone(AudioInput):
    """What the user says, and silence in between."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._pending = b""
        self._count, self._start_s = 0, asyncio.get_running_loop().time()

    def say(self, samples: bytes) -> None:
        self._pending = samples

    async def __anext__(self) -> rtc.AudioFrame:
        self._count += 1
        await asyncio.sleep(max(0.0, self._start_s + self._count * PIECE_S - asyncio.get_running_loop().time()))
        piece, self._pending = self._pending[: len(SILENCE)], self._pending[len(SILENCE) :]
        return rtc.AudioFrame(piece.ljust(len(SILENCE), b"\0"), RATE, 1, SAMPLES)


class Assistant(ContextAgentMixin, Agent):
    """Notices the transcripts."""

    def __init__(self) -> None:
        super().__init__(instructions="Ask back.")
        self.transcripts: list[stt.SpeechData] = []
        self.transcribed = asyncio.Event()

    async def stt_node(self, audio: Any, model_settings: Any) -> Any:
        async for event in Agent.default.stt_node(self, audio, model_settings):
            if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and event.alternatives[0].text:
                self.transcripts.append(event.alternatives[0])
                self.transcribed.set()
            yield event


async def converse(server: str, recordings: Sequence[Audio], replies: Sequence[str]) -> list[stt.SpeechData]:
    """A whole dialogue; its transcripts."""
    recogniser = STT(server=server)
    recogniser.set_entities("contacts", [Entry("Meg Jones", id="18"), Entry("Meg Bauer", id="17")])
    session: AgentSession = AgentSession(
        stt=recogniser, llm=ScriptedLLM(replies), tts=SilentTTS(), turn_handling={"turn_detection": "stt"}, vad=None
    )
    microphone, loudspeaker, assistant = Microphone(), Loudspeaker(), Assistant()
    session.input.audio, session.output.audio = microphone, loudspeaker
    await session.start(assistant)
    for number, recording in enumerate(recordings, 1):
        assistant.transcribed.clear()
        loudspeaker.silent.clear()
        microphone.say(recording.samples)
        ended = loudspeaker.silent if number < len(recordings) else assistant.transcribed
        await asyncio.wait_for(ended.wait(), 60)
    await session.aclose()
    await recogniser.aclose()
    return assistant.transcripts


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
    for data in asyncio.run(converse(server, recordings, [question])):
        print(data.metadata["context"]["status"], data.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
