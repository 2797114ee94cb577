"""The data key of each dialogue: made once, wrapped, kept in the dialogue's own item of the events table.

The item (sort key `#key`) proves that the dialogue still exists. Whoever writes a payload renews it *afterwards* under
the condition that it still holds the same key: when a deletion came in between, the renewal fails and the writer
knows that what it wrote is lost. Whoever reads takes the item from the table first, so a key that was destroyed is
never used for reading, whatever a process still holds in memory. The item also gives the dialogue's turns their
places (see `turn_order`).
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil

from context_store.attributes import binary, number, text
from context_store.config import StoreConfig
from context_store.errors import StoreUnavailableError
from context_store.table_access import ConditionFailedError, Item, TableAccess
from context_store.table_keys import KEY_SORT_KEY, partition_key
from context_store.turn_order import NEXT, order_in, place_name
from context_store.types import DialogueId
from context_store.wrapping import KEY_BYTES, WrappingKey

# Beyond the expiry of the payloads, so that replicas whose clocks differ do not lose a key that payloads still need.
_SLACK_S = 300
_NAMES = {"#x": "expires_at"}
_OWN_NAMES = {**_NAMES, "#k": "key_id"}
_OWN = "#x > :now AND #k = :k"
_ATTEMPTS = 3


@dataclass(frozen=True)
class DialogueSecret:
    """A dialogue's unwrapped data key. key_id tells the generations of a dialogue (before and after deletion) apart."""

    key_id: str
    secret: bytes = field(repr=False)


def generation_of(item: Item | None, now: float) -> str:
    """Id of the key in a key item just read; "" without one or past its expiry. Raises TamperedError."""
    if item is None or number(item, "expires_at") <= now:
        return ""
    return text(item, "key_id")


