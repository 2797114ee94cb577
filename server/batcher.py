"""Dynamic batching: chunks of many streams, recognised together.

A stream whose chunk is ready waits here, in the event loop, until a worker is free; then the oldest ones are recognised
as one batch. Nobody waits for company that is not there: only while other streams' audio is being taken in, which is a
matter of milliseconds, a batch waits for them, and never longer than its bound. Chunks of streams whose audio has ended
go first, in batches without others, which are done sooner: their callers wait for the final result, the others' are
still speaking.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asr.batch import worthwhile
from asr.hypothesis import Result
from server import tracing
from server.metrics import Metrics

Advance = Callable[[Sequence[Any]], list[list[Result]]]
Run = Callable[[Advance, Sequence[Any]], Coroutine[Any, Any, list[list[Result]]]]


@dataclass(frozen=True)
class _Waiting:
    stream: Any
    since_s: float
    answer: asyncio.Future[list[Result]]
    span: Any = field(default_factory=tracing.current)


class Batcher:
    """Belongs to one event loop.

    Args:
        advance: recognises one chunk of each of several streams; where it raises, no stream has changed.
        run: does that in one of the workers' threads.
        workers: batches at once. max_batch: streams in one. wait_s: the longest that a chunk waits for others.
    """

    def __init__(
        self, advance: Advance, run: Run, *, workers: int, max_batch: int, wait_s: float, metrics: Metrics
    ) -> None:
        self._advance = advance
        self._run = run
        self._idle = workers
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._urgent: deque[_Waiting] = deque()
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

    async def advance(self, stream: Any, *, urgent: bool = False) -> list[Result]:
        """The results of the stream's chunk that is ready. Raises what recognising this stream raises.

        urgent: before all that are not. So that nobody starves, only for streams with few chunks to come.

        A caller that is cancelled only stops waiting: a chunk that is being recognised then is finished, unheard.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(stream, loop.time(), loop.create_future())
        (self._urgent if urgent else self._waiting).append(waiting)
        self._dispatch()
        return await waiting.answer

    def _dispatch(self) -> None:
        """Starts the batches for which there are workers and chunks."""
        for queue in (self._urgent, self._waiting):
            while queue and queue[0].answer.done():
                queue.popleft()
        while self._idle and (queue := self._urgent or self._waiting):
            loop = asyncio.get_running_loop()
            left_s = queue[0].since_s + self._wait_s - loop.time()
            if queue is self._waiting and self._coming and left_s > 0 and len(queue) < self._max_batch:
                self._again_in(left_s)
                return
            batch = self._oldest(queue)
            if batch:
                self._idle -= 1
                task = loop.create_task(self._recognise(batch))
                self._batches.add(task)
                task.add_done_callback(self._batches.discard)

    def _oldest(self, queue: deque[_Waiting]) -> list[_Waiting]:
        """The chunks of one batch: an even share for each idle worker."""
        waiting = [one for one in queue if not one.answer.done()]
        share = -(-len(waiting) // self._idle)
        batch = waiting[: min(self._max_batch, worthwhile(share))] if waiting else []
        queue.clear()
        queue.extend(waiting[len(batch) :])
        return batch

    def _again_in(self, seconds: float) -> None:
        if self._timer is None or self._timer.cancelled():

            def again() -> None:
                self._timer = None
                self._dispatch()

            self._timer = asyncio.get_running_loop().call_later(seconds, again)

    async def _recognise(self, batch: list[_Waiting]) -> None:
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
