"""`StreamingRecognize` of `carryover.v1` over a WebSocket: messages in JSON, audio as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from aiohttp import WSMsgType, web

from carryover.v1 import recognizer_pb2 as pb
from server.access import Caller
from server.errors import InvalidRequestError
from server.http.calls import Calls, Exchange
from server.http.errors import Problem, connect_error
from server.http.json_calls import JSON_BYTES, as_json, parsed
from server.http.sockets import Socket
from server.methods import Method
from server.recognizer_service import RecognizerService
from server.scheduler import Scheduler
from server.settings import Limits

PROTOCOL = "carryover.v1"
END = "end"
"""The one field of the message that ends the audio, which gRPC has no message for."""


class JsonStream:
    """Answers `/carryover.v1.Recognizer/StreamingRecognize`.

    A text of the client is a StreamingRecognizeRequest in JSON, or {"end": {}} behind the last audio; bytes are audio.
    A text of the server is a StreamingRecognizeResponse, or {"error": …}, with which the stream ends.

    Args:
        method: of `carryover.v1`.
    """

    def __init__(
        self, method: Method, recognizer: RecognizerService, calls: Calls, scheduler: Scheduler, limits: Limits
    ) -> None:
        self._method = replace(method, name=f"http.{method.name}")
        self._recognizer = recognizer
        self._calls = calls
        self._scheduler = scheduler
        self._limits = limits

    def route(self) -> web.RouteDef:
        """Of the one method."""
        return web.get(self._method.path, self._calls.handler(self._method, self._answer, connect_error))

    async def _answer(self, exchange: Exchange, caller: Caller) -> web.StreamResponse:
        most = JSON_BYTES * self._method.bounds.bytes
        socket = await Socket.open(exchange, PROTOCOL, most, self._limits.idle_seconds, told=_told)
        messages = self._messages(exchange.request, socket, caller)
        async with aclosing(self._recognizer.StreamingRecognize(messages, caller)) as responses:  # type: ignore[type-var]
            async for response in responses:
                await socket.send(as_json(response))
        await socket.close()
        return socket.response

    async def _messages(
        self, request: web.Request, socket: Socket, caller: Caller
    ) -> AsyncIterator[pb.StreamingRecognizeRequest]:
        async for message in socket.messages():
            self._calls.check(request)
            if message.type is WSMsgType.BINARY:
                yield pb.StreamingRecognizeRequest(audio=message.data)
            elif is_end(message.data):
                return
            else:
                one = await parsed(self._method, message.data, self._scheduler, caller)
                if one.WhichOneof("request") == "audio":
                    raise InvalidRequestError("audio", "send it as bytes")
                yield one


def is_end(text: str) -> bool:
    """Is this the message that ends the audio?"""
    try:
        return len(text) < 64 and [*json.loads(text)] == [END]
    except (ValueError, TypeError):
        return False


def _told(problem: Problem) -> dict[str, object]:
    return {"error": connect_error(problem)}
