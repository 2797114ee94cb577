"""Keys of the two tables, made from checked names.

'#' separates the parts of a key and is refused inside a part, so two different (tenant, dialogue) or (turn, kind, item)
never give the same key, and no turn can take the place of the dialogue's own item.
"""

from __future__ import annotations

from context_store.errors import InvalidEventError
from context_store.types import DialogueId
from context_store.validation import MAX_MODEL_VERSION_BYTES, MAX_VERSION, check_name

KEY_SORT_KEY = "#key"
"""Sort key of the item that holds the dialogue's wrapped data key."""


def partition_key(dialogue: DialogueId) -> str:
    """`TENANT#ID`. Raises InvalidEventError."""
    return f"{check_name('tenant', dialogue.tenant)}#{check_name('dialogue_id', dialogue.id)}"


def payload_sort_key(turn: str, kind: str, item: str) -> str:
    """`turn#kind#id` of checked parts."""
    return f"{turn}#{kind}#{item}"


def embedding_item(model_version: str, version: int) -> str:
    """Item id of an embedding: sorts by version within a model version. Raises InvalidEventError."""
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        raise InvalidEventError("version", f"give the turn's version, an integer from 0 to {MAX_VERSION}")
    return f"{check_name('model_version', model_version, MAX_MODEL_VERSION_BYTES)}#{version:06d}"
