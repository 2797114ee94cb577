"""`soak --hostile`: one flood after another against a server, beside a client who means well."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.server.baseline import BaselineRecognizer, Texts
from benchmarks.server.dialogues import Caller, Tally, stream_config
from benchmarks.server.floods import Flood, Target, flooding
from benchmarks.server.processes import ServerProcess, server_environment, server_process, store_environment
from benchmarks.server.waits import Clip
from carryover import aio
from context_store import ContextStore, create_tables, load_or_create_key_file, local_wrapping_key
from context_store.local_server import local_config, local_server
from server.access import make_key
from server.app import load_parts
from server.settings import load_settings

_PROBES = 2
_WARM_S = 5.0
_SETTLE_S = 10.0
_SAMPLE_S = 0.1
_MOST_MB = 4096
_MOST_RATIO, _ALWAYS_FINE_MS, _MOST_GROWTH = 1.5, 250.0, 1.1


@dataclass
class Waits:
    """The probe's streams: how long they waited for their final result after their audio, and what else came of them.

    idle_ratio: the p95 by that without a flood.
    """

    streams: int
    p50_ms: float | None
    p95_ms: float | None
    without_status: int
    wrong_results: int
    statuses: dict[str, int]
    idle_ratio: float | None = None

    @classmethod
    def of(cls, tally: Tally, idle: Waits | None) -> Waits:
        p50, p95 = np.percentile(tally.final_ms, (50, 95)) if tally.final_ms else (None, None)
        ratio = p95 / idle.p95_ms if idle and idle.p95_ms and p95 is not None else None
        return cls(
            tally.streams,
            _rounded(p50),
            _rounded(p95),
            tally.without_status,
            tally.wrong_results,
            dict(tally.statuses),
            None if ratio is None else round(float(ratio), 2),
        )


@dataclass
class Outcome:
    """What one flood came to. answers: how its calls ended. memory_mb: before, at most, some seconds after."""

    flood: str
    what: str
    probe: Waits
    answers: dict[str, int]
    memory_mb: dict[str, float]
    wrong: list[dict[str, Any]]
    problems: list[str] = field(default_factory=list)

    @property
    def memory_stays(self) -> bool:
        """The server keeps what the flood took."""
        return self.memory_mb["after"] > _MOST_GROWTH * self.memory_mb["before"]


def judge(outcome: Outcome, idle: Waits, flood: Flood) -> list[str]:
    """What a server in order would not have shown."""
    problems, probe, memory = [], outcome.probe, outcome.memory_mb
    most_ms = max(_MOST_RATIO * (idle.p95_ms or 0.0), _ALWAYS_FINE_MS)
    if probe.p95_ms is None:
        problems.append("no stream of the probe had a final result")
    elif probe.p95_ms > most_ms:
        problems.append(f"the probe's final p95 of {probe.p95_ms:.0f} ms is above {most_ms:.0f} ms")
    lost = sum(count for status, count in probe.statuses.items() if status != "OK")
    if lost:
        problems.append(f"{lost} of the probe's {probe.streams} streams did not end with OK")
    if probe.wrong_results:
        problems.append(f"{probe.wrong_results} results of the probe were wrong")
    if outcome.memory_stays:
        problems.append(f"memory stays at {memory['after']:.0f} MB, {memory['before']:.0f} before")
    unexpected = sorted(outcome.answers.keys() - flood.statuses)
    if unexpected:
        problems.append(f"calls of the flood ended with {', '.join(unexpected)}")
    return problems


def soak_hostile(minutes: float, floods: Sequence[Flood], clip: Clip, console: Console) -> dict[str, Any]:
    """The report. Raises ProcessError, ConfigError, AsrError, StoreError, OSError."""
    with tempfile.TemporaryDirectory() as folder, local_server() as endpoint:
        create_tables(local_config(endpoint))
        keys = {tenant: make_key(tenant) for tenant in ("probe", "flood")}
        files = {name: Path(folder) / name for name in ("keys", "probe.key", "wrapping.key")}
        files["keys"].write_text("".join(f"{line}\n" for _, line in keys.values()))
        files["probe.key"].write_text(keys["probe"][0])
        environment = {
            **store_environment(endpoint, str(files["wrapping.key"])),
            "CARRYOVER_LOG_LEVEL": "ERROR",
            "CARRYOVER_ACCESS__KEYS_FILE": str(files["keys"]),
        }
        settings = load_settings(None, {}, server_environment(environment))
        console.print("soak: recognising the baseline")
        key = local_wrapping_key(load_or_create_key_file(files["wrapping.key"]))
        torch.set_num_threads(1)  # as the server does
        with (
            closing(ContextStore(local_config(endpoint), key)) as store,
            BaselineRecognizer.open(load_parts(settings, store), settings) as baseline,
        ):
            texts = asyncio.run(baseline.texts(clip.samples, stream_config(clip), None))
        left, idle, outcomes, each_s = list(floods), None, list[Outcome](), minutes * 60 / (len(floods) + 1)
        columns = (TextColumn("soak"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("", total=len(floods) + 1)
            while left:
                progress.update(bar, description="starting a server")
                with server_process(environment) as server:
                    siege = Siege(server, Target(server.port, keys["flood"][0]), files["probe.key"], clip, texts)
                    asyncio.run(siege.idle(_WARM_S))
                    if idle is None:
                        progress.update(bar, description="nobody floods")
                        idle = asyncio.run(siege.idle(each_s))
                    worn = False
                    while left and not worn:
                        flood = left.pop(0)
                        progress.update(bar, advance=1, description=f"{flood.name}: {flood.what}")
                        outcomes.append(asyncio.run(siege.flooded(flood, each_s, idle)))
                        for problem in outcomes[-1].problems:
                            progress.console.print(f"soak: {flood.name}: {problem}", markup=False, soft_wrap=True)
                        worn = server.process.poll() is not None or outcomes[-1].memory_stays
    return {
        "idle": asdict(idle) if idle else None,
        "floods": [asdict(outcome) for outcome in outcomes],
        "seconds_each": round(each_s, 1),
        "without_status": sum(outcome.probe.without_status for outcome in outcomes),
        "wrong_results": sum(outcome.probe.wrong_results for outcome in outcomes),
        "problems": sum(len(outcome.problems) for outcome in outcomes),
    }


@dataclass(frozen=True)
class Siege:
    """A server, a client who means well, and the floods. key_file: that client's. texts: of what it says, the clip."""

    server: ServerProcess
    target: Target
    key_file: Path
    clip: Clip
    texts: Texts

    async def idle(self, seconds: float) -> Waits:
        """Without a flood."""
        return Waits.of((await self._probed(asyncio.sleep(seconds)))[0], None)

    async def flooded(self, flood: Flood, seconds: float, idle: Waits) -> Outcome:
        """With a flood for so long."""
        with flooding(flood, self.target) as process:
            before = resident_mb(self.server.process)
            tally, answers, peak = await self._probed(process.run(seconds))
        after = await self._settled(before)
        memory = {"before": round(before, 1), "peak": round(max(before, peak), 1), "after": round(after, 1)}
        probe = Waits.of(tally, idle)
        outcome = Outcome(flood.name, flood.what, probe, dict(answers), memory, tally.wrong[:10])
        outcome.problems = judge(outcome, idle, flood)
        if peak > _MOST_MB:
            outcome.problems.append(f"the server was ended when its memory was above {_MOST_MB} MB")
        elif (code := self.server.process.poll()) is not None:
            outcome.problems.append(f"the server ended with {code}")
        return outcome

    async def _probed(self, work: Any) -> tuple[Tally, Any, float]:
        """The probe's tally while the work was done, the work's result, and the server's peak of memory, MB."""
        tally, doing, peak = Tally(), asyncio.ensure_future(work), 0.0
        probes = [asyncio.create_task(self._probe(number, tally, doing)) for number in range(_PROBES)]
        while not doing.done():
            peak = max(peak, resident_mb(self.server.process))
            if peak > _MOST_MB:  # the machine is not the server's alone
                self.server.process.kill()
            await asyncio.wait([doing], timeout=_SAMPLE_S)
        await asyncio.gather(*probes)
        return tally, doing.result(), peak

    async def _probe(self, number: int, tally: Tally, doing: asyncio.Future[Any]) -> None:
        """A client who speaks again and again, each time on a connection of its own."""
        await asyncio.sleep(number * len(self.clip.samples) / self.clip.rate / _PROBES)
        while not doing.done() and self.server.process.poll() is None:
            async with aio.Client(self.target.address, key=self.key_file.read_text()) as client:
                caller = Caller(client, tally, real_time=True, break_off=0.0, seed=number)
                await caller.say(self.clip, self.texts)

    async def _settled(self, before: float) -> float:
        """The server's memory once it is about what it was before, or after some seconds."""
        ends_s = time.monotonic() + _SETTLE_S
        while (now := resident_mb(self.server.process)) > _MOST_GROWTH * before and time.monotonic() < ends_s:
            await asyncio.sleep(_SAMPLE_S)
        return now


def resident_mb(process: subprocess.Popen[str]) -> float:
    """Memory that a process holds now; 0 where it has ended."""
    with suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, text=True, check=False)
    return int(told.stdout or 0) / 1024


def show(report: dict[str, Any], console: Console) -> None:
    """The report as a table."""
    table = Table("flood", "final p50 / p95, ms", "x idle", "lost", "memory, MB", "answers", "")
    idle = report["idle"]
    table.add_row("nobody floods", f"{_number(idle['p50_ms'])} / {_number(idle['p95_ms'])}", "", "", "", "", "")
    for row in report["floods"]:
        probe, memory = row["probe"], row["memory_mb"]
        lost = sum(count for status, count in probe["statuses"].items() if status != "OK")
        table.add_row(
            row["flood"],
            f"{_number(probe['p50_ms'])} / {_number(probe['p95_ms'])}",
            f"{probe['idle_ratio'] or 0:.1f}",
            f"{lost} of {probe['streams']}",
            " ".join(f"{memory[when]:.0f}" for when in ("before", "peak", "after")),
            ", ".join(f"{count} {status}" for status, count in row["answers"].items()),
            "[red]harm" if row["problems"] else "ok",
        )
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)
