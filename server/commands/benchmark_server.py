"""Measures how long callers wait, for several numbers of streams at once."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from asr.audio import read_container
from asr.errors import AudioError
from server.benchmark import PERCENTILES, BenchmarkError, Clip, measure, peak_memory_mb, plot, server_process, warm_up
from server.synthesis import speak

app = typer.Typer(add_completion=False)
_err = Console(stderr=True, highlight=False)
_AIM_MS = 300
"""p95 of the final result that the plot marks."""
_SHIPPED = ("call Meg", "Bauer", "call Meg", "Bauer")


@app.command()
def main(
    streams: Annotated[str, typer.Option(help="Numbers of streams at once, with commas.")] = "1,8,16",
    seconds: Annotated[float, typer.Option(min=1, help="How long callers go on with each number.")] = 20,
    audio: Annotated[
        list[Path] | None, typer.Option(help="A recording that callers send; may be repeated. [default: shipped ones]")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result here.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw it here.")] = None,
) -> None:
    """Start a server and let callers speak to it in real time over a socket.

    first_partial_ms is from the start of speech to the first interim result with words, final_ms from the end of the
    audio to the final result. Settings of the server come from CARRYOVER_* variables.
    """
    try:
        numbers = _numbers(streams)
        clips = [Clip.of(*read_container(path)) for path in audio] if audio else [_shipped_clip()]
        measured = _run(numbers, clips, seconds)
        if json_file:
            json_file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        if plot_file:
            plot_file.write_text(plot(measured["streams"], _AIM_MS), encoding="utf-8")
    except (BenchmarkError, AudioError, OSError) as error:
        typer.echo(f"benchmark_server: {error}", err=True)
        raise typer.Exit(1) from None
    _show(measured)
    typer.echo(json.dumps(measured))


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise BenchmarkError("--streams takes numbers of at least 1 with commas between them, such as 1,8,16")
    return numbers


def _shipped_clip() -> Clip:
    """The shipped recordings in a row: about as long as a request to an assistant."""
    spoken = [speak(text) for text in _SHIPPED]
    return Clip.of(np.concatenate([speech.samples for speech in spoken]), spoken[0].rate)


def _run(numbers: list[int], clips: list[Clip], seconds: float) -> dict[str, Any]:
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        spoken_s = sum(len(clip.samples) / clip.rate for clip in clips) / len(clips)
        task = progress.add_task("starting", total=sum(numbers) * seconds / spoken_s)
        with server_process({"CARRYOVER_LIMITS__STREAMS": str(max(numbers))}) as port:
            asyncio.run(warm_up(port, clips))
            for number in numbers:
                progress.update(task, description=f"{number} streams")
                waits = asyncio.run(measure(port, clips, number, seconds, lambda: progress.advance(task)))
                found[str(number)] = waits.summary()
    return {"streams": found, "peak_memory_mb": peak_memory_mb(), "load_average_before": round(load, 2)}


def _show(measured: dict[str, Any]) -> None:
    of = "/".join(f"p{p}" for p in PERCENTILES)
    table = Table("streams", "utterances", f"first partial, ms {of}", f"final, ms {of}")
    for number, row in measured["streams"].items():
        table.add_row(number, str(row["utterances"]), _line(row["first_partial_ms"]), _line(row["final_ms"]))
    _err.print(table)
    _err.print(f"peak memory of the server: {measured['peak_memory_mb']:.0f} MB")


def _line(waits: dict[str, float | None]) -> str:
    return " / ".join("-" if wait is None else f"{wait:.0f}" for wait in waits.values())


if __name__ == "__main__":
    app()
