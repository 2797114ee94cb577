"""What the guard of calls knows of each method: what its requests may hold, and what a call of it takes.

A service is served when its methods are in the table that `CallGuard` is given; one that is not is unknown to clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from server.codec.bounds import bounds, recording_memory
from server.codec.wire import Bounds
from server.settings import Limits

_PUBLIC = Bounds(None, 4096)


class Load(Enum):
    """What a call takes, and so whose quota it counts to."""

    PUBLIC = auto()
    """Little, and no key: health, reflection."""
    CALL = auto()
    """No audio."""
    STREAM = auto()
    """Audio as it is spoken."""
    SESSION = auto()
    """A stream's place once there is audio, which its handler takes; before that, next to nothing."""
    RECORDING = auto()
    """Audio as a whole, and the memory for it."""


@dataclass(frozen=True)
class Method:
    """A method that the server answers."""

    path: str
    """`/PACKAGE.SERVICE/METHOD`, as it is on the wire."""
    name: str
    """In logs and metrics."""
    request: Descriptor
    bounds: Bounds
    """Of one request, or of one message of a stream."""
    load: Load
    memory_bytes: int = 0
    """That a recording's call may need."""
    translate: Callable[[Any], Any] | None = None
    """Makes what the handler takes of a request, in the thread that reads it; None: the handler takes the request. May
    raise RequestError."""


_LOADS = {"Recognize": Load.RECORDING, "StreamingRecognize": Load.STREAM}


def own_methods(services: Iterable[ServiceDescriptor], limits: Limits) -> list[Method]:
    """Those of `carryover.v1`."""
    return [
        Method(
            path=f"/{service.full_name}/{method.name}",
            name=method.name,
            request=method.input_type,
            bounds=bounds(method.name, limits),
            load=_LOADS.get(method.name, Load.CALL),
            memory_bytes=recording_memory(limits) if method.name == "Recognize" else 0,
        )
        for service in services
        for method in service.methods
    ]


def public_methods(services: Iterable[ServiceDescriptor]) -> list[Method]:
    """Those of services that everybody may call."""
    return [
        Method(f"/{service.full_name}/{method.name}", method.name, method.input_type, _PUBLIC, Load.PUBLIC)
        for service in services
        for method in service.methods
    ]
