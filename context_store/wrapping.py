"""Wrapping keys: what encrypts the data key of a dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class WrappingKey:
    """Wraps and unwraps dialogue keys with the AWS Encryption SDK. Made by the functions below."""

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a dialogue key; ``context`` is bound to it."""
        raise NotImplementedError

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a dialogue key. Raises TamperedError unless it was wrapped by this key with this context."""
        raise NotImplementedError


def local_wrapping_key(key: bytes | None = None) -> WrappingKey:
    """A raw AES-256 wrapping key: 32 bytes, or None for one that lives and dies with this process."""
    raise NotImplementedError


def load_or_create_key_file(path: Path) -> bytes:
    """32 bytes from a key file (64 hex digits); created with mode 0600 when absent, refused when others can read it."""
    raise NotImplementedError


def kms_wrapping_key(key_id: str, *, region: str, endpoint_url: str | None = None) -> WrappingKey:
    """A wrapping key in AWS KMS, by ARN (or alias ARN)."""
    raise NotImplementedError
