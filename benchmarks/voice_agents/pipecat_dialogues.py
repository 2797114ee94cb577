"""Dialogues of two turns in Pipecat's own `run_test`, for benchmarks.voice_agents.follow_ups.

It runs in an environment with Pipecat, the plugin and its client, and prints a line of JSON for each dialogue.
"""

import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    MetricsFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies

from carryover import Entry, read_audio
from pipecat_carryover import CarryoverContextObserver, CarryoverSTTService

EXAMPLE = Path(__file__).parents[2] / "clients/pipecat/example.py"
PARAMS = PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=16_000, enable_metrics=True)
PIECE_S, STOP_S, PATIENCE_S = 0.02, 0.2, 60.0
PIECE_BYTES = 640


def load(path: Path) -> Any:
    """A module of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Watch(BaseObserver):
    """Notes when what first happens."""

    def __init__(self, stt: CarryoverSTTService) -> None:
        super().__init__(observe_every_push=False)
        self.times: dict[str, float] = {}
        self.ttfs: list[float] = []
        self.replies = 0
        self._stt = stt
        self._watching: asyncio.Task[None] | None = None

    def at(self, name: str) -> None:
        self.times.setdefault(name, time.monotonic())

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, LLMFullResponseEndFrame):
            self.at("written")
            self._watching = self._watching or asyncio.create_task(self._watch())
        elif isinstance(data.frame, BotStoppedSpeakingFrame) and data.direction.name == "DOWNSTREAM":
            self.at("playback_ended")
            self.replies += 1
        elif isinstance(data.frame, MetricsFrame):
            ours = [one for one in data.frame.data if one.processor == self._stt.name]
            self.ttfs += [one.value for one in ours if isinstance(one, TTFBMetricsData) and one.value > 0]

    async def _watch(self) -> None:
        while not self._stt.dialogue._replied:
            await asyncio.sleep(0.001)
        await self._stt.dialogue.recorded()
        self.at("recorded")
        await self._stt._client.wait_until_ready(self._stt.dialogue.id)
        self.at("ready")


def until(holds: Callable[[], bool]) -> Iterator[Frame]:
    """Silence until something holds, or for a minute: an error would let `run_test` wait for ever."""
    for _ in range(int(PATIENCE_S / PIECE_S)):
        if holds():
            return
        yield from pieces(bytes(PIECE_BYTES))


def pieces(samples: bytes) -> Iterator[Frame]:
    """Audio, as fast as it is spoken."""
    for start in range(0, len(samples), PIECE_BYTES):
        yield InputAudioRawFrame(audio=samples[start : start + PIECE_BYTES], sample_rate=16_000, num_channels=1)
        yield SleepFrame(sleep=PIECE_S)


async def dialogue(server: str, recordings: Sequence[str], question: str, names: Sequence[str]) -> dict[str, Any]:
    """A dialogue with a voice activity detection that is always right, which needs 0.2 s of silence.

    Returns:
        `finals`: text and context's status of each; `ttfs`: seconds from the end of speech to the final transcript;
        `recorded`, `ready`, `playback_ended`, `answer_began`: seconds from the end of the language model's text.
    """
    example = load(EXAMPLE)
    stt = CarryoverSTTService(server=server)
    stt.set_entities("contacts", [Entry(name) for name in names])
    strategies = UserTurnStrategies(
        start=[VADUserTurnStartStrategy()], stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.05)]
    )
    user = LLMUserAggregatorParams(user_turn_strategies=strategies)
    context = LLMContextAggregatorPair(LLMContext(), user_params=user)
    output = example.Loudspeaker(TransportParams(audio_out_enabled=True, audio_out_end_silence_secs=0))
    llm = example.ScriptedLLM([question])
    pipeline = Pipeline([stt, context.user(), llm, example.SilentTTS(), output, context.assistant()])
    watch, room = Watch(stt), example.Room()

    def spoken() -> Iterator[Frame]:
        for number, path in enumerate(recordings, 1):
            if number == 2:
                watch.at("answer_began")
            yield VADUserStartedSpeakingFrame()
            yield from pieces(read_audio(path).samples)
            yield from pieces(bytes(int(STOP_S / PIECE_S) * PIECE_BYTES))
            yield VADUserStoppedSpeakingFrame(stop_secs=STOP_S)
            yield from until(lambda: bool(watch.replies) if number == 1 else len(room.transcripts) > 1)  # noqa: B023

    observers = [CarryoverContextObserver(stt), room, watch]
    await run_test(
        pipeline, frames_to_send=spoken(), observers=observers, pipeline_params=PARAMS, start_timeout=PATIENCE_S
    )
    written_s = watch.times.pop("written")
    finals = [[frame.text, frame.result.context.status] for frame in room.transcripts]
    since = {name: at_s - written_s for name, at_s in watch.times.items()}
    return {"finals": finals, "ttfs": watch.ttfs, **since}


def main() -> None:
    """Read a line of JSON, the arguments of a dialogue, and print one, until there are no more."""
    logger.remove()
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(asyncio.run(dialogue(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
