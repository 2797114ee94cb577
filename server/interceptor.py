"""What every call has in common: who calls, request id, refusal while draining, statuses of errors, one log line."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import grpc
from google.protobuf import descriptor_pool

from server import logs, tracing
from server.access import Access, Caller, certificate_names
from server.errors import DrainingError, InvalidRequestError, retry_hint, status_of
from server.metrics import Metrics
from server.wire import Malformed, reader

PACKAGE = "carryover.v1."
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps the handlers of the `carryover.v1` services; health and reflection pass untouched.

    The handlers are given a `Caller` where gRPC would give its context. draining: asked at the start of each call; True
    refuses it with UNAVAILABLE. access: tells the caller.
    """

    def __init__(self, draining: Callable[[], bool], access: Access, metrics: Metrics) -> None:
        self._draining = draining
        self._access = access
        self._metrics = metrics

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
            async with self._guard(context, method) as caller:
                return await serve(_checked(request), caller)

        return call

    def _stream(
        self, serve: Callable[[Any, Caller], AsyncIterator[Any]], method: str
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def call(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            answered = False

            async def checked() -> AsyncIterator[Any]:
                nonlocal answered
                async for request in requests:
                    yield _checked(request)
                    if not answered:  # who asks for the second message has accepted the first: clients may wait for it
                        answered = True
                        with suppress(grpc.aio.InternalError):  # the client is gone, as the next read will tell
                            await context.send_initial_metadata((("x-request-id", logs.REQUEST_ID.get()),))

            async with (
                self._guard(context, method) as caller,
                aclosing(serve(checked(), caller)) as responses,  # type: ignore[type-var]
            ):
                async for response in responses:
                    answered = True
                    yield response

        return call

    @asynccontextmanager
    async def _guard(self, context: Any, method: str) -> AsyncIterator[Caller]:
        request_id, name = _request_id(context), method.rpartition("/")[2]
        notes = logs.begin_call(request_id)
        span = tracing.begin_call(method, context.invocation_metadata() or (), request_id)
        context.set_trailing_metadata((("x-request-id", request_id),))
        started = time.monotonic()
        code = grpc.StatusCode.CANCELLED  # unless something else is known in the end
        caller: Caller | None = None
        try:
            if self._draining():
                raise DrainingError("the server is shutting down; retry on another replica")
            names = certificate_names(context.auth_context())
            caller = self._access.caller(context.invocation_metadata() or (), names)
            logs.note(tenant=caller.tenant)
            yield caller
            code = grpc.StatusCode.OK
        except grpc.aio.AbortError:
            code = context.code() or grpc.StatusCode.UNKNOWN
            raise
        except Exception as error:
            code, message = status_of(error)
            if code is grpc.StatusCode.INTERNAL:
                logs.failure("call_failed", error, method=name)
            context.set_trailing_metadata((("x-request-id", request_id), *retry_hint(error)))
            await context.abort(code, message)
        finally:
            seconds = time.monotonic() - started
            self._metrics.calls.labels(name, code.name).inc()
            self._metrics.call_seconds.labels(name).observe(seconds)
            if caller is not None:
                self._metrics.tenant_calls.labels(self._metrics.tenant(caller.tenant), code.name).inc()
            logs.event("call", method=name, code=code.name, duration_ms=round(seconds * 1000, 1), **notes)
            tracing.end_call(span, code, notes)


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
