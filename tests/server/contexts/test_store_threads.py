"""The store's threads: one tenant has half of them, and a call that was given up keeps its thread until it ends."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from context_store import DialogueId
from server.contexts.store_threads import StoreThreads
from server.metrics import Metrics

ACME, UMBRA = DialogueId("acme", "x"), DialogueId("umbra", "x")
PATIENCE_S = 30


def test_a_call_that_was_given_up_still_counts() -> None:
    begun: list[str] = []
    begins, goes_on = {name: threading.Event() for name in "abc"}, threading.Event()

    def call(dialogue: DialogueId, name: str, wait: bool) -> str:
        begun.append(name)
        begins[name].set()
        assert not wait or goes_on.wait(PATIENCE_S)
        return name

    async def run() -> None:
        store: Any = SimpleNamespace(close=lambda: None)
        threads = StoreThreads(store, 2, PATIENCE_S, Metrics())
        first = asyncio.ensure_future(threads.run(call, ACME, "a", wait=True))
        await asyncio.to_thread(begins["a"].wait, PATIENCE_S)
        given_up = asyncio.ensure_future(threads.run(call, ACME, "never", wait=False))
        second = asyncio.ensure_future(threads.run(call, ACME, "b", wait=False))
        await asyncio.sleep(0)
        first.cancel()
        given_up.cancel()
        await asyncio.gather(first, given_up, return_exceptions=True)
        assert await threads.run(call, UMBRA, "c", wait=False) == "c"
        assert begun == ["a", "c"]
        goes_on.set()
        assert await second == "b"
        threads.close()

    asyncio.run(run())
    assert begun == ["a", "c", "b"]
