"""Contexts of dialogues in memory: bounded, keyed by tenant and dialogue, each turn's with its timeline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from asr.context.types import ContextEmbedding
from asr.decoding import PhraseGraph
from context_store import DialogueId

TURNS_PER_DIALOGUE = 4

Order: TypeAlias = tuple[float, str]
"""Where a turn stands in its dialogue: the time of its earliest event, then its id."""


class State(Enum):
    """States of a turn's context, in order; names as in the interface."""

    RECORDED = "recorded"
    TRIGGERED = "triggered"
    READING = "reading"
    ENCODING = "encoding"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass
class TurnContext:
    """The context that one turn's expect-speech started.

    version: of the stored turn that it is made from. generation: of which life of the dialogue that is; "" while it is
    not known, or where it has no texts. order: contexts of a dialogue apply in this order. stored_until: seconds since
    1970 at which the stored turn expires; a turn of the same id with another expiry is another turn. tick: grows from
    one context to the next.
    timeline: (state, seconds since 1970), in the order of entering. reason: why it failed or was dropped, no user text.
    failure: why it failed, now or in an earlier attempt. expires_s: seconds since 1970 from which the embedding must
    not be used. graph: its phrases, for the search; None where there are none.
    """

    dialogue: DialogueId
    turn: str
    version: int
    order: Order
    expires_s: float
    stored_until: int
    tick: int
    generation: str = ""
    timeline: list[tuple[State, float]] = field(default_factory=list)
    reason: str = ""
    failure: str = ""
    embedding: ContextEmbedding | None = field(default=None, repr=False)
    graph: PhraseGraph | None = field(default=None, repr=False)

    @property
    def state(self) -> State:
        """The last state entered."""
        return self.timeline[-1][0]

    def enter(self, state: State, now_s: float, reason: str = "") -> None:
        """Go on to a state."""
        self.timeline.append((state, now_s))
        self.reason = reason

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
        """Lets go of the embedding when its time has come; returns whether it is expired."""
        if self.state is State.READY and now_s >= self.expires_s:
            self.embedding = self.graph = None
            self.enter(State.EXPIRED, now_s)
        return self.state is State.EXPIRED


class EmbeddingCache:
    """The last contexts of the last dialogues. Not safe for threads: it belongs to one event loop.

    max_dialogues: when full, the dialogue that was used longest ago is forgotten. max_graph_bytes: of all graphs.
    """

    def __init__(self, max_dialogues: int, max_graph_bytes: int) -> None:
        self._max = max_dialogues
        self._max_graph_bytes = max_graph_bytes
        self._dialogues: OrderedDict[DialogueId, dict[str, TurnContext]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._dialogues)

    def get(self, dialogue: DialogueId, turn: str) -> TurnContext | None:
        """A turn's context, or None."""
        return self._dialogues.get(dialogue, {}).get(turn)

    def latest(self, dialogue: DialogueId, besides: str = "") -> TurnContext | None:
        """The context that applies to turn `besides`: the last one that is not its own; or None."""
        turns = self._dialogues.get(dialogue)
        if turns is None:
            return None
        self._dialogues.move_to_end(dialogue)
        return max((c for c in turns.values() if c.turn != besides), key=lambda c: c.order, default=None)

    def put(self, context: TurnContext) -> None:
        """Keep a context in place of an earlier one of its turn; forgets what is over the bounds."""
        turns = self._dialogues.setdefault(context.dialogue, {})
        turns[context.turn] = context
        if len(turns) > TURNS_PER_DIALOGUE:
            del turns[min(turns.values(), key=lambda c: c.order).turn]
        self._dialogues.move_to_end(context.dialogue)
        while len(self._dialogues) > self._max:
            self._dialogues.popitem(last=False)

    def of(self, dialogue: DialogueId) -> list[TurnContext]:
        """The contexts of a dialogue."""
        return list(self._dialogues.get(dialogue, {}).values())

    def forget(self, dialogue: DialogueId) -> None:
        """Forget a dialogue."""
        self._dialogues.pop(dialogue, None)

    def forget_turns(self, dialogue: DialogueId, besides: Container[str], before: int) -> None:
        """Forget a dialogue's contexts with a tick below `before`, but for those of some turns."""
        self._keep(dialogue, lambda context: context.turn in besides or context.tick >= before)

    def forget_other_lives(self, dialogue: DialogueId, generation: str) -> None:
        """Forget what was made of a dialogue before it was erased, here or elsewhere, and begun anew."""
        self._keep(dialogue, lambda context: context.generation in ("", generation))

    def _keep(self, dialogue: DialogueId, wanted: Callable[[TurnContext], bool]) -> None:
        turns = self._dialogues.get(dialogue, {})
        for turn in [turn for turn, context in turns.items() if not wanted(context)]:
            del turns[turn]
        if not turns:
            self._dialogues.pop(dialogue, None)

    def bound_graphs(self) -> None:
        """Lets go of graphs past the bound, those of the dialogues used longest ago; their embeddings stay."""
        room = self._max_graph_bytes
        for turns in reversed(self._dialogues.values()):
            for context in reversed(turns.values()):
                room -= context.graph.bytes if context.graph else 0
                context.graph = context.graph if room >= 0 else None

    def __iter__(self) -> Iterator[TurnContext]:
        return (context for turns in self._dialogues.values() for context in turns.values())
