"""Memory of what clients send: a quota for recordings, and the return of free memory to the system."""

from __future__ import annotations

import asyncio
import ctypes
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class _Taken:
    quota: MemoryQuota
    tenant: str
    size: int


_TAKEN: ContextVar[_Taken | None] = ContextVar("taken", default=None)


class MemoryQuota:
    """Bounds the memory of recordings; callers wait until theirs fits. Belongs to one event loop.

    Args:
        size: bytes in total, at most half of them one tenant's.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: Counter[str] = Counter()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def taken(self) -> int:
        """Bytes that are reserved now."""
        return self._taken.total()

    @property
    def waiting(self) -> int:
        """Callers that wait for memory."""
        return len(self._waiting)

    @asynccontextmanager
    async def reserved(self, tenant: str, most: int) -> AsyncIterator[None]:
        """While inside, so many bytes are reserved, or what `keep` leaves of them."""
        while not self._fits(tenant, most):
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)
        self._taken[tenant] += most
        taken = _Taken(self, tenant, most)
        _TAKEN.set(taken)
        try:
            yield
        finally:
            self._give_back(taken, taken.size)
            _TAKEN.set(None)

    def _fits(self, tenant: str, most: int) -> bool:
        """One at a time fits always, however large."""
        own, others = self._taken[tenant], self.taken - self._taken[tenant]
        return not own + others or (own + others + most <= self._size and (not own or own + most <= self._size // 2))

    def _give_back(self, taken: _Taken, size: int) -> None:
        taken.size -= size
        self._taken[taken.tenant] -= size
        if not self._taken[taken.tenant]:
            del self._taken[taken.tenant]
        for waiting in self._waiting:  # all look again, in the order in which they came
            if not waiting.done():
                waiting.set_result(None)


def keep(size: int) -> None:
    """Give back all but so many of the bytes that the current task's call reserved."""
    taken = _TAKEN.get()
    if taken is not None and size < taken.size:
        taken.quota._give_back(taken, taken.size - size)


class Trim:
    """Returns free memory to the system some time after a large message: glibc would keep it for good.

    Belongs to one event loop.

    Args:
        run: does work of some milliseconds in a thread.
        later_s: the time, seconds.
    """

    def __init__(self, run: Callable[[Callable[[], None]], Coroutine[Any, Any, None]], later_s: float = 2.0) -> None:
        self._run = run
        self._later_s = later_s
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Schedule it, after something large came in or went."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._later_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._run(trim))

    def close(self) -> None:
        """Cancel what is scheduled."""
        for scheduled in (self._timer, self._task):
            if scheduled is not None:
                scheduled.cancel()


def trim() -> None:
    """Return free memory to the system, where its C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
