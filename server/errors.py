"""Errors of a request, and the gRPC status of everything that may go wrong.

    RequestError
    ├── InvalidRequestError    INVALID_ARGUMENT     names the field and what to change
    ├── NotFoundError          NOT_FOUND
    ├── LimitError             RESOURCE_EXHAUSTED   names the limit and what to change
    ├── IdleError              DEADLINE_EXCEEDED    the client sent nothing for too long
    └── DrainingError          UNAVAILABLE          the server is going away

Messages are sent to the client as they are, so none of them holds a user's words.
"""

from __future__ import annotations

import grpc

from asr.errors import AsrError, AudioError, ContextError, ManifestError, ModelError, UnspellableError
from context_store import (
    InvalidEventError,
    PayloadClashError,
    StoreConfigError,
    StoreError,
    StoreUnavailableError,
    TamperedError,
    TooLargeError,
)


class RequestError(Exception):
    """Root of the errors that a client's request causes."""


class InvalidRequestError(RequestError):
    """A field of the request cannot be used.

    field: its name in the .proto file. advice: what is wrong with it and what to change.
    """

    def __init__(self, field: str, advice: str) -> None:
        super().__init__(f"{field}: {advice}")
        self.field = field


class NotFoundError(RequestError):
    """What the request names does not exist."""


class LimitError(RequestError):
    """The request, or the sum of all of them, is over a limit of the configuration.

    limit: the setting's name in `Limits`. advice: what is over it and what to change.
    """

    def __init__(self, limit: str, advice: str) -> None:
        super().__init__(f"{advice} (the server's setting is limits.{limit})")
        self.limit = limit


class IdleError(RequestError):
    """The client sent nothing for too long."""


class DrainingError(RequestError):
    """The server takes no new calls."""


_STATUS: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    IdleError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DrainingError: grpc.StatusCode.UNAVAILABLE,
    AudioError: grpc.StatusCode.INVALID_ARGUMENT,
    UnspellableError: grpc.StatusCode.INVALID_ARGUMENT,
    ContextError: grpc.StatusCode.INVALID_ARGUMENT,
    ManifestError: grpc.StatusCode.INVALID_ARGUMENT,
    ModelError: grpc.StatusCode.INTERNAL,
    AsrError: grpc.StatusCode.INTERNAL,
    TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    InvalidEventError: grpc.StatusCode.INVALID_ARGUMENT,
    PayloadClashError: grpc.StatusCode.INVALID_ARGUMENT,
    TamperedError: grpc.StatusCode.DATA_LOSS,
    StoreConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    StoreUnavailableError: grpc.StatusCode.UNAVAILABLE,
    StoreError: grpc.StatusCode.INTERNAL,
}

UNEXPECTED = "an error inside the server; it is logged with this request's x-request-id"


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and message for a client. An error that is not ours is INTERNAL and keeps its message to itself."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind], f"audio: {error}" if kind is AudioError else str(error)
    return grpc.StatusCode.INTERNAL, UNEXPECTED
