"""The manager of contexts over any order of events.

An older turn or a dropped job changes nothing of another's, and what was dropped, superseded or failed is made again
when it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from context_store import (
    Body,
    DialogueId,
    DialogueStatus,
    Event,
    ExpectSpeech,
    Recorded,
    Speak,
    StoredTurn,
    StoreUnavailableError,
    Transcribe,
    TurnSummary,
)
from server.contexts.cache import Outcome, State, TurnContext
from server.contexts.handle import ContextHandle, NoContext, Status
from server.contexts.manager import ContextManager
from server.errors import NotFoundError
from server.metrics import Metrics
from server.settings import ContextSettings

DIALOGUE = DialogueId("acme", "d")
TTL_S = 1000
NOW_S = 1_700_000_000.0
BODIES: dict[str, Body] = {"heard": Transcribe(), "speak": Speak(), "ask": ExpectSpeech()}


@dataclass
class Made:
    """What stands for a bundle."""

    embedding: None = None
    graph: None = None


class MemoryStore:
    """A store in memory, of one dialogue."""

    def __init__(self) -> None:
        self.turns: dict[str, dict[str, Event]] = {}
        self.until: dict[str, int] = {}
        self.embeddings: dict[tuple[str, int], bytes] = {}
        self.places: dict[str, int] = {}
        self.generation = "g"
        self.fails = False
        self.ttl_s = TTL_S

    def add(self, turn: str, name: str, time_s: float) -> Recorded:
        self.turns.setdefault(turn, {}).setdefault(name, Event(name, time_s, BODIES[name]))
        self.until.setdefault(turn, int(NOW_S) + self.ttl_s)
        self.places.setdefault(turn, len(self.places) + 1)
        found = self._summary(turn)
        return Recorded(found.version, found.trigger, found.start_s, found.expires_at, self.generation, found.place)

    def record(self, dialogue: DialogueId, turn: str, events: Sequence[Event]) -> Recorded:
        return [self.add(turn, event.event_id, event.time_s) for event in events][-1]

    def forget(self, turn: str) -> None:
        """The turn has expired."""
        del self.turns[turn], self.until[turn]

    def _summary(self, turn: str) -> TurnSummary:
        events = self.turns[turn].values()
        kinds, start_s = tuple(event.kind for event in events), min(event.time_s for event in events)
        return TurnSummary(
            turn, len(kinds), "expect_speech" in kinds, start_s, self.until[turn], kinds, self.places[turn]
        )

    def dialogue_status(
        self, dialogue: DialogueId, also: Collection[str] = (), besides: str | None = None
    ) -> DialogueStatus:
        if self.fails:
            raise StoreUnavailableError("the store is down")
        found = sorted(map(self._summary, self.turns), key=lambda turn: turn.place)
        return DialogueStatus(tuple(found), 0, self.generation)

    def sweep(self, dialogues: Collection[DialogueId]) -> dict[DialogueId, str]:
        return dict.fromkeys(dialogues, self.generation)

    def forget_tenant(self, tenant: str) -> None:
        """Nothing of it is in memory."""

    def read_turns(self, dialogue: DialogueId, limit: int) -> list[StoredTurn]:
        found = self.dialogue_status(dialogue).turns[-limit:]
        return [
            StoredTurn(
                turn.turn,
                turn.version,
                tuple(self.turns[turn.turn].values()),
                turn.start_s,
                turn.expires_at,
                self.generation,
            )
            for turn in found
        ]

    def put_embedding(self, dialogue: DialogueId, turn: StoredTurn, model: str, data: bytes) -> bool:
        self.embeddings[turn.turn, turn.version] = data
        return True

    def get_embedding(self, dialogue: DialogueId, turn: str, model: str, least_version: int = 0) -> bytes | None:
        known = sorted(version for of, version in self.embeddings if of == turn and version >= least_version)
        return self.embeddings[turn, known[-1]] if known else None


@dataclass
class Bench:
    """A manager over a store in memory and a builder that goes on when it is told to."""

    late: bool = False
    fails: bool = False
    hangs: bool = False
    answers: asyncio.Event | None = None
    """Until it is set, what the store has said is on its way."""
    store: MemoryStore = field(default_factory=MemoryStore)
    now_s: float = NOW_S
    encoding: list[asyncio.Future[None]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)

    model_version = "m"

    def open(self) -> ContextManager:
        fake: Any = self
        self.settings = ContextSettings(**{"deadline_s": 1e6, **self.options})
        self.manager = ContextManager(
            fake, fake, self.settings, store_ttl_s=TTL_S,
            late=lambda: self.late, clock=lambda: self.now_s, metrics=self.metrics,
        )  # fmt: skip
        self.manager.start()
        return self.manager

    async def run(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """As `StoreThreads.run`."""
        await asyncio.sleep(0)
        answer, answers = call(*arguments, **keywords), self.answers
        if answers is not None:
            await answers.wait()
        return answer

    async def run_for_all(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """As `StoreThreads.run_for_all`."""
        return await self.run(call, *arguments)

    async def build(self, context: Any) -> Made:
        """As `ContextBuilder.build`."""
        going_on = asyncio.get_running_loop().create_future()
        self.encoding.append(going_on)
        await going_on
        if self.fails:
            raise RuntimeError("secret words")
        return Made()

    async def restore(self, data: bytes) -> Made:
        """As `ContextBuilder.restore`, behind what is encoded."""
        if self.hangs:
            await self.build(None)
        return Made()

    async def dump(self, tenant: str, embedding: None) -> bytes:
        """As `ContextBuilder.dump`."""
        return b"made"

    def go_on(self) -> None:
        """The encoder ends what it works on."""
        for going_on in self.encoding:
            if not going_on.done():
                going_on.set_result(None)
        self.encoding.clear()

    async def rest(self) -> None:
        """Until nothing moves but by `go_on`."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Until nothing is left to do."""
        while self.manager.busy or self.manager.asking:
            self.go_on()
            await asyncio.sleep(0)

    def record(self, turn: str, name: str, time_s: float = 0.0) -> bool:
        """As `ContextManager.record` does, without waiting for the store; returns `triggered`."""
        recorded = self.store.add(turn, name, time_s or 1000.0 - 100.0 * int(turn))  # clocks say the opposite
        return recorded.trigger and self.manager.trigger(DIALOGUE, turn, recorded)

    def held(self, turn: str) -> TurnContext:
        found = self.manager.cache.get(DIALOGUE, turn)
        assert found is not None
        return found

    async def stream(self, turn: str) -> TurnContext | None:
        """What a stream of a turn would use, once everything is at rest."""
        with self.manager.attach(DIALOGUE, turn) as handle:
            await handle.answered.wait()
            await self.settle()
            found = self.manager.cache.latest(DIALOGUE, besides=turn)
            assert handle.context is found  # as it was pushed
            return found

    def ask(self, turn: str) -> None:
        """A stream of a turn opens and is left; the store is asked all the same."""
        with self.manager.attach(DIALOGUE, turn):
            pass


