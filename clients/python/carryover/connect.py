"""How a client reaches a server: TLS, its own certificate, its key."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

ROUND_ROBIN = (("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),)


class ConnectError(Exception):
    """The server cannot be reached this way. The message says what to change."""


@dataclass(frozen=True)
class Credentials:
    """What a client needs beyond an address."""

    ca: Path | None = None
    """PEM file of the authority that signed the server's certificate; None: no TLS."""
    key_file: Path | None = None
    """Holds the bearer key."""
    certificate: Path | None = None
    """PEM file of the client's certificate, for a server that asks for one."""
    certificate_key: Path | None = None
    """PEM file of its private key."""


def open_channel(address: str, credentials: Credentials) -> grpc.aio.Channel:
    """A channel whose calls carry the key.

    Args:
        address: HOST:PORT, or a target with several of them, such as ipv4:10.0.0.1:50051,10.0.0.2:50051, which the
            channel's calls take in turn; one that does not answer is passed over.

    Raises:
        ConnectError: the credentials do not fit together, or a file of theirs cannot be read.
    """
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
        return grpc.aio.secure_channel(address, tls, options=ROUND_ROBIN, interceptors=interceptors)
    if key and not all(_is_loopback(one.rpartition(":")[0]) for one in _addresses(address)):
        raise ConnectError("a key is sent over TLS, or to this machine: give --ca")
    return grpc.aio.insecure_channel(address, options=ROUND_ROBIN, interceptors=interceptors)


def _addresses(target: str) -> list[str]:
    """Each HOST:PORT of a target."""
    return target.removeprefix("ipv4:").removeprefix("ipv6:").split(",")


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
