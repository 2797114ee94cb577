"""What may, must and must not happen to the contexts of dialogues: pure, without a clock and without input or output.

Everything is told in two times. `Model.tick` gives moments: whole numbers that grow with every call that begins or
ends. `Model.now_s` is the test's own time in seconds, by which things expire; replicas' clocks are up to `SKEW_S` off.

A call that has not been acknowledged may have been done or not, at any moment between its begin and its end; when it
ended is known only once nothing is under way any more (`Model.settle`). So everything that the store does has an
interval of moments, and one thing is before another only where their intervals do not overlap. The order of turns is
that in which the store first took a text or an expect-speech event of theirs. No client's and no replica's clock plays
a part in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

CONTEXT_TTL_S = 900.0
"""Seconds from expect-speech until a context is no longer used."""
STORE_TTL_S = 1800
"""Seconds that the store keeps a turn."""
SKEW_S = 5.0
"""A replica's clock is so far off at most, either way."""
TURNS_READ = 8
"""Turns that a context is made of, at most."""

_SLACK_S = 2 * SKEW_S + 2.0
"""Two replicas' clocks, and the store's whole seconds."""
_NEVER = math.inf

APPLIED, NOT_FOUND, NOT_READY, EXPIRED, FAILED = "APPLIED", "NOT_FOUND", "NOT_READY", "EXPIRED", "FAILED"


class FaultError(AssertionError):
    """Something that must not happen, or something missing that must."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


class Key(NamedTuple):
    """A dialogue of a tenant."""

    tenant: str
    dialogue: str


@dataclass(eq=False)
class Recorded:
    """An event of a turn, from the first attempt to record it on.

    kind: "utterance", "reply", "entities", "speak" or "expect_speech". words: unique to this event.
    """

    turn: Turn = field(repr=False)
    event_id: str
    kind: str
    words: tuple[str, ...]
    began: float = _NEVER
    ended: float = _NEVER
    sure: bool = False
    """It was acknowledged."""
    began_s: float = _NEVER
    ended_s: float = _NEVER

    @property
    def counts(self) -> bool:
        """Has it a text, or does it expect speech? Then it gives its turn a place."""
        return self.kind != "speak"


@dataclass(eq=False)
class Turn:
    """One incarnation of a turn's id: a new one begins after the dialogue's erasure, and after the turn's expiry."""

    id: str
    life: Life = field(repr=False)
    events: list[Recorded] = field(default_factory=list)

    @property
    def began(self) -> float:
        """Before this moment it has no place in the dialogue."""
        return min((event.began for event in self.events if event.counts), default=_NEVER)

    @property
    def placed(self) -> float:
        """At this moment it has its place, if it has one at all."""
        return min((event.ended for event in self.events if event.counts and event.sure), default=_NEVER)

    def before(self, other: Turn) -> bool:
        """Is its place before another turn's, for sure?"""
        return self.placed < other.began

    def expects(self, by: float) -> bool:
        """Does it expect speech at a moment, for sure?"""
        return any(event.kind == "expect_speech" and event.sure and event.ended < by for event in self.events)

    def may_expect(self, by: float) -> bool:
        """May it expect speech at a moment?"""
        return any(event.kind == "expect_speech" and event.began < by for event in self.events)

    def surely_stored(self, now_s: float) -> bool:
        """Does the store still keep it, for sure?"""
        first_s = min((event.began_s for event in self.events), default=-_NEVER)
        return now_s < first_s + STORE_TTL_S - _SLACK_S and any(event.sure for event in self.events)

    def surely_expired(self, now_s: float) -> bool:
        """Is it past its time in the store, for sure?"""
        sure = [event.ended_s for event in self.events if event.sure]
        first_s = min(sure) if sure else max((event.ended_s for event in self.events), default=_NEVER)
        return now_s > first_s + STORE_TTL_S + _SLACK_S

    def usable(self, now_s: float) -> bool:
        """May its context be used, if it is made from now on and everywhere?"""
        first_s = min((event.began_s for event in self.events), default=-_NEVER)
        return now_s < first_s + CONTEXT_TTL_S - _SLACK_S

    def outlived(self, now_s: float) -> bool:
        """Is its context past its time, wherever it was made?"""
        expecting = [event.ended_s for event in self.events if event.kind == "expect_speech"]
        return now_s > max(expecting, default=_NEVER) + CONTEXT_TTL_S + _SLACK_S


