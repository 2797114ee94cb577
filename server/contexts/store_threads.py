"""The blocking context store, used from an event loop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from context_store import ContextStore, DialogueId, StoreUnavailableError
from server import tracing
from server.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """Runs calls of a `ContextStore` in a few threads, never on the event loop.

    Args:
        threads: at most half of them are one tenant's at a time, so that its flood leaves the rest to others.
        deadline_s: seconds after which a call is given up, so that no queue grows before a store that does not answer.
    """

    def __init__(self, store: ContextStore, threads: int, deadline_s: float, metrics: Metrics) -> None:
        self.store = store
        self._deadline_s = deadline_s
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._shares: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(max(1, threads // 2)))

    async def run(
        self,
        call: Callable[Concatenate[DialogueId, P], T],
        dialogue: DialogueId,
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> T:
        """Return what a method of `store` returns for a dialogue.

        When the caller is cancelled, or time is up, a call that has begun is finished and its result dropped; one that
        has not begun is not made.

        Raises:
            StoreError: those of the method, and StoreUnavailableError when time is up.
        """
        return await self._measured(dialogue.tenant, call, dialogue, *arguments, **keywords)

    async def run_for_all(self, call: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """As `run`, on nobody's behalf."""
        return await self._measured("", call, *arguments, **keywords)

    async def _measured(self, tenant: str, call: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        name: str = getattr(call, "__name__", "call")
        outcome, started = "abandoned", time.monotonic()  # unless something else is known in the end
        try:
            with tracing.span(f"store {name}"):
                result = await self._in_time(tenant, lambda: call(*arguments, **keywords))
            outcome = "ok"
            return result
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self._metrics.store_calls.labels(name, outcome).inc()
            self._metrics.store_seconds.labels(name).observe(time.monotonic() - started)

    async def _in_time(self, tenant: str, call: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._in_thread(tenant, call)
        except TimeoutError:
            waited = f"the store did not answer within {self._deadline_s:g} s; repeat the call"
            raise StoreUnavailableError(waited) from None

    async def _in_thread(self, tenant: str, call: Callable[[], T]) -> T:
        loop, share = asyncio.get_running_loop(), self._shares[tenant]
        await share.acquire()
        try:
            done = self._pool.submit(call)
        except RuntimeError:  # the server is closing
            share.release()
            raise
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(share.release))  # the thread's end, not the caller's
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """End the threads and the connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()
