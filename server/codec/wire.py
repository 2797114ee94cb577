"""Reading the messages of strangers: bounded in bytes and in fields before protobuf makes anything of them.

gRPC hands on what came over the wire, compressed or not (its own decompression is switched off, see `app`). A
few bytes may inflate to megabytes, and a megabyte may hold half a million empty messages; so a message is inflated up
to its method's bound and no further, then its fields are counted on the wire form, and only then it is parsed. gRPC
would answer INTERNAL, without a reason, to what does not parse; here it is INVALID_ARGUMENT with the field's name.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from server.errors import InvalidRequestError, LimitError

SMALL_BYTES = 16_384
"""A message up to here, as it is on the wire, holds so little that it is parsed at once and where it is."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_GZIP = b"\x1f\x8b"
_ZLIB_FIRST, _ZLIB_CHECK = 0x78, 31
_OTHER_FIELDS, _OTHER_PER_ELEMENT = 1000, 8


Bound = tuple[int, Callable[[], Exception]]
"""The most elements of a repeated field, and the error that tells of more."""


@dataclass(frozen=True)
class Bounds:
    """What a method's request may hold."""

    limit: str | None
    """The setting in `Limits` that bounds its bytes; None: no setting does."""
    bytes: int
    """At most, decompressed."""
    elements: Mapping[str, Bound] = field(default_factory=dict)
    """Of repeated fields, by dotted name and over the whole request. All other fields together may be 1,000, and 8 for
    each element."""


class Reader:
    """Parses requests of one type, within the bounds of their method.

    Args:
        translate: makes something else of a parsed request; None: nothing.
    """

    def __init__(self, descriptor: Descriptor, bounds: Bounds, translate: Callable[[Any], Any] | None = None) -> None:
        self._descriptor = descriptor
        self._class = GetMessageClass(descriptor)
        self._bounds = bounds
        self._translate = translate

    def read(self, data: bytes) -> Any:
        """Parse a message as it came over the wire. Takes time when it is not small.

        Raises:
            LimitError: it exceeds its bounds; or the error in `Bounds.elements`.
            InvalidRequestError: it does not parse.
            RequestError: of `translate`.
        """
        if is_compressed(data):
            data = self._inflated(data)
        if len(data) > self._bounds.bytes:
            raise self._too_large()
        if len(data) > SMALL_BYTES:
            self._count(data)
        try:
            message = self._class.FromString(data)
        except DecodeError:
            raise self._malformed(invalid_utf8_field(self._descriptor, data)) from None
        return self._translate(message) if self._translate else message

    def _inflated(self, data: bytes) -> bytes:
        """Decompressed, no further than to one byte beyond the bound."""
        inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)  # gzip or zlib, as the header says
        try:
            whole = inflater.decompress(data, self._bounds.bytes + 1)
        except zlib.error:
            raise self._malformed(None) from None
        if len(whole) > self._bounds.bytes:
            raise self._too_large()
        if not inflater.eof:
            raise self._malformed(None)
        return whole

    def _count(self, data: bytes) -> None:
        elements, counted, others = self._bounds.elements, Counter[str](), _OTHER_FIELDS

        def count(name: str, _: memoryview | None) -> None:
            nonlocal others
            if name not in elements:
                others -= 1
                if others < 0:
                    advice = f"holds more than {_OTHER_FIELDS} fields beside the elements of its lists; send each once"
                    raise InvalidRequestError("request", advice)
                return
            others += _OTHER_PER_ELEMENT
            counted[name] += 1
            most, error = elements[name]
            if counted[name] > most:
                raise error()

        try:
            _walk(self._descriptor, memoryview(data), "", count)
        except (IndexError, _MalformedError):
            raise self._malformed(None) from None

    def _too_large(self) -> Exception:
        advice = f"larger than {self._bounds.bytes} bytes (uncompressed); send less at a time"
        if self._bounds.limit is None:
            return InvalidRequestError("request", advice)
        return LimitError(self._bounds.limit, f"request: {advice}")

    def _malformed(self, name: str | None) -> InvalidRequestError:
        if name:
            return InvalidRequestError(name, "is not valid UTF-8; send text encoded as UTF-8")
        advice = f"does not parse as {self._descriptor.full_name}; use the server's .proto files"
        return InvalidRequestError("request", advice)


def is_compressed(data: bytes) -> bool:
    """Is it gzip or zlib? No message of ours begins so: 0x1f is no tag, and 0x78 would be a field 15."""
    if data[:1] == b"\x78":
        return len(data) > 1 and not (_ZLIB_FIRST << 8 | data[1]) % _ZLIB_CHECK
    return data[:2] == _GZIP


def invalid_utf8_field(descriptor: Descriptor, data: bytes) -> str | None:
    """Dotted name of the first string field in `data` that is not UTF-8, or None.

    Its work grows with the number of fields: count those of a large message first.
    """

    def check(name: str, value: memoryview | None) -> None:
        if value is not None:
            try:
                str(value, "utf-8")
            except UnicodeDecodeError:
                raise _InvalidUtf8Error(name) from None

    try:
        _walk(descriptor, memoryview(data), "", check)
    except _InvalidUtf8Error as error:
        return str(error)
    except (IndexError, _MalformedError):
        return None
    return None


class _MalformedError(Exception):
    """Not a message on the wire."""


class _InvalidUtf8Error(Exception):
    """A string is not UTF-8; the message is its field's name."""


def _walk(
    descriptor: Descriptor, data: memoryview, prefix: str, visit: Callable[[str, memoryview | None], None]
) -> None:
    """Visit the fields of a message on its wire form, its messages' fields too, with their dotted names.

    A name is "" where the type does not know it. With it go the bytes of strings. Raises _MalformedError or IndexError
    where it is malformed.
    """
    known: dict[int, tuple[str, bool, Descriptor | None]] = {}
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        kind, number = tag & 7, tag >> 3
        if number not in known:
            known_field = descriptor.fields_by_number.get(number)
            text = known_field is not None and known_field.type == FieldDescriptor.TYPE_STRING
            known[number] = (
                (prefix + known_field.name, text, known_field.message_type) if known_field else ("", False, None)
            )
        name, text, inner = known[number]
        value: memoryview | None = None
        if kind == _BYTES:
            length, position = _varint(data, position)
            value = data[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = _varint(data, position)
        else:
            position += _FIXED.get(kind, end)  # groups are not in use
        if position > end:
            raise _MalformedError("a field that does not end")
        visit(name, value if text else None)
        if value is not None and inner is not None:
            _walk(inner, value, f"{name}.", visit)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value = shift = 0
    while byte >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise _MalformedError("a number that does not end")
        position += 1
        byte = data[position]
    return value | byte << shift, position + 1
