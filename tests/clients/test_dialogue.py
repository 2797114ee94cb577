"""A dialogue's turns as the client keeps them, against real servers: what the context encoder reads of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

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


def test_of_what_no_one_said_that_it_was_spoken_nothing_is_left_to_correct() -> None:
    async def hold() -> None:
        async with aio.Client("127.0.0.1:1") as client:
            dialogue = Dialogue(client)
            dialogue.reply("One moment.")
            dialogue.heard("call meg")
            dialogue.reply(QUESTION)
            await dialogue.recorded()
            dialogue.spoken(QUESTION, interrupted=True)
            assert not dialogue._waiting

    asyncio.run(hold())


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


def test_what_is_known_before_anybody_speaks_counts_for_the_first_utterance(workshop: Any) -> None:
    replica = workshop.start()

    async def hold(dialogue: Dialogue) -> None:
        dialogue.set_entities("contacts", ["Meg Bauer"])
        dialogue.begin()
        dialogue.set_entities("devices", ["Lamp"])
        dialogue.begin()

    assert set(run(replica, hold).entries) == {Known("contacts", "Meg Bauer"), Known("devices", "Lamp")}

    async def go_on(dialogue: Dialogue) -> None:
        dialogue.set_entities("contacts", ["Meg Bauer"])
        dialogue.begin()
        dialogue.heard("call meg")
        dialogue.begin()
        dialogue.set_entities("devices", ["Lamp"])
        dialogue.reply(QUESTION)

    read = run(replica, go_on)
    assert [turn.text for turn in read.turns] == ["call meg", QUESTION] and len(read.entries) == 2


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
def test_what_the_server_refuses_is_left_out_of_a_turn(
    workshop: Any, caplog: pytest.LogCaptureFixture, signal: str, entry: str, says: str
) -> None:
    async def hold(dialogue: Dialogue) -> None:
        with caplog.at_level(logging.WARNING, "carryover"):
            dialogue.heard("call meg")
            dialogue.set_entities(signal, [entry])
            dialogue.reply(QUESTION)
            await dialogue.recorded()

    assert [turn.text for turn in run(workshop.start(), hold).turns] == ["call meg", QUESTION]
    assert says in caplog.messages[0] and not any("Meg" in line for line in caplog.messages)


def test_a_turn_that_cannot_be_recorded_is_left_out(workshop: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def hold(dialogue: Dialogue) -> None:
        right, dialogue.id = dialogue.id, "a#b"
        with caplog.at_level(logging.WARNING, "carryover"):
            dialogue.reply(QUESTION)
            await dialogue.recorded()
        dialogue.id = right
        dialogue.heard("call meg")
        dialogue.reply("whom?")

    assert [turn.text for turn in run(workshop.start(), hold).turns] == ["call meg", "whom?"]
    assert "dialogue_id" in caplog.messages[-1] and "Meg" not in caplog.messages[-1]


def test_of_a_long_reply_the_end_is_recorded(workshop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A language model may write 3,000 words; the question is behind them."""

    async def hold(dialogue: Dialogue) -> None:
        dialogue.heard("tell me everything")
        dialogue.reply(f"{'and so on ' * 1000}{QUESTION}")
        await dialogue.recorded()
        dialogue.heard("and \ud83d\ude00 then")
        dialogue.reply(f"{'more of it ' * 1000}{QUESTION}")

    texts = [turn.text for turn in run(workshop.start(), hold).turns]
    assert [len(text) > 3900 for text in texts] == [False, True, False, True]
    assert all(text.endswith(QUESTION) for text in texts[1::2]) and texts[1].startswith("on and so on")
    (line,) = [line for line in caplog.messages if "turn" in line]  # the second one is cut before it is sent
    assert "4000" in line and texts[2] == "and 😀 then"


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([f"name {number}" for number in range(3000)], [f"name {number}" for number in range(200)]),
        ([Entry(f"n{i}", aliases=["a", "b", "c"]) for i in range(3000)], [f"n{i}" for i in range(200)]),
        (["Meg", "a " * 80, "", "Sam"], ["Meg", "Sam"]),
        ([Entry("Meg", aliases=["a " * 80, "Mum"])], ["Meg"]),
        ([Entry("Meg", aliases=[str(number) for number in range(20)])], ["Meg"]),
    ],
    ids=["many", "aliases", "long", "long alias", "many aliases"],
)
def test_entries_beyond_the_servers_limits_cost_no_turn(workshop: Any, entries: Any, kept: list[str]) -> None:
    async def hold(dialogue: Dialogue) -> None:
        dialogue.set_entities("contacts", entries)
        dialogue.heard("call meg")
        dialogue.reply(QUESTION)

    read = run(workshop.start(), hold)
    assert [turn.text for turn in read.turns] == ["call meg", QUESTION]
    assert [entry.text for entry in read.entries] == kept  # the encoder reads 200


def test_closing_leaves_out_what_waits_and_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    async def hold() -> None:
        async with aio.Client("127.0.0.1:1") as client:  # nobody answers
            dialogue = Dialogue(client)
            dialogue.reply("hello")
            await asyncio.sleep(0)
            await dialogue.close()
            dialogue.reply("goodbye")
            await asyncio.wait_for(dialogue.recorded(), 10)
            assert not caplog.messages

    asyncio.run(hold())


