"""Names and conversations of a Home Assistant, a stand-in here, reach the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from carryover import Entry
from carryover_wyoming import hass as hass_module
from carryover_wyoming.conversations import AWAITED_S, Conversations, Place, exchanges_of
from carryover_wyoming.hass import HomeAssistant
from carryover_wyoming.hass_socket import HassError, HassSocket, HassTokenError, connected, websocket_url
from carryover_wyoming.names import MOST_ENTRIES, Names, Thing, merged, request_names
from tests.wyoming.conftest import RATE, answers, bridge, recording, run, send, transcribed, until
from tests.wyoming.hass_stand_in import TOKEN, HassStandIn, running
from tests.wyoming.test_bridge import BAUER


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as may be."""
    monkeypatch.setattr(hass_module, "_SETTLE_S", 0.0)
    monkeypatch.setattr(hass_module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(hass_module, "_FOUND_S", 0.01)


def a_house() -> HassStandIn:
    house = HassStandIn()
    house.add_floor("up", "Upstairs", "second floor")
    house.add_floor("loft", "Loft")
    house.add_area("office", "Office", "study", floor="up")
    house.add_area("den", "Den", floor="loft")
    house.devices = [{"id": "d1", "area_id": "office"}, {"id": "d2", "area_id": None}]
    house.add("light.beam", "Lifx Beam", "strip", None, device_id="d1")
    house.add("sensor.ecobee", "Ecobee Humidity")
    house.add("climate.ecobee", "Ecobee")
    house.add("light.off", "Retired Lamp", disabled_by="user", area="den")
    house.states.append({"entity_id": "light.hidden", "attributes": {"friendly_name": "Hidden"}})
    house.exposed["light.gone"] = {"cloud.alexa": True}
    return house


class Told:
    """What a listener of conversations was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def changed(self, conversation: str, log: dict[str, Any]) -> None:
        self.calls.append((conversation, [(turn.user, turn.reply) for turn in exchanges_of(log)]))

    def ended(self, conversation: str) -> None:
        self.calls.append((conversation, None))

    def only(self, conversations: Collection[str]) -> None:
        self.calls.append(("only", sorted(conversations)))


@asynccontextmanager
async def following(url: str, told: Told | None = None) -> AsyncIterator[HomeAssistant]:
    """A Home Assistant that is followed while inside."""
    hass = HomeAssistant(websocket_url(url), TOKEN)
    task = asyncio.get_running_loop().create_task(hass.run(told or Told()))
    try:
        yield hass
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_can_be_named() -> None:
    async def work() -> None:
        house = a_house()
        async with running(house) as url, following(url) as hass:
            await until(lambda: len(hass.names))
            assert {(thing.id, thing.signal, thing.names, thing.usual) for thing in hass.names.things} == {
                ("climate.ecobee", "devices", ("Ecobee",), True),
                ("light.beam", "devices", ("Lifx Beam", "strip"), True),
                ("office", "areas", ("Office", "study"), True),
                ("up", "floors", ("Upstairs", "second floor"), True),
                ("sensor.ecobee", "devices", ("Ecobee Humidity",), False),
                ("den", "areas", ("Den",), False),
                ("loft", "floors", ("Loft",), False),
            }
            phrases = hass.names.phrases(1000)
            assert phrases["strip"] == phrases["second floor"] == 5.0 and phrases["Ecobee Humidity"] == 2.5
            assert len(phrases) == 10 and list(hass.names.phrases(3)) == list(phrases)[:3]
            assert Entry("Lifx Beam", "light.beam", ["strip"], 1.0) in hass.names.entities()["devices"]

            house.add("lock.nuki", "Nuki")  # a new device: Home Assistant tells, the names follow
            await house.fire("entity_registry_updated")
            await until(lambda: "Nuki" in hass.names.phrases(1000))
            house.slow.clear()  # it does not answer now: speech waits for a second, then takes the names of before
            await house.fire("floor_registry_updated")
            await until(lambda: not hass._current.is_set())
            before_s = asyncio.get_running_loop().time()
            assert "Nuki" in (await hass.current_names()).phrases(1000)
            assert 0.9 < asyncio.get_running_loop().time() - before_s < 10
            house.slow.set()

    run(work())


def test_names_that_no_event_tells_of_are_read_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a YAML entity that is exposed: it stands in no registry."""
    monkeypatch.setattr(hass_module, "_AGAIN_S", 0.1)

    async def work() -> None:
        house = a_house()
        async with running(house) as url, following(url) as hass:
            await until(lambda: len(hass.names))
            house.add("input_boolean.guests", "Guest Mode")
            await until(lambda: "Guest Mode" in hass.names.phrases(100))

    run(work())


def test_it_goes_away_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def work() -> None:
        house = a_house()
        port = await house.start()
        async with following(f"http://127.0.0.1:{port}") as hass:
            await until(lambda: len(hass.names))
            known = hass.names
            await house.stop()
            await until(lambda: "no Home Assistant answers" in caplog.text)
            assert await asyncio.wait_for(hass.current_names(), 0.5) is known  # without waiting for anybody
            again = HassStandIn()
            again.add("light.new", "New Light")
            await again.start(port)
            await until(lambda: list(hass.names.phrases(10)) == ["New Light"])
        await again.stop()

    run(work())
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) <= 3, warnings  # once each, not at every attempt
    assert not any(name in caplog.text for name in ("Ecobee", "Lifx", "New Light", TOKEN))


