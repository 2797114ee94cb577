"""Being found: Home Assistant proposes Wyoming servers that announce themselves by zeroconf."""

from __future__ import annotations

import ipaddress
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MULTICAST = ("224.0.0.251", 5353)


class AnnounceError(Exception):
    """The server cannot be announced. The message says what to change."""


@asynccontextmanager
async def announced(host: str, port: int, name: str) -> AsyncIterator[None]:
    """Announce a server on this machine while inside.

    Args:
        host: where it listens; an address of this machine, or one that stands for all of them.
        port: where it listens.
        name: by which it is shown; made one of its own by this machine's address.

    Raises:
        AnnounceError: zeroconf is not installed, there is no network, or nobody else reaches that host.
    """
    try:
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
    except ImportError:
        raise AnnounceError("zeroconf is not installed; run: pip install 'carryover-wyoming[zeroconf]'") from None
    kind = "_wyoming._tcp.local."
    try:
        address = _reached(host)
        service = AsyncServiceInfo(kind, f"{name}-{uuid.getnode():012x}.{kind}", addresses=[address], port=port)
        zeroconf = AsyncZeroconf()
        await (await zeroconf.async_register_service(service))
    except (OSError, Error) as error:
        raise AnnounceError(
            f"the server cannot be announced: {error}; give another name, or leave out --zeroconf"
        ) from None
    try:
        yield
    finally:
        await (await zeroconf.async_unregister_service(service))
        await zeroconf.async_close()


def _reached(host: str) -> bytes:
    """The address by which other machines reach a server that listens on a host. Raises AnnounceError, OSError."""
    address = ipaddress.ip_address(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    if address.is_loopback:
        raise AnnounceError(
            f"{host} is reached from this machine alone: listen on --uri tcp://0.0.0.0:10300, or leave out --zeroconf"
        )
    return _own_address() if address.is_unspecified else address.packed


def _own_address() -> bytes:
    """This machine's address in the network that multicast goes to; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MULTICAST)
        return socket.inet_aton(probe.getsockname()[0])
