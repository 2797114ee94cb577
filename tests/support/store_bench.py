"""A store with a clock that the test moves and a record of every request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from context_store import ContextStore, DialogueId, StoreConfig, WrappingKey

START_S = 1_700_000_000.0
TTL_S = 1000


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = START_S

    def __call__(self) -> float:
        return self.now


class CountingKey(WrappingKey):
    """A wrapping key that counts its use."""

    def __init__(self, inner: WrappingKey) -> None:
        self.inner = inner
        self.wraps = 0
        self.unwraps = 0

    def wrap(self, secret: bytes, context: Any) -> bytes:
        self.wraps += 1
        return self.inner.wrap(secret, context)

    def unwrap(self, wrapped: bytes, context: Any) -> bytes:
        self.unwraps += 1
        return self.inner.unwrap(wrapped, context)


@dataclass
class Bench:
    """A store and what a test wants to see of it."""

    config: StoreConfig
    clock: Clock
    key: CountingKey
    store: ContextStore
    requests: Counter[str]
    bodies: list[str]

    def replica(self, **changes: Any) -> Bench:
        """Another process's store on the same tables, with the same wrapping key."""
        return open_bench(replace(self.config, **changes), self.clock, self.key.inner)

    def items(self, table: str) -> list[dict[str, Any]]:
        """All items of a table, by a scan."""
        client = self.store._access.client
        pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def dialogue_items(self, dialogue: DialogueId) -> list[dict[str, Any]]:
        """All items of a dialogue in both tables."""
        key = f"{dialogue.tenant}#{dialogue.id}"
        both = self.items(self.config.events_table) + self.items(self.config.payload_table)
        return [item for item in both if item["dialogue"]["S"] == key]

    def rewrite(self, table: str, item: dict[str, Any]) -> None:
        """What an intruder with write access does."""
        self.store._access.client.put_item(TableName=table, Item=item)


def open_bench(config: StoreConfig, clock: Clock, key: WrappingKey) -> Bench:
    """A store whose requests are recorded."""
    counting = CountingKey(key)
    store = ContextStore(config, counting, clock=clock)
    requests: Counter[str] = Counter()
    bodies: list[str] = []

    def before_call(model: Any, params: Any, **_: Any) -> None:
        requests[model.name] += 1
        bodies.append(str(params["body"]))

    store._access.client.meta.events.register("before-call.dynamodb.*", before_call)
    return Bench(config, clock, counting, store, requests, bodies)
