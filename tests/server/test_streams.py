"""Streams of the recogniser in the scheduler: each is what it is alone, and its trouble is its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import numpy as np
import pytest

from asr.audio import Samples
from asr.context.bundle import ContextBundle
from asr.context.encoder import ContextEncoder
from asr.context.types import ContextEmbedding, Phrase
from asr.decoding import BoostedPhrase
from asr.errors import AudioError
from asr.recognition import finalize
from asr.recognition.batching import search_batch
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Pass, Result, SpeechEvent
from server.contexts.builder import ContextBuilder
from server.metrics import Metrics
from server.scheduler import Scheduler, Work


def last(found: list[Result | SpeechEvent]) -> Result:
    """The last of what a stream brought, which is a result."""
    assert isinstance(found[-1], Result)
    return found[-1]


def test_many_streams_at_once_are_each_what_they_are_alone(tiny_recognizer: Recognizer, speech: Any) -> None:
    pieces = [np.ascontiguousarray(speech[i * 2000 : i * 2000 + 24_000]) for i in range(6)]
    alone = [tiny_recognizer.recognize(piece).nbest for piece in pieces]

    async def together() -> list[Any]:
        scheduler = Scheduler(tiny_recognizer, workers=3, metrics=Metrics())

        async def one(samples: Any) -> Any:
            stream = scheduler.open(StreamOptions(endpointing=False))
            for start in range(0, len(samples), 1600):
                await stream.accept(samples[start : start + 1600])
            return last(await stream.finish()).nbest

        async def broken() -> None:
            stream = scheduler.open(StreamOptions())
            await stream.accept(np.full(160, np.nan, np.float32))

        *found, error = await asyncio.gather(*map(one, pieces), broken(), return_exceptions=True)
        assert isinstance(error, AudioError)
        scheduler.close()
        return found

    for found, expected in zip(asyncio.run(together()), alone, strict=True):
        assert [h.text for h in found] == [h.text for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-3)


def test_a_result_that_waited_too_long_goes_without_its_second_pass_and_says_so(
    tiny_recognizer: Recognizer, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, go_on = tiny_recognizer.advance, threading.Event()

    def held_up(streams: Any) -> list[list[Result]]:
        assert not any(stream.audio_ended for stream in streams) or go_on.wait(60)
        return advance(streams)

    monkeypatch.setattr(tiny_recognizer, "advance", held_up)

    async def run(metrics: Metrics) -> list[Result]:
        scheduler = Scheduler(tiny_recognizer, workers=1, metrics=metrics, second_pass_wait_s=-1.0)
        streams = [scheduler.open(StreamOptions(endpointing=False)) for _ in range(3)]
        for stream in streams:
            await stream.accept(speech)
        ends = [asyncio.create_task(stream.finish()) for stream in streams]
        while metrics.registry.get_sample_value("carryover_chunks") != 3:  # all wait: late now, and others with them
            await asyncio.sleep(0)
        go_on.set()
        found = [last(await end) for end in ends]
        scheduler.close()
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
    skipped = sum(bool(result.skipped) for result in found)
    assert skipped == metrics.registry.get_sample_value("carryover_second_passes_skipped_total") and skipped >= 2


def test_one_long_stream_lets_others_in_between(tiny_recognizer: Recognizer, speech: Any) -> None:
    """A file that is sent at once is recognised chunk by chunk: a short stream that comes later is done before it."""

    async def run() -> list[str]:
        scheduler = Scheduler(tiny_recognizer, workers=1, metrics=Metrics())
        done: list[str] = []

        async def one(name: str, samples: Any) -> None:
            stream = scheduler.open(StreamOptions(endpointing=False))
            await stream.accept(samples)
            await stream.finish()
            done.append(name)

        await asyncio.gather(one("long", np.tile(speech, 10)), one("short", speech[:8000]))
        scheduler.close()
        return done

    assert asyncio.run(run()) == ["short", "long"]


def test_a_cancelled_stream_leaves_the_others_alone(tiny_recognizer: Recognizer, speech: Any) -> None:
    expected = tiny_recognizer.recognize(speech[:24_000]).nbest[0].text

    async def run() -> None:
        scheduler = Scheduler(tiny_recognizer, workers=1, metrics=Metrics())

        async def one() -> str:
            stream = scheduler.open(StreamOptions(endpointing=False))
            await stream.accept(speech[:24_000])
            return last(await stream.finish()).nbest[0].text

        doomed, *others = [asyncio.ensure_future(one()) for _ in range(3)]
        await asyncio.sleep(0)  # all have begun
        doomed.cancel()
        assert await asyncio.gather(*others) == [expected] * 2
        with pytest.raises(asyncio.CancelledError):
            await doomed
        scheduler.close()

    asyncio.run(run())


def test_a_context_that_breaks_the_search_costs_no_word(
    tiny_recognizer: Recognizer, speech: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recognition goes on without it, and no other stream of the batch notices."""
    expected = tiny_recognizer.recognize(speech[:24_000])

    def broken(search: Any, encoded: Any, states: Any) -> Any:
        if any(state.graph is not None for state in states):
            raise RuntimeError("secret words")
        return search_batch(search, encoded, states)

    monkeypatch.setattr(finalize, "search_batch", broken)
    graph = tiny_recognizer.compile([BoostedPhrase("call meg", 9.0)])

    async def run() -> list[Any]:
        scheduler = Scheduler(tiny_recognizer, workers=1, metrics=Metrics())

        async def one(graph: Any) -> Any:
            stream = scheduler.open(StreamOptions(endpointing=False))
            stream.set_context(graph)
            await stream.accept(speech[:24_000])
            return (await stream.finish())[-1]

        found = await asyncio.gather(one(graph), one(None))
        scheduler.close()
        return list(found)

    for found in asyncio.run(run()):
        assert [h.text for h in found.nbest] == [h.text for h in expected.nbest]
        assert found.biased == ()


