"""What tests/doors/test_frameworks.py runs in an environment of its own: Pipecat's service for NVIDIA, as it is.

A line of JSON is a run of Pipecat's own `run_test`, the line that it answers with the frames that came of it.
"""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loguru import logger
from pipecat.frames.frames import Frame, InputAudioRawFrame, InterimTranscriptionFrame, TranscriptionFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.worker import PipelineParams
from pipecat.services.nvidia.stt import NvidiaSTTService
from pipecat.tests.utils import SleepFrame, run_test

RATE, FRAME_BYTES = 16_000, 640
PATIENCE = 3000
"""So many naps are taken at most until something happens."""


class Heard(BaseObserver):
    """Counts final transcripts."""

    count = 0

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, TranscriptionFrame) and isinstance(data.source, NvidiaSTTService):
            self.count += 1


def spoken(audio: bytes, finals: int, observer: Heard, go_on: threading.Event) -> Iterator[Frame]:
    """The audio, once it may come, and naps until there are so many transcripts."""
    for _ in range(PATIENCE):
        if go_on.is_set():
            break
        yield SleepFrame(sleep=0.02)
    for start in range(0, len(audio), FRAME_BYTES):
        yield InputAudioRawFrame(audio=audio[start : start + FRAME_BYTES], sample_rate=RATE, num_channels=1)
    for _ in range(PATIENCE):
        if observer.count >= finals:
            return
        yield SleepFrame(sleep=0.02)


async def transcribe(call: dict[str, Any], go_on: threading.Event) -> list[Any]:
    service = NvidiaSTTService(
        server=call["target"],
        api_key=call.get("key"),
        use_ssl=False,
        custom_configuration=call.get("custom", ""),
        settings=NvidiaSTTService.Settings(**call.get("settings", {})),
    )
    observer = Heard()
    frames, _ = await run_test(
        service,
        frames_to_send=spoken(Path(call["audio"]).read_bytes(), call["finals"], observer, go_on),
        observers=[observer],
        pipeline_params=PipelineParams(audio_in_sample_rate=RATE),
        start_timeout=60.0,
    )
    kinds = (InterimTranscriptionFrame, TranscriptionFrame)
    return [[type(one).__name__, one.text] for one in frames if isinstance(one, kinds)]


def wait_for_line(go_on: threading.Event) -> None:
    assert sys.stdin.readline() == "go on\n"
    go_on.set()


logger.remove()
for line in iter(sys.stdin.readline, ""):
    told, go_on = json.loads(line), threading.Event()
    waiting = threading.Thread(target=wait_for_line, args=(go_on,))
    if told["hold"]:
        waiting.start()
    else:
        go_on.set()
    result = {"responses": asyncio.run(transcribe(told, go_on))}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
