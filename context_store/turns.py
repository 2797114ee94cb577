"""The events table: one item a turn, one attribute an event, no text.

    dialogue (partition key)  TENANT#ID
    turn (sort key)           the turn's id; `#key` holds the dialogue's key (see `dialogue_keys`)
    e#EVENT_ID                "kind time", e.g. "utterance 1700000000.250000"
    p#EVENT_ID                sort key of the event's payload, for kinds that have one
    expires_at                seconds since 1970
    at_limit                  present once the turn has as many events as it may
    place                     "PLACE KEY_ID": the turn's place in the generation of that key (see `turn_order`)

Every event's attribute is set with if_not_exists, so events may come in any order and any number of times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile

from context_store.attributes import number, text
from context_store.errors import EventClashError, StoreUnavailableError, TamperedError, TooLargeError
from context_store.table_access import ConditionFailedError, Item, TableAccess
from context_store.table_keys import KEY_SORT_KEY, partition_key
from context_store.turn_order import TurnOrder, order_in
from context_store.types import DialogueId, Event, ExpectSpeech, TurnSummary
from context_store.validation import MAX_TIME_S

_ATTEMPTS = 3
_FULL = "at_limit"
_AT_ONCE = 16
"""Turns up to which a dialogue is read in one round trip."""
_FEW = 4
"""Turns that are read first, since one of them nearly always expects speech."""
_PAGES_WITHOUT_ORDER = 4
"""Of 1 MB: some 10,000 turns."""


@dataclass(frozen=True)
class EventRecord:
    """An event as the events table has it."""

    event_id: str
    time_s: float
    kind: str
    payload: str | None
    """Sort key in the payload table, or None."""


@dataclass(frozen=True)
class TurnRecord:
    """A turn as the events table has it; events by time, then event id."""

    turn: str
    expires_at: int
    events: tuple[EventRecord, ...]
    place: int = 0
    """Among the dialogue's turns, from 1; 0 without one."""
    key_id: str = ""
    """Of the generation in which the turn got its place; "" where its item does not say."""

    @property
    def version(self) -> int:
        """Number of distinct events."""
        return len(self.events)

    @property
    def trigger(self) -> bool:
        """An expect_speech event is among them."""
        return any(event.kind == ExpectSpeech.kind for event in self.events)

    @property
    def start_s(self) -> float:
        """Time of the earliest event."""
        return min(event.time_s for event in self.events)

    def summary(self) -> TurnSummary:
        """The public form."""
        kinds = tuple(event.kind for event in self.events)
        return TurnSummary(self.turn, self.version, self.trigger, self.start_s, self.expires_at, kinds, self.place)