def test_a_token_that_is_no_administrators(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        house = a_house()
        house.administrator = False
        async with running(house) as url, following(url) as hass:
            await until(lambda: "cannot be read: refused: unauthorized; give the token of" in caplog.text)
            assert await asyncio.wait_for(hass.current_names(), 0.5) == Names()

    run(work())
    assert "refuses conversations (unauthorized)" in caplog.text


def test_an_older_home_assistant(caplog: pytest.LogCaptureFixture) -> None:
    """It has names, and no chat logs that could be followed."""

    async def work() -> None:
        house = a_house()
        house.unknown = {"conversation/chat_log/subscribe_index"}
        async with running(house) as url, following(url) as hass:
            await until(lambda: len(hass.names))
            await until(lambda: "refuses conversations (unknown_command); it is older than 2026.2" in caplog.text)

    run(work())
    assert "administrator" not in caplog.text


def test_strange_answers_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        house = a_house()
        async with running(house) as url, following(url) as hass:
            await until(lambda: len(hass.names))
            known, good = hass.names, house.areas
            house.areas = [{"name": "no id"}]
            await house.fire("area_registry_updated")
            await until(lambda: "KeyError in an answer" in caplog.text)
            assert await hass.current_names() is known
            house.areas = good[:1]
            await house.fire("area_registry_updated")
            await until(lambda: "Den" not in hass.names.phrases(100))

    run(work())


def test_who_does_not_answer_and_who_is_not_let_in() -> None:
    async def work() -> None:
        house = a_house()
        async with running(house) as url:
            with pytest.raises(HassTokenError, match="does not take the token"):
                await HomeAssistant(websocket_url(url), "wrong").check()
            with pytest.raises(HassError, match=r"no Home Assistant answers at ws://.*/nowhere/api/websocket"):
                await HomeAssistant(websocket_url(f"{url}/nowhere"), TOKEN).check()
            async with connected(websocket_url(url), TOKEN) as socket:
                taking = asyncio.get_running_loop().create_task(socket.follow())
                with pytest.raises(HassError) as refused:
                    await socket.command("nobody/knows")
                assert refused.value.code == "unknown_command"
                house.slow.clear()
                waiting = asyncio.get_running_loop().create_task(socket.command("get_states"))
                await until(lambda: "get_states" in house.asked)
                house.slow.set()
                await house.connections[0].close()
                with pytest.raises(HassError, match="has ended"):
                    await waiting
                with pytest.raises(HassError, match="has ended"):
                    await taking
                with pytest.raises(HassError, match="has ended"):
                    await socket.command("get_states")

    run(work())


@pytest.mark.parametrize(
    ("url", "websocket"),
    [
        ("http://homeassistant.local:8123", "ws://homeassistant.local:8123/api/websocket"),
        ("https://ha.example/", "wss://ha.example/api/websocket"),
        ("ws://supervisor/core/websocket", "ws://supervisor/core/websocket"),
        ("homeassistant.local:8123", None),
        ("ftp://host", None),
        ("http://", None),
        ("http://host:99999", None),
        ("http://user:pass@host", None),
    ],
)
def test_addresses(url: str, websocket: str | None) -> None:
    if websocket is not None:
        assert websocket_url(url) == websocket
        return
    with pytest.raises(HassError, match="is no address of Home Assistant"):
        websocket_url(url)


def test_conversations_are_followed_as_home_assistant_tells_them() -> None:
    async def work() -> None:
        house = a_house()
        await house.reply("old", "what time is it", "Noon.")
        told = Told()
        async with running(house) as url, following(url, told):
            await until(lambda: ("old", [("what time is it", "Noon.")]) in told.calls)
            await house.begin("c1", "turn on the light")
            await until(lambda: house.asked.count("conversation/chat_log/subscribe") > 2)  # asked for in vain so far
            assert all(conversation in ("old", "only") for conversation, _ in told.calls)
            await house.reply("c1", "turn on the light", "Let me see.", "Which one?")
            await until(lambda: told.calls[-1] == ("c1", [("turn on the light", "Let me see. Which one?")]))
            await house.turn("c1", "the beam", "Done.")
            await until(lambda: told.calls[-1][1][1:] == [("the beam", "Done.")])
            await house.end("c1")
            await until(lambda: told.calls[-1] == ("c1", None))

    run(work())


def test_what_home_assistant_has_forgotten_by_a_new_start_is_over() -> None:
    """It says nothing of it: it sends the conversations that are there, and nothing at all where there are none."""

    async def work() -> None:
        house = a_house()
        await house.reply("old", "which light", "Which one?")
        port = await house.start()
        told = Told()
        async with following(f"http://127.0.0.1:{port}", told):
            await until(lambda: ("only", ["old"]) in told.calls)
            await house.stop()
            again = a_house()
            await again.start(port)
            await until(lambda: ("only", []) in told.calls)
        await again.stop()

        recorder = Recorder()
        conversations = Conversations(recorder, Names)  # type: ignore[arg-type]
        recording = asyncio.get_running_loop().create_task(conversations.run())
        for conversation in ("old", "new"):
            conversations.changed(conversation, log(("one", "Sure?")))
        await until(lambda: len(recorder.recorded) == 2)
        conversations.only(["new", "never seen"])
        await until(lambda: recorder.erased == [recorder.recorded[0]["dialogue"]])
        assert (taken := conversations.take_awaited()) and taken.dialogue == recorder.recorded[1]["dialogue"]
        recording.cancel()

    run(work())


class Recorder:
    """A client of the server that remembers what it is asked."""

    def __init__(self) -> None:
        self.recorded: list[dict[str, Any]] = []
        self.erased: list[str] = []

    async def record(self, dialogue: str, turn: str, **what: Any) -> bool:
        self.recorded.append({"dialogue": dialogue, "turn": turn, **what})
        return True

    async def erase(self, dialogue: str, **_: Any) -> int:
        self.erased.append(dialogue)
        return 1


def log(*turns: tuple[str, str]) -> dict[str, Any]:
    content = [{"role": "system", "content": ""}]
    for user, reply in turns:
        content += [{"role": "user", "content": user}] if user else []
        content += [{"role": "assistant", "content": reply}] if reply else []
    return {"content": content, "continue_conversation": bool(turns) and turns[-1][1].endswith("?")}


def test_conversations_that_end_at_once_are_all_erased(caplog: pytest.LogCaptureFixture) -> None:
    """Home Assistant forgets in batches, every five minutes."""

    async def work() -> None:
        recorder = Recorder()
        conversations = Conversations(recorder, Names)  # type: ignore[arg-type]
        recording = asyncio.get_running_loop().create_task(conversations.run())
        names = [str(number) for number in range(200)]
        for name in names:
            conversations.changed(name, log(("one", "Done.")))
        await until(lambda: len(recorder.recorded) == len(names))
        for name in names:
            conversations.ended(name)
        await until(lambda: len(recorder.erased) == len(names))
        recording.cancel()

    run(work())
    assert not caplog.text


def test_turns_of_a_chat_log() -> None:
    assert exchanges_of({}) == exchanges_of(log()) == []
    assert exchanges_of(log(("", "Hello?"), ("yes", ""))) == [("", "Hello?"), ("yes", "")]
    long = "word " * 2000 + "which one?"
    ((user, reply),) = exchanges_of(log((long, long)))
    assert len(user) == len(reply) == 2000 and reply.endswith("which one?")


def test_a_strange_log_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        recorder = Recorder()
        conversations = Conversations(recorder, Names)  # type: ignore[arg-type]
        recording = asyncio.get_running_loop().create_task(conversations.run())
        conversations.changed("a", {"content": [None]})
        conversations.changed("b", log(("one", "Sure?")))
        await until(conversations.take_awaited)
        assert "AttributeError in its log" in caplog.text and len(recorder.recorded) == 1
        recording.cancel()

    run(work())


def test_which_conversation_awaits_an_answer() -> None:
    async def work() -> None:
        now_s, recorder = 0.0, Recorder()
        names = Names([Thing("light.beam", "devices", ("Lifx Beam",))])
        conversations = Conversations(recorder, lambda: names, lambda: now_s)  # type: ignore[arg-type]
        recording = asyncio.get_running_loop().create_task(conversations.run())

        async def changed(conversation: str, *turns: tuple[str, str]) -> None:
            conversations.changed(conversation, log(*turns))
            await until(lambda: not conversations._jobs.qsize())
            await asyncio.sleep(0)

        assert conversations.take_awaited() is None
        first = ("turn on the light", "Which one?")
        await changed("a", first)
        (told,) = recorder.recorded
        assert told["turn"] == "0" and (told["user"], told["reply"], told["expect_speech"]) == (*first, True)
        assert told["entities"] == names.entities() and told["dialogue"].startswith("hass-")
        place = conversations.take_awaited()
        assert place == Place(told["dialogue"], "1")
        assert conversations.take_awaited() is None  # once
        conversations.give_back(place)  # nothing was said
        conversations.give_back(Place("another", "1"))
        assert conversations.take_awaited() == place and conversations.take_awaited() is None

        await changed("a", first, ("the beam", "Done."))
        assert [one["turn"] for one in recorder.recorded] == ["0", "1"]
        assert recorder.recorded[1]["expect_speech"] is False and recorder.recorded[1]["entities"] is None
        assert conversations.take_awaited() is None
        conversations.give_back(place)  # too late: it has gone on
        assert conversations.take_awaited() is None

        await changed("b", ("", "Shall I lock the door?"))  # the assistant speaks first
        assert recorder.recorded[2]["user"] is None
        now_s = AWAITED_S - 1
        await changed("b", ("", "Shall I lock the door?"))  # told once more: nothing new
        assert len(recorder.recorded) == 3
        now_s = AWAITED_S + 1
        assert conversations.take_awaited() is None  # too late

        await changed("c", ("one", "Sure?"))
        await changed("d", ("two", "Sure?"))
        assert conversations.take_awaited() is None  # nobody knows whose answer it would be
        conversations.ended("d")
        assert (taken := conversations.take_awaited()) and taken.turn == "1"
        await until(lambda: len(recorder.erased) == 1)
        conversations.ended("never seen")
        await until(lambda: not conversations._jobs.qsize())
        assert len(recorder.erased) == 1
        recording.cancel()

    run(work())


def test_names_that_a_server_would_refuse_are_left_out() -> None:
    things = [
        Thing("a", "devices", ("  Two\n\tlines \u2028", "two lines", "", "☃", "x" * 101)),
        Thing("b", "devices", ("☃",)),
        Thing("c", "devices", tuple(f"name {i}" for i in range(30))),
    ]
    names = Names(things, most_characters=100)
    assert [thing.names[:1] for thing in names.things] == [("Two lines",), ("name 0",)]
    assert len(names.entities()["devices"][1].aliases) == 16
    many = Names(Thing(str(i), "devices", (f"lamp {i}",), usual=i % 2 == 0) for i in range(1000))
    entries = many.entities()["devices"]
    assert len(entries) == MOST_ENTRIES and all(int(entry.id) % 2 == 0 for entry in entries)
    both = merged(names, Names(request_names(["TWO LINES", "Other", 7], "no list")))
    assert [thing.names[0] for thing in both.things] == ["Other", "Two lines", "name 0"]
    asked = merged(many, Names(request_names(["Other"], ["Rare", "lamp 0"])))
    assert list(asked.phrases(1)) == ["Other"] and asked.entities()["names"][0].text == "Other"
    assert asked.phrases(2000)["lamp 0"] == 5.0  # as the house has it


def test_names_of_the_house_change_what_is_recognised(shared: Any, pcm: bytes) -> None:
    """The tiny server puts a context's first entry before everything."""

    async def work() -> None:
        async with running(a_house()) as url, bridge(shared.port, hass_url=url) as made, made.connect() as client:
            assert made.hass is not None
            await until(lambda: made.hass is not None and len(made.hass.names))
            seen = len(shared.encoder.seen)
            *events, stop = recording(pcm)
            await send(client, events)
            await until(lambda: len(shared.encoder.seen) > seen)
            assert {entry.signal for entry in shared.encoder.seen[-1].entries} == {"devices", "areas", "floors"}
            await asyncio.sleep(0)
            await client.write_event(stop)
            first = shared.encoder.seen[-1].entries[0].text.lower()
            assert first in (await answers(client))[-2].data["text"]

    run(work())


def test_an_answer_is_recognised_with_its_question(shared: Any, pcm: bytes) -> None:
    """Twice: what was asked in Home Assistant is a dialogue in the server, and the next speech its next turn."""

    async def work() -> None:
        house = HassStandIn()
        house.add("light.meg", "Meg Bauer")
        async with running(house) as url, bridge(shared.port, hass_url=url) as made, made.connect() as client:
            assert made.hass is not None and made.conversations is not None
            await until(lambda: made.hass is not None and len(made.hass.names))
            known = made.conversations._known
            for turn in range(2):
                await house.turn("c1", f"said {turn}", "Do you mean Meg Bauer?")
                await until(lambda: "c1" in known and known["c1"].answer is not None)
                place = known["c1"].answer
                assert place is not None and place.turn == str(turn + 1)
                await asyncio.to_thread(shared.wait_for, "READY", place.dialogue)
                *events, stop = recording(pcm)
                await send(client, events)
                await asyncio.to_thread(shared.run, shared.store_answered())
                await client.write_event(stop)
                assert (await answers(client))[-2].data["text"].startswith("meg bauer")
                context = shared.encoder.seen[-1]
                assert [turn.text for turn in context.turns][-2:] == [f"said {turn}", "Do you mean Meg Bauer?"]
                assert [entry.id for entry in context.entries] == ["light.meg"]
            assert known["c1"].answer is None
            await house.end("c1")
            await until(lambda: "c1" not in known)
            assert "context" not in await transcribed(client, pcm)

    run(work())


def test_a_socket_takes_any_message() -> None:
    socket = HassSocket(None)  # type: ignore[arg-type]
    for message in (
        {}, {"type": "event"}, {"type": "event", "id": 1, "event": None}, {"type": "result", "id": 9},
        {"type": "result", "id": "x", "success": True}, {"type": "pong", "id": 1},
    ):  # fmt: skip
        socket._take(message)


def test_a_question_and_its_answer_with_the_trained_models(shipped: Any) -> None:
    """The README's: what the assistant asked makes "Bauer" likelier than "bower"."""

    async def work() -> None:
        house = HassStandIn()
        async with running(house) as url, bridge(shipped.port, hass_url=url) as made, made.connect() as client:
            assert made.conversations is not None
            plain = (await transcribed(client, BAUER))["text"]
            await house.turn("c1", "call meg", "Do you mean Meg Jones or Meg Bauer?")
            known = made.conversations._known
            await until(lambda: "c1" in known and known["c1"].answer is not None)
            place = known["c1"].answer
            assert place is not None
            await asyncio.to_thread(shipped.wait_for, "READY", place.dialogue)
            assert (await transcribed(client, bytes(RATE)))["text"] == ""  # a microphone that was opened in vain
            await until(lambda: known["c1"].answer == place)
            await send(client, recording(BAUER)[:3])
            await client.disconnect()  # whoever leaves before the end has not answered
            await until(lambda: made.bridge._satellites == {} and known["c1"].answer == place)
            await client.connect()
            *events, stop = recording(BAUER)
            await send(client, events)
            await asyncio.to_thread(shipped.run, shipped.store_answered())
            await client.write_event(stop)
            assert (await answers(client))[-2].data["text"] == "bauer" != plain

    run(work())


def test_a_name_with_the_trained_models(shipped: Any) -> None:
    async def work() -> None:
        async with bridge(shipped.port) as made, made.connect() as client:
            plain = (await transcribed(client, BAUER))["text"]
            names = ["Bauer", "Meg Jones", "Ecobee"]
            assert (await transcribed(client, BAUER, transcript_names=names))["text"] == "bauer" != plain

    run(work())
