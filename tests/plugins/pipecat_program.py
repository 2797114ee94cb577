"""What tests/plugins/test_pipecat.py runs in an environment of its own: runs of Pipecat's own `run_test`.

A line of JSON is a run, the line that it answers with what came of it.
"""

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.frames import frames as fr
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transports.base_transport import TransportParams

from carryover import read_audio
from pipecat_carryover import CarryoverContextObserver, CarryoverSTTService

RATE, FRAME_BYTES = 16_000, 640
PATIENCE = 3000
"""So many naps are taken at most until something happens."""
PARAMS = PipelineParams(
    audio_in_sample_rate=RATE, audio_out_sample_rate=RATE, enable_metrics=True, enable_usage_metrics=True
)


def load(path: str) -> Any:
    """A module of a file."""
    spec = importlib.util.spec_from_file_location("example", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Seen(BaseObserver):
    """Counts what happens."""

    def __init__(self) -> None:
        super().__init__(observe_every_push=False)
        self.counts: dict[str, int] = {}
        self.last_s = 0.0

    def take(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    async def on_push_frame(self, data: FramePushed) -> None:
        if data.direction is FrameDirection.DOWNSTREAM or isinstance(data.frame, fr.ErrorFrame):
            self.take(type(data.frame).__name__)


class SilentTTS(TTSService):
    """Speaks without a sound."""

    def __init__(self) -> None:
        super().__init__(settings=TTSSettings(model=None, voice=None, language=None))

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[fr.Frame | None, None]:
        yield None


class Guard(FrameProcessor):
    """Writes a reply anew before it is spoken."""

    async def process_frame(self, frame: fr.Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, fr.LLMTextFrame):
            return
        if isinstance(frame, fr.LLMFullResponseEndFrame):
            await self.push_frame(fr.TextFrame("Whom do you"))
            await self.push_frame(fr.TextFrame("mean?"))
        await self.push_frame(frame, direction)


class Classifier(FrameProcessor):
    """A language model that writes for others than the user."""

    async def process_frame(self, frame: fr.Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, fr.LLMContextUserTurnFrame):
            await self.push_frame(fr.LLMFullResponseStartFrame())
            await self.push_frame(fr.LLMTextFrame("CONVERSATION"))
            await self.push_frame(fr.LLMFullResponseEndFrame())


class Dropped(FrameProcessor):
    """Where its text ends."""

    async def process_frame(self, frame: fr.Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, fr.LLMTextFrame | fr.LLMFullResponseStartFrame | fr.LLMFullResponseEndFrame):
            await self.push_frame(frame, direction)


def audio_frames(samples: bytes) -> Iterator[fr.Frame]:
    for start in range(0, len(samples), FRAME_BYTES):
        yield fr.InputAudioRawFrame(audio=samples[start : start + FRAME_BYTES], sample_rate=RATE, num_channels=1)


def until(holds: Any, what: object = "") -> Iterator[fr.Frame]:
    for _ in range(PATIENCE):
        if holds():
            return
        yield SleepFrame(sleep=0.02)
    raise AssertionError(f"what was waited for did not happen: {what}")


def without_end(frames: Iterator[fr.Frame], failed: list[str]) -> Iterator[fr.Frame]:
    """The frames until something does not happen; an error would let `run_test` wait for ever."""
    try:
        yield from frames
    except AssertionError as error:
        failed.append(str(error))


def scripted(steps: list[Any], stt: CarryoverSTTService, seen: Seen) -> Iterator[fr.Frame]:
    """The frames of a run, one step after the other."""
    for what, *given in steps:
        if what == "audio":
            yield from audio_frames(Path(given[0]).read_bytes())
        elif what == "stereo":  # whose second channel is silent
            samples = Path(given[0]).read_bytes()
            both = b"".join(samples[place : place + 2] + b"\0\0" for place in range(0, len(samples), 2))
            yield fr.UserAudioRawFrame(audio=both, sample_rate=RATE, num_channels=2, user_id="Meg")
        elif what == "silence":
            yield from audio_frames(bytes(int(given[0] * RATE) * 2))
        elif what == "nothing":
            yield SleepFrame(sleep=given[0])
        elif what == "started":
            yield fr.VADUserStartedSpeakingFrame()
        elif what == "stopped":
            yield fr.VADUserStoppedSpeakingFrame(stop_secs=0.2)
        elif what in ("write", "write unspoken"):
            written = [fr.LLMFullResponseStartFrame(), *map(fr.LLMTextFrame, given), fr.LLMFullResponseEndFrame()]
            for frame in written:
                frame.skip_tts = what == "write unspoken"
                yield frame
        elif what == "wait":
            yield from until(lambda name=given[0], count=given[1]: seen.counts.get(name, 0) >= count, given)
        elif what == "recorded":
            yield from until(lambda: stt.dialogue._recording is not None and stt.dialogue._recording.done())
        elif what == "settings":
            delta = stt.Settings(**given[0])
            yield fr.STTUpdateSettingsFrame(delta=delta)
            wanted = delta.given_fields()
            yield from until(lambda wanted=wanted: wanted.items() <= stt._settings.given_fields().items())
        elif what == "time":
            seen.last_s = time.monotonic()
        elif what == "frame":
            yield getattr(fr, given[0])(**given[1])
        else:
            raise AssertionError(what)


async def run(call: dict[str, Any]) -> dict[str, Any]:
    """The service alone, with steps."""
    settings = CarryoverSTTService.Settings(**call.get("settings", {}))
    stt = CarryoverSTTService(server=call["target"], settings=settings, **call.get("service", {}))
    for signal, entries in call.get("entities", {}).items():
        stt.set_entities(signal, entries)
    seen, errors, failed = Seen(), [], list[str]()

    @stt.event_handler("on_connected")
    async def on_connected(stt: CarryoverSTTService) -> None:
        seen.take("connected")

    @stt.event_handler("on_connection_error")
    async def on_connection_error(stt: CarryoverSTTService, message: str) -> None:
        seen.take("broken")

    @stt.event_handler("on_error")
    async def on_error(stt: CarryoverSTTService, error: fr.ErrorFrame) -> None:
        errors.append([error.category.value if error.category else "", error.error])

    observers: list[BaseObserver] = [seen]
    if call.get("observed", True):
        observers.append(CarryoverContextObserver(stt, tools=call.get("tools")))
    behind: dict[str, list[FrameProcessor]] = {
        "": [],
        "tts": [SilentTTS()],
        "guard": [Guard(), SilentTTS()],
        "classifier": [ParallelPipeline([Classifier(), Dropped()], [SilentTTS()], [SilentTTS()])],
    }
    frames, _ = await run_test(
        Pipeline([stt, *behind[call.get("behind", "")]]),
        frames_to_send=without_end(scripted(call["steps"], stt, seen), failed),
        observers=observers,
        pipeline_params=PARAMS,
        start_timeout=60.0,
    )
    return {
        "frames": [shown(one) for one in frames if not isinstance(one, fr.InputAudioRawFrame)],
        "errors": errors,
        "failed": failed,
        "connected": seen.counts.get("connected", 0),
        "ended_s": time.monotonic() - seen.last_s,
        "dialogue": stt.dialogue.id,
        "turn": stt.dialogue.turn,
    }


def shown(frame: fr.Frame) -> dict[str, Any]:
    made: dict[str, Any] = {"type": type(frame).__name__}
    if isinstance(frame, fr.TranscriptionFrame | fr.InterimTranscriptionFrame | fr.EagerTranscriptionFrame):
        made["text"] = frame.text
        made["result"] = type(frame.result).__name__
        made["words"] = len(frame.result.words) if frame.result else 0
    if isinstance(frame, fr.TranscriptionFrame) and frame.result:
        made["finalized"] = frame.finalized
        made["end_s"] = frame.result.end_s
        made["status"] = frame.result.context.status
        made["turn"] = frame.result.context.context_turn
        made["signals"] = sorted({word.signal for word in frame.result.context.biased_words})
    if isinstance(frame, fr.STTMetadataFrame):
        made["strategies"] = type(frame.user_turn_strategies).__name__
        made["ttfs"] = frame.ttfs_p99_latency
    if isinstance(frame, fr.MetricsFrame):
        made["metrics"] = [type(one).__name__ for one in frame.data]
    return made


async def dialogue(call: dict[str, Any]) -> dict[str, Any]:
    """A dialogue of the benchmark."""
    held: dict[str, Any] = await load(call["benchmark"]).dialogue(**call["dialogue"])
    return held


async def barge_in(call: dict[str, Any]) -> dict[str, Any]:
    """The user answers in the middle of the question, of which the speech synthesis reports each word."""
    example = load(call["example"])

    class Timed(example.SilentTTS):  # type: ignore[name-defined]
        async def run_tts(self, text: str, context_id: str) -> Any:
            await self.start_word_timestamps()
            times = [(word, 0.25 * place) for place, word in enumerate(text.split())]
            await self.add_word_timestamps(times, context_id)
            async for frame in super().run_tts(text, context_id):
                yield frame

    stt = CarryoverSTTService(server=call["target"], turn_detection=True)
    stt.set_entities("contacts", ["Meg Jones", "Meg Bauer"])
    recorded: list[dict[str, Any]] = []
    record = stt._client.record

    async def noted(dialogue: str, turn: str, **events: Any) -> bool:
        recorded.append({"turn": turn, "user": events.get("user"), "reply": events.get("reply")})
        return await record(dialogue, turn, **events)

    stt._client.record = noted  # type: ignore[method-assign]
    context = LLMContextAggregatorPair(LLMContext())
    output = example.Loudspeaker(TransportParams(audio_out_enabled=True, audio_out_end_silence_secs=0))
    llm, tts = example.ScriptedLLM([call["question"]]), Timed(push_text_frames=False)
    pipeline = Pipeline([stt, context.user(), llm, tts, output, context.assistant()])
    room, seen = example.Room(), Seen()

    def in_real_time(samples: bytes) -> Iterator[fr.Frame]:
        for frame in audio_frames(samples):
            yield frame
            yield SleepFrame(sleep=0.02)

    def silence(holds: Callable[[], bool]) -> Iterator[fr.Frame]:
        for _ in range(PATIENCE):
            if not holds():
                yield from in_real_time(bytes(FRAME_BYTES))

    def spoken() -> Iterator[fr.Frame]:
        first, second = (read_audio(path).samples for path in call["recordings"])
        yield from in_real_time(first)
        yield from silence(lambda: bool(seen.counts.get("BotStartedSpeakingFrame")))
        yield from in_real_time(bytes(20 * FRAME_BYTES))
        yield from in_real_time(second)
        yield from silence(lambda: len(room.transcripts) > 1)

    await run_test(
        pipeline,
        frames_to_send=spoken(),
        observers=[CarryoverContextObserver(stt), seen, room],
        pipeline_params=PARAMS,
        start_timeout=60.0,
    )
    finals = [[frame.text, frame.result.context.status] for frame in room.transcripts]
    return {"finals": finals, "recorded": recorded}


async def pasted(call: dict[str, Any]) -> dict[str, Any]:
    """The README's snippet, with everything that it takes from elsewhere."""
    example = load(call["example"])

    class Transport:
        def input(self) -> Any:
            return example.Loudspeaker(TransportParams())

        def output(self) -> Any:
            return example.Loudspeaker(TransportParams())

    user, assistant = LLMContextAggregatorPair(LLMContext())
    names: dict[str, Any] = {
        "transport": Transport(), "user_aggregator": user, "assistant_aggregator": assistant,
        "llm": example.ScriptedLLM([]), "tts": example.SilentTTS(),
    }  # fmt: skip
    exec(compile(call["code"], "pasted", "exec"), names)
    await names["stt"].cleanup()
    return {"worker": type(names["worker"]).__name__, "entities": list(names["stt"].dialogue._entities)}


logger.remove()
CALLS = {call.__name__: call for call in (run, dialogue, barge_in, pasted)}
for line in iter(sys.stdin.readline, ""):
    if line == "go on\n":  # what replaced a server has done so
        continue
    told = json.loads(line)
    result = {"responses": [asyncio.run(CALLS[told["do"]](told))]}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
