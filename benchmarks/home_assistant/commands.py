"""Measures how many spoken commands Home Assistant understands, with the names of the house and without.

python -m recipes.sets.home runs/home --kokoro VOICES
python -m benchmarks.home_assistant.commands runs/home
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient

from asr.evaluation.wer import Errors, align, count
from benchmarks.home_assistant.house import House, load_house
from benchmarks.home_assistant.judge import JudgeError, Meaning, judge_of
from benchmarks.server.finalize import server_cpu_ms
from benchmarks.server.processes import ProcessError, server_process
from carryover import Final, aio
from carryover_wyoming.bridge import Address, Bridge, info
from carryover_wyoming.names import Names
from carryover_wyoming.recognition import Recognition

app = typer.Typer(add_completion=False)
_err = Console(stderr=True, highlight=False)
_PIECE_S = 0.064


@dataclass(frozen=True)
class Command:
    """A spoken command."""

    text: str
    rate: int
    audio: bytes

    def pieces(self) -> list[bytes]:
        """As a satellite sends it."""
        size = 2 * int(self.rate * _PIECE_S)
        return [self.audio[start : start + size] for start in range(0, len(self.audio), size)]


@dataclass
class Found:
    """What one way of asking gave."""

    texts: list[str] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0


@dataclass(frozen=True)
class KnownNames:
    """The names of a house that does not change."""

    names: Names

    async def current_names(self) -> Names:
        """All of them."""
        return self.names


@app.command()
def main(
    audio: Annotated[Path, typer.Argument(help="Folder with WAV files and the texts beside them.", show_default=False)],
    at_once: Annotated[int, typer.Option(min=1, help="Satellites that speak at once, in real time.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result here.")] = None,
) -> None:
    """Say the commands to a stream, to a bridge, and to a bridge that knows the names of the house.

    Understood is a command whose text gives the intent and the slots that its own words give. wait_ms is from the last
    sample to the transcript (median), cpu_ms what the server computes for a command (mean, Linux). Settings of the
    server come from CARRYOVER_* variables.
    """
    house = load_house()
    try:
        judge = judge_of(house)
        commands = [read_command(path) for path in sorted(audio.glob("*.wav"))]
        if not commands:
            raise FileNotFoundError(f"{audio}: no WAV files; make them with python -m recipes.sets.home")
        with server_process({"CARRYOVER_STORE__ENDPOINT": "local"}) as server:
            found = asyncio.run(_measure(f"127.0.0.1:{server.port}", server.process.pid, commands, house, at_once))
    except (JudgeError, ProcessError, OSError) as error:
        typer.echo(f"commands: {error}", err=True)
        raise typer.Exit(2) from None
    result: dict[str, Any] = {name: summary(commands, one, judge) for name, one in found.items()}
    result["load_average"] = round(os.getloadavg()[0], 2)
    if json_file:
        texts = [
            {"text": c.text, **{name: one.texts[i] for name, one in found.items()}} for i, c in enumerate(commands)
        ]
        json_file.write_text(json.dumps({**result, "commands": texts}, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(result))


def read_command(path: Path) -> Command:
    """A recording of 16 bits, and its text."""
    with wave.open(str(path)) as file:
        return Command(path.with_suffix(".txt").read_text().strip(), file.getframerate(), file.readframes(1 << 30))


def summary(commands: list[Command], found: Found, judge: Callable[[str], Meaning | None]) -> dict[str, Any]:
    """How much was understood."""
    meant = [judge(command.text) for command in commands]
    unclear = [command.text for command, meaning in zip(commands, meant, strict=True) if meaning is None]
    if unclear:
        raise JudgeError(f"Home Assistant does not understand {unclear[0]!r} as written")
    understood = sum(judge(text) == meaning for text, meaning in zip(found.texts, meant, strict=True))
    errors = [count(align(command.text, text)) for command, text in zip(commands, found.texts, strict=True)]
    return {
        "commands": len(commands),
        "understood": understood,
        "wer": round(100 * sum(errors, Errors()).rate, 1),
        "wait_ms": round(statistics.median(found.waits_ms)),
        "cpu_ms": round(found.cpu_ms / len(commands)),
    }


async def _measure(target: str, pid: int, commands: list[Command], house: House, at_once: int) -> dict[str, Found]:
    async with aio.Client(target) as client:
        ways: dict[str, Any] = {"stream": lambda command: _stream(client, command)}
        async with _bridge(client, None) as plain, _bridge(client, KnownNames(Names(house.things()))) as knowing:
            ways |= {
                "bridge": lambda command: _transcribe(plain, command),
                "bridge_with_names": lambda command: _transcribe(knowing, command),
            }
            found = {}
            for name, way in ways.items():
                before_ms = server_cpu_ms(pid)
                found[name] = await _all(name, commands, way, at_once)
                found[name].cpu_ms = server_cpu_ms(pid) - before_ms
            return found


async def _all(name: str, commands: list[Command], way: Callable[[Command], Any], at_once: int) -> Found:
    found, room = Found(), asyncio.Semaphore(at_once)

    async def one(command: Command) -> tuple[str, float]:
        async with room:
            text, ended_s = await way(command)
            return text, 1000 * (time.monotonic() - ended_s)

    tasks = [asyncio.ensure_future(one(command)) for command in commands]
    for task in track(tasks, f"{name:>18}", console=_err):
        text, wait_ms = await task
        found.texts.append(text)
        found.waits_ms.append(wait_ms)
    return found


async def _stream(client: aio.Client, command: Command) -> tuple[str, float]:
    async with client.stream(rate=command.rate, interim_results=False) as stream:
        await _in_real_time(command, stream.send)
        ended_s = time.monotonic()
        await stream.end()
        finals = [result.transcript async for result in stream if isinstance(result, Final)]
    return " ".join(filter(None, finals)), ended_s


async def _transcribe(port: int, command: Command) -> tuple[str, float]:
    form = (command.rate, 2, 1)
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(AudioStart(*form).event())
        await _in_real_time(command, lambda piece: client.write_event(AudioChunk(*form, piece).event()))
        ended_s = time.monotonic()
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if event.type == "transcript":
                return event.data["text"], ended_s
            if event.type == "error":
                raise ProcessError(event.data["text"])
    raise ProcessError("the bridge left")


async def _in_real_time(command: Command, send: Callable[[bytes], Any]) -> None:
    start_s = time.monotonic()
    for number, piece in enumerate(command.pieces(), 1):
        await asyncio.sleep(max(0.0, start_s + number * _PIECE_S - time.monotonic()))
        await send(piece)


@asynccontextmanager
async def _bridge(client: aio.Client, names: KnownNames | None) -> AsyncIterator[int]:
    server = await client.server_info()
    bridge = Bridge(info(server, ends_itself=False), Recognition(client, server, names=names))
    address = await bridge.listen(Address("127.0.0.1", 0, None))
    try:
        yield address.port
    finally:
        await bridge.drain(0.0)


if __name__ == "__main__":
    app()
