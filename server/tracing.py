"""OpenTelemetry traces, off by default: where the time of a call went.

    carryover.v1.Recognizer/StreamingRecognize   a call; it goes on with the trace that the caller names (traceparent)
    ├── store dialogue_status                    a call of the store
    ├── chunk                                    from a chunk of audio being there to its result
    │   └── batch                                its recognition, together with other streams' (linked)
    └── final (likely_final)                     from the recogniser's final result to the one that is sent
        └── rescore
    carryover.v1.Context/RecordEvents
    ├── store record
    └── context                                  the reply window's job
        ├── store read_turns
        ├── encode                               the encoder, and compiling the phrases
        └── store put_embedding

Attributes are what the logs hold too: names, numbers, states and error types, never text of a client. A span that ended
with an error has its type, not its message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from asr.extras import install_hint
from server.settings import ConfigError, TracesSettings

if TYPE_CHECKING:
    from grpc import StatusCode
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_EXPORT_S = 2.0
_SERVER_FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Codes of calls that failed, by OpenTelemetry's conventions for gRPC servers; others are the client's doing."""

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def configure(settings: TracesSettings) -> None:
    """Send spans to where the settings say, in the background, until `close`. Raises ConfigError without the extra."""
    if settings.endpoint is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError:
        raise ConfigError(f"traces.endpoint: traces take the extra `otel`: {install_hint('otel')}") from None
    resource = Resource.create({SERVICE_NAME: "carryover", SERVICE_VERSION: version("carryover-asr")})
    provider = TracerProvider(ParentBased(TraceIdRatioBased(settings.share)), resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Send all spans from now on to a provider; None: make none."""
    global _provider, _tracer
    _provider, _tracer = provider, provider.get_tracer("carryover") if provider else None


def close() -> None:
    """Send what is left, for some seconds at most, and make no spans any more."""
    provider = _provider
    use(None)
    if provider is not None:
        provider.shutdown()


@contextmanager
def span(name: str, parent: Span | None = None, links: Iterable[Span] = ()) -> Iterator[None]:
    """Wrap what is inside in a span, a child of `parent` or else of the current task's span; without one, in none."""
    parent = parent or current()
    if _tracer is None or parent is None:
        yield
        return
    from opentelemetry.trace import Link, Status, StatusCode, set_span_in_context

    with _tracer.start_as_current_span(
        name,
        set_span_in_context(parent),
        links=[Link(other.get_span_context()) for other in links],
        record_exception=False,
        set_status_on_exception=False,
    ) as opened:
        try:
            yield
        except BaseException as error:
            opened.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@contextmanager
def shared_span(name: str, sharing: Sequence[Span | None]) -> Iterator[None]:
    """Wrap work for several callers in a span: a child of the first traced caller's, linked to the others'."""
    traced = [one for one in sharing if one is not None]
    if not traced:
        yield
        return
    with span(name, traced[0], traced[1:]):
        note(streams=len(sharing))
        yield


def current() -> Span | None:
    """The span that the current task is in; None where nothing is traced."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    active = get_current_span()
    return active if active.get_span_context().is_valid else None


def note(**attributes: str | float) -> None:
    """Add attributes to the span that the current task is in. No text of a client."""
    active = current()
    if active is not None:
        active.set_attributes({f"carryover.{name}": value for name, value in attributes.items()})


def trace_id() -> str:
    """32 hex digits of the trace that the current task is in, "" where nothing is traced."""
    active = current()
    return f"{active.get_span_context().trace_id:032x}" if active and active.is_recording() else ""


# Calls


def begin_call(method: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str) -> Span | None:
    """Start the span of the call that the current task serves; end it with `end_call`. The task ends with the call.

    Args:
        method: `/PACKAGE.SERVICE/METHOD`.
        metadata: the caller's. Of its trace only the ids are used: its `tracestate` may hold anything.
        request_id: an attribute of the span.
    """
    if _tracer is None:
        return None
    from opentelemetry import context
    from opentelemetry.trace import SpanKind, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    named = {name: value for name, value in metadata if name == "traceparent" and isinstance(value, str)}
    begun = TraceContextTextMapPropagator().extract(named, context.Context())
    service, _, name = method.strip("/").partition("/")
    attributes = {
        "rpc.system": "grpc", "rpc.service": service, "rpc.method": name, "carryover.request_id": request_id
    }  # fmt: skip
    opened = _tracer.start_span(f"{service}/{name}", begun, SpanKind.SERVER, attributes)
    context.attach(set_span_in_context(opened))  # never detached: the task ends with the call
    return opened


def end_call(opened: Span | None, code: StatusCode, notes: Mapping[str, Any]) -> None:
    """End a call's span; the notes of its log line become attributes."""
    if opened is None:
        return
    from opentelemetry.trace import Status, StatusCode

    opened.set_attributes({f"carryover.{name}": value for name, value in notes.items()})
    opened.set_attribute("rpc.grpc.status_code", code.value[0])
    if code.name in _SERVER_FAULTS:
        opened.set_status(Status(StatusCode.ERROR, code.name))
    opened.end()
