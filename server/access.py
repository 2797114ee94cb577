"""Who may call: bearer keys and clients' certificates, bound to tenants in a file that is read again when it changes.

One line a key or name, and whatever follows a `#`:

    TENANT sha256:HEX     a bearer key, by its hash
    TENANT cert:NAME      clients whose certificate has that name (a subject alternative name; without any, its CN)

A key is 256 random bits, so a plain SHA-256 of it can be neither reversed nor guessed; only a secret that people choose
would need a slow hash.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server import logs
from server.errors import UnauthenticatedError
from server.settings import ConfigError

DEFAULT_TENANT = "default"
"""The one tenant of a server without keys."""

CHECK_EVERY_S = 1.0
_GOOGLE_KEY = "x-goog-api-key"
_KEYS = ("authorization", _GOOGLE_KEY)
"""Metadata with a key: as `Bearer KEY`, and as Google's clients send it, alone. The first counts where both come."""

EMPTY_S = 30.0
"""An empty file is believed after this: until then somebody may be writing it."""
_TENANT = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_CREDENTIAL = re.compile(r"sha256:[0-9a-f]{64}|cert:[^\s#]+")


@dataclass(frozen=True)
class Caller:
    """Who a call is from."""

    tenant: str
    """The first part of every key, in memory and in the store."""


class Access:
    """Authenticates callers.

    The file of keys is read again when it changed, which is checked at most once a second. The keys known before stay
    when it became unusable, and for half a minute when it became empty: files are often emptied first and filled then.

    Args:
        keys_file: None: a server without keys, where every caller is the default tenant.
        gone: is given each tenant whose last key was removed.
        clock: seconds of a monotonic clock.

    Raises:
        ConfigError: the file cannot be used at the start.
    """

    def __init__(
        self,
        keys_file: Path | None,
        gone: Callable[[str], None] = lambda tenant: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = keys_file
        self._gone = gone
        self._clock = clock
        self._tenants = {} if keys_file is None else read_keys(keys_file)
        self._seen = _stamp(keys_file)
        self._checked_s = clock()
        self._empty_since_s: float | None = None

    def caller(self, metadata: Iterable[tuple[str, str | bytes]], names: Sequence[str] = ()) -> Caller:
        """The caller of a call with this metadata.

        Args:
            names: those in the client's certificate, which a trusted authority has signed; used where no key is sent.

        Raises:
            UnauthenticatedError: the key, or the certificate, belongs to no tenant.
        """
        if self._file is None:
            return Caller(DEFAULT_TENANT)
        if self._clock() - self._checked_s >= CHECK_EVERY_S:
            self._look(self._file)
        sent = dict(reversed([(name, value) for name, value in metadata if name in _KEYS]))  # the first of each
        if not sent and names:
            return self._certified(names)
        scheme, key = "bearer", sent.get(_GOOGLE_KEY)
        if "authorization" in sent:
            scheme, _, key = str(sent["authorization"]).partition(" ")
        if not isinstance(key, str):
            raise UnauthenticatedError("send the metadata 'authorization: Bearer KEY' with each call")
        tenant = self._tenants.get(f"sha256:{hash_key(key.strip())}") if scheme.lower() == "bearer" else None
        if tenant is None:
            raise UnauthenticatedError("the key is not known here; send 'authorization: Bearer KEY' with a valid one")
        return Caller(tenant)

    def _certified(self, names: Iterable[str]) -> Caller:
        tenants = {self._tenants[f"cert:{name}"] for name in names if f"cert:{name}" in self._tenants}
        if len(tenants) != 1:
            problem = "belong to several tenants" if tenants else "are not known here"
            raise UnauthenticatedError(f"the names of your certificate {problem}; send 'authorization: Bearer KEY'")
        return Caller(*tenants)

    def reload(self) -> None:
        """Read the file now, if it changed."""
        if self._file is not None:
            self._look(self._file)

    def _look(self, file: Path) -> None:
        self._checked_s = self._clock()
        seen = _stamp(file)
        if seen == self._seen:
            return
        try:
            tenants = read_keys(file)
        except ConfigError as error:
            self._seen, self._empty_since_s = seen, None
            logs.failure("keys_not_reloaded", error)
            return
        if not tenants and self._tenants and not self._is_empty_for_good():
            return
        self._seen, self._empty_since_s = seen, None
        before, self._tenants = self._tenants, tenants
        for tenant in {*before.values()} - {*tenants.values()}:
            self._gone(tenant)
        logs.event("keys_reloaded", keys=len(tenants))

    def _is_empty_for_good(self) -> bool:
        if self._empty_since_s is None:
            self._empty_since_s = self._checked_s
            logs.event("keys_file_is_empty", level=logging.WARNING, believed_after_s=EMPTY_S)
        return self._checked_s - self._empty_since_s >= EMPTY_S


def make_key(tenant: str) -> tuple[str, str]:
    """A new key, and the line that binds it to a tenant in the file of keys. Raises ConfigError."""
    if not _TENANT.fullmatch(tenant):
        raise ConfigError(f"{_TENANT_ADVICE}; this is none: {tenant!r}")
    key = f"co_{secrets.token_urlsafe(32)}"
    return key, f"{tenant} sha256:{hash_key(key)}"


def hash_key(key: str) -> str:
    """SHA-256 of a key, in hexadecimal digits."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def read_keys(file: Path) -> dict[str, str]:
    """Tenants by `sha256:HEX` and `cert:NAME`. Raises ConfigError, naming the line that is wrong."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"access.keys_file: {file} cannot be read ({type(error).__name__})") from None
    tenants: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        parts = line.split("#")[0].split()
        if not parts:
            continue
        if len(parts) != 2 or not _CREDENTIAL.fullmatch(parts[1]) or not _TENANT.fullmatch(parts[0]):
            advice = f"write TENANT sha256:HEX, as scripts/make_key prints it, or TENANT cert:NAME; {_TENANT_ADVICE}"
            raise ConfigError(f"access.keys_file: line {number} of {file} is no key: {advice}")
        tenant, credential = parts
        if tenants.setdefault(credential, tenant) != tenant:
            raise ConfigError(f"access.keys_file: line {number} of {file} binds a key to a second tenant; remove one")
    return tenants


def certificate_names(auth: Mapping[str, Iterable[bytes]]) -> list[str]:
    """Names in a call's `auth_context`: the certificate's alternative names, or its common name where it has none."""
    names = list(auth.get("x509_subject_alternative_name", ())) or list(auth.get("x509_common_name", ()))
    return [name.decode(errors="replace") for name in names]


_TENANT_ADVICE = "a tenant is 1 to 63 of a-z, 0-9, - and _, with a letter or digit at both ends"


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None