class BrokenRecognizer:
    """Cannot compile."""

    def compile(self, phrases: Any, *, of_context: bool) -> Any:
        raise RuntimeError("secret words")


def test_phrases_that_cannot_be_compiled_cost_no_context() -> None:
    phrase = Phrase("meg bauer", "contacts", -1.0)
    embedding = ContextEmbedding(np.zeros((0, 4), np.float32), np.zeros(4, np.float32), (phrase,), "none", "v")

    async def run() -> ContextBundle:
        scheduler = Scheduler(cast(Recognizer, BrokenRecognizer()), workers=1, metrics=Metrics())
        builder = ContextBuilder(cast(ContextEncoder, None), scheduler)
        bundle = await builder.restore(await builder.dump("acme", embedding))
        scheduler.close()
        return bundle

    bundle = asyncio.run(run())
    assert bundle.graph is None and bundle.embedding.phrases == (phrase,) and bundle.index.phrases == (phrase,)


def test_work_beside_audio_is_not_done_in_audios_threads(tiny_recognizer: Recognizer, speech: Samples) -> None:
    """While one tenant's long work fills the threads beside, a stream is recognised from beginning to end."""
    go_on = threading.Event()

    async def run() -> tuple[str, str]:
        scheduler = Scheduler(tiny_recognizer, workers=1, metrics=Metrics())
        flood = [asyncio.create_task(scheduler.run(Work.DECODE, go_on.wait, 60, tenant="acme")) for _ in range(8)]
        stream = scheduler.open(StreamOptions(endpointing=False))
        await stream.accept(speech)
        text = last(await stream.finish()).nbest[0].text
        assert not any(task.done() for task in flood)
        go_on.set()
        await asyncio.gather(*flood)
        name = await scheduler.run(Work.COMPILE, lambda: threading.current_thread().name, tenant="acme")
        scheduler.close()
        return text, name

    text, name = asyncio.run(run())
    assert text == tiny_recognizer.recognize(speech).nbest[0].text
    assert name.startswith("background")
