"""The two tables: their schema and their creation."""

from __future__ import annotations

from collections.abc import Callable

from context_store.config import StoreConfig


def create_tables(config: StoreConfig, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Create both tables where absent, wait until they are ACTIVE, switch TTL on. Repeating it changes nothing."""
    raise NotImplementedError
