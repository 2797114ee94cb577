"""The scheduler: what is done next, who is recognised with whom, and what one stream's trouble is to the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from asr.recognition.recognizer import Recognizer
from server.metrics import Metrics
from server.scheduler import ScheduledStream, Scheduler, Work
from tests.support import manual_clock
from tests.support.manual_clock import clock

PATIENCE_S = 30.0


class FakeRecognizer:
    """A stream's result is its name. Can be held up, and fails for the streams in `guilty`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.guilty: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def advance(self, streams: Sequence[str]) -> list[Any]:
        assert self.go_on.wait(PATIENCE_S)
        self.batches.append(list(streams))
        for stream in streams:
            if stream in self.guilty:
                raise ValueError(stream)
        return [[stream] for stream in streams]


@dataclass
class FakeStream:
    """A stream by its name. skipped: notes which second passes are skipped, those that are only skipped in part with
    "~"."""

    stream: str
    skipped: list[str] = field(default_factory=list)

    def skip_second_pass(self, *, entirely: bool) -> bool:
        self.skipped.append(self.stream if entirely else f"{self.stream}~")
        return entirely


class Bench(Scheduler):
    """A scheduler of fake streams."""

    def __init__(self, recognizer: FakeRecognizer, **changed: Any) -> None:
        settings = {"workers": 1, "max_batch": 4, "batch_wait_s": 0.0, "second_pass_wait_s": PATIENCE_S, **changed}
        super().__init__(cast(Recognizer, recognizer), **{"metrics": Metrics(), **settings})
        self.skipped: list[str] = []

    async def advance(self, name: str, kind: Work = Work.CHUNK) -> Any:
        """A step of a stream, whose audio is there now."""
        stream = cast(ScheduledStream, FakeStream(name, self.skipped))
        return await self.step(stream, kind, asyncio.get_running_loop().time())


def sample(metrics: Metrics, name: str) -> float:
    """A metric's value as it is scraped."""
    return next(s.value for family in metrics.registry.collect() for s in family.samples if s.name == name)


async def begun(recognizer: FakeRecognizer, tasks: Sequence[Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    """The tasks, once each of them waits."""
    futures = [asyncio.create_task(task) for task in tasks]
    await asyncio.sleep(0)
    return futures


def test_what_waits_while_a_batch_runs_is_the_next_batch_oldest_first() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer)
        recognizer.go_on.clear()
        tasks = await begun(recognizer, [bench.advance(name) for name in "abcdef"])
        recognizer.go_on.set()
        assert await asyncio.gather(*tasks) == [[name] for name in "abcdef"]

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    assert recognizer.batches == [["a"], ["b", "c", "d", "e"], ["f"]]


def test_idle_workers_share() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, workers=2, batch_wait_s=PATIENCE_S)
        with bench.taking_in():  # as if more were on their way
            tasks = await begun(recognizer, [bench.advance(name) for name in "ab"])
        await asyncio.gather(*tasks)

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    assert sorted(recognizer.batches) == [["a"], ["b"]]


def test_a_chunk_waits_for_audio_that_is_coming_in_but_not_for_long() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        patient, hasty = Bench(recognizer, batch_wait_s=PATIENCE_S), Bench(recognizer, batch_wait_s=0.01)
        with hasty.taking_in():
            (waiting,) = await begun(recognizer, [hasty.advance("hasty")])
            await clock().advance(0.009)
            assert hasty.idle_workers == 1
            await clock().advance(0.002)
            assert hasty.idle_workers == 0
            await waiting
        with patient.taking_in():
            (first,) = await begun(recognizer, [patient.advance("first")])
            await clock().advance(PATIENCE_S - 1)
            assert patient.idle_workers == 1
            (second,) = await begun(recognizer, [patient.advance("second")])
        await asyncio.gather(first, second)

    recognizer = FakeRecognizer()
    manual_clock.run(run(recognizer))
    assert recognizer.batches == [["hasty"], ["first", "second"]]


def test_only_the_guilty_stream_fails() -> None:
    async def run(recognizer: FakeRecognizer) -> list[Any]:
        bench = Bench(recognizer)
        recognizer.go_on.clear()
        tasks = await begun(recognizer, [bench.advance(name) for name in ["first", "good", "bad", "fine"]])
        recognizer.go_on.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert await bench.advance("later") == ["later"]
        return answers

    recognizer = FakeRecognizer()
    recognizer.guilty = {"bad"}
    first, good, error, fine = asyncio.run(run(recognizer))
    assert (first, good, fine) == (["first"], ["good"], ["fine"])
    assert isinstance(error, ValueError) and str(error) == "bad"


