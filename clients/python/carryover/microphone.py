"""Audio of the default microphone, by the optional package sounddevice."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from carryover.errors import AudioError

_RATE = 16_000
_PIECE = _RATE // 10


class Microphone:
    """LINEAR16 audio at 16 kHz, in pieces of 0.1 s, until `stop` is called.

    It is listened to while it is iterated over, by `for` or `async for`; that raises AudioError where there is none.
    """

    rate = _RATE
    """Samples a second."""
    encoding = "LINEAR16"
    """Of its pieces."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the audio, from any thread or signal handler; the last words still get a result."""
        self._stopped.set()

    def __iter__(self) -> Iterator[bytes]:
        pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        with _listening(pieces.put):
            while not self._stopped.is_set():
                yield pieces.get()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        with _listening(lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece)):
            while not self._stopped.is_set():
                yield await pieces.get()


def _listening(take: Callable[[bytes], object]) -> Any:
    """The microphone, open while inside; `take` is given its pieces in another thread."""
    try:
        import sounddevice
    except ImportError:
        raise AudioError("the microphone needs the package sounddevice: pip install sounddevice") from None
    except OSError:
        raise AudioError("sounddevice does not find PortAudio; install libportaudio2") from None

    def callback(data: Any, frames: int, time: Any, status: Any) -> None:
        take(bytes(data))

    try:
        return sounddevice.RawInputStream(_RATE, _PIECE, channels=1, dtype="int16", callback=callback)
    except sounddevice.PortAudioError as error:
        raise AudioError(f"the microphone does not open: {error}") from None
