"""Prometheus metrics of one server. Labels are methods, states, codes and tenants, never text or ids of a client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

OTHER_TENANTS = "other"
"""Label of the tenants beyond the bound on how many have one of their own."""


class Metrics:
    """The server's metrics in a registry of their own, so that several servers fit in one process.

    Args:
        max_tenants: tenants with a label of their own, the first that are met; the rest share one.
    """

    def __init__(self, max_tenants: int = 50) -> None:
        self.registry = CollectorRegistry()
        self._max_tenants = max_tenants
        self._tenants: set[str] = set()
        self._http: WSGIServer | None = None
        ProcessCollector(registry=self.registry)
        self._of_calls()
        self._of_recognition()
        self._of_context()
        self._of_tenants()

    def _of_calls(self) -> None:
        self.calls = self._counter("calls", "Calls that ended.", "method", "code")
        self.call_seconds = self._histogram(
            "call_seconds", "Duration of calls.", (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300), "method"
        )
        self.streams = self._gauge("streams", "Streams being recognised.")
        self.streams_limit = self._gauge("streams_limit", "Streams that the server takes at once.")
        self.draining = self._gauge("draining", "1 while the server ends its calls and takes no new ones.")
        self.certificate_expires = self._gauge(
            "certificate_expiry_timestamp_seconds",
            "When the TLS certificate expires, in seconds since 1970; 0: no TLS.",
        )
        threads = self._gauge("threads", "Threads of the process.")
        threads.set_function(threading.active_count)

    def _of_recognition(self) -> None:
        waits = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)
        self.batch_streams = self._histogram("batch_streams", "Streams in a batch.", (1, 2, 4, 8, 16, 32, 64))
        self.audio_seconds = self._counter("audio_seconds", "Audio recognised.")
        self.work_seconds = self._counter("work_seconds", "Seconds that threads worked on audio.")
        self.chunks = self._gauge("chunks", "Chunks of audio that are not recognised yet.")
        self.chunk_seconds = self._histogram("chunk_seconds", "From the arrival of a chunk to its result.", waits)
        self.second_passes_skipped = self._counter(
            "second_passes_skipped", "Results whose second pass was skipped, because they had waited too long."
        )
        self.first_partial_seconds = self._histogram(
            "first_partial_seconds", "From a stream's first audio to its first partial result with words.", waits
        )
        self.final_seconds = self._histogram(
            "final_seconds", "From the message, or end of stream, that ends an utterance to its final result.", waits
        )

    def _of_context(self) -> None:
        waits = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
        self.context = self._counter(
            "context_results", "Final results by context status, and why there was none.", "status", "reason"
        )
        self.context_changes = self._counter("context_changes", "Final results whose words context changed.")
        self.window_states = self._counter("window_states", "States that contexts entered.", "state")
        self.window_outcomes = self._counter("window_outcomes", "What became of contexts.", "outcome")
        self.window_seconds = self._histogram("window_seconds", "From expect-speech to ready.", waits)
        self.window_stage_seconds = self._histogram(
            "window_stage_seconds", "Time that contexts spent in a state.", waits, "state"
        )
        self.window_queue = self._gauge("window_queue", "Contexts that wait to be made.")
        self.cached_dialogues = self._gauge("cached_dialogues", "Dialogues whose contexts are in memory.")
        self.store_calls = self._counter("store_calls", "Calls of the store.", "call", "outcome")
        self.store_seconds = self._histogram("store_seconds", "Duration of calls of the store.", waits, "call")

    def _of_tenants(self) -> None:
        self.tenant_streams = self._gauge("tenant_streams", "Streams being recognised.", "tenant")
        self.tenant_audio_seconds = self._counter("tenant_audio_seconds", "Audio recognised.", "tenant")
        self.tenant_calls = self._counter("tenant_calls", "Calls that ended.", "tenant", "code")

    def tenant(self, name: str) -> str:
        """The label of a tenant."""
        if name not in self._tenants and len(self._tenants) >= self._max_tenants:
            return OTHER_TENANTS
        self._tenants.add(name)
        return name

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """While inside, one of a tenant's streams is being recognised."""
        with self.streams.track_inprogress(), self.tenant_streams.labels(self.tenant(tenant)).track_inprogress():
            yield

    def watch_tasks(self, count: Callable[[], int]) -> None:
        """Show how many tasks the event loop has, as `count` says."""
        self._gauge("tasks", "Tasks of the event loop.").set_function(count)

    def serve(self, host: str, port: int) -> int:
        """Answer /metrics on a port, 0 for a free one, until `close`; returns it. Raises OSError when it is taken."""
        self._http, _ = start_http_server(port, addr=host, registry=self.registry)
        return int(self._http.server_port)

    def close(self) -> None:
        """Stop answering."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"carryover_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"carryover_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"carryover_{name}", help_text, labels, registry=self.registry, buckets=buckets)
