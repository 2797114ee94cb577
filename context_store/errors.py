"""Errors of the context store, one tree.

    StoreError
    ├── InvalidEventError (also ValueError)   an argument cannot be stored; says which and what to change
    │   ├── TooLargeError                     a text, a list or a whole turn is over a limit
    │   └── EventClashError                   this event id was already used for another kind of event
    ├── PayloadClashError                     this event id was already used with another content
    ├── TamperedError                         stored ciphertext is altered, truncated, swapped or foreign
    ├── StoreConfigError (also ValueError)    tables, permissions or the wrapping key are not as they must be
    └── StoreUnavailableError                 DynamoDB or KMS did not answer; repeat the call
        └── ThrottledError                    they answered "slow down"; repeat later

Every call is idempotent, so repeating one after StoreUnavailableError is always safe. No message holds a user's
text, nor an identifier, nor the message of the AWS error it stands for (only that error's code).
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of everything that this package raises on purpose."""


class InvalidEventError(StoreError, ValueError):
    """An argument cannot be stored.

    field: name of the argument, as in the interface (`event_id`, `turn_id`, `dialogue_id`, `text` ...).
    """

    def __init__(self, field: str, advice: str) -> None:
        super().__init__(f"{field}: {advice}")
        self.field = field


class TooLargeError(InvalidEventError):
    """A text, a list or a whole turn is over a limit of DynamoDB or of this package."""


class EventClashError(InvalidEventError):
    """The event id was already used in this turn for an event of another kind; nothing of the call's events is kept."""


class PayloadClashError(StoreError):
    """The event id was already used in this turn with another content; the first content stays."""

    def __init__(self, field: str, advice: str) -> None:
        super().__init__(f"{field}: {advice}")
        self.field = field


class TamperedError(StoreError):
    """Stored ciphertext does not belong where it was found, or is not what was written there."""


class StoreConfigError(StoreError, ValueError):
    """Tables, permissions or the wrapping key are not as they must be; says what to change."""


class StoreUnavailableError(StoreError):
    """DynamoDB or KMS did not answer in time or answered with a fault of its own. Repeating the call is safe."""


class ThrottledError(StoreUnavailableError):
    """DynamoDB or KMS refused the rate. Repeating the call later is safe."""
