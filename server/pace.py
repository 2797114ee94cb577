"""The pace of a stream's messages."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Rate limit of one stream's tiny messages: a burst at once, then so many a second.

    A message as large as a few milliseconds of audio is never delayed.

    Args:
        clock: seconds of a monotonic clock.
    """

    BURST, PER_S, TINY_BYTES = 200, 100, 80

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._seen_s = float(self.BURST), clock()

    def pause_s(self, size: int) -> float:
        """Seconds to wait before a message of so many bytes is processed."""
        if size >= self.TINY_BYTES:
            return 0.0
        now = self._clock()
        self._left = min(self.BURST, self._left + (now - self._seen_s) * self.PER_S) - 1
        self._seen_s = now
        return max(0.0, -self._left / self.PER_S)
