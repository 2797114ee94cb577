"""The context store: events and encrypted payloads of dialogues in two DynamoDB tables."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from math import ceil

from context_store.config import StoreConfig
from context_store.dialogue_keys import DialogueKeys, DialogueSecret, generation_of
from context_store.errors import (
    EventClashError,
    InvalidEventError,
    PayloadClashError,
    StoreUnavailableError,
    TamperedError,
)
from context_store.payloads import Payloads, Place, StaleKeyError
from context_store.table_access import TableAccess, chunks
from context_store.table_keys import KEY_SORT_KEY, embedding_item, partition_key, payload_sort_key
from context_store.tables import check_tables, lacking, point_in_time_recovery
from context_store.turns import EventRecord, TurnRecord, Turns
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
    Utterance,
)
from context_store.validation import check_events, check_name, check_turn
from context_store.wrapping import WrappingKey

_EMBEDDING = "embedding"
_ATTEMPTS = 3
_ERASED_AT_ONCE = 100
STATUS_TURNS = 16


class ContextStore:
    """Events and encrypted payloads of dialogues. Blocking; safe to use from many threads at once.

    clock: seconds since 1970; what is past its expiry by this clock is never returned.

    Every method may raise StoreUnavailableError (ThrottledError), StoreConfigError, and InvalidEventError for ids
    that cannot be stored; others are named where they occur. Every method may be repeated.
    """

    def __init__(
        self, config: StoreConfig, wrapping_key: WrappingKey, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._clock = clock
        self._access = TableAccess(config)
        self._keys = DialogueKeys(self._access, config, wrapping_key)
        self._payloads = Payloads(self._access, config.payload_table, self._keys)
        self._turns = Turns(self._access, config.events_table, config.max_events)

    def record(self, dialogue: DialogueId, turn: str, events: Sequence[Event]) -> Recorded:
        """Record 1 to 32 events of a turn; the order of its events and of the calls, and repetition, do not matter.

        Payloads go first, each written once; then one update adds all events and returns the turn's new version.
        The turn's first text gives it its place after those that have one. A call of mere signals is one round trip.
        No turn is read, no payload is decrypted.
        Raises InvalidEventError, TooLargeError, EventClashError, PayloadClashError.
        """
        return self._record(dialogue, turn, events, place_signals=False)

    def place(self, dialogue: DialogueId, turn: str, events: Sequence[Event]) -> Recorded:
        """As `record`, and a turn that expects speech gets its place without any text too."""
        return self._record(dialogue, turn, events, place_signals=True)

    def _record(self, dialogue: DialogueId, turn: str, events: Sequence[Event], *, place_signals: bool) -> Recorded:
        partition_key(dialogue)
        check_turn(turn)
        check_events(events)
        events = _distinct(events)
        contents = {event.event_id: content for event in events if (content := _content(event.body)) is not None}
        now = self._clock()
        expires_at = ceil(now) + self._config.ttl_s
        references = {
            event.event_id: payload_sort_key(turn, event.kind, event.event_id)
            for event in events
            if event.event_id in contents
        }
        for _ in range(_ATTEMPTS):
            secret = self._keys.for_writing(dialogue, now) if contents else None
            try:
                for event in events:
                    if secret is not None and event.event_id in contents:
                        place = Place(dialogue, turn, event.kind, event.event_id)
                        self._payloads.put_once(secret, place, contents[event.event_id], expires_at, now)
            except StaleKeyError:
                self._keys.forget(dialogue)
                continue
            added = self._turns.add(dialogue, turn, events, references, expires_at, now)
            if secret is None and (added.key_id or not (place_signals and added.trigger)):
                return _recorded(added, added.key_id)
            placed = self._placed(dialogue, secret or self._keys.for_writing(dialogue, now), added, events[0], now)
            if placed is not None:
                return placed
        raise StoreUnavailableError("the dialogue is being deleted and written at once; repeat the call")

    def _placed(
        self, dialogue: DialogueId, secret: DialogueSecret, turn: TurnRecord, event: Event, now: float
    ) -> Recorded | None:
        """A turn that has its place, with the key's life extended; None when the dialogue was deleted meanwhile."""
        if turn.key_id == secret.key_id:
            return _recorded(turn, secret.key_id) if self._keys.renew(dialogue, secret, now) else None
        place = self._keys.place(dialogue, secret, turn.turn, turn.expires_at, now)
        if place is None or not self._turns.note_place(dialogue, turn, place, secret.key_id, event):
            return None
        return _recorded(replace(turn, place=place), secret.key_id)

    def read_turns(self, dialogue: DialogueId, limit: int = 8) -> list[StoredTurn]:
        """The last `limit` turns with their texts, oldest first.

        Two round trips, or three in a long dialogue. Of more than 32 MB of texts the newest turns' are read. Raises
        TamperedError when anything of them does not decrypt in its place.

        A text that is still being written under another key is left out, and not counted in its turn's version.
        """
        if limit < 1:
            raise InvalidEventError("limit", "give at least 1")
        now = self._clock()
        key_item, turns = self._turns.read(dialogue, limit)
        last = [turn for turn in turns if turn.expires_at > now][-limit:]
        places = {
            (turn.turn, event.event_id): Place(dialogue, turn.turn, event.kind, event.event_id)
            for turn in reversed(last)
            for event in turn.events
            if event.payload is not None
        }
        secret = self._keys.from_item(dialogue, key_item, now) if places else None
        texts = self._payloads.read(secret, places.values(), now) if secret else {}
        generation = generation_of(key_item, now)
        stored = []
        for turn in last:
            keys = [payload_sort_key(turn.turn, event.kind, event.event_id) for event in turn.events]
            bodies = [(event, _body(event, texts.get(key))) for event, key in zip(turn.events, keys, strict=True)]
            kept = tuple(Event(event.event_id, event.time_s, body) for event, body in bodies if body is not None)
            version = turn.version - sum(key in texts and texts[key] is None for key in keys)
            stored.append(StoredTurn(turn.turn, version, kept, turn.start_s, turn.expires_at, generation))
        return stored

    def dialogue_status(
        self, dialogue: DialogueId, also: Collection[str] = (), besides: str | None = None
    ) -> DialogueStatus:
        """What is known of a dialogue; no payload is read or decrypted.

        Of many turns at least the last 16 are returned, in one round trip, or two of a long dialogue.

        Args:
            also: turns that are returned too, if they are there.
            besides: only the newest turns are returned until one that expects speech, other than this one ("": any); at
                most 16, and none without a place. However long the dialogue is, that is one round trip where `also`
                names that turn, or there is none, two where it is among the newest four, else three.
        """
        now = self._clock()
        if besides is None:
            key_item, turns = self._turns.read(dialogue, STATUS_TURNS, also)
        else:
            key_item, turns = self._turns.read_until_trigger(dialogue, STATUS_TURNS, also, besides, now)
        live = tuple(turn.summary() for turn in turns if turn.expires_at > now)
        return DialogueStatus(live, len(turns) - len(live), generation_of(key_item, now))

    def sweep(self, dialogues: Collection[DialogueId]) -> dict[DialogueId, str]:
        """Drop from memory the unwrapped keys past their time, and those of dialogues that were deleted elsewhere.

        Returns the generation of each of `dialogues`, "" of one that is not there; a round trip tells a hundred.
        """
        return self._keys.sweep(dialogues, self._clock())

    def put_embedding(self, dialogue: DialogueId, turn: StoredTurn, model_version: str, data: bytes) -> bool:
        """Store, encrypted, the context embedding computed when `turn` was the last turn read; up to 380,000 bytes.

        It expires with the turn.

        False, and nothing stored, when there is one of the same turn, version and model already (the first stays:
        replicas may differ in the last bits), or when the dialogue was deleted since `turn` was read.
        Raises TooLargeError.
        """
        item = embedding_item(model_version, turn.version)
        now = self._clock()
        secret = self._keys.for_generation(dialogue, turn.generation, now)
        if secret is None:
            return False
        place = Place(dialogue, check_turn(turn.turn), _EMBEDDING, item)
        try:
            written = self._payloads.put_once(secret, place, data, turn.expires_at, now)
        except (PayloadClashError, StaleKeyError):
            return False
        if written and not self._keys.renew(dialogue, secret, now):
            self._payloads.delete_if_sealed_under(secret, place)
            return False
        return written

    def get_embedding(
        self, dialogue: DialogueId, turn: str, model_version: str, least_version: int = 0
    ) -> bytes | None:
        """The embedding of the turn's highest version, from `least_version` on; None without one that is live.

        Raises TamperedError.
        """
        prefix, least = embedding_item(model_version, least_version).rsplit("#", 1)
        now = self._clock()
        item = self._payloads.latest(dialogue, payload_sort_key(check_turn(turn), _EMBEDDING, prefix) + "#", now)
        if item is None or item["item"]["S"].rsplit("#", 1)[1] < least:
            return None
        secret = self._keys.read(dialogue, now)
        if secret is None:
            return None
        found = f"{prefix}#{item['item']['S'].rsplit('#', 1)[1]}"
        return self._payloads.open(secret, Place(dialogue, turn, _EMBEDDING, found), item, now)

    def delete_dialogue(self, dialogue: DialogueId) -> int:
        """Destroy the dialogue's key, then delete all its items; returns how many items went, 0 when none was there.

        From the first step on nothing of the dialogue can be decrypted, from a backup neither. Call again when it
        raises.
        """
        partition_key(dialogue)
        destroyed = int(self._keys.destroy(dialogue))
        try:
            return destroyed + self._turns.delete_all(dialogue) + self._payloads.delete_all(dialogue)
        finally:
            self._keys.forget(dialogue)  # of whoever had read the key before it was destroyed

    def delete_tenant(self, tenant: str, report: Callable[[str, int], None] = lambda table, items: None) -> int:
        """Destroy all of a tenant's dialogue keys, then delete all its items; returns how many items went.

        Reads both tables from end to end. What is written meanwhile may stay: take the tenant's access first, and call
        again until it returns 0.

        Args:
            report: called after each batch with how many items of which table went.
        """
        prefix = f"{check_name('tenant', tenant)}#"
        events, payloads = self._config.events_table, self._config.payload_table
        self._keys.forget_all()
        found = list(self._access.scan_keys(events, "turn", prefix))
        keys = [key for key in found if key["turn"]["S"] == KEY_SORT_KEY]
        rest = [key for key in found if key["turn"]["S"] != KEY_SORT_KEY]
        deleted = 0
        for table, items in (
            (events, keys),
            (events, rest),
            (payloads, self._access.scan_keys(payloads, "item", prefix)),
        ):
            for batch in chunks(items, _ERASED_AT_ONCE):
                self._access.batch_delete(table, batch)
                deleted += len(batch)
                report(table, len(batch))
        return deleted

    def forget_tenant(self, tenant: str) -> None:
        """Drop a tenant's unwrapped keys from memory."""
        self._keys.forget_tenant(tenant)

    def keys_backed_up(self) -> bool | None:
        """Is point-in-time recovery on for the table that holds the dialogues' keys? None: it does not say."""
        return point_in_time_recovery(self._access, self._config.events_table)

    def lacking(self) -> list[str]:
        """What tables or endpoint lack that the store does without, and what that costs: a clause each."""
        return lacking(self._access, self._config)

    def check(self) -> None:
        """Raise StoreConfigError or StoreUnavailableError unless both tables answer and are ACTIVE."""
        check_tables(self._access, self._config)

    def close(self) -> None:
        """Close the connections and forget all keys."""
        self._keys.forget_all()
        self._access.client.close()


