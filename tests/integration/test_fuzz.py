"""Whatever is sent, or written into a file: a status or a result that was designed, never INTERNAL, never a hang."""

from __future__ import annotations

import io
import json
import re
import string
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import soundfile
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio import MAX_CHANNELS, read_container
from asr.commands.rescore_nbest import rescore
from asr.context.checkpoint import ContextModels
from asr.errors import AsrError, AudioError, AudioLengthError
from carryover.v1 import context_pb2, recognizer_pb2
from server.access import read_keys
from server.settings import ConfigError, Settings, load_settings

SERVICES = (
    recognizer_pb2.DESCRIPTOR.services_by_name["Recognizer"],
    context_pb2.DESCRIPTOR.services_by_name["Context"],
)
METHODS = [method for service in SERVICES for method in service.methods]
NOT_DESIGNED = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)
DEADLINE_S = 30.0
FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
INTERESTING = st.sampled_from(["", "a", "d", "1", "#", "meg bauer", "é", "\u2028", "x" * 300, "contacts", "\x00"])
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([0, 1, 8000, 16_000]) | st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}  # fmt: skip


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of one field."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        assert field.message_type is not None
        return messages(field.message_type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return st.integers(0, 12)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.one_of(st.binary(max_size=2000), st.integers(1, 4).map(lambda n: bytes(640 * n)))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.one_of(INTERESTING, st.text(st.characters(codec="utf-8"), max_size=20))
    return NUMBERS[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """Any message of a type."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[draw(INTERESTING)] = draw(INTERESTING)
        elif field.is_repeated:
            for value in draw(st.lists(values(field), max_size=4)):
                target = getattr(message, field.name)
                target.add().CopyFrom(value) if field.message_type else target.append(value)
        elif field.message_type:
            getattr(message, field.name).CopyFrom(draw(values(field)))
        else:
            setattr(message, field.name, draw(values(field)))
    return message


def call(replica: Any, method: Any, requests: list[bytes]) -> grpc.StatusCode:
    """The status of a call with these bytes."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            list(replica.channel.stream_stream(path)(iter(requests), timeout=DEADLINE_S))
        else:
            replica.channel.unary_unary(path)(requests[0], timeout=DEADLINE_S)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_messages(shared: Any, method: Any) -> None:
    @FUZZ
    @given(st.lists(messages(method.input_type), min_size=1, max_size=4))
    def check(sent: list[Message]) -> None:
        assert call(shared, method, [message.SerializeToString() for message in sent]) not in NOT_DESIGNED

    check()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_any_bytes(shared: Any, method: Any) -> None:
    @FUZZ
    @given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3))
    def check(sent: list[bytes]) -> None:
        assert call(shared, method, sent) not in NOT_DESIGNED

    check()


def test_any_audio_after_a_good_configuration(shared: Any) -> None:
    method = SERVICES[0].methods_by_name["StreamingRecognize"]
    encodings = st.sampled_from([recognizer_pb2.LINEAR16, recognizer_pb2.FLOAT32, recognizer_pb2.MULAW])

    @FUZZ
    @given(encodings, st.sampled_from([8000, 16_000, 44_100]), st.lists(st.binary(max_size=4000), max_size=6))
    def check(encoding: Any, rate: int, audio: list[bytes]) -> None:
        config = recognizer_pb2.StreamingConfig(encoding=encoding, sample_rate_hertz=rate, interim_results=True)
        sent = [recognizer_pb2.StreamingRecognizeRequest(config=config).SerializeToString()]
        sent += [recognizer_pb2.StreamingRecognizeRequest(audio=piece).SerializeToString() for piece in audio]
        assert call(shared, method, sent) not in NOT_DESIGNED

    check()


