"""Reading messages that may be malformed.

gRPC answers INTERNAL, without a reason, to a message that does not parse. Here such a message becomes a value, and the
interceptor answers INVALID_ARGUMENT with the field's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Malformed:
    """A message that does not parse. field: its first field that is wrong. advice: what to change."""

    field: str
    advice: str


def reader(parse: Callable[[bytes], Any], descriptor: Descriptor) -> Callable[[bytes], Any]:
    """A request deserializer that returns `Malformed` where `parse` fails."""

    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            field = invalid_utf8_field(descriptor, data)
            if field:
                return Malformed(field, "is not valid UTF-8; send text encoded as UTF-8")
            return Malformed("request", f"does not parse as {descriptor.full_name}; use the server's .proto files")

    return read


def invalid_utf8_field(descriptor: Descriptor, data: bytes) -> str | None:
    """Dotted name of the first string field in `data` that is not UTF-8, or None."""
    try:
        for field, value in _length_delimited(descriptor, data):
            if field.type == FieldDescriptor.TYPE_STRING:
                try:
                    value.decode()
                except UnicodeDecodeError:
                    return field.name
            elif field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type is not None:
                inner = invalid_utf8_field(field.message_type, value)
                if inner:
                    return f"{field.name}.{inner}"
    except (IndexError, ValueError):
        return None
    return None


def _length_delimited(descriptor: Descriptor, data: bytes) -> Iterator[tuple[FieldDescriptor, bytes]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        elif wire_type == _BYTES:
            length, position = _varint(data, position)
            field = descriptor.fields_by_number.get(tag >> 3)
            if field is not None:
                yield field, data[position : position + length]
            position += length
        else:
            raise ValueError("a wire type that is not in use")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number that does not end")