class Turns:
    """Reads and writes the items of turns."""

    def __init__(self, access: TableAccess, table: str, max_events: int) -> None:
        self._access = access
        self._table = table
        self._max_events = max_events

    def add(
        self,
        dialogue: DialogueId,
        turn: str,
        events: Sequence[Event],
        payloads: Mapping[str, str],
        expires_at: int,
        now: float,
    ) -> TurnRecord:
        """Add events to a turn in one round trip; returns the turn as it is now. A turn past its expiry starts anew.

        The call that reaches the limit of events is still taken, in a second round trip, and closes the turn.
        events: with distinct ids. payloads: sort key by event id. Raises EventClashError, TooLargeError; nothing is
        added then.
        """
        key = _key(dialogue, turn)
        names, values = _names_and_values(events, payloads, expires_at, now)
        settings = [f"{name}=if_not_exists({name},:{name[1:]})" for name in names]
        condition = " AND ".join(
            ["(attribute_not_exists(#x) OR #x>:now)", f"attribute_not_exists({_FULL})"]
            + [f"(attribute_not_exists(#e{i}) OR begins_with(#e{i},:{event.kind}))" for i, event in enumerate(events)]
        )
        for _ in range(_ATTEMPTS):
            try:
                update = "SET " + ",".join(settings)
                added = parse_turn(self._access.update(self._table, key, update, condition, names, values))
                if added.version >= self._max_events:
                    self._close(key)
                return added
            except ConditionFailedError as failed:
                _raise_clash(failed.item, events, now)
                if _FULL in failed.item and number(failed.item, "expires_at") > now:
                    return self._already_there(failed.item, events)
            with suppress(ConditionFailedError):  # it fails when another writer has started the turn anew
                self._access.delete_if(self._table, key, "#x<=:now", {"#x": "expires_at"}, {":now": values[":now"]})
        raise StoreUnavailableError("the turn is written by many at once; repeat the call")

    def _close(self, key: Item) -> None:
        """Take no more events into a turn."""
        values: Item = {":true": {"BOOL": True}}
        with suppress(ConditionFailedError):  # deleted meanwhile
            condition = "attribute_exists(expires_at)"
            self._access.update(self._table, key, f"SET {_FULL}=:true", condition, {}, values)

    def _already_there(self, item: Item, events: Sequence[Event]) -> TurnRecord:
        """The full turn when all the events are in it, so that repeating them changes nothing. Raises TooLargeError."""
        if all(f"e#{event.event_id}" in item for event in events):
            return parse_turn(item)
        raise TooLargeError("events", f"the turn has its {self._max_events} events; start a new turn")

    def note_place(self, dialogue: DialogueId, turn: TurnRecord, place: int, key_id: str, event: Event) -> bool:
        """Write a turn's place into its item; False when the item is not the one that the event was added to."""
        names = {"#p": "place", "#x": "expires_at", "#e": f"e#{event.event_id}"}
        values: Item = {":p": {"S": f"{place} {key_id}"}, ":x": {"N": str(turn.expires_at)}}
        try:
            key = _key(dialogue, turn.turn)
            self._access.update(self._table, key, "SET #p=:p", "#x=:x AND attribute_exists(#e)", names, values)
        except ConditionFailedError:
            return False
        return True

    def read(self, dialogue: DialogueId, most: int, also: Collection[str] = ()) -> tuple[Item | None, list[TurnRecord]]:
        """The dialogue's key item and its turns, oldest first, expired ones included.

        Of more than a few, at least the `most` newest and those that `also` names. Raises TamperedError on an item that
        this package never wrote.
        """
        some, more = self._access.page(self._table, *self._all(dialogue), Limit=max(most, _AT_ONCE) + 2)
        items = {item["turn"]["S"]: item for item in some}
        if more:
            items |= self._newest(dialogue, items, most, also)
        return _parsed(items)

    def read_until_trigger(
        self, dialogue: DialogueId, most: int, also: Collection[str], besides: str, now: float
    ) -> tuple[Item | None, list[TurnRecord]]:
        """As `read`, of the newest turns until one that is live and expects speech, besides one turn.

        The cost does not depend on the dialogue's length: one round trip where that turn is among `also`, or there is
        none; two where it is among the newest, else three.
        """
        items = self._get(dialogue, {KEY_SORT_KEY, *also})
        named = order_in(items.get(KEY_SORT_KEY)).newest()
        if not named and KEY_SORT_KEY in items:  # of an earlier version: nothing tells which turns are the newest
            return self.read(dialogue, most, also)
        newest = [turn for turn in named if turn != besides][:most]
        asked = {*also}
        for count in (_FEW, most):
            unknown = _until_trigger(newest[:count], items, now) - asked
            items |= self._get(dialogue, unknown)
            asked |= unknown
        return _parsed(items)

    def _newest(
        self, dialogue: DialogueId, known: Mapping[str, Item], most: int, also: Iterable[str]
    ) -> dict[str, Item]:
        """What a long dialogue's newest turns, and others that are named, take beyond the items that are known."""
        key = {KEY_SORT_KEY: known[KEY_SORT_KEY]} if KEY_SORT_KEY in known else self._get(dialogue, [KEY_SORT_KEY])
        newest = order_in(key.get(KEY_SORT_KEY)).newest()[:most]
        if not newest:  # of an earlier version, or without any text: nothing tells which turns are the newest
            every = self._access.query(self._table, *self._all(dialogue), pages=_PAGES_WITHOUT_ORDER)
            return {item["turn"]["S"]: item for item in every}
        return key | self._get(dialogue, {*newest, *also} - known.keys())

    def _get(self, dialogue: DialogueId, turns: Iterable[str]) -> dict[str, Item]:
        keys = [_key(dialogue, turn) for turn in turns]
        return {item["turn"]["S"]: item for item in self._access.batch_get(self._table, keys)}

    def _all(self, dialogue: DialogueId) -> tuple[str, Item, dict[str, str]]:
        return "#d = :d", {":d": {"S": partition_key(dialogue)}}, {"#d": "dialogue"}

    def delete_all(self, dialogue: DialogueId) -> int:
        """Delete every item of a dialogue in the events table; returns how many there were."""
        keys = list(
            self._access.query(
                self._table,
                "#d = :d",
                {":d": {"S": partition_key(dialogue)}},
                {"#d": "dialogue", "#t": "turn"},
                ProjectionExpression="#d, #t",
            )
        )
        self._access.batch_delete(self._table, keys)
        return len(keys)


