"""What every call has in common, whatever protocol it comes over.

Who calls, quotas, request id, refusal while draining, statuses of errors, one log line, metrics, a span.
"""

from __future__ import annotations

import re
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import grpc

from server import logs, tracing
from server.access import Access, Caller
from server.errors import DrainingError, retry_hint, status_of
from server.memory import MemoryQuota, Trim
from server.methods import Load, Method
from server.metrics import Metrics
from server.quota import Quota

GONE = (grpc.aio.BaseError, ConnectionResetError)
"""Errors of gRPC and of sockets: the client has left, or the server was closed. There is nobody to tell."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Sender:
    """Whom a call comes from, as its connection and its metadata say."""

    metadata: Metadata
    """gRPC's, or HTTP's headers; names in lower case."""
    names: Sequence[str] = ()
    """Those in the client's certificate."""

    @property
    def request_id(self) -> str:
        """The client's x-request-id where it has one that can be logged, else a new one."""
        for key, value in self.metadata:
            if key == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
                return value
        return secrets.token_hex(8)


class CallError(Exception):
    """A call ended with an error, which has been logged and counted.

    Args:
        code: its status.
        message: for the client.
        error: what it was, without its traceback.
        known: whether its caller is known.
    """

    def __init__(self, code: grpc.StatusCode, message: str, error: Exception, *, known: bool) -> None:
        super().__init__(message)
        self.code, self.message, self.error, self.known = code, message, error, known

    @property
    def hint(self) -> tuple[tuple[str, str], ...]:
        """When to retry, as gRPC's trailing metadata say it."""
        return retry_hint(self.error)


class Guard:
    """Stands before the services.

    Args:
        draining: asked at the start of each call; True refuses it with UNAVAILABLE.
        access: authenticates the caller.
        calls: quota of calls that are not about audio.
        streams: quota of those that are.
        recordings: the memory of calls with a recording.
        trim: is called after those.
    """

    def __init__(
        self,
        draining: Callable[[], bool],
        access: Access,
        metrics: Metrics,
        calls: Quota,
        streams: Quota,
        recordings: MemoryQuota,
        trim: Trim,
    ) -> None:
        self._draining = draining
        self._access = access
        self._metrics = metrics
        self._calls = calls
        self._streams = streams
        self._recordings = recordings
        self._trim = trim

    def caller(self, sender: Sender) -> Caller:
        """Who calls. Raises UnauthenticatedError."""
        return self._access.caller(sender.metadata, sender.names)

    @asynccontextmanager
    async def call(self, method: Method, sender: Sender, request_id: str) -> AsyncIterator[Caller]:
        """Around a call of a known caller within its quota.

        Raises:
            CallError: the call, or what is inside, ended with an error.
        """
        notes = logs.begin_call(request_id)
        span = tracing.begin_call(method.path, sender.metadata, request_id)
        started = time.monotonic()
        code = grpc.StatusCode.CANCELLED  # unless something else is known in the end
        caller: Caller | None = None
        failure: CallError | None = None
        try:
            if self._draining():
                raise DrainingError("the server is shutting down; retry on another replica")
            caller = self.caller(sender)
            logs.note(tenant=caller.tenant)
            async with self._within_quota(method, caller):
                yield caller
            code = grpc.StatusCode.OK
        except GONE:
            raise
        except Exception as error:
            code, message = status_of(error)
            if code is grpc.StatusCode.INTERNAL:
                logs.failure("call_failed", error, method=method.name)
            traceback.clear_frames(error.__traceback__)  # gRPC keeps the error for a while: not with a recording in it
            failure = CallError(code, message, error.with_traceback(None), known=caller is not None)
        finally:
            seconds = time.monotonic() - started
            self._metrics.calls.labels(method.name, code.name).inc()
            self._metrics.call_seconds.labels(method.name).observe(seconds)
            if caller is not None:
                self._metrics.tenant_calls.labels(self._metrics.tenant(caller.tenant), code.name).inc()
            logs.event("call", method=method.name, code=code.name, duration_ms=round(seconds * 1000, 1), **notes)
            tracing.end_call(span, code, notes)
        if failure is not None:
            raise failure

    @contextmanager
    def stream(self, caller: Caller) -> Iterator[None]:
        """Around a stream of a caller: it takes a place in the quota of those. Raises LimitError."""
        with self._streams.one(caller.tenant), self._metrics.stream(caller.tenant):
            yield

    @asynccontextmanager
    async def _within_quota(self, method: Method, caller: Caller) -> AsyncIterator[None]:
        if method.load is Load.SESSION:
            yield
        elif method.load in (Load.STREAM, Load.RECORDING):
            with self.stream(caller):
                if method.load is Load.RECORDING:
                    try:
                        async with self._recordings.reserved(caller.tenant, method.memory_bytes):
                            yield
                    finally:
                        self._trim.soon()
                else:
                    yield
        else:
            with self._calls.one(caller.tenant):
                yield
