"""Every method of every door goes through the guard, and whatever is sent to it, its status is one by design."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from server.access import make_key
from server.app import door_routes
from server.methods import Load, Method
from server.settings import Limits
from tests.integration.test_fuzz import DEADLINE_S, FUZZ, NOT_DESIGNED, messages

METHODS = [route.method for route in door_routes(cast(Any, None), Limits())]
TRANSLATED = [method for method in METHODS if method.translate is not None]
each = pytest.mark.parametrize("method", TRANSLATED, ids=lambda method: method.name)
Code = grpc.StatusCode


def call(replica: Any, method: Method, requests: list[bytes], **options: Any) -> tuple[grpc.StatusCode, str]:
    """The status of a call with these bytes, and what it says."""
    try:
        if method.load is Load.STREAM:
            list(replica.channel.stream_stream(method.path)(iter(requests), timeout=DEADLINE_S, **options))
        else:
            replica.channel.unary_unary(method.path)(requests[0], timeout=DEADLINE_S, **options)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return Code.OK, ""


def metric(replica: Any, name: str, **labels: str) -> float:
    return replica.server.metrics.registry.get_sample_value(f"carryover_{name}", labels) or 0.0


def test_keys_then_drain(workshop: Any, tmp_path: Path) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(access__keys_file=str(tmp_path / "keys"))
    for method in METHODS:
        assert call(replica, method, [b""])[0] is Code.UNAUTHENTICATED, method.path
        assert call(replica, method, [b""], metadata=[("x-goog-api-key", "co_no")])[0] is Code.UNAUTHENTICATED
        code, _ = call(replica, method, [b""], metadata=[("x-goog-api-key", secret)])
        assert code in (Code.OK, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED), method.path
        counted = metric(replica, "calls_total", method=method.name, code="UNAUTHENTICATED")
        assert counted == 2 and metric(replica, "calls_total", method=method.name, code=code.name) == 1
    replica.run(replica.server.drain())
    for method in METHODS:
        code, _ = call(replica, method, [b""], metadata=[("authorization", f"Bearer {secret}")])
        assert code is Code.UNAVAILABLE, method.path


def test_streams_and_recordings_share_the_quota_of_ours(workshop: Any) -> None:
    replica = workshop.start(limits__tenant_streams=1)
    with replica.call(lambda: replica.server.streams.one("default")):
        for method in TRANSLATED:
            code, says = call(replica, method, [b""])
            assert code is Code.RESOURCE_EXHAUSTED and "limits.tenant_streams" in says, method.path


def test_too_large(workshop: Any) -> None:
    replica = workshop.start(limits__message_bytes=1 << 16, limits__request_bytes=1 << 12, limits__audio_bytes=1 << 12)
    for method in METHODS:
        code, says = call(replica, method, [gzip.compress(b"\x0a" + b"\xff\xff\x3f" + bytes((1 << 20) - 1))])
        assert code is Code.RESOURCE_EXHAUSTED and "larger than" in says, method.path


def many(method: Method) -> Message:
    """A request with far too many phrases."""
    message: Any = method.request._concrete_class()  # type: ignore[attr-defined]
    config = message.streaming_config.config if method.load is Load.STREAM else message.config
    if method.name.startswith("google.v2"):
        phrases = config.adaptation.phrase_sets.add().inline_phrase_set.phrases
        for _ in range(10_000):
            phrases.add()
    else:
        config.speech_contexts.add().phrases.extend([""] * 20_000)
    return cast(Message, message)


def test_too_many_phrases(workshop: Any) -> None:
    replica = workshop.start(limits__phrases=10)
    for method in TRANSLATED:
        code, says = call(replica, method, [many(method).SerializeToString()])
        assert code is Code.RESOURCE_EXHAUSTED and "limits.phrases" in says, method.path


@each
def test_any_messages(shared: Any, method: Method) -> None:
    @FUZZ
    @given(st.lists(messages(method.request), min_size=1, max_size=4))
    def check(sent: list[Message]) -> None:
        assert call(shared, method, [message.SerializeToString() for message in sent])[0] not in NOT_DESIGNED

    check()


@each
def test_any_bytes(shared: Any, method: Method) -> None:
    @FUZZ
    @given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3))
    def check(sent: list[bytes]) -> None:
        assert call(shared, method, sent)[0] not in NOT_DESIGNED

    check()