class DialogueKeys:
    """Finds, makes, renews and destroys dialogue keys; holds some unwrapped ones in memory for a while."""

    def __init__(self, access: TableAccess, config: StoreConfig, wrapping_key: WrappingKey) -> None:
        self._access = access
        self._config = config
        self._wrapping_key = wrapping_key
        self._cache: OrderedDict[DialogueId, tuple[float, DialogueSecret]] = OrderedDict()
        self._lock = threading.Lock()

    def for_writing(self, dialogue: DialogueId, now: float) -> DialogueSecret:
        """The dialogue's key: from memory, from the table, or a new one. May be stale: see `renew`."""
        return self._cached(dialogue, now) or self.current(dialogue, now)

    def current(self, dialogue: DialogueId, now: float) -> DialogueSecret:
        """The key that the table holds, or a new one put there; of two writers at once, the second takes the first's.

        Raises TamperedError, StoreConfigError, StoreUnavailableError.
        """
        for _ in range(_ATTEMPTS):
            try:
                item = self._touch(dialogue, now, "#x > :now", {})
            except ConditionFailedError:
                made = self._create(dialogue, now)
                if made is not None:
                    return made
                continue  # another writer was faster: take its key
            found = self.from_item(dialogue, item, now)
            if found is not None:
                return found
        raise StoreUnavailableError("the dialogue is being deleted and written at once; repeat the call")

    def renew(self, dialogue: DialogueId, secret: DialogueSecret, now: float) -> bool:
        """Extend the key's life past that of payloads written now; False when it is no longer the dialogue's key."""
        try:
            self._touch(dialogue, now, _OWN, {":k": {"S": secret.key_id}})
        except ConditionFailedError:
            self.forget(dialogue)
            return False
        return True

    def place(
        self, dialogue: DialogueId, secret: DialogueSecret, turn: str, turn_expires_at: int, now: float
    ) -> int | None:
        """As `renew`, and give a turn its place, in the same write; returns it, or None when the key is not the one.

        A turn that has a place keeps it. 0: an earlier version has recorded the turn, by its time.
        """
        name, own = place_name(turn, turn_expires_at), {":k": {"S": secret.key_id}}
        names = {**_OWN_NAMES, "#n": NEXT, "#p": name}
        values: Item = {**own, ":now": {"N": repr(now)}, ":x": {"N": str(self._expiry(now))}, ":one": {"N": "1"}}
        update = "SET #x = :x, #p = if_not_exists(#p, #n), #n = #n + :one"
        condition = f"{_OWN} AND attribute_exists(#n)"
        for _ in range(_ATTEMPTS):
            try:
                item = self._access.update(
                    self._config.events_table, self._item_key(dialogue), update, condition, names, values
                )
                return self._settled(dialogue, own, item, turn, name)
            except ConditionFailedError as failed:
                if NEXT in failed.item or not self._is_own(failed.item, secret, now):
                    break
            self._begin_to_count(dialogue, own)
        self.forget(dialogue)
        return None

    def _settled(self, dialogue: DialogueId, own: Item, item: Item, turn: str, name: str) -> int:
        """The place that an update has given to a turn; entries that are too many go, so does one that is none."""
        order, place = order_in(item), number(item, name)
        gone, entries = order.surplus()
        if turn in order.times:
            gone, place = [*gone, name], 0
        if not gone and not entries:
            return place
        names = {f"#{i}": old for i, old in enumerate(gone)}
        update, values = f"REMOVE {','.join(names)}" if gone else "", dict(own)
        if entries:
            update, names["#t"], values[":t"] = f"{update} DELETE #t :t", "turns", {"SS": entries}
        with suppress(ConditionFailedError):  # erased meanwhile
            table, key = self._config.events_table, self._item_key(dialogue)
            self._access.update(table, key, update, "#k = :k", {**names, "#k": "key_id"}, values)
        return place

    def _begin_to_count(self, dialogue: DialogueId, own: Item) -> None:
        """Into an item that an earlier version has made."""
        names, values = {"#k": "key_id", "#n": NEXT}, {**own, ":one": {"N": "1"}}
        with suppress(ConditionFailedError):  # another replica was faster, or the dialogue was erased
            condition = "#k = :k AND attribute_not_exists(#n)"
            table = self._config.events_table
            self._access.update(table, self._item_key(dialogue), "SET #n = :one", condition, names, values)

    @staticmethod
    def _is_own(item: Item, secret: DialogueSecret, now: float) -> bool:
        return generation_of(item or None, now) == secret.key_id

    def read(self, dialogue: DialogueId, now: float) -> DialogueSecret | None:
        """The key that the table holds, or None."""
        item = self._access.get(self._config.events_table, self._item_key(dialogue))
        return self.from_item(dialogue, item, now)

    def for_generation(self, dialogue: DialogueId, generation: str, now: float) -> DialogueSecret | None:
        """The key of one generation, from memory (may be stale) or the table; None when it is not the current one."""
        cached = self._cached(dialogue, now)
        found = cached if cached and cached.key_id == generation else self.read(dialogue, now)
        return found if found and found.key_id == generation else None

    def from_item(self, dialogue: DialogueId, item: Item | None, now: float) -> DialogueSecret | None:
        """The key of a key item just read; None without one or past its expiry. Raises TamperedError."""
        if item is None or number(item, "expires_at") <= now:
            return None
        cached = self._cached(dialogue, now)
        key_id, wrapped = text(item, "key_id"), binary(item, "wrapped")
        if cached is not None and cached.key_id == key_id:
            return cached
        secret = DialogueSecret(key_id, self._wrapping_key.unwrap(wrapped, self._context(dialogue, key_id)))
        self._remember(dialogue, secret, now)
        return secret

    def sweep(self, dialogues: Iterable[DialogueId], now: float) -> dict[DialogueId, str]:
        """The generation that the table holds of each dialogue; keys of others, and those past their time, are dropped.

        Of all the dialogues whose keys are in memory, too: they are asked for in the same round trips.
        """
        with self._lock:
            for dialogue in [known for known, (until, _) in self._cache.items() if until <= now]:
                del self._cache[dialogue]
            held = {dialogue: secret.key_id for dialogue, (_, secret) in self._cache.items()}
        asked = {partition_key(dialogue): dialogue for dialogue in {*dialogues, *held}}
        keys = [self._item_key(dialogue) for dialogue in asked.values()]
        items = self._access.batch_get(self._config.events_table, keys)
        found = {asked[text(item, "dialogue")]: generation_of(item, now) for item in items}
        with self._lock:
            for dialogue, key_id in held.items():
                known = self._cache.get(dialogue)
                if found.get(dialogue) != key_id and known is not None and known[1].key_id == key_id:
                    del self._cache[dialogue]
        return {dialogue: found.get(dialogue, "") for dialogue in dialogues}

    def forget(self, dialogue: DialogueId) -> None:
        """Drop the key from memory."""
        with self._lock:
            self._cache.pop(dialogue, None)

    def forget_tenant(self, tenant: str) -> None:
        """Drop a tenant's keys from memory."""
        with self._lock:
            for dialogue in [known for known in self._cache if known.tenant == tenant]:
                del self._cache[dialogue]

    def forget_all(self) -> None:
        """Drop all keys from memory."""
        with self._lock:
            self._cache.clear()

    def destroy(self, dialogue: DialogueId) -> bool:
        """Delete the key item: from here on no payload of the dialogue can be read. True when there was one."""
        self.forget(dialogue)
        return self._access.delete(self._config.events_table, self._item_key(dialogue))

    def _create(self, dialogue: DialogueId, now: float) -> DialogueSecret | None:
        """Put a new key where none (or only an expired one) is; None when another writer's is there."""
        made = DialogueSecret(secrets.token_hex(16), secrets.token_bytes(KEY_BYTES))
        item: Item = {
            **self._item_key(dialogue),
            "key_id": {"S": made.key_id},
            "wrapped": {"B": self._wrapping_key.wrap(made.secret, self._context(dialogue, made.key_id))},
            "expires_at": {"N": str(self._expiry(now))},
            NEXT: {"N": "1"},
        }
        condition = "attribute_not_exists(#x) OR #x <= :now"
        try:
            self._access.put(self._config.events_table, item, condition, _NAMES, {":now": {"N": repr(now)}})
        except ConditionFailedError as failed:
            # A retried request may meet what its own first attempt has written.
            if failed.item:
                number(failed.item, "expires_at")  # of another type, it would fail for ever
            if not failed.item or text(failed.item, "key_id") != made.key_id:
                return None
        self._remember(dialogue, made, now)
        return made

    def _touch(self, dialogue: DialogueId, now: float, condition: str, values: Item) -> Item:
        """Extend the item's life; returns the item."""
        return self._access.update(
            self._config.events_table,
            self._item_key(dialogue),
            "SET #x = :x",
            condition,
            _OWN_NAMES if ":k" in values else _NAMES,
            {":now": {"N": repr(now)}, ":x": {"N": str(self._expiry(now))}, **values},
        )

    def _expiry(self, now: float) -> int:
        return ceil(now) + self._config.ttl_s + _SLACK_S

    def _item_key(self, dialogue: DialogueId) -> Item:
        return {"dialogue": {"S": partition_key(dialogue)}, "turn": {"S": KEY_SORT_KEY}}

    def _context(self, dialogue: DialogueId, key_id: str) -> dict[str, str]:
        return {"purpose": "dialogue-key", "tenant": dialogue.tenant, "dialogue": dialogue.id, "key-id": key_id}

    def _cached(self, dialogue: DialogueId, now: float) -> DialogueSecret | None:
        with self._lock:
            until, secret = self._cache.get(dialogue, (0.0, None))
            if secret is None or until <= now:
                self._cache.pop(dialogue, None)
                return None
            self._cache.move_to_end(dialogue)
            return secret

    def _remember(self, dialogue: DialogueId, secret: DialogueSecret, now: float) -> None:
        with self._lock:
            self._cache[dialogue] = (now + self._config.key_cache_s, secret)
            self._cache.move_to_end(dialogue)
            while len(self._cache) > self._config.key_cache_entries:
                self._cache.popitem(last=False)
