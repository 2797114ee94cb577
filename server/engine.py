"""Recognition beside the event loop: streams in batches, in a few threads, with a limit on how many at once."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from asr.recognition.results import Hypothesis, Pass, Result
from server import logs, tracing
from server.batcher import Batcher, Step
from server.fair_threads import FairThreads, lower_priority
from server.metrics import Metrics
from server.quota import Places

_WAIT_WEIGHT = 0.1
_IDLE_HALF_S = 1.0
"""Of time in which no chunk waits, halves what is left of the mean wait."""

T = TypeVar("T")
Samples = np.ndarray[Any, np.dtype[np.float32]]


class AudioLoad:
    """How many threads work on audio now. Work of lower priority waits here, for a bounded time."""

    def __init__(self) -> None:
        self._busy = 0
        self._changed = threading.Condition()

    @contextmanager
    def working(self) -> Iterator[None]:
        """While inside, audio is being worked on."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def wait_for_pause(self, seconds: float) -> bool:
        """Blocks until no audio is being worked on, at most `seconds`; returns whether there was a pause."""
        with self._changed:
            return self._changed.wait_for(lambda: self._busy == 0, seconds)


class Stream(Protocol):
    """A stream of the recogniser (`asr.recognition.streams.Stream`): blocking, used by one thread at a time."""

    @property
    def done(self) -> bool:
        """True when the stream ignores what follows (`single_utterance`, after its final)."""
        ...

    @property
    def ending(self) -> bool:
        """The audio has ended: what is left are the last chunks."""
        ...

    @property
    def ready(self) -> bool:
        """A chunk, or a result that is due, waits for the recogniser."""
        ...

    @property
    def due(self) -> str:
        """Which result is due; none: the empty string."""
        ...

    @property
    def again(self) -> bool:
        """The result that is due takes a second pass."""
        ...

    def leave_out(self, passes: Any) -> bool:
        """Has the result that is due made without these second passes; returns whether it would have taken one."""
        ...

    def take(self, samples: Samples) -> None:
        """Takes float32 mono samples, up to where a chunk is ready."""
        ...

    def end(self) -> None:
        """The audio ends."""
        ...

    def set_context(self, graph: Any) -> None:
        """Phrases of the context, for utterances that end from now on."""
        ...

    def drop_context(self) -> bool:
        """Goes on without those phrases; returns whether there were any."""
        ...


class Recognizer(Protocol):
    """What the server needs of `asr.recognition.recognizer.Recognizer`."""

    @property
    def version(self) -> str:
        """Version of the model."""
        ...

    def open(self, options: Any) -> Any:
        """A new stream for `asr.recognition.streams.StreamOptions`."""
        ...

    def advance(self, streams: Any) -> list[list[Result]]:
        """One chunk, or result, of each stream that is ready; where it raises, no stream has changed."""
        ...

    def compile(self, phrases: Any, *, of_context: bool = False) -> Any:
        """Phrases as a `asr.decoding.PhraseGraph`. of_context: of a context, not of a client."""
        ...

    def force_score(self, encoded: Any, texts: Any, graph: Any = None) -> list[Hypothesis]:
        """Exact scores of texts for an utterance's frames; `bias` by the phrases of a graph."""
        ...

    def unspellable(self, texts: Any) -> list[str]:
        """Those of the texts that the model's tokens cannot spell."""
        ...


@dataclass(frozen=True)
class RunningStream:
    """A stream of the recogniser whose work is done in the engine's threads."""

    engine: Engine
    stream: Stream

    @property
    def done(self) -> bool:
        """True when the stream ignores what follows."""
        return self.stream.done

    def set_context(self, graph: Any) -> None:
        """From now on, utterances that end are also searched led by a context's phrases. Not during `accept`."""
        self.stream.set_context(graph)

    async def accept(self, samples: Samples) -> list[Result]:
        """Recognise float32 mono samples. Raises what the recogniser raises (AudioError)."""
        there_s = asyncio.get_running_loop().time()
        await self.engine.take_in(self.stream.take, samples)
        return await self._steps(there_s)

    async def finish(self) -> list[Result]:
        """End the stream."""
        if self.stream.done:
            return []
        there_s = asyncio.get_running_loop().time()
        await self.engine.take_in(self.stream.end)
        return await self._steps(there_s)

    async def _steps(self, there_s: float) -> list[Result]:
        results: list[Result] = []
        while self.stream.ready:
            results += await self._or_without_context(partial(self._step, there_s))
        return results

    async def _step(self, there_s: float) -> list[Result]:
        stream = self.stream
        step = Step.SECOND_PASS if stream.again else Step.LAST if stream.ending or stream.due else Step.CHUNK
        # A second pass is long by nature, and gives way by itself: it tells nothing of how late audio is.
        with tracing.span("chunk") if stream.again else self.engine.waiting():
            return await self.engine.batcher.advance(
                stream, step=step, since_s=there_s if stream.again else None, late=self._late
            )

    def _late(self, entirely: bool) -> bool:
        """Leaves out second passes: the whole-utterance one, which costs most for what it brings, or all of them."""
        left_out = self.stream.leave_out(Pass if entirely else (Pass.WHOLE_UTTERANCE,))
        if left_out and not self.stream.again:
            self.engine.metrics.second_passes_left_out.inc()
        return not self.stream.again

    async def _or_without_context(self, work: Callable[[], Awaitable[list[Result]]]) -> list[Result]:
        """What the work brings; where it fails, once more without a context's phrases."""
        try:
            return await work()
        except Exception as error:
            if not self.stream.drop_context():
                raise
            logs.failure("context_not_searched", error)
            return await work()


