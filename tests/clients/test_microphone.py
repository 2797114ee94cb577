"""The microphone: pieces until it is stopped, and one clear line where there is none."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import pytest

from carryover import microphone


def test_pieces_until_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class RawInputStream:
        def __init__(self, rate: int, size: int, *, callback: Any, **_: Any) -> None:
            self.callback = callback

        def __enter__(self) -> None:
            for i in range(3):
                self.callback(bytes([i, i]), 1, None, None)

        def __exit__(self, *_: object) -> None:
            pass

    fake = types.SimpleNamespace(RawInputStream=RawInputStream, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)

    async def run() -> list[bytes]:
        stop, heard = asyncio.Event(), []
        async for piece in microphone.listen(stop):
            heard.append(piece)
            if len(heard) == 3:
                stop.set()
        return heard

    assert asyncio.run(run()) == [b"\0\0", b"\1\1", b"\2\2"]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    async def run() -> None:
        async for _ in microphone.listen(asyncio.Event()):
            pass

    with pytest.raises(microphone.MicrophoneError, match=r"pip install 'carryover-asr\[microphone\]'"):
        asyncio.run(run())
