"""The contexts of dialogues as one thing: record, attach, status, embedding, erase.

While the assistant speaks its question, the context of the next turn is made (`jobs`). What was dropped, superseded or
has failed is made again when it is asked for: by its events being recorded again, or by the stream that would use it.
What another replica made is fetched from the store in the background. A stream never waits: it holds a handle, to which
the context that applies is pushed, and which asks the store again when an utterance begins. What has expired, or was
erased at another replica, is swept from memory.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from context_store import DialogueId, DialogueStatus, Event, Recorded, TurnSummary
from server import logs
from server.contexts.builder import ContextBuilder
from server.contexts.cache import ContextCache, Outcome, State, TurnContext
from server.contexts.handle import ContextHandle, NoContext, Status
from server.contexts.jobs import SUPERSEDED, ContextJobs, Task
from server.contexts.store_threads import StoreThreads
from server.errors import NotFoundError
from server.metrics import Metrics
from server.settings import ContextSettings

_NOTHING_RECORDED = NoContext(Status.NOT_FOUND, "nothing of the dialogue is recorded")


@dataclass(eq=False)
class _Asking(Task):
    """The store is being asked what it knows of a dialogue, for a turn. absent: why it knows of no context."""

    turn: str = field(kw_only=True)
    absent: NoContext = _NOTHING_RECORDED


class ContextManager:
    """Belongs to one event loop.

    Args:
        store_ttl_s: seconds that the store keeps a turn.
        late: whether audio is late, so that no context is made.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: StoreThreads,
        builder: ContextBuilder,
        settings: ContextSettings,
        *,
        store_ttl_s: float,
        late: Callable[[], bool],
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.enabled = settings.enabled
        """Is context switched on? Events are recorded all the same."""
        self.model_version = builder.model_version
        self.cache = ContextCache(settings.cached_dialogues, settings.graph_megabytes << 20)
        self.jobs = ContextJobs(self.cache, store, builder, settings, late=late, clock=clock, metrics=metrics)
        self._store = store
        self._builder = builder
        self._settings = settings
        self._store_ttl_s = store_ttl_s
        self._clock = clock
        self._metrics = metrics
        self._ticks = itertools.count()
        self._asking: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        metrics.cached_dialogues.set_function(lambda: len(self.cache))

    def start(self) -> None:
        """Begin to make contexts, and to sweep."""
        self.jobs.start()
        self._sweeping = asyncio.get_running_loop().create_task(self._keep_sweeping())

    async def close(self) -> None:
        """Stop; contexts that are not ready are dropped."""
        tasks = [*self._asking, *([self._sweeping] if self._sweeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.jobs.close()

    @property
    def busy(self) -> bool:
        """Is a context being made, or waiting to be?"""
        return self.jobs.busy

    @property
    def asking(self) -> int:
        """Questions of handles that the store has not answered yet."""
        return len(self._asking)

    async def record(self, dialogue: DialogueId, turn: str, events: Sequence[Event]) -> bool:
        """Record events of a turn. Where the turn expects speech, its context is made from now on.

        Returns whether it is being made, or is there; else there is nothing to make, or it was dropped, or a newer
        turn's counts, and `status` says so. Raises StoreError.
        """
        store = self._store.store
        with self.jobs.under_way(Task(dialogue, began=next(self._ticks))) as task:
            recorded = await self._store.run(store.record, dialogue, turn, events)
            if self.enabled and recorded.trigger and not recorded.generation:
                recorded = await self._store.run(store.place, dialogue, turn, events)
            if task.cancelled or task.is_outdated(recorded.generation):  # recorded before it was erased, or after?
                status = await self._known(task, turn, besides="")
                if status.generation != recorded.generation or all(known.turn != turn for known in status.turns):
                    return False
        if not self.enabled:
            return False
        if recorded.generation:
            self._learn(dialogue, recorded.generation, task.began)
        return recorded.trigger and self.trigger(dialogue, turn, recorded)

    def trigger(self, dialogue: DialogueId, turn: str, recorded: Recorded) -> bool:
        """Start to make the context of a recorded turn that expects speech, unless it is there. Never waits."""
        held = self.cache.get(dialogue, turn)
        if held is not None and self.jobs.serves(held, recorded.version, recorded.expires_at):
            return True
        context = self._new(dialogue, turn, recorded, recorded.generation, self._recorded_s(recorded))
        if self._clock() >= context.expires_s:  # an old turn's events once more: it is too late for a context
            return False
        self.jobs.enter(context, State.TRIGGERED)
        if any(self.jobs.is_newer(other, context) for other in self.cache.of(dialogue) if other.turn != turn):
            return self.jobs.leave(context, Outcome.SUPERSEDED, SUPERSEDED)
        return self.jobs.enqueue(context)

    @contextmanager
    def attach(self, dialogue: DialogueId | None, turn: str) -> Iterator[ContextHandle]:
        """The handle on the context that applies to a turn, which is pushed to it while inside.

        Args:
            dialogue: None: the turn belongs to no dialogue, and has no context.

        The store is asked in the background what it knows of the dialogue; a context that it misses is made.
        """
        if dialogue is None or not self.enabled:
            absent = NoContext(Status.NOT_REQUESTED if dialogue is None else Status.DISABLED)
            handle = ContextHandle(self._clock, self.expired, lambda number: handle.say(number, absent), 0.0)
            handle.ask()
            yield handle
            return

        def ask(number: int) -> None:
            task = self.jobs.begin(_Asking(dialogue, turn=turn))  # before it runs, so that `erase` finds it
            running = asyncio.get_running_loop().create_task(self._ask_for(handle, number, task))
            self._asking.add(running)
            running.add_done_callback(self._asking.discard)

        handle = ContextHandle(self._clock, self.expired, ask, self._settings.unconfirmed_s)
        with self.cache.pushing(dialogue, turn, handle.push):
            handle.ask()
            yield handle

    async def status(self, dialogue: DialogueId, turn: str) -> TurnContext:
        """A turn's context ("": the one that would apply now), asking the store where need be.

        Nothing is made of a turn that is named, and nothing that has failed is made again: whoever waits for an end is
        informed. Raises NotFoundError, StoreError.
        """
        return await self._look_up(dialogue, turn, certain=False)

    async def embedding(self, dialogue: DialogueId, turn: str) -> TurnContext:
        """As `status`, of a context that is ready.

        The store is asked in any case: the dialogue may have been erased at another replica. Raises NotFoundError,
        StoreError.
        """
        context = await self._look_up(dialogue, turn, certain=True)
        if context.bundle is None:
            raise NotFoundError(f"the turn's context is {context.state.value}{_advice(context)}")
        return context

    async def erase(self, dialogue: DialogueId) -> int:
        """Erase a dialogue from the cache, the jobs under way and the store; returns how many items were stored.

        Raises StoreError; the cache and the jobs are clean even then.
        """
        under_way = self._disown(dialogue)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                for task in under_way:
                    await task.done.wait()
        except TimeoutError:
            logs.event("erase_did_not_wait", works=len(under_way))
        try:
            return await self._store.run(self._store.store.delete_dialogue, dialogue)
        finally:
            self._disown(dialogue)  # what began meanwhile may have read what is now gone

    def forget_tenant(self, tenant: str) -> None:
        """Forget all of a tenant's dialogues, here and nowhere else; jobs under way leave no trace."""
        for dialogue in self.jobs.dialogues | {held.dialogue for held in self.cache}:
            if dialogue.tenant == tenant:
                self._disown(dialogue)
        self._store.store.forget_tenant(tenant)

    def expired(self, context: TurnContext) -> bool:
        """Is a context too old to be used? Then its bundle is dropped."""
        before = context.state
        if context.expire(self._clock()) and before is not State.EXPIRED:
            self._metrics.window_states.labels(State.EXPIRED.value).inc()
            self.jobs.end(context, Outcome.EXPIRED)
        return context.state is State.EXPIRED

    async def sweep(self) -> None:
        """Drop from memory what has expired, and what belongs to dialogues that were erased at other replicas.

        Raises StoreError; what has expired here is gone even then.
        """
        for context in self.cache:
            self.expired(context)
        self.cache.evict_unused(self._clock())
        began, dialogues = next(self._ticks), {context.dialogue for context in self.cache}
        generations = await self._store.run_for_all(self._store.store.sweep, dialogues)
        for dialogue, generation in generations.items():
            self._learn(dialogue, generation, began)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            try:
                await self.sweep()
            except Exception as error:  # the next one may do better
                logs.failure("memory_not_swept", error)

    def _disown(self, dialogue: DialogueId) -> list[Task]:
        under_way = self.jobs.disown(dialogue)
        self._erased(self.cache.forget(dialogue))
        return under_way

    def _learn(self, dialogue: DialogueId, generation: str, began: int) -> None:
        """Forget what was made of a dialogue before it was erased elsewhere; what was recorded since `began` stays."""
        self.jobs.learn(dialogue, generation, began)
        self._erased(self.cache.evict_stale_generations(dialogue, generation, began))

    def _erased(self, contexts: Iterable[TurnContext]) -> None:
        for context in contexts:
            context.bundle = None  # streams may hold it
            self.jobs.end(context, Outcome.ERASED)

    # What the store knows

    async def _ask_for(self, handle: ContextHandle, number: int, asking: _Asking) -> None:
        with self.jobs.under_way(asking):
            try:
                await self._use(asking, await self._known(asking, besides=asking.turn))
                handle.say(number, asking.absent)
            except Exception as error:
                logs.failure("context_not_followed", error)
                reason = f"{type(error).__name__} while asking the store"
                known = self._counts_yet(self.cache.latest(asking.dialogue, asking.turn))
                handle.say(number, NoContext(Status.FAILED, reason), known=known)

    def _counts_yet(self, context: TurnContext | None) -> bool:
        """Does what the store has said of a context last count, though it does not answer now?"""
        if context is None or (context.state is State.TRIGGERED and not self.jobs.makes(context)):
            return False  # there is none before the store answers
        return time.monotonic() - context.confirmed_s <= self._settings.unconfirmed_s

    async def _look_up(self, dialogue: DialogueId, turn: str, *, certain: bool) -> TurnContext:
        """certain: ask the store in any case."""
        if not self.enabled:
            raise NotFoundError("the server runs with context switched off (its setting is context.enabled)")
        held = self.cache.get(dialogue, turn) if turn and not certain else None
        if held is None or self.expired(held):  # the turn's id may have been used again since
            with self.jobs.under_way(_Asking(dialogue, turn="")) as asking:
                status = await self._known(asking, turn)
                asked = self._read_context(dialogue, turn, status) if turn else self._use(asking, status, retry=False)
                held = await asked
        if held is None or held.outcome is Outcome.ERASED:
            raise NotFoundError(f"nothing is recorded of the {'turn' if turn else 'dialogue'}; record its events first")
        self.expired(held)
        return held

    async def _use(self, asking: _Asking, status: DialogueStatus, *, retry: bool = True) -> TurnContext | None:
        """Bring the cache up to what the store knows of a dialogue, and have the context made that is missing.

        retry: make one again that failed here. Returns the context that applies to the turn; when no other turn
        expects speech, the last turn's; or None.
        """
        dialogue = asking.dialogue
        if asking.cancelled:
            return None
        if not status.turns:  # erased, or past its time
            if status.expired_turns:
                asking.absent = NoContext(Status.EXPIRED, "what was recorded of the dialogue is too old to be used")
            return None
        expecting = [summary for summary in status.turns if summary.trigger and summary.turn != asking.turn]
        if not expecting:
            asking.absent = NoContext(Status.NOT_FOUND, "no earlier turn of the dialogue expected speech")
            return self._described(dialogue, status.turns[-1], status.generation)
        newest = expecting[-1]
        held = self.cache.get(dialogue, newest.turn)
        if held is not None:
            held.confirmed_s = time.monotonic()
        if held is not None and self.jobs.serves(held, newest.version, newest.expires_at):
            return held
        if held is not None and held.state is State.FAILED and held.version >= newest.version and not retry:
            return held
        context = self._described(dialogue, newest, status.generation)
        if context.state is State.TRIGGERED and not (held and self.jobs.serves(held, 0, newest.expires_at)):
            context.failure = held.failure if held is not None else ""
            self.cache.put(context)  # it applies before it is here: fetching waits behind what is being made
            held = context
        await self._fetch(context)
        if asking.cancelled:
            return None
        if self.cache.get(dialogue, newest.turn) is not held:
            return context
        if context.state is State.TRIGGERED:  # nobody has made it yet
            missing = self._new(dialogue, newest.turn, newest, status.generation, self._recorded_s(newest))
            self.jobs.enter(missing, State.TRIGGERED)
            self.jobs.enqueue(missing)
        else:
            self.cache.put(context)
            self.cache.bound_graphs()
        return self.cache.get(dialogue, newest.turn)

    async def _known(self, task: Task, turn: str = "", besides: str | None = None) -> DialogueStatus:
        """What the store knows of a task's dialogue; what was made of it before it was erased is forgotten.

        It is asked again where something else was learned of the dialogue's generation while it answered.

        Args:
            turn: one that is to be among the turns.
            besides: only the newest turns, until one that expects speech other than this one.
        """
        dialogue = task.dialogue
        also = {turn, *(context.turn for context in self.cache.of(dialogue))} - {""}
        while True:
            task.began, task.generation = next(self._ticks), None
            status = await self._store.run(self._store.store.dialogue_status, dialogue, also, besides)
            if not task.is_outdated(status.generation) and not any(
                held.generation != status.generation and held.tick > task.began for held in self.cache.of(dialogue)
            ):
                break
        self._learn(dialogue, status.generation, task.began)
        return status

    async def _read_context(self, dialogue: DialogueId, turn: str, status: DialogueStatus) -> TurnContext | None:
        """A named turn's context as the store has it, or as it is made here."""
        summary = next((summary for summary in status.turns if summary.turn == turn), None)
        if summary is None:
            return None
        held = self.cache.get(dialogue, turn)
        if held is not None and held.stored_until == summary.expires_at:
            return held
        context = self._described(dialogue, summary, status.generation)
        await self._fetch(context)
        return context

    async def _fetch(self, context: TurnContext) -> None:
        """Take what another replica has made of a triggered turn from the store, if it is there."""
        if context.state is State.TRIGGERED:
            get = self._store.store.get_embedding
            data = await self._store.run(get, context.dialogue, context.turn, self.model_version, context.version)
            if data is not None:
                context.bundle = await self._builder.restore(data)
                self.jobs.enter(context, State.READY)
                self.jobs.end(context, Outcome.MADE_ELSEWHERE)

    # Contexts of stored turns

    def _described(self, dialogue: DialogueId, summary: TurnSummary, generation: str) -> TurnContext:
        """A stored turn as recorded, triggered, or triggered and expired."""
        recorded_s = self._recorded_s(summary)
        context = self._new(dialogue, summary.turn, summary, generation, recorded_s)
        if summary.trigger:
            context.timeline = [(State.TRIGGERED, recorded_s)]  # when it was, another replica knows
        if summary.trigger and self._clock() >= context.expires_s:
            context.enter(State.EXPIRED, self._clock())
            context.outcome = Outcome.EXPIRED
        return context

    def _recorded_s(self, stored: Recorded | TurnSummary) -> float:
        """When the turn was first recorded; the store keeps that in whole seconds, rounded up."""
        return min(self._clock(), stored.expires_at - self._store_ttl_s)

    def _new(
        self, dialogue: DialogueId, turn: str, stored: Recorded | TurnSummary, generation: str, recorded_s: float
    ) -> TurnContext:
        """The context of a stored turn, as it is recorded."""
        return TurnContext(
            dialogue,
            turn,
            stored.version,
            order=(stored.place, 0.0 if stored.place else stored.start_s, turn),
            expires_s=recorded_s + self._settings.ttl_s,
            stored_until=stored.expires_at,
            tick=next(self._ticks),
            generation=generation,
            timeline=[(State.RECORDED, recorded_s)],
        )


def _advice(context: TurnContext) -> str:
    """What there is to do about a context that is not ready."""
    if context.reason:
        return f" ({context.reason}); send the turn's events again, or open the next turn's stream, to have it made"
    if context.state is State.RECORDED:
        return ": no event of the turn expects speech; record one that does"
    if context.state is State.EXPIRED:
        return ": it is too old; record a new turn that expects speech"
    return "; wait until GetContextStatus says READY"
