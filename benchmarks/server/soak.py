"""Dialogues against a server whose store fails, for minutes, and a report of what came of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.audio import read_container
from asr.commands.terminal import check_writable
from asr.errors import AsrError
from benchmarks.server.baseline import BaselineRecognizer
from benchmarks.server.dialogues import Caller, Expected, Scene, Tally, expected, play_for, read_back
from benchmarks.server.fault_proxy import FaultProxy, fault_proxy, no_faults, random_faults
from benchmarks.server.floods import FLOODS, Flood
from benchmarks.server.hostile_soak import show, soak_hostile
from benchmarks.server.processes import (
    ProcessError,
    ServerProcess,
    server_environment,
    server_process,
    store_environment,
)
from benchmarks.server.waits import Clip
from carryover import CarryoverError, aio
from context_store import ContextStore, StoreError, create_tables, load_or_create_key_file, local_wrapping_key
from context_store.local_server import local_config, local_server
from server.app import load_parts
from server.settings import ConfigError, Settings, load_settings

app = typer.Typer(add_completion=False)
_NAMES = (("Meg Jones", "Meg Bauer"), ("Anna Bauer", "Anna Bower", "Anna Power"), ("Tom Reed", "Tim Reed"))
_QUIET = {
    "CARRYOVER_LOG_LEVEL": "ERROR", "CARRYOVER_CONTEXT__CACHED_DIALOGUES": "32", "CARRYOVER_STORE__THREADS": "8",
}  # fmt: skip
"""Settings where the environment has none: caches, and pools of threads and connections, that the warm-up fills, so
that what grows then is a leak."""

_SAMPLE_S = 1.0
_READ_BACK_S = 5.0
_SETTLE_S = 30.0
_MOST_TOLD = 100
_GAUGES = {
    "memory": "process_resident_memory_bytes", "handles": "process_open_fds", "threads": "carryover_threads",
    "tasks": "carryover_tasks", "streams": "carryover_streams", "queue": "carryover_window_queue",
    "cached_dialogues": "carryover_cached_dialogues", "cpu_s": "process_cpu_seconds_total",
}  # fmt: skip


@app.command()
def main(
    minutes: Annotated[float, typer.Option(help="How long, after a warm-up of a fifth of it.", min=0.05)] = 5.0,
    fault_rate: Annotated[float, typer.Option(help="Share of store calls that go wrong.", min=0, max=1)] = 0.2,
    streams: Annotated[int, typer.Option(help="Callers at once.", min=1, max=500)] = 4,
    fast: Annotated[
        bool, typer.Option("--fast", help="Audio as fast as the server takes it, not in real time.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the faults and of what callers do.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report there too.")] = None,
    hostile: Annotated[
        bool, typer.Option("--hostile", help="Floods in place of dialogues: what they cost another client.")
    ] = False,
    floods: Annotated[
        str, typer.Option(help="With --hostile: names with commas between them.", show_default="all")
    ] = ",".join(flood.name for flood in FLOODS),
) -> None:
    """Play dialogues of two turns to a server of its own, over a store that is slow, throttles, fails, loses answers.

    Some callers leave half-way, some dialogues are erased. Each result is held against what the recogniser says in the
    same passes when nothing else is asked of it; wrong ones are told. Prints a JSON report; exits with 1 when a stream
    had no status, a result was wrong or an acknowledged event was lost. CARRYOVER_* variables set the server.

    With --hostile: one flood of messages after another, each for its share of the minutes, beside a client of another
    tenant who speaks in real time. Exits with 1 when one of the client's streams did not end with OK and the right
    text, when the p95 of its waits for final results was above 1.5 times that without a flood and above 250 ms, when
    the server's memory stayed a tenth above what it was, or when the flood was answered otherwise than by a refusal.
    """
    console = Console(stderr=True, highlight=False)
    try:
        check_writable(json_file)
        if hostile:
            report = soak_hostile(minutes, _chosen(floods), _clip("bauer"), console)
            show(report, console)
        else:
            report = _soak(minutes * 60, fault_rate, streams, not fast, seed, console)
    except (ProcessError, ConfigError, AsrError, StoreError, OSError, CarryoverError) as error:
        console.print(f"soak: {error}", markup=False)
        raise typer.Exit(2) from None
    text = json.dumps(report, indent=1)
    if json_file:
        json_file.write_text(text + "\n")
    typer.echo(text)
    if any(report.get(name) for name in ("without_status", "wrong_results", "lost_events", "problems")):
        raise typer.Exit(1)


def _chosen(names: str) -> list[Flood]:
    known = {flood.name: flood for flood in FLOODS}
    try:
        return [known[name] for name in names.split(",")]
    except KeyError as error:
        raise typer.BadParameter(f"{error.args[0]!r} is none of {', '.join(known)}", param_hint="--floods") from None


def _soak(seconds: float, rate: float, streams: int, real_time: bool, seed: int, console: Console) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        local_server() as endpoint,
        fault_proxy(endpoint) as proxy,
    ):
        key_file = Path(folder) / "wrapping.key"
        create_tables(local_config(endpoint))
        quiet = {name: value for name, value in _QUIET.items() if name not in os.environ}
        environment = {**quiet, **store_environment(proxy.url, str(key_file))}
        settings = load_settings(None, {}, server_environment(environment))
        console.print("soak: starting a server")
        with server_process(environment) as server:
            store = ContextStore(local_config(endpoint), local_wrapping_key(load_or_create_key_file(key_file)))
            with closing(store):
                playing = _play(server, settings, proxy, store, seconds, rate, streams, real_time, seed, console)
                tally, watch = asyncio.run(playing)
    p50, p95, p99 = np.percentile(tally.final_ms, (50, 95, 99)) if tally.final_ms else (0.0, 0.0, 0.0)
    return {
        "dialogues": tally.dialogues,
        "streams": tally.streams,
        "without_status": tally.without_status,
        "wrong_results": tally.wrong_results,
        "lost_events": tally.lost_events,
        **watch.summary(),
        "minutes": round(seconds / 60, 2),
        "callers": streams,
        "fault_rate": rate,
        "wrong": tally.wrong[:_MOST_TOLD],
        "skipped_passes": dict(tally.skipped.most_common()),
        "statuses": dict(tally.statuses.most_common()),
        "contexts": dict(tally.contexts.most_common()),
        "faults": {fault.value if fault else "none": count for fault, count in proxy.counts.most_common()},
        "broken_off": tally.broken_off,
        "erased": tally.erasures,
        "acknowledged_events": tally.acknowledged_events,
        "final_ms": {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1)},
    }


@dataclass
class _Watch:
    """The server's gauges over time, with `at` in seconds.

    before, after: with nothing to do, after the warm-up and at the end.
    """

    samples: list[dict[str, float]] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        grown = {name: int(self.after[name] - self.before[name]) for name in ("tasks", "handles", "threads")}
        at, megabytes, cpu_s = (self._of(name) for name in ("at", "memory", "cpu_s"))
        megabytes /= 1 << 20
        slope = float(np.polyfit(at / 60, megabytes, 1)[0]) if len(at) > 2 else 0.0
        cores = (cpu_s[-1] - cpu_s[0]) / (at[-1] - at[0]) if len(at) > 1 else 0.0
        return {
            "memory_mb_per_minute": round(slope, 3),
            "memory_mb": {"first": round(float(megabytes[0]), 1), "last": round(float(megabytes[-1]), 1)},
            **{f"{name}_leaked": max(0, count) for name, count in grown.items()},
            "cached_dialogues": int(self.after["cached_dialogues"]),
            "mean_streams": round(float(self._of("streams").mean()), 2),
            "mean_cores": round(float(cores), 2),
        }

    def _of(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([sample[name] for sample in self.samples] or [0.0])


async def _play(
    server: ServerProcess, settings: Settings, proxy: FaultProxy, store: ContextStore, seconds: float, rate: float,
    streams: int, real_time: bool, seed: int, console: Console,
) -> tuple[Tally, _Watch]:  # fmt: skip
    prefix, watch, tally = secrets.token_hex(4), _Watch(), Tally()
    async with aio.Client(f"127.0.0.1:{server.port}") as client:
        console.print("soak: recognising the baseline")
        asking = Caller(client, Tally(), real_time=False, break_off=0.0, seed=0)
        both = await _expected(asking, settings, store, prefix)

        def callers(into: Tally) -> list[Caller]:
            share = 0.05 if rate else 0.0
            return [Caller(client, into, real_time=real_time, break_off=share, seed=seed + i) for i in range(streams)]

        faults = random_faults(rate, seed)
        proxy.plan = faults
        console.print("soak: warming up")
        warm = Tally()
        await play_for(callers(warm), both, seconds / 5, f"{prefix}-warm")
        await read_back(store, warm)
        proxy.plan = no_faults
        watch.before = await _settled(server)
        proxy.counts.clear()
        proxy.plan = faults
        watching = asyncio.create_task(_sample(server, watch, seconds, tally, console))
        over = asyncio.Event()
        reading = asyncio.create_task(_read_back_until(over, store, tally))
        await play_for(callers(tally), both, seconds, prefix)
        proxy.plan = no_faults
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        over.set()
        await reading
        watch.after = await _settled(server)
    return tally, watch


async def _expected(
    caller: Caller, settings: Settings, store: ContextStore, prefix: str
) -> list[tuple[Scene, Expected]]:
    """The scenes with what is to be expected; the recogniser that says so is loaded only here, and let go again."""
    scenes, found = _scenes(), []
    torch.set_num_threads(1)  # as the server does
    parts = await asyncio.to_thread(load_parts, settings, store)
    with BaselineRecognizer.open(parts, settings) as baseline:
        for number, scene in enumerate(scenes):
            dialogue = f"{prefix}-baseline-{number}"
            await caller.ask(scene, dialogue)
            found.append((scene, await expected(baseline, scene, dialogue)))
    return found


async def _read_back_until(over: asyncio.Event, store: ContextStore, tally: Tally) -> None:
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _READ_BACK_S)
        await read_back(store, tally)


async def _sample(server: ServerProcess, watch: _Watch, seconds: float, tally: Tally, console: Console) -> None:
    columns = (TextColumn("soak"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    began, told = time.monotonic(), 0
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=seconds)
        while True:
            await asyncio.sleep(_SAMPLE_S)
            now = time.monotonic() - began
            watch.samples.append({"at": now, **await _gauges(server)})
            for what in tally.wrong[told:_MOST_TOLD]:
                progress.console.print(f"soak: wrong: {json.dumps(what)}", markup=False, soft_wrap=True)
            told = len(tally.wrong)
            bad = tally.without_status + tally.wrong_results
            progress.update(bar, completed=now, description=f"{tally.dialogues} dialogues, {bad} streams gone wrong")


async def _settled(server: ServerProcess) -> dict[str, float]:
    """The gauges once nothing runs and nothing changes any more."""
    before: dict[str, float] = {}
    for _ in range(int(_SETTLE_S)):
        await asyncio.sleep(1.0)
        now = await _gauges(server)
        counts = {name: now[name] for name in ("streams", "queue", "tasks", "handles", "threads")}
        if counts == before and not now["streams"] and not now["queue"]:
            return now
        before = counts
    return now


async def _gauges(server: ServerProcess) -> dict[str, float]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch() -> str:
        with opener.open(server.metrics_url, timeout=30) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(fetch)
    found = {name: re.search(rf"^{metric} (\S+)$", text, re.MULTILINE) for name, metric in _GAUGES.items()}
    return {name: float(match[1]) if match else 0.0 for name, match in found.items()}


def _scenes() -> list[Scene]:
    request, answer = _clip("call_meg"), _clip("bauer")
    return [Scene(request, answer, names) for names in _NAMES]


def _clip(name: str) -> Clip:
    with resources.as_file(resources.files("server") / "demo" / "audio" / f"{name}.flac") as file:
        return Clip.of(*read_container(file))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app()
