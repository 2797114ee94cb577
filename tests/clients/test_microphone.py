"""The microphone: pieces until it is stopped, and one clear line where there is none."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import pytest

from carryover import AudioError
from carryover.microphone import Microphone


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that hears three pieces, and says whether its stream is open."""

    class RawInputStream:
        def __init__(self, rate: int, size: int, *, callback: Any, **_: Any) -> None:
            self.callback = callback

        def __enter__(self) -> None:
            fake.opened += 1
            for i in range(3):
                self.callback(bytes([i, i]), 1, None, None)

        def __exit__(self, *_: object) -> None:
            fake.opened -= 1

    fake = types.SimpleNamespace(RawInputStream=RawInputStream, PortAudioError=OSError, opened=0)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def test_pieces_until_stopped(sounddevice: Any) -> None:
    microphone, heard = Microphone(), []
    for piece in microphone:
        heard.append(piece)
        assert sounddevice.opened
        if len(heard) == 3:
            microphone.stop()
    assert heard == [b"\0\0", b"\1\1", b"\2\2"] and not sounddevice.opened


def test_pieces_until_stopped_in_an_event_loop(sounddevice: Any) -> None:
    async def run() -> list[bytes]:
        microphone, heard = Microphone(), []
        async for piece in microphone:
            heard.append(piece)
            if len(heard) == 3:
                microphone.stop()
        return heard

    assert asyncio.run(run()) == [b"\0\0", b"\1\1", b"\2\2"] and not sounddevice.opened


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"pip install sounddevice"):
        next(iter(Microphone()))


def test_a_microphone_that_does_not_open(sounddevice: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no default device")

    sounddevice.RawInputStream = refuse
    with pytest.raises(AudioError, match="the microphone does not open: no default device"):
        next(iter(Microphone()))
