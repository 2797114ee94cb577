"""Context of dialogues in DynamoDB: events in one table, encrypted payloads in another. See docs/context_store.md."""

from context_store.config import StoreConfig
from context_store.errors import (
    EventClashError,
    InvalidEventError,
    PayloadClashError,
    StoreConfigError,
    StoreError,
    StoreUnavailableError,
    TamperedError,
    ThrottledError,
    TooLargeError,
)
from context_store.store import ContextStore
from context_store.tables import create_tables
from context_store.types import (
    Body,
    DialogueId,
    DialogueStatus,
    Entities,
    Event,
    ExpectSpeech,
    Recorded,
    Reply,
    Speak,
    StoredTurn,
    Transcribe,
    TurnSummary,
    Utterance,
)
from context_store.wrapping import WrappingKey, kms_wrapping_key, load_or_create_key_file, local_wrapping_key

__all__ = [
    "Body",
    "ContextStore",
    "DialogueId",
    "DialogueStatus",
    "Entities",
    "Event",
    "EventClashError",
    "ExpectSpeech",
    "InvalidEventError",
    "PayloadClashError",
    "Recorded",
    "Reply",
    "Speak",
    "StoreConfig",
    "StoreConfigError",
    "StoreError",
    "StoreUnavailableError",
    "StoredTurn",
    "TamperedError",
    "ThrottledError",
    "TooLargeError",
    "Transcribe",
    "TurnSummary",
    "Utterance",
    "WrappingKey",
    "create_tables",
    "kms_wrapping_key",
    "load_or_create_key_file",
    "local_wrapping_key",
]
