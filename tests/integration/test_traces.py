"""Spans of what a call did, below the caller's own; sent as OTLP; nothing of it unless switched on."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from carryover.v1 import context_pb2
from context_store import StoreUnavailableError
from server import tracing
from server.settings import ConfigError, TracesSettings

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def below(spans: InMemorySpanExporter, name: str) -> dict[str, set[str]]:
    """Names of the spans, each with those directly below it, in traces that begin with calls of a name."""
    finished = spans.get_finished_spans()
    names = {span.context.span_id: span.name.rpartition("/")[2] for span in finished}
    traces = {span.context.trace_id for span in finished if span.name.endswith(f"/{name}")}
    tree: dict[str, set[str]] = {}
    for span in finished:
        if span.context.trace_id in traces and span.parent is not None and span.parent.span_id in names:
            tree.setdefault(names[span.parent.span_id], set()).add(names[span.context.span_id])
    return tree


def one(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in spans.get_finished_spans() if span.name.endswith(name)]
    return found


def test_a_follow_up(workshop: Any, dialogue: str, pcm: bytes, spans: InMemorySpanExporter) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1", "meg bauer")
    replica.wait_for("READY", dialogue)
    assert replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.changed
    replica.run(replica.server.drain())
    assert below(spans, "RecordEvents") == {
        "RecordEvents": {"store record", "context"}, "context": {"store read_turns", "encode", "store put_embedding"}
    }  # fmt: skip
    tree = below(spans, "StreamingRecognize")
    assert tree == {
        "StreamingRecognize": {"store dialogue_status", "chunk", "final"}, "chunk": {"batch"}, "final": {"rescore"}
    }  # fmt: skip
    assert dict(one(spans, "context").attributes or {}) == {"carryover.state": "ready"}
    call = dict(one(spans, "/StreamingRecognize").attributes or {})
    assert call["rpc.service"] == "carryover.v1.Recognizer" and call["rpc.grpc.status_code"] == 0
    assert call["carryover.context"] == "APPLIED" and call["carryover.audio_s"] == 3.0


def test_the_callers_trace_goes_on(workshop: Any, dialogue: str, spans: InMemorySpanExporter) -> None:
    replica = workshop.start()
    events = [context_pb2.Event(event_id="1", speak=context_pb2.Speak())]
    request = context_pb2.RecordEventsRequest(dialogue_id=dialogue, turn_id="1", events=events)
    for flag in ("01", "00"):  # traced there, or not
        metadata = [("traceparent", f"00-{TRACE}-{CALLER}-{flag}"), ("tracestate", "vendor=xylophone")]
        replica.context.RecordEvents(request, timeout=60, metadata=metadata)
    replica.run(replica.server.drain())
    call = one(spans, "/RecordEvents")  # the second one was not to be traced
    assert f"{call.context.trace_id:032x}" == TRACE
    assert call.parent is not None and f"{call.parent.span_id:016x}" == CALLER
    assert all(not span.context.trace_state for span in spans.get_finished_spans())


def test_what_fails_is_named_by_its_type(
    workshop: Any, dialogue: str, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = workshop.start()

    def record(*_: Any) -> None:
        raise StoreUnavailableError("xylophone")

    monkeypatch.setattr(replica.server.store.store, "record", record)
    with pytest.raises(grpc.RpcError):
        replica.ask(dialogue, "1")
    replica.run(replica.server.drain())
    assert one(spans, "store record").status.description == "StoreUnavailableError"
    call = one(spans, "/RecordEvents")
    assert call.status.description == "UNAVAILABLE" and call.attributes
    assert not any(span.events for span in spans.get_finished_spans())


def test_work_for_several_is_below_the_first_and_linked_to_the_others(spans: InMemorySpanExporter) -> None:
    calls = [tracing.begin_call(f"/a.B/{name}", (), "") for name in ("C", "D")]
    with tracing.shared_span("batch", [None, *calls]):
        pass
    batch, (c, d) = one(spans, "batch"), [call.get_span_context() for call in calls if call]
    assert batch.parent == c and [link.context for link in batch.links] == [d]
    assert dict(batch.attributes or {}) == {"carryover.streams": 3}


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    taken: list[tuple[str, ExportTraceServiceRequest]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") is None:
            self.taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Requests are not logged."""


def test_spans_are_sent_to_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Collector, "taken", [], raising=False)
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        tracing.configure(TracesSettings(endpoint=f"http://127.0.0.1:{server.server_port}"))
        tracing.end_call(tracing.begin_call("/a.B/C", (), "id"), grpc.StatusCode.OK, {"audio_s": 1.5})
        tracing.close()
        server.shutdown()
        serving.join()
    ((path, request),) = Collector.taken
    assert path == "/v1/traces"
    (found,) = request.resource_spans
    assert {a.key: a.value.string_value for a in found.resource.attributes}["service.name"] == "carryover"
    assert found.scope_spans[0].spans[0].name == "a.B/C"


def test_nothing_unless_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.configure(TracesSettings())
    assert tracing.begin_call("/a.B/C", (), "") is None and tracing.current() is None
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"carryover-asr\[otel\]"):
        tracing.configure(TracesSettings(endpoint="http://127.0.0.1:4318"))


def test_a_traceparent_that_is_none(spans: InMemorySpanExporter) -> None:
    """The call begins a trace of its own."""
    for value in ("nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é"):
        tracing.end_call(tracing.begin_call("/a.B/C", [("traceparent", value)], ""), grpc.StatusCode.OK, {})
    assert all(span.parent is None for span in spans.get_finished_spans())