def _key(dialogue: DialogueId, turn: str) -> Item:
    """Primary key of a turn's item."""
    return {"dialogue": {"S": partition_key(dialogue)}, "turn": {"S": turn}}


def parse_turn(item: Item, order: TurnOrder | None = None, key_id: str = "") -> TurnRecord:
    """A turn from its item, with its place by what the dialogue's item says, if that is known, or else by its own.

    Args:
        order: of the dialogue.
        key_id: of the dialogue's key; a place of another generation counts for nothing.

    Raises:
        TamperedError: it is malformed.
    """
    events = []
    try:
        for name, value in item.items():
            if name.startswith("e#"):
                kind, time = value["S"].split(" ")
                payload = text(item, reference) if (reference := f"p#{name[2:]}") in item else None
                events.append(EventRecord(name[2:], _time(time), kind, payload))
        turn, expires_at = text(item, "turn"), number(item, "expires_at")
        place, _, placed_in = text(item, "place").partition(" ") if "place" in item else ("0", "", "")
        own = int(place) if order is None or placed_in == key_id else 0
    except (KeyError, ValueError):
        raise TamperedError("an item of the events table is malformed") from None
    if not events:
        raise TamperedError("an item of the events table has no events")
    in_order = tuple(sorted(events, key=lambda event: (event.time_s, event.event_id)))
    return TurnRecord(turn, expires_at, in_order, (order and order.place(turn, expires_at)) or own, placed_in)


def _parsed(items: Mapping[str, Item]) -> tuple[Item | None, list[TurnRecord]]:
    """The dialogue's key item, and its turns, oldest first.

    A turn with texts and without a place is left out: it is being recorded, or erased, or whoever recorded it was told
    that it failed. Nothing says yet where it stands.
    """
    key_item = items.get(KEY_SORT_KEY)
    order, key_id = order_in(key_item), text(key_item, "key_id") if key_item else ""
    turns = [parse_turn(item, order, key_id) for name, item in items.items() if name != KEY_SORT_KEY]
    if order.counts:
        turns = [t for t in turns if t.place or t.turn in order.times or not any(e.payload for e in t.events)]
    return key_item, sorted(turns, key=lambda turn: (turn.place, 0.0 if turn.place else turn.start_s, turn.turn))


def _until_trigger(turns: Iterable[str], items: Mapping[str, Item], now: float) -> set[str]:
    """The turns before the first that is known to be live and to expect speech."""

    def asks(turn: TurnRecord) -> bool:
        return turn.trigger and turn.expires_at > now

    return set(takewhile(lambda turn: turn not in items or not asks(parse_turn(items[turn])), turns))


def _time(written: str) -> float:
    time_s = float(written)
    if not 0 <= time_s < MAX_TIME_S:  # NaN is neither
        raise ValueError
    return time_s


def _names_and_values(
    events: Sequence[Event], payloads: Mapping[str, str], expires_at: int, now: float
) -> tuple[dict[str, str], Item]:
    names = {"#x": "expires_at"}
    values: Item = {":x": {"N": str(expires_at)}, ":now": {"N": repr(now)}}
    for i, event in enumerate(events):
        names[f"#e{i}"] = f"e#{event.event_id}"
        values[f":e{i}"] = {"S": f"{event.kind} {event.time_s:.6f}"}
        values[f":{event.kind}"] = {"S": f"{event.kind} "}
        if event.event_id in payloads:
            names[f"#p{i}"] = f"p#{event.event_id}"
            values[f":p{i}"] = {"S": payloads[event.event_id]}
    return names, values


def _raise_clash(item: Item, events: Sequence[Event], now: float) -> None:
    if not item or number(item, "expires_at") <= now:
        return
    for event in events:
        stored = text(item, name).split(" ")[0] if (name := f"e#{event.event_id}") in item else event.kind
        if stored != event.kind:
            raise EventClashError("event_id", f"was used in this turn for {stored}; give every event its own id")