def test_a_cancelled_caller_leaves_the_queue_and_holds_up_nobody() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer)
        recognizer.go_on.clear()
        running, waiting, other = await begun(recognizer, [bench.advance(name) for name in "abc"])
        running.cancel()
        waiting.cancel()
        recognizer.go_on.set()
        assert await other == ["c"]
        for task in (running, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    assert recognizer.batches == [["a"], ["c"]]


def test_streams_that_have_ended_go_first_then_second_passes() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, max_batch=2)
        recognizer.go_on.clear()
        kinds = {"D": Work.LAST, "E": Work.LAST, "F": Work.LAST, "f": Work.SECOND_PASS, "c": Work.SECOND_PASS}
        calls = [bench.advance(name, kind=kinds.get(name, Work.CHUNK)) for name in "abcDEfFg"]
        tasks = await begun(recognizer, calls)
        tasks[4].cancel()  # E
        recognizer.go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    assert recognizer.batches == [["a"], ["D", "F"], ["c", "f"], ["b", "g"]]


@pytest.mark.parametrize(("late_s", "skipped"), [(0.0, ["b", "c"]), (0.05, ["b~", "c~"]), (PATIENCE_S, [])])
def test_a_late_second_pass_is_skipped(late_s: float, skipped: list[str]) -> None:
    async def run(recognizer: FakeRecognizer) -> list[str]:
        bench = Bench(recognizer, second_pass_wait_s=late_s)
        recognizer.go_on.clear()
        tasks = await begun(recognizer, [bench.advance(name, Work.SECOND_PASS) for name in "abc"])
        await clock().advance(0.02)
        recognizer.go_on.set()
        await asyncio.gather(*tasks)
        return bench.skipped

    assert manual_clock.run(run(FakeRecognizer())) == skipped


def test_a_skipped_second_pass_counts_once_however_long_it_waits() -> None:
    async def run(recognizer: FakeRecognizer) -> float:
        metrics = Metrics()
        bench = Bench(recognizer, second_pass_wait_s=0.0, max_batch=2, metrics=metrics)
        recognizer.go_on.clear()
        tasks = await begun(recognizer, [bench.advance("a")])
        tasks += await begun(recognizer, [bench.advance(name, Work.SECOND_PASS) for name in "bcdefgh"])
        await clock().advance(0.02)
        recognizer.go_on.set()
        await asyncio.gather(*tasks)
        return sample(metrics, "carryover_second_passes_skipped_total")

    assert manual_clock.run(run(FakeRecognizer())) == 6  # the last one keeps nobody waiting, and is made


def test_second_passes_leave_a_worker_to_others_until_they_are_late() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, workers=3, second_pass_wait_s=0.05)
        recognizer.go_on.clear()
        calls = [bench.advance(name, Work.SECOND_PASS) for name in ("first", "second", "a", "b")]
        tasks = await begun(recognizer, calls)
        await clock().advance(0.049)
        assert not bench.skipped and bench.idle_workers == 1  # which is for the rest
        await clock().advance(0.002)
        assert bench.skipped == ["a", "b"] and bench.idle_workers == 0
        recognizer.go_on.set()
        await asyncio.gather(*tasks)

    recognizer = FakeRecognizer()
    manual_clock.run(run(recognizer))
    assert sorted(recognizer.batches) == [["a", "b"], ["first"], ["second"]]


def test_a_second_pass_is_never_late_where_nobody_else_waits() -> None:
    async def run() -> list[str]:
        bench = Bench(FakeRecognizer(), second_pass_wait_s=-1.0)
        await bench.advance("a", Work.SECOND_PASS)
        return bench.skipped

    assert not asyncio.run(run())


def test_a_long_queue_is_fair() -> None:
    """Streams with much audio at once take turns."""

    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, max_batch=2)

        async def chunks(name: str) -> None:
            for _ in range(3):
                await bench.advance(name)

        await asyncio.gather(*map(chunks, "abcd"))

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    order = [name for batch in recognizer.batches for name in batch]
    assert len(order) == 12
    for name in "abcd":
        turns = [i for i, other in enumerate(order) if other == name]
        assert all(later - earlier <= 5 for earlier, later in zip(turns, turns[1:], strict=False))


