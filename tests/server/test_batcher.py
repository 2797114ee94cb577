"""Dynamic batching: who is recognised with whom, and what one stream's trouble is to the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import pytest

from server.batcher import Batcher, Step
from server.metrics import Metrics
from tests.support import manual_clock
from tests.support.manual_clock import clock

PATIENCE_S = 30.0


class Recogniser:
    """Streams are names; a stream's result is its name. Can be held up, and fails for the streams in `guilty`."""

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


def tell(told: list[str], name: str, entirely: bool) -> bool:
    """Notes who is late, with "-" where the step has to be short."""
    told.append(f"{name}-" if entirely else name)
    return entirely


def batcher(recogniser: Recogniser, **changed: Any) -> Batcher:
    async def run(work: Callable[..., Any], streams: Any) -> Any:
        return await asyncio.to_thread(work, streams)

    settings = {"workers": 1, "max_batch": 4, "wait_s": 0.0, "late_s": PATIENCE_S, "metrics": Metrics(), **changed}
    return Batcher(recogniser.advance, run, **settings)


async def begun(recogniser: Recogniser, tasks: Sequence[Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    """The tasks, once each of them waits."""
    futures = [asyncio.create_task(task) for task in tasks]
    await asyncio.sleep(0)
    return futures


def test_what_waits_while_a_batch_runs_is_the_next_batch_oldest_first() -> None:
    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser)
        recogniser.go_on.clear()
        tasks = await begun(recogniser, [batches.advance(name) for name in "abcdef"])
        recogniser.go_on.set()
        assert await asyncio.gather(*tasks) == [[name] for name in "abcdef"]

    recogniser = Recogniser()
    asyncio.run(run(recogniser))
    assert recogniser.batches == [["a"], ["b", "c", "d", "e"], ["f"]]


def test_idle_workers_share() -> None:
    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser, workers=2, wait_s=PATIENCE_S)
        with batches.coming():  # as if more were on their way
            tasks = await begun(recogniser, [batches.advance(name) for name in "ab"])
        await asyncio.gather(*tasks)

    recogniser = Recogniser()
    asyncio.run(run(recogniser))
    assert sorted(recogniser.batches) == [["a"], ["b"]]


def test_a_chunk_waits_for_audio_that_is_coming_in_but_not_for_long() -> None:
    async def run(recogniser: Recogniser) -> None:
        patient, hasty = batcher(recogniser, wait_s=PATIENCE_S), batcher(recogniser, wait_s=0.01)
        with hasty.coming():
            (waiting,) = await begun(recogniser, [hasty.advance("hasty")])
            await clock().advance(0.009)
            assert hasty._idle == 1
            await clock().advance(0.002)
            assert hasty._idle == 0
            await waiting
        with patient.coming():
            (first,) = await begun(recogniser, [patient.advance("first")])
            await clock().advance(PATIENCE_S - 1)
            assert patient._idle == 1
            (second,) = await begun(recogniser, [patient.advance("second")])
        await asyncio.gather(first, second)

    recogniser = Recogniser()
    manual_clock.run(run(recogniser))
    assert recogniser.batches == [["hasty"], ["first", "second"]]


def test_only_the_guilty_stream_fails() -> None:
    async def run(recogniser: Recogniser) -> list[Any]:
        batches = batcher(recogniser)
        recogniser.go_on.clear()
        tasks = await begun(recogniser, [batches.advance(name) for name in ["first", "good", "bad", "fine"]])
        recogniser.go_on.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert await batches.advance("later") == ["later"]
        return answers

    recogniser = Recogniser()
    recogniser.guilty = {"bad"}
    first, good, error, fine = asyncio.run(run(recogniser))
    assert (first, good, fine) == (["first"], ["good"], ["fine"])
    assert isinstance(error, ValueError) and str(error) == "bad"


