"""The soak's tally sees what is wrong, and nothing where nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from asr.context.types import BiasedWord, Rescored
from benchmarks.server import benchmark_server
from benchmarks.server import soak as soak_command
from benchmarks.server.baseline import BaselineRecognizer
from benchmarks.server.dialogues import (
    Caller,
    Ended,
    Expected,
    Scene,
    Tally,
    expected,
    lost_events,
    play_for,
    read_back,
)
from benchmarks.server.fault_proxy import FaultProxy, fault_proxy, random_faults
from benchmarks.server.waits import Clip
from carryover import aio
from context_store import ContextStore, DialogueId
from server import recognizer_service
from server.app import Parts
from server.scheduler import ScheduledStream, Work
from tests.support.payload_table import delete_payloads


@pytest.fixture
def proxy(tables: Any) -> Iterator[FaultProxy]:
    with fault_proxy(tables.endpoint_url) as running:
        running.slow_s = 0.01
        yield running


@pytest.fixture
def replica(workshop: Any, proxy: FaultProxy) -> Any:
    return workshop.start(config=replace(workshop.config, endpoint_url=proxy.url))


@pytest.fixture
def scene(speech: Any) -> Scene:
    clip = Clip(speech, 16_000, 0.0)
    return Scene(clip, clip, ("Meg Bauer", "Meg Jones"))


async def baseline_texts(replica: Any, client: aio.Client, scene: Scene, dialogue: str) -> Expected:
    await Caller(client, Tally(), real_time=False, break_off=0.0, seed=0).ask(scene, dialogue)
    of = replica.server
    parts = Parts(of.scheduler.recognizer, replica.encoder, replica.rescorer, of.store.store, replica.clock)
    with BaselineRecognizer.open(parts, of.settings) as baseline:
        return await expected(baseline, scene, dialogue)


def soak(replica: Any, scene: Scene, dialogue: str, before: Callable[[], None], seconds: float = 0.0) -> Tally:
    """One caller's dialogues after the baseline's; `before` is called between. Without seconds it is the baseline's
    dialogue once more, whose context is there."""
    tally = Tally()

    async def run() -> None:
        async with aio.Client(f"127.0.0.1:{replica.port}") as client:
            texts = await baseline_texts(replica, client, scene, f"{dialogue}-baseline")
            before()
            caller = Caller(client, tally, real_time=False, break_off=0.2 if seconds else 0.0, seed=3)
            if seconds:
                await play_for([caller], [(scene, texts)], seconds, dialogue)
            else:
                await caller.play(scene, texts, f"{dialogue}-baseline")

    asyncio.run(run())
    return tally


def store_of(workshop: Any, replica: Any) -> ContextStore:
    return ContextStore(workshop.config, workshop.key, clock=replica.clock)


def test_faults_do_no_harm(workshop: Any, replica: Any, proxy: FaultProxy, scene: Scene, dialogue: str) -> None:
    def faults() -> None:
        proxy.plan = random_faults(0.2, seed=2)

    tally = soak(replica, scene, dialogue, faults, seconds=3)
    assert (tally.without_status, tally.wrong) == (0, [])
    assert tally.dialogues and tally.streams == 2 * tally.dialogues
    assert sum(tally.statuses.values()) + tally.broken_off >= tally.streams
    store = store_of(workshop, replica)
    assert lost_events(store, tally.take()) == 0
    store.close()


def test_a_result_of_another_dialogue_is_wrong(replica: Any, scene: Scene, dialogue: str) -> None:
    def leak() -> None:
        foreign = BiasedWord("dave", "dave", "contacts")
        replica.rescorer.rescore = lambda nbest, *_: Rescored(tuple(nbest), True, (foreign,))

    tally = soak(replica, scene, dialogue, leak)
    assert tally.contexts["APPLIED"]
    assert tally.wrong_results == 1
    assert tally.wrong[0]["what"] == "a phrase of another dialogue" and tally.wrong[0]["is"] == ["dave"]


def test_a_result_is_held_against_what_the_same_passes_give(
    replica: Any, scene: Scene, dialogue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second pass is left out, as on a machine that is too busy: other texts, none of them wrong."""
    scheduler = replica.server.scheduler
    step = scheduler.step

    async def busy(stream: ScheduledStream, kind: Work, since_s: float) -> Any:
        stream.skip_second_pass(entirely=True)
        return await step(stream, Work.LAST if kind is Work.SECOND_PASS else kind, since_s)

    tally = soak(replica, scene, dialogue, lambda: monkeypatch.setattr(scheduler, "step", busy))
    assert (tally.wrong, tally.skipped) == ([], {"WHOLE_UTTERANCE": sum(tally.contexts.values())})


