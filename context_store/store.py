"""The context store: events and encrypted payloads of dialogues in two DynamoDB tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from context_store.config import StoreConfig
from context_store.types import DialogueId, DialogueStatus, Event, Recorded, StoredTurn
from context_store.wrapping import WrappingKey


class ContextStore:
    """Events and encrypted payloads of dialogues. Blocking; safe to use from many threads at once.

    clock: seconds since 1970; what is past its expiry by this clock is never returned.

    Every method may raise StoreUnavailableError (ThrottledError), StoreConfigError, and InvalidEventError for ids
    that cannot be stored; others are named where they occur. Every method may be repeated.
    """

    def __init__(
        self, config: StoreConfig, wrapping_key: WrappingKey, *, clock: Callable[[], float] = time.time
    ) -> None:
        raise NotImplementedError

    def record(self, dialogue: DialogueId, turn: str, events: Sequence[Event]) -> Recorded:
        """Record 1 to 32 events of a turn; the order of events and of calls, and repetition, do not matter.

        Payloads go first, each written once; then one update adds all events and returns the turn's new version.
        Nothing is read and no payload is decrypted.
        Raises InvalidEventError, TooLargeError, EventClashError, PayloadClashError.
        """
        raise NotImplementedError

    def read_turns(self, dialogue: DialogueId, limit: int = 8) -> list[StoredTurn]:
        """The last ``limit`` turns with their texts, oldest first. Raises TamperedError."""
        raise NotImplementedError

    def dialogue_status(self, dialogue: DialogueId) -> DialogueStatus:
        """What is known of a dialogue, without reading or decrypting a payload."""
        raise NotImplementedError

    def put_embedding(self, dialogue: DialogueId, turn: str, model_version: str, version: int, data: bytes) -> bool:
        """Store, encrypted, the context embedding that ``turn`` at ``version`` gave; up to 380,000 bytes.

        Returns False when one of the same turn, model version and version is there already (it stays).
        """
        raise NotImplementedError

    def get_embedding(self, dialogue: DialogueId, turn: str, model_version: str) -> bytes | None:
        """The embedding of the turn's highest version, or None. Raises TamperedError."""
        raise NotImplementedError

    def delete_dialogue(self, dialogue: DialogueId) -> int:
        """Destroy the dialogue's key, then delete all its items; returns how many items went. 0 when nothing is there."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise StoreConfigError or StoreUnavailableError unless both tables answer and are ACTIVE."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections."""
        raise NotImplementedError
