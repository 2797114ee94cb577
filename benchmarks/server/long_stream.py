"""Plays hours of speech and silence on one stream, as fast as they are recognised: memory, and what is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from rich.console import Console

from asr.audio import SAMPLE_RATE, Samples
from asr.audio.samples import Resampler
from benchmarks.server.finalize import shipped_clips
from benchmarks.server.waits import BenchmarkError
from carryover.audio import linear16
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1 import recognizer_pb2_grpc
from server.hosting import HostError, running
from server.memory import trim
from server.settings import ConfigError, Settings, load_settings

app = typer.Typer(add_completion=False)
_err = Console(stderr=True, highlight=False)
_PIECE = 2 * SAMPLE_RATE // 5
"""Bytes of a message: 0.2 s."""
_SAMPLED_S = 60.0
"""Seconds of audio from one look at the memory to the next."""
_SETTLED = 0.25
"""Share of the run before memory counts: allocators, caches."""
_NOISE = 3e-4
_LEAST_GAP_S, _MOST_GAP_S = 1.5, 30.0


@dataclass
class Played:
    """What a run brought."""

    spoken: list[tuple[float, float]] = field(default_factory=list)
    """Where each utterance is, seconds."""
    heard: list[tuple[float, float]] = field(default_factory=list)
    """Where each final result with words is."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """(hours of audio, MB of the server)."""
    audio_s: float = 0.0
    wall_s: float = 0.0

    @property
    def lost(self) -> list[tuple[float, float]]:
        """Utterances without a final result."""
        return [(s, e) for s, e in self.spoken if not any(start < e and end > s for start, end in self.heard)]

    @property
    def slope(self) -> float:
        """MB an hour of audio, behind the first part of the run."""
        rows = np.array([row for row in self.memory if row[0] >= _SETTLED * self.audio_s / 3600])
        return float(np.polyfit(rows[:, 0], rows[:, 1], 1)[0]) if len(rows) > 1 else 0.0

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "audio_s": round(self.audio_s, 1),
            "wall_s": round(self.wall_s, 1),
            "times_real_time": round(self.audio_s / self.wall_s, 2),
            "utterances": len(self.spoken),
            "final_results": len(self.heard),
            "lost": [[round(s, 1), round(e, 1)] for s, e in self.lost],
            "memory_mb": {"first": round(self.memory[0][1], 1), "last": round(self.memory[-1][1], 1)},
            "memory_mb_per_hour": round(self.slope, 2),
        }


@app.command()
def main(
    hours: Annotated[float, typer.Option(min=0.01, help="Of audio.")] = 2.0,
    second_pass: Annotated[bool, typer.Option(help="With the second pass.")] = True,
    seed: Annotated[int, typer.Option(help="Of the order and the pauses.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result here.")] = None,
) -> None:
    """Play recordings with pauses of 1.5 to 30 s, some of them digital silence, on one stream of a server's own.

    lost are utterances in whose place no final result has words. The server runs in this process: memory_mb is its
    resident memory each minute of audio when garbage is collected and free memory given back to the system, of which
    glibc otherwise keeps up to 150 MB for a while; memory_mb_per_hour is its slope behind the first quarter. Settings
    of the server come from CARRYOVER_* variables.
    """
    flags = {"port": 0, "log_level": "ERROR", "model.second_pass": second_pass}
    try:
        played = asyncio.run(_run(load_settings(None, flags), 3600 * hours, random.Random(seed)))
    except (BenchmarkError, ConfigError, HostError) as error:
        typer.echo(f"long_stream: {error}", err=True)
        raise typer.Exit(2) from None
    found = played.summary() | {"second_pass": second_pass, "seed": seed}
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(found))


def _recordings() -> list[Samples]:
    found = []
    for clip in shipped_clips():
        resampler, begun = Resampler.start(clip.rate).accept(clip.samples)
        found.append(np.concatenate([begun, resampler.flush()[1]]))
    return found


def audio_of(recordings: list[Samples], seconds: float, rng: random.Random, played: Played) -> Iterator[Samples]:
    """Recordings and pauses, about so many seconds; notes where each utterance is."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    at = 0.0
    while at < seconds:
        length = int(SAMPLE_RATE * rng.uniform(_LEAST_GAP_S, _MOST_GAP_S))
        pause = np.zeros(length, np.float32)
        if rng.random() < 0.7:
            pause = (_NOISE * noise.standard_normal(length)).astype(np.float32)
        recording = rng.choice(recordings)
        yield pause
        at += len(pause) / SAMPLE_RATE
        played.spoken.append((at, at + len(recording) / SAMPLE_RATE))
        yield recording
        at += len(recording) / SAMPLE_RATE
    yield np.zeros(2 * SAMPLE_RATE, np.float32)


async def _run(settings: Settings, seconds: float, rng: random.Random) -> Played:
    async with running(settings, _err.print) as (_, port):
        return await _play(port, seconds, rng)


async def _play(port: int, seconds: float, rng: random.Random) -> Played:
    played, sent, recordings = Played(), 0, _recordings()
    began_s = time.monotonic()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = recognizer_pb2_grpc.RecognizerStub(channel).StreamingRecognize()
        config = pb.StreamingConfig(
            encoding=pb.LINEAR16, sample_rate_hertz=SAMPLE_RATE, interim_results=True, voice_activity_events=True
        )

        async def send() -> None:
            nonlocal sent
            await call.write(pb.StreamingRecognizeRequest(config=config))
            await call.initial_metadata()
            for samples in audio_of(recordings, seconds, rng, played):
                pcm = linear16(samples)
                for start in range(0, len(pcm), _PIECE):
                    await call.write(pb.StreamingRecognizeRequest(audio=pcm[start : start + _PIECE]))
                    sent += len(pcm[start : start + _PIECE])
                    played.audio_s = sent / 2 / SAMPLE_RATE
                    if played.audio_s >= len(played.memory) * _SAMPLED_S:
                        played.memory.append((played.audio_s / 3600, resident_mb()))
                        _err.print(f"{played.audio_s / 60:6.1f} min, {played.memory[-1][1]:.1f} MB")
            await call.done_writing()

        sending = asyncio.create_task(send())
        try:
            async for response in call:
                played.heard += [
                    (r.start, r.end) for r in response.results if r.is_final and r.alternatives[0].transcript
                ]
        except grpc.aio.AioRpcError as error:
            raise BenchmarkError(f"the stream ended with {error.code().name}: {error.details()}") from None
        finally:
            sending.cancel()
    played.wall_s = time.monotonic() - began_s
    return played


def resident_mb() -> float:
    """Resident memory of this process without what is free (Linux)."""
    gc.collect()
    trim()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    app()
