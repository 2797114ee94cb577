"""Contexts of dialogues in memory: bounded, keyed by tenant and dialogue, each turn's with its timeline."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

from asr.context.bundle import ContextBundle
from context_store import DialogueId

TURNS_PER_DIALOGUE = 4

Order: TypeAlias = tuple[int, float, str]
"""Where a turn stands in its dialogue: its place, by the store; of those without one, its earliest event's time and its
id."""


class State(Enum):
    """States of a turn's context, in order; names as in the interface."""

    RECORDED = "recorded"
    TRIGGERED = "triggered"
    READING = "reading"
    ENCODING = "encoding"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


class Outcome(Enum):
    """What became of a turn's context."""

    MADE = "made"
    """Here, in time: the next turn's utterances can use it."""
    MADE_ELSEWHERE = "made elsewhere"
    """By another replica; fetched from the store."""
    LATE = "late"
    """Here, when an utterance that waited for it had ended; the next ones can use it."""
    DROPPED = "dropped"
    """Not made: too many waited, audio was late, or the server was closing. Made when it is asked for."""
    SUPERSEDED = "superseded"
    """Not made: a newer turn, or newer events of this one, took its place."""
    FAILED = "failed"
    """An error, or its deadline. Made again when it is asked for."""
    EXPIRED = "expired"
    """Made, and past its time."""
    ERASED = "erased"
    """Gone, with the dialogue."""


@dataclass(eq=False)
class TurnContext:
    """The context that one turn's expect-speech event triggered, on its way through its states."""

    dialogue: DialogueId
    turn: str
    version: int
    """Of the stored turn that it is made from."""
    order: Order
    """Contexts of a dialogue apply in this order."""
    expires_s: float
    """Seconds since 1970 from which it must not be used."""
    stored_until: int
    """Seconds since 1970 at which the stored turn expires; a turn of the same id with another expiry is another one."""
    tick: int
    """Grows from one context to the next."""
    generation: str = ""
    """Of the dialogue, which has another one after it was erased."""
    timeline: list[tuple[State, float]] = field(default_factory=list)
    """States with the seconds since 1970 at which they were entered, in that order."""
    reason: str = ""
    """Why it failed or was dropped; no user text."""
    failure: str = ""
    """Why it failed, now or in an earlier attempt."""
    outcome: Outcome | None = None
    """What became of it; None: nothing yet."""
    confirmed_s: float = field(default_factory=time.monotonic)
    """When the store last named it as its dialogue's newest, by `time.monotonic`."""
    missed: bool = False
    """An utterance that waited for it has ended."""
    bundle: ContextBundle | None = field(default=None, repr=False)
    """What streams use of it; there while it is READY."""

    @property
    def state(self) -> State:
        """The last state entered."""
        return self.timeline[-1][0]

    def enter(self, state: State, now_s: float) -> None:
        """Go on to a state."""
        self.timeline.append((state, now_s))
        self.outcome, self.reason = None, ""

    def entered(self, state: State) -> float | None:
        """When the state was entered, seconds since 1970, or None."""
        return next((time_s for entered, time_s in self.timeline if entered is state), None)

    @property
    def made_in_ms(self) -> float | None:
        """Milliseconds from triggered to ready; None when it was not made in this server."""
        triggered, ready = self.entered(State.TRIGGERED), self.entered(State.READY)
        if triggered is None or ready is None or self.entered(State.ENCODING) is None:
            return None
        return max(0.0, ready - triggered) * 1000

    def expire(self, now_s: float) -> bool:
        """Drops the bundle when its time has come; returns whether the context is expired."""
        if self.state is State.READY and now_s >= self.expires_s:
            self.bundle = None
            self.enter(State.EXPIRED, now_s)
        return self.state is State.EXPIRED


Push: TypeAlias = Callable[[TurnContext | None], None]


