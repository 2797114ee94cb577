"""A dialogue's turns as the client keeps them, against real servers: what the context encoder reads of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asr.context.types import Entry as Known
from asr.context.types import Turn
from carryover import ChangeRequestError, Entry, aio
from carryover.dialogue import Dialogue, entries_of

QUESTION = "Do you mean Meg Jones or Meg Bauer?"


def run(replica: Any, hold: Callable[[Dialogue], Awaitable[None]]) -> Any:
    """What the encoder read last, once everything that a dialogue says is recorded and its context is ready."""

    async def held() -> None:
        async with aio.Client(f"127.0.0.1:{replica.port}") as client:
            dialogue = Dialogue(client)
            await hold(dialogue)
            await dialogue.recorded()
            assert (await client.wait_until_ready(dialogue.id, timeout=60)).turn == dialogue.turn

    asyncio.run(held())
    return replica.encoder.seen[-1]


def test_a_turn_is_what_the_user_says_and_what_is_replied(workshop: Any) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.reply("hello")
        first = dialogue.turn
        dialogue.heard("call")
        dialogue.heard("meg")
        assert dialogue.turn != first
        dialogue.reply(QUESTION)
        dialogue.spoken(QUESTION)

    read = run(workshop.start(), hold)
    assert read.turns == (Turn("system", "hello"), Turn("user", "call meg"), Turn("system", QUESTION))


def test_a_reply_of_two_parts_is_one_turn(workshop: Any) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.heard("call meg")
        dialogue.reply("one moment")
        turn = dialogue.turn
        await dialogue.recorded()
        dialogue.reply(QUESTION)
        assert dialogue.turn == turn
        dialogue.spoken(f"one moment {QUESTION}")

    read = run(workshop.start(), hold)
    assert read.turns == (Turn("user", "call meg"), Turn("system", "one moment"), Turn("system", QUESTION))


def test_what_nobody_announced_is_recorded_when_it_was_spoken(workshop: Any) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.spoken("hello")
        dialogue.heard("call meg")
        dialogue.spoken(QUESTION, interrupted=True)

    read = run(workshop.start(), hold)
    assert [turn.text for turn in read.turns] == ["hello", "call meg", QUESTION]


@pytest.mark.parametrize(
    ("spoken", "interrupted", "last"),
    [
        ("Do you mean Meg Jones", True, "Do you mean Meg Jones"),
        ("do you mean meg jones, or meg bauer", True, QUESTION),  # all of it
        ("Do you mean **Meg Jones** or", False, QUESTION),  # the speech synthesis has its own spelling
        ("", True, QUESTION),
    ],
)
def test_an_interruption_corrects_the_reply(workshop: Any, spoken: str, interrupted: bool, last: str) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.heard("call meg")
        dialogue.reply(QUESTION)
        await dialogue.recorded()
        dialogue.spoken(spoken, interrupted=interrupted)

    read = run(workshop.start(), hold)
    assert [turn.text for turn in read.turns] == ["call meg", *dict.fromkeys([QUESTION, last])]


def test_a_correction_belongs_to_its_own_turn(workshop: Any) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.heard("call meg")
        dialogue.reply(QUESTION)
        dialogue.heard("no")
        dialogue.spoken("Do you", interrupted=True)
        dialogue.reply("Whom then?")

    read = run(workshop.start(), hold)
    assert [turn.text for turn in read.turns] == ["call meg", QUESTION, "Do you", "no", "Whom then?"]


def test_entities_are_recorded_with_each_turn_until_they_are_set_again(workshop: Any) -> None:
    replica = workshop.start(context__turns=1)

    async def hold(dialogue: Dialogue) -> None:
        dialogue.set_entities("contacts", [Entry("Meg Bauer", id="17", aliases=("Mum",)), "Meg Jones"])
        dialogue.set_entities("devices", ["Lamp"])
        dialogue.reply("hello")
        dialogue.heard("call meg")
        dialogue.set_entities("devices", [])
        dialogue.reply(QUESTION)

    read = run(replica, hold)
    assert read.entries == (Known("contacts", "Meg Bauer", "17", ("Mum",), 1.0), Known("contacts", "Meg Jones"))


def test_entities_behind_a_reply_make_its_context_anew(workshop: Any) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.reply("one moment")
        await dialogue.recorded()
        dialogue.set_entities("contacts", ["Meg Bauer"])

    assert run(workshop.start(), hold).entries == (Known("contacts", "Meg Bauer"),)


def test_a_dialogue_that_is_taken_up_again_has_new_turns(workshop: Any) -> None:
    replica = workshop.start()

    async def hold(dialogue: Dialogue) -> None:
        dialogue.reply("hello")
        await dialogue.recorded()
        async with aio.Client(f"127.0.0.1:{replica.port}") as client:
            other = Dialogue(client, dialogue.id)
            other.reply("hello again")
            await other.recorded()
            await client.wait_until_ready(dialogue.id, other.turn, timeout=60)
            dialogue._prefix = other._prefix  # the last turn is the other's

    assert [turn.text for turn in run(replica, hold).turns] == ["hello", "hello again"]


@pytest.mark.parametrize(("signal", "entry", "says"), [("a\nb", "Meg", "signal"), ("contacts", "Meg \ud800", "text")])
def test_what_cannot_be_recorded_is_left_out(
    workshop: Any, caplog: pytest.LogCaptureFixture, signal: str, entry: str, says: str
) -> None:
    async def hold(dialogue: Dialogue) -> None:
        with caplog.at_level(logging.WARNING, "carryover"):
            dialogue.set_entities(signal, [entry])
            dialogue.reply(QUESTION)
            await dialogue.recorded()
        dialogue.set_entities(signal, [])
        dialogue.heard("call meg")
        dialogue.reply("whom?")

    assert [turn.text for turn in run(workshop.start(), hold).turns] == ["call meg", "whom?"]
    (line,) = caplog.messages
    assert says in line and "Meg" not in line


def test_closing_leaves_out_what_waits() -> None:
    async def hold() -> None:
        async with aio.Client("127.0.0.1:1") as client:  # nobody answers
            dialogue = Dialogue(client)
            dialogue.reply("hello")
            await asyncio.sleep(0)
            await dialogue.close()
            await asyncio.wait_for(dialogue.recorded(), 10)

    asyncio.run(hold())


def test_entries_are_no_string() -> None:
    with pytest.raises(ChangeRequestError, match="list of entries of contacts"):
        Dialogue(aio.Client()).set_entities("contacts", "Meg")


MEG = {"name": "Meg Bauer", "id": 17, "aliases": ["Mum"], "phone": "1"}


@pytest.mark.parametrize(
    "result",
    [[MEG, {"phone": "2"}], {"contacts": [MEG]}, MEG, json.dumps([MEG]), json.dumps({"count": 1, "found": [MEG]})],
)
def test_entries_of_a_tools_result(result: Any) -> None:
    assert entries_of(result) == [Entry("Meg Bauer", id="17", aliases=("Mum",))]


def test_entries_of_names_and_of_other_keys() -> None:
    assert entries_of(["Lamp", "Oven"]) == [Entry("Lamp"), Entry("Oven")] and entries_of([]) == []
    devices = [{"title": "Lamp", "uid": "l1", "short": "light"}]
    assert entries_of([{"name": "Lamp", "aliases": 7}]) == [Entry("Lamp", aliases=("7",))]
    assert entries_of(devices, text="title", id="uid", aliases="short") == [Entry("Lamp", id="l1", aliases=("light",))]


@pytest.mark.parametrize("result", ["nobody", pytest.param("[" * 100_000, id="deep"), None, 3, {"a": [], "b": []}, {}])
def test_what_is_no_list_of_entries_is_refused(result: Any) -> None:
    with pytest.raises(ChangeRequestError, match="give a list of names"):
        entries_of(result)
