"""A stand-in for Home Assistant: its WebSocket API as far as the bridge uses it, in the shapes of core 2026.2.

A chat log is announced when it is created, can be subscribed to only when its first reply is there, and tells of
later replies by `updated`, as `homeassistant/components/conversation/chat_log.py` and `http.py` have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSMsgType, web

TOKEN = "a long-lived token"
ADMINISTRATORS = {
    "homeassistant/expose_entity/list", "conversation/chat_log/subscribe_index", "conversation/chat_log/subscribe",
}  # fmt: skip


class RefusedError(Exception):
    """A command's error, by its code."""


class HassStandIn:
    """Its state, to be changed by a test, and the connections to it.

    Attributes:
        asked: the types of all commands, in order.
        administrator: whether the token is one's.
        unknown: commands that its version does not have.
        slow: commands are answered only once it is set.
    """

    def __init__(self) -> None:
        self.exposed: dict[str, dict[str, bool]] = {}
        self.states: list[dict[str, Any]] = []
        self.entries: dict[str, dict[str, Any]] = {}
        self.devices: list[dict[str, Any]] = []
        self.areas: list[dict[str, Any]] = []
        self.floors: list[dict[str, Any]] = []
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.administrator = True
        self.unknown: set[str] = set()
        self.slow = asyncio.Event()
        self.slow.set()
        self.connections: list[web.WebSocketResponse] = []
        self._subscriptions: list[tuple[web.WebSocketResponse, int, dict[str, Any]]] = []
        self._running: set[str] = set()
        self._site: web.TCPSite | None = None
        self._runner: web.AppRunner | None = None

    def add(self, entity: str, name: str, *aliases: str | None, area: str | None = None, **entry: Any) -> None:
        """An entity that is exposed to Assist."""
        self.exposed[entity] = {"conversation": True}
        attributes = {"friendly_name": name}
        self.states.append({"entity_id": entity, "state": "on", "attributes": attributes})
        self.entries[entity] = {
            "entity_id": entity, "name": None, "original_name": name, "aliases": list(aliases), "area_id": area,
            "device_id": None, "disabled_by": None, "hidden_by": None, **entry,
        }  # fmt: skip

    def add_area(self, area: str, name: str, *aliases: str, floor: str | None = None) -> None:
        self.areas.append({"area_id": area, "name": name, "aliases": list(aliases), "floor_id": floor})

    def add_floor(self, floor: str, name: str, *aliases: str) -> None:
        self.floors.append({"floor_id": floor, "name": name, "aliases": list(aliases), "level": None})

    async def fire(self, event: str) -> None:
        """An event on Home Assistant's bus."""
        await self._tell(
            lambda asked: asked["type"] == "subscribe_events" and asked["event_type"] == event,
            {"event_type": event, "data": {"action": "update"}, "origin": "LOCAL"},
        )

    async def begin(self, conversation: str, user: str) -> None:
        """A user says something; the reply is being written."""
        if conversation not in self.logs:
            empty = self._log(conversation, [])
            await self._chat(conversation, "created", {"chat_log": empty})
        self._running.add(conversation)
        content = {"role": "user", "content": user, "created": "2026-02-03T10:00:00+00:00"}
        await self._chat(conversation, "content_added", {"content": content})

    async def reply(self, conversation: str, user: str, *replies: str) -> None:
        """The turn is over: what was said, and what is answered."""
        new = conversation not in self.logs
        said = [{"role": "user", "content": user}] if user else []
        messages: list[dict[str, Any]] = [
            {"role": "assistant", "agent_id": "conversation.x", "content": r} for r in replies
        ]
        if len(messages) > 1:  # a tool was called in between
            messages[1:1] = [{"role": "tool_result", "agent_id": "conversation.x", "tool_result": {"success": True}}]
        self.logs.setdefault(conversation, []).extend([*said, *messages])
        self._running.discard(conversation)
        if not new:
            await self._chat(conversation, "updated", {"chat_log": self._log(conversation, self.logs[conversation])})

    async def turn(self, conversation: str, user: str, *replies: str) -> None:
        """A whole turn."""
        await self.begin(conversation, user)
        await self.reply(conversation, user, *replies)

    async def end(self, conversation: str) -> None:
        """A conversation is forgotten."""
        del self.logs[conversation]
        await self._chat(conversation, "deleted", {})

    def _log(self, conversation: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        last = content[-1] if content else {}
        asks = last.get("role") == "assistant" and (last.get("content") or "").strip().endswith(("?", ";", "？"))
        system = {"role": "system", "content": "", "created": "2026-02-03T10:00:00+00:00"}
        return {
            "conversation_id": conversation, "continue_conversation": asks, "content": [system, *content],
            "created": "2026-02-03T10:00:00+00:00",
        }  # fmt: skip

    async def _chat(self, conversation: str, kind: str, data: dict[str, Any]) -> None:
        def wanted(asked: dict[str, Any]) -> bool:
            if asked["type"] == "conversation/chat_log/subscribe_index":
                return kind in ("created", "deleted")
            return asked.get("conversation_id") == conversation

        await self._tell(wanted, {"conversation_id": conversation, "event_type": kind, "data": data})

    async def _tell(self, wanted: Any, event: dict[str, Any]) -> None:
        for socket, number, asked in list(self._subscriptions):
            if wanted(asked) and not socket.closed:
                await socket.send_json({"id": number, "type": "event", "event": event})

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "auth_required", "ha_version": "2026.2.3"})
        signed = await socket.receive_json()
        if signed != {"type": "auth", "access_token": TOKEN}:
            await socket.send_json({"type": "auth_invalid", "message": "Invalid access token or password"})
            await socket.close()
            return socket
        await socket.send_json({"type": "auth_ok", "ha_version": "2026.2.3"})
        self.connections.append(socket)
        last = 0
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            command = message.json()
            number = command.pop("id")
            assert number > last, "ids increase"
            last = number
            self.asked.append(command["type"])
            await self.slow.wait()
            await self._answer(socket, number, command)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, number: int, command: dict[str, Any]) -> None:
        try:
            if command["type"] in ADMINISTRATORS and not self.administrator:
                raise RefusedError("unauthorized")
            if command["type"] in self.unknown:
                raise RefusedError("unknown_command")
            result, first = self._result(command)
        except RefusedError as error:
            refusal = {"code": str(error), "message": "for people"}
            await socket.send_json({"id": number, "type": "result", "success": False, "error": refusal})
            return
        if "subscribe" in command["type"]:
            self._subscriptions.append((socket, number, command))
        await socket.send_json({"id": number, "type": "result", "success": True, "result": result})
        if first is not None:
            await socket.send_json({"id": number, "type": "event", "event": first})

    def _result(self, command: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        match command:
            case {"type": "homeassistant/expose_entity/list"}:
                return {"exposed_entities": self.exposed}, None
            case {"type": "get_states"}:
                return self.states, None
            case {"type": "config/entity_registry/get_entries", "entity_ids": list(entities)}:
                return {entity: self.entries.get(entity) for entity in entities}, None
            case {"type": "config/device_registry/list"}:
                return self.devices, None
            case {"type": "config/area_registry/list"}:
                return self.areas, None
            case {"type": "config/floor_registry/list"}:
                return self.floors, None
            case {"type": "subscribe_events", "event_type": str(event)}:
                if event == "homeassistant_started" and not self.administrator:
                    raise RefusedError("unauthorized")
                return None, None
            case {"type": "conversation/chat_log/subscribe_index"}:
                logs = [self._log(name, content) for name, content in self.logs.items()]
                return None, {"event_type": "initial_state", "data": logs} if logs else None
            case {"type": "conversation/chat_log/subscribe", "conversation_id": str(conversation)}:
                if conversation not in self.logs:
                    raise RefusedError("not_found")
                log = self._log(conversation, self.logs[conversation])
                return None, {"event_type": "initial_state", "data": log}
        raise RefusedError("unknown_command")

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        """Listen; the port."""
        application = web.Application()
        application.router.add_get("/api/websocket", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=1.0)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls)
        await self._site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Go away, connections and all."""
        for socket in self.connections:
            await socket.close()
        self.connections.clear()
        self._subscriptions.clear()
        if self._runner is not None:
            await self._runner.cleanup()


@contextlib.asynccontextmanager
async def running(stand_in: HassStandIn) -> AsyncIterator[str]:
    """Its address, while it runs."""
    port = await stand_in.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await stand_in.stop()
