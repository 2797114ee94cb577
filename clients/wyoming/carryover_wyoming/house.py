"""What can be named in a house, read from Home Assistant's registries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from carryover_wyoming.names import Thing

Command = Callable[..., Awaitable[Any]]
"""Sends a command of the WebSocket API by its type and fields, and gives its result."""

CHANGES = (
    "entity_registry_updated", "device_registry_updated", "area_registry_updated", "floor_registry_updated",
    "homeassistant_started",
)  # fmt: skip
"""Events after which names may be others; the last is sent to administrators only."""

_USUAL = frozenset((
    "alarm_control_panel", "climate", "cover", "fan", "humidifier", "lawn_mower", "light", "lock", "media_player",
    "scene", "script", "switch", "todo", "vacuum", "valve", "water_heater",
))  # fmt: skip
"""Domains whose entities commands usually name. Others, sensors above all, are asked for by their room."""


async def read_house(command: Command) -> list[Thing]:
    """The entities that are exposed to Assist, all areas and all floors, with their aliases.

    An entity's name is the one that Home Assistant shows, and matches. Areas and floors count as usual where something
    exposed is in them.

    Raises:
        HassError: a command is refused; the first one is for administrators only.
    """
    listed = (await command("homeassistant/expose_entity/list"))["exposed_entities"] or {}
    exposed = sorted(entity for entity, assistants in listed.items() if assistants.get("conversation"))
    shown = {
        state["entity_id"]: (state.get("attributes") or {}).get("friendly_name")
        for state in await command("get_states")
    }
    entries = await command("config/entity_registry/get_entries", entity_ids=exposed) if exposed else {}
    area_of_device = {device["id"]: device.get("area_id") for device in await command("config/device_registry/list")}
    areas, floors = await command("config/area_registry/list"), await command("config/floor_registry/list")

    things, used_areas = [], set()
    for entity in exposed:
        entry = entries.get(entity) or {}
        if entry.get("disabled_by"):
            continue
        used_areas.add(entry.get("area_id") or area_of_device.get(entry.get("device_id")))
        name = shown.get(entity) or entry.get("name") or entry.get("original_name")
        things.append(_thing(entity, "devices", name, entry, entity.partition(".")[0] in _USUAL))
    used_floors = {area.get("floor_id") for area in areas if area["area_id"] in used_areas}
    things += _places(areas, "area", used_areas)
    things += _places(floors, "floor", used_floors)
    return things


def _places(entries: Iterable[dict[str, Any]], kind: str, used: set[Any]) -> Iterator[Thing]:
    for entry in entries:
        place = entry[f"{kind}_id"]
        yield _thing(place, f"{kind}s", entry.get("name"), entry, place in used)


def _thing(place: str, signal: str, name: str | None, entry: dict[str, Any], usual: bool) -> Thing:
    """Newer versions list None among an entity's aliases, for its own name."""
    aliases = sorted(alias for alias in entry.get("aliases") or () if isinstance(alias, str))
    return Thing(place, signal, tuple(filter(None, (name, *aliases))), usual)
