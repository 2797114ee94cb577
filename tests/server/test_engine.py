"""Recognition beside the event loop: a bound on streams, and encoding that yields to audio."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from asr.audio import Samples
from asr.decoding import BoostedPhrase
from asr.errors import AudioError
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Pass, Result
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
            with engine.admitted("default"):
                stream = engine.start(StreamOptions(endpointing=False))
                for start in range(0, len(samples), 1600):
                    await stream.accept(samples[start : start + 1600])
                return (await stream.finish())[-1].nbest

        async def broken() -> None:
            with engine.admitted("default"):
                stream = engine.start(StreamOptions())
                await stream.accept(np.full(160, np.nan, np.float32))

        *found, error = await asyncio.gather(*map(one, pieces), broken(), return_exceptions=True)
        assert isinstance(error, AudioError)
        assert engine.streams == 0
        engine.close()
        return found

    for found, expected in zip(asyncio.run(together()), alone, strict=True):
        assert [h.text for h in found] == [h.text for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-3)


def test_a_result_that_waited_too_long_goes_without_its_second_pass_and_says_so(
    tiny_recognizer: Recognizer, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, go_on = tiny_recognizer.advance, threading.Event()

    def held_up(streams: Any) -> list[list[Result]]:
        assert not any(stream.ending for stream in streams) or go_on.wait(60)
        return advance(streams)

    monkeypatch.setattr(tiny_recognizer, "advance", held_up)

    async def run(metrics: Metrics) -> list[Result]:
        engine = Engine(tiny_recognizer, workers=1, max_streams=3, metrics=metrics, second_pass_wait_s=-1.0)
        streams = [engine.start(StreamOptions(endpointing=False)) for _ in range(3)]
        for stream in streams:
            await stream.accept(speech)
        ends = [asyncio.create_task(stream.finish()) for stream in streams]
        while metrics.registry.get_sample_value("carryover_chunks") != 3:  # all wait: late now, and others with them
            await asyncio.sleep(0)
        go_on.set()
        found = [(await end)[-1] for end in ends]
        engine.close()
        return found

    metrics, beam = Metrics(), tiny_recognizer.search.beam
    found = asyncio.run(run(metrics))
    monkeypatch.undo()
    once = Recognizer(tiny_recognizer.model, tiny_recognizer.tokenizer, beam=beam, second_pass=False)
    first, second = (r.recognize(speech).nbest[0].acoustic for r in (once, tiny_recognizer))
    assert abs(first - second) > 0.1
    for result in found:
        expected = second if Pass.WHOLE_UTTERANCE in result.passes else first
        assert result.nbest[0].acoustic == pytest.approx(expected, abs=1e-2)
        assert result.skipped == (() if Pass.WHOLE_UTTERANCE in result.passes else (Pass.WHOLE_UTTERANCE,))
    left_out = sum(bool(result.skipped) for result in found)
    assert left_out == metrics.registry.get_sample_value("carryover_second_passes_left_out_total") >= 2


def test_the_bound_on_streams(tiny_recognizer: Recognizer) -> None:
    engine = Engine(tiny_recognizer, workers=1, max_streams=2, metrics=Metrics())
    with engine.admitted("default"), engine.admitted("default"):
        with pytest.raises(LimitError), engine.admitted("default"):
            pass
        assert engine.streams == 2
    with engine.admitted("default"):
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


def _no_graph(embedding: Any) -> None:
    return None


def test_the_encoder_waits_for_audio_but_not_for_ever() -> None:
    load, seen = AudioLoad(), []

    class Encoder:
        model_version = "x"

        def encode(self, context: Any) -> Any:
            seen.append(context)
            return context

    async def run() -> None:
        patient, hasty = EncoderThread(Encoder(), _no_graph, load, 60), EncoderThread(Encoder(), _no_graph, load, 0.01)
        with load.working():
            waiting = asyncio.ensure_future(patient.encode("patient"))  # type: ignore[arg-type]
            await hasty.encode("hasty")  # type: ignore[arg-type]
            assert seen == ["hasty"]
        await waiting
        patient.close()
        hasty.close()

    asyncio.run(run())
    assert seen == ["hasty", "patient"]


def test_phrases_that_cannot_be_compiled_cost_no_context() -> None:
    def broken(embedding: Any) -> Any:
        raise RuntimeError("secret words")

    async def run() -> None:
        thread = EncoderThread(None, broken, AudioLoad(), 0.0)  # type: ignore[arg-type]
        assert await thread.compile(None) is None  # type: ignore[arg-type]
        thread.close()

    asyncio.run(run())


def test_one_long_stream_lets_others_in_between(tiny_recognizer: Recognizer, speech: Any) -> None:
    """A file that is sent at once is recognised chunk by chunk: a short stream that comes later is done before it."""

    async def run() -> list[str]:
        engine = Engine(tiny_recognizer, workers=1, max_streams=2, metrics=Metrics())
        done: list[str] = []

        async def one(name: str, samples: Any) -> None:
            with engine.admitted("default"):
                stream = engine.start(StreamOptions(endpointing=False))
                await stream.accept(samples)
                await stream.finish()
                done.append(name)

        await asyncio.gather(one("long", np.tile(speech, 10)), one("short", speech[:8000]))
        engine.close()
        return done

    assert asyncio.run(run()) == ["short", "long"]


def test_a_cancelled_stream_leaves_the_others_alone(tiny_recognizer: Recognizer, speech: Any) -> None:
    expected = tiny_recognizer.recognize(speech[:24_000]).nbest[0].text

    async def run() -> None:
        engine = Engine(tiny_recognizer, workers=1, max_streams=4, metrics=Metrics())

        async def one() -> str:
            with engine.admitted("default"):
                stream = engine.start(StreamOptions(endpointing=False))
                await stream.accept(speech[:24_000])
                return str((await stream.finish())[-1].nbest[0].text)

        doomed, *others = [asyncio.ensure_future(one()) for _ in range(3)]
        while engine.streams < 3:
            await asyncio.sleep(0)
        doomed.cancel()
        assert await asyncio.gather(*others) == [expected] * 2
        with pytest.raises(asyncio.CancelledError):
            await doomed
        assert engine.streams == 0
        engine.close()

    asyncio.run(run())


def test_a_context_that_breaks_the_search_costs_no_word(
    tiny_recognizer: Recognizer, speech: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recognition goes on without it, and no other stream of the batch notices."""
    expected = tiny_recognizer.recognize(speech[:24_000])
    search = tiny_recognizer._search

    def broken(encoded: Any, rows: Any) -> Any:
        if any(row.graph is not None for row in rows):
            raise RuntimeError("secret words")
        return search(encoded, rows)

    monkeypatch.setattr(tiny_recognizer, "_search", broken)
    graph = tiny_recognizer.compile([BoostedPhrase("call meg", 9.0)])

    async def run() -> list[Any]:
        engine = Engine(tiny_recognizer, workers=1, max_streams=4, metrics=Metrics())

        async def one(graph: Any) -> Any:
            with engine.admitted("default"):
                stream = engine.start(StreamOptions(endpointing=False))
                stream.set_context(graph)
                await stream.accept(speech[:24_000])
                return (await stream.finish())[-1]

        found = await asyncio.gather(one(graph), one(None))
        engine.close()
        return found

    for found in asyncio.run(run()):
        assert [h.text for h in found.nbest] == [h.text for h in expected.nbest]
        assert found.biased == ()


