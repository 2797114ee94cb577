"""Health and metrics over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


def health_route(draining: Callable[[], bool]) -> web.RouteDef:
    """GET /health, for everybody: 200 while calls are taken, 503 while the server drains."""

    async def health(request: web.Request) -> web.Response:
        if draining():
            return web.json_response({"status": "draining"}, status=503)
        return web.json_response({"status": "serving"})

    return web.get("/health", health)


def metrics_route(registry: CollectorRegistry) -> web.RouteDef:
    """GET /metrics, for Prometheus."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return web.get("/metrics", metrics)
