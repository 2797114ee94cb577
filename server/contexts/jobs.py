"""The jobs of the reply window: from a turn that expects speech to the bundle that the next turn's stream uses.

    recorded → triggered → reading → encoding → ready | failed | expired

The queue is bounded: a job that finds no room is dropped, and its turn stays *triggered*, with a reason. A newer turn's
job supersedes an older one's of the same dialogue, once it has found room itself; an older turn's, or one that is
dropped, changes nothing of another's. A job that is not done by its deadline fails. Each ends in one `Outcome`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asr.context.bundle import ContextBundle
from context_store import DialogueId, StoredTurn, StoreError
from server import logs, tracing
from server.contexts.builder import ContextBuilder, context_of
from server.contexts.cache import ContextCache, Outcome, State, TurnContext
from server.contexts.store_threads import StoreThreads
from server.metrics import Metrics
from server.settings import ContextSettings

SUPERSEDED = "a newer turn of the dialogue, or newer events of this one, superseded it"
_AT_ONCE = 2
"""Jobs at once: one reads while another encodes."""


@dataclass(eq=False)
class Task:
    """Something under way for a dialogue, which erasing the dialogue waits for."""

    dialogue: DialogueId
    cancelled: bool = False
    """It must leave no trace in the cache or the store any more."""
    began: int = 0
    """Grows from one question to the store to the next; 0: it has not asked."""
    generation: str | None = None
    """The dialogue's, as a later question has learned it meanwhile; None: none has been answered."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def is_outdated(self, generation: str) -> bool:
        """Has a later question learned another generation already? Answers may overtake each other on their way."""
        return self.generation is not None and self.generation != generation


@dataclass(eq=False)
class _Job(Task):
    """A context to be made."""

    context: TurnContext = field(kw_only=True)
    deadline_s: float = field(kw_only=True)
    """Of the event loop's clock."""
    cause: Any = field(default_factory=tracing.current)
    """The span of the call that asked for it."""


W = TypeVar("W", bound=Task)


