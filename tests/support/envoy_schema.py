"""Envoy's configuration held against the protobuf messages that Envoy itself reads it into, and against their rules.

`envoy_api.binpb.gz` are the descriptors of those messages (Apache-2.0, the Envoy project's) as the package xds-protos
brings them. That package cannot be installed beside ours: it holds files of others. To take a newer one:

    pip download --no-deps xds-protos && unzip -d FOLDER xds_protos-*.whl
    python tests/support/envoy_schema.py FOLDER
"""

from __future__ import annotations

import gzip
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

FILE = Path(__file__).with_name("envoy_api.binpb.gz")
ROOTS = (
    "envoy.config.bootstrap.v3.bootstrap",
    "envoy.extensions.filters.http.router.v3.router",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager",
    "envoy.extensions.transport_sockets.tls.v3.tls",
    "envoy.extensions.upstreams.http.v3.http_protocol_options",
)
"""What our configuration names; with what these need, it is what the file holds."""


class EnvoyApi:
    """The messages, in a pool of their own."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(gzip.decompress(FILE.read_bytes())).file:
            self._pool.Add(file)
        self._rules = self._pool.FindExtensionByName("validate.rules")
        self._required = self._pool.FindExtensionByName("validate.required")

    def problems(self, bootstrap: dict[str, Any]) -> list[str]:
        """What Envoy would refuse in a bootstrap configuration: fields that it does not know, values of another type,
        and what is missing or out of range by the rules that are looked at here."""
        message = self._new("envoy.config.bootstrap.v3.Bootstrap")
        try:
            json_format.ParseDict(bootstrap, message, descriptor_pool=self._pool)
        except json_format.ParseError as error:
            return [str(error)]
        return list(self._broken(message, "bootstrap"))

    def _new(self, name: str) -> Message:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))()

    def _broken(self, message: Any, place: str) -> Iterator[str]:
        """Rules that a message or one below it breaks."""
        if message.DESCRIPTOR.full_name == "google.protobuf.Any":
            held = self._new(message.TypeName())
            message.Unpack(held)
            message = held
        for choice in message.DESCRIPTOR.oneofs:
            if self._options(choice, "OneofOptions").Extensions[self._required] and not message.WhichOneof(choice.name):
                yield f"{place}: one of {', '.join(field.name for field in choice.fields)} is required"
        for field in message.DESCRIPTOR.fields:
            value, at = getattr(message, field.name), f"{place}.{field.name}"
            if field.message_type is None:
                pass
            elif field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].message_type:
                    for key in value:
                        yield from self._broken(value[key], f"{at}[{key}]")
            elif field.is_repeated:
                for number, item in enumerate(value):
                    yield from self._broken(item, f"{at}[{number}]")
            elif message.HasField(field.name):
                yield from self._broken(value, at)
            if breach := self._breach(message, field):
                yield f"{at}: {breach}"

    def _breach(self, message: Any, field: Any) -> str:
        rules = self._options(field, "FieldOptions").Extensions[self._rules]
        value, kind = getattr(message, field.name), rules.WhichOneof("type")
        if field.has_presence and not message.HasField(field.name):
            needed = rules.message.required or rules.duration.required or rules.any.required
            return "is required" if needed and field.containing_oneof is None else ""
        if kind == "string" and len(value) < rules.string.min_len:
            return f"has fewer than {rules.string.min_len} characters"
        if kind == "repeated" and len(value) < rules.repeated.min_items:
            return f"has fewer than {rules.repeated.min_items} items"
        longer = kind == "duration" and rules.duration.HasField("gt")
        return "is too short" if longer and value.ToNanoseconds() <= rules.duration.gt.ToNanoseconds() else ""

    def _options(self, descriptor: Any, kind: str) -> Any:
        """A descriptor's options, read with the extensions that the pool knows."""
        options = self._new(f"google.protobuf.{kind}")
        options.ParseFromString(descriptor.GetOptions().SerializeToString())
        return options


def _collect(folder: str) -> None:
    """Makes the file out of an unpacked xds-protos."""
    sys.path.insert(0, folder)
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(descriptor: Any) -> None:
        if descriptor.name not in found:
            for needed in descriptor.dependencies:
                add(needed)
            found[descriptor.name] = descriptor_pb2.FileDescriptorProto()
            descriptor.CopyToProto(found[descriptor.name])

    for name in ROOTS:
        add(importlib.import_module(f"{name}_pb2").DESCRIPTOR)
    data = descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString()
    FILE.write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    _collect(sys.argv[1])
