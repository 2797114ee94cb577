"""Dialogues of two turns in LiveKit's sessions, without rooms, for benchmarks.voice_agents.follow_ups.

It runs in an environment with LiveKit Agents, the plugin and its client, and prints a line of JSON for each dialogue.
"""

import asyncio
import importlib.util
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from livekit.agents import AgentSession
from livekit.plugins.carryover import STT

from carryover import Entry, read_audio

EXAMPLE = Path(__file__).parents[2] / "clients/livekit/example.py"
PATIENCE_S = 60.0


def load(path: Path) -> Any:
    """A module of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


async def dialogue(server: str, recordings: Sequence[str], question: str, names: Sequence[str]) -> dict[str, Any]:
    """A dialogue whose turns the server's endpointing ends.

    Returns:
        `finals`: text and context's status of each; `recorded`, `ready`, `playback_ended`, `answer_began`: seconds from
        the end of the language model's text.
    """
    example = load(EXAMPLE)
    stt, times = STT(server=server), dict[str, float]()
    stt.set_entities("contacts", [Entry(name) for name in names])
    microphone, loudspeaker, assistant = example.Microphone(), example.Loudspeaker(), example.Assistant()
    llm = example.ScriptedLLM([question])
    session: AgentSession = AgentSession(
        stt=stt, llm=llm, tts=example.SilentTTS(), turn_handling={"turn_detection": "stt"}, vad=None
    )
    session.input.audio, session.output.audio = microphone, loudspeaker

    def at(name: str) -> None:
        times.setdefault(name, time.monotonic())

    async def watch() -> None:
        await until(lambda: stt.dialogue._replied)
        await stt.dialogue.recorded()
        at("recorded")
        await stt._client.wait_until_ready(stt.dialogue.id)
        at("ready")

    llm.on("metrics_collected", lambda metrics: at("written"))
    loudspeaker.on("playback_finished", lambda event: at("playback_ended"))
    watching = asyncio.create_task(watch())
    await session.start(assistant)
    first, second = (read_audio(path).samples for path in recordings)
    microphone.say(first)
    await until(lambda: "playback_ended" in times)
    at("answer_began")
    microphone.say(second)
    await until(lambda: len(assistant.transcripts) == 2)
    await watching
    await session.aclose()
    await stt.aclose()
    written_s = times.pop("written")
    finals = [[data.text, data.metadata["context"]["status"]] for data in assistant.transcripts]
    return {"finals": finals, **{name: at_s - written_s for name, at_s in times.items()}}


def main() -> None:
    """Read a line of JSON, the arguments of a dialogue, and print one, until there are no more."""
    logging.disable(logging.WARNING)
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(asyncio.run(dialogue(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
