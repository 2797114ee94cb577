"""The statuses of `server.errors` as HTTP has them, and errors in the forms of the protocols on the HTTP port."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import grpc
from aiohttp import web

from server.errors import RETRY_KEY, InvalidRequestError, LimitError
from server.guard import CallError

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.DEADLINE_EXCEEDED: 408,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_NEVER = -1
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class NotAllowedError(Exception):
    """A request that is refused before it is a call.

    Args:
        status: HTTP's.
        message: says what to change.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Problem:
    """An error as it is told over HTTP."""

    status: int
    code: str
    """Name of gRPC's status, in lower case."""
    message: str
    field: str | None = None
    """What is wrong in the request, where it is one field."""
    retry_ms: int | None = None
    """When to retry; -1: never, the request must be changed. None: nothing is said about it."""

    @property
    def headers(self) -> dict[str, str]:
        """What says when to retry, for every client and for those of OpenAI."""
        if self.retry_ms is None:
            return {}
        if self.retry_ms == _NEVER:
            return {"x-should-retry": "false"}
        return {"retry-after": str(math.ceil(self.retry_ms / 1000)), "retry-after-ms": str(self.retry_ms)}


def problem_of(error: CallError) -> Problem:
    """The error that a call ended with."""
    retry_ms = int(dict(error.hint).get(RETRY_KEY, 0)) or None
    status = _STATUS.get(error.code, 500)
    if status == HTTPStatus.TOO_MANY_REQUESTS and retry_ms == _NEVER:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    field = error.error.field if isinstance(error.error, InvalidRequestError | LimitError) else None
    return Problem(status, error.code.name.lower(), error.message, field, retry_ms)


def openai_error(problem: Problem) -> dict[str, Any]:
    """As OpenAI's API tells errors."""
    kind = _TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return {"error": {"message": problem.message, "type": kind, "param": problem.field, "code": problem.code}}


def connect_error(problem: Problem) -> dict[str, Any]:
    """As the Connect protocol tells errors."""
    return {"code": problem.code, "message": problem.message}


def plain_error(problem: Problem) -> str:
    """For clients that show what comes."""
    return problem.message


Told = Callable[[Problem], Any]
"""A form of errors: what is sent as JSON, or as text where it is a string."""


def error_response(problem: Problem, told: Told) -> web.Response:
    """The response that tells an error."""
    body = told(problem)
    if isinstance(body, str):
        return web.Response(text=body, status=problem.status, headers=problem.headers)
    return web.json_response(body, status=problem.status, headers=problem.headers)