class ContextJobs:
    """Makes contexts in the background, and knows all that is under way for a dialogue. Belongs to one event loop.

    Args:
        late: whether audio is late, so that no context is made.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        cache: ContextCache,
        store: StoreThreads,
        builder: ContextBuilder,
        settings: ContextSettings,
        *,
        late: Callable[[], bool],
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._cache = cache
        self._store = store
        self._builder = builder
        self._settings = settings
        self._late = late
        self._clock = clock
        self._metrics = metrics
        self._waiting: OrderedDict[tuple[DialogueId, str], _Job] = OrderedDict()
        self._under_way: defaultdict[DialogueId, set[Task]] = defaultdict(set)
        self._wake = asyncio.Event()
        self._servers: list[asyncio.Task[None]] = []
        metrics.window_queue.set_function(lambda: len(self._waiting))

    def start(self) -> None:
        """Begin to take jobs."""
        loop = asyncio.get_running_loop()
        self._servers = [loop.create_task(self._serve()) for _ in range(_AT_ONCE)]

    async def close(self) -> None:
        """Stop; jobs that are not done are dropped."""
        for server in self._servers:
            server.cancel()
        await asyncio.gather(*self._servers, return_exceptions=True)
        for job in self._waiting.values():
            self.end(job.context, Outcome.DROPPED)

    @property
    def busy(self) -> bool:
        """Is a context being made, or waiting to be?"""
        return bool(self._waiting) or any(isinstance(t, _Job) for tasks in self._under_way.values() for t in tasks)

    def makes(self, context: TurnContext) -> bool:
        """Is this context being made, or waiting to be?"""
        return any(job.context is context for job in self._of(context.dialogue))

    def serves(self, held: TurnContext, version: int, stored_until: int) -> bool:
        """Is a context of this turn and of at least these events there, or being made?"""
        if held.version < version or held.stored_until != stored_until:
            return False
        return held.state in (State.READY, State.EXPIRED) or self.makes(held)

    def enqueue(self, context: TurnContext) -> bool:
        """Have a context made in place of its dialogue's older ones; False: it was dropped, and nothing has changed."""
        replaced = [
            job
            for job in self._of(context.dialogue)
            if job.context.turn == context.turn or not self.is_newer(job.context, context)
        ]
        if reason := self._refusal(context.dialogue.tenant, replaced):
            self.leave(context, Outcome.DROPPED, reason)
            return False
        for job in replaced:
            job.cancelled = True
            self.end(job.context, Outcome.SUPERSEDED, SUPERSEDED)
            self._waiting.pop((context.dialogue, job.context.turn), None)
        before = self._cache.get(context.dialogue, context.turn)
        context.failure = before.failure if before is not None else ""
        self._cache.put(context)
        deadline_s = asyncio.get_running_loop().time() + self._settings.deadline_s
        self._waiting[context.dialogue, context.turn] = _Job(context.dialogue, context=context, deadline_s=deadline_s)
        self._wake.set()
        return True

    @staticmethod
    def is_newer(context: TurnContext, other: TurnContext) -> bool:
        """Does a context come behind another one of its dialogue? None does behind one of another generation."""
        return context.generation == other.generation and context.order > other.order

    def leave(self, context: TurnContext, outcome: Outcome, reason: str) -> bool:
        """Do not make a context now. What there is of fewer events of its turn stays; returns whether there is such."""
        held = self._cache.get(context.dialogue, context.turn)
        if held is not None and self.serves(held, 0, context.stored_until):
            return True
        self.end(context, outcome, reason)
        self._cache.put(context)
        return False

    def end(self, context: TurnContext, outcome: Outcome, reason: str = "") -> None:
        """State what became of a context, and count that."""
        context.outcome, context.reason = outcome, reason
        self._metrics.window_outcomes.labels(outcome.value).inc()

    def _refusal(self, tenant: str, replaced: Sequence[_Job]) -> str:
        """Why a new job is dropped, or "". replaced: the jobs whose place it would take."""
        if self._late():
            return "dropped: the server is busy with audio"
        waiting = [job for job in self._waiting.values() if job not in replaced]
        if len(waiting) >= self._settings.queue:
            return f"dropped: {len(waiting)} contexts were waiting already"
        own = sum(job.dialogue.tenant == tenant for job in waiting)
        most = self._settings.tenant_queue or max(1, self._settings.queue // 2)
        return f"dropped: {own} of your contexts were waiting already" if own >= most else ""

    def _of(self, dialogue: DialogueId) -> list[_Job]:
        """What is being made for a dialogue, or waits to be."""
        waiting = (job for (of, _), job in self._waiting.items() if of == dialogue)
        tasks = [*self._under_way.get(dialogue, ()), *waiting]
        return [task for task in tasks if isinstance(task, _Job) and not task.cancelled]

    def disown(self, dialogue: DialogueId) -> list[Task]:
        """What is under way for a dialogue is to leave no trace; returns it. What waits is dropped."""
        for key in [key for key in self._waiting if key[0] == dialogue]:
            del self._waiting[key]
        under_way = list(self._under_way.get(dialogue, ()))
        for task in under_way:
            task.cancelled = True
        return under_way

    def learn(self, dialogue: DialogueId, generation: str, began: int) -> None:
        """Tell what has asked the store before which generation a question that began then has learned."""
        for task in self._under_way.get(dialogue, ()):
            if task.began < began:
                task.generation = generation

    @property
    def dialogues(self) -> set[DialogueId]:
        """Those for which something is under way, or waits."""
        return {dialogue for dialogue, _ in self._waiting} | {*self._under_way}

    def begin(self, task: W) -> W:
        """From now on `disown` knows of the task."""
        self._under_way[task.dialogue].add(task)
        return task

    @contextmanager
    def under_way(self, task: W) -> Iterator[W]:
        """While inside, `disown` knows of the task; then it is done."""
        self.begin(task)
        try:
            yield task
        finally:
            task.done.set()
            self._under_way[task.dialogue].discard(task)
            if not self._under_way[task.dialogue]:
                del self._under_way[task.dialogue]

    def enter(self, context: TurnContext, state: State) -> None:
        """Bring a context into a state, and count that."""
        if context.timeline:
            left, since = context.timeline[-1]
            self._metrics.window_stage_seconds.labels(left.value).observe(max(0.0, self._clock() - since))
        context.enter(state, self._clock())
        self._metrics.window_states.labels(state.value).inc()

    # Making one

    async def _serve(self) -> None:
        while True:
            await self._serve_one()  # a call of its own: between jobs none is held

    async def _serve_one(self) -> None:
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        _, job = self._waiting.popitem(last=False)
        with self.under_way(job), tracing.span("context", job.cause):
            try:
                await self._make(job)
            except Exception as error:  # a job's error ends the job, never the loop
                logs.failure("context_job", error)
            tracing.note(state=job.context.state.value)

    async def _make(self, job: _Job) -> None:
        context = job.context
        try:
            async with asyncio.timeout_at(job.deadline_s):
                made = await self._build(job)
        except TimeoutError:
            deadline_s, state = self._settings.deadline_s, context.state.value
            self._fail(job, f"not ready {deadline_s:g} s after expect-speech, while {state}")
            return
        except Exception as error:
            logs.failure("context_failed", error, state=context.state.value)
            self._fail(job, f"{type(error).__name__} while {context.state.value}")
            return
        if made is None or job.cancelled:
            return
        context.bundle, stored = made
        self._cache.bound_graphs()
        self.enter(context, State.READY)
        self.end(context, Outcome.LATE if context.missed else Outcome.MADE)
        triggered = context.entered(State.TRIGGERED) or 0.0
        self._metrics.window_seconds.observe(max(0.0, self._clock() - triggered))
        try:
            data = await self._builder.dump(job.dialogue.tenant, made[0].embedding)
            if not job.cancelled:
                put, model = self._store.store.put_embedding, self._builder.model_version
                await self._store.run(put, job.dialogue, stored, model, data)
        except StoreError as error:  # this replica has it; the others make their own
            logs.failure("context_not_stored", error)

    async def _build(self, job: _Job) -> tuple[ContextBundle, StoredTurn] | None:
        """The bundle, and the turn as it was read. None when the job was cancelled on the way."""
        if job.cancelled:
            return None
        context = job.context
        self.enter(context, State.READING)
        turns = await self._store.run(self._store.store.read_turns, job.dialogue, limit=self._settings.turns)
        if job.cancelled:
            return None
        stored = next((turn for turn in turns if turn.turn == context.turn), None)
        if stored is None:
            raise LookupError("the turn is not among the last ones of what is stored")
        if stored.generation != context.generation:
            raise LookupError("the dialogue was erased meanwhile")
        context.version = stored.version
        self.enter(context, State.ENCODING)
        with tracing.span("encode"):
            return await self._builder.build(context_of(turns, context.turn, self._settings.entries)), stored

    def _fail(self, job: _Job, reason: str) -> None:
        if not job.cancelled:
            self.enter(job.context, State.FAILED)
            self.end(job.context, Outcome.FAILED, reason)
            job.context.failure = reason
