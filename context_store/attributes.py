"""Attributes of stored items, which whoever may write the tables can have made anything of."""

from __future__ import annotations

from context_store.errors import TamperedError
from context_store.table_access import Item

_MALFORMED = "a stored item is malformed; this package did not write it"


def text(item: Item, name: str) -> str:
    """A string. Raises TamperedError when it is missing or something else."""
    value = item.get(name, {}).get("S")
    if not isinstance(value, str):
        raise TamperedError(_MALFORMED)
    return value


def number(item: Item, name: str) -> int:
    """An integer. Raises TamperedError when it is missing or something else."""
    try:
        return int(item.get(name, {}).get("N", ""))
    except ValueError:
        raise TamperedError(_MALFORMED) from None


def binary(item: Item, name: str) -> bytes:
    """Bytes. Raises TamperedError when they are missing or something else."""
    value = item.get(name, {}).get("B")
    if value is None:
        raise TamperedError(_MALFORMED)
    return bytes(value)
