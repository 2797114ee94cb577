"""What every call has in common: who calls, request id, refusal while draining, statuses of errors, one log line."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from typing import Any

import grpc
from google.protobuf import descriptor_pool

from server import logs, tracing
from server.access import Access, Caller, certificate_names
from server.errors import DrainingError, IdleError, InvalidRequestError, retry_hint, status_of
from server.metrics import Metrics
from server.places import Places
from server.wire import Malformed, reader

PACKAGE = "carryover.v1."
_AUDIO = f"/{PACKAGE}Recognizer/"
_FIRST_S = 1.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps the handlers of the `carryover.v1` services; health and reflection pass untouched.

    The handlers are given a `Caller` where gRPC would give its context. draining: asked at the start of each call; True
    refuses it with UNAVAILABLE. access: tells the caller. idle_s: seconds after which a client that does not read its
    results loses its stream. calls: places of calls that are not about audio (those are counted as streams).
    """

    def __init__(
        self, draining: Callable[[], bool], access: Access, metrics: Metrics, idle_s: float, calls: Places
    ) -> None:
        self._draining = draining
        self._access = access
        self._metrics = metrics
        self._idle_s = idle_s
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        _, service, name = method.split("/")
        if handler is None or not service.startswith(PACKAGE):
            return handler
        descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name].input_type
        deserializer = reader(handler.request_deserializer, descriptor)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(handler.stream_stream, method), deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(handler.unary_unary, method), deserializer, handler.response_serializer
        )

    def _unary(
        self, serve: Callable[[Any, Caller], Awaitable[Any]], method: str
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            async with self._guard(context, method, None) as caller:
                with self._place(method, caller):
                    return await serve(_checked(request), caller)

        return call

    def _place(self, method: str, caller: Caller) -> AbstractContextManager[None]:
        return nullcontext() if method.startswith(_AUDIO) else self._calls.one(caller.tenant)

    def _stream(
        self, serve: Callable[[Any, Caller], AsyncIterator[Any]], method: str
    ) -> Callable[[Any, Any], Awaitable[None]]:
        async def call(requests: AsyncIterator[Any], context: Any) -> None:
            accepted = False

            async def accept() -> None:
                """Says that the first message is accepted, once: clients may wait for it."""
                nonlocal accepted
                if not accepted:
                    accepted = True
                    await context.send_initial_metadata((("x-request-id", logs.REQUEST_ID.get()),))

            async def checked() -> AsyncIterator[Any]:
                async for request in requests:
                    yield _checked(request)
                    await accept()  # who asks for the second message has accepted the first

            async with (
                self._guard(context, method, requests) as caller,
                aclosing(serve(checked(), caller)) as responses,  # type: ignore[type-var]
            ):
                async for response in responses:
                    await accept()
                    await self._write(context, response)

        return call

    async def _write(self, context: Any, response: Any) -> None:
        try:
            async with asyncio.timeout(self._idle_s):  # gRPC itself waits as long as the connection lives
                await context.write(response)
        except TimeoutError:
            advice = f"no result was read for {self._idle_s:g} s; read results as they come"
            raise IdleError(f"{advice} (the server's setting is limits.idle_seconds)") from None

    @asynccontextmanager
    async def _guard(self, context: Any, method: str, requests: AsyncIterator[Any] | None) -> AsyncIterator[Caller]:
        """Around a call. requests: a stream's messages."""
        request_id, name = _request_id(context), method.rpartition("/")[2]
        notes = logs.begin_call(request_id)
        span = tracing.begin_call(method, context.invocation_metadata() or (), request_id)
        context.set_trailing_metadata((("x-request-id", request_id),))
        started = time.monotonic()
        code, refusal = grpc.StatusCode.CANCELLED, ""  # unless something else is known in the end
        trailing = [("x-request-id", request_id)]
        caller: Caller | None = None
        try:
            if self._draining():
                raise DrainingError("the server is shutting down; retry on another replica")
            names = certificate_names(context.auth_context())
            caller = self._access.caller(context.invocation_metadata() or (), names)
            logs.note(tenant=caller.tenant)
            yield caller
            code = grpc.StatusCode.OK
        except grpc.aio.BaseError:  # gRPC's own: the client is gone, or the server was closed
            raise
        except Exception as error:
            code, refusal = status_of(error)
            trailing += retry_hint(error)
            if code is grpc.StatusCode.INTERNAL:
                logs.failure("call_failed", error, method=name)
        finally:
            seconds = time.monotonic() - started
            self._metrics.calls.labels(name, code.name).inc()
            self._metrics.call_seconds.labels(name).observe(seconds)
            if caller is not None:
                self._metrics.tenant_calls.labels(self._metrics.tenant(caller.tenant), code.name).inc()
            logs.event("call", method=name, code=code.name, duration_ms=round(seconds * 1000, 1), **notes)
            tracing.end_call(span, code, notes)
        if code is not grpc.StatusCode.OK:  # last: who reads nothing does not take its status either
            context.set_trailing_metadata(trailing)
            if caller is None and requests is not None:
                await _take_first(requests)
            await context.abort(code, refusal)


async def _take_first(requests: AsyncIterator[Any]) -> None:
    """Waits for the message that a client sends as it calls, or not for long: gRPC's asyncio client loses the status of
    a call that is refused while its message is on its way."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_S):
            await anext(requests, None)


def _checked(request: Any) -> Any:
    if isinstance(request, Malformed):
        raise InvalidRequestError(request.field, request.advice)
    return request


def _request_id(context: Any) -> str:
    """The client's x-request-id where it has one that can be logged, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(8)
