"""All that the HTTP port answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from server.context_service import ContextService
from server.guard import Guard
from server.http.calls import Calls
from server.http.health import health_route, metrics_route
from server.http.json_calls import JsonCalls
from server.http.json_stream import JsonStream
from server.http.page_files import page_routes
from server.http.realtime import Realtime
from server.http.recordings import Recordings
from server.methods import Method
from server.metrics import Metrics
from server.recognizer_service import RecognizerService
from server.scheduler import Scheduler
from server.settings import Limits


def http_routes(
    methods: Sequence[Method],
    recognizer: RecognizerService,
    contexts: ContextService,
    guard: Guard,
    scheduler: Scheduler,
    limits: Limits,
    metrics: Metrics | None,
    draining: Callable[[], bool],
) -> list[web.AbstractRouteDef]:
    """The routes of a server.

    Args:
        methods: of `carryover.v1`.
        metrics: for who asks; None: for nobody.
    """
    calls = Calls(guard, limits)
    services: Mapping[str, object] = {
        "carryover.v1.Recognizer": recognizer,
        "carryover.v1.Context": contexts,
    }
    named = {method.name: method for method in methods}
    stream, record = named["StreamingRecognize"], named["RecordEvents"]
    return [
        *page_routes(),
        health_route(draining),
        *([metrics_route(metrics.registry)] if metrics is not None else []),
        *JsonCalls(methods, services, calls, scheduler).routes(),
        JsonStream(stream, recognizer, calls, scheduler, limits).route(),
        Realtime(stream, record, recognizer, contexts, calls, scheduler, limits).route(),
        *Recordings(recognizer, calls, limits).routes(),
    ]
