"""What tests/plugins/test_livekit.py runs in an environment of its own: LiveKit's sessions, without rooms.

A line of JSON is a run, the line that it answers with what came of it.
"""

import asyncio
import importlib.metadata
import importlib.util
import json
import logging
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectOptions, function_tool, llm, stt
from livekit.plugins.carryover import STT, ContextAgentMixin

from carryover import Endpointing

RATE, FRAME_BYTES = 16_000, 640
PATIENCE_S = 60.0
OPTIONS = APIConnectOptions(max_retry=2, retry_interval=0.2, timeout=10.0)


def load(path: str) -> Any:
    """A module of a file."""
    spec = importlib.util.spec_from_file_location("example", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


def frames(samples: bytes) -> list[rtc.AudioFrame]:
    return [
        rtc.AudioFrame(samples[start : start + FRAME_BYTES], RATE, 1, len(samples[start : start + FRAME_BYTES]) // 2)
        for start in range(0, len(samples), FRAME_BYTES)
    ]


def shown(event: Any) -> dict[str, Any]:
    data = event.alternatives[0] if event.alternatives else None
    made: dict[str, Any] = {"type": event.type.value}
    if data is not None:
        made |= {"text": data.text, "words": len(data.words or []), "confidence": data.confidence}
        made |= {"start": data.start_time, "end": data.end_time, "metadata": data.metadata}
    if event.recognition_usage:
        made["seconds"] = event.recognition_usage.audio_duration
    return made


async def stream(call: dict[str, Any]) -> dict[str, Any]:
    """A stream alone: audio, flushes and changes, one after the other."""
    if "endpointing" in call.get("options", {}):
        call["options"]["endpointing"] = Endpointing(**call["options"]["endpointing"])
    owner = STT(server=call["target"], **call.get("options", {}))
    errors: list[list[Any]] = []

    def noted(event: Any) -> None:
        errors.append([type(event.error).__name__, event.recoverable, str(event.error)])

    owner.on("error", noted)
    made = owner.stream(conn_options=replace(OPTIONS, timeout=call.get("timeout_s", OPTIONS.timeout)))
    events: list[dict[str, Any]] = []

    async def collect() -> None:
        async for event in made:
            events.append(shown(event))

    def happened(kind: str, count: int) -> bool:
        return [event["type"] for event in events].count(kind) >= count

    collecting = asyncio.create_task(collect())
    for what, *given in call["steps"]:
        if what == "audio":
            for frame in frames(Path(given[0]).read_bytes()):
                made.push_frame(frame)
        elif what == "stereo":  # at 48 kHz, whose second channel is silent
            samples = Path(given[0]).read_bytes()
            wide = b"".join(3 * (samples[place : place + 2] + b"\0\0") for place in range(0, len(samples), 2))
            made.push_frame(rtc.AudioFrame(wide, 48_000, 2, len(wide) // 4))
        elif what == "silence":
            for frame in frames(bytes(int(given[0] * RATE) * 2)):
                made.push_frame(frame)
        elif what == "nothing":
            await asyncio.sleep(given[0])
        elif what == "flush":
            made.flush()
        elif what == "wait":
            await until(partial(happened, *given))
        elif what == "error":
            await until(lambda: errors)
        elif what == "keyterms":
            owner._update_session_keyterms(given[0])
            await asyncio.gather(*made._updating)
        elif what == "options":
            owner.update_options(endpointing=Endpointing(**given[0]))
            await asyncio.gather(*made._updating)
        else:
            raise AssertionError(what)
    if not collecting.done():
        made.end_input()
    ended = await asyncio.gather(collecting, return_exceptions=True)
    await owner.aclose()
    return {"events": events, "errors": errors, "ended": type(ended[0]).__name__}


async def recognize(call: dict[str, Any]) -> dict[str, Any]:
    """Audio at once; of two channels, the second is silent."""
    owner = STT(server=call["target"])
    mono = frames(Path(call["audio"]).read_bytes())
    stereo = [
        rtc.AudioFrame(b"".join(bytes(one) + b"\0\0" for one in pairs(frame)), RATE, 2, frame.samples_per_channel)
        for frame in mono
    ]
    made = [shown(await owner.recognize(buffer, conn_options=OPTIONS)) for buffer in (mono, stereo)]
    await owner.aclose()
    return {"events": made}


def pairs(frame: rtc.AudioFrame) -> list[bytes]:
    samples = bytes(memoryview(frame.data).cast("B"))
    return [samples[place : place + 2] for place in range(0, len(samples), 2)]


class Session:
    """A session of the example's parts."""

    def __init__(self, call: dict[str, Any], example: Any, replies: list[str]) -> None:
        self.stt = STT(server=call["target"])
        self.microphone, self.loudspeaker = example.Microphone(), example.Loudspeaker()
        self.assistant = example.Assistant()
        behind = call.get("adapter") == "fallback"
        self.session: AgentSession = AgentSession(
            stt=stt.FallbackAdapter([STT(server="127.0.0.1:1"), self.stt]) if behind else self.stt,
            llm=example.ScriptedLLM(replies),
            tts=example.SilentTTS(),
            turn_handling={"turn_detection": "stt"},
            vad=None,
        )
        self.session.input.audio, self.session.output.audio = self.microphone, self.loudspeaker

    async def close(self) -> None:
        await self.session.aclose()
        await self.stt.aclose()


async def dialogue(call: dict[str, Any]) -> dict[str, Any]:
    """A dialogue of the benchmark."""
    held: dict[str, Any] = await load(call["benchmark"]).dialogue(**call["dialogue"])
    return held


async def interruption(call: dict[str, Any]) -> dict[str, Any]:
    """The agent says something of its own and is cut short."""
    example = load(call["example"])
    held = Session(call, example, [])
    end = held.loudspeaker.on_playback_finished
    held.loudspeaker.on_playback_finished = lambda **given: end(**given, synchronized_transcript=call["spoken"])
    await held.session.start(held.assistant)
    handle = held.session.say(call["text"])
    await until(lambda: held.loudspeaker._pushed_s > 0)
    await held.stt.dialogue.recorded()
    if call["cut"]:
        await handle.interrupt()
    await handle
    await held.close()
    return {"dialogue": held.stt.dialogue.id, "turn": held.stt.dialogue.turn}


class Shouting(ContextAgentMixin, Agent):
    """Has a node of its own."""

    async def transcription_node(self, text: AsyncIterable[str], model_settings: Any) -> AsyncIterator[str]:
        async for piece in text:
            yield piece.upper()


class Behind(Agent, ContextAgentMixin):
    """Has its bases the other way round."""


async def early(call: dict[str, Any]) -> dict[str, Any]:
    """What an agent says, until it is recorded; it is being spoken then."""
    held = Session(call, load(call["example"]), [])
    agents = {"Shouting": Shouting, "Behind": Behind}
    await held.session.start(agents[call["agent"]](instructions="") if "agent" in call else held.assistant)
    handle = held.session.say(call["text"])
    await until(lambda: held.stt.dialogue._replied)
    await held.stt.dialogue.recorded()
    spoken = handle.done()
    await handle.interrupt()
    await held.close()
    return {"dialogue": held.stt.dialogue.id, "turn": held.stt.dialogue.turn, "spoken": spoken}


async def tool(call: dict[str, Any]) -> dict[str, Any]:
    """The language model calls a function before it replies."""
    example = load(call["example"])

    class CallingReply(example.ScriptedReply):  # type: ignore[name-defined]
        async def _run(self) -> None:
            called = llm.FunctionToolCall(name="find_contacts", arguments="{}", call_id="1")
            self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(tool_calls=[called])))

    class CallingLLM(example.ScriptedLLM):  # type: ignore[name-defined]
        called = False

        def chat(self, *, chat_ctx: Any, tools: Any = None, conn_options: Any = OPTIONS, **kwargs: Any) -> Any:
            if self.called:
                return super().chat(chat_ctx=chat_ctx, tools=tools, conn_options=conn_options, **kwargs)
            self.called = True
            return CallingReply(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    class Finder(example.Assistant):  # type: ignore[name-defined]
        @function_tool
        async def find_contacts(self) -> Any:
            """Find contacts."""
            return call["result"]

    held = Session(call, example, [])
    held.session = AgentSession(
        stt=held.stt, llm=CallingLLM(["Which one?"]), tts=example.SilentTTS(),
        turn_handling={"turn_detection": "stt"}, vad=None,
    )  # fmt: skip
    held.session.input.audio, held.session.output.audio = held.microphone, held.loudspeaker
    held.stt.follow_tools(held.session, {"find_contacts": "contacts"})
    await held.session.start(Finder())
    await held.session.generate_reply(user_input="call meg")
    await held.stt.dialogue.recorded()
    await held.close()
    return {"dialogue": held.stt.dialogue.id, "turn": held.stt.dialogue.turn}


async def pasted(call: dict[str, Any]) -> dict[str, Any]:
    """The README's snippet, with everything that it takes from elsewhere."""
    example = load(call["example"])
    names: dict[str, Any] = {"llm": example.ScriptedLLM([]), "tts": example.SilentTTS()}
    exec(compile(call["code"], "pasted", "exec"), names)
    await names["session"].aclose()
    await names["stt"].aclose()
    bases = [base.__name__ for base in names["Assistant"].__mro__[1:3]]
    return {"assistant": bases, "entities": list(names["stt"].dialogue._entities)}


async def version(call: dict[str, Any]) -> str:
    return importlib.metadata.version(call["distribution"])


logging.disable(logging.WARNING)
CALLS = {call.__name__: call for call in (stream, recognize, dialogue, interruption, early, tool, pasted, version)}
for line in iter(sys.stdin.readline, ""):
    if line == "go on\n":  # what replaced a server has done so
        continue
    told = json.loads(line)
    result = {"responses": [asyncio.run(CALLS[told["do"]](told))]}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
