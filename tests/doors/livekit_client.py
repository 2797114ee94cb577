"""What tests/doors/test_frameworks.py runs in an environment of its own: LiveKit's plugin for NVIDIA, as it is.

A line of JSON is a stream of `nvidia.STT`, the line that it answers with the events that came of it.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.plugins import nvidia

RATE, FRAME_BYTES = 16_000, 640


async def transcribe(call: dict[str, Any]) -> list[Any]:
    audio = Path(call["audio"]).read_bytes()
    stream = nvidia.STT(server=call["target"], use_ssl=False, punctuate=call["punctuate"]).stream()
    for start in range(0, len(audio), FRAME_BYTES):
        piece = audio[start : start + FRAME_BYTES]
        stream.push_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
    stream.end_input()
    events = []
    async for event in stream:
        data = event.alternatives[0] if event.alternatives else None
        events.append([event.type.value, data and data.text, data and len(data.words or [])])
    await stream.aclose()
    return events


for line in iter(sys.stdin.readline, ""):
    result = {"responses": asyncio.run(transcribe(json.loads(line)))}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
