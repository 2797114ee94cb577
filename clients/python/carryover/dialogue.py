"""The turns of a dialogue, kept for whoever runs it: a voice agent says what it hears and what it is about to say."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from carryover import aio
from carryover.entries import entries_of
from carryover.errors import CarryoverError, ChangeRequestError
from carryover.messages import Entry

__all__ = ["Dialogue", "entries_of"]

_log = logging.getLogger("carryover")
_MOST_ALIASES = 16
_MOST_UPDATES = 64
"""Of entities in a turn, which holds 256 events; after these another one begins."""
_UPDATE = {"entities", "expect_speech", "time"}


class Dialogue:
    """Records what is said in a dialogue in its turns, in the background and in the order of the calls.

    A turn is what the user says and what the assistant replies to it; every reply expects speech. Streams name the
    dialogue and no turn, so that each utterance is recognised with the latest context. What cannot be recorded is left
    out with a warning in the log, which holds no text: recognition goes on without it. Of what is longer than the
    server takes, the end of a text is recorded, and the first entries of a signal.

    To be used in the event loop of its client.

    Args:
        client: that records.
        id: of the dialogue; empty: a new one.
    """

    def __init__(self, client: aio.Client, id: str = "") -> None:  # noqa: A002
        self.id = id or uuid.uuid4().hex
        self._client = client
        self._prefix = uuid.uuid4().hex[:8]  # whoever goes on with a dialogue begins turns of its own
        self._number = 1
        self._replied = self._closed = False
        self._expects = False  # speech, so that what comes to be known is recorded at once
        self._heard: list[str] = []
        self._updates = 0  # of entities while speech is expected
        self._unspoken: list[tuple[str, str]] = []
        self._entities: dict[str, tuple[str | Entry, ...]] = {}
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._recording: asyncio.Task[None] | None = None
        self._limits: Mapping[str, float] | None = None  # the server's, since it first refused something

    @property
    def turn(self) -> str:
        """The turn that is under way: it begins when the user speaks after a reply."""
        return f"{self._prefix}-{self._number}"

    def begin(self) -> None:
        """Say that the user may speak before the assistant has: what services know is recorded at once."""
        if self._expects or self._heard or self._number > 1:
            return
        self._expects = True
        if self._entities:
            self._record_entities(self._entities)

    def heard(self, text: str) -> None:
        """Take what the user said; it is recorded with the reply."""
        if not text.strip():
            return
        if self._replied:
            self._number += 1
        self._replied = self._expects = False
        self._heard.append(text.strip())

    def reply(self, text: str) -> None:
        """Record what the assistant is about to say, as soon as that is known: its context is made while it speaks."""
        if not text.strip():
            return
        self._unspoken = [one for one in self._unspoken if one[0] == self.turn]  # nobody may say that it was spoken
        self._unspoken.append((self.turn, text.strip()))
        self._record_reply(text.strip())

    def spoken(self, text: str, *, interrupted: bool = False) -> None:
        """Say what was really spoken, when the assistant has ended.

        What `reply` did not have is recorded now. After an interruption what was spoken until then follows on the whole
        reply, and the context is made anew.

        Args:
            text: that was spoken.
            interrupted: by the user.
        """
        unspoken, self._unspoken = self._unspoken, []
        text = text.strip()
        if not text:
            return
        if not unspoken:
            self._record_reply(text)
        elif interrupted and _words(text) != _words(" ".join(reply for _, reply in unspoken)):
            self._record(unspoken[-1][0], reply=text, expect_speech=True)

    def set_entities(self, signal: str, entries: Sequence[str | Entry]) -> None:
        """Say what a service knows, from now on and until it is set again.

        The entries are recorded with each turn; at once, where the turn under way has its reply already, or nobody has
        spoken yet (`begin`). What earlier turns had stays possible as long as the server reads these turns
        (`context.turns`), behind what is new.

        Args:
            signal: a name that the model reads: contacts, devices, places, ..., or one of your own.
            entries: by importance; none: the service knows nothing any more.

        Raises:
            ChangeRequestError: the signal is no string, or the entries are one, or hold something else than names and
                entries.
        """
        if not isinstance(signal, str):
            raise ChangeRequestError(f"entities: name the signal (contacts, devices, ...), not {type(signal).__name__}")
        if isinstance(entries, str):
            raise ChangeRequestError(f"entities: give a list of entries of {signal}, not one string")
        known = tuple(entries)
        for entry in known:
            _check_entry(signal, entry)
        if self._entities.get(signal, ()) == known:
            return
        if not known:
            del self._entities[signal]
            return
        self._entities[signal] = known
        if self._expects:
            self._updates += 1
            if self._updates % _MOST_UPDATES == 0:
                self._number += 1
            self._record_entities({signal: known})

    async def recorded(self) -> None:
        """Wait until everything until now is recorded, or left out."""
        if self._recording is not None:
            await asyncio.wait([self._recording])

    async def close(self) -> None:
        """Leave out what is not recorded yet, and what follows."""
        self._closed = True
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.wait([self._recording])

    def _record_reply(self, text: str) -> None:
        user = " ".join(self._heard) or None
        self._heard.clear()
        self._replied = self._expects = True
        self._record(
            self.turn, user=user, reply=text, entities=dict(self._entities) or None, speak=True, expect_speech=True
        )

    def _record_entities(self, known: Mapping[str, tuple[str | Entry, ...]]) -> None:
        """Record entities at once, in place of those of this turn that wait to be recorded."""
        waiting: Mapping[str, Any] = {}
        if self._waiting and self._waiting[-1][0] == self.turn and self._waiting[-1][1].keys() == _UPDATE:
            waiting = self._waiting.pop()[1]["entities"]
        self._record(self.turn, entities={**waiting, **known}, expect_speech=True)

    def _record(self, turn: str, **events: Any) -> None:
        if self._closed:
            return
        self._waiting.append((turn, {**events, "time": time.time()}))  # replicas' clocks may differ
        if self._recording is None or self._recording.done():
            self._recording = asyncio.get_running_loop().create_task(self._record_waiting())

    async def _record_waiting(self) -> None:
        while self._waiting:
            turn, events = self._waiting.popleft()
            try:
                await self._record_within_limits(turn, events)
            except CarryoverError as error:
                _log.warning("a turn is not recorded, its context will be missing: %s", error)

    async def _record_within_limits(self, turn: str, events: dict[str, Any]) -> None:
        if self._limits is not None:
            events = _within(self._limits, events)
        try:
            await self._client.record(self.id, turn, **events)
        except ChangeRequestError as error:
            if self._limits is None:
                _log.warning("a turn is recorded as far as the server takes it: %s", error)
                self._limits = (await self._client.server_info()).limits
                await self._record_within_limits(turn, events)
            elif events.pop("entities", None) and events.keys() - {"time"}:
                _log.warning("a turn is recorded without its entities: %s", error)
                await self._client.record(self.id, turn, **events)
            else:
                raise


def _check_entry(signal: str, entry: object) -> None:
    names: list[object]
    if isinstance(entry, Entry):
        names, wrong = [entry.text, entry.id, *entry.aliases], "texts for its text, id and aliases"
    else:
        names, wrong = [entry], "names or entries; carryover.dialogue.entries_of makes them of a tool's result"
    for name in names:
        if not isinstance(name, str):
            raise ChangeRequestError(f"entities: of {signal}, give {wrong}, not {type(name).__name__}")


def _within(limits: Mapping[str, float], events: Mapping[str, Any]) -> dict[str, Any]:
    """What a server takes of events: of a text its end, where the question is."""
    most = int(limits.get("text_characters", sys.maxsize))
    made = dict(events)
    for kind in ("user", "reply"):
        if made.get(kind):
            made[kind] = _end(_encodable(made[kind]), most)
    known = {signal: _fitting(limits, entries) for signal, entries in (made.get("entities") or {}).items()}
    made["entities"] = {signal: entries for signal, entries in known.items() if entries} or None
    return made


def _fitting(limits: Mapping[str, float], entries: Sequence[str | Entry]) -> list[Entry]:
    """The first entries of a signal, as many as a server takes; names that are too long for it are left out."""
    longest = int(limits.get("phrase_characters", sys.maxsize))
    room = int(limits.get("entries", sys.maxsize))
    made = []
    for entry in (Entry(one) if isinstance(one, str) else one for one in entries):
        text = _encodable(entry.text).strip()
        names = [_encodable(alias) for alias in entry.aliases]
        aliases = [alias for alias in names if alias.strip() and len(alias) <= longest][:_MOST_ALIASES]
        if not text or len(text) > longest:
            continue
        room -= 1 + len(aliases)
        if room < 0:
            break
        made.append(replace(entry, text=text, aliases=tuple(aliases)))
    return made


def _end(text: str, most: int) -> str:
    """The last words of a text."""
    end = text[-most:]
    return end if len(text) <= most else end.partition(" ")[2] or end


def _encodable(text: str) -> str:
    """A text with its halves of surrogate pairs put together, or left out."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
