"""Errors of the client, whose names say what to do about them.

| error, all of them a CarryoverError | when |
|---|---|
| ChangeRequestError | the request, or a setting of the client, cannot be used; `field` names it where one is known |
| CheckKeyError | the key or the certificate is missing, unknown or not enough |
| NotFoundError | what the request names is not there |
| RetryLaterError | nobody answers, or the server is busy or going away; `retry_after_s` where it said when |
| DeadlineError | the deadline passed, or a stream sent nothing for too long |
| NotReadyError | a context did not become ready; go on without it |
| AudioError | a file cannot be read, or there is no microphone |
| ServerError | a fault of the server's; report it with `request_id` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import grpc

_FIELD = re.compile(r"([a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*): ")
_NO_ANSWER = re.compile(
    r"(?:connections to all backends failing|failed to connect to all addresses); last error: (?:[A-Z_]+: )?"
    r"(?:ipv[46]:)?(?P<address>\S+): (?P<why>.+)", re.DOTALL
)  # fmt: skip
"""What gRPC itself says where it reaches no server."""
_PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata that says when to retry (gRPC proposal A6), -1 for never."""


class CarryoverError(Exception):
    """Root of the client's errors. The message says what to change.

    Args:
        message: for people.
        code: name of the gRPC status; None: no call was made.
        field: of the request, by its path in the .proto file; None: none is known.
        retry_after_s: when the same request may succeed, seconds; None: the server did not say.
        request_id: under which the server's logs have the call; None: it did not answer.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class ChangeRequestError(CarryoverError):
    """The request, or a setting of the client, cannot be used; repeating it does not help."""


class CheckKeyError(CarryoverError):
    """The key or the certificate is missing, unknown or not enough."""


class NotFoundError(CarryoverError):
    """What the request names is not there."""


class RetryLaterError(CarryoverError):
    """Nobody answers, or the server is busy or going away. The client has repeated the call where that is safe."""


class DeadlineError(CarryoverError):
    """The call's deadline passed, or the server heard nothing of the client for too long."""


class NotReadyError(CarryoverError):
    """A context did not become ready. Recognition goes on without it."""


class AudioError(CarryoverError):
    """A file cannot be read, or there is no microphone."""


class ServerError(CarryoverError):
    """A fault of the server's."""


_KINDS: dict[grpc.StatusCode, type[CarryoverError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: ChangeRequestError,
    grpc.StatusCode.OUT_OF_RANGE: ChangeRequestError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RetryLaterError,
    grpc.StatusCode.UNAUTHENTICATED: CheckKeyError,
    grpc.StatusCode.PERMISSION_DENIED: CheckKeyError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAVAILABLE: RetryLaterError,
    grpc.StatusCode.ABORTED: RetryLaterError,
    grpc.StatusCode.CANCELLED: RetryLaterError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def error_of(call: Any) -> CarryoverError:
    """The error that a call ended with. call: a `grpc.RpcError` with a status, of grpc or grpc.aio."""
    code, message = call.code(), call.details() or ""
    trailing = _texts(call.trailing_metadata() or ())
    kind, pushback = _KINDS.get(code, ServerError), trailing.get(_PUSHBACK, "")
    never = pushback.startswith("-") or "larger than max" in message  # the latter is gRPC's own, on either side
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and never:
        kind = ChangeRequestError
    field = _FIELD.match(message)
    if not trailing and (nobody := _NO_ANSWER.match(message)):
        message = (
            f"{nobody['address']} does not answer ({nobody['why']}): see that the server runs and listens there, and "
            "that client and server both have TLS, or neither"
        )
    return kind(
        message,
        code=code.name,
        field=field[1] if field and kind is ChangeRequestError else None,
        retry_after_s=int(pushback) / 1000 if pushback.isdecimal() else None,
        request_id=trailing.get("x-request-id"),
    )


def _texts(metadata: Iterable[Any]) -> dict[str, str]:
    return {name: value for name, value in metadata if isinstance(value, str)}
