"""Home Assistant's conversations, recorded as dialogues, so that an answer is recognised with its question."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from carryover import CarryoverError, aio
from carryover_wyoming.names import Names

_log = logging.getLogger(__name__)

AWAITED_S = 60.0
"""Seconds after a question within which speech may be its answer."""

_TIMEOUT_S = 5.0
_MOST_KNOWN = 256
_MOST_WAITING = 2 * _MOST_KNOWN
_FIRST_TURNS = 4
_MOST_CHARACTERS = 2000


class Exchange(NamedTuple):
    """One turn of a conversation."""

    user: str
    """What was said; empty: the assistant spoke first."""
    reply: str
    """What the assistant answered."""


class Place(NamedTuple):
    """Where in which dialogue something is said."""

    dialogue: str
    """Id of the dialogue."""
    turn: str
    """Id of the turn."""


@dataclass(slots=True)
class _Conversation:
    recorded: list[Exchange]
    answer: Place | None = None
    taken: Place | None = None
    since_s: float = 0.0


class Conversations:
    """Records conversations in the server, and knows which of them await an answer. Belongs to one event loop.

    Args:
        client: of the server.
        names: what may be named now; recorded with each question.
        clock: seconds.
    """

    def __init__(
        self, client: aio.Client, names: Callable[[], Names], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._names = names
        self._clock = clock
        self._known: dict[str, _Conversation] = {}
        self._jobs: asyncio.Queue[tuple[str, dict[str, Any] | None]] = asyncio.Queue(_MOST_WAITING)

    def changed(self, conversation: str, log: dict[str, Any]) -> None:
        """A conversation is now as a chat log says."""
        self._add(conversation, log)

    def ended(self, conversation: str) -> None:
        """A conversation is over: nothing awaits its answer any more, and it is erased."""
        known = self._known.get(conversation)
        if known is not None:
            known.answer = known.taken = None
            self._add(conversation, None)

    def only(self, conversations: Collection[str]) -> None:
        """All others are over, as those of before a new start of Home Assistant, of which it says nothing."""
        for conversation in self._known.keys() - set(conversations):
            self.ended(conversation)

    def take_awaited(self) -> Place | None:
        """Where speech that begins now belongs, if exactly one conversation awaits an answer: asked for once."""
        now_s = self._clock()
        waiting = [known for known in self._known.values() if known.answer and now_s - known.since_s < AWAITED_S]
        if len(waiting) != 1:
            return None
        known = waiting[0]
        known.taken, known.answer = known.answer, None
        return known.taken

    def give_back(self, place: Place) -> None:
        """Nothing was said there: its answer is awaited still, unless the conversation has gone on."""
        for known in self._known.values():
            if known.taken == place:
                known.answer, known.taken = place, None

    async def run(self) -> None:
        """Record what has changed, one conversation after the other, for ever."""
        while True:
            conversation, log = await self._jobs.get()
            try:
                if log is None:
                    self._known.pop(conversation, None)
                    await self._client.erase(_dialogue(conversation), timeout_s=_TIMEOUT_S)
                else:
                    await self._record(conversation, log)
            except CarryoverError as error:
                what = "erased" if log is None else "recorded"
                _log.warning("a conversation was not %s: %s (%s)", what, type(error).__name__, error.code)
            except (AttributeError, TypeError) as error:
                _log.warning("a conversation was not recorded: %s in its log", type(error).__name__)

    def _add(self, conversation: str, log: dict[str, Any] | None) -> None:
        try:
            self._jobs.put_nowait((conversation, log))
        except asyncio.QueueFull:
            _log.warning("a conversation was not recorded: %d changes wait already", _MOST_WAITING)

    async def _record(self, conversation: str, log: dict[str, Any]) -> None:
        exchanges, asks = exchanges_of(log), bool(log.get("continue_conversation"))
        known = self._known.setdefault(conversation, _Conversation([]))
        if len(self._known) > _MOST_KNOWN:  # of a Home Assistant that was started anew nobody says that they are over
            del self._known[next(iter(self._known))]
        dialogue, count = _dialogue(conversation), len(exchanges)
        new = [
            number for number in range(count) if exchanges[number : number + 1] != known.recorded[number : number + 1]
        ]
        if not new:
            return  # Home Assistant tells all of it again where the connection was lost
        known.answer = known.taken = None
        for number in new[-_FIRST_TURNS:]:
            user, reply = exchanges[number]
            expects = asks and number == count - 1
            if user or reply:
                await self._client.record(
                    dialogue,
                    str(number),
                    user=user or None,
                    reply=reply or None,
                    entities=self._names().entities() if expects else None,
                    speak=expects,
                    expect_speech=expects,
                    timeout_s=_TIMEOUT_S,
                )
        known.recorded = exchanges
        if asks:
            known.answer, known.since_s = Place(dialogue, str(count)), self._clock()


def exchanges_of(log: dict[str, Any]) -> list[Exchange]:
    """The turns of a chat log: what a user says, and all that the assistant says until the next.

    Of long texts only the end is taken, where the question is.
    """
    turns: list[tuple[str, list[str]]] = []
    for message in log.get("content") or ():
        role, text = message.get("role"), message.get("content")
        text = text.strip()[-_MOST_CHARACTERS:] if isinstance(text, str) else ""
        if role == "user":
            turns.append((text, []))
        elif role == "assistant" and text:
            if not turns:
                turns.append(("", []))
            turns[-1][1].append(text)
    return [Exchange(user, " ".join(replies)[-_MOST_CHARACTERS:]) for user, replies in turns]


def _dialogue(conversation: str) -> str:
    """A dialogue's id for a conversation's, which may be any text."""
    return f"hass-{hashlib.sha256(conversation.encode()).hexdigest()[:32]}"