def check(body: Callable[[Bench], Any], **options: Any) -> None:
    """Runs a test on an event loop with a manager of its own."""

    async def run() -> None:
        bench = Bench(options=options)
        manager = bench.open()
        try:
            await body(bench)
        finally:
            await manager.close()

    asyncio.run(run())


EVENTS = [(turn, name) for turn in ("1", "2", "3") for name in BODIES]
ACTIONS = st.sampled_from(["rest", "go on", "busy", "idle", "break", "mend", "stream"])


@settings(max_examples=120, deadline=None)
@given(st.permutations(EVENTS), st.lists(st.tuples(st.integers(0, len(EVENTS)), ACTIONS), max_size=10))
def test_any_order_of_events(events: list[tuple[str, str]], actions: list[tuple[int, str]]) -> None:
    """Whatever happened meanwhile, the next turn's stream has the newest question's context, of all its events."""

    async def body(bench: Bench) -> None:
        done: dict[str, Callable[[], Any]] = {
            "go on": bench.go_on, "busy": lambda: setattr(bench, "late", True),
            "idle": lambda: setattr(bench, "late", False), "break": lambda: setattr(bench, "fails", True),
            "mend": lambda: setattr(bench, "fails", False), "rest": lambda: None,
            "stream": lambda: bench.ask("9"),
        }  # fmt: skip
        order = list(dict.fromkeys(turn for turn, _ in events))
        for place, (turn, name) in enumerate(events):
            for action in [action for at, action in actions if at == place]:
                done[action]()
                await bench.rest()
            newer = [c for c in bench.manager.cache.of(DIALOGUE) if order.index(c.turn) > order.index(turn)]
            before = [(c, c.state, c.reason, bench.manager.jobs.makes(c)) for c in newer]
            triggered = bench.record(turn, name)
            assert [(c, c.state, c.reason, bench.manager.jobs.makes(c)) for c in newer] == before
            assert all(bench.manager.cache.get(DIALOGUE, c.turn) is c for c in newer)
            if triggered:
                held = bench.held(turn)
                assert held.state is State.READY or bench.manager.jobs.makes(held)
        bench.late = bench.fails = False
        used = await bench.stream("9")
        assert used is not None
        assert (used.turn, used.state, used.version) == (order[-1], State.READY, len(BODIES))
        again = await bench.stream(order[-1])  # the newest question's own stream hears with the one before
        assert again is not None and (again.turn, again.state) == (order[-2], State.READY)
        assert bench.held(order[-1]).state is State.READY

    check(body)


