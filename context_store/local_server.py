"""A DynamoDB (and KMS) in this process: moto's server on a loopback socket, for demonstrations and tests."""

from __future__ import annotations

import importlib
import logging
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from context_store.config import StoreConfig
from context_store.errors import StoreConfigError


@contextmanager
def local_server(port: int = 0) -> Iterator[str]:
    """Run moto's server on 127.0.0.1 while the context lasts; yields its URL, e.g. `http://127.0.0.1:40123`.

    port: 0 for a free one. Data lives in this process's memory and is shared by all such servers in it. The server
    logs each request at INFO to the logger `werkzeug`, which is set to WARNING here.
    Raises StoreConfigError when moto, the extra `local` of this project, is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer  # takes a second to import, and only this needs it

        importlib.import_module("moto.dynamodb.urls")  # else the first call waits for it, perhaps for too long
    except ModuleNotFoundError:
        install = f"{shlex.quote(sys.executable)} -m pip install 'carryover-asr[local]'"
        raise StoreConfigError(f"a store in this process needs moto; run {install}, or name a DynamoDB") from None
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    served: Any = server._server
    served.app = _one_at_a_time(served.app)
    try:
        host, bound = server.get_host_and_port()
        yield f"http://{host}:{bound}"
    finally:
        server.stop()


def _one_at_a_time(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Of two updates of one item at once, moto would lose one."""
    lock = threading.Lock()

    def serve(environ: Any, start_response: Any) -> Iterable[bytes]:
        with lock:
            return app(environ, start_response)

    return serve


def local_config(endpoint_url: str, **changes: Any) -> StoreConfig:
    """A StoreConfig for a server on this machine that takes any credentials; `changes` replace other fields."""
    config = StoreConfig(endpoint_url=endpoint_url, access_key_id="local", secret_access_key="local")
    return replace(config.patient(), **{"max_attempts": 2, **changes})