def test_a_result_of_the_wrong_text_is_named(
    replica: Any, scene: Scene, dialogue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = cast(Any, recognizer_service).final_message

    def altered(*arguments: Any) -> Any:
        message = original(*arguments)
        message.alternatives[0].transcript = "someone else"
        return message

    tally = soak(replica, scene, dialogue, lambda: monkeypatch.setattr(recognizer_service, "final_message", altered))
    assert tally.wrong_results == 2
    assert {(what["what"], what["is"]) for what in tally.wrong} == {("transcript", "someone else")}
    assert {what["turn"] for what in tally.wrong} == {"1", "2"}


def test_a_stream_that_the_server_fails_has_no_status(replica: Any, scene: Scene, dialogue: str) -> None:
    def broken() -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError

        replica.server.scheduler.open = fail

    tally = soak(replica, scene, dialogue, broken)
    assert tally.without_status == 2 and tally.statuses["INTERNAL"] == 2


def test_an_event_that_is_not_stored_is_lost_and_an_erasure_that_left_something_is_seen(
    workshop: Any, replica: Any, scene: Scene, dialogue: str
) -> None:
    ended = soak(replica, scene, dialogue, lambda: None).take()
    store = store_of(workshop, replica)
    (name,) = ended.recorded
    assert lost_events(store, ended) == 0
    assert lost_events(store, Ended({}, {name})) == 1
    delete_payloads(workshop.config, name)
    assert lost_events(store, ended) == 3  # those with texts
    store.delete_dialogue(DialogueId("default", name))
    assert lost_events(store, ended) == 5
    store.close()


def test_what_was_read_back_is_counted_and_cleared_away(
    workshop: Any, replica: Any, scene: Scene, dialogue: str
) -> None:
    tally = soak(replica, scene, dialogue, lambda: None)
    (name,) = tally.ended.recorded
    store = store_of(workshop, replica)
    delete_payloads(workshop.config, name)
    asyncio.run(read_back(store, tally))
    assert (tally.lost_events, tally.acknowledged_events, tally.erasures) == (3, 5, 0)
    assert not store.dialogue_status(DialogueId("default", name)).turns
    asyncio.run(read_back(store, tally))  # what was read back is not read again
    assert (tally.lost_events, tally.acknowledged_events) == (3, 5)
    store.close()


def test_the_baseline_has_every_kind_of_result(replica: Any, scene: Scene, dialogue: str) -> None:
    async def run() -> Expected:
        async with aio.Client(f"127.0.0.1:{replica.port}") as client:
            return await baseline_texts(replica, client, scene, dialogue)

    found = asyncio.run(run())
    first, second = frozenset({"STREAMING"}), frozenset({"STREAMING", "WHOLE_UTTERANCE"})
    phrases = {"CONTEXT_PHRASES"}
    assert [{kind: t for kind, t in texts.items() if not kind[1]} for texts in found.answer] == list(found.request)
    assert found.request[0].keys() == {(first, False), (second, False)}
    plain = [(texts[first, False], texts[second, False]) for texts in (*found.request, *found.answer)]
    assert any(one != other for one, other in plain), plain  # which is why like is held against like
    in_context = {(passes, True) for passes in (first, second, first | phrases, second | phrases)}
    assert found.answer[0].keys() == found.request[0].keys() | in_context
    assert {found.answer[0][kind] for kind in in_context} == {"meg bauer"}


@pytest.mark.parametrize("app", [soak_command.app, benchmark_server.app])
def test_a_report_that_cannot_be_written_is_said_before_the_run(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--json", str(tmp_path / "nowhere" / "report.json")])
    assert result.exit_code == 2
    told = f"there is no folder {tmp_path / 'nowhere'}; make it first"  # in lines of any length
    assert "".join(told.split()) in "".join(result.stderr.split())
    assert "starting" not in result.stderr