@settings(max_examples=60, deadline=None)
@given(st.permutations(EVENTS), st.integers(0, len(EVENTS)))
def test_without_a_stream_the_newest_question_is_ready(events: list[tuple[str, str]], rest: int) -> None:
    async def body(bench: Bench) -> None:
        for place, (turn, name) in enumerate(events):
            bench.record(turn, name)
            if place == rest:
                await bench.rest()
        await bench.settle()
        newest = list(dict.fromkeys(turn for turn, _ in events))[-1]
        assert bench.held(newest).state is State.READY
        assert bench.held(newest).version == len(BODIES)

    check(body)


def test_a_late_event_of_an_older_turn_that_was_recorded_elsewhere() -> None:
    async def body(bench: Bench) -> None:
        bench.store.add("1", "ask", 100.0)  # at another replica
        assert bench.record("2", "ask")
        await bench.rest()
        assert not bench.record("1", "speak")
        assert "superseded" in bench.held("1").reason
        await bench.settle()
        assert bench.held("2").state is State.READY

    check(body)


@pytest.mark.parametrize("before", [(), ("1",)])
def test_what_was_made_elsewhere_applies_before_it_is_fetched(before: tuple[str, ...]) -> None:
    """While the encoder hangs, an utterance is told NOT_READY: not NOT_FOUND, and nothing of an older turn."""

    async def body(bench: Bench) -> None:
        for turn in before:
            assert bench.record(turn, "ask")
            await bench.settle()
        with bench.manager.attach(DIALOGUE, "9") as handle:
            await handle.answered.wait()
            bench.store.add("2", "ask", 100.0)  # at another replica
            bench.store.embeddings["2", 1] = b"made"
            bench.hangs = True
            handle.ask()
            await bench.rest()
            told = handle.ready()
            assert isinstance(told, NoContext) and told.status is Status.NOT_READY
            assert handle.context is bench.held("2")
            await bench.settle()
            assert isinstance(handle.ready(), Made)
            assert bench.held("2").outcome is Outcome.MADE_ELSEWHERE

    check(body)


def test_a_context_is_not_made_of_what_is_being_erased() -> None:
    """Another replica destroys the key first: until the turns are gone, they are of no generation."""

    async def body(bench: Bench) -> None:
        bench.store.add("1", "ask", 100.0)
        with bench.manager.attach(DIALOGUE, "9") as handle:
            await handle.answered.wait()
            assert bench.manager.jobs.makes(bench.held("1"))
            bench.store.generation = ""
            await bench.settle()
            bench.store.turns.clear()
            handle.ask()
            await bench.settle()
            told = handle.ready()
            assert isinstance(told, NoContext) and told.status is Status.NOT_FOUND

    check(body)


