"""What of the stored turns the context encoder reads."""

from __future__ import annotations

from typing import Any

from asr.context.types import Entry, Turn
from context_store import Body, Entities, Event, ExpectSpeech, Reply, StoredTurn, Utterance
from server.contexts.builder import context_of


def turn(name: str, *bodies: Any) -> StoredTurn:
    events = tuple(Event(f"e{i}", float(i), body) for i, body in enumerate(bodies))
    return StoredTurn(name, len(events), events, 1.0, 100, "g")


TURNS = [
    turn("1", Utterance("hi"), Reply("hello"), Entities("places", ("Rome", "Paris"))),
    turn("2", Utterance("call meg"), Entities("contacts", ("Meg", "Peg")), Reply("which"), ExpectSpeech()),
    turn("3", Utterance("later")),
]


def test_turns_up_to_the_one_that_asks_newest_entries_first() -> None:
    context = context_of(TURNS, "2", 10)
    assert context.turns == (
        Turn("user", "hi"), Turn("system", "hello"), Turn("user", "call meg"), Turn("system", "which")
    )  # fmt: skip
    assert [entry.text for entry in context.entries] == ["Meg", "Peg", "Rome", "Paris"]


def test_a_reply_of_the_same_moment_follows_the_utterance() -> None:
    bodies: tuple[Body, ...] = (Reply("which"), Utterance("call meg"))
    events = tuple(Event(f"e{i}", 1.0, body) for i, body in enumerate(bodies))
    context = context_of([StoredTurn("1", 2, events, 1.0, 100, "g")], "1", 10)
    assert context.turns == (Turn("user", "call meg"), Turn("system", "which"))


def test_entries_are_bounded_and_distinct() -> None:
    again = [*TURNS, turn("4", Entities("places", ("Paris", "Oslo")))]
    newest_first = (Entry("places", "Paris"), Entry("places", "Oslo"), Entry("contacts", "Meg"))
    assert context_of(again, "4", 3).entries == newest_first
    assert context_of(again, "4", 0).entries == ()


def test_entries_have_their_ids() -> None:
    turns = [turn("1", Entities("contacts", ("Meg", "Meg", "Peg"), ("17", "4", "")))]
    assert context_of(turns, "1", 10).entries == (
        Entry("contacts", "Meg", "17"), Entry("contacts", "Meg", "4"), Entry("contacts", "Peg")
    )  # fmt: skip


def test_nothing_gives_nothing() -> None:
    assert not context_of([], "1", 10)
