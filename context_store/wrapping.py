"""Wrapping keys: what encrypts the data key of a dialogue, by the AWS Encryption SDK.

The SDK runs with its material providers, under the commitment policy REQUIRE_ENCRYPT_REQUIRE_DECRYPT. The algorithm
suite is AES-256-GCM with HKDF-SHA512 and key commitment, without ECDSA signature: writers and readers hold the same
wrapping key, so a signature would tell nobody anything.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_encryption_sdk
import boto3
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import (
    AesWrappingAlg,
    CreateAwsKmsKeyringInput,
    CreateRawAesKeyringInput,
)
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.exceptions import InvalidTag

from context_store.aws import client_options, unavailable
from context_store.config import StoreConfig
from context_store.errors import StoreConfigError, StoreError, TamperedError

KEY_BYTES = 32
_SUITE = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
_REFUSED = (
    "the dialogue's key does not decrypt: it was altered, belongs to another dialogue, or was written under another "
    "wrapping key (give every replica the same one)"
)


class WrappingKey:
    """Wraps and unwraps dialogue keys. Made by the functions below; safe to use from many threads."""

    def __init__(self, keyring: Any) -> None:
        self._keyring = keyring
        self._sdk = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT, max_encrypted_data_keys=1
        )

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a dialogue key as an Encryption SDK message; `context` is bound to it.

        Raises StoreConfigError (KMS refuses the key), StoreUnavailableError.
        """
        try:
            wrapped, _ = self._sdk.encrypt(
                source=secret, keyring=self._keyring, encryption_context=dict(context), algorithm=_SUITE
            )
        except StoreError:
            raise
        except BotoCoreError as error:
            raise unavailable("KMS", error) from None
        return bytes(wrapped)

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a dialogue key.

        Raises TamperedError unless it was wrapped by this key with exactly this context, StoreConfigError,
        StoreUnavailableError.
        """
        try:
            # not sdk.decrypt(): on a refused message that logs the traceback of the error it also raises
            stream = self._sdk.stream(
                mode="decrypt", source=wrapped, keyring=self._keyring, encryption_context=dict(context)
            )
            secret, bound = stream.read(), dict(stream.header.encryption_context)
            stream.close()
        except StoreError:
            raise
        except BotoCoreError as error:
            raise unavailable("KMS", error) from None
        except (AWSEncryptionSDKClientError, InvalidTag, ValueError):
            raise TamperedError(_REFUSED) from None
        if bound != dict(context) or len(secret) != KEY_BYTES:
            raise TamperedError(_REFUSED)
        return bytes(secret)


def local_wrapping_key(key: bytes | None = None) -> WrappingKey:
    """A raw AES-256 wrapping key: 32 bytes, or None for one that lives and dies with this process.

    Raises StoreConfigError when the key is not 32 bytes.
    """
    if key is None:
        key = secrets.token_bytes(KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise StoreConfigError(f"a local wrapping key has {KEY_BYTES} bytes; this one has {len(key)}")
    name = "local-" + hashlib.sha256(b"carryover wrapping key name" + key).hexdigest()[:16]
    return WrappingKey(
        _providers().create_raw_aes_keyring(
            CreateRawAesKeyringInput(
                key_namespace="carryover",
                key_name=name,
                wrapping_key=key,
                wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
            )
        )
    )


def load_or_create_key_file(path: Path) -> bytes:
    """32 bytes from a key file (64 hex digits); made with mode 0600 when absent.

    Of several processes that make it at once, one wins and all read the same key.
    Raises StoreConfigError when others than its owner can read it, or it holds something else.
    """
    try:
        if not path.exists():
            _create_key_file(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(content)
    except (OSError, ValueError) as error:
        raise StoreConfigError(
            f"the key file {path} cannot be used ({type(error).__name__}); it must be a readable "
            "file of 64 hexadecimal digits, or absent in a writable folder"
        ) from None
    if mode & 0o077:
        raise StoreConfigError(f"the key file {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
    if len(key) != KEY_BYTES:
        raise StoreConfigError(f"the key file {path} must hold exactly 64 hexadecimal digits")
    return key


def kms_wrapping_key(key_id: str, *, region: str, endpoint_url: str | None = None) -> WrappingKey:
    """A wrapping key in AWS KMS, by key ARN or alias ARN; one KMS call wraps or unwraps a dialogue's key.

    endpoint_url: None for AWS itself. Raises StoreConfigError when `key_id` is not an ARN.
    """
    if not key_id.startswith("arn:"):
        raise StoreConfigError("the KMS key must be given by its ARN (arn:aws:kms:...)")
    config = StoreConfig(region=region, endpoint_url=endpoint_url)
    client = _KmsClient(boto3.session.Session().client("kms", **client_options(config)))
    return WrappingKey(
        _providers().create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=key_id, kms_client=client))
    )


def _providers() -> Any:
    return AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())


def _create_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, never replaces another process's key
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)


class _KmsClient:
    """KMS client whose refusals are this package's errors; the keyring would hide their codes."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if name not in ("generate_data_key", "encrypt", "decrypt"):
            return member

        def call(**arguments: Any) -> Any:
            try:
                return member(**arguments)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("InvalidCiphertextException", "IncorrectKeyException"):
                    raise TamperedError(_REFUSED) from None
                raise unavailable("KMS", error) from None

        return call
