"""Prometheus metrics of one server. Labels are methods, states and codes, never text or ids of a client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server


class Metrics:
    """The server's metrics in a registry of their own, so that several servers fit in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("carryover_calls", "Calls that ended.", ["method", "code"], registry=self.registry)
        self.call_seconds = Histogram(
            "carryover_call_seconds",
            "Duration of calls.",
            ["method"],
            registry=self.registry,
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300),
        )
        self.streams = Gauge("carryover_streams", "Streams being recognised.", registry=self.registry)
        self.batch_streams = Histogram(
            "carryover_batch_streams", "Streams in a batch.", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.audio_seconds = Counter("carryover_audio_seconds", "Audio recognised.", registry=self.registry)
        self.context = Counter(
            "carryover_context_results", "Final results by context status.", ["status"], registry=self.registry
        )
        self.window_states = Counter(
            "carryover_window_states", "States that contexts entered.", ["state"], registry=self.registry
        )
        self.window_seconds = Histogram(
            "carryover_window_seconds",
            "From expect-speech to ready.",
            registry=self.registry,
            buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        )

    def serve(self, host: str, port: int) -> None:
        """Answer /metrics on a port. Raises OSError when it is taken."""
        start_http_server(port, addr=host, registry=self.registry)
