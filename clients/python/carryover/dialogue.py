"""The turns of a dialogue, kept for whoever runs it: a voice agent says what it hears and what it is about to say."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from carryover import aio
from carryover.errors import CarryoverError, ChangeRequestError
from carryover.messages import Entry

_log = logging.getLogger("carryover")


class Dialogue:
    """Records what is said in a dialogue in its turns, in the background and in the order of the calls.

    A turn is what the user says and what the assistant replies to it; every reply expects speech. Streams name the
    dialogue and no turn, so that each utterance is recognised with the latest context. What cannot be recorded is left
    out with a warning in the log, which holds no text: recognition goes on without it.

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
        self._replied = False
        self._heard: list[str] = []
        self._unspoken: list[tuple[str, str]] = []
        self._entities: dict[str, tuple[str | Entry, ...]] = {}
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._recording: asyncio.Task[None] | None = None

    @property
    def turn(self) -> str:
        """The turn that is under way: it begins when the user speaks after a reply."""
        return f"{self._prefix}-{self._number}"

    def heard(self, text: str) -> None:
        """Take what the user said; it is recorded with the reply."""
        if not text.strip():
            return
        if self._replied:
            self._number += 1
            self._replied = False
        self._heard.append(text.strip())

    def reply(self, text: str) -> None:
        """Record what the assistant is about to say, as soon as that is known: its context is made while it speaks."""
        if not text.strip():
            return
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

        The entries are recorded with each turn; where the turn under way has its reply already, at once. What earlier
        turns had stays possible as long as the server reads these turns (`context.turns`), behind what is new.

        Args:
            signal: a name that the model reads: contacts, devices, places, ..., or one of your own.
            entries: by importance; none: the service knows nothing any more.

        Raises:
            ChangeRequestError: the entries are one string.
        """
        if isinstance(entries, str):
            raise ChangeRequestError(f"entities: give a list of entries of {signal}, not one string")
        known = tuple(entries)
        if self._entities.get(signal, ()) == known:
            return
        if not known:
            del self._entities[signal]
            return
        self._entities[signal] = known
        if self._replied:
            self._record(self.turn, entities={signal: known}, expect_speech=True)

    async def recorded(self) -> None:
        """Wait until everything until now is recorded, or left out."""
        if self._recording is not None:
            await asyncio.wait([self._recording])

    async def close(self) -> None:
        """Leave out what is not recorded yet."""
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.wait([self._recording])

    def _record_reply(self, text: str) -> None:
        user = " ".join(self._heard) or None
        self._heard.clear()
        self._replied = True
        self._record(
            self.turn, user=user, reply=text, entities=dict(self._entities) or None, speak=True, expect_speech=True
        )

    def _record(self, turn: str, **events: Any) -> None:
        self._waiting.append((turn, {**events, "time": time.time()}))  # replicas' clocks may differ
        if self._recording is None or self._recording.done():
            self._recording = asyncio.get_running_loop().create_task(self._record_waiting())

    async def _record_waiting(self) -> None:
        while self._waiting:
            turn, events = self._waiting.popleft()
            try:
                await self._client.record(self.id, turn, **events)
            except CarryoverError as error:
                _log.warning("a turn is not recorded, its context will be missing: %s", error)


def entries_of(result: object, *, text: str = "name", id: str = "id", aliases: str = "aliases") -> list[Entry]:  # noqa: A002
    """The entries that a tool's result lists, for `Dialogue.set_entities`.

    Args:
        result: a list of names or of objects with these keys; an object that is one, or that has one list; or the JSON
            text of any of them.
        text: the key of an object's name. Objects without it are left out.
        id: of its id.
        aliases: of its other names.

    Raises:
        ChangeRequestError: the result is none of these.
    """
    if isinstance(result, str | bytes):
        try:
            result = json.loads(result)
        except (ValueError, RecursionError):
            result = None
    if isinstance(result, Mapping):
        lists = [value for value in result.values() if isinstance(value, list | tuple)]
        result = [result] if text in result else lists[0] if len(lists) == 1 else None
    if not isinstance(result, list | tuple):
        raise ChangeRequestError(
            f"entities: give a list of names or of objects with {text!r}, an object with one such list, or its JSON"
        )
    found = []
    for one in result:
        if isinstance(one, str):
            found.append(Entry(one))
        elif isinstance(one, Mapping) and one.get(text):
            others = one.get(aliases) or ()
            named = [str(other) for other in (others if isinstance(others, list | tuple) else [others])]
            found.append(Entry(str(one[text]), id=str(one.get(id) or ""), aliases=tuple(named)))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