def test_who_is_cancelled_leaves_the_queue_and_holds_up_nobody() -> None:
    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser)
        recogniser.go_on.clear()
        running, waiting, other = await begun(recogniser, [batches.advance(name) for name in "abc"])
        running.cancel()
        waiting.cancel()
        recogniser.go_on.set()
        assert await other == ["c"]
        for task in (running, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task

    recogniser = Recogniser()
    asyncio.run(run(recogniser))
    assert recogniser.batches == [["a"], ["c"]]


def test_who_has_ended_goes_first_then_second_passes() -> None:
    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser, max_batch=2)
        recogniser.go_on.clear()
        kinds = {"D": Step.LAST, "E": Step.LAST, "F": Step.LAST, "f": Step.SECOND_PASS, "c": Step.SECOND_PASS}
        calls = [batches.advance(name, step=kinds.get(name, Step.CHUNK)) for name in "abcDEfFg"]
        tasks = await begun(recogniser, calls)
        tasks[4].cancel()  # E
        recogniser.go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    recogniser = Recogniser()
    asyncio.run(run(recogniser))
    assert recogniser.batches == [["a"], ["D", "F"], ["c", "f"], ["b", "g"]]


@pytest.mark.parametrize(("late_s", "late"), [(0.0, ["b-", "c-"]), (0.05, ["b", "c"]), (PATIENCE_S, [])])
def test_who_has_waited_too_long_is_told(late_s: float, late: list[str]) -> None:
    told: list[str] = []

    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser, late_s=late_s)
        recogniser.go_on.clear()
        calls = [batches.advance(name, step=Step.SECOND_PASS, late=partial(tell, told, name)) for name in "abc"]
        tasks = await begun(recogniser, calls)
        await clock().advance(0.02)
        recogniser.go_on.set()
        await asyncio.gather(*tasks)

    manual_clock.run(run(Recogniser()))
    assert told == late


def test_second_passes_leave_a_worker_to_others_until_they_are_late() -> None:
    told: list[str] = []

    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser, workers=3, late_s=0.05)
        recogniser.go_on.clear()
        first = [batches.advance(name, step=Step.SECOND_PASS) for name in ("first", "second")]
        calls = [batches.advance(name, step=Step.SECOND_PASS, late=partial(tell, told, name)) for name in "ab"]
        tasks = await begun(recogniser, [*first, *calls])
        await clock().advance(0.049)
        assert not told and batches._idle == 1  # which is for the rest
        await clock().advance(0.002)
        assert told == ["a-", "b-"] and batches._idle == 0
        recogniser.go_on.set()
        await asyncio.gather(*tasks)

    recogniser = Recogniser()
    manual_clock.run(run(recogniser))
    assert sorted(recogniser.batches) == [["a", "b"], ["first"], ["second"]]


def test_a_second_pass_is_never_late_where_nobody_else_waits() -> None:
    told: list[str] = []

    async def run() -> None:
        await batcher(Recogniser(), late_s=-1.0).advance("a", step=Step.SECOND_PASS, late=partial(tell, told, "a"))

    asyncio.run(run())
    assert not told


def test_a_long_queue_is_fair() -> None:
    """Streams with much audio at once take turns."""

    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser, max_batch=2)

        async def chunks(name: str) -> None:
            for _ in range(3):
                await batches.advance(name)

        await asyncio.gather(*map(chunks, "abcd"))

    recogniser = Recogniser()
    asyncio.run(run(recogniser))
    order = [name for batch in recogniser.batches for name in batch]
    assert len(order) == 12
    for name in "abcd":
        turns = [i for i, other in enumerate(order) if other == name]
        assert all(later - earlier <= 5 for earlier, later in zip(turns, turns[1:], strict=False))


def test_the_last_chunks_of_a_stream_follow_each_other() -> None:
    """Others that wait do not come in between, nor into their batches."""

    async def run(recogniser: Recogniser) -> None:
        batches = batcher(recogniser)

        async def end(name: str) -> None:
            for chunk in "12":
                await batches.advance(name + chunk, step=Step.LAST)

        recogniser.go_on.clear()
        tasks = await begun(recogniser, [batches.advance(name) for name in "abc"])
        tasks += await begun(recogniser, [end("x")])
        recogniser.go_on.set()
        await asyncio.gather(*tasks)

    recogniser = Recogniser()
    asyncio.run(run(recogniser))
    assert recogniser.batches == [["a"], ["x1"], ["x2"], ["b", "c"]]
