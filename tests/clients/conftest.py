"""Real servers, as tests/integration has them, and clients of both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.both import DEADLINE_S, Clients
from tests.integration.conftest import dialogue, key, pcm, shared, tables, workshop

__all__ = ["dialogue", "key", "pcm", "shared", "tables", "workshop"]


@pytest.fixture(params=["sync", "aio"])
def clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = Clients(request.param, loop, [])
    yield made
    for client in made.made:
        client.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE_S)
    loop.close()


@pytest.fixture
def client(clients: Clients, shared: Any) -> Any:
    return clients(shared.port)
