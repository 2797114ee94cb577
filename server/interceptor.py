"""Every call over gRPC: through the guard, its messages read within their bounds, its status as gRPC sends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import grpc

from server import logs
from server.access import Caller, certificate_names
from server.codec.wire import SMALL_BYTES, Reader, is_compressed
from server.errors import IdleError, InvalidRequestError, RequestError, retry_hint, status_of
from server.guard import CallError, Guard, Sender
from server.memory import Trim
from server.methods import Load, Method
from server.pace import Pace
from server.quota import Quota
from server.scheduler import Scheduler, Work
from server.settings import Limits

_LARGE_BYTES = 1 << 20
_FIRST_S, _MOST_LEAVING = 1.0, 8
_PAUSE_S = 0.1


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps the handlers of all services.

    Before a call's first message is taken off the wire, its caller is authenticated and within the method's quota; its
    messages are read within the method's bounds.

    The handlers are given a `Caller` where gRPC would give its context. Public methods (health and reflection) are for
    everybody: they get gRPC's context, small messages, and a quota of their own.

    Args:
        methods: all that are served, by path.
        guard: stands before the services.
        limits: the bounds of messages, and how long a client may be idle.
        scheduler: parses messages that are not small.
        trim: is called for large ones.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        guard: Guard,
        limits: Limits,
        scheduler: Scheduler,
        trim: Trim,
    ) -> None:
        self._methods = methods
        self._guard = guard
        self._idle_s = limits.idle_seconds
        self._scheduler = scheduler
        self._trim = trim
        most = limits.public_calls
        self._public = Quota("public_calls", "calls of health and reflection are being answered", most, most)
        self._leaving = 0

    @property
    def public_calls(self) -> int:
        """Calls of health and reflection that are being answered now."""
        return self._public.running

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a method, guarded; gRPC calls this for each call."""
        handler: Any = await continuation(handler_call_details)
        method = self._methods.get(handler_call_details.method)
        if handler is None or method is None:  # gRPC says UNIMPLEMENTED
            return None
        reader = Reader(method.request, method.bounds, method.translate)
        if method.load is Load.PUBLIC:
            call = self._for_everybody(handler, reader)
        elif handler.stream_stream is not None:
            call = self._stream(handler.stream_stream, method, reader)
        else:
            call = self._unary(handler.unary_unary, method, reader)
        # gRPC would take the message of a unary method off the wire, whoever sends it, before it asks the handler
        return grpc.stream_stream_rpc_method_handler(call, None, handler.response_serializer)

    def _unary(
        self, serve: Callable[[Any, Caller], Awaitable[Any]], method: Method, reader: Reader
    ) -> Callable[[Any, Any], Awaitable[None]]:
        async def call(_: AsyncIterator[bytes], context: Any) -> None:
            async with self._guarded(context, method, stream=False) as caller:
                # no name here for the request: it may be large, and the handler is to let go of it
                response = await serve(await self._only(context, reader, caller.tenant), caller)
                await self._write(context, response)

        return call

    def _stream(
        self, serve: Callable[[Any, Caller], AsyncIterator[Any]], method: Method, reader: Reader
    ) -> Callable[[Any, Any], Awaitable[None]]:
        async def call(_: AsyncIterator[bytes], context: Any) -> None:
            accepted = begun = False

            async def accept() -> None:
                """Says that the first message is accepted, once: clients may wait for it."""
                nonlocal accepted
                if not accepted:
                    accepted = True
                    await context.send_initial_metadata((("x-request-id", logs.REQUEST_ID.get()),))

            async def read(tenant: str) -> AsyncIterator[Any]:
                nonlocal begun
                pace = Pace()
                while (data := await _message(context)) is not None:
                    begun = True
                    self._guard.caller(_sender(context))  # whose key may have been taken back since
                    await asyncio.sleep(pace.pause_s(len(data)))  # 0: others come in between
                    yield await self._read(reader, data, tenant)
                    await accept()  # who asks for the second message has accepted the first

            async def respond(responses: AsyncIterator[Any]) -> None:
                async for response in responses:
                    await accept()
                    await self._write(context, response)

            async with self._guarded(context, method, stream=True) as caller:
                try:
                    async with aclosing(serve(read(caller.tenant), caller)) as responses:  # type: ignore[type-var]
                        await respond(responses)
                except Exception as error:
                    if begun and not isinstance(error, grpc.aio.BaseError):
                        await _take_rest(context)
                    raise

        return call

    def _for_everybody(self, handler: Any, reader: Reader) -> Callable[[Any, Any], Awaitable[None]]:
        """A call that needs no key."""

        async def read(context: Any) -> AsyncIterator[Any]:
            pace = Pace()
            while (data := await self._next(context)) is not None:
                await asyncio.sleep(pace.pause_s(0))
                yield await self._read(reader, data, "")

        async def call(_: AsyncIterator[bytes], context: Any) -> None:
            try:
                with self._public.one(""):
                    if handler.stream_stream is not None:
                        async for response in handler.stream_stream(read(context), context):
                            await self._write(context, response)
                        return
                    request = await self._only(context, reader, "")
                    if handler.unary_stream is not None:
                        await handler.unary_stream(request, context)
                    else:
                        await self._write(context, await handler.unary_unary(request, context))
            except RequestError as error:
                code, refusal = status_of(error)
                context.set_trailing_metadata(retry_hint(error))
                await context.abort(code, refusal)

        return call

    async def _only(self, context: Any, reader: Reader, tenant: str) -> Any:
        """The one message of a call that has one. Raises IdleError, InvalidRequestError, LimitError."""
        data = await self._next(context)
        if data is None:
            raise InvalidRequestError("request", "is missing; send one message")
        return await self._read(reader, data, tenant)

    async def _next(self, context: Any) -> bytes | None:
        try:
            async with asyncio.timeout(self._idle_s):
                return await _message(context)
        except TimeoutError:
            advice = f"no message for {self._idle_s:g} s; send it with the call"
            raise IdleError(f"{advice} (the server's setting is limits.idle_seconds)") from None

    async def _read(self, reader: Reader, data: bytes, tenant: str) -> Any:
        """The message in `data`. What is not small is not read on the event loop."""
        if len(data) <= SMALL_BYTES and not is_compressed(data):
            return reader.read(data)
        if len(data) > _LARGE_BYTES or is_compressed(data):
            self._trim.soon()
        return await self._scheduler.run(Work.PARSE, reader.read, data, tenant=tenant)

    async def _write(self, context: Any, response: Any) -> None:
        try:
            async with asyncio.timeout(self._idle_s):  # gRPC itself waits as long as the connection lives
                await context.write(response)
        except TimeoutError:
            advice = f"no result was read for {self._idle_s:g} s; read results as they come"
            raise IdleError(f"{advice} (the server's setting is limits.idle_seconds)") from None

    @asynccontextmanager
    async def _guarded(self, context: Any, method: Method, *, stream: bool) -> AsyncIterator[Caller]:
        """Around a call. stream: of many messages."""
        sender = _sender(context)
        request_id = sender.request_id
        trailing = (("x-request-id", request_id),)
        context.set_trailing_metadata(trailing)
        failure: CallError | None = None
        try:
            async with self._guard.call(method, sender, request_id) as caller:
                yield caller
        except CallError as error:
            failure = error
        if failure is not None:  # last: who reads nothing does not take its status either
            context.set_trailing_metadata(trailing + failure.hint)
            if stream and not failure.known:
                await self._take_first(context)
            await context.abort(failure.code, failure.message)

    async def _take_first(self, context: Any) -> None:
        """Waits for the message that a client sends as it calls, or not for long.

        GRPC's asyncio client loses the status of a call that is refused while its message is on its way. Only for a few
        at once: they are strangers.
        """
        if self._leaving < _MOST_LEAVING:
            self._leaving += 1
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FIRST_S):
                        await _message(context)
            finally:
                self._leaving -= 1


async def _message(context: Any) -> bytes | None:
    """The next message as it came over the wire; None after the last.

    The iterator that gRPC gives would keep it.
    """
    data = await context.read()
    return None if data is grpc.aio.EOF else data


async def _take_rest(context: Any) -> None:
    """Takes off the wire what the client of a stream that ends with an error still sends, until it pauses.

    GRPC's asyncio client loses a status that comes while its message is on its way.
    """
    with suppress(TimeoutError, grpc.aio.BaseError):  # the latter where a message is waited for already
        async with asyncio.timeout(_FIRST_S):
            while True:
                async with asyncio.timeout(_PAUSE_S):
                    if await _message(context) is None:
                        return


def _sender(context: Any) -> Sender:
    return Sender(context.invocation_metadata() or (), certificate_names(context.auth_context()))
