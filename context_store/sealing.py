"""Sealing of payloads under a dialogue's data key: AES-256-GCM with key commitment.

The scheme is the AWS Encryption SDK's suite AES_256_GCM_HKDF_SHA512_COMMIT_KEY without its message format: for every
item, HKDF-SHA512 of the dialogue's key with a random 32-byte salt gives an encryption key and a commitment. The
commitment is compared in constant time before anything is decrypted, so a ciphertext opens under one key only. The
encryption key is used once, so the nonce is constant. The context (tenant, dialogue, turn, kind, item, ...) is the
associated data; it is not stored, the reader states what it expects.

    sealed = version (1) | salt (32) | commitment (32) | ciphertext | tag (16)

The digest is an HMAC under a third key of the dialogue, over context and plaintext: it tells a repeated write from
a clash (ciphertexts of one plaintext differ), and equal texts in two items have different digests.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from context_store.errors import TamperedError

OVERHEAD_BYTES = 1 + 32 + 32 + 16
_VERSION = b"\x01"
_NONCE = bytes(12)


def seal(secret: bytes, context: Mapping[str, str], plaintext: bytes) -> bytes:
    """Encrypt under a dialogue's 32-byte key; only the same key and context open it again."""
    salt = secrets.token_bytes(32)
    key, commitment = _item_keys(secret, salt)
    return _VERSION + salt + commitment + AESGCM(key).encrypt(_NONCE, plaintext, canonical(context))


def unseal(secret: bytes, context: Mapping[str, str], sealed: bytes) -> bytes:
    """The plaintext. Raises TamperedError unless `seal` made it with this key and this context."""
    if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _VERSION:
        raise TamperedError("a stored payload is truncated or of an unknown format")
    key, commitment = _item_keys(secret, sealed[1:33])
    if not hmac.compare_digest(commitment, sealed[33:65]):
        raise TamperedError("a stored payload was not written under this dialogue's key, or was altered")
    try:
        return AESGCM(key).decrypt(_NONCE, sealed[65:], canonical(context))
    except InvalidTag:
        raise TamperedError("a stored payload was altered, or moved from another place") from None


def digest(secret: bytes, context: Mapping[str, str], plaintext: bytes) -> bytes:
    """32-byte keyed digest of a payload in its place."""
    key = _derive(secret, None, b"carryover digest v1")
    bound = canonical(context)
    return hmac.digest(key, len(bound).to_bytes(8, "big") + bound + plaintext, hashlib.sha256)


def canonical(context: Mapping[str, str]) -> bytes:
    """One byte string for one mapping: sorted by name, every part preceded by its length."""
    parts = [part.encode() for name in sorted(context) for part in (name, context[name])]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _item_keys(secret: bytes, salt: bytes) -> tuple[bytes, bytes]:
    return _derive(secret, salt, b"carryover encrypt v1"), _derive(secret, salt, b"carryover commit v1")


def _derive(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    """A 32-byte key by HKDF-SHA512 (RFC 5869); no salt stands for zeros."""
    return HKDF(hashes.SHA512(), 32, salt, info).derive(secret)
