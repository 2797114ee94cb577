"""Recordings share a bounded quota, and free memory goes back to the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from server import memory
from server.memory import MemoryQuota, Trim


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60), st.integers(0, 60)), max_size=12))
def test_no_more_is_taken_than_there_is_and_everybody_gets_a_turn(calls: list[tuple[str, int, int]]) -> None:
    """Each call reserves, keeps less, and leaves."""
    quota, taken, ended = MemoryQuota(100), list[int](), list[int]()

    async def call(number: int, tenant: str, most: int, kept: int) -> None:
        async with quota.reserved(tenant, most):
            taken.append(quota.taken)
            await asyncio.sleep(0)
            memory.keep(kept)
            await asyncio.sleep(0)
        ended.append(number)

    async def run() -> None:
        await asyncio.gather(*(call(i, *c) for i, c in enumerate(calls)))

    asyncio.run(run())
    assert sorted(ended) == list(range(len(calls)))
    assert max(taken, default=0) <= 100 and quota.taken == 0


def test_a_tenant_leaves_half_of_the_room_to_others() -> None:
    quota, order = MemoryQuota(100), list[str]()

    async def call(name: str, tenant: str, go_on: asyncio.Event) -> None:
        async with quota.reserved(tenant, 30):
            order.append(name)
            await go_on.wait()

    async def run() -> None:
        go_on = asyncio.Event()
        calls = [asyncio.create_task(call(f"acme {i}", "acme", go_on)) for i in range(3)]
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(call("umbra", "umbra", go_on)))
        await asyncio.sleep(0)
        assert order == ["acme 0", "umbra"]
        calls[1].cancel()  # who leaves while waiting takes no quota
        go_on.set()
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(run())
    assert order == ["acme 0", "umbra", "acme 2"] and quota.taken == 0


def test_one_larger_than_the_room_gets_in_alone() -> None:
    async def run() -> None:
        async with asyncio.timeout(60), MemoryQuota(10).reserved("acme", 1000):
            pass

    asyncio.run(run())


def test_many_large_messages_are_one_return_of_memory() -> None:
    async def run() -> int:
        done, times = asyncio.Event(), list[int]()

        async def work(give_back: Callable[[], None]) -> None:
            give_back()
            times.append(1)
            done.set()

        trim = Trim(work, later_s=0.01)
        for _ in range(5):
            trim.soon()
        async with asyncio.timeout(60):
            await done.wait()
        trim.soon()
        trim.close()
        return len(times)

    assert asyncio.run(run()) == 1
