"""Entries of what tools and services return, whatever they call a name."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from carryover.errors import ChangeRequestError
from carryover.messages import Entry

_NAMES, _TITLES = ("name", "displayname", "fullname", "friendlyname"), ("title", "label")
_FIRST, _LAST = ("firstname", "givenname", "first", "given"), ("lastname", "familyname", "surname", "last", "family")
_ERRORS = ("error", "errors")
_DEEPEST = 8


def entries_of(result: object, *, text: str = "", id: str = "id", aliases: str = "aliases") -> list[Entry]:  # noqa: A002
    """The entries that a tool's result lists, for `Dialogue.set_entities`.

    Args:
        result: a list of names or of objects that have one; an object that is one, or that has one such list, however
            deep; or the JSON text of any of them. Objects are mappings, dataclasses, named tuples and Pydantic models.
        text: the key of an object's name; empty: the first of name, display name, full name, friendly name, first and
            last name, title and label that it has, in any spelling (`displayName`). Objects without it are left out.
        id: the key of its id, in any spelling.
        aliases: the key of its other names, likewise.

    Raises:
        ChangeRequestError: the result is none of these, or none of its objects has a name.
    """
    keys = _Keys(text, id, aliases)
    listed = _listed(_plain(result), keys, 0)
    if listed is None:
        raise ChangeRequestError(
            f"entities: give a list of names or of objects with {text or 'name'!r}, an object with one such list, or "
            "its JSON"
        )
    found = [entry for one in listed if (entry := _entry(one, keys)) is not None]
    if listed and not found:
        raise ChangeRequestError(
            f"entities: none of {len(listed)} results has a name; say which key it is under, as in "
            'entries_of(result, text="caption")'
        )
    return found


@dataclasses.dataclass(frozen=True)
class _Keys:
    text: str
    id: str
    aliases: str


def _plain(one: object) -> Any:
    """An object as a mapping, JSON as what it says, and a tool's text block of the Model Context Protocol likewise."""
    if isinstance(one, str | bytes):
        try:
            read = json.loads(one)
        except (ValueError, RecursionError):
            return one
        return read if isinstance(read, Mapping | list) else one
    if isinstance(one, Mapping):
        return _plain(one["text"]) if one.get("type") == "text" and isinstance(one.get("text"), str) else one
    if isinstance(one, Entry):
        return one
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    for method in ("model_dump", "_asdict"):
        if callable(made := getattr(one, method, None)):
            return made()
    return one


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence | Set) and not isinstance(value, str | bytes | bytearray | memoryview)


def _listed(value: Any, keys: _Keys, depth: int) -> Sequence[Any] | None:
    """The one list of it; None: there is none, or more than one."""
    if _is_list(value):
        made: list[Any] = []
        for one in value:
            plain = _plain(one)
            made += plain if _is_list(plain) and not _is_list(one) else [plain]  # a block of text may have a list
        return made
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return None
    if _name(value, keys):
        return [value]
    values = [_plain(inner) for key, inner in value.items() if _spelled(key) not in _ERRORS]
    lists = [_listed(inner, keys, depth) for inner in values if _is_list(inner)]
    of_objects = [found for found in lists if any(_entry(one, keys) for one in found or () if not isinstance(one, str))]
    found = of_objects or lists or [_listed(inner, keys, depth + 1) for inner in values if isinstance(inner, Mapping)]
    known = [one for one in found if one is not None]
    return known[0] if len(known) == 1 else None


def _entry(one: object, keys: _Keys) -> Entry | None:
    if isinstance(one, Entry):
        return one
    if isinstance(one, str):
        return Entry(one.strip()) if one.strip() else None
    if not isinstance(one, Mapping):
        return None
    named = one
    if not _name(named, keys):  # {"id": 17, "properties": {"firstname": "Meg", "lastname": "Bauer"}}
        inner = [value for value in map(_plain, one.values()) if isinstance(value, Mapping) and _name(value, keys)]
        if len(inner) != 1:
            return None
        named = inner[0]
    others = _value(one, keys.aliases) or _value(named, keys.aliases) or ()
    listed = others if _is_list(others) else [others]
    return Entry(
        _name(named, keys),
        id=_text(_value(one, keys.id)) or _text(_value(named, keys.id)),
        aliases=tuple(said for other in listed if (said := _text(other))),
    )


def _value(one: Mapping[Any, Any], name: str) -> Any:
    """What is under a key, as it is spelled or otherwise."""
    return one.get(name, next((value for key, value in one.items() if _spelled(key) == _spelled(name)), None))


def _name(one: Mapping[Any, Any], keys: _Keys, *, inner: bool = True) -> str:
    """inner: a name may be an object itself: {"first": "Meg", "last": "Bauer"}."""
    if keys.text:
        return _text(one.get(keys.text))
    known = {_spelled(key): value for key, value in one.items()}
    for name in _NAMES:
        value = known.get(name)
        if said := _name(value, keys, inner=False) if inner and isinstance(value, Mapping) else _text(value):
            return said
    parts = [_first(known, _FIRST), _first(known, _LAST)]
    return " ".join(filter(None, parts)) or _first(known, _TITLES)


def _first(known: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((said for name in names if isinstance(known.get(name), str) and (said := _text(known[name]))), "")


def _spelled(key: object) -> str:
    return re.sub(r"[\W_]", "", str(key)).casefold()


def _text(value: object) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""
