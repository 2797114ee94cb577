"""Memory of what clients send: a bound for recordings, all of them together, and its return to the system."""

from __future__ import annotations

import asyncio
import ctypes
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class _Taken:
    room: Room
    tenant: str
    size: int


_TAKEN: ContextVar[_Taken | None] = ContextVar("taken", default=None)


class Room:
    """Belongs to one event loop. size: bytes in all, at most half of them a tenant's; who finds no room waits."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: Counter[str] = Counter()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def taken(self) -> int:
        """Bytes that are taken now."""
        return self._taken.total()

    @property
    def waiting(self) -> int:
        """Callers that wait for room."""
        return len(self._waiting)

    @asynccontextmanager
    async def reserved(self, tenant: str, most: int) -> AsyncIterator[None]:
        """While inside, so many bytes are taken, or what `keep` leaves of them."""
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
    """The call that the current task serves needs no more than so many of the bytes it reserved."""
    taken = _TAKEN.get()
    if taken is not None and size < taken.size:
        taken.room._give_back(taken, taken.size - size)


class Trim:
    """Gives free memory back to the system, a while after something large came in: glibc would keep it for good.

    Belongs to one event loop. later_s: the while. do: the work, which takes some milliseconds.
    """

    def __init__(self, later_s: float = 2.0, do: Callable[[], None] | None = None) -> None:
        self._later_s = later_s
        self._do = do or trim
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Something large came in, or went."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._later_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self._do)

    def close(self) -> None:
        """Not any more."""
        if self._timer is not None:
            self._timer.cancel()


def trim() -> None:
    """Gives memory that is free back to the system, where its C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
