"""Composition of a server, its start, drain and end."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from asr.context.checkpoint import ContextModels
from asr.context.encoder import ContextEncoder
from asr.context.rescorer import Rescorer
from asr.extras import install_hint
from asr.fitted import UnfittedWarning
from asr.recognition.recognizer import Recognizer
from carryover.v1 import context_pb2, context_pb2_grpc, recognizer_pb2, recognizer_pb2_grpc
from context_store import (
    ContextStore,
    StoreConfig,
    WrappingKey,
    kms_wrapping_key,
    load_or_create_key_file,
    local_wrapping_key,
)
from server import logs
from server.access import Access
from server.context_service import ContextService
from server.contexts.builder import ContextBuilder
from server.contexts.inline import InlineContexts
from server.contexts.manager import ContextManager
from server.contexts.rescoring import ContextRescoring
from server.contexts.store_threads import StoreThreads
from server.doors.google_v1 import GoogleV1Door
from server.doors.google_v2 import GoogleV2Door
from server.doors.riva import RivaDoor
from server.doors.routes import Handlers, Route
from server.guard import Guard
from server.interceptor import CallGuard
from server.memory import MemoryQuota, Trim
from server.methods import Method, own_methods, public_methods
from server.metrics import Metrics
from server.ports import PortError, address_of
from server.quota import Quota
from server.recognizer_service import RecognizerService
from server.scheduler import Scheduler, Work
from server.settings import ConfigError, Limits, Settings, StoreSettings
from server.tls import certificate_expiry, https_context, server_credentials

if TYPE_CHECKING:
    from server.http.listener import Listener

_SERVICES = (
    recognizer_pb2.DESCRIPTOR.services_by_name["Recognizer"],
    context_pb2.DESCRIPTOR.services_by_name["Context"],
)
SERVICES = tuple(service.full_name for service in _SERVICES)
_PUBLIC: tuple[Any, ...] = (
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
LIVENESS = "liveness"
"""Health of a server whose event loop runs, draining or not, for probes that restart what hangs."""

_POLL_S = 0.05
_CONNECTION_MS = 300_000
"""After this a client is asked to connect anew, so that it finds replicas that came since; its calls run on."""


@dataclass(frozen=True)
class Parts:
    """What a server is made of."""

    recognizer: Recognizer
    encoder: ContextEncoder
    rescorer: Rescorer
    store: ContextStore
    clock: Callable[[], float] = time.time
    """Seconds since 1970, for all that expires."""


def load_parts(settings: Settings, store: ContextStore) -> Parts:
    """Load the models that the settings name, in seconds. Raises ModelError."""
    model, context = settings.model, settings.context
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnfittedWarning)
        recognizer = Recognizer.load(
            model.weights,
            device=model.device,
            beam=model.beam,
            chunk_ms=model.chunk_ms,
            second_pass=model.second_pass,
            fitted=model.fitted,
        )
        models = ContextModels.load(context.weights, recognizer.models)
    for warning in caught:
        if not issubclass(warning.category, UnfittedWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            continue
        logs.event("models_not_fitted", level=logging.WARNING, what=str(warning.message))
    return Parts(recognizer=recognizer, encoder=models.encoder, rescorer=models.rescorer, store=store)


def store_config(server: Settings, local_endpoint: str | None = None) -> StoreConfig:
    """The store's configuration.

    Args:
        local_endpoint: URL of the store in this process, where the setting is "local".
    """
    settings = server.store
    local = settings.endpoint == "local"
    return StoreConfig(
        endpoint_url=local_endpoint if local else None if settings.endpoint == "aws" else settings.endpoint,
        region=settings.region,
        events_table=settings.events_table,
        payload_table=settings.payload_table,
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        max_connections=settings.threads,
        max_events=server.limits.events,
        ttl_s=settings.ttl_s,
        access_key_id="local" if local else None,
        secret_access_key="local" if local else None,
    )


def wrapping_key(settings: StoreSettings) -> WrappingKey:
    """The key that the settings name: KMS, a file, or one that lives with this process. Raises StoreConfigError."""
    if settings.kms_key:
        endpoint = None if settings.endpoint in ("aws", "local") else settings.endpoint
        return kms_wrapping_key(settings.kms_key, region=settings.region, endpoint_url=endpoint)
    return local_wrapping_key(load_or_create_key_file(settings.key_file) if settings.key_file else None)


def door_routes(recognizer: RecognizerService, limits: Limits) -> list[Route]:
    """The methods of all doors."""
    doors = (RivaDoor(recognizer, limits), GoogleV1Door(recognizer, limits), GoogleV2Door(recognizer, limits))
    return [route for door in doors for route in door.routes()]


class Server:
    """One replica. Make, `start`, `drain` and `close` it on one event loop. Raises ConfigError."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.metrics_tenants)
        self.draining = False
        self.metrics.streams_limit.set(settings.limits.streams)
        self.metrics.draining.set_function(lambda: self.draining)
        if settings.tls.certificate:
            self.metrics.certificate_expires.set_function(partial(certificate_expiry, settings.tls.certificate))
        self.access = Access(settings.access.keys_file, lambda tenant: self.contexts.forget_tenant(tenant))
        self._credentials = server_credentials(settings.tls) if settings.tls.certificate else None
        limits, model, context = settings.limits, settings.model, settings.context
        self.scheduler = Scheduler(
            parts.recognizer,
            workers=model.workers,
            metrics=self.metrics,
            max_batch=model.max_batch,
            batch_wait_s=model.batch_wait_ms / 1000,
            second_pass_wait_s=model.second_pass_wait_ms / 1000,
            late_s=context.shed_ms / 1000,
            pause_s=context.yield_ms / 1000,
        )
        most = limits.tenant_streams or limits.streams
        self.streams = Quota("streams", "streams are being recognised", limits.streams, most)
        self.calls = Quota("calls", "calls are being answered", None, limits.tenant_calls)
        self.rescores = Quota("rescores", "lists are being rescored", limits.rescores, limits.tenant_rescores)
        self.recordings = MemoryQuota(limits.recording_megabytes << 20)
        self._trim = Trim(partial(self.scheduler.run, Work.PARSE))
        self.store = StoreThreads(parts.store, settings.store.threads, settings.store.deadline_s, self.metrics)
        builder = ContextBuilder(parts.encoder, self.scheduler)
        self.contexts = ContextManager(
            self.store,
            builder,
            context,
            store_ttl_s=settings.store.ttl_s,
            late=lambda: self.scheduler.late,
            clock=parts.clock,
            metrics=self.metrics,
        )
        rescoring = ContextRescoring(parts.rescorer, self.scheduler)
        self._recognizer = RecognizerService(
            self.scheduler,
            self.contexts,
            InlineContexts(builder, context, late=lambda: self.scheduler.late, clock=parts.clock),
            rescoring,
            limits,
            model.nbest,
            settings.endpoint.rule(),
            self.metrics,
        )
        self._context = ContextService(
            self.contexts, builder, rescoring, self.scheduler, limits, self.rescores, parts.clock
        )
        self._health = health.aio.HealthServicer()
        self._doors = door_routes(self._recognizer, limits) if settings.doors else []
        own = own_methods(_SERVICES, limits)
        methods = (*own, *public_methods(_PUBLIC), *(door.method for door in self._doors))
        guard = Guard(
            lambda: self.draining,
            self.access,
            self.metrics,
            calls=self.calls,
            streams=self.streams,
            recordings=self.recordings,
            trim=self._trim,
        )
        self.guard = CallGuard({method.path: method for method in methods}, guard, limits, self.scheduler, self._trim)
        self._started: list[grpc.aio.Server] = []
        self.health_port: int | None = None
        self.metrics_port: int | None = None
        self.http_port: int | None = None
        self.listener = None if settings.http_port is None else self._http(own, guard)
        """The HTTP port."""

    def _http(self, own: list[Method], guard: Guard) -> Listener:
        """The HTTP port. Raises ConfigError."""
        try:
            from server.http.listener import Listener
            from server.http.routes import http_routes
        except ModuleNotFoundError as error:
            if error.name != "aiohttp":
                raise
            raise ConfigError(f"http_port takes more packages: {install_hint('web')}") from None
        limits = self.settings.limits
        anyone = not (self.settings.access.keys_file or self.settings.tls.client_ca)
        routes = http_routes(
            own,
            self._recognizer,
            self._context,
            guard,
            self.scheduler,
            limits,
            self.metrics if anyone else None,  # they name the tenants
            lambda: self.draining,
        )
        return Listener(
            routes, anyone=anyone, connections=limits.calls, idle_s=limits.idle_seconds, requests=limits.calls
        )

    async def start(self) -> int:
        """Listen; returns the port. Raises PortError; then only `close` is left to do."""
        await self._start_probes()
        if self.settings.metrics_port is not None:
            self.metrics_port = self._serve_metrics(self.settings.metrics_port)
        if self.listener is not None:
            self.http_port = await self._listen_http(self.listener, self.settings.http_port or 0)
        limits = self.settings.limits
        server = grpc.aio.server(interceptors=(self.guard,), maximum_concurrent_rpcs=limits.calls, options=self.options)
        add: Any = recognizer_pb2_grpc.add_RecognizerServicer_to_server
        add(self._recognizer, server)
        add = context_pb2_grpc.add_ContextServicer_to_server
        add(self._context, server)
        add = health_pb2_grpc.add_HealthServicer_to_server
        add(self._health, server)
        server.add_generic_rpc_handlers((Handlers(self._doors),))
        if self.settings.access.reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        port = await self._listen(server, "port", self._credentials)
        loop = asyncio.get_running_loop()
        self.metrics.watch_tasks(lambda: len(asyncio.all_tasks(loop)))
        self.contexts.start()
        await server.start()
        self._started.append(server)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        logs.event("serving", port=port, model=self.scheduler.recognizer.version, context=self.settings.context.enabled)
        return port

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """GRPC's options of the port that calls come to."""
        limits = self.settings.limits
        return (
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.max_send_message_length", limits.message_bytes),
            ("grpc.per_message_decompression", 0),  # `codec.wire` does it, within each method's bounds
            ("grpc.max_concurrent_streams", limits.connection_calls),
            ("grpc.so_reuseport", 0),  # else a second server would share the port without a word
            ("grpc.max_connection_age_ms", _CONNECTION_MS),
            ("grpc.keepalive_time_ms", 30_000),  # finds clients that vanished without a word
            ("grpc.http2.ping_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),  # clients may ask whether an idle connection lives
        )

    async def _start_probes(self) -> None:
        """Health alone, on a port of its own."""
        if self.settings.health_port is None:
            return
        most = self.settings.limits.public_calls
        server = grpc.aio.server(maximum_concurrent_rpcs=most, options=(("grpc.so_reuseport", 0),))
        add: Any = health_pb2_grpc.add_HealthServicer_to_server
        add(self._health, server)
        self.health_port = await self._listen(server, "health_port", None)
        await server.start()
        self._started.append(server)

    async def _listen(self, server: grpc.aio.Server, setting: str, credentials: grpc.ServerCredentials | None) -> int:
        host, port = self.settings.host, getattr(self.settings, setting)
        address = address_of(host, port)
        try:
            bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if bound:
            return bound
        await server.start()  # grpc crashes when a server that was never started is collected
        await server.stop(None)
        raise PortError(host, port, setting)

    def _serve_metrics(self, port: int) -> int:
        try:
            return self.metrics.serve(self.settings.host, port)
        except OSError:
            raise PortError(self.settings.host, port, "metrics_port") from None

    async def _listen_http(self, listener: Listener, port: int) -> int:
        host, tls = self.settings.host, self.settings.tls
        try:
            return await listener.start(host, port, https_context(tls) if tls.certificate else None)
        except OSError:
            raise PortError(host, port, "http_port") from None

    async def drain(self) -> bool:
        """Refuse new calls and let running streams and jobs end; return whether the streams did within `drain_s`."""
        self.draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        logs.event("draining", streams=self.streams.running)
        deadline = time.monotonic() + self.settings.drain_s
        while (self.streams.running or self.contexts.busy) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        return not self.streams.running

    async def close(self) -> None:
        """Stop listening and end all threads. Calls that still run are cancelled."""
        if self.listener is not None:
            await self.listener.close()
        for server in reversed(self._started):
            await server.stop(grace=1.0)
        await self.contexts.close()
        self._trim.close()
        self.scheduler.close()
        self.store.close()
        self.metrics.close()
        logs.event("stopped")

    async def _set_health(self, status: Any) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)