@pytest.mark.parametrize("first_answered", [1, 2])
def test_answers_on_their_way_bring_back_nothing_erased(first_answered: int) -> None:
    """The dialogue is erased at another replica between two questions whose answers come in either order."""

    async def body(bench: Bench) -> None:
        manager = bench.manager
        bench.store.add("1", "ask", 100.0)
        bench.store.embeddings["1", 1] = b"made"
        bench.answers = before = asyncio.Event()
        with manager.attach(DIALOGUE, "8") as first:
            recording = asyncio.create_task(manager.record(DIALOGUE, "2", [Event("ask", 200.0, BODIES["ask"])]))
            await bench.rest()
            bench.store.turns.clear()
            bench.store.generation = ""
            bench.answers = after = asyncio.Event()
            with manager.attach(DIALOGUE, "9") as second:
                await bench.rest()
                bench.answers = None
                for answers in (before, after) if first_answered == 1 else (after, before):
                    answers.set()
                    await bench.rest()
                await asyncio.gather(recording, second.answered.wait())
                await bench.settle()
                for handle in (first, second):
                    told = handle.ready()
                    assert isinstance(told, NoContext) and told.status is Status.NOT_FOUND
        assert not manager.cache.of(DIALOGUE)

    check(body)


@pytest.mark.parametrize("asked", ["stream", "status", "events"])
def test_a_dropped_context_is_made_when_it_is_asked_for(asked: str) -> None:
    async def body(bench: Bench) -> None:
        assert bench.record("1", "ask")
        await bench.rest()  # it is being encoded
        bench.late = True
        assert not bench.record("2", "ask")
        assert bench.held("2").reason.startswith("dropped")
        assert not bench.held("1").reason
        await bench.settle()
        assert bench.held("1").state is State.READY  # the older one was not given up for it
        bench.late = False
        if asked == "stream":
            await bench.stream("3")
        elif asked == "status":
            await bench.manager.status(DIALOGUE, "")
        else:
            assert bench.record("2", "ask")
        await bench.settle()
        assert bench.held("2").state is State.READY

    check(body)


def test_more_events_of_a_turn_while_audio_is_late() -> None:
    """What is being made of the turn goes on; of all its events it is made when it is asked for."""

    async def body(bench: Bench) -> None:
        assert bench.record("1", "ask")
        await bench.rest()
        bench.late = True
        assert not bench.record("1", "speak")
        await bench.settle()
        assert (bench.held("1").state, bench.held("1").version) == (State.READY, 1)
        bench.late = False
        used = await bench.stream("2")
        assert used is not None and (used.state, used.version) == (State.READY, 2)

    check(body)


def test_a_full_queue_is_no_reason_to_give_up_what_is_being_made() -> None:
    async def body(bench: Bench) -> None:
        def other(name: str) -> bool:
            recorded = Recorded(1, True, 1.0, int(NOW_S) + TTL_S, "g", 1)
            return bench.manager.trigger(DialogueId("acme", name), "1", recorded)

        assert other("a")
        await bench.rest()
        assert bench.record("1", "ask")
        await bench.rest()  # both are at work
        assert other("b")  # waits
        assert not bench.record("2", "ask")
        assert not other("c")
        assert bench.manager.jobs.makes(bench.held("1"))
        await bench.settle()
        assert bench.held("1").state is State.READY
        used = await bench.stream("3")
        assert used is not None and (used.turn, used.state) == ("2", State.READY)

    check(body, queue=1)


def test_a_newer_turn_takes_the_place_of_an_older_one_in_a_full_queue() -> None:
    async def body(bench: Bench) -> None:
        assert bench.record("1", "ask")
        assert bench.record("2", "ask")
        assert "superseded" in bench.held("1").reason
        await bench.settle()
        assert bench.held("2").state is State.READY

    check(body, queue=1)


