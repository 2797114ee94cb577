"""How a client reaches a server: TLS, its own certificate, its key."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc


class ConnectError(Exception):
    """The server cannot be reached this way. The message says what to change."""


@dataclass(frozen=True)
class Credentials:
    """What a client needs beyond an address.

    ca: PEM file of who signed the server's certificate; None: no TLS. key_file: holds the bearer key. certificate,
    certificate_key: PEM files, for a server that asks its clients for one.
    """

    ca: Path | None = None
    key_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None


def open_channel(address: str, credentials: Credentials) -> grpc.aio.Channel:
    """A channel to HOST:PORT, whose calls carry the key. Raises ConnectError."""
    if bool(credentials.certificate) != bool(credentials.certificate_key):
        raise ConnectError("give --certificate and --certificate-key together")
    if credentials.certificate and not credentials.ca:
        raise ConnectError("a certificate is sent over TLS only: give --ca too")
    key = _read("--key-file", credentials.key_file).decode(errors="replace").strip() if credentials.key_file else ""
    interceptors: Any = [_UnaryWithKey(key), _StreamWithKey(key)] if key else None
    if credentials.ca:
        tls = grpc.ssl_channel_credentials(
            _read("--ca", credentials.ca),
            _read("--certificate-key", credentials.certificate_key) if credentials.certificate_key else None,
            _read("--certificate", credentials.certificate) if credentials.certificate else None,
        )
        return grpc.aio.secure_channel(address, tls, interceptors=interceptors)
    if key and not _is_loopback(address.rpartition(":")[0]):
        raise ConnectError("a key is sent over TLS, or to this machine: give --ca")
    return grpc.aio.insecure_channel(address, interceptors=interceptors)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConnectError(f"{name}: {file} cannot be read ({error.strerror})") from None


def _with_key(details: grpc.aio.ClientCallDetails, key: str) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()), ("authorization", f"Bearer {key}"))
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


class _UnaryWithKey(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with_key(client_call_details, self._key), request)


class _StreamWithKey(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(_with_key(client_call_details, self._key), request_iterator)
