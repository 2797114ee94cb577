"""What a thread sends on a stream: messages in order, few at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from carryover.v1.recognizer_pb2 import StreamingRecognizeRequest as Request

_MOST = 16
"""Messages that wait before whoever adds one waits too."""


class Outbox:
    """Messages of a stream, which gRPC takes in a thread of its own, by `iter`.

    Args:
        first: the first of them.

    Attributes:
        broken: what the source of audio raised. gRPC would only end the call, and tell nobody why.
        ended: no message follows any more.
    """

    def __init__(self, first: Request) -> None:
        self.broken: Exception | None = None
        self.ended = False
        self._closed = False
        self._waiting = deque([first])
        self._changed = threading.Condition()

    def put(self, request: Request) -> bool:
        """Add a message when there is room. False: the outbox has ended, or the call has."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or self._closed or len(self._waiting) < _MOST)
            if self.ended or self._closed:
                return False
            self._waiting.append(request)
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """Let nothing follow the messages that are there: the client half-closes."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """The call has ended: nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Request]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self.ended or self._closed)
                if self._closed or not self._waiting:
                    return
                request = self._waiting.popleft()
                self._changed.notify_all()
            yield request
