"""Measures how long a caller waits from `Finalize` to the result: one stream in real time, on a quiet server."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from rich.console import Console

from asr.audio import read_container
from benchmarks.server.processes import ProcessError, server_process
from benchmarks.server.waits import PERCENTILES, BenchmarkError, Clip
from carryover.audio import linear16
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1 import recognizer_pb2_grpc

app = typer.Typer(add_completion=False)
_err = Console(stderr=True, highlight=False)
SAMPLES = Path(__file__).parents[2] / "samples"
_PIECE_S = 0.04
_PAUSE_S = 0.5
"""Silence behind a result, as the caller of a dialogue leaves."""


@app.command()
def main(
    utterances: Annotated[int, typer.Option(min=1, help="How many are said, one after the other.")] = 48,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result here.")] = None,
) -> None:
    """Say utterances on one stream in real time, and finalize each where its speech ends.

    final_ms is from sending `Finalize`, right behind the last sample, to the final result; without and with the second
    pass. cpu_ms is what the server computed in that time, on all its threads (Linux): on a machine that others use, the
    wait is longer by what they took. Settings of the server come from CARRYOVER_* variables.
    """
    load = os.getloadavg()[0]
    clips = shipped_clips()
    try:
        found: dict[str, Any] = {
            name: asyncio.run(_measure(clips, utterances, second_pass))
            for name, second_pass in (("without_second_pass", False), ("with_second_pass", True))
        }
    except (BenchmarkError, ProcessError) as error:
        typer.echo(f"finalize: {error}", err=True)
        raise typer.Exit(2) from None
    found["load_average_before"] = round(load, 2)
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(found))


def shipped_clips() -> list[Clip]:
    """The recordings in samples/, each cut where its speech ends."""
    return [Clip.of(*read_container(path)) for path in sorted((SAMPLES / "audio").glob("*.opus"))]


async def _measure(clips: list[Clip], utterances: int, second_pass: bool) -> dict[str, Any]:
    settings = {"CARRYOVER_LOG_LEVEL": "ERROR", "CARRYOVER_MODEL__SECOND_PASS": str(second_pass).lower()}
    waits: list[float] = []
    computed: list[float] = []
    words = skipped = 0
    with server_process(settings) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            for number in range(-1, utterances):  # the first one warms the server
                clip = clips[number % len(clips)]
                wait_ms, cpu_ms, result = await _say(channel, clip, server.process.pid)
                if number >= 0:
                    waits.append(wait_ms)
                    computed.append(cpu_ms)
                    words += bool(result.alternatives[0].transcript)
                    skipped += bool(result.skipped_passes)
                _err.print(f"{wait_ms:6.0f} ms  {result.alternatives[0].transcript}")
    return {
        "final_ms": _percentiles(waits),
        "cpu_ms": _percentiles(computed),
        "utterances": utterances,
        "with_words": words,
        "skipped_second_passes": skipped,
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 1) for p in PERCENTILES}


def server_cpu_ms(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


async def _say(channel: grpc.aio.Channel, clip: Clip, pid: int) -> tuple[float, float, pb.StreamingRecognitionResult]:
    """The wait for a clip's finalized result, which half a second of silence follows, the server's work, the result."""
    config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=clip.rate, interim_results=True)
    call = recognizer_pb2_grpc.RecognizerStub(channel).StreamingRecognize(timeout=120)
    try:
        await call.write(pb.StreamingRecognizeRequest(config=config))
        await call.initial_metadata()
        pcm, size = linear16(clip.samples), 2 * int(clip.rate * _PIECE_S)
        began_s = time.monotonic()
        for start in range(0, len(pcm), size):
            piece = pcm[start : start + size]
            await asyncio.sleep(began_s + (start + len(piece)) / 2 / clip.rate - time.monotonic())  # as it is spoken
            await call.write(pb.StreamingRecognizeRequest(audio=piece))
        sent_s, computed_ms = time.monotonic(), server_cpu_ms(pid)
        await call.write(pb.StreamingRecognizeRequest(finalize=pb.Finalize()))
        while (response := await call.read()) is not grpc.aio.EOF:
            for result in response.results:
                if result.finalized:
                    wait_ms, cpu_ms = 1000 * (time.monotonic() - sent_s), server_cpu_ms(pid) - computed_ms
                    call.cancel()
                    await asyncio.sleep(_PAUSE_S)
                    return wait_ms, cpu_ms, result
    except grpc.aio.AioRpcError as error:
        raise BenchmarkError(f"the stream ended with {error.code().name}: {error.details()}") from None
    raise BenchmarkError("the stream ended without the finalized result")


if __name__ == "__main__":
    app()
