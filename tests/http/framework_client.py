"""What tests/http/test_frameworks.py runs in a framework's environment: its own service for OpenAI, as it is.

A line of JSON is a recording, the line that it answers with the interim and the final transcripts that came of it.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

RATE, FRAME_BYTES = 16_000, 640


async def pipecat(call: dict[str, Any]) -> list[Any]:
    from loguru import logger
    from pipecat.frames.frames import InputAudioRawFrame, InterimTranscriptionFrame, TranscriptionFrame
    from pipecat.observers.base_observer import BaseObserver, FramePushed
    from pipecat.pipeline.worker import PipelineParams
    from pipecat.services.openai.stt import OpenAIRealtimeSTTService
    from pipecat.tests.utils import SleepFrame, run_test

    logger.remove()
    service = OpenAIRealtimeSTTService(
        api_key=call["key"], base_url=f"{call['target']}/realtime".replace("http", "ws"),
        turn_detection={"type": "server_vad", "silence_duration_ms": 300},
    )  # fmt: skip

    texts: list[Any] = []

    class Heard(BaseObserver):
        async def on_push_frame(self, data: FramePushed) -> None:
            if isinstance(data.frame, InterimTranscriptionFrame | TranscriptionFrame) and data.source is service:
                texts.append([type(data.frame).__name__, data.frame.text])

    def spoken() -> Any:
        audio = Path(call["audio"]).read_bytes()
        for start in range(0, len(audio), FRAME_BYTES):
            yield InputAudioRawFrame(audio=audio[start : start + FRAME_BYTES], sample_rate=RATE, num_channels=1)
            yield SleepFrame(sleep=0.001)
        for _ in range(3000):
            if any(kind == "TranscriptionFrame" for kind, _ in texts):
                return
            yield SleepFrame(sleep=0.02)

    params = PipelineParams(audio_in_sample_rate=RATE)
    await run_test(service, frames_to_send=spoken(), observers=[Heard()], pipeline_params=params, start_timeout=60.0)
    return texts


async def livekit(call: dict[str, Any]) -> list[Any]:
    from livekit import rtc
    from livekit.agents.utils import http_context
    from livekit.plugins import openai

    audio = Path(call["audio"]).read_bytes()
    texts: list[Any] = []
    async with http_context.open():
        service = openai.STT(use_realtime=True, base_url=call["target"], api_key=call["key"], model="gpt-4o-transcribe")
        stream = service.stream()
        for start in range(0, len(audio), FRAME_BYTES):
            piece = audio[start : start + FRAME_BYTES]
            stream.push_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
        async with asyncio.timeout(60):
            async for event in stream:
                if event.alternatives:
                    texts.append([event.type.value, event.alternatives[0].text])
                if event.type.value == "final_transcript":
                    break
        with contextlib.suppress(Exception):
            await stream.aclose()
    return texts


for line in iter(sys.stdin.readline, ""):
    told = json.loads(line)
    result = {"responses": asyncio.run({"pipecat": pipecat, "livekit": livekit}[told["do"]](told))}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
