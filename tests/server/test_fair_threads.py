"""Tenants take turns in threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from server.fair_threads import FairThreads


def test_a_tenants_flood_waits_for_itself() -> None:
    """Ten pieces of one tenant are there first; another's comes after the one that runs and the one that waits."""
    go_on, done = threading.Event(), list[str]()

    def work(name: str) -> None:
        assert go_on.wait(60)
        done.append(name)

    async def run() -> None:
        threads = FairThreads(1, "test")
        flood = [asyncio.create_task(threads.run("acme", work, f"acme {i}")) for i in range(10)]
        await asyncio.sleep(0)
        other = asyncio.create_task(threads.run("umbra", work, "umbra"))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*flood, other)
        threads.close()

    asyncio.run(run())
    assert done.index("umbra") <= 1
    assert [name for name in done if name != "umbra"] == [f"acme {i}" for i in range(10)]


def test_a_caller_that_leaves_keeps_its_turn_until_its_work_is_done() -> None:
    go_on, running = threading.Event(), threading.Event()

    def work() -> None:
        running.set()
        assert go_on.wait(60)

    async def run() -> None:
        threads = FairThreads(2, "test")
        left = asyncio.create_task(threads.run("acme", work))
        await asyncio.to_thread(running.wait, 60)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        second = asyncio.create_task(threads.run("acme", lambda: None))
        await threads.run("umbra", lambda: None)
        assert not second.done()
        go_on.set()
        await second
        threads.close()

    asyncio.run(run())


def test_work_that_fails_leaves_nothing_behind() -> None:
    """What it was about may be a recording: it goes with the error, not when Python next looks for circles."""

    class Recording:
        pass

    def work(_: Recording) -> None:
        raise ValueError("bad")

    async def run(threads: FairThreads, made: list[Any]) -> None:
        recording = Recording()
        made.append(weakref.ref(recording))
        with pytest.raises(ValueError, match="bad"):
            await threads.run("acme", work, recording)

    async def both() -> Any:
        threads, made = FairThreads(1, "test"), list[Any]()
        await run(threads, made)
        await threads.run("acme", lambda: None)  # the thread has let go of its last work
        threads.close()
        return made[0]

    gc.disable()
    try:
        assert asyncio.run(both())() is None
    finally:
        gc.enable()
