"""Recognition beside the event loop: a bound on streams, and encoding that yields to audio."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from asr.errors import AudioError
from asr.recognizer import Recognizer, StreamOptions
from server.encoder_thread import EncoderThread
from server.engine import AudioLoad, Engine
from server.errors import LimitError
from server.metrics import Metrics


def test_many_streams_at_once_are_each_what_they_are_alone(tiny_recognizer: Recognizer, speech: Any) -> None:
    pieces = [np.ascontiguousarray(speech[i * 2000 : i * 2000 + 24_000]) for i in range(6)]
    alone = [tiny_recognizer.recognize(piece).nbest for piece in pieces]

    async def together() -> list[Any]:
        engine = Engine(tiny_recognizer, workers=3, max_streams=8, metrics=Metrics())

        async def one(samples: Any) -> Any:
            with engine.open(StreamOptions(endpointing=False)) as stream:
                for start in range(0, len(samples), 1600):
                    await stream.accept(samples[start : start + 1600])
                return (await stream.finish())[-1].nbest

        async def broken() -> None:
            with engine.open(StreamOptions()) as stream:
                await stream.accept(np.full(160, np.nan, np.float32))

        *found, error = await asyncio.gather(*map(one, pieces), broken(), return_exceptions=True)
        assert isinstance(error, AudioError)
        assert engine.streams == 0
        engine.close()
        return found

    assert asyncio.run(together()) == alone


def test_the_bound_on_streams(tiny_recognizer: Recognizer) -> None:
    engine = Engine(tiny_recognizer, workers=1, max_streams=2, metrics=Metrics())
    with engine.open(StreamOptions()), engine.open(StreamOptions()):
        with pytest.raises(LimitError), engine.open(StreamOptions()):
            pass
        assert engine.streams == 2
    with engine.open(StreamOptions()):
        assert engine.streams == 1
    engine.close()


def test_waiting_for_a_pause_ends_with_the_pause_or_in_time() -> None:
    load = AudioLoad()
    assert load.wait_for_pause(0.0)
    with load.working():
        assert not load.wait_for_pause(0.01)
        waiting = threading.Event()
        answers: list[bool] = []

        def wait() -> None:
            waiting.set()
            answers.append(load.wait_for_pause(60))

        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(10)
        assert not answers
    thread.join(10)
    assert answers == [True]


def test_the_encoder_waits_for_audio_but_not_for_ever() -> None:
    load, seen = AudioLoad(), []

    class Encoder:
        model_version = "x"

        def encode(self, context: Any) -> Any:
            seen.append(context)
            return context

    async def run() -> None:
        patient, hasty = EncoderThread(Encoder(), load, 60), EncoderThread(Encoder(), load, 0.01)
        with load.working():
            waiting = asyncio.ensure_future(patient.encode("patient"))  # type: ignore[arg-type]
            await hasty.encode("hasty")  # type: ignore[arg-type]
            assert seen == ["hasty"]
        await waiting
        patient.close()
        hasty.close()

    asyncio.run(run())
    assert seen == ["hasty", "patient"]