def test_a_failed_context_is_made_again_and_said_to_have_failed_until_then() -> None:
    async def body(bench: Bench) -> None:
        bench.fails = True
        bench.record("1", "ask")
        await bench.settle()
        assert bench.held("1").state is State.FAILED
        assert (await bench.manager.status(DIALOGUE, "")) is bench.held("1")  # whoever waits is told
        assert not bench.manager.busy
        with bench.manager.attach(DIALOGUE, "2") as handle:
            await handle.answered.wait()
            assert isinstance(handle.ready(), NoContext)
        assert bench.held("1").state is not State.FAILED
        assert bench.held("1").failure == "RuntimeError while encoding"
        bench.fails = False
        await bench.settle()
        assert bench.held("1").state is State.READY

    check(body)


def test_a_job_that_expired_in_the_queue_is_made_again() -> None:
    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.settle()
        assert bench.held("1").state is State.FAILED and "not ready" in bench.held("1").reason
        object.__setattr__(bench.settings, "deadline_s", 1e6)
        used = await bench.stream("2")
        assert used is not None and used.state is State.READY

    check(body, deadline_s=1e-9)


def test_a_turn_id_that_is_used_again_after_its_expiry_is_a_new_turn() -> None:
    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.settle()
        bench.now_s += 900.0
        assert bench.manager.expired(bench.held("1"))
        assert bench.record("1", "ask")  # the same turn still: repeating its events changes nothing
        assert bench.held("1").state is State.EXPIRED
        bench.store.forget("1")
        bench.now_s, bench.store.ttl_s = bench.now_s + TTL_S, 3 * TTL_S
        assert bench.record("1", "ask")
        await bench.settle()
        assert bench.held("1").state is State.READY

    check(body)


def test_a_turn_id_that_is_used_again_at_another_replica() -> None:
    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.settle()
        bench.now_s += TTL_S
        assert bench.manager.expired(bench.held("1"))
        bench.store.forget("1")
        bench.store.embeddings.clear()
        bench.store.ttl_s = 3 * TTL_S
        bench.store.add("1", "ask", 100.0)
        found = await bench.manager.status(DIALOGUE, "1")
        assert found is not None and found.state is State.TRIGGERED
        used = await bench.stream("2")
        assert used is not None and used.state is State.READY

    check(body)


def test_a_handle_has_what_is_pushed_while_its_stream_is_open() -> None:
    async def body(bench: Bench) -> None:
        with bench.manager.attach(DIALOGUE, "2") as handle:
            assert isinstance(found := handle.ready(), NoContext) and "not answered yet" in found.reason
            await handle.answered.wait()
            assert isinstance(found := handle.ready(), NoContext) and "nothing of the dialogue" in found.reason
            bench.record("1", "ask")
            await bench.settle()
            assert isinstance(handle.ready(), Made) and handle.age_ms == 0.0
            bench.now_s += 10_000
            assert isinstance(found := handle.ready(), NoContext) and "too old" in found.reason
            bench.manager.forget_tenant("acme")
            assert handle.context is None
            outcomes = bench.metrics.registry.get_sample_value
            assert outcomes("carryover_window_outcomes_total", {"outcome": "expired"}) == 1
            assert outcomes("carryover_window_outcomes_total", {"outcome": "erased"}) == 1
        bench.record("3", "ask")
        assert handle.context is None

    check(body)


def test_no_context_counts_before_the_store_has_answered() -> None:
    """What is in memory may be of an older turn than another replica has recorded, or of an erased dialogue."""

    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.settle()
        bench.store.add("2", "ask", 50.0)  # at another replica
        with bench.manager.attach(DIALOGUE, "3") as handle:
            assert isinstance(found := handle.ready(), NoContext) and "not answered yet" in found.reason
            await handle.answered.wait()
            assert isinstance(found := handle.ready(), NoContext) and found.status.name == "NOT_READY"
            await bench.settle()
            assert isinstance(handle.ready(), Made)
            assert handle.context is bench.held("2")
            handle.ask()  # an utterance begins: what is known counts for a moment
            assert isinstance(handle.ready(), Made)
            handle._asked_s -= 1.0  # it takes its time
            assert isinstance(found := handle.ready(), NoContext) and "not answered yet" in found.reason
            bench.store.generation = "another"  # erased, and begun anew, at another replica
            bench.store.turns.clear()
            await bench.settle()
            assert isinstance(found := handle.ready(), NoContext) and found.status.name == "NOT_FOUND"
            assert not bench.manager.cache.of(DIALOGUE)

    check(body)