class ContextCache:
    """The last contexts of the last dialogues. Not safe for threads: it belongs to one event loop.

    Args:
        max_dialogues: when full, the dialogue that was used longest ago is evicted; a stream keeps the context it has.
        max_graph_bytes: of all bundles' phrase graphs.
    """

    def __init__(self, max_dialogues: int, max_graph_bytes: int) -> None:
        self._max = max_dialogues
        self._max_graph_bytes = max_graph_bytes
        self._dialogues: OrderedDict[DialogueId, dict[str, TurnContext]] = OrderedDict()
        self._pushes: defaultdict[DialogueId, dict[object, tuple[str, Push]]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._dialogues)

    def __iter__(self) -> Iterator[TurnContext]:
        return (context for turns in self._dialogues.values() for context in turns.values())

    def get(self, dialogue: DialogueId, turn: str) -> TurnContext | None:
        """A turn's context, or None."""
        return self._dialogues.get(dialogue, {}).get(turn)

    def of(self, dialogue: DialogueId) -> list[TurnContext]:
        """The contexts of a dialogue."""
        return list(self._dialogues.get(dialogue, {}).values())

    def latest(self, dialogue: DialogueId, besides: str = "") -> TurnContext | None:
        """The context that applies to turn `besides`: the last one that is not its own; or None."""
        turns = self._dialogues.get(dialogue, {})
        return max((c for c in turns.values() if c.turn != besides), key=lambda c: c.order, default=None)

    @contextmanager
    def pushing(self, dialogue: DialogueId, turn: str, push: Push) -> Iterator[None]:
        """While inside, `push` is given the context that applies to a turn: now, and whenever another one does."""
        key = object()
        self._pushes[dialogue][key] = (turn, push)
        if dialogue in self._dialogues:
            self._dialogues.move_to_end(dialogue)
        push(self.latest(dialogue, turn))
        try:
            yield
        finally:
            del self._pushes[dialogue][key]
            if not self._pushes[dialogue]:
                del self._pushes[dialogue]

    def _push(self, dialogue: DialogueId) -> None:
        for turn, push in self._pushes.get(dialogue, {}).values():
            push(self.latest(dialogue, turn))

    def put(self, context: TurnContext) -> None:
        """Keep a context in place of an earlier one of its turn; evicts what is over the bounds."""
        turns = self._dialogues.setdefault(context.dialogue, {})
        turns[context.turn] = context
        if len(turns) > TURNS_PER_DIALOGUE:
            del turns[min(turns.values(), key=lambda c: c.order).turn]
        self._use_attached()
        self._dialogues.move_to_end(context.dialogue)
        while len(self._dialogues) > self._max:
            self._dialogues.popitem(last=False)
        self._push(context.dialogue)

    def _use_attached(self) -> None:
        """Dialogues with open streams are in use, however long ago the streams were opened."""
        for dialogue in self._pushes:
            if dialogue in self._dialogues:
                self._dialogues.move_to_end(dialogue)

    def forget(self, dialogue: DialogueId) -> list[TurnContext]:
        """Forget a dialogue; returns its contexts."""
        return self._drop(dialogue, lambda context: True)

    def evict_stale_generations(self, dialogue: DialogueId, generation: str, before: int) -> list[TurnContext]:
        """Forget what was made of a dialogue before it was erased, here or elsewhere; returns that.

        Args:
            generation: the dialogue's now; "": it is not there.
            before: contexts with this tick or a later one stay: they may be of a generation that is newer still.
        """
        return self._drop(dialogue, lambda context: context.generation != generation and context.tick < before)

    def evict_unused(self, now_s: float) -> None:
        """Forget the contexts past their time of dialogues without an open stream."""
        for dialogue in [dialogue for dialogue in self._dialogues if dialogue not in self._pushes]:
            self._drop(dialogue, lambda context: now_s >= context.expires_s)

    def _drop(self, dialogue: DialogueId, unwanted: Callable[[TurnContext], bool]) -> list[TurnContext]:
        turns = self._dialogues.get(dialogue, {})
        gone = [context for context in turns.values() if unwanted(context)]
        for context in gone:
            del turns[context.turn]
        if not turns:
            self._dialogues.pop(dialogue, None)
        self._push(dialogue)
        return gone

    def bound_graphs(self) -> None:
        """Drops phrase graphs past the bound, those of the dialogues used longest ago; their embeddings stay."""
        self._use_attached()
        room = self._max_graph_bytes
        for turns in reversed(self._dialogues.values()):
            for context in reversed(turns.values()):
                bundle = context.bundle
                if bundle is not None and bundle.graph is not None:
                    room -= bundle.graph.bytes
                    context.bundle = bundle if room >= 0 else replace(bundle, graph=None)
