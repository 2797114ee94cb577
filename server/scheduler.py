"""The scheduler: the only owner of worker threads; it knows every kind of work and its priority.

The workers recognise. Whatever waits for one of them waits in the event loop, by kind (`Work`), and the highest
priority goes first: nothing queues behind a thread. Chunks of several streams are one batch. A chunk waits for others
only while their audio is being taken in, which is a matter of milliseconds, and never longer than a bound. Second
passes take long: where there are several workers, one is always left for the rest. A second pass that is late while
others wait is skipped, in part or entirely. All other work has threads of its own, in most of which tenants take turns.

Load is the age of the oldest chunk that is not recognised yet. What is not audio gives way by it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

from asr.audio import Samples
from asr.decoding import PhraseGraph
from asr.recognition.batching import worthwhile
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Pass, Result, SpeechEvent
from server import logs, tracing
from server.fair_threads import FairThreads, lower_priority
from server.metrics import Metrics

_PARTLY = 1 / 3
"""Share of the longest wait from which on a part of a second pass is skipped."""
_SECOND_PASSES = 4
"""Second passes in a batch: the attention decoder's weights are read once for all, but each takes as long as all."""

_RECENT_S = 1.0
"""So long the wait of the last chunk says how late audio is: right behind a batch all that wait are young."""

T = TypeVar("T")


class Work(IntEnum):
    """Kinds of work. Those up to CHUNK share the workers, the first first.

    A stream has few of the first kinds, so that no chunk starves.
    """

    LAST = 0
    """A chunk of a stream whose audio has ended, or a result without a second pass: its caller waits for it."""
    RESCORE = 1
    """What is left to do to a stream's result, and a stream's few phrases: short, and its caller waits for it."""
    SECOND_PASS = 2
    CHUNK = 3
    TAKE_IN = 4
    """Samples into a stream: short, in a thread of its own, so that it never waits for a batch."""
    PARSE = 5
    """Messages and records that are not small, and housekeeping: in one thread, where tenants take turns."""
    COMPILE = 6
    """A stream's many phrases: as DECODE and RESCORE_LIST in two threads of low priority, where tenants take turns."""
    DECODE = 7
    """Files, and large requests."""
    RESCORE_LIST = 8
    """Other recognisers' n-best lists: nobody is speaking."""
    RESTORE = 9
    """Contexts that another replica has encoded; in the thread of ENCODE."""
    ENCODE = 10
    """Contexts: in one thread of low priority, each of them in a pause of the audio, which is waited for not long."""


_IN_WORKERS = (Work.LAST, Work.RESCORE, Work.SECOND_PASS, Work.CHUNK)


