"""An event loop whose clock the test moves: what waits for a time does not depend on how busy the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class ManualClockLoop(asyncio.SelectorEventLoop):
    """Timers are due when `advance` has brought the clock there; threads and sockets go on as ever."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    async def advance(self, seconds: float) -> None:
        """Moves the clock, and lets what is due then be done."""
        self._now_s += seconds
        for _ in range(3):  # the timer, what it calls soon, the task that this wakes
            await asyncio.sleep(0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
        return runner.run(work)


def clock() -> ManualClockLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ManualClockLoop)
    return loop
