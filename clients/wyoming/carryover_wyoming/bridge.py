"""The listening socket: who connects, how many at once, and how all of it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from carryover import ServerInfo
from carryover_wyoming import __version__
from carryover_wyoming.events import MOST_HEADER
from carryover_wyoming.recognition import LANGUAGE, Recognition
from carryover_wyoming.satellite import Satellite

_log = logging.getLogger(__name__)

MOST_CONNECTIONS = 128
PROGRAM = "carryover"
"""Name of the program, for `select-program`."""


class UriError(Exception):
    """An address cannot be listened on. The message says what to give."""


class Address(NamedTuple):
    """Where to listen: a host and a port, or a path."""

    host: str
    port: int
    path: Path | None

    @classmethod
    def of(cls, uri: str) -> Address:
        """The address of tcp://HOST:PORT or unix:///PATH. Raises UriError."""
        try:
            parts = urlsplit(uri)
            host, port, path = parts.hostname, parts.port, parts.path
        except ValueError:
            host, port, path, parts = None, None, "", urlsplit("")
        if parts.scheme == "tcp" and host and port is not None and path in ("", "/"):
            return cls(host, port, None)
        if parts.scheme == "unix" and path and not host:
            return cls("", 0, Path(path))
        raise UriError(f"{uri}: listen on tcp://HOST:PORT, as tcp://0.0.0.0:10300, or on unix:///PATH")


def info(server: ServerInfo, *, ends_itself: bool) -> Info:
    """What the program says of itself.

    Args:
        server: what the server says of itself.
        ends_itself: whether the end of a command is found here.
    """
    attribution = Attribution("Carryover", "")
    model = AsrModel(
        server.model_version, attribution, True, "The server's acoustic model", server.version, languages=[LANGUAGE]
    )
    program = AsrProgram(
        PROGRAM,
        attribution,
        True,
        "Streaming recogniser that uses the names of the house and the dialogue",
        __version__,
        models=[model],
        supports_transcript_streaming=True,
        requires_external_vad=not ends_itself,
        prefers_auto_gain_enabled=False,  # the level changes nothing
        prefers_noise_reduction_enabled=False,
    )
    return Info(asr=[program])


class Bridge:
    """Listens, and answers every connection in a task of its own.

    Args:
        info: what `describe` is answered with.
    """

    def __init__(self, info: Info, recognition: Recognition) -> None:
        self._info = info
        self._recognition = recognition
        self._satellites: dict[asyncio.Task[None], Satellite] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._draining = False

    async def listen(self, address: Address) -> Address:
        """Begin to listen; the address with the port that was free, where 0 was asked for.

        Raises:
            OSError: the address cannot be listened on.
        """
        if address.path is not None:
            if address.path.is_socket():
                address.path.unlink()  # of a bridge that ended without a word
            self._server = await asyncio.start_unix_server(self._connected, address.path, limit=MOST_HEADER)
            return address
        self._server = await asyncio.start_server(self._connected, address.host, address.port, limit=MOST_HEADER)
        return address._replace(port=self._server.sockets[0].getsockname()[1])

    async def drain(self, patience_s: float) -> None:
        """Take nobody new, end idle connections, and let recordings under way be answered for so long."""
        self._draining = True
        if self._server is not None:
            self._server.close()
        for task, satellite in self._satellites.items():
            satellite.last = True
            if not satellite.busy:
                task.cancel()
        if self._satellites:
            await asyncio.wait(self._satellites, timeout=patience_s)
        left = [*self._satellites, *self._leaving]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        satellite = Satellite(reader, writer, self._info, self._recognition)
        taken = not self._draining and len(self._satellites) < MOST_CONNECTIONS
        if not taken and len(self._leaving) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(satellite.run() if taken else satellite.turn_away())
        task.add_done_callback(partial(self._left, writer))
        if taken:
            self._satellites[task] = satellite
        else:
            self._leaving.add(task)
        connection = writer.get_extra_info("socket")
        if connection is not None:  # finds a satellite that has vanished
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def _left(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        writer.transport.abort()  # nothing is left to be sent; a task that was cancelled early may not have closed it
        self._satellites.pop(task, None)
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            where = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("a connection failed: %s in %s, line %s", type(error).__name__, where.name, where.lineno)
