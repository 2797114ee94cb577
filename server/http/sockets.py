"""WebSockets: messages bounded in size, pace and time, as those of gRPC's streams are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from server.errors import IdleError, InvalidRequestError
from server.http.calls import Exchange
from server.http.errors import Problem, Told
from server.pace import Pace

_PING_S = 30.0
"""Clients that vanished without a word are found by their missing answers."""
_CLOSE_S = 5.0
_LEFT = (1000, 1001, 1005)
"""Close codes of clients that leave: normally, with their page, without a code (RFC 6455, 7.4.1)."""


class Socket:
    """A WebSocket that has been accepted.

    Args:
        response: aiohttp's.
        idle_s: seconds within which a client must read what it is sent.
    """

    def __init__(self, response: web.WebSocketResponse, idle_s: float) -> None:
        self.response = response
        self._idle_s = idle_s

    @classmethod
    async def open(cls, exchange: Exchange, protocol: str, most: int, idle_s: float, told: Told) -> Socket:
        """Accept a request for one.

        Args:
            protocol: its name, which browsers may ask for.
            most: bytes of a message.
            idle_s: seconds within which a client must read what it is sent.
            told: the form of an error that ends it.

        Raises:
            InvalidRequestError: the request asks for none.
        """
        response = web.WebSocketResponse(
            protocols=(protocol,), heartbeat=_PING_S, timeout=_CLOSE_S, max_msg_size=most, compress=False,
            autoping=False,  # aiohttp answers as fast as they come, and lets nobody in between
        )  # fmt: skip
        if not response.can_prepare(exchange.request):
            raise InvalidRequestError("upgrade", "this path speaks WebSocket; open one")
        socket = cls(response, idle_s)

        async def tell(problem: Problem) -> None:
            await socket.send(told(problem))
            await socket.close(WSCloseCode.POLICY_VIOLATION)

        response.headers["x-request-id"] = exchange.request_id
        await response.prepare(exchange.request)
        exchange.begun, exchange.tell = response, tell
        return socket

    @property
    def left_properly(self) -> bool:
        """Has the client said that it leaves?"""
        return self.response.close_code in _LEFT

    async def messages(self) -> AsyncIterator[WSMessage]:
        """Texts and bytes, as they come. Raises ConnectionResetError when the client leaves."""
        pace = Pace()
        while True:
            message = await self.response.receive()
            if message.type in (WSMsgType.PING, WSMsgType.PONG):
                await asyncio.sleep(pace.pause_s(0))
                if message.type is WSMsgType.PING:
                    await self.response.pong(message.data)
                continue
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                raise ConnectionResetError("the client has left")
            await asyncio.sleep(pace.pause_s(len(message.data)))  # 0: others come in between
            yield message

    async def send(self, value: Any) -> None:
        """Send a message in JSON. Raises IdleError where nobody reads."""
        try:
            async with asyncio.timeout(self._idle_s):
                await self.response.send_str(json.dumps(value))
        except TimeoutError:
            advice = f"no result was read for {self._idle_s:g} s; read results as they come"
            raise IdleError(f"{advice} (the server's setting is limits.idle_seconds)") from None

    async def close(self, code: WSCloseCode = WSCloseCode.OK) -> None:
        """End it."""
        await self.response.close(code=code)
