"""Audio that no final result has answered yet, for whoever goes on with another stream when one breaks."""

from __future__ import annotations

from collections import deque


class Unanswered:
    """Keeps what was sent of LINEAR16 audio until a final result answers it.

    Args:
        rate: samples a second.
        most_s: the most that is kept, seconds; the oldest is forgotten first.
    """

    def __init__(self, rate: int, most_s: float = 30.0) -> None:
        self._bytes_per_s = 2 * rate
        self._most_bytes = int(most_s * self._bytes_per_s)
        self._pieces: deque[bytes] = deque()
        self._start = self._end = 0  # bytes of the stream before what is kept, and until now

    @property
    def until_s(self) -> float:
        """Seconds of the stream until now."""
        return self._end / self._bytes_per_s

    def sent(self, piece: bytes) -> None:
        """Keep a piece of the stream's audio."""
        self._pieces.append(piece)
        self._end += len(piece)
        self._forget(self._end - self._most_bytes)

    def answered(self, end_s: float) -> None:
        """Forget what a final result has answered. end_s: its end."""
        self._forget(round(end_s * self._bytes_per_s))

    def again(self) -> tuple[list[bytes], float]:
        """What is to be sent again on another stream, and its seconds; that one begins with it."""
        pieces, seconds = list(self._pieces), (self._end - self._start) / self._bytes_per_s
        self._pieces.clear()
        self._start = self._end = 0
        return pieces, seconds

    def _forget(self, until: int) -> None:
        while self._pieces and self._start + len(self._pieces[0]) <= until:
            self._start += len(self._pieces.popleft())