def _recorded(turn: TurnRecord, generation: str) -> Recorded:
    return Recorded(turn.version, turn.trigger, turn.start_s, turn.expires_at, generation, turn.place)


def _distinct(events: Sequence[Event]) -> list[Event]:
    """The events without repetitions. Raises EventClashError, PayloadClashError for one id with two meanings."""
    first: dict[str, Event] = {}
    for event in events:
        known = first.setdefault(event.event_id, event)
        if known.kind != event.kind:
            raise EventClashError("event_id", "is used for two kinds of event in one call; give every event its own id")
        if known.body != event.body:
            raise PayloadClashError("event_id", "is used with two contents in one call; give every event its own id")
    return list(first.values())


def _content(body: Body) -> bytes | None:
    """What of a body is a user's text, as bytes; None for a mere signal."""
    if isinstance(body, (Utterance, Reply)):
        value: dict[str, object] = {"text": body.text}
    elif isinstance(body, Entities):
        value = {"signal": body.signal, "entries": list(body.entries)}
        if any(body.ids):
            value["ids"] = list(body.ids)
        if any(body.aliases):
            value["aliases"] = [list(aliases) for aliases in body.aliases]
        if any(weight != 1 for weight in body.weights):
            value["weights"] = list(body.weights)
    else:
        return None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _body(event: EventRecord, content: bytes | None) -> Body | None:
    """The body of a stored event; None when its payload is not there (any more)."""
    for signal in (Transcribe, Speak, ExpectSpeech):
        if event.kind == signal.kind:
            return signal()
    if content is None:
        return None
    value = json.loads(content)
    if event.kind == Utterance.kind:
        return Utterance(value["text"])
    if event.kind == Reply.kind:
        return Reply(value["text"])
    if event.kind == Entities.kind:
        return Entities(
            value["signal"],
            tuple(value["entries"]),
            tuple(value.get("ids", ())),
            tuple(map(tuple, value.get("aliases", ()))),
            tuple(value.get("weights", ())),
        )
    raise TamperedError("an event of an unknown kind is in the events table; run the version that wrote it")
