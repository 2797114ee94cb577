"""The way from a path on the wire to a door's handler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from server.access import Caller
from server.methods import Load, Method


@dataclass(frozen=True)
class Route:
    """A method of another protocol and what answers it."""

    method: Method
    serve: Callable[[Any, Caller], Awaitable[Any]] | Callable[[AsyncIterator[Any], Caller], AsyncIterator[Any]]
    """Takes what `method.translate` makes of the request, or of each message of a stream."""

    def handler(self) -> Any:
        """As gRPC takes it."""
        make: Any = (
            grpc.stream_stream_rpc_method_handler
            if self.method.load is Load.STREAM
            else grpc.unary_unary_rpc_method_handler
        )
        return make(self.serve, response_serializer=_serialized)


class Handlers(grpc.GenericRpcHandler):
    """All routes, for a gRPC server."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._handlers = {route.method.path: route.handler() for route in routes}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a path; None: it is not a door's."""
        return self._handlers.get(handler_call_details.method)


def descriptor(message: type[Message]) -> Descriptor:
    """Of a type of message."""
    return cast(Descriptor, message.DESCRIPTOR)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
