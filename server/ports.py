"""Ports to listen on: whether they are free, and what is said where one is not."""

from __future__ import annotations

import socket

from server.settings import Settings

_PURPOSES = {"health_port": " for health", "metrics_port": " for metrics", "http_port": " for HTTP", "port": ""}
"""What a port is for, by its setting, in the order in which they are looked at."""
_OPTIONS = {"http_port": "--http-port", "port": "--port"}
"""Options of `serve`, by their settings."""


class PortError(Exception):
    """The server cannot listen where it should. The message says what to change.

    Args:
        host: an address or a name of this machine.
        port: which of its ports.
        setting: the one that names the port.
    """

    def __init__(self, host: str, port: int, setting: str = "port") -> None:
        super().__init__(
            f"cannot listen on {address_of(host, port)}{_PURPOSES[setting]}: it is in use or not ours; choose another "
            f"port ({_OPTIONS.get(setting, setting)}, 0 for a free one)"
        )


def address_of(host: str, port: int) -> str:
    """HOST:PORT."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_ports(settings: Settings) -> None:
    """Look whether the ports are free, before a start that takes long. Raises PortError for one that surely is not."""
    for setting in _PURPOSES:
        port = getattr(settings, setting)
        if port and not _may_be_bound(settings.host, port):
            raise PortError(settings.host, port, setting)


def _may_be_bound(host: str, port: int) -> bool:
    """Whether any address of a host can be bound, or none is known here."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return True
    return any(_binds(family, address) for family, _, _, _, address in found)


def _binds(family: int, address: tuple[object, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as those that listen do
            probe.bind(address)
    except OSError:
        return False
    return True
