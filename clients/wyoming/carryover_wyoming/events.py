"""Events of the Wyoming protocol from a connection, each within bounds."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from wyoming.event import Event

MOST_HEADER, MOST_DATA, MOST_PAYLOAD = 1 << 16, 1 << 20, 1 << 20
"""Bytes of an event's parts. A payload is a chunk of audio: a second of 48 kHz in four channels is 384 kB."""


class ProtocolError(Exception):
    """What the client sends is no Wyoming event. The message says what was expected."""


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None: the client has left, between two events or in the middle of one.

    The library's `async_read_event` takes as much as the other side announces.

    Args:
        reader: its limit is MOST_HEADER.

    Raises:
        ProtocolError: it is no event, or one that is too large.
    """
    try:
        line = await reader.readuntil(b"\n")
        header = _object(line)
        kind, data = header.get("type"), header.get("data") or {}
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise ProtocolError('send events with a "type", a string, and "data", an object')
        if length := _length(header, "data_length", MOST_DATA):
            data = {**data, **_object(await reader.readexactly(length))}
        length = _length(header, "payload_length", MOST_PAYLOAD)
        return Event(kind, data, await reader.readexactly(length) if length else None)
    except asyncio.LimitOverrunError:
        raise ProtocolError(f"a header of an event has at most {MOST_HEADER} bytes") from None
    except (asyncio.IncompleteReadError, OSError):  # a satellite that left the network ends as a host out of reach
        return None


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if rb"\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates have no encoding
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ProtocolError("send each event as one line with a JSON object (is this a Wyoming client?)")
    return value


def _length(header: dict[str, Any], name: str, most: int) -> int:
    length = header.get(name) or 0
    if not isinstance(length, int) or not 0 <= length <= most:
        raise ProtocolError(f"{name} is a number of bytes, at most {most}")
    return length
