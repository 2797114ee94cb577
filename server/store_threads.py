"""The blocking context store, used from an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from context_store import ContextStore
from server import tracing
from server.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """Runs calls of a `ContextStore` in a few threads, never on the event loop."""

    def __init__(self, store: ContextStore, threads: int, metrics: Metrics) -> None:
        self.store = store
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")

    async def run(self, call: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Result of a method of `store`. Raises StoreError. A cancelled caller only stops waiting."""
        name: str = getattr(call, "__name__", "call")
        outcome, started = "abandoned", time.monotonic()  # unless something else is known in the end
        try:
            with tracing.span(f"store {name}"):
                work = asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*arguments, **keywords))
                result = await work
            outcome = "ok"
            return result
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self._metrics.store_calls.labels(name, outcome).inc()
            self._metrics.store_seconds.labels(name).observe(time.monotonic() - started)

    def close(self) -> None:
        """End the threads and the connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()
