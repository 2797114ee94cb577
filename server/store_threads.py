"""The blocking context store, used from an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from context_store import ContextStore

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """Runs calls of a `ContextStore` in a few threads, never on the event loop."""

    def __init__(self, store: ContextStore, threads: int) -> None:
        self.store = store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")

    async def run(self, call: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Result of a method of `store`. Raises StoreError. A cancelled caller only stops waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*arguments, **keywords))

    def close(self) -> None:
        """End the threads and the connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()
