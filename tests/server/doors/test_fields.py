"""Every field of the doors' requests is in docs/doors.md, and does what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from server.app import door_routes
from server.doors.messages import google_v1_pb2, google_v2_pb2, riva_pb2
from server.errors import InvalidRequestError
from server.methods import Load
from server.settings import Limits
from tests.support.pages import page

ROUTES = {route.method.name: route for route in door_routes(cast(Any, None), Limits())}
USED, NO_EFFECT, REFUSED = "used", "no effect", "refused"


@dataclass(frozen=True)
class Door:
    """How a protocol's requests are named."""

    name: str
    heading: str
    """Of its part of the page."""
    module: Any
    recording: str
    """The configuration in a request with a recording."""
    stream: str
    """The configuration in a stream's first message."""
    requests: tuple[str, ...] = ("RecognizeRequest", "StreamingRecognizeRequest")


DOORS = (
    Door(
        "riva", "NVIDIA Riva", riva_pb2, "config", "streaming_config.config",
        ("RecognizeRequest", "StreamingRecognizeRequest", "RivaSpeechRecognitionConfigRequest"),
    ),
    Door("google.v1", "Version 1", google_v1_pb2, "config", "streaming_config.config"),
    Door("google.v2", "Version 2", google_v2_pb2, "config", "streaming_config.config"),
)  # fmt: skip

SET = {
    "riva": {
        "encoding": ("", "encoding: MULAW"),
        "language_code": ("", "language_code: 'de-DE'"),
        "audio_channel_count": ("", "audio_channel_count: 2"),
        "speech_contexts.boost": ("speech_contexts {phrases: 'a'}", "speech_contexts {phrases: 'a' boost: 3}"),
        "custom_configuration": ("", "custom_configuration {key: 'dialogue_id' value: 'd'}"),
        "StreamingRecognizeRequest.runtime_config": (
            "audio_content: 'ab'", "audio_content: 'ab' runtime_config {key: 'force_eou' value: 'true'}"
        ),
    },
    "google.v1": {
        "encoding": ("", "encoding: MULAW"),
        "language_code": ("", "language_code: 'de-DE'"),
        "alternative_language_codes": ("", "alternative_language_codes: 'de'"),
        "audio_channel_count": ("", "audio_channel_count: 2"),
        "adaptation.phrase_sets.phrases.boost": (
            "adaptation {phrase_sets {phrases {value: 'a'}}}",
            "adaptation {phrase_sets {phrases {value: 'a' boost: 3}}}",
        ),
        "adaptation.phrase_sets.boost": (
            "adaptation {phrase_sets {phrases {value: 'a'}}}",
            "adaptation {phrase_sets {boost: 3 phrases {value: 'a'}}}",
        ),
        "adaptation.phrase_set_references": ("", "adaptation {phrase_set_references: 'phraseSets/dialogue-d'}"),
        "adaptation.custom_classes.name": (
            "speech_contexts {phrases: '${c}'} adaptation {custom_classes {items {value: 'b'} custom_class_id: 'c'}}",
            "speech_contexts {phrases: '${c}'} adaptation {custom_classes {items {value: 'e'} name: 'a/c'}}",
        ),
        "adaptation.custom_classes.custom_class_id": (
            "speech_contexts {phrases: '${c}'} adaptation {custom_classes {items {value: 'b'} name: 'a/c'}}",
            "speech_contexts {phrases: '${c}'} adaptation {custom_classes {items {value: 'e'} custom_class_id: 'c'}}",
        ),
        "adaptation.custom_classes.items.value": (
            "speech_contexts {phrases: '${c}'} adaptation {custom_classes {custom_class_id: 'c' items {value: 'a'}}}",
            "speech_contexts {phrases: '${c}'} adaptation {custom_classes {custom_class_id: 'c' items {value: 'b'}}}",
        ),
        "speech_contexts.boost": ("speech_contexts {phrases: 'a'}", "speech_contexts {phrases: 'a' boost: 3}"),
        "enable_spoken_punctuation": ("", "enable_spoken_punctuation {value: true}"),
        "enable_spoken_emojis": ("", "enable_spoken_emojis {value: true}"),
    },
    "google.v2": {
        "auto_decoding_config": ("explicit_decoding_config {encoding: LINEAR16}", "auto_decoding_config {}"),
        "explicit_decoding_config.encoding": ("", "explicit_decoding_config {encoding: ALAW}"),
        "explicit_decoding_config.audio_channel_count": ("", "explicit_decoding_config {audio_channel_count: 2}"),
        "language_codes": ("", "language_codes: 'de'"),
        "adaptation.phrase_sets.phrase_set": ("", "adaptation {phrase_sets {phrase_set: 'phraseSets/dialogue-d'}}"),
        "adaptation.phrase_sets.inline_phrase_set.phrases.boost": (
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: 'a'}}}}",
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: 'a' boost: 3}}}}",
        ),
        "adaptation.phrase_sets.inline_phrase_set.boost": (
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: 'a'}}}}",
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: 'a'} boost: 3}}}",
        ),
        "adaptation.custom_classes.name": (
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: '${c}'}}}"
            " custom_classes {name: 'c' items {value: 'a'}}}",
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: '${c}'}}}"
            " custom_classes {name: 'd' items {value: 'a'}} custom_classes {name: 'x/c' items {value: 'b'}}}",
        ),
        "adaptation.custom_classes.items.value": (
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: '${c}'}}}"
            " custom_classes {name: 'c' items {value: 'a'}}}",
            "adaptation {phrase_sets {inline_phrase_set {phrases {value: '${c}'}}}"
            " custom_classes {name: 'c' items {value: 'a'} items {value: 'b'}}}",
        ),
    },
}  # fmt: skip
"""Configurations without and with a field, as text, where one value of its type does not show what it does."""


