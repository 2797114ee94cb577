"""A made-up house, as Home Assistant's registries would have it, and what is said in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carryover_wyoming.names import Thing

_FILE = Path(__file__).with_name("house.json")
_SENSORS = ("Temperature", "Humidity", "Motion", "Battery")


@dataclass(frozen=True)
class House:
    """Names by id, the first of them the name and the others aliases; and commands."""

    floors: dict[str, list[str]]
    areas: dict[str, list[str]]
    entities: dict[str, list[str]]
    commands: list[str]

    def things(self) -> Iterator[Thing]:
        """All that can be named, four sensors an area among it, which nobody names."""
        for signal, named in (("devices", self.entities), ("areas", self.areas), ("floors", self.floors)):
            for thing, names in named.items():
                yield Thing(thing, signal, tuple(names))
        for area, (name, *_) in self.areas.items():
            for kind in _SENSORS:
                yield Thing(f"sensor.{area}_{kind.lower()}", "devices", (f"{name} {kind}",), usual=False)


def load_house() -> House:
    """The house of house.json."""
    read = json.loads(_FILE.read_text())
    return House(
        read["floors"],
        {area: names for area, (_, *names) in read["areas"].items()},
        {entity: names for entity, (_, *names) in read["entities"].items()},
        read["commands"],
    )
