"""The payload table: sealed texts and embeddings, each written once.

dialogue (partition key)  TENANT#ID
item (sort key)           turn#kind#id
sealed                    ciphertext, see `sealing`
digest                    keyed digest of the plaintext in its place
key_id                    the dialogue key that it is sealed under
expires_at                seconds since 1970
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from context_store.attributes import binary, number, text
from context_store.dialogue_keys import DialogueKeys, DialogueSecret
from context_store.errors import PayloadClashError, TooLargeError
from context_store.sealing import digest, seal, unseal
from context_store.table_access import ConditionFailedError, Item, TableAccess
from context_store.table_keys import partition_key, payload_sort_key
from context_store.types import DialogueId
from context_store.validation import MAX_PAYLOAD_BYTES

_NAMES = {"#x": "expires_at"}
_KEY_CONDITION = "#d = :d AND begins_with(#i, :prefix)"


MOST_BYTES = 32 << 20
"""Of the texts that are read at once. No context uses a tenth of it."""


class StaleKeyError(Exception):
    """The dialogue was deleted since its key was taken; take the key again. Never leaves the package."""


@dataclass(frozen=True)
class Place:
    """Where a payload belongs; all of it is bound to the ciphertext."""

    dialogue: DialogueId
    turn: str
    kind: str
    item: str

    @property
    def sort_key(self) -> str:
        """turn#kind#id."""
        return payload_sort_key(self.turn, self.kind, self.item)

    @property
    def key(self) -> Item:
        """Primary key in the payload table."""
        return {"dialogue": {"S": partition_key(self.dialogue)}, "item": {"S": self.sort_key}}

    @property
    def context(self) -> dict[str, str]:
        """Encryption context."""
        return {
            "tenant": self.dialogue.tenant,
            "dialogue": self.dialogue.id,
            "turn": self.turn,
            "kind": self.kind,
            "item": self.item,
        }


class Payloads:
    """Reads and writes sealed payloads."""

    def __init__(self, access: TableAccess, table: str, keys: DialogueKeys) -> None:
        self._access = access
        self._table = table
        self._keys = keys

    def put_once(self, secret: DialogueSecret, place: Place, plaintext: bytes, expires_at: int, now: float) -> bool:
        """Seal and write; False when the same content is there already. What has expired counts as absent.

        Raises PayloadClashError (another content is there), TooLargeError, StaleKeyError.
        """
        if len(plaintext) > MAX_PAYLOAD_BYTES:
            raise TooLargeError(place.kind, f"is larger than {MAX_PAYLOAD_BYTES} bytes; shorten or split it")
        item = _sealed_item(secret, place, plaintext, expires_at)
        now_value: Item = {":now": {"N": repr(now)}}
        try:
            self._access.put(self._table, item, "attribute_not_exists(#x) OR #x <= :now", _NAMES, now_value)
            return True
        except ConditionFailedError as failed:
            old = failed.item
        old_key = text(old, "key_id") if old else ""
        if old_key == secret.key_id:
            if hmac.compare_digest(binary(old, "digest"), binary(item, "digest")):
                return False
            raise PayloadClashError("event_id", "was already used in this turn with another content; use a new id")
        if self._keys.current(place.dialogue, now).key_id != secret.key_id:
            raise StaleKeyError
        # Left over from before a deletion: nobody can read it any more.
        names, values = {"#k": "key_id"}, {":k": {"S": old_key}}
        try:
            self._access.put(self._table, item, "#k = :k", names, values)
        except ConditionFailedError:
            raise StaleKeyError from None
        return True

    def read(self, secret: DialogueSecret, places: Iterable[Place], now: float) -> dict[str, bytes | None]:
        """Plaintexts by sort key, of those payloads that are there and live. Raises TamperedError.

        None: it is sealed under another key, so that it is being written, or was before a deletion. Of more than
        MOST_BYTES the first are read.
        """
        wanted = {place.sort_key: place for place in places}
        items = self._access.batch_get(self._table, [place.key for place in wanted.values()], MOST_BYTES)
        live = [item for item in items if number(item, "expires_at") > now]
        return {text(item, "item"): _open_item(secret, wanted[text(item, "item")], item, now) for item in live}

    def latest(self, dialogue: DialogueId, prefix: str, now: float) -> Item | None:
        """The live item with the highest sort key that begins with `prefix`, sealed as it is."""
        found = self._access.query(
            self._table,
            _KEY_CONDITION,
            {":d": {"S": partition_key(dialogue)}, ":prefix": {"S": prefix}, ":now": {"N": repr(now)}},
            {"#d": "dialogue", "#i": "item", **_NAMES},
            FilterExpression="#x > :now",
            ScanIndexForward=False,
            Limit=1,
        )
        return next(found, None)

    def open(self, secret: DialogueSecret, place: Place, item: Item, now: float) -> bytes | None:
        """The plaintext of an item just read; None when expired or of another key. Raises TamperedError."""
        return _open_item(secret, place, item, now)

    def delete_if_sealed_under(self, secret: DialogueSecret, place: Place) -> None:
        """Take back what was just written under a key that turned out to be destroyed."""
        with suppress(ConditionFailedError):
            self._access.delete_if(self._table, place.key, "#k = :k", {"#k": "key_id"}, {":k": {"S": secret.key_id}})

    def delete_all(self, dialogue: DialogueId) -> int:
        """Delete every payload of a dialogue; returns how many there were."""
        names = {"#d": "dialogue", "#i": "item"}
        keys = list(
            self._access.query(
                self._table,
                "#d = :d",
                {":d": {"S": partition_key(dialogue)}},
                names,
                ProjectionExpression="#d, #i",
            )
        )
        self._access.batch_delete(self._table, keys)
        return len(keys)


def _sealed_item(secret: DialogueSecret, place: Place, plaintext: bytes, expires_at: int) -> Item:
    content = digest(secret.secret, place.context, plaintext)
    context = _seal_context(place, secret.key_id, content, str(expires_at))
    return {
        **place.key,
        "sealed": {"B": seal(secret.secret, context, plaintext)},
        "digest": {"B": content},
        "key_id": {"S": secret.key_id},
        "expires_at": {"N": str(expires_at)},
    }


def _open_item(secret: DialogueSecret, place: Place, item: Item, now: float) -> bytes | None:
    expires_at, key_id = number(item, "expires_at"), text(item, "key_id")
    if expires_at <= now or key_id != secret.key_id:
        return None
    content, sealed = binary(item, "digest"), binary(item, "sealed")
    return unseal(secret.secret, _seal_context(place, key_id, content, str(expires_at)), sealed)


def _seal_context(place: Place, key_id: str, content: bytes, expires_at: str) -> Mapping[str, str]:
    return {**place.context, "key-id": key_id, "digest": content.hex(), "expires-at": expires_at}
