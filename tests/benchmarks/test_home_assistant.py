"""The benchmark of Home Assistant's commands: its house, and what it counts."""

from __future__ import annotations

import asyncio
import os
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

from benchmarks.home_assistant import commands
from benchmarks.home_assistant.commands import Found, read_command, summary
from benchmarks.home_assistant.house import load_house
from benchmarks.home_assistant.judge import JudgeError, judge_of
from carryover_wyoming.names import Names
from tests.integration.conftest import key, pcm, shared, tables

__all__ = ["key", "pcm", "shared", "tables"]


@pytest.fixture
def spoken(tmp_path: Path, pcm: bytes) -> Path:
    """The first two commands, as the tiny model's speech."""
    for number, text in enumerate(load_house().commands[:2]):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(pcm[: 32_000 * (number + 1)])
        (tmp_path / f"{number}.txt").write_text(text)
    return tmp_path


def test_every_name_of_the_house_can_be_said() -> None:
    house = load_house()
    names = Names(house.things())
    assert len(names.things) == len(house.entities) + len(house.areas) + len(house.floors) + 4 * len(house.areas)
    assert sum(thing.usual for thing in names.things) == 84 and len(set(house.commands)) == 100


def test_what_is_counted(spoken: Path) -> None:
    said = [read_command(spoken / f"{number}.wav") for number in range(2)]
    meanings: dict[str, Any] = {
        said[0].text: ("on", ()),
        said[1].text: ("set", ()),
        "switch the pendants on": ("on", ()),
    }
    found = Found(["switch the pendants on", "set the lifts beam to forty percent"], [10.0, 30.0], 1000.0)
    counted = summary(said, found, meanings.get)
    assert counted == {"commands": 2, "understood": 1, "wer": 41.7, "wait_ms": 20, "cpu_ms": 500}
    with pytest.raises(JudgeError, match="does not understand 'turn on the kitchen pendants' as written"):
        summary(said, found, lambda text: None)


def test_the_three_ways_say_the_same_where_nothing_is_known(
    spoken: Path, shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "Names", lambda things: Names())
    said = [read_command(spoken / f"{number}.wav") for number in range(2)]
    found = asyncio.run(commands._measure(f"127.0.0.1:{shared.port}", os.getpid(), said, load_house(), 2))
    assert found["stream"].texts == found["bridge"].texts == found["bridge_with_names"].texts
    assert len(found["stream"].texts) == 2 and all(found["stream"].texts)


def test_a_judge_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hassil", None)
    with pytest.raises(JudgeError, match="pip install hassil home-assistant-intents"):
        judge_of(load_house())
