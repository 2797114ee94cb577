"""Methods of `carryover.v1` in JSON, as the Connect protocol has them: POST /carryover.v1.SERVICE/METHOD."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from server.access import Caller
from server.codec.wire import SMALL_BYTES, Reader
from server.errors import InvalidRequestError
from server.http.calls import Calls, Exchange
from server.http.errors import connect_error
from server.methods import Load, Method
from server.scheduler import Scheduler, Work

JSON_BYTES = 2
"""A message in JSON may have so many times the bytes that it may have on gRPC's wire."""

_DEPTH = 20
_BASE64 = re.compile("[A-Za-z0-9+/_-]*={0,2}")
"""With either alphabet, padded or not, as protobuf's JSON takes it."""
_PLACE = re.compile(r'no field named "(\w{1,64})"|Failed to parse (\w{1,64}) field')


class JsonCalls:
    """Answers the methods that take one message and give one.

    Args:
        methods: those of `carryover.v1`.
        services: that answer them, by the name of the service.
    """

    def __init__(
        self, methods: Iterable[Method], services: Mapping[str, object], calls: Calls, scheduler: Scheduler
    ) -> None:
        self._methods = [replace(one, name=f"http.{one.name}") for one in methods if one.load is not Load.STREAM]
        self._services = services
        self._calls = calls
        self._scheduler = scheduler

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post(method.path, self._calls.handler(method, partial(self._answer, method), connect_error))
            for method in self._methods
        ]

    async def _answer(self, method: Method, exchange: Exchange, caller: Caller) -> web.Response:
        request = exchange.request
        if request.content_type != "application/json":
            raise InvalidRequestError("content-type", "send application/json")
        bounds = method.bounds
        data = await self._calls.body(request, JSON_BYTES * bounds.bytes, bounds.limit or "request_bytes")
        message = await parsed(method, data, self._scheduler, caller)
        del data
        service, name = method.path.strip("/").split("/")
        response = await getattr(self._services[service], name)(message, caller)
        return web.json_response(as_json(response))


async def parsed(method: Method, data: bytes | str, scheduler: Scheduler, caller: Caller) -> Any:
    """A method's message, within its bounds; what is not small is not parsed on the event loop.

    Raises:
        InvalidRequestError: it is no such message.
        LimitError: it is too large.
    """
    parse: Callable[[], Any] = partial(_parse, Reader(method.request, method.bounds), method, data)
    if len(data) <= SMALL_BYTES:
        return parse()
    return await scheduler.run(Work.PARSE, parse, tenant=caller.tenant)


def as_json(message: Message) -> dict[str, Any]:
    """A message as JSON has it, with the names of fields as they stand in the .proto file."""
    made: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return made


def _check_bytes(descriptor: Descriptor, values: Mapping[str, object]) -> None:
    """Raise InvalidRequestError for bytes that are no base64, of which json_format would leave out what is none."""
    for field in descriptor.fields:
        for name in {field.name, field.json_name} if field.type == FieldDescriptor.TYPE_BYTES else ():
            text = values.get(name, "")
            if isinstance(text, str) and (_BASE64.fullmatch(text) is None or len(text.rstrip("=")) % 4 == 1):
                raise InvalidRequestError(name, "is no base64; send the bytes in it, without line breaks")


def _parse(reader: Reader, method: Method, data: bytes | str) -> Any:
    message = GetMessageClass(method.request)()
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise json_format.ParseError
        _check_bytes(method.request, values)
        json_format.ParseDict(values, message, max_recursion_depth=_DEPTH)
    except (json_format.ParseError, ValueError, OverflowError, RecursionError) as error:
        place = _PLACE.search(str(error))
        where = f", near {place[1] or place[2]}" if place else ""
        raise InvalidRequestError("request", f"is no {method.request.full_name} in JSON{where}") from None
    return reader.read(message.SerializeToString())
