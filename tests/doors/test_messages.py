"""The doors' messages are the real ones on the wire, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.json_format import ParseDict

from server.doors.messages import google_v1_pb2, google_v2_pb2, riva_pb2
from tests.support.remote_client import RemoteClient

OURS = {"riva": riva_pb2, "v1": google_v1_pb2, "v2": google_v2_pb2}
NOT_SENT = {"StreamingRecognizeResponse.error"}
"""Fields of responses that the doors have no use for."""


def real(protocol: str, client: RemoteClient) -> list[FileDescriptorProto]:
    """The files of the client's own modules."""
    return [ParseDict(one, FileDescriptorProto()) for one in client("descriptor", version=protocol)]


def types(files: list[FileDescriptorProto]) -> dict[str, DescriptorProto | EnumDescriptorProto]:
    """All messages and enums by their names without a package."""
    found: dict[str, DescriptorProto | EnumDescriptorProto] = {}

    def add(message: DescriptorProto, prefix: str) -> None:
        found[prefix + message.name] = message
        found.update({f"{prefix}{message.name}.{enum.name}": enum for enum in message.enum_type})
        for inner in message.nested_type:
            add(inner, f"{prefix}{message.name}.")

    for file in files:
        found.update({enum.name: enum for enum in file.enum_type})
        for message in file.message_type:
            add(message, "")
    return found


def described(field: FieldDescriptorProto, names: set[str]) -> tuple[Any, ...]:
    """What of a field is on the wire, its name, and its presence."""
    kind = field.type_name
    while kind and kind.lstrip(".") not in names and "." in kind.lstrip("."):
        kind = kind.lstrip(".").partition(".")[2]
    kind = kind.lstrip(".") if kind.lstrip(".") in names else field.type_name
    return field.number, field.name, field.type, field.label, kind, field.HasField("oneof_index")


def members(one: DescriptorProto | EnumDescriptorProto, names: set[str]) -> Iterator[tuple[Any, ...]]:
    if isinstance(one, EnumDescriptorProto):
        yield from ((value.number, value.name) for value in one.value)
    else:
        yield from (described(field, names) for field in one.field)


@pytest.mark.parametrize("protocol", OURS)
def test_they_are_the_real_ones(request: pytest.FixtureRequest, protocol: str) -> None:
    client = request.getfixturevalue("riva" if protocol == "riva" else "google")
    file = FileDescriptorProto()
    OURS[protocol].DESCRIPTOR.CopyToProto(file)
    ours, theirs = types([file]), types(real(protocol, client))
    ours.pop("Unsupported", None)
    assert ours.keys() <= theirs.keys()
    for name, own in ours.items():
        own_members, real_members = set(members(own, {*ours})), set(members(theirs[name], {*ours}))
        lacking = {f"{name}.{member[1]}" for member in real_members - own_members}
        assert own_members <= real_members and lacking <= NOT_SENT, (name, own_members ^ real_members)
    assert {"RecognizeRequest", "StreamingRecognizeRequest", "RecognitionConfig"} <= ours.keys()
