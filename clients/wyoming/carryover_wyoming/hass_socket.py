"""One connection to Home Assistant's WebSocket API: signing in, commands, subscriptions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

Listener = Callable[[dict[str, Any]], None]
"""Is given the `event` of each message of a subscription. It must not block."""

_ANSWER_S = 10.0
_HEARTBEAT_S = 30.0
_CLOSING = aiohttp.ClientWSTimeout(ws_close=1.0)
_MOST_MESSAGE = 64 << 20


class HassError(Exception):
    """Home Assistant does not answer, or not as expected. code: its own, where it sent an error."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class HassTokenError(HassError):
    """Home Assistant does not take the token."""


def websocket_url(url: str) -> str:
    """The address of the WebSocket API of a Home Assistant, `http://HOST:8123` or `https://HOST`.

    Raises:
        HassError: it is no such address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.username or parts.query or port == 0:
        raise HassError(f"{url} is no address of Home Assistant; it looks like http://homeassistant.local:8123")
    path = parts.path.rstrip("/")
    return f"{scheme}://{parts.netloc}{path if path.endswith('/websocket') else f'{path}/api/websocket'}"


class HassSocket:
    """A connection that is signed in. Make it with `connected`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._listeners: dict[int, Listener] = {}

    async def command(self, kind: str, **fields: Any) -> Any:
        """The result of a command. Raises HassError."""
        return await self._ask(next(self._ids), kind, fields)

    async def subscribe(self, listener: Listener, kind: str, **fields: Any) -> None:
        """Have events given to a listener, until the connection ends. Raises HassError."""
        number = next(self._ids)
        self._listeners[number] = listener
        try:
            await self._ask(number, kind, fields)
        except BaseException:
            del self._listeners[number]
            raise

    async def follow(self) -> None:
        """Take what comes until the connection ends; nothing is answered while this does not run.

        Raises:
            HassError: it has ended.
        """
        try:
            async for message in self._socket:
                self._take(_json(message))
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(HassError("the connection has ended"))
        raise HassError("the connection has ended")

    async def _ask(self, number: int, kind: str, fields: dict[str, Any]) -> Any:
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._socket.send_json({"id": number, "type": kind, **fields})
                return await answer
        except TimeoutError:
            raise HassError(f"{kind}: no answer in {_ANSWER_S:g} s") from None
        except (aiohttp.ClientError, ConnectionError):
            raise HassError("the connection has ended") from None
        finally:
            answer.cancel()
            del self._answers[number]

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if message.get("type") == "event":
            listener, event = self._listeners.get(number or 0), message.get("event")
            if listener is not None and isinstance(event, dict):
                listener(event)
        elif message.get("type") == "result":
            answer = self._answers.get(number or 0)
            if answer is None or answer.done():
                return
            if message.get("success"):
                answer.set_result(message.get("result"))
            else:
                error = message.get("error") or {}
                code = str(error.get("code", ""))
                answer.set_exception(HassError(f"refused: {code or 'without a reason'}", code))


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncIterator[HassSocket]:
    """A connection that is signed in; run its `follow` to have it work.

    Args:
        url: of the WebSocket API.
        token: a long-lived access token.

    Raises:
        HassTokenError: the token is not taken.
        HassError: nobody answers, or something else does.
    """
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_ANSWER_S):
                socket = await session.ws_connect(
                    url, heartbeat=_HEARTBEAT_S, max_msg_size=_MOST_MESSAGE, timeout=_CLOSING
                )
                stack.push_async_callback(socket.close)
                await _sign_in(socket, token)
        except aiohttp.ClientConnectorCertificateError:
            raise HassError(
                f"the certificate of {url} is not trusted here: give --hass-url the name that it is for, or have the"
                " variable SSL_CERT_FILE name a PEM file of who signed it"
            ) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise HassError(f"no Home Assistant answers at {url} ({type(error).__name__})") from None
        yield HassSocket(socket)


async def _sign_in(socket: aiohttp.ClientWebSocketResponse, token: str) -> None:
    if _json(await socket.receive()).get("type") == "auth_required":
        await socket.send_json({"type": "auth", "access_token": token})
        answer = _json(await socket.receive()).get("type")
        if answer == "auth_ok":
            return
        if answer == "auth_invalid":
            raise HassTokenError("Home Assistant does not take the token; make a long-lived one in your profile there")
    raise HassError("what answers there is no Home Assistant")


def _json(message: aiohttp.WSMessage) -> dict[str, Any]:
    try:
        value = message.json() if message.type is aiohttp.WSMsgType.TEXT else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