@dataclass(eq=False)
class Life:
    """A dialogue from its first event, or its last erasure, to its next erasure.

    certain: False: an erasure or an event of an earlier life may still take effect in it.
    """

    key: Key
    turns: list[Turn] = field(default_factory=list)
    erase_began: float = _NEVER
    erased: float = _NEVER
    erased_at: dict[int, float] = field(default_factory=dict)
    """When a replica acknowledged its erasure."""
    certain: bool = True


@dataclass(frozen=True)
class Asked:
    """What is asked for a context: an utterance of a stream, a list to rescore, a status, an embedding.

    Args:
        own: the turn's own id, whose context does not apply; "": none.
        moment: what was acknowledged before it counts.
        replica: which is asked.
        heard: what this replica acknowledged before this moment counts too (part of an utterance may be spoken later).
        trusting: the store did not answer, and this replica goes on with what it knew a while ago.
    """

    key: Key
    own: str
    moment: float
    replica: int
    heard: float = -_NEVER
    trusting: bool = False


@dataclass
class Model:
    """All dialogues of one example."""

    lives: dict[Key, list[Life]] = field(default_factory=dict)
    events: dict[str, Recorded] = field(default_factory=dict)
    """By word."""
    now_s: float = 0.0
    touched: dict[Key, float] = field(default_factory=dict)
    """The last moment at which something of the dialogue was begun."""
    _moments: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def tick(self) -> float:
        """The next moment."""
        return float(next(self._moments))

    def life(self, key: Key) -> Life:
        """The dialogue's life now."""
        return self.lives.setdefault(key, [Life(key)])[-1]

    # What is done

    def turn(self, key: Key, newest: int, fresh: Callable[[], str]) -> Turn | None:
        """The turn that is to be recorded: the n-th newest one.

        Args:
            newest: 0: the newest; -1: a new one; -2: a new one under an id that was used before.
            fresh: an id that was never used.

        Returns None where it may or may not have expired: then nothing is known of what a further event would do.
        """
        life = self.life(key)
        known = [turn for turn in life.turns if not turn.surely_expired(self.now_s)]
        if 0 <= newest < len(known):
            found = sorted(known, key=lambda turn: turn.began)[-1 - newest]
            return found if found.surely_stored(self.now_s) else None
        used = {turn.id for turn in known}
        again = [t.id for each in self.lives[key] for t in each.turns if t.id not in used] if newest == -2 else []
        made = Turn(again[-1] if again else fresh(), life)
        life.turns.append(made)
        return made

    def add(self, turn: Turn, kinds: Sequence[str], words: Callable[[], str]) -> list[Recorded]:
        """New events of a turn."""
        added = []
        for kind in kinds:
            count = {"utterance": 1, "reply": 1, "entities": 2}.get(kind, 0)
            event = Recorded(turn, f"e{len(turn.events)}", kind, tuple(words() for _ in range(count)))
            turn.events.append(event)
            added.append(event)
            self.events |= dict.fromkeys(event.words, event)
        return added

    def begin(self, events: Iterable[Recorded]) -> None:
        """A call that records these events begins."""
        for event in events:
            event.began, event.began_s = min(event.began, self.tick()), min(event.began_s, self.now_s)
            self.touched[event.turn.life.key] = event.began

    def acknowledge(self, events: Iterable[Recorded]) -> None:
        """The call has succeeded."""
        moment = self.tick()
        for event in events:
            if not event.sure:
                event.ended, event.ended_s, event.sure = moment, self.now_s, True
            self.touched[event.turn.life.key] = moment

    def settle(self) -> None:
        """Nothing is under way any more: what was not acknowledged was done by now, or never will be."""
        moment = self.tick()
        for lives in self.lives.values():
            for event in (event for life in lives for turn in life.turns for event in turn.events):
                if event.ended == _NEVER:
                    event.ended, event.ended_s = moment, self.now_s

    def unsure(self, key: Key) -> list[Turn]:
        """Turns of the dialogue with events that were not acknowledged."""
        return [turn for turn in self.life(key).turns if any(not event.sure for event in turn.events)]

    def begin_erasure(self, key: Key) -> None:
        """The dialogue's erasure begins; until it is acknowledged nothing is certain."""
        life, moment = self.life(key), self.tick()
        life.erase_began = min(life.erase_began, moment)
        life.certain = False
        self.touched[key] = moment

    def erased(self, key: Key, replica: int) -> None:
        """A replica has acknowledged the erasure."""
        life, moment = self.life(key), self.tick()
        life.erased, life.erased_at[replica] = moment, moment
        open_calls = any(event.ended == _NEVER for turn in life.turns for event in turn.events)
        self.lives[key].append(Life(key, certain=not open_calls))
        self.touched[key] = moment

    # What may come of it

    def gone(self, life: Life, asked: Asked) -> bool:
        """Was a life over when it was asked?"""
        elsewhere = life.erased < asked.moment and not asked.trusting
        return elsewhere or life.erased_at.get(asked.replica, _NEVER) < max(asked.moment, asked.heard)

    def may(self, asked: Asked) -> list[Turn]:
        """The turns whose context may apply."""
        by = self.tick()
        return [
            turn
            for life in self.lives.get(asked.key, [])
            if not self.gone(life, asked)
            for turn in life.turns
            if turn.id != asked.own and turn.may_expect(by) and not self._stale(turn, asked)
        ]

    def _stale(self, turn: Turn, asked: Asked) -> bool:
        if asked.trusting:
            return False
        others = (other for other in turn.life.turns if other.id != asked.own and other is not turn)
        return turn.life.certain and any(
            other.expects(asked.moment) and other.surely_stored(self.now_s) and turn.before(other) for other in others
        )

    def newest(self, asked: Asked) -> Turn | None:
        """The turn whose context applies, where that is certain and all of it was recorded before it was asked."""
        life = self.life(asked.key)
        if not life.certain or self.gone(life, asked):
            return None
        others = [turn for turn in life.turns if turn.id != asked.own]
        expecting = [turn for turn in others if turn.may_expect(_NEVER) and not turn.surely_expired(self.now_s)]
        for turn in expecting:
            if all(other.before(turn) for other in expecting if other is not turn):
                complete = all(event.sure and event.ended < asked.moment for event in turn.events)
                return turn if complete and turn.surely_stored(self.now_s) and self._in_reach(turn) else None
        return None

    def _in_reach(self, turn: Turn) -> bool:
        after = [other for other in turn.life.turns if other is not turn and not other.before(turn)]
        return sum(not other.surely_expired(self.now_s) for other in after) < TURNS_READ

    def must(self, asked: Asked) -> Turn | None:
        """The turn whose context has to apply, if all is well and there was time to make it."""
        newest = self.newest(asked)
        return newest if newest is not None and newest.usable(self.now_s) else None

    def required(self, turn: Turn) -> set[str]:
        """The words that a turn's context has to hold, made when all is well."""
        made = max(event.began for event in turn.events)
        earlier = [
            other
            for other in turn.life.turns
            if other.before(turn) and other.surely_stored(self.now_s) and self._in_reach(other)
        ]
        known = [event for other in earlier for event in other.events if event.sure and event.ended < made]
        return {word for event in (*known, *turn.events) for word in event.words}

    # What did come of it

    def check_words(self, words: Iterable[str], asked: Asked, made_for: str | None = None) -> None:
        """Words of a context that was applied, or told.

        Args:
            made_for: the id of the turn whose context it is said to be; None: it is not said.

        Raises:
            FaultError: they are not those of a context that may apply.
        """
        words = list(words)
        for word in words:
            self._check_word(word, asked)
        if made_for and made_for == asked.own:
            raise FaultError("own", f"the context is that of the turn {made_for} itself")
        if not self.life(asked.key).certain:
            return
        candidates = self.may(asked)
        if made_for is not None:
            named = [turn for turn in candidates if turn.id == made_for]
            if not named:
                raise FaultError("stale", f"the context is that of {made_for}; it may be {_names(candidates)}")
            candidates = [turn for turn in named if not turn.outlived(self.now_s)]
            if not candidates:
                raise FaultError("expired", f"the context of {made_for} is past its time")
        reasons = [self._misfit(turn, words) for turn in candidates]
        if not candidates or all(reasons):
            raise FaultError("order", f"no context that may apply has these words: {'; '.join(filter(None, reasons))}")

    def _check_word(self, word: str, asked: Asked) -> None:
        event = self.events.get(word)
        if event is None:
            raise FaultError("foreign", f"nobody recorded {word!r}")
        life = event.turn.life
        if life.key != asked.key:
            raise FaultError("foreign", f"{word!r} is of {life.key}, not of {asked.key}")
        if self.gone(life, asked) and event.ended < life.erase_began:
            raise FaultError("erased", f"{word!r} of the turn {event.turn.id} was erased")

    def _misfit(self, turn: Turn, words: Iterable[str]) -> str:
        """Why a context of a turn cannot have these words, or ""."""
        for word in words:
            event = self.events[word]
            if event.turn is not turn and turn.before(event.turn) and event.turn.life is turn.life:
                return f"{word!r} is of {event.turn.id}, which is newer than {turn.id}"
            began_s = min((e.began_s for e in turn.events if e.kind == "expect_speech"), default=_NEVER)
            if event.turn.surely_expired(began_s):
                return f"{word!r} of {event.turn.id} had expired when {turn.id} expected speech"
        return ""

    def check_status(self, status: str, asked: Asked, *, well: bool) -> None:
        """What is said of an utterance's context, where none has to apply.

        Args:
            well: all has been well since it was asked, and there was time to make the context.

        Raises:
            FaultError: it cannot be so.
        """
        life, candidates = self.life(asked.key), self.may(asked)
        there = None if asked.trusting else self.newest(asked)
        if there is not None and status == NOT_FOUND:
            raise FaultError("missing", f"{there.id} expects speech, and it is said that nothing does")
        if there is not None and there.usable(self.now_s) and status == EXPIRED:
            raise FaultError("missing", f"the context of {there.id} is said to be too old")
        if not (well and life.certain):
            return
        if not candidates and status not in (NOT_FOUND, EXPIRED):
            raise FaultError("status", f"nothing expects speech, and the status is {status}")
        if there is not None and there.outlived(self.now_s) and status not in (EXPIRED, NOT_FOUND):
            raise FaultError("status", f"the context of {there.id} is past its time, and the status is {status}")

    def check_held(self, words: Collection[str], key: Key, replica: int, swept: float) -> None:
        """Words of a context that a replica holds in memory.

        Args:
            swept: the moment of its last sweep.

        Raises:
            FaultError: they were erased before.
        """
        for word in words:
            event = self.events.get(word)
            if event is None or event.turn.life.key != key:
                raise FaultError("foreign", f"{word!r} is held under {key}")
            life = event.turn.life
            at_once = life.erased_at.get(replica, _NEVER) < _NEVER
            if event.ended < life.erase_began and (at_once or life.erased < swept):
                raise FaultError("memory", f"{word!r} of {key} was erased, and replica {replica} holds it")


def _names(turns: Iterable[Turn]) -> str:
    return " or ".join(turn.id for turn in turns) or "none"