def documented(door: Door) -> dict[str, str]:
    """Effects by the names in the tables of a door's part of the page."""
    _, text = re.split(rf"^#+ {door.heading}$", page("docs/doors.md"), flags=re.MULTILINE)
    text = re.split(r"^#+ ", text, flags=re.MULTILINE)[0]
    return dict(re.findall(rf"^\| `([^`]+)` \| ({USED}|{NO_EFFECT}|{REFUSED}) \|", text, re.MULTILINE))


def leaves(descriptor: Descriptor, prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields that hold something themselves. A map and a well-known message are one each."""
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or inner.file.package == "google.protobuf" or not inner.fields:
            yield prefix + field.name
        elif inner.name == "RecognitionConfig" or inner.name == "RequestId":
            yield f"{prefix}{field.name}"
        else:
            yield from leaves(inner, f"{prefix}{field.name}.")


def names(door: Door) -> list[str]:
    """Those of a configuration, and those of the requests behind the requests' names."""
    types = door.module.DESCRIPTOR.message_types_by_name
    return [
        *leaves(types["RecognitionConfig"]),
        *(name for request in door.requests for name in leaves(types[request], f"{request}.")),
    ]


def effect(door: Door, name: str) -> str:
    """What the page says of a field."""
    effects = documented(door)
    if name in effects:
        return effects[name]
    return effects[f"{name.rpartition('.')[0]}.*"]


FIELDS = [(door, name) for door in DOORS for name in names(door)]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_the_page_has_every_field_and_no_other(door: Door) -> None:
    told, there = documented(door), names(door)
    rest = {name for name in told if name.endswith("*")}
    assert [name for name in there if name not in told and f"{name.rpartition('.')[0]}.*" not in rest] == []
    assert [name for name in told if name not in (*there, *rest)] == []


def value_text(field: FieldDescriptor) -> str:
    """Some value of a field, in text format."""
    if field.message_type is not None:
        if field.message_type.name == "FieldMask":
            return f"{field.name} {{paths: 'model'}}"
        if field.message_type.name in ("Duration", "Timestamp"):
            return f"{field.name} {{seconds: 5}}"
        if field.message_type.GetOptions().map_entry:
            return f"{field.name} {{key: 'k' value: 'v'}}"
        if field.message_type.name == "RequestId":
            return f"{field.name} {{value: 'r'}}"
        return f"{field.name} {{}}"
    if field.enum_type is not None:
        return f"{field.name}: {field.enum_type.values[-1].name}"
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return f"{field.name}: 'ab'"
    return f"{field.name}: {'true' if field.type == FieldDescriptor.TYPE_BOOL else 1}"


def nested(descriptor: Descriptor, path: str) -> str:
    """Text of a message with one field set, somewhere in it."""
    first, _, rest = path.partition(".")
    field = descriptor.fields_by_name[first]
    if not rest:
        return value_text(field)
    assert field.message_type is not None
    return f"{first} {{{nested(field.message_type, rest)}}}"


def within(path: str, text: str) -> str:
    """Text of the messages around."""
    for name in reversed(path.split(".")):
        text = f"{name} {{{text}}}"
    return text


def translated(door: Door, request: str, text: str) -> Any:
    """What a door makes of a request, to compare. Raises InvalidRequestError."""
    kind = {"RecognizeRequest": "Recognize", "StreamingRecognizeRequest": "StreamingRecognize"}[request]
    message: Message = getattr(door.module, request)()
    text_format.Parse(text, message)
    translate = ROUTES[f"{door.name}.{kind}"].method.translate
    assert translate is not None
    return translate(message)


@pytest.mark.parametrize(("door", "name"), FIELDS, ids=lambda one: getattr(one, "name", one))
def test_a_field_does_what_the_page_says(door: Door, name: str) -> None:
    request, _, path = name.partition(".")
    types, told = door.module.DESCRIPTOR.message_types_by_name, effect(door, name)
    if request in door.requests:
        if path in (door.recording, door.stream) or request not in ("RecognizeRequest", "StreamingRecognizeRequest"):
            return  # what is in it is tried by itself; what has no translation, with the real client
        around = ""
        if request == "StreamingRecognizeRequest" and path == "id":
            around = "audio_content: 'ab' "
        without, with_it = SET[door.name].get(name, (around, around + nested(types[request], path)))
        cases = [(request, without, with_it, path)]
    else:
        without, with_it = SET[door.name].get(name, ("", nested(types["RecognitionConfig"], name)))
        cases = [
            (request, within(prefix, without), within(prefix, with_it), f"{prefix}.{name}")
            for request, prefix in (("RecognizeRequest", door.recording), ("StreamingRecognizeRequest", door.stream))
        ]
    changed = []
    for kind, before, after, full in cases:
        if told == REFUSED:
            translated(door, kind, before)
            with pytest.raises(InvalidRequestError) as refused:
                translated(door, kind, after)
            assert full.startswith(refused.value.field), refused.value.field
        else:
            changed.append(translated(door, kind, after) != translated(door, kind, before))
    assert any(changed) == (told == USED)


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.method.load is not Load.CALL])
def test_an_empty_request_is_one(name: str) -> None:
    method = ROUTES[name].method
    assert method.translate is not None
    message = method.request._concrete_class()  # type: ignore[attr-defined]
    assert method.translate(message) == method.translate(message)
