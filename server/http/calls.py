"""HTTP requests as calls: through the guard, their bodies bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from server.access import Caller
from server.errors import IdleError, InvalidRequestError, LimitError
from server.guard import CallError, Guard, Sender
from server.http.errors import Problem, Told, error_response, problem_of
from server.methods import Method
from server.settings import Limits


@dataclass
class Exchange:
    """A request, and how far its response is."""

    request: web.Request
    request_id: str
    begun: web.StreamResponse | None = None
    """The response, once it is too late for a status."""
    tell: Callable[[Problem], Awaitable[None]] | None = None
    """Tells an error in a response that has begun."""


Handle = Callable[[Exchange, Caller], Awaitable[web.StreamResponse]]

_HEADERS = ("authorization", "x-goog-api-key", "x-request-id", "traceparent")
_KEY_IN_PROTOCOL = re.compile(r"(?:carryover-key|openai-insecure-api-key)\.(\S+)")
"""Browsers send no headers of a page's choice with a WebSocket, but names of protocols; so does OpenAI's."""


class Calls:
    """What stands between a request and its handler.

    Args:
        guard: the one of all ports.
        limits: bounds of bodies, and how long a client may be idle.
    """

    def __init__(self, guard: Guard, limits: Limits) -> None:
        self._guard = guard
        self._limits = limits

    def handler(self, method: Method, handle: Handle, told: Told) -> Callable[[web.Request], Awaitable[Any]]:
        """An aiohttp handler of a method that is answered by one response.

        Args:
            told: the form of its errors.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            sender = sender_of(request)
            exchange = Exchange(request, sender.request_id)
            try:
                async with self._guard.call(method, sender, exchange.request_id) as caller:
                    response = await handle(exchange, caller)
            except CallError as error:
                problem = problem_of(error)
                if exchange.begun is not None and exchange.tell is not None:
                    with suppress(ConnectionResetError, IdleError):  # nobody reads it
                        await exchange.tell(problem)
                    return exchange.begun
                response = error_response(problem, told)
            if not response.prepared:
                response.headers["x-request-id"] = exchange.request_id
            return response

        return answer

    @asynccontextmanager
    async def inner(self, method: Method, request: web.Request) -> AsyncIterator[Caller]:
        """Around a call that comes in another one's messages. In a task of its own. Raises CallError."""
        sender = sender_of(request)
        async with self._guard.call(method, sender, sender.request_id) as caller:
            yield caller

    def stream(self, caller: Caller) -> AbstractContextManager[None]:
        """Around the audio of a call whose method is a session. Raises LimitError."""
        return self._guard.stream(caller)

    def check(self, request: web.Request) -> None:
        """Raise UnauthenticatedError where the caller's key has been taken back since."""
        self._guard.caller(sender_of(request))

    async def body(self, request: web.Request, most: int, limit: str) -> bytes:
        """A request's body. Args: as those of `pieces`, and errors."""
        return b"".join([piece async for piece in self.pieces(request.content.readany, most, limit)])

    async def pieces(self, read: Callable[[], Awaitable[bytes]], most: int, limit: str) -> AsyncIterator[bytes]:
        """What a client sends, piece by piece.

        Args:
            read: reads the next piece; empty at the end.
            most: bytes.
            limit: the setting in `Limits` that bounds them.

        Raises:
            LimitError: there are more.
            IdleError: they come too slowly.
        """
        size = 0
        async with self.in_time(self._limits.recording_seconds):  # slower than it is spoken
            while True:
                async with self.in_time():
                    piece = await read()
                if not piece:
                    return
                size += len(piece)
                if size > most:
                    raise LimitError(limit, f"the request is larger than {most} bytes; send less")
                yield piece

    @asynccontextmanager
    async def in_time(self, more_s: float = 0.0) -> AsyncIterator[None]:
        """Around reading of a request.

        Args:
            more_s: seconds that it may take beyond `limits.idle_seconds`.

        Raises:
            IdleError: it comes too slowly.
            InvalidRequestError: its coding is broken.
        """
        idle_s = self._limits.idle_seconds
        try:
            async with asyncio.timeout(idle_s + more_s):
                yield
        except TimeoutError:
            advice = f"the request came too slowly, or not for {idle_s:g} s; send it at once"
            raise IdleError(f"{advice} (the server's setting is limits.idle_seconds)") from None
        except web.RequestPayloadError:
            raise InvalidRequestError("request", "its body is broken; send it again") from None


def sender_of(request: web.Request) -> Sender:
    """Whom a request comes from."""
    metadata = [(name, value) for name in _HEADERS for value in request.headers.getall(name, ())]
    offered = ",".join(request.headers.getall("sec-websocket-protocol", ()))
    keys = [found[1] for one in offered.split(",") if (found := _KEY_IN_PROTOCOL.fullmatch(one.strip()))]
    if keys and not any(name in _HEADERS[:2] for name, _ in metadata):
        metadata.append(("authorization", f"Bearer {keys[0]}"))
    return Sender(metadata, _certificate_names(request))


def _certificate_names(request: web.Request) -> list[str]:
    """The certificate's alternative names, or its common name where it has none."""
    certificate: dict[str, Any] = request.get_extra_info("peercert") or {}
    names = [value for _, value in certificate.get("subjectAltName", ())]
    return names or [
        value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"
    ]  # fmt: skip
