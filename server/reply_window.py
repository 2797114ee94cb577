"""The reply window: while the assistant speaks its question, the context of the next turn is made.

    recorded → triggered → reading → encoding → ready | failed | expired

A trigger puts a job into a bounded queue; a full queue drops it, and its turn stays *triggered*, with a reason. A newer
turn's job supersedes an older one's of the same dialogue; an older turn, or a job that is dropped, changes nothing of
another's. A job that is not done by its deadline fails. What was dropped, superseded or failed is made again when it is
asked for: by its events being recorded again, or by the stream that would use it. Looking a context up is a dictionary
look-up. What another replica made is fetched from the store in the background (`follow`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asr.context.types import ContextEmbedding
from asr.decoding import PhraseGraph
from context_store import DialogueId, DialogueStatus, Recorded, StoredTurn, StoreError, TurnSummary
from server import logs, tracing
from server.context_reader import context_of
from server.embedding_cache import EmbeddingCache, State, TurnContext
from server.encoder_thread import EncoderThread
from server.metrics import Metrics
from server.settings import ContextSettings
from server.store_threads import StoreThreads

JOBS_AT_ONCE = 2  # one reads while another encodes
SUPERSEDED = "a newer turn of the dialogue, or newer events of this one, superseded it"


@dataclass(eq=False)
class _Work:
    """Something under way for a dialogue. cancelled: it must leave no trace in the cache or the store any more."""

    dialogue: DialogueId
    cancelled: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class _Job(_Work):
    """A context to be made. cause: the span of the call that asked for it."""

    context: TurnContext = field(kw_only=True)
    deadline_s: float = field(kw_only=True)  # of the event loop's clock
    cause: Any = field(default_factory=tracing.current)


@dataclass(eq=False)
class Follow(_Work):
    """A turn that will ask for its context. answered: the store has said what it knows; problem: why it did not."""

    turn: str = field(kw_only=True)
    answered: bool = False
    problem: str = ""
    known: bool = False
    expired: bool = False


W = TypeVar("W", bound=_Work)


class ReplyWindow:
    """Makes, keeps and hands out the contexts of dialogues. Belongs to one event loop.

    store_ttl_s: seconds that the store keeps a turn. strained: is audio late, so that no context is made?
    clock: seconds since 1970.
    """

    def __init__(
        self,
        store: StoreThreads,
        encoder: EncoderThread,
        settings: ContextSettings,
        *,
        store_ttl_s: float,
        strained: Callable[[], bool],
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.cache = EmbeddingCache(settings.cached_dialogues, settings.graph_megabytes << 20)
        self.model_version = encoder.model_version
        self.clock = clock
        self._store = store
        self._encoder = encoder
        self._settings = settings
        self._store_ttl_s = store_ttl_s
        self._strained = strained
        self._metrics = metrics
        self._ticks = itertools.count()
        self._waiting: OrderedDict[tuple[DialogueId, str], _Job] = OrderedDict()
        self._wake = asyncio.Condition()
        self._active: defaultdict[DialogueId, set[_Work]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.window_queue.set_function(lambda: len(self._waiting))
        metrics.cached_dialogues.set_function(lambda: len(self.cache))

    def start(self) -> None:
        """Begin to take jobs."""
        for _ in range(JOBS_AT_ONCE):
            self._spawn(self._serve_jobs())

    @property
    def busy(self) -> bool:
        """Is a context being made, or waiting to be?"""
        return bool(self._waiting) or any(isinstance(w, _Job) for works in self._active.values() for w in works)

    async def close(self) -> None:
        """Stop; jobs that are not done are dropped."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def trigger(self, dialogue: DialogueId, turn: str, recorded: Recorded) -> bool:
        """Start to make the context of a turn that expects speech, unless it is there already. Never waits.

        recorded: the stored turn as it is now. Returns whether the context is being made, or is there; otherwise it was
        dropped, or a newer turn's counts, and `status` says so.
        """
        held = self.cache.get(dialogue, turn)
        if held is not None and self._serves(held, recorded.version, recorded.expires_at):
            return True
        context = self._new(dialogue, turn, recorded, recorded.generation, self.clock())
        self._enter(context, State.TRIGGERED)
        if any(other.order > context.order for other in self.cache.of(dialogue) if other.turn != turn):
            return self._leave(context, SUPERSEDED)
        return self._enqueue(context)

    def begin_anew(self, dialogue: DialogueId, generation: str) -> None:
        """Texts of a life of the dialogue were recorded: what is in memory of earlier ones, erased since, goes."""
        self.cache.forget_other_lives(dialogue, generation)

    def _serves(self, held: TurnContext, version: int, stored_until: int) -> bool:
        """Is a context of this turn and of at least these events there, or being made?"""
        if held.version < version or held.stored_until != stored_until:
            return False
        return held.state in (State.READY, State.EXPIRED) or self._is_being_made(held)

    def _is_being_made(self, context: TurnContext) -> bool:
        return any(job.context is context for job in self._jobs(context.dialogue))

    def _jobs(self, dialogue: DialogueId) -> list[_Job]:
        """What is being made for a dialogue, or waits to be."""
        works = [*self._active.get(dialogue, ()), *(job for (of, _), job in self._waiting.items() if of == dialogue)]
        return [work for work in works if isinstance(work, _Job) and not work.cancelled]

    def _new(
        self, dialogue: DialogueId, turn: str, stored: Recorded | TurnSummary, generation: str, recorded_s: float
    ) -> TurnContext:
        """The context of a stored turn, as it is recorded."""
        return TurnContext(
            dialogue,
            turn,
            stored.version,
            order=(stored.start_s, turn),
            expires_s=recorded_s + self._settings.ttl_s,
            stored_until=stored.expires_at,
            tick=next(self._ticks),
            generation=generation,
            timeline=[(State.RECORDED, recorded_s)],
        )

    def _enqueue(self, context: TurnContext) -> bool:
        """Queue the job that makes a context, in place of those of older turns; returns whether there was room."""
        replaced = [
            job for job in self._jobs(context.dialogue)
            if job.context.turn == context.turn or job.context.order < context.order
        ]  # fmt: skip
        if reason := self._refusal(context.dialogue.tenant, replaced):
            self._leave(context, reason)
            return False
        for job in replaced:
            job.cancelled = True
            job.context.reason = SUPERSEDED
            self._waiting.pop((context.dialogue, job.context.turn), None)
        before = self.cache.get(context.dialogue, context.turn)
        context.failure = before.failure if before is not None else ""
        self.cache.put(context)
        deadline_s = asyncio.get_running_loop().time() + self._settings.deadline_s
        self._waiting[context.dialogue, context.turn] = _Job(context.dialogue, context=context, deadline_s=deadline_s)
        self._spawn(self._notify())
        return True

    def _leave(self, context: TurnContext, reason: str) -> bool:
        """Do not make a context now. What there is of fewer events of its turn stays; returns whether there is such."""
        held = self.cache.get(context.dialogue, context.turn)
        if held is not None and self._serves(held, 0, context.stored_until):
            return True
        context.reason = reason
        self.cache.put(context)
        return False

    def _refusal(self, tenant: str, replaced: Sequence[_Job]) -> str:
        """Why a new job is dropped, or "". replaced: the jobs whose place it would take."""
        if self._strained():
            return "dropped: the server is busy with audio"
        waiting = [job for job in self._waiting.values() if job not in replaced]
        if len(waiting) >= self._settings.queue:
            return f"dropped: {len(waiting)} contexts were waiting already"
        own = sum(job.dialogue.tenant == tenant for job in waiting)
        most = self._settings.tenant_queue or max(1, self._settings.queue // 2)
        return f"dropped: {own} of your contexts were waiting already" if own >= most else ""

    def follow(self, dialogue: DialogueId, turn: str) -> Follow:
        """Announce a turn that will ask for its context; asks the store, in the background, what it knows."""
        follow = Follow(dialogue, turn=turn)
        self._active[dialogue].add(follow)  # before its task begins, so that `erase` finds it
        self._spawn(self._follow(follow))
        return follow

    async def status(self, dialogue: DialogueId, turn: str, *, certain: bool = False) -> TurnContext | None:
        """A turn's context ("": the one that would apply now), asking the store where need be.

        certain: ask the store in any case; the dialogue may have been erased at another replica.
        None: nothing of the turn, or of the dialogue, is recorded. Raises StoreError. Nothing is made of a turn that is
        named, and nothing that has failed is made again: whoever waits for an end is told of it.
        """
        held = self.cache.get(dialogue, turn) if turn and not certain else None
        if held is None or self.expired(held):  # the turn's id may have been used again since
            with self._under_way(Follow(dialogue, turn="")) as asking:
                asked = self._read_context(dialogue, turn) if turn else self._ask_store(asking, retry=False)
                held = await asked
        if held is not None:
            self.expired(held)
        return held

    def expired(self, context: TurnContext) -> bool:
        """Is it too old to be used? Then its embedding is let go of."""
        before = context.state
        if context.expire(self.clock()) and before is not State.EXPIRED:
            self._metrics.window_states.labels(State.EXPIRED.value).inc()
        return context.state is State.EXPIRED

    async def erase(self, dialogue: DialogueId) -> int:
        """Erase a dialogue from the cache, the jobs under way and the store; returns how many items were stored.

        Raises StoreError; the cache and the jobs are clean even then.
        """
        under_way = self._disown(dialogue)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                for work in under_way:
                    await work.done.wait()
        except TimeoutError:
            logs.event("erase_did_not_wait", works=len(under_way))
        try:
            return await self._store.run(self._store.store.delete_dialogue, dialogue)
        finally:
            self._disown(dialogue)  # what began meanwhile may have read what is now gone

    def forget_tenant(self, tenant: str) -> None:
        """Forget all of a tenant's dialogues, here and nowhere else; jobs under way leave no trace."""
        known = {dialogue for dialogue, _ in self._waiting} | {*self._active, *(held.dialogue for held in self.cache)}
        for dialogue in known:
            if dialogue.tenant == tenant:
                self._disown(dialogue)
        self._store.store.forget_tenant(tenant)

    def _disown(self, dialogue: DialogueId) -> list[_Work]:
        """Forgets a dialogue; what is under way for it leaves no trace any more."""
        for key in [key for key in self._waiting if key[0] == dialogue]:
            del self._waiting[key]
        under_way = list(self._active.get(dialogue, ()))
        for work in under_way:
            work.cancelled = True
        self.cache.forget(dialogue)
        return under_way

    # Jobs

    async def _serve_jobs(self) -> None:
        while True:
            await self._serve_job()  # a call of its own: between jobs none is held

    async def _serve_job(self) -> None:
        async with self._wake:
            await self._wake.wait_for(lambda: bool(self._waiting))
            _, job = self._waiting.popitem(last=False)
        with self._under_way(job), tracing.span("context", job.cause):
            try:
                await self._make(job)
            except Exception as error:  # a job's error ends the job, never the loop
                logs.failure("context_job", error)
            tracing.note(state=job.context.state.value)

    async def _make(self, job: _Job) -> None:
        context = job.context
        try:
            async with asyncio.timeout_at(job.deadline_s):
                made = await self._embed(job)
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
        embedding, graph, stored = made
        context.embedding, context.graph = embedding, graph
        self.cache.bound_graphs()
        self._enter(context, State.READY)
        triggered = context.entered(State.TRIGGERED) or 0.0
        self._metrics.window_seconds.observe(max(0.0, self.clock() - triggered))
        try:
            data = await asyncio.to_thread(embedding.to_bytes)
            if not job.cancelled:
                await self._store.run(self._store.store.put_embedding, job.dialogue, stored, self.model_version, data)
        except StoreError as error:  # this replica has it; the others make their own
            logs.failure("context_not_stored", error)

    async def _embed(self, job: _Job) -> tuple[ContextEmbedding, PhraseGraph | None, StoredTurn] | None:
        """Reads and encodes; also returns the turn as it was read. None when the job was cancelled on the way."""
        if job.cancelled:
            return None
        context = job.context
        self._enter(context, State.READING)
        turns = await self._store.run(self._store.store.read_turns, job.dialogue, limit=self._settings.turns)
        if job.cancelled:
            return None
        stored = next((turn for turn in turns if turn.turn == context.turn), None)
        if stored is None:
            raise LookupError("the turn is not among the last ones of what is stored")
        context.version, context.generation = stored.version, stored.generation
        self._enter(context, State.ENCODING)
        with tracing.span("encode"):
            embedding = await self._encoder.encode(context_of(turns, context.turn, self._settings.entries))
            return embedding, await self._encoder.compile(embedding), stored

    def _fail(self, job: _Job, reason: str) -> None:
        if not job.cancelled:
            self._enter(job.context, State.FAILED, reason)
            job.context.failure = reason

    # What the store knows

    async def _follow(self, follow: Follow) -> None:
        with self._under_way(follow):
            try:
                await self._ask_store(follow)
            except Exception as error:
                logs.failure("context_not_followed", error)
                follow.problem = f"{type(error).__name__} while asking the store"
            finally:
                follow.answered = True

    async def _ask_store(self, follow: Follow, *, retry: bool = True) -> TurnContext | None:
        """Brings the cache up to what the store knows of a dialogue, and has the context made that is missing.

        retry: make one again that failed here. Returns the context that applies to `follow.turn`; when no other turn
        expects speech, the last turn's; or None.
        """
        dialogue = follow.dialogue
        status = await self._reconciled(dialogue)
        follow.known = bool(status.turns)
        follow.expired = status.expired_turns > 0
        if not status.turns:  # erased, or past its time
            return None
        expecting = [summary for summary in status.turns if summary.trigger and summary.turn != follow.turn]
        if not expecting:
            return self._described(dialogue, status.turns[-1], status.generation)
        newest = expecting[-1]
        held = self.cache.get(dialogue, newest.turn)
        if held is not None and self._serves(held, newest.version, newest.expires_at):
            return held
        if held is not None and held.state is State.FAILED and held.version >= newest.version and not retry:
            return held
        context = await self._fetch(dialogue, newest, status.generation)
        if follow.cancelled or self.cache.get(dialogue, newest.turn) is not held:
            return context
        if context.state is State.TRIGGERED:  # nobody has made it yet
            missing = self._new(dialogue, newest.turn, newest, status.generation, self._recorded_s(newest))
            self._enter(missing, State.TRIGGERED)
            self._enqueue(missing)
        else:
            self.cache.put(context)
            self.cache.bound_graphs()
        return self.cache.get(dialogue, newest.turn)

    async def _reconciled(self, dialogue: DialogueId, turn: str = "") -> DialogueStatus:
        """What the store knows of a dialogue, of one of its turns too; what it does not know any more is forgotten."""
        tick = next(self._ticks)  # what is recorded from now on stays
        also = [turn] * bool(turn) + [context.turn for context in self.cache.of(dialogue)]
        status = await self._store.run(self._store.store.dialogue_status, dialogue, also)
        orders = {summary.turn: (summary.start_s, summary.turn) for summary in status.turns}
        self.cache.forget_turns(dialogue, besides=orders, before=tick)
        self.cache.forget_other_lives(dialogue, status.generation)
        for context in self.cache.of(dialogue):
            context.order = orders.get(context.turn, context.order)
        return status

    async def _read_context(self, dialogue: DialogueId, turn: str) -> TurnContext | None:
        """A named turn's context as the store has it, or as it is made here; what was erased elsewhere is forgotten."""
        status = await self._reconciled(dialogue, turn)
        summary = next((summary for summary in status.turns if summary.turn == turn), None)
        if summary is None:
            return None
        held = self.cache.get(dialogue, turn)
        if held is not None and held.stored_until == summary.expires_at:
            return held
        return await self._fetch(dialogue, summary, status.generation)

    async def _fetch(self, dialogue: DialogueId, summary: TurnSummary, generation: str) -> TurnContext:
        context = self._described(dialogue, summary, generation)
        if context.state is State.TRIGGERED:
            get = self._store.store.get_embedding
            data = await self._store.run(get, dialogue, summary.turn, self.model_version, summary.version)
            if data is not None:
                context.embedding = await asyncio.to_thread(ContextEmbedding.from_bytes, data)
                context.graph = await self._encoder.compile(context.embedding)
                self._enter(context, State.READY)
        return context

    def _described(self, dialogue: DialogueId, summary: TurnSummary, generation: str) -> TurnContext:
        """A stored turn as recorded, triggered, or triggered and expired."""
        recorded_s = self._recorded_s(summary)
        context = self._new(dialogue, summary.turn, summary, generation, recorded_s)
        if summary.trigger:
            context.timeline = [(State.TRIGGERED, recorded_s)]  # when it was, another replica knows
        if summary.trigger and self.clock() >= context.expires_s:
            context.enter(State.EXPIRED, self.clock())
        return context

    def _recorded_s(self, summary: TurnSummary) -> float:
        """When the turn was first recorded; the store keeps that in whole seconds, rounded up."""
        return min(self.clock(), summary.expires_at - self._store_ttl_s)

    # Bookkeeping

    def _enter(self, context: TurnContext, state: State, reason: str = "") -> None:
        if context.timeline:
            left, since = context.timeline[-1]
            self._metrics.window_stage_seconds.labels(left.value).observe(max(0.0, self.clock() - since))
        context.enter(state, self.clock(), reason)
        self._metrics.window_states.labels(state.value).inc()

    @contextmanager
    def _under_way(self, work: W) -> Iterator[W]:
        """While inside, `erase` knows of the work and waits for it."""
        self._active[work.dialogue].add(work)
        try:
            yield work
        finally:
            work.done.set()
            self._active[work.dialogue].discard(work)
            if not self._active[work.dialogue]:
                del self._active[work.dialogue]

    async def _notify(self) -> None:
        async with self._wake:
            self._wake.notify()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