class Scheduler:
    """Runs all work of one recogniser. Belongs to one event loop.

    The error or cancellation of one stream concerns no other: a batch that fails is done again stream by stream, and a
    cancelled caller only stops waiting.

    Args:
        workers: threads that recognise and rescore, and batches at once.
        max_batch: streams in a batch.
        batch_wait_s: the longest that a chunk waits for others.
        second_pass_wait_s: seconds since its audio was there from which on a second pass is skipped where others wait;
            from a third of them on a part of it is.
        late_s: age of the oldest waiting chunk from which on audio is `late`.
        pause_s: the longest that a context waits for a pause of the audio, so that a busy server makes contexts too.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        workers: int,
        metrics: Metrics,
        max_batch: int = 8,
        batch_wait_s: float = 0.005,
        second_pass_wait_s: float = math.inf,
        late_s: float = 0.6,
        pause_s: float = 0.0,
    ) -> None:
        self.recognizer = recognizer
        self._workers = self._idle = workers
        self._max_batch = max_batch
        self._batch_wait_s, self._second_pass_wait_s = batch_wait_s, second_pass_wait_s
        self._late_s, self._pause_s = late_s, pause_s
        self._metrics = metrics
        self._second_passes, self._most_second_passes = 0, max(1, workers - 1)
        self._queues: dict[Work, deque[_Waiting]] = {kind: deque() for kind in _IN_WORKERS}
        self._unrecognised: dict[object, float] = {}  # since when each chunk waits, the oldest first
        self._last_s, self._last_wait_s = -math.inf, 0.0  # when a chunk was last recognised, how long after its arrival
        self._coming = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_audio, self._pause, self._encoding = 0, asyncio.Event(), asyncio.Lock()
        self._pause.set()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="recognise")
        self._intake = ThreadPoolExecutor(1, thread_name_prefix="take-in")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode", initializer=lower_priority)
        background = FairThreads(2, "background", lower_priority)
        self._fair = {
            Work.PARSE: FairThreads(1, "parse"),
            Work.COMPILE: background,
            Work.DECODE: background,
            Work.RESCORE_LIST: background,
        }

    @property
    def load_s(self) -> float:
        """Seconds that the oldest chunk has waited which is not recognised yet; 0 where none waits.

        Right behind a batch those that wait are young: the wait of the last chunk counts for a moment longer.
        """
        now = asyncio.get_running_loop().time()
        age_s = now - next(iter(self._unrecognised.values()), now)
        recent = self._unrecognised and now - self._last_s < _RECENT_S
        return max(age_s, self._last_wait_s) if recent else age_s

    @property
    def late(self) -> bool:
        """Is audio late? Then what is not audio waits for better times."""
        return self.load_s > self._late_s

    @property
    def idle_workers(self) -> int:
        """Workers that have nothing to do."""
        return self._idle

    def open(self, options: StreamOptions) -> ScheduledStream:
        """Open a stream."""
        return ScheduledStream(self, options)

    async def run(self, kind: Work, work: Callable[..., T], *arguments: Any, tenant: str = "") -> T:
        """Do work that is no step of a stream, and return its result.

        Args:
            tenant: on whose behalf; of COMPILE, DECODE, RESCORE_LIST and PARSE a tenant has one at a time.

        A caller that is cancelled only stops waiting: what has begun is finished, and its result dropped.
        """
        loop = asyncio.get_running_loop()
        if kind in self._fair:
            return await self._fair[kind].run(tenant, work, *arguments)
        if kind is Work.RESCORE:
            result: T = await self._queued(kind, partial(work, *arguments), loop.time())
            return result
        if kind is Work.TAKE_IN:
            with self.taking_in():
                return await loop.run_in_executor(self._intake, self._timed, work, arguments)
        if kind is Work.RESTORE:
            return await loop.run_in_executor(self._encoder, work, *arguments)
        if kind is not Work.ENCODE:
            raise ValueError(f"{kind.name} is a step of a stream")
        async with self._encoding:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._pause.wait()
            return await loop.run_in_executor(self._encoder, work, *arguments)

    async def step(self, stream: ScheduledStream, kind: Work, since_s: float) -> list[Result]:
        """Recognise a stream's next step and return its results.

        Args:
            kind: LAST, SECOND_PASS or CHUNK.
            since_s: when its audio arrived, by the loop's clock.

        Raises:
            Exception: what recognising this stream raises.
        """
        loop = asyncio.get_running_loop()
        with tracing.span("chunk"):
            if kind is Work.SECOND_PASS:  # long by nature, and skipped where it is late: it says nothing of the load
                results: list[Result] = await self._queued(kind, stream, since_s)
                return results
            started, chunk = loop.time(), object()
            self._unrecognised[chunk] = started
            try:
                with self._metrics.chunks.track_inprogress():
                    results = await self._queued(kind, stream, started)
                self._last_s = loop.time()
                self._last_wait_s = self._last_s - started
                self._metrics.chunk_seconds.observe(self._last_wait_s)
                return results
            finally:
                del self._unrecognised[chunk]

    def close(self) -> None:
        """End the threads. Work that has not begun is dropped; an encoder that hangs is not waited for."""
        for threads in {*self._fair.values()}:
            threads.close()
        self._intake.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._encoder.shutdown(wait=False, cancel_futures=True)

    # The workers' queue

    async def _queued(self, kind: Work, work: ScheduledStream | Callable[[], Any], since_s: float) -> Any:
        waiting = _Waiting(work, since_s, asyncio.get_running_loop().create_future())
        self._queues[kind].append(waiting)
        self._dispatch()
        return await waiting.answer

    def _dispatch(self) -> None:
        """Starts the work for which there are workers."""
        while self._idle and any(self._start(kind) for kind in _IN_WORKERS):
            pass

    def _start(self, kind: Work) -> bool:
        """Starts one piece of work of a kind, or a batch; False: none waits, or all of it is to wait on."""
        queue = self._queues[kind]
        waiting = [one for one in queue if not one.answer.done()]
        queue.clear()
        queue.extend(waiting)
        batch, long = self._batch(kind, waiting) if waiting else ([], False)
        if not batch:
            return False
        for one in batch:
            queue.remove(one)
        self._idle -= 1
        self._second_passes += long
        if kind is Work.RESCORE:
            work = self._call(batch[0])
        else:
            self._metrics.batch_streams.observe(len(batch))
            work = self._recognise(batch)
        task = asyncio.get_running_loop().create_task(self._in_worker(work, batch, long))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _batch(self, kind: Work, waiting: list[_Waiting]) -> tuple[list[_Waiting], bool]:
        """What is to be started of what waits, the oldest first, and whether it takes long (second passes)."""
        now, most = asyncio.get_running_loop().time(), self._max_batch
        if kind is Work.RESCORE:
            return waiting[:1], False
        if kind is Work.CHUNK and self._coming and len(waiting) < most:
            wait_s = self._batch_wait_s - (now - waiting[0].since_s)
            if wait_s > 0:
                self._dispatch_in(wait_s)
                return [], False
        long = False
        if kind is Work.SECOND_PASS:
            others = self._idle < self._workers or sum(map(len, self._queues.values())) > 1
            if short := [one for one in waiting if others and self._skips(one, now)]:
                short = short[: min(most, worthwhile(-(-len(short) // self._idle)))]
                self._metrics.second_passes_skipped.inc(len(short))
                return short, False
            if self._second_passes >= self._most_second_passes:
                self._dispatch_in(min(one.since_s for one in waiting) + self._second_pass_wait_s - now)
                return [], False
            most, long = min(most, _SECOND_PASSES), True
        return waiting[: min(most, worthwhile(-(-len(waiting) // self._idle)))], long

    def _skips(self, one: _Waiting, now: float) -> bool:
        """Skips a late second pass, or a part of it; returns whether none is left."""
        waited_s = now - one.since_s
        if waited_s <= self._second_pass_wait_s * _PARTLY:
            return False
        skipped: bool = one.work.skip_second_pass(entirely=waited_s > self._second_pass_wait_s)
        return skipped

    def _dispatch_in(self, seconds: float) -> None:
        """Dispatches anew then, if not before."""
        loop = asyncio.get_running_loop()
        if math.isinf(seconds) or (self._timer and self._timer.when() <= loop.time() + seconds):
            return
        if self._timer:
            self._timer.cancel()

        def again() -> None:
            self._timer = None
            self._dispatch()

        self._timer = loop.call_later(seconds, again)

    async def _in_worker(self, work: Coroutine[Any, Any, None], batch: list[_Waiting], long: bool) -> None:
        """Awaits what is done in a worker, and frees the worker."""
        try:
            with self._audio_work():
                await work
        finally:
            for one in batch:
                one.answer.cancel()  # those without an answer: the server is closing
            self._idle += 1
            self._second_passes -= long
            asyncio.get_running_loop().call_soon(self._dispatch)  # after these callers, who may have more

    async def _call(self, one: _Waiting) -> None:
        try:
            one.settle(await self._in_pool(one.work))
        except Exception as error:
            one.settle(error)

    async def _recognise(self, batch: list[_Waiting]) -> None:
        try:
            with tracing.shared_span("batch", [one.span for one in batch]):
                results = await self._in_pool(self.recognizer.advance, [one.work.stream for one in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].settle(error)
                return
            for one in batch:  # none has changed: each alone, so that only the one at fault fails
                if not one.answer.done():
                    await self._recognise([one])
        else:
            for one, result in zip(batch, results, strict=True):
                one.settle(result)

    # Threads

    def _in_pool(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._timed, work, arguments)

    def _timed(self, work: Callable[..., T], arguments: Sequence[Any]) -> T:
        """Does work on audio, in a thread."""
        started = time.monotonic()
        try:
            return work(*arguments)
        finally:
            self._metrics.work_seconds.inc(time.monotonic() - started)

    @contextmanager
    def _audio_work(self) -> Iterator[None]:
        """While inside, there is no pause of the audio."""
        self._on_audio += 1
        self._pause.clear()
        try:
            yield
        finally:
            self._on_audio -= 1
            if not self._on_audio:
                self._pause.set()

    @contextmanager
    def taking_in(self) -> Iterator[None]:
        """While inside, a stream's audio is being taken in, and a chunk of it may be ready in a moment."""
        self._coming += 1
        try:
            with self._audio_work():
                yield
        finally:
            self._coming -= 1
            asyncio.get_running_loop().call_soon(self._dispatch)  # after the caller, who may have a chunk now


