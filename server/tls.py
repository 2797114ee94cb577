"""TLS of the server: certificates from files, read again when they are renewed."""

from __future__ import annotations

import math
import ssl
from pathlib import Path
from typing import Any

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


def https_context(settings: TlsSettings) -> ssl.SSLContext:
    """The same for the HTTP port. Raises ConfigError."""
    seen = _read(settings)
    current = _context(settings)

    class Following(ssl.SSLContext):
        """Has each connection wrapped by the newest context; asyncio takes one for all of them."""

        def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
            nonlocal seen, current
            try:
                now = _read(settings)
                if now != seen:
                    seen, current = now, _context(settings)
                    logs.event("certificate_reloaded")
            except ConfigError as error:
                logs.failure("certificate_not_read", error)
            return current.wrap_bio(*arguments, **named)

    return Following(ssl.PROTOCOL_TLS_SERVER)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert settings.certificate is not None
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(settings.client_ca)
    except (OSError, ValueError) as error:  # an encrypted key among them
        message = f"tls.certificate and tls.key: {settings.certificate} cannot be used ({type(error).__name__})"
        raise ConfigError(message) from None
    return context


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
