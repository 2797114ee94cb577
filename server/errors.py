"""Errors of a request, and the gRPC status of everything that may go wrong.

    RequestError
    ├── InvalidRequestError    INVALID_ARGUMENT     names the field and what to change
    ├── UnauthenticatedError   UNAUTHENTICATED      says what to send
    ├── NotFoundError          NOT_FOUND
    ├── LimitError             RESOURCE_EXHAUSTED   names the limit and what to change
    ├── IdleError              DEADLINE_EXCEEDED    the client sent nothing for too long
    ├── DrainingError          UNAVAILABLE          the server is going away
    ├── UnsupportedError       UNIMPLEMENTED        a method of another protocol that does not exist here
    ├── AbandonedError         ABORTED              as IdleError, in protocols that say it so
    └── TooLongError           OUT_OF_RANGE         as LimitError of a stream's length, in protocols that say it so

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

    Args:
        field: its name in the .proto file.
        advice: what is wrong with it and what to change.
    """

    def __init__(self, field: str, advice: str) -> None:
        super().__init__(f"{field}: {advice}")
        self.field, self.advice = field, advice


class UnauthenticatedError(RequestError):
    """The call has no credentials, or unknown ones."""


class NotFoundError(RequestError):
    """What the request names does not exist."""


class LimitError(RequestError):
    """The request, or all requests together, exceed a limit of the configuration.

    Args:
        limit: the setting's name in `Limits`.
        advice: what exceeds it and what to change.
        retry_ms: when the same request may succeed, milliseconds; None: never, it must be changed.
        field: what exceeds it, by its name in the .proto file; None: no field alone does.
    """

    def __init__(self, limit: str, advice: str, retry_ms: int | None = None, field: str | None = None) -> None:
        named = advice if field is None else f"{field}: {advice}"
        super().__init__(f"{named} (the server's setting is limits.{limit})")
        self.limit, self.advice = limit, advice
        self.retry_ms = retry_ms
        self.field = field


class IdleError(RequestError):
    """The client sent nothing for too long."""


class DrainingError(RequestError):
    """The server takes no new calls."""


class UnsupportedError(RequestError):
    """The protocol has the method, this server has not."""


class AbandonedError(RequestError):
    """A stream ends because its client sent nothing for too long, where the protocol says ABORTED."""


class TooLongError(RequestError):
    """A stream ends because it is too long, where the protocol says OUT_OF_RANGE."""


_STATUS: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    IdleError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DrainingError: grpc.StatusCode.UNAVAILABLE,
    AbandonedError: grpc.StatusCode.ABORTED,
    TooLongError: grpc.StatusCode.OUT_OF_RANGE,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
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

RETRY_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata that tells a client when to retry (gRPC proposal A6), which gRPC's own retries obey."""

STORE_RETRY_MS = 1000

UNEXPECTED = "an error inside the server; it is logged with this request's x-request-id"


def retry_hint(error: Exception) -> tuple[tuple[str, str], ...]:
    """Trailing metadata that says when to retry after errors of load or size: milliseconds, -1 for never."""
    if isinstance(error, LimitError):
        return ((RETRY_KEY, str(-1 if error.retry_ms is None else error.retry_ms)),)
    if isinstance(error, TooLargeError):
        return ((RETRY_KEY, "-1"),)
    if isinstance(error, StoreUnavailableError):
        return ((RETRY_KEY, str(STORE_RETRY_MS)),)
    return ()


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and message for a client. An unexpected error is INTERNAL, and its message stays in the server."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind], f"audio: {error}" if kind is AudioError else str(error)
    return grpc.StatusCode.INTERNAL, UNEXPECTED