class ScheduledStream:
    """A stream of the recogniser whose work the scheduler does; nothing else of the server uses the recogniser's."""

    def __init__(self, scheduler: Scheduler, options: StreamOptions) -> None:
        self.stream = scheduler.recognizer.open(options)
        self._scheduler = scheduler

    @property
    def done(self) -> bool:
        """True when the stream ignores more audio: it has ended, or had its single utterance."""
        return self.stream.done

    @property
    def has_speech(self) -> bool:
        """Whether the utterance under way has speech so far; with endpointing."""
        return self.stream.has_speech

    def set_context(self, graph: PhraseGraph | None, following: PhraseGraph | None = None) -> None:
        """Search utterances that end from now on with a context's phrases too. Not during `accept`.

        Args:
            following: the phrases for those that `change` speaks of.
        """
        self.stream.set_context(graph, following)

    async def accept(self, samples: Samples) -> list[Result | SpeechEvent]:
        """Recognise (n,) float32 samples, -1 to 1, at the stream's rate. Raises AudioError."""
        since_s = asyncio.get_running_loop().time()
        await self._scheduler.run(Work.TAKE_IN, self.stream.take, samples)
        return await self._steps(since_s)

    @property
    def has_words(self) -> bool:
        """Whether the utterance under way has words so far."""
        return self.stream.has_words

    @property
    def revision(self) -> int:
        """Of the options of the utterance under way."""
        return self.stream.revision

    def change(self, options: StreamOptions) -> None:
        """Recognise utterances from the next one on with other options and without context. Not during `accept`."""
        self.stream.change(options)

    async def finalize(self) -> list[Result | SpeechEvent]:
        """End the utterance, not the stream."""
        if self.done:
            return []
        since_s = asyncio.get_running_loop().time()
        await self._scheduler.run(Work.TAKE_IN, self.stream.end_utterance)
        return await self._steps(since_s)

    async def finish(self) -> list[Result | SpeechEvent]:
        """End the stream."""
        if self.done:
            return []
        since_s = asyncio.get_running_loop().time()
        await self._scheduler.run(Work.TAKE_IN, self.stream.end)
        return await self._steps(since_s)

    def skip_second_pass(self, *, entirely: bool) -> bool:
        """Skip the second pass of the pending result, and return whether none is left.

        Args:
            entirely: False: skip only the search of the whole utterance, which costs most for what it brings.
        """
        self.stream.skip_second_pass(Pass if entirely else (Pass.WHOLE_UTTERANCE,))
        return not self.stream.needs_second_pass

    async def _steps(self, since_s: float) -> list[Result | SpeechEvent]:
        results: list[Result | SpeechEvent] = []
        while self.stream.ready:
            try:
                found = await self._step(since_s)
            except Exception as error:
                if not self.stream.clear_context():
                    raise
                logs.failure("context_not_searched", error)
                found = await self._step(since_s)
            results += (*self.stream.state.speech_events, *found)
        return results

    async def _step(self, since_s: float) -> list[Result]:
        stream = self.stream
        if stream.needs_second_pass:
            kind = Work.SECOND_PASS
        else:
            kind = Work.LAST if stream.audio_ended or stream.pending.is_result else Work.CHUNK
        return await self._scheduler.step(self, kind, since_s)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """Work that waits for a worker.

    work: a stream with a step, or a call.
    since_s: when it, or its audio, was there, by the loop's clock.
    answer: its result.
    span: the trace's span that it belongs to.
    """

    work: Any
    since_s: float
    answer: asyncio.Future[Any]
    span: Any = field(default_factory=tracing.current)

    def settle(self, result: Any) -> None:
        """Gives the caller the result, or the error, unless the caller was cancelled."""
        if self.answer.done():
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)
