"""Measures how long callers wait, for several numbers of streams at once."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from asr.audio import read_container
from asr.commands.terminal import check_writable
from asr.errors import AudioError
from benchmarks.search.benchmark_search import names
from benchmarks.server.processes import ProcessError, server_process
from benchmarks.server.waits import (
    PERCENTILES,
    BenchmarkError,
    Clip,
    Waits,
    measure,
    mortal_store,
    peak_memory_mb,
    ratio_of_p99,
    warm_up,
)
from context_store import StoreError
from server.demo.synthesis import speak

app = typer.Typer(add_completion=False)
_err = Console(stderr=True, highlight=False)
_GPU_AIM_MS = 150
MOST_STREAMS = 4096
"""Past so many no more are tried."""
_QUIET = {"CARRYOVER_LOG_LEVEL": "ERROR"}
_SHIPPED = ("call Meg", "Bauer", "call Meg", "Bauer")


@app.command()
def main(
    streams: Annotated[str, typer.Option(help="Numbers of streams at once, with commas.")] = "1,8,16",
    seconds: Annotated[float, typer.Option(min=1, help="How long callers go on with each number.")] = 20,
    audio: Annotated[
        list[Path] | None, typer.Option(help="A recording that callers send; may be repeated. Default: shipped ones.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result here.")] = None,
    dead_store: Annotated[
        bool, typer.Option("--dead-store", help="Say everything a second time, in a dialogue whose store is dead.")
    ] = False,
    phrases: Annotated[
        int, typer.Option(min=0, help="Made-up names, up to 5000, that every caller lists as phrases to expect.")
    ] = 0,
    device: Annotated[str, typer.Option(help="Where the server computes: cpu or cuda.")] = "cpu",
    until_ms: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="After --streams ever twice as many, until the p95 of final results is above this. "
            f"[default: {_GPU_AIM_MS} on a GPU, else not]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start a server and let callers speak to it in real time over a socket.

    first_partial_ms is from the start of speech to the first interim result with words, final_ms from the end of the
    audio to the final result, second_pass_share how many of the final results the attention decoder heard. With
    --dead-store, of utterances without a dialogue; those in one follow, and how the p99 of their final results
    compares. Settings of the server come from CARRYOVER_* variables, but its device, host, ports, TLS and keys.
    """
    try:
        check_writable(json_file)
        numbers = _numbers(streams)
        clips = [Clip.of(*read_container(path)) for path in audio] if audio else [_shipped_clip()]
        if until_ms is None and device != "cpu":
            until_ms = _GPU_AIM_MS
        measured = _run(numbers, until_ms, clips, seconds, dead_store, names(phrases), device)
        if json_file:
            json_file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    except (BenchmarkError, ProcessError, StoreError, AudioError, OSError) as error:
        typer.echo(f"benchmark_server: {error}", err=True)
        raise typer.Exit(2) from None
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


@contextmanager
def _usual_store() -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    yield {}, lambda: None


def _run(
    numbers: list[int], until_ms: float | None, clips: list[Clip], seconds: float, dead_store: bool,
    phrases: list[str], device: str,
) -> dict[str, Any]:  # fmt: skip
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    left = list(numbers)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        spoken_s = sum(len(clip.samples) / clip.rate for clip in clips) / len(clips)
        said_at_once = seconds / spoken_s
        task = progress.add_task("starting", total=sum(numbers) * said_at_once)
        settings = {
            **_QUIET,
            "CARRYOVER_LIMITS__STREAMS": str(MOST_STREAMS if until_ms else max(numbers)),
            "CARRYOVER_MODEL__DEVICE": device,
        }
        with (
            mortal_store() if dead_store else _usual_store() as (store, die),
            server_process({**settings, **store}) as server,
        ):
            asyncio.run(warm_up(server.port, clips, phrases))
            die()
            while left:
                number = left.pop(0)
                progress.update(task, description=f"{number} streams")
                dead = Waits() if dead_store else None
                said = partial(progress.advance, task)
                waits = asyncio.run(measure(server.port, clips, number, seconds, said, dead, phrases))
                row = found[str(number)] = waits.summary()
                if dead is not None:
                    ratio = ratio_of_p99(dead.final, waits.final)
                    row["dead_store"] = {**dead.summary(), "final_p99_ratio": ratio}
                if not left and (more := next_number(number, row["final_ms"]["p95"], until_ms)):
                    left.append(more)
                    progress.update(task, total=(sum(map(int, found)) + more) * said_at_once)
    return {
        "device": device,
        "streams": found,
        "phrases": len(phrases),
        "peak_memory_mb": peak_memory_mb(),
        "load_average_before": round(load, 2),
    }


def next_number(streams: int, p95_ms: float, until_ms: float | None) -> int | None:
    """The next number of streams behind those that were asked for; None: it is enough."""
    return 2 * streams if until_ms and p95_ms <= until_ms and 2 * streams <= MOST_STREAMS else None


def _show(measured: dict[str, Any]) -> None:
    of = "/".join(f"p{p}" for p in PERCENTILES)
    ratios: list[str] = []
    table = Table("streams", "utterances", f"first partial, ms {of}", f"final, ms {of}", "second pass")
    for number, row in measured["streams"].items():
        waits = _line(row["first_partial_ms"]), _line(row["final_ms"])
        table.add_row(number, str(row["utterances"]), *waits, _percent(row["second_pass_share"]))
        if dead := row.get("dead_store"):
            waits = _line(dead["first_partial_ms"]), _line(dead["final_ms"])
            taken = _percent(dead["second_pass_share"])
            table.add_row(f"{number}, dead store", str(dead["utterances"]), *waits, taken)
            ratios.append(f"{number} streams: the p99 with the store dead is {_ratio(dead['final_p99_ratio'])} of it")
    _err.print(table, *ratios, sep="\n")
    _err.print(f"peak memory of the server: {measured['peak_memory_mb']:.0f} MB")


def _ratio(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['ratio']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"


def _line(waits: dict[str, float | None]) -> str:
    return " / ".join("-" if wait is None else f"{wait:.0f}" for wait in waits.values())


if __name__ == "__main__":
    app()
