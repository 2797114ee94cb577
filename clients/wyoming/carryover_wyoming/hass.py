"""A Home Assistant that is followed: the names of its house, and its conversations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection
from contextlib import suppress
from typing import Any, Protocol

from carryover_wyoming.hass_socket import HassError, HassSocket, HassTokenError, connected
from carryover_wyoming.house import CHANGES, read_house
from carryover_wyoming.names import Names

_log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long speech waits for names that are being read."""

_SETTLE_S = 0.2
_AGAIN_S = 300.0
"""Names are read again after this in any case: no event tells of entities without a registry entry (YAML)."""
_FIRST_PAUSE_S, _LAST_PAUSE_S, _TOKEN_PAUSE_S = 1.0, 60.0, 300.0
_FOUND_S, _MOST_SEARCHES = 0.1, 1200
"""A chat log that was created can be subscribed to only once its first reply is there."""


class ChatListener(Protocol):
    """What is told of conversations."""

    def changed(self, conversation: str, log: dict[str, Any]) -> None:
        """A conversation is now as a chat log says."""

    def ended(self, conversation: str) -> None:
        """A conversation is over."""

    def only(self, conversations: Collection[str]) -> None:
        """There are these, and no others any more."""


class HomeAssistant:
    """Follows a Home Assistant while `run` runs; connects again when it has to.

    Args:
        url: of its WebSocket API.
        token: a long-lived access token of an administrator.
        most_characters: longer names are left out.

    Attributes:
        names: as last read; none before.
    """

    def __init__(self, url: str, token: str, *, most_characters: int = 100) -> None:
        self._url = url
        self._token = token
        self._most_characters = most_characters
        self.names = Names()
        self._changed = asyncio.Event()
        self._current = asyncio.Event()
        self._current.set()

    async def check(self) -> None:
        """Connect once. Raises HassError, HassTokenError."""
        async with connected(self._url, self._token):
            pass

    async def current_names(self) -> Names:
        """The names; those before where they are being read for longer than a second, or cannot be."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._current.wait()
        return self.names

    async def run(self, conversations: ChatListener) -> None:
        """Follow it for ever."""
        pause_s, told = _FIRST_PAUSE_S, ""
        while True:
            problem: Exception | None = None
            try:
                async with connected(self._url, self._token) as socket, asyncio.TaskGroup() as group:
                    _log.info("connected with Home Assistant")
                    pause_s, told = _FIRST_PAUSE_S, ""
                    group.create_task(socket.follow())
                    group.create_task(self._follow_names(socket))
                    group.create_task(_Chats(socket, conversations, group).follow())
            except* Exception as errors:
                problem = errors.exceptions[0]
            self._current.set()
            problem_told = str(problem) if isinstance(problem, HassError) else type(problem).__name__
            if problem_told != told:  # once, not at every attempt
                told = problem_told
                _log.warning("Home Assistant: %s; going on with the %d names of before", told, len(self.names))
            await asyncio.sleep(_TOKEN_PAUSE_S if isinstance(problem, HassTokenError) else pause_s)
            pause_s = min(_LAST_PAUSE_S, 2 * pause_s)

    async def _follow_names(self, socket: HassSocket) -> None:
        def stale(event: dict[str, Any]) -> None:
            self._changed.set()
            self._current.clear()

        stale({})
        for kind in CHANGES:
            await _allowed(socket.subscribe(stale, "subscribe_events", event_type=kind), f"events {kind}")
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await self._changed.wait()
                    await asyncio.sleep(_SETTLE_S)  # a device brings many entities
            self._changed.clear()
            try:
                names = Names(await read_house(socket.command), self._most_characters)
                if names != self.names:
                    _log.info("%d names of %d things", len(names), len(names.things))
                self.names = names
            except HassError as error:
                if not error.code:
                    raise
                _log.warning("the names of the house cannot be read: %s; %s", error, _advice(error))
            except (KeyError, TypeError, AttributeError) as error:
                _log.warning("the names of the house cannot be read: %s in an answer", type(error).__name__)
            if not self._changed.is_set():
                self._current.set()


class _Chats:
    """The chat logs of one connection."""

    def __init__(self, socket: HassSocket, listener: ChatListener, group: asyncio.TaskGroup) -> None:
        self._socket = socket
        self._listener = listener
        self._group = group
        self._followed: set[str] = set()

    async def follow(self) -> None:
        """Follow all, those that are there and those to come."""
        if await _allowed(
            self._socket.subscribe(self._index, "conversation/chat_log/subscribe_index"), "conversations"
        ):
            # Home Assistant sends those that are there with the subscription, or nothing; this is answered later.
            await self._socket.command("config/floor_registry/list")
            self._listener.only(self._followed)

    def _index(self, event: dict[str, Any]) -> None:
        logs = event.get("data")
        if event.get("event_type") == "initial_state":
            for log in logs if isinstance(logs, list) else ():
                self._add(log.get("conversation_id") if isinstance(log, dict) else None)
        elif event.get("event_type") == "created":
            self._add(event.get("conversation_id"))
        elif event.get("event_type") == "deleted":
            self._end(event.get("conversation_id"))

    def _add(self, conversation: Any) -> None:
        if isinstance(conversation, str) and conversation not in self._followed:
            self._followed.add(conversation)
            self._group.create_task(self._subscribe(conversation))

    def _end(self, conversation: Any) -> None:
        if conversation in self._followed:
            self._followed.discard(conversation)
            self._listener.ended(conversation)

    async def _subscribe(self, conversation: str) -> None:
        def listen(event: dict[str, Any]) -> None:
            data = event.get("data")
            if event.get("event_type") == "updated":
                data = data.get("chat_log") if isinstance(data, dict) else None
            elif event.get("event_type") != "initial_state":
                return
            if isinstance(data, dict) and conversation in self._followed:
                self._listener.changed(conversation, data)

        for _ in range(_MOST_SEARCHES):
            if conversation not in self._followed:
                return
            try:
                await self._socket.subscribe(listen, "conversation/chat_log/subscribe", conversation_id=conversation)
                return
            except HassError as error:
                if error.code != "not_found":
                    raise
            await asyncio.sleep(_FOUND_S)


async def _allowed(subscription: Awaitable[None], what: str) -> bool:
    """Await a subscription. False: Home Assistant refuses it."""
    try:
        await subscription
    except HassError as error:
        if not error.code:
            raise
        _log.warning("Home Assistant refuses %s (%s); %s", what, error.code, _advice(error))
        return False
    return True


def _advice(error: HassError) -> str:
    if error.code == "unknown_command":
        return "it is older than 2026.2, with which the bridge was tried"
    return "give the token of an administrator"