def test_entities_that_change_all_the_time_hold_nothing_up(workshop: Any) -> None:
    """As those of a screen; a turn holds 256 events."""
    replica = workshop.start(context__turns=1)
    records: list[Any] = []

    async def hold(dialogue: Dialogue) -> None:
        record = dialogue._client.record

        async def noted(*ids: str, **events: Any) -> bool:
            records.append(events)
            return await record(*ids, **events)

        dialogue._client.record = noted  # type: ignore[method-assign]
        dialogue.begin()
        for number in range(30):
            for part in range(10):
                dialogue.set_entities(f"screen {part}", [f"item {number} {part}"])
            await dialogue.recorded()
        dialogue.heard("call meg")
        dialogue.reply(QUESTION)

    read = run(replica, hold)
    assert [turn.text for turn in read.turns] == ["call meg", QUESTION]
    assert {f"item 29 {part}" for part in range(10)} <= {entry.text for entry in read.entries}
    assert len(records) < 40, "what is outdated before it is recorded is not recorded"


@pytest.mark.parametrize(
    "entries",
    ["Meg", [{"name": "Meg"}], [None], [Entry("Meg", id=17)], [Entry("Meg", aliases=(1,))]],  # type: ignore[arg-type]
)
def test_what_is_no_list_of_entries_is_told_at_once(entries: Any) -> None:
    with pytest.raises(ChangeRequestError, match="of contacts"):
        Dialogue(aio.Client()).set_entities("contacts", entries)
    with pytest.raises(ChangeRequestError, match="name the signal"):
        Dialogue(aio.Client()).set_entities(None, ["Meg"])  # type: ignore[arg-type]


MEG = {"name": "Meg Bauer", "id": 17, "aliases": ["Mum"], "phone": "1"}


@dataclass
class Contact:
    name: str
    id: int
    aliases: tuple[str, ...] = ()


class Row(NamedTuple):
    id: int
    full_name: str
    aliases: list[str]


class Model:
    """As Pydantic's."""

    def model_dump(self) -> dict[str, Any]:
        return {**MEG, "first_name": "Margaret"}


@pytest.mark.parametrize(
    "result",
    [
        [MEG, {"phone": "2"}],
        (MEG,),
        {"contacts": [MEG]},
        {"contacts": [MEG], "warnings": ["slow"], "errors": []},
        {"status": "ok", "data": {"total": 1, "contacts": [MEG]}},
        {"contact": MEG},
        MEG,
        json.dumps([MEG]),
        json.dumps([MEG]).encode(),
        json.dumps({"count": 1, "found": [MEG]}),
        {"type": "text", "text": json.dumps([MEG])},
        [{"type": "text", "text": json.dumps(MEG), "annotations": None}],
        [Contact("Meg Bauer", 17, ("Mum",))],
        [Row(17, "Meg Bauer", ["Mum"])],
        {"contacts": [Model()]},
        Model(),
        [{"displayName": "Meg Bauer", "ID": 3, "id": "17", "aliases": ["Mum"]}],
        [{"friendly_name": "Meg Bauer", "Id": 17, "Aliases": ["Mum"], "company": "Acme"}],
        {
            "hits": {
                "total": {"value": 1},
                "hits": [{"_id": "17", "_source": {"NAME": "Meg Bauer", "aliases": ["Mum"]}}],
            }
        },
        {"data": {"people": {"edges": [{"node": MEG}], "pageInfo": {"hasNextPage": False}}}},
        [{"title": "Dr.", "firstName": "Meg", "last_name": "Bauer", "id": 17, "aliases": ["Mum"]}],
        [{"id": 17, "properties": {"firstname": "Meg", "lastname": "Bauer"}, "aliases": ["Mum"]}],
        [{"id": 17, "name": {"first": "Meg", "last": "Bauer"}, "aliases": ["Mum", None]}],
        [{"title": "Meg Bauer", "label": "x", "id": 17, "aliases": "Mum"}],
        [Entry("Meg Bauer", "17", ("Mum",))],
    ],
)
def test_entries_of_a_tools_result(result: Any) -> None:
    assert entries_of(result) == [Entry("Meg Bauer", id="17", aliases=("Mum",))]


def test_entries_of_names_and_of_other_keys() -> None:
    assert entries_of(["Lamp", "Oven"]) == [Entry("Lamp"), Entry("Oven")] and entries_of([]) == []
    assert entries_of({"Lamp"}) == entries_of({"Lamp": 1}.keys()) == [Entry("Lamp")]
    devices = [{"caption": "Lamp", "name": "light.lamp", "uid": "l1", "short": "light"}]
    assert entries_of([{"name": "Lamp", "aliases": 7, "id": {"n": 1}}]) == [Entry("Lamp", aliases=("7",))]
    assert entries_of(devices, text="caption", id="uid", aliases="short") == [
        Entry("Lamp", id="l1", aliases=("light",))
    ]
    assert entries_of(["5", "[not JSON"]) == [Entry("5"), Entry("[not JSON")]
    assert len(entries_of([{"name": f"n{number}"} for number in range(10_000)])) == 10_000


@pytest.mark.parametrize(
    "result",
    [
        "nobody", "Meg, Sam", pytest.param("[" * 100_000, id="deep"), None, 3, {"a": [], "b": []}, {}, b"\xff",
        {"error": {"name": "NotFound"}}, {"user": {"name": "Sam"}, "contact": {"name": "Meg"}},
        {"a": [{"name": "Sam"}], "b": [{"name": "Meg"}]},
    ],
)  # fmt: skip
def test_what_is_no_list_of_entries_is_refused(result: Any) -> None:
    with pytest.raises(ChangeRequestError, match="give a list of names"):
        entries_of(result)


@pytest.mark.parametrize(
    "result",
    [
        [{"phone": "2"}],
        [1, 2],
        [["Meg", 1]],
        {"found": [{"caption": "Meg"}]},
    ],
)
def test_a_list_without_any_name_is_refused(result: Any) -> None:
    """Else what was known before would be forgotten."""
    with pytest.raises(ChangeRequestError, match="none of . results has a name"):
        entries_of(result)