class Engine:
    """Runs streams of one recogniser. Belongs to one event loop.

    workers: threads that recognise and rescore. max_streams, max_tenant_streams (None: the same): streams at once, over
    which `admitted` raises LimitError. shed_s: a mean wait for a chunk from which on the server is `strained`.
    max_batch, batch_wait_s: see `Batcher`. second_pass_wait_s: later than this after its audio, a result goes without a
    second pass where others wait. clock: seconds of any clock that does not jump. A stream's error or cancellation
    concerns no other: a batch that fails is done again stream by stream, and a cancelled caller only stops waiting.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        workers: int,
        max_streams: int,
        metrics: Metrics,
        max_tenant_streams: int | None = None,
        shed_s: float = 0.6,
        max_batch: int = 8,
        batch_wait_s: float = 0.005,
        second_pass_wait_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recognizer = recognizer
        self.load = AudioLoad()
        self._places = Places("streams", "streams are being recognised", max_streams, max_tenant_streams or max_streams)
        self._shed_s = shed_s
        self.metrics = metrics
        self._clock = clock
        self._wait_s = 0.0
        self._since_s: dict[object, float] = {}  # of the chunks that wait now, the oldest first
        self._idle_since_s = clock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="recognise")
        self._beside = FairThreads(2, "beside", lower_priority)
        self._intake = ThreadPoolExecutor(1, thread_name_prefix="take-in")  # short work, never behind a batch
        self.batcher = Batcher(
            recognizer.advance, self.run, workers=workers, max_batch=max_batch, wait_s=batch_wait_s,
            late_s=second_pass_wait_s, metrics=metrics,
        )  # fmt: skip

    @property
    def streams(self) -> int:
        """Streams open now."""
        return self._places.taken

    @property
    def strained(self) -> bool:
        """Is audio late? Then what is not audio waits for better times."""
        now = self._clock()
        oldest_s = now - next(iter(self._since_s.values()), now)
        return self.streams > 0 and max(self._mean_wait_s(now), oldest_s) > self._shed_s

    def _mean_wait_s(self, now: float) -> float:
        idle_s = 0.0 if self._since_s else now - self._idle_since_s
        return float(self._wait_s * 0.5 ** (idle_s / _IDLE_HALF_S))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While inside, a chunk waits for its recognition."""
        started, chunk = self._clock(), object()
        self._wait_s = self._mean_wait_s(started)
        self._since_s[chunk] = started
        try:
            with tracing.span("chunk"), self.metrics.chunks.track_inprogress():
                yield
            self.waited(self._clock() - started)
        finally:
            del self._since_s[chunk]
            self._idle_since_s = self._clock()

    def waited(self, seconds: float) -> None:
        """A chunk was recognised so long after it was there; takes it into the running mean."""
        self._wait_s += _WAIT_WEIGHT * (seconds - self._wait_s)
        self.metrics.chunk_seconds.observe(seconds)

    @contextmanager
    def admitted(self, tenant: str) -> Iterator[None]:
        """While inside, a stream counts against the limits. Raises LimitError, before any work is done for it."""
        with self._places.one(tenant):
            of_tenant = self.metrics.tenant_streams.labels(self.metrics.tenant(tenant))
            with self.metrics.streams.track_inprogress(), of_tenant.track_inprogress():
                yield

    def start(self, options: Any) -> RunningStream:
        """A new stream, of one who is `admitted`. options: `asr.recognition.streams.StreamOptions`."""
        return RunningStream(self, self.recognizer.open(options))

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Result of `work(*arguments)`, done in one of the engine's threads as work on audio."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._as_audio, work, arguments)

    async def take_in(self, work: Callable[..., T], *arguments: Any) -> T:
        """Result of `work(*arguments)`, which is short: it does not wait for batches that are being recognised."""
        with self.batcher.coming():
            return await asyncio.get_running_loop().run_in_executor(self._intake, self._as_audio, work, arguments)

    async def run_beside(self, tenant: str, work: Callable[..., T], *arguments: Any) -> T:
        """Result of `work(*arguments)`, which may take long: audio does not wait for it, nor one tenant for another."""
        return await self._beside.run(tenant, work, *arguments)

    def _as_audio(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        started = time.monotonic()
        with self.load.working():
            try:
                return work(*arguments)
            finally:
                self.metrics.work_seconds.inc(time.monotonic() - started)

    def close(self) -> None:
        """End the threads. Work that has not begun is dropped."""
        self._beside.close()
        self._intake.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)


def milliseconds_since(started: float) -> float:
    """Milliseconds since a `time.monotonic()`."""
    return (time.monotonic() - started) * 1000
