"""Every error of every layer has a gRPC status of its own choosing, and none but ours shows its message."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from asr.errors import AsrError, AudioError
from context_store import InvalidEventError, StoreError, StoreUnavailableError, ThrottledError, TooLargeError
from server import errors


def family(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


ROOTS = (AsrError, StoreError, errors.RequestError)
LAYERS = [kind for root in ROOTS for kind in family(root) if kind not in ROOTS]


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_each_error_is_mapped_by_itself_or_by_a_parent_that_is_no_root(kind: type[Exception]) -> None:
    mapped = [parent for parent in kind.__mro__ if parent in errors._STATUS]
    assert mapped
    assert mapped[0] not in ROOTS


def test_what_a_client_is_told() -> None:
    cases = [
        (errors.InvalidRequestError("a.b", "do this"), "INVALID_ARGUMENT", "a.b: do this"),
        (errors.LimitError("nbest", "more"), "RESOURCE_EXHAUSTED", "more (the server's setting is limits.nbest)"),
        (errors.NotFoundError("no"), "NOT_FOUND", "no"),
        (errors.DrainingError("bye"), "UNAVAILABLE", "bye"),
        (errors.IdleError("hm"), "DEADLINE_EXCEEDED", "hm"),
        (AudioError("odd"), "INVALID_ARGUMENT", "audio: odd"),
        (InvalidEventError("text", "shorter"), "INVALID_ARGUMENT", "text: shorter"),
        (TooLargeError("text", "shorter"), "RESOURCE_EXHAUSTED", "text: shorter"),
        (StoreUnavailableError("again"), "UNAVAILABLE", "again"),
        (ThrottledError("later"), "UNAVAILABLE", "later"),
    ]  # fmt: skip
    for error, code, message in cases:
        assert errors.status_of(error) == (grpc.StatusCode[code], message)


def test_an_unexpected_error_keeps_its_message() -> None:
    for error in (ValueError("call meg"), KeyError("call meg"), RuntimeError("call meg")):
        code, message = errors.status_of(error)
        assert code is grpc.StatusCode.INTERNAL
        assert "meg" not in message
