"""Home Assistant's own matching of commands: hassil over the sentences of home-assistant-intents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from benchmarks.home_assistant.house import House

Meaning: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""An intent with its slots."""

_ROOM = "kitchen"
"""Where the commands are said: "turn off the lights" means those of this area."""


class JudgeError(Exception):
    """Home Assistant's packages are missing. The message says what to install."""


def judge_of(house: House) -> Callable[[str], Meaning | None]:
    """What a command means in a house; None: nothing. Raises JudgeError."""
    try:
        from hassil import Intents, TextSlotList, recognize_best
        from home_assistant_intents import get_intents
    except ImportError:
        raise JudgeError("run: .venv/bin/python -m pip install hassil home-assistant-intents") from None
    intents = Intents.from_dict(get_intents("en"))
    named = [
        (name, names[0], {"domain": entity.partition(".")[0]})
        for entity, names in house.entities.items()
        for name in names
    ]
    lists = {
        "name": TextSlotList.from_tuples(named, allow_template=False),
        "area": TextSlotList.from_tuples(_places(house.areas), allow_template=False),
        "floor": TextSlotList.from_tuples(_places(house.floors), allow_template=False),
    }

    def judge(text: str) -> Meaning | None:
        found = recognize_best(
            text, intents, slot_lists=lists, language="en", best_slot_name="name", intent_context={"area": _ROOM}
        )
        if found is None:
            return None
        return found.intent.name, tuple(sorted((slot, str(entity.value)) for slot, entity in found.entities.items()))

    return judge


def _places(places: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, place) for place, names in places.items() for name in names]
