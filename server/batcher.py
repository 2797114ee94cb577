"""Dynamic batching: chunks of many streams, recognised together.

A stream whose chunk is ready waits here, in the event loop, until a worker is free; then the oldest ones are recognised
as one batch. Nobody waits for company that is not there: only while other streams' audio is being taken in, which is a
matter of milliseconds, a batch waits for them, and never longer than its bound. Chunks of streams whose audio has ended
go first, in batches without others, which are done sooner: their callers wait for the final result, the others' are
still speaking. Then second passes, which take long: where there are several workers, one is always left for the rest.
One that is late is made in part, or left out.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from asr.recognition.batching import worthwhile
from asr.recognition.results import Result
from server import tracing
from server.metrics import Metrics

_PARTLY = 1 / 3
"""Share of the longest wait from which on a second pass is made in part."""
_TOGETHER = 4
"""Second passes in a batch: the attention decoder's weights are read once for all, but each takes as long as all."""

Advance = Callable[[Sequence[Any]], list[list[Result]]]
Run = Callable[[Advance, Sequence[Any]], Coroutine[Any, Any, list[list[Result]]]]


class Step(IntEnum):
    """What a stream waits for; the first first. So that nobody starves, streams have few steps of the first kinds."""

    LAST = 0
    """A chunk of a stream whose audio has ended, or a result that takes no second pass."""
    SECOND_PASS = 1
    CHUNK = 2


@dataclass(frozen=True)
class _Waiting:
    stream: Any
    since_s: float
    answer: asyncio.Future[list[Result]]
    late: Callable[[bool], bool]
    span: Any = field(default_factory=tracing.current)


class Batcher:
    """Belongs to one event loop.

    Args:
        advance: recognises one step of each of several streams; where it raises, no stream has changed.
        run: does that in one of the workers' threads.
        workers: batches at once. max_batch: streams in one. wait_s: the longest that a chunk waits for others.
        late_s: seconds since its audio was there from which on a second pass gives way to others entirely; a part of
            it gives way from a third of them on.
    """

    def __init__(
        self,
        advance: Advance,
        run: Run,
        *,
        workers: int,
        max_batch: int,
        wait_s: float,
        late_s: float,
        metrics: Metrics,
    ) -> None:
        self._advance = advance
        self._run = run
        self._workers = self._idle = workers
        self._max_batch = max_batch
        self._wait_s, self._late_s = wait_s, late_s
        self._second_passes, self._most_second_passes = 0, max(1, workers - 1)
        self._metrics = metrics
        self._queues: dict[Step, deque[_Waiting]] = {step: deque() for step in Step}
        self._coming = 0
        self._timer: asyncio.TimerHandle | None = None
        self._batches: set[asyncio.Task[None]] = set()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """While inside, a stream's audio is being taken in, and a chunk of it may be ready in a moment."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            asyncio.get_running_loop().call_soon(self._dispatch)  # after the caller, who may have a chunk now

    async def advance(
        self,
        stream: Any,
        *,
        step: Step = Step.CHUNK,
        since_s: float | None = None,
        late: Callable[[bool], bool] = lambda entirely: entirely,
    ) -> list[Result]:
        """The results of the stream's next step. Raises what recognising this stream raises.

        since_s: when the audio was there, by the loop's clock; None: now. late: called before a second pass that comes
        late, with whether it has to be left out entirely; else a part of it will do. It tells whether the step is short
        now.

        A caller that is cancelled only stops waiting: a step that is being made then is finished, unheard.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(stream, loop.time() if since_s is None else since_s, loop.create_future(), late)
        self._queues[step].append(waiting)
        self._dispatch()
        return await waiting.answer

    def _dispatch(self) -> None:
        """Starts the batches for which there are workers and streams."""
        while self._idle and any(self._start(step) for step in Step):
            pass

    def _start(self, step: Step) -> bool:
        """Starts a batch of those that wait for such a step; False: nobody does, or they are to wait on."""
        queue, now = self._queues[step], asyncio.get_running_loop().time()
        waiting = [one for one in queue if not one.answer.done()]
        queue.clear()
        queue.extend(waiting)
        if not waiting:
            return False
        waited_s, most, long = now - waiting[0].since_s, self._max_batch, False
        if step is Step.CHUNK and self._coming and waited_s < self._wait_s and len(waiting) < most:
            self._again_in(self._wait_s - waited_s)
            return False
        others = self._idle < self._workers or sum(map(len, self._queues.values())) > 1
        short = [one for one in waiting if others and step is Step.SECOND_PASS and self._gives_way(one, now)]
        if short:
            waiting = short
        elif step is Step.SECOND_PASS:
            if self._second_passes >= self._most_second_passes:
                self._again_in(min(one.since_s for one in waiting) + self._late_s - now)
                return False
            most, long = min(most, _TOGETHER), True
        batch = waiting[: min(most, worthwhile(-(-len(waiting) // self._idle)))]
        for one in batch:
            queue.remove(one)
        self._idle -= 1
        self._second_passes += long
        task = asyncio.get_running_loop().create_task(self._recognise(batch, long))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        return True

    def _gives_way(self, one: _Waiting, now: float) -> bool:
        """Has a late second pass made shorter; returns whether the step is short now."""
        waited_s = now - one.since_s
        return waited_s > self._late_s * _PARTLY and one.late(waited_s > self._late_s)

    def _again_in(self, seconds: float) -> None:
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

    async def _recognise(self, batch: list[_Waiting], long: bool) -> None:
        """long: they are second passes."""
        self._metrics.batch_streams.observe(len(batch))
        try:
            with tracing.shared_span("batch", [one.span for one in batch]):
                results = await self._run(self._advance, [one.stream for one in batch])
        except Exception as error:
            if len(batch) == 1:
                _answer(batch[0], error)
            else:  # none has changed: each alone, so that only the one at fault fails
                for one in batch:
                    await self._alone(one)
        else:
            for one, found in zip(batch, results, strict=True):
                _answer(one, found)
        finally:
            for one in batch:
                one.answer.cancel()  # those without an answer: the server is closing
            self._idle += 1
            self._second_passes -= long
            asyncio.get_running_loop().call_soon(self._dispatch)  # after these streams, which may have a chunk more

    async def _alone(self, one: _Waiting) -> None:
        if one.answer.done():
            return
        try:
            (found,) = await self._run(self._advance, [one.stream])
        except Exception as error:
            _answer(one, error)
        else:
            _answer(one, found)


def _answer(one: _Waiting, found: list[Result] | Exception) -> None:
    if one.answer.done():  # its caller was cancelled
        return
    if isinstance(found, Exception):
        one.answer.set_exception(found)
    else:
        one.answer.set_result(found)