def test_the_last_chunks_of_a_stream_follow_each_other() -> None:
    """Others that wait do not come in between, nor into their batches."""

    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer)

        async def end(name: str) -> None:
            for chunk in "12":
                await bench.advance(name + chunk, kind=Work.LAST)

        recognizer.go_on.clear()
        tasks = await begun(recognizer, [bench.advance(name) for name in "abc"])
        tasks += await begun(recognizer, [end("x")])
        recognizer.go_on.set()
        await asyncio.gather(*tasks)

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    assert recognizer.batches == [["a"], ["x1"], ["x2"], ["b", "c"]]


def test_rescoring_goes_before_second_passes_and_chunks_and_takes_a_worker() -> None:
    """While results are rescored, no worker is taken to be idle that is not."""
    rescoring, go_on = threading.Event(), threading.Event()

    def rescore() -> str:
        rescoring.set()
        assert go_on.wait(PATIENCE_S)
        return "rescored"

    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer)
        recognizer.go_on.clear()
        steps = [bench.advance("a"), bench.advance("b"), bench.advance("c", Work.SECOND_PASS)]
        tasks = await begun(recognizer, [*steps, bench.run(Work.RESCORE, rescore), bench.advance("d", Work.LAST)])
        recognizer.go_on.set()
        await asyncio.to_thread(rescoring.wait, PATIENCE_S)
        assert recognizer.batches == [["a"], ["d"]] and bench.idle_workers == 0
        go_on.set()
        assert (await asyncio.gather(*tasks))[3] == "rescored"

    recognizer = FakeRecognizer()
    asyncio.run(run(recognizer))
    assert recognizer.batches == [["a"], ["d"], ["c"], ["b"]]


def test_an_error_of_rescoring_is_its_callers() -> None:
    def fail() -> None:
        raise ValueError("bad")

    async def run() -> None:
        bench = Bench(FakeRecognizer())
        with pytest.raises(ValueError, match="bad"):
            await bench.run(Work.RESCORE, fail)
        assert await bench.advance("a") == ["a"]

    asyncio.run(run())


def test_load_is_the_age_of_the_oldest_chunk_that_waits() -> None:
    """So a server at rest has none, whatever was before."""

    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, late_s=0.6)
        assert bench.load_s == 0 and not bench.late
        recognizer.go_on.clear()
        (first,) = await begun(recognizer, [bench.advance("a")])
        await clock().advance(0.5)
        assert not bench.late
        (second,) = await begun(recognizer, [bench.advance("b")])
        await clock().advance(0.2)
        assert bench.load_s == pytest.approx(0.7) and bench.late
        recognizer.go_on.set()
        await asyncio.gather(first, second)
        assert bench.load_s == 0 and not bench.late

    manual_clock.run(run(FakeRecognizer()))


def test_right_behind_a_batch_audio_is_still_late() -> None:
    """Those that wait then have just come; the wait of those that are done says how late they will be."""

    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, late_s=0.6)
        recognizer.go_on.clear()
        (first,) = await begun(recognizer, [bench.advance("a")])
        await clock().advance(0.8)
        (second,) = await begun(recognizer, [bench.advance("b")])
        recognizer.go_on.set()
        await first
        late = bench.late
        await second
        assert late and not bench.late

    manual_clock.run(run(FakeRecognizer()))


def test_a_second_pass_is_no_load() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer)
        recognizer.go_on.clear()
        (pending,) = await begun(recognizer, [bench.advance("a", Work.SECOND_PASS)])
        await clock().advance(5)
        assert not bench.late
        recognizer.go_on.set()
        await pending

    manual_clock.run(run(FakeRecognizer()))


def test_encoding_waits_for_a_pause_of_the_audio_but_not_for_ever() -> None:
    async def run(recognizer: FakeRecognizer) -> None:
        bench = Bench(recognizer, pause_s=1.0)
        assert await bench.run(Work.ENCODE, lambda: "at rest") == "at rest"
        recognizer.go_on.clear()
        (busy,) = await begun(recognizer, [bench.advance("a")])
        (waiting,) = await begun(recognizer, [bench.run(Work.ENCODE, lambda: "late")])
        await clock().advance(0.9)
        assert not waiting.done()
        await clock().advance(0.2)
        assert await waiting == "late" and not busy.done()
        (waiting,) = await begun(recognizer, [bench.run(Work.ENCODE, lambda: "in the pause")])
        assert await bench.run(Work.RESTORE, lambda: "at once") == "at once" and not waiting.done()
        recognizer.go_on.set()
        assert await waiting == "in the pause" and busy.done()

    manual_clock.run(run(FakeRecognizer()))


def test_a_chunk_is_no_work_of_its_own() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="CHUNK is a step of a stream"):
            await Bench(FakeRecognizer()).run(Work.CHUNK, lambda: None)

    asyncio.run(run())
