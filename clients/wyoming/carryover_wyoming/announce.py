"""Being found: Home Assistant proposes Wyoming servers that announce themselves by zeroconf."""

from __future__ import annotations

import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MULTICAST = ("224.0.0.251", 5353)


class AnnounceError(Exception):
    """The server cannot be announced. The message says what to change."""


@asynccontextmanager
async def announced(port: int, name: str) -> AsyncIterator[None]:
    """Announce a server on this machine while inside.

    Args:
        port: where it listens.
        name: by which it is shown; made one of its own by this machine's address.

    Raises:
        AnnounceError: zeroconf is not installed, or there is no network.
    """
    try:
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
    except ImportError:
        raise AnnounceError("zeroconf is not installed; run: pip install 'carryover-wyoming[zeroconf]'") from None
    kind = "_wyoming._tcp.local."
    try:
        address = _own_address()
        service = AsyncServiceInfo(kind, f"{name}-{uuid.getnode():012x}.{kind}", addresses=[address], port=port)
        zeroconf = AsyncZeroconf()
        await (await zeroconf.async_register_service(service))
    except (OSError, Error) as error:
        raise AnnounceError(f"the server cannot be announced: {error}; leave out --zeroconf") from None
    try:
        yield
    finally:
        await (await zeroconf.async_unregister_service(service))
        await zeroconf.async_close()


def _own_address() -> bytes:
    """This machine's address in the network that multicast goes to; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MULTICAST)
        return socket.inet_aton(probe.getsockname()[0])
