"""What goes into the store and what comes out of it: plain frozen values.

Fields that hold a user's words are left out of `repr`, so that a value in a log line or a traceback shows none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias


@dataclass(frozen=True)
class DialogueId:
    """A dialogue of a tenant. Nothing stored under one tenant is ever read under another."""

    tenant: str
    id: str
    """1 to 256 bytes of UTF-8 each, without '#' and control characters."""


@dataclass(frozen=True)
class Utterance:
    """What the user said, as recognised."""

    kind: ClassVar[str] = "utterance"
    text: str = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """What the assistant answers."""

    kind: ClassVar[str] = "reply"
    text: str = field(repr=False)


@dataclass(frozen=True)
class Entities:
    """What a service knows: entries of one signal, in the service's order."""

    kind: ClassVar[str] = "entities"
    signal: str = field(repr=False)
    """Contacts, devices, places, screen, preferences, device_type, or any custom name."""
    entries: tuple[str, ...] = field(repr=False)
    ids: tuple[str, ...] = field(default=(), repr=False)
    """The service's own, one for each entry, "" where it has none; or none at all."""
    aliases: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    """Other names of each entry; or none at all."""
    weights: tuple[float, ...] = field(default=(), repr=False)
    """How much likelier each entry is to be named, factors; or none at all."""


@dataclass(frozen=True)
class Transcribe:
    """The recogniser is at work on the turn."""

    kind: ClassVar[str] = "transcribe"


@dataclass(frozen=True)
class Speak:
    """The assistant starts to speak."""

    kind: ClassVar[str] = "speak"


@dataclass(frozen=True)
class ExpectSpeech:
    """The assistant will open the microphone again: the trigger of the reply window."""

    kind: ClassVar[str] = "expect_speech"


Body: TypeAlias = Utterance | Reply | Entities | Transcribe | Speak | ExpectSpeech


@dataclass(frozen=True)
class Event:
    """Something that happened in a turn."""

    event_id: str
    """Chosen by the caller, unique in the turn; the same event sent again changes nothing."""
    time_s: float
    """When it happened, seconds since 1970 by the caller's clock (kept to the microsecond). It orders the events of one
    turn and nothing else. The first time stored for an event id stays."""
    body: Body

    @property
    def kind(self) -> str:
        """utterance, reply, entities, transcribe, speak or expect_speech."""
        return self.body.kind


@dataclass(frozen=True)
class Recorded:
    """The turn after `ContextStore.record`, as the same round trip returned it."""

    version: int
    """Number of distinct events in the turn. It only grows, does not depend on their order, and does not change when an
    event is repeated: a job for (turn, version) need not be started twice."""
    trigger: bool
    """An expect_speech event is among them (from this call or from an earlier one)."""
    start_s: float
    """Time of the turn's earliest event."""
    expires_at: int
    """Seconds since 1970 by the clock of the replica that wrote the turn first; a turn id used again after that names
    another turn."""
    generation: str = ""
    """The generation of the dialogue in which the turn has its place; "" without one. See `StoredTurn`."""
    place: int = 0
    """Among the dialogue's turns, from 1, by a counter in the store; it never changes. 0: the turn has none yet, or was
    recorded by an earlier version; such turns come first, by `start_s`, then by id."""


@dataclass(frozen=True)
class StoredTurn:
    """A turn with its texts."""

    turn: str
    version: int
    """Number of events in the turn, as in `Recorded`."""
    events: tuple[Event, ...]
    """By time, then event id. An event whose payload has expired is left out."""
    start_s: float
    expires_at: int
    """As in `Recorded`."""
    generation: str
    """The generation of the dialogue that it was read in; a new one begins after every deletion. "" without a key."""


@dataclass(frozen=True)
class TurnSummary:
    """A turn without its texts: made without reading or decrypting a payload."""

    turn: str
    version: int
    trigger: bool
    start_s: float
    """Time of its earliest event."""
    expires_at: int
    """As in `Recorded`."""
    kinds: tuple[str, ...]
    """Kinds of its events, by time, then event id."""
    place: int = 0
    """As in `Recorded`."""


@dataclass(frozen=True)
class DialogueStatus:
    """What is known of a dialogue without decrypting anything."""

    turns: tuple[TurnSummary, ...]
    """Live turns, oldest first; of very many the newest."""
    expired_turns: int
    """Turns past their expiry that the table still holds; they are never used, but tell EXPIRED from NOT_FOUND."""
    generation: str
    """The generation of the dialogue, as in `StoredTurn`."""
