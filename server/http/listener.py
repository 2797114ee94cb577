"""The HTTP port: listens, keeps strangers' pages out, bounds connections, ends."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import weakref
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from server import logs
from server.errors import UNEXPECTED
from server.http.errors import NotAllowedError, Problem, error_response, openai_error

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SILENT = logging.getLogger("carryover.aiohttp")
_SILENT.setLevel(logging.CRITICAL + 1)  # it would log a line for whatever no HTTP any stranger sends
logging.getLogger("aiohttp.websocket").setLevel(logging.CRITICAL + 1)  # and for subprotocols that are not known here
_NO_PATH = (
    "there is no such path; OpenAI's file and realtime transcription are below /v1, the methods of this server's own "
    "interface at /carryover.v1.SERVICE/METHOD"
)
_CLOSE_S = 1.0
_KEEPALIVE_S = 75.0
_SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "permissions-policy": "microphone=(self)",
    "server": "carryover",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every response: a page of this server runs its own scripts, and asks nobody else for anything."""


class Listener:
    """Answers HTTP on one port.

    Args:
        routes: what is answered.
        anyone: whether every caller is let in, so that the names by which the server is called must be this machine's:
            a page from elsewhere could have its own name lead here (DNS rebinding).
        connections: at once.
        idle_s: seconds that a connection has to send its first request, or twice as many.
        requests: at once.
    """

    def __init__(
        self, routes: Iterable[web.AbstractRouteDef], *, anyone: bool, connections: int, idle_s: float, requests: int
    ) -> None:
        self._anyone = anyone
        self._most = connections
        self._idle_s = idle_s
        self._requests = requests
        self._running = 0
        self._known: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        """Connections that have sent a request."""
        self._sockets: weakref.WeakSet[web.WebSocketResponse] = weakref.WeakSet()

        @web.middleware
        async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._around(request, handler)

        app = web.Application(middlewares=[around])
        app.add_routes(routes)
        app.on_shutdown.append(self._close_sockets)
        app.on_response_prepare.append(self._on_prepare)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_SILENT,
            handler_cancellation=True,
            keepalive_timeout=_KEEPALIVE_S,
            shutdown_timeout=_CLOSE_S,
            handle_signals=False,
        )
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        """Listen; returns the port. Raises OSError."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connected, host, port, ssl=context, reuse_address=True)
        self._sweeping = loop.create_task(self._keep_sweeping())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening; requests that still run are cancelled."""
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._runner.cleanup()

    @property
    def connections(self) -> int:
        """Those that are open now."""
        return len(self._runner.server.connections) if self._runner.server is not None else 0

    def _connected(self) -> asyncio.Protocol:
        """What a new connection speaks to."""
        assert self._runner.server is not None
        if self.connections >= self._most:
            return _Refusing()
        return self._runner.server()

    async def _keep_sweeping(self) -> None:
        """End connections that have sent no request yet."""
        silent: set[RequestHandler] = set()
        while True:
            await asyncio.sleep(self._idle_s)
            assert self._runner.server is not None
            before, silent = (
                silent,
                {one for one in self._runner.server.connections if one.transport and one.transport not in self._known},
            )
            for handler in before & silent:
                assert handler.transport is not None
                handler.transport.abort()

    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request."""
        if request.transport is not None:
            self._known.add(request.transport)
        if self._running >= self._requests:
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once; retry later", retry_ms=1000)
        self._running += 1
        try:
            check_origin(request.headers.get("host", ""), request.headers.get("origin"), anyone=self._anyone)
            return await handler(request)
        except NotAllowedError as error:
            return _refused(error.status, error.message)
        except web.HTTPException as error:  # of the router
            status = HTTPStatus(error.status)
            if "allow" not in error.headers:
                return _refused(status, _NO_PATH)
            allowed = error.headers["allow"]
            refused = _refused(status, f"this path takes {allowed.replace(',', ' and ')}, not {request.method[:16]}")
            refused.headers["allow"] = allowed
            return refused
        except Exception as error:
            if isinstance(error, ConnectionResetError):
                raise
            logs.failure("http_request_failed", error)
            return _refused(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED)
        finally:
            self._running -= 1

    async def _on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in _SAFE.items():
            response.headers[name] = value
        if isinstance(response, web.WebSocketResponse):
            self._sockets.add(response)

    async def _close_sockets(self, app: web.Application) -> None:
        going = (socket.close(code=1001, message=b"the server is closing") for socket in list(self._sockets))
        await asyncio.gather(*going, return_exceptions=True)


class _Refusing(asyncio.Protocol):
    """Ends a connection that is too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def check_origin(host: str, origin: str | None, *, anyone: bool) -> None:
    """Raise NotAllowedError for a request that a page from elsewhere sends.

    Args:
        host: the header; the name by which the client called the server.
        origin: the header; None: no page sends the request.
        anyone: whether the server asks for no key.
    """
    if anyone and not _is_own_name(host):
        message = "this server asks for no key, so it is called by this machine's own names only: use 127.0.0.1"
        raise NotAllowedError(HTTPStatus.FORBIDDEN, message)
    if origin is not None and not _is_of(origin, host):
        raise NotAllowedError(HTTPStatus.FORBIDDEN, "pages from elsewhere may not call this server")


def _is_of(origin: str, host: str) -> bool:
    """Is this the origin of a page that was called by the name?"""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _is_own_name(host: str) -> bool:
    """Is this, with or without a port, a name of the machine itself and of no other?"""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refused(status: HTTPStatus, message: str, retry_ms: int | None = None) -> web.Response:
    code = "not_found" if status == HTTPStatus.NOT_FOUND else status.phrase.lower().replace(" ", "_")
    return error_response(Problem(status, code, message, retry_ms=retry_ms), openai_error)
