"""Threads in which tenants take turns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_NICENESS = 10


class FairThreads:
    """Threads in which each tenant has one piece of work at a time, so that a tenant's flood delays only that tenant.

    Belongs to one event loop.

    Args:
        threads: their number.
        name: prefix of their names.
        prepare: called in each thread before its first work.
    """

    def __init__(self, threads: int, name: str, prepare: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=prepare)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, tenant: str, work: Callable[..., T], *arguments: Any) -> T:
        """Return `work(*arguments)`. A caller that is cancelled only stops waiting: what has begun is finished."""
        loop, turn = asyncio.get_running_loop(), self._turns[tenant]
        await turn.acquire()
        try:
            done = self._pool.submit(work, *arguments)
        except BaseException:
            turn.release()
            raise
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(turn.release))  # the thread's end, not the caller's
        try:
            return await asyncio.wrap_future(done)
        finally:
            del done  # its error knows this frame: together they would keep what the work was about

    def close(self) -> None:
        """End the threads. Work that has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def lower_priority() -> None:
    """Lower the calling thread's priority, on Linux, where threads have their own: it gives way to audio."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
