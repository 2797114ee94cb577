"""A server with everything it needs in this process: models, and a store where none is configured."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager

import torch

from asr.errors import AsrError
from context_store import ContextStore, StoreError, StoreUnavailableError, create_tables
from context_store.local_server import local_server
from server import tracing
from server.app import Server, load_parts, store_config, wrapping_key
from server.ports import PortError, check_ports
from server.settings import ConfigError, Settings

_KEYS_BACKED_UP = (
    "point-in-time recovery is on for {}, which holds the dialogues' keys: what is erased can be brought back from it; "
    "switch it off there"
)

Say = Callable[[str], None]


class HostError(Exception):
    """The server cannot run here. The message says what to change."""


_PRIMITIVES = "32"
"""oneDNN keeps what it has compiled for each length of an utterance, 1,024 of them if it is not told otherwise: some MB
an hour. It reads this when it first computes."""


@contextmanager
def open_store(settings: Settings, say: Say) -> Iterator[ContextStore]:
    """The store that the settings name; "local" is one in this process. Tables are made where they are local.

    One that does not answer now is no reason not to recognise: that is said, and it is used when it does.
    Raises HostError.
    """
    with ExitStack() as stack:
        try:
            endpoint = stack.enter_context(local_server()) if settings.store.endpoint == "local" else None
            config = store_config(settings, endpoint)
            if endpoint:
                _no_proxy("127.0.0.1")
                say(f"store: in this process ({endpoint}); what is recorded is gone when it ends")
                create_tables(config.patient())
            else:
                say(f"store: {config.endpoint_url or 'AWS'}, {config.region}")
            store = stack.enter_context(closing(ContextStore(config, wrapping_key(settings.store))))
            try:
                store.check()
                if lacking := store.lacking():
                    say(f"warning: {'; '.join(lacking)}")
                if store.keys_backed_up():
                    say(f"warning: {_KEYS_BACKED_UP.format(config.events_table)}")
            except StoreUnavailableError as error:
                say(f"warning: {error}; until it answers there is no context")
        except StoreError as error:
            raise HostError(f"the context store cannot be used: {error}") from None
        yield store


@asynccontextmanager
async def running(settings: Settings, say: Say) -> AsyncIterator[tuple[Server, int]]:
    """A server and its port, while inside. Raises HostError."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _PRIMITIVES)
    torch.set_num_threads(1)  # streams run beside each other: more threads for one of them slow the others down
    try:
        check_ports(settings)
    except PortError as error:
        raise HostError(str(error)) from None
    with open_store(settings, say) as store:
        say("models: loading")
        try:
            tracing.configure(settings.traces)
            server = Server(settings, load_parts(settings, store))
        except AsrError as error:
            raise HostError(f"a model cannot be loaded: {error}") from None
        except ConfigError as error:
            raise HostError(str(error)) from None
        try:
            port = await server.start()
            if server.metrics_port is not None:
                say(f"metrics: http://{settings.host}:{server.metrics_port}/metrics")
        except PortError as error:
            await server.close()
            raise HostError(str(error)) from None
        try:
            yield server, port
        finally:
            await server.close()
            tracing.close()


async def until_signalled(again: str = "") -> str:
    """Wait for SIGTERM or SIGINT, or for the one of them that is named `again`; return its name."""
    loop, came = asyncio.get_running_loop(), asyncio.Queue[str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, came.put_nowait, number.name)
    while again not in ("", name := await came.get()):
        pass
    return name


def _no_proxy(host: str) -> None:
    """A proxy of the environment is not asked for what is in this process."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))
