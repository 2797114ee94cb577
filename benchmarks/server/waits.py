"""How long callers wait: streams in real time against a server process of its own, over a socket."""

from __future__ import annotations

import asyncio
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asr.audio import Samples
from benchmarks.server.fault_proxy import Fault, fault_proxy
from benchmarks.server.processes import store_environment
from carryover import Audio, CarryoverError, Final, aio
from carryover.audio import linear16
from context_store import create_tables
from context_store.local_server import local_config, local_server

PERCENTILES = (50, 95, 99)
_FRAME_S = 0.02
_QUIET = 0.05
"""Of the loudest frame's amplitude: what is below it, before and after everything else, is not speech."""


class BenchmarkError(Exception):
    """The server did not answer. The message says what happened."""


@dataclass(frozen=True)
class Clip:
    """Something to say. starts_s: where speech begins in it; it ends where the samples do."""

    samples: Samples
    rate: int
    starts_s: float

    @classmethod
    def of(cls, samples: Samples, rate: int) -> Clip:
        """A recording, cut where its speech ends."""
        size = max(1, int(rate * _FRAME_S))
        frames = samples[: len(samples) // size * size].reshape(-1, size)
        loud = np.sqrt((frames**2).mean(1)) if len(frames) else np.zeros(1)
        speech = np.flatnonzero(loud >= _QUIET * loud.max())
        first, last = (int(speech[0]), int(speech[-1])) if len(speech) else (0, len(frames) - 1)
        return cls(samples[: (last + 1) * size], rate, first * _FRAME_S)


@dataclass
class Waits:
    """Milliseconds: from the start of speech to the first interim result with words in it, and from the client's
    half-close to the last final result."""

    first_partial: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    finals: int = 0
    """Final results with words: an utterance may have several."""
    second_passes: int = 0
    """Those of them that the attention decoder heard."""

    def summary(self) -> dict[str, Any]:
        """Percentiles of both, of how many utterances, and the share of final results with the second pass."""
        named = {"first_partial_ms": self.first_partial, "final_ms": self.final}
        share = round(self.second_passes / self.finals, 3) if self.finals else None
        found = {name: _percentiles(values) for name, values in named.items()}
        return found | {"utterances": len(self.final), "second_pass_share": share}


def ratio_of_p99(waits: Sequence[float], others: Sequence[float]) -> dict[str, float] | None:
    """The p99 of the one by that of the others, with 95% of what 2,000 resamplings of both give; None without both."""
    if not waits or not others:
        return None
    rng = np.random.default_rng(0)

    def p99s(values: Sequence[float]) -> Any:
        return np.percentile(rng.choice(values, (2000, len(values))), 99, axis=1)

    low, high = np.percentile(p99s(waits) / p99s(others), (2.5, 97.5))
    ratio = np.percentile(waits, 99) / np.percentile(others, 99)
    return {"ratio": round(float(ratio), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    return {f"p{p}": round(float(np.percentile(values, p)), 1) if values else None for p in PERCENTILES}


@contextmanager
def mortal_store() -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """A server's settings for a store that answers until the callable is called, and nothing from then on."""
    with tempfile.TemporaryDirectory() as folder, local_server() as endpoint, fault_proxy(endpoint) as proxy:

        def die() -> None:
            proxy.plan = lambda operation: Fault.UNREACHABLE

        create_tables(local_config(endpoint))
        yield store_environment(proxy.url, f"{folder}/wrapping.key"), die


def peak_memory_mb() -> float:
    """The most memory that a child process that has ended ever held."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


async def measure(
    port: int,
    clips: Sequence[Clip],
    streams: int,
    seconds: float,
    on_utterance: Callable[[], None],
    in_dialogues: Waits | None = None,
    phrases: Sequence[str] = (),
) -> Waits:
    """So many callers at once, each saying clip after clip in real time, begun at different moments.

    in_dialogues: where there is one, each clip is said a second time, naming a dialogue, and its waits go there.
    phrases: that every caller expects (`speech_contexts`).
    Raises BenchmarkError when a call fails.
    """
    waits, ends_s = Waits(), time.monotonic() + seconds
    kinds = [waits] if in_dialogues is None else [waits, in_dialogues]
    async with aio.Client(f"127.0.0.1:{port}") as client:
        longest = max(len(clip.samples) / clip.rate for clip in clips)

        async def caller(number: int) -> None:
            await asyncio.sleep(longest * number / streams)
            for turn in itertools.count(number):
                for into in kinds:
                    dialogue = f"{number}-{turn}" if into is in_dialogues else ""
                    await _say(client, clips[turn % len(clips)], into, dialogue, phrases)
                    on_utterance()
                if time.monotonic() >= ends_s:
                    return

        try:
            await asyncio.gather(*map(caller, range(streams)))
        except CarryoverError as error:
            raise BenchmarkError(f"a stream ended with {error.code}: {error}") from None
    return waits


async def warm_up(port: int, clips: Sequence[Clip], phrases: Sequence[str] = ()) -> None:
    """One utterance that is not counted; the server keeps the graph of its phrases."""
    async with aio.Client(f"127.0.0.1:{port}") as client:
        await _say(client, clips[0], Waits(), "", phrases)


async def _say(client: aio.Client, clip: Clip, waits: Waits, dialogue: str, phrases: Sequence[str]) -> None:
    began_s = closed_s = 0.0
    first_s: float | None = None

    async def audio() -> AsyncIterator[bytes]:
        nonlocal began_s, closed_s
        began_s = time.monotonic()  # the call is accepted: now the caller speaks
        for piece in Audio(linear16(clip.samples), clip.rate):
            yield piece
        closed_s = time.monotonic()

    async for result in client.stream(audio(), rate=clip.rate, dialogue=dialogue, phrases=phrases, real_time=True):
        if first_s is None and result.transcript:
            first_s = time.monotonic()
        if isinstance(result, Final) and result.transcript:
            waits.finals += 1
            waits.second_passes += "ATTENTION" in result.passes
    waits.final.append((time.monotonic() - closed_s) * 1000)
    if first_s is not None:
        waits.first_partial.append((first_s - began_s - clip.starts_s) * 1000)