def container(kind: str, samples: Any, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_damaged_containers(kind: str) -> None:
    whole = container(kind, 0.1 * np.sin(np.arange(4000) / 7))

    @FUZZ
    @given(st.data())
    def check(data: st.DataObject) -> None:
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 6))):
            place = data.draw(st.integers(0, min(len(damaged) - 1, 200)) | st.integers(0, len(damaged) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(1, len(damaged)))
        try:
            samples, rate = read_container(bytes(damaged[:cut]), 10.0)
        except AudioError:
            return
        assert 0 < len(samples) <= 10 * rate + 1 and np.isfinite(samples).all()

    check()


def test_a_small_file_of_much_audio_is_not_unpacked(shared: Any) -> None:
    """Half an hour of silence in a few kilobytes of FLAC: refused by its length, before anything is decoded."""
    data = container("FLAC", np.zeros(1800 * 16_000, np.int16))
    assert len(data) < 500_000
    with pytest.raises(AudioLengthError, match="longer than 20 s"):
        read_container(data, 20.0)
    method = SERVICES[0].methods_by_name["Recognize"]
    request = recognizer_pb2.RecognizeRequest(audio=data).SerializeToString()
    assert call(shared, method, [request]) is grpc.StatusCode.RESOURCE_EXHAUSTED
    many = container("WAV", np.zeros((100, MAX_CHANNELS + 1)))
    with pytest.raises(AudioError, match="channels"):
        read_container(many)


FIELDS = st.sampled_from(["id", "context", "entities", "nbest", "speaker", "text", "type", "score", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


class Models:
    """An encoder and a rescorer that take what they are given."""

    model_version = "none"

    def encode(self, context: Any) -> Any:
        return context

    def rescore(self, nbest: Any, embedding: Any, force_score: Any, index: Any) -> Any:
        from asr.context.types import Rescored

        return Rescored(tuple(nbest))


def test_any_line_of_an_nbest_file() -> None:
    reading = st.fixed_dictionaries({"text": st.text(max_size=10)}, optional={"score": JSON})
    line = st.fixed_dictionaries(
        {"nbest": st.lists(reading, max_size=3) | JSON}, optional={"id": JSON, "context": JSON, "entities": JSON}
    )

    @FUZZ
    @given(line)
    def check(value: dict[str, Any]) -> None:
        try:
            made = rescore(json.loads(json.dumps(value)), ContextModels(cast(Any, Models()), cast(Any, Models())))
        except AsrError:
            return
        assert sorted(entry["text"] for entry in made["nbest"]) == sorted(entry["text"] for entry in value["nbest"])

    check()


def setting_paths() -> list[str]:
    """All settings, by their environment variables."""
    names = []
    for name, field in Settings.model_fields.items():
        parts = getattr(field.annotation, "model_fields", None)
        names += [f"{name}__{part}" for part in parts] if parts else [name]
    return names


def test_any_environment() -> None:
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.integers().map(str)
    names = st.sampled_from(setting_paths()) | st.text(string.ascii_lowercase + "_", max_size=12)

    @FUZZ
    @given(st.dictionaries(names.map(lambda name: f"CARRYOVER_{name.upper()}"), text, max_size=4))
    def check(environ: dict[str, str]) -> None:
        with suppress(ConfigError):
            assert isinstance(load_settings(None, {}, environ), Settings)

    check()


def test_any_file_of_keys(tmp_path: Path) -> None:
    words = st.sampled_from(
        ["acme", "a#b", "ACME", "sha256:", "sha256:" + "0" * 64, "cert:a.example", "cert:", "é", "\x85"]
    )
    file = tmp_path / "keys"

    @FUZZ
    @given(st.lists(st.lists(words | st.text(max_size=5), max_size=4).map(" ".join), max_size=4), st.binary(max_size=9))
    def check(lines: list[str], tail: bytes) -> None:
        file.write_bytes("\n".join(lines).encode(errors="replace") + tail)
        with suppress(ConfigError):
            assert all(re.fullmatch(r"[a-z0-9_-]+", tenant) for tenant in read_keys(file).values())

    check()


def test_any_configuration_file(tmp_path: Path) -> None:
    good = (
        "port = 1\n[model]\nbeam = 4\n[limits]\nstreams = 3\n[store]\nendpoint = 'local'\n[access]\nreflection = true\n"
    )
    alphabet = st.sampled_from("[]='\"\n.#{}0a_-\x00é")

    @FUZZ
    @given(st.lists(st.tuples(st.integers(0, len(good)), alphabet), max_size=5), st.binary(max_size=20))
    def check(changes: list[tuple[int, str]], tail: bytes) -> None:
        text = good
        for place, character in changes:
            text = text[:place] + character + text[place:]
        file = tmp_path / "c.toml"
        file.write_bytes(text.encode() + tail)
        with suppress(ConfigError):
            assert isinstance(load_settings(file, {}, {}), Settings)

    check()
    assert tomllib.loads(good)["port"] == 1