def test_a_server_at_rest_is_not_strained(tiny_recognizer: Recognizer) -> None:
    """After an overload its mean wait fades with the time in which no chunk waits, and only with that."""
    now = [100.0]
    engine = Engine(tiny_recognizer, workers=1, max_streams=2, metrics=Metrics(), shed_s=0.6, clock=lambda: now[0])
    with engine.admitted("default"):
        for _ in range(30):
            with engine.waiting():
                now[0] += 3.0
        assert engine.strained
        now[0] += 0.1
        assert engine.strained
        now[0] += 5.0
        assert not engine.strained
        with engine.waiting():  # a new stream's first chunk
            now[0] += 0.1
            assert not engine.strained
        assert not engine.strained
    engine.close()


def test_a_chunk_that_waits_long_strains_before_it_is_done(tiny_recognizer: Recognizer) -> None:
    now = [100.0]
    engine = Engine(tiny_recognizer, workers=1, max_streams=2, metrics=Metrics(), shed_s=0.6, clock=lambda: now[0])
    with engine.admitted("default"), engine.waiting():
        now[0] += 0.5
        assert not engine.strained
        with engine.waiting():
            now[0] += 0.2
            assert engine.strained
        assert engine.strained  # the older one waits on
    engine.close()


def test_work_beside_audio_is_not_done_in_audios_threads(tiny_recognizer: Recognizer, speech: Samples) -> None:
    """While one tenant's long work fills the threads beside, a stream is recognised from beginning to end."""
    go_on = threading.Event()

    async def run() -> tuple[str, str]:
        engine = Engine(tiny_recognizer, workers=1, max_streams=2, metrics=Metrics())
        flood = [asyncio.create_task(engine.run_beside("acme", go_on.wait, 60)) for _ in range(8)]
        with engine.admitted("umbra"):
            stream = engine.start(StreamOptions(endpointing=False))
            await stream.accept(speech)
            text = (await stream.finish())[-1].nbest[0].text
        assert not any(task.done() for task in flood)
        go_on.set()
        await asyncio.gather(*flood)
        name = await engine.run_beside("acme", lambda: threading.current_thread().name)
        engine.close()
        return text, name

    text, name = asyncio.run(run())
    assert text == tiny_recognizer.recognize(speech).nbest[0].text
    assert name.startswith("beside")
