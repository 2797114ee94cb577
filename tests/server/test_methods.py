"""The guard serves what is in its table, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from carryover.v1 import context_pb2, recognizer_pb2
from server.app import door_routes
from server.interceptor import CallGuard
from server.methods import Load, own_methods
from server.settings import Limits

SERVICES: tuple[Any, ...] = (
    recognizer_pb2.DESCRIPTOR.services_by_name["Recognizer"],
    context_pb2.DESCRIPTOR.services_by_name["Context"],
)


class Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


async def serve(request: Any, caller: Any) -> Any:
    """Answers nothing."""


@pytest.mark.parametrize("known", [True, False])
def test_a_handler_without_a_row_is_not_served(known: bool) -> None:
    methods = {method.path: method for method in own_methods(SERVICES, Limits())} if known else {}
    nothing = cast(Any, None)
    guard = CallGuard(methods, nothing, Limits(), nothing, nothing)

    async def continuation(details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(cast(Any, serve))

    handler = asyncio.run(guard.intercept_service(continuation, Details("/carryover.v1.Context/DeleteDialogue")))
    assert (handler is not None) == known


def test_what_calls_count_to() -> None:
    methods = [*own_methods(SERVICES, Limits()), *(route.method for route in door_routes(cast(Any, None), Limits()))]
    paths, names = [method.path for method in methods], [method.name for method in methods]
    assert len({*paths}) == len(paths) and len({*names}) == len(names)
    for method in methods:
        last = method.path.rpartition("/")[2]
        wanted = {"Recognize": Load.RECORDING, "StreamingRecognize": Load.STREAM}.get(last, Load.CALL)
        assert method.load is wanted and bool(method.memory_bytes) == (wanted is Load.RECORDING), method.path
