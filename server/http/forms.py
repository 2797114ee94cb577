"""Forms with a file in them (multipart/form-data), read into memory and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from server.errors import InvalidRequestError, LimitError
from server.http.calls import Calls
from server.settings import Limits

_OTHER_FIELDS = 100


@dataclass
class Form:
    """What a form holds. Each field of OpenAI's lists may be called `name[]`, as their clients do, or `name`."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    file: bytes = b""

    def all(self, name: str) -> list[str]:
        """The values of a list."""
        return self.fields.get(name, [])

    def one(self, name: str, default: str = "") -> str:
        """The value of a field that is there once. Raises InvalidRequestError."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise InvalidRequestError(name, "is there more than once; send it once")
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        """A field that is true or false. Raises InvalidRequestError."""
        value = self.one(name, "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise InvalidRequestError(name, "send true or false")
        return value in ("true", "1")

    def check_names(self, known: Iterable[str]) -> None:
        """Raise InvalidRequestError where a field is none of these."""
        unknown = [name for name in self.fields if name not in set(known)]
        if unknown:
            named = f" {unknown[0]}" if unknown[0].isidentifier() and len(unknown[0]) <= 64 else ""
            raise InvalidRequestError(unknown[0] if named else "request", f"there is no field{named}; leave it out")


async def read_form(request: web.Request, calls: Calls, limits: Limits) -> Form:
    """A request's form.

    Raises:
        InvalidRequestError: it is none.
        LimitError: it is too large.
        IdleError: it comes too slowly.
    """
    if request.content_type != "multipart/form-data":
        raise InvalidRequestError("content-type", "send multipart/form-data, with the audio in the field `file`")
    try:
        async with calls.in_time(limits.recording_seconds):
            return await _read(request, calls, limits)
    except (ValueError, AssertionError, HttpProcessingError):  # of aiohttp's reader; none of ours is one
        raise InvalidRequestError("request", "its form is broken; send multipart/form-data") from None


class _Yielding:
    """A body whose lines let other tasks in between: a form of many parts, or of many lines, holds up nobody."""

    def __init__(self, body: StreamReader) -> None:
        self._body = body

    async def readline(self, **options: Any) -> bytes:
        await asyncio.sleep(0)
        return await self._body.readline(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


async def _read(request: web.Request, calls: Calls, limits: Limits) -> Form:
    form, size, count = Form(), 0, 0
    reader = MultipartReader(request.headers, _Yielding(request.content))  # type: ignore[arg-type]
    while True:
        async with calls.in_time():  # what stands between two parts
            part = await reader.next()
        if part is None:
            return form
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise InvalidRequestError("request", "has a part without a name, or a form in a form; send flat fields")
        if part.name == "file":
            if form.file:
                raise InvalidRequestError("file", "is there more than once; send one recording in a request")
            pieces = calls.pieces(part.read_chunk, limits.message_bytes, "message_bytes")
            form.file = b"".join([piece async for piece in pieces])
            continue
        count += 1
        if count > limits.phrases + _OTHER_FIELDS:
            raise LimitError("phrases", f"more than {count - 1} fields; send at most {limits.phrases} keywords")
        value = b"".join(
            [piece async for piece in calls.pieces(part.read_chunk, limits.request_bytes - size, "request_bytes")]
        )
        size += len(value)
        form.fields.setdefault(part.name.removesuffix("[]"), []).append(value.decode(errors="replace"))
