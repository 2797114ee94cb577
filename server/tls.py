"""TLS of the server: certificates from files, read again when they are renewed."""

from __future__ import annotations

import math
from pathlib import Path

import grpc
from cryptography import x509

from server import logs
from server.settings import ConfigError, TlsSettings


def server_credentials(settings: TlsSettings) -> grpc.ServerCredentials:
    """Credentials that follow the files: each connection gets the newest pair that could be read.

    With `client_ca` only clients with a certificate of it are let in. Raises ConfigError.
    """
    seen = _read(settings)
    current = _configuration(*seen)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            now = _read(settings)
        except ConfigError as error:
            logs.failure("certificate_not_read", error)
            return None
        if now == seen:
            return None
        seen = now
        logs.event("certificate_reloaded")
        return _configuration(*now)

    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        current,
        fetch,  # type: ignore[arg-type]  # None: as before
        require_client_authentication=settings.client_ca is not None,
    )
    return credentials


def certificate_expiry(file: Path) -> float:
    """When the first certificate of a PEM file expires, in seconds since 1970; not a number where it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return math.nan


def _configuration(certificate: bytes, key: bytes, client_ca: bytes | None) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)


def _read(settings: TlsSettings) -> tuple[bytes, bytes, bytes | None]:
    client_ca = _pem("client_ca", settings.client_ca) if settings.client_ca else None
    return _pem("certificate", settings.certificate), _pem("key", settings.key), client_ca


def _pem(name: str, file: Path | None) -> bytes:
    try:
        data = file.read_bytes() if file else b""
    except OSError as error:
        raise ConfigError(f"tls.{name}: {file} cannot be read ({error.strerror})") from None
    if b"-----BEGIN" not in data:
        raise ConfigError(f"tls.{name}: {file} is no PEM file; it must begin with -----BEGIN ...")
    return data