def test_a_store_that_fails_takes_the_context_away_after_a_while() -> None:
    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.settle()
        with bench.manager.attach(DIALOGUE, "2") as handle:
            await handle.answered.wait()
            assert isinstance(handle.ready(), Made)
            bench.store.fails = True
            handle.ask()
            await bench.settle()
            assert isinstance(handle.ready(), Made)
            bench.held("1").confirmed_s -= bench.settings.unconfirmed_s
            handle.ask()
            await bench.settle()
            assert isinstance(found := handle.ready(), NoContext) and found.status.name == "FAILED"
            bench.store.fails = False
            handle.ask()
            await bench.settle()
            assert isinstance(handle.ready(), Made)

    check(body)


def test_an_older_answer_than_the_last_counts_for_nothing() -> None:
    handle = ContextHandle(lambda: NOW_S, lambda context: False, lambda number: None, 0.0)
    handle.ask()
    handle.ask()
    later, earlier = NoContext(Status.NOT_FOUND, "later"), NoContext(Status.EXPIRED, "earlier")
    handle.say(2, later)
    handle.say(1, earlier, known=False)
    assert handle.ready() is later


def test_an_old_turns_events_once_more_bring_no_context() -> None:
    async def body(bench: Bench) -> None:
        bench.store.add("1", "ask", 100.0)  # at another replica
        bench.now_s += bench.settings.ttl_s
        assert not bench.record("1", "ask")
        assert not bench.manager.busy
        found = await bench.manager.status(DIALOGUE, "")
        assert (found.state, found.outcome) == (State.EXPIRED, Outcome.EXPIRED)

    check(body)


def test_memory_is_swept() -> None:
    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.settle()
        await bench.manager.sweep()
        assert bench.held("1").state is State.READY
        with bench.manager.attach(DIALOGUE, "2") as handle:
            await handle.answered.wait()
            bench.now_s += bench.settings.ttl_s
            await bench.manager.sweep()
            assert bench.held("1").bundle is None, "a stream is open, which says why there is no context"
            assert isinstance(found := handle.ready(), NoContext) and found.status.name == "EXPIRED"
        await bench.manager.sweep()
        assert not bench.manager.cache.of(DIALOGUE)
        bench.store.ttl_s += int(bench.settings.ttl_s)
        bench.record("3", "ask")
        await bench.settle()
        bench.store.generation = ""  # erased at another replica
        held = bench.held("3")
        await bench.manager.sweep()
        assert not bench.manager.cache.of(DIALOGUE) and held.bundle is None
        assert held.outcome is Outcome.ERASED

    check(body)


def test_a_context_that_an_utterance_missed_is_late() -> None:
    async def body(bench: Bench) -> None:
        bench.record("1", "ask")
        await bench.rest()
        bench.held("1").missed = True
        await bench.settle()
        assert (bench.held("1").state, bench.held("1").outcome) == (State.READY, Outcome.LATE)

    check(body)


def test_nothing_is_made_where_context_is_switched_off() -> None:
    async def body(bench: Bench) -> None:
        with bench.manager.attach(DIALOGUE, "2") as handle:
            assert isinstance(found := handle.ready(), NoContext) and found.status.name == "DISABLED"
            assert handle.answered.is_set()
        for asked in (bench.manager.status, bench.manager.embedding):
            with pytest.raises(NotFoundError, match="context.enabled"):
                await asked(DIALOGUE, "")

    check(body, enabled=False)
