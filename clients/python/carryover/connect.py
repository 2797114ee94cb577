"""How a client reaches a server: TLS, its own certificate, its key, and what gRPC does by itself on its channels."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from carryover.audio import PathLike
from carryover.errors import ChangeRequestError

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "carryover.v1.Recognizer"}, {"service": "carryover.v1.Context"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "3s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
}
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),  # a recording that is larger than this would not be sent again
    ("grpc.keepalive_time_ms", 20_000),  # finds, while calls are running, a server that vanished without a word
    ("grpc.http2.ping_timeout_ms", 20_000),  # a minute unless set; keepalive_timeout_ms has no effect (1.74 to 1.85)
    ("grpc.http2.max_pings_without_data", 0),  # else not while a stream is muted
)
"""Of every channel. gRPC itself spreads calls over a target's addresses, connects again what broke, and repeats a call
that no server has begun to answer, when the server's trailing metadata `grpc-retry-pushback-ms` allow. All calls of
the interface may be repeated so: events have ids, and a stream is begun to be answered when it is accepted."""

_ADDRESS = re.compile(r"(\[[^\[\]\s]+\]|[^\[\]:/,\s]+):0*[1-9][0-9]*")
_PORTLESS = re.compile(r"(unix|unix-abstract|vsock|xds):.")
"""Targets of gRPC whose addresses are no HOST:PORT."""


@dataclass(frozen=True)
class Credentials:
    """What a client needs beyond an address. Make it with `load`."""

    key: str | None = field(repr=False)
    """The bearer key."""
    tls: grpc.ChannelCredentials | None
    """None: no TLS."""
    secret: bytes = field(repr=False)
    """Known to the client alone: the key or the certificate's private key, else drawn anew."""

    @classmethod
    def load(
        cls,
        target: str,
        *,
        key: str | None,
        ca: PathLike | None,
        tls: bool,
        certificate: PathLike | None,
        certificate_key: PathLike | None,
    ) -> Credentials:
        """The credentials for a target, as `carryover.Client` documents them. Raises ChangeRequestError."""
        if not _has_ports(target):
            raise ChangeRequestError(f"target: give HOST:PORT, such as 127.0.0.1:50051, not {target!r}")
        if bool(certificate) != bool(certificate_key):
            raise ChangeRequestError("give certificate and certificate_key together")
        encrypted = tls or ca is not None
        if certificate and not encrypted:
            raise ChangeRequestError("a certificate is sent over TLS only: give ca too, or tls=True")
        if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
            raise ChangeRequestError("key: it is empty, or has characters that no key has")
        if key and not encrypted and not _is_local(target):
            raise ChangeRequestError("a key is sent over TLS, or to this machine: give ca, or tls=True")
        private = _read("certificate_key", certificate_key)
        secret = key.encode() if key else private or secrets.token_bytes(32)
        if not encrypted:
            return cls(key, None, secret)
        own = _read("certificate", certificate)
        return cls(key, grpc.ssl_channel_credentials(_read("ca", ca), private, own), secret)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of each call."""
        return (("authorization", f"Bearer {self.key}"),) if self.key else ()


def _has_ports(target: str) -> bool:
    """Whether a target is HOST:PORT, or one of gRPC's whose addresses have ports; gRPC would go to port 443."""
    if _PORTLESS.match(target):
        return True
    addresses = target.removeprefix("ipv4:").removeprefix("ipv6:").split(",")
    if target.startswith("dns:"):
        addresses = [target.removeprefix("dns:").rpartition("/")[2]]
    return all(_ADDRESS.fullmatch(address) and int(address.rpartition(":")[2]) < 1 << 16 for address in addresses)


def _is_local(target: str) -> bool:
    """Whether all addresses of a target, HOST:PORT or ipv4:HOST:PORT,HOST:PORT, are this machine's."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    addresses = target.removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:").split(",")
    return all(_is_loopback(address.rpartition(":")[0]) for address in addresses)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read(name: str, file: PathLike | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ChangeRequestError(f"{name}: {os.fspath(file)} cannot be read ({error.strerror})") from None
