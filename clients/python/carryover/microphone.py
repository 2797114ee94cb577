"""Audio of the default microphone, by the optional package sounddevice."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from typing import Any

RATE = 16_000
_PIECE = RATE // 10


class MicrophoneError(Exception):
    """There is no microphone to listen to. The message says what to change."""


async def listen(stop: asyncio.Event) -> AsyncIterator[bytes]:
    """LINEAR16 audio at 16 kHz until `stop` is set. Raises MicrophoneError."""
    try:
        import sounddevice
    except ImportError:
        hint = f"{shlex.quote(sys.executable)} -m pip install 'carryover-asr[microphone]'"
        raise MicrophoneError(f"the microphone needs the package sounddevice: {hint}") from None
    except OSError:
        raise MicrophoneError("sounddevice does not find PortAudio; install libportaudio2") from None
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def take(data: Any, frames: int, time: Any, status: Any) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, bytes(data))

    try:
        stream = sounddevice.RawInputStream(RATE, _PIECE, channels=1, dtype="int16", callback=take)
    except sounddevice.PortAudioError as error:
        raise MicrophoneError(f"the microphone does not open: {error}") from None
    with stream:
        while not stop.is_set():
            yield await pieces.get()
