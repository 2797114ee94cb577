"""Which entries a text names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.context import ContextEncoder
from asr.context.entity_linking import meant
from asr.context.types import Context, ContextEmbedding, Entry, Meant, Turn

CONTACTS = ("Meg Jones", "Meg Bauer", "Sam Taylor", "Dr. Ann Brown", "Mr. Tom Brown", "O'Neil", "The Kitchen Light")


def context(question: str = "", *entries: str, signal: str = "contacts") -> Context:
    turns = (Turn("user", "call meg"), Turn("system", question)) if question else ()
    return Context(turns, tuple(Entry(signal, entry) for entry in entries))


def named(encoder: ContextEncoder, text: str, question: str = "", entries: tuple[str, ...] = CONTACTS) -> set[str]:
    return {m.entry for m in meant(text, encoder.encode(context(question, *entries)))}


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("meg bauer", {"Meg Bauer"}),
        ("bauer", {"Meg Bauer"}),
        ("call bauer please", {"Meg Bauer"}),
        ("i would like to speak to meg bauer about the invoice", {"Meg Bauer"}),
        ("sam", {"Sam Taylor"}),
        ("meg", {"Meg Jones", "Meg Bauer"}),
        ("doctor brown", {"Dr. Ann Brown"}),
        ("mister brown", {"Mr. Tom Brown"}),
        ("brown", {"Dr. Ann Brown", "Mr. Tom Brown"}),
        ("bauer's number", {"Meg Bauer"}),
        ("o'neil", {"O'Neil"}),
        ("kitchen light", {"The Kitchen Light"}),
        ("tom bauer", set()),
        ("power", set()),
        ("", set()),
        ("no", set()),
        ("what is the time", set()),
        ("jones no bauer", {"Meg Bauer"}),
        ("meg jones i mean meg bauer", {"Meg Bauer"}),
        ("not meg jones", set()),
        ("Bauer.", {"Meg Bauer"}),
        ("Call Dr. Brown!", {"Dr. Ann Brown"}),
    ],
)
def test_a_text_names_the_entries_that_fit_it_equally_well(
    encoder: ContextEncoder, text: str, entries: set[str]
) -> None:
    assert named(encoder, text) == entries


def test_what_the_question_offers_comes_before_the_rest(encoder: ContextEncoder) -> None:
    entries = ("Tom Bauer", *CONTACTS)
    assert named(encoder, "bauer", "", entries) == {"Tom Bauer", "Meg Bauer"}
    assert named(encoder, "bauer", "Do you mean Meg Jones or Meg Bauer?", entries) == {"Meg Bauer"}


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("the first one", "Meg Bauer"),
        ("the second", "Meg Jones"),
        ("second", "Meg Jones"),
        ("number two please", "Meg Jones"),
        ("i want the last one", "Sam Taylor"),
        ("option three", "Sam Taylor"),
        ("the third person", "Sam Taylor"),
        ("the fourth one", None),
        ("give me a second", None),
        ("not the first one", None),
        ("the first of may", None),
    ],
)
def test_an_ordinal_names_what_the_question_names_in_its_order(
    encoder: ContextEncoder, text: str, entry: str | None
) -> None:
    question = "Which one, Meg Bauer, Meg Jones or Sam Taylor?"
    assert named(encoder, text, question) == ({entry} if entry else set())


def test_an_ordinal_counts_in_a_short_list_where_the_question_names_none(encoder: ContextEncoder) -> None:
    assert named(encoder, "the second one", "Which one?") == {"Meg Bauer"}
    assert named(encoder, "the second one", "Which one?", tuple(f"Meg Number{chr(97 + i)}" for i in range(11))) == set()
    screen = Context((), (Entry("contacts", "Meg Jones"), Entry("screen", "Yesterday"), Entry("screen", "Help")))
    assert meant("play the last one", encoder.encode(screen)) == (Meant("Help", "screen"),)


def test_parts_in_the_question_count_too(encoder: ContextEncoder) -> None:
    assert named(encoder, "the first", "Bauer or Jones?", ("Meg Jones", "Meg Bauer")) == {"Meg Bauer"}


def test_what_only_the_question_offers_is_named(encoder: ContextEncoder) -> None:
    embedding = encoder.encode(context("Do you mean Meg Jones or Meg Bauer?"))
    assert meant("bauer", embedding) == (Meant("Meg Bauer", "turns"),)
    assert meant("the first one", embedding) == (Meant("Meg Jones", "turns"),)
    drinks = encoder.encode(context("Would you like tea or coffee?"))
    assert [m.entry for m in meant("coffee please", drinks)] == ["coffee"]


def test_ids_say_which_of_two_entries_of_one_name(encoder: ContextEncoder) -> None:
    entries = (
        Entry("contacts", "Meg Bauer", "17"),
        Entry("contacts", "Meg Jones"),
        Entry("contacts", "meg bauer", "4"),
    )
    embedding = encoder.encode(Context((), entries))
    both = (Meant("Meg Bauer", "contacts", "17"), Meant("Meg Bauer", "contacts", "4"))
    assert meant("bauer", embedding) == both
    assert meant("bauer", ContextEmbedding.from_bytes(embedding.to_bytes())) == both
    assert meant("jones", embedding) == (Meant("Meg Jones", "contacts"),)


def test_an_embedding_that_was_stored_without_question_and_ids_is_read(encoder: ContextEncoder) -> None:
    embedding = encoder.encode(context("Meg Bauer or Meg Jones?", *CONTACTS))
    stored = embedding.to_bytes()
    fields = (b', "ids": {}', f', "asked": "{embedding.asked}"'.encode())
    header = int.from_bytes(stored[4:8], "little")
    older = stored[8 : 8 + header]
    for field in fields:
        assert field in older
        older = older.replace(field, b"")
    old = stored[:4] + len(older).to_bytes(4, "little") + older + stored[8 + header :]
    assert ContextEmbedding.from_bytes(old).phrases == ContextEmbedding.from_bytes(stored).phrases
    assert ContextEmbedding.from_bytes(old).asked == ""


WORDS = (
    "call",
    "meg",
    "jones",
    "bauer",
    "tom",
    "brown",
    "the",
    "first",
    "second",
    "one",
    "not",
    "no",
    "i",
    "mean",
    "dr",
)
words = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


@given(text=words, question=words)
def test_only_what_is_listed_is_named_and_the_order_of_entries_does_not_matter(
    encoder: ContextEncoder, text: str, question: str
) -> None:
    embedding = encoder.encode(context(question, *CONTACTS))
    found = meant(text, embedding)
    assert found == meant(text, embedding) and len(set(found)) == len(found)
    assert {(m.entry, m.signal) for m in found} <= {(p.name, p.signal) for p in embedding.phrases}
    turned = replace(embedding, phrases=embedding.phrases[::-1])
    if "second" not in text and "first" not in text:
        assert set(meant(text, turned)) == set(found)


@given(entry=st.sampled_from(CONTACTS), before=st.sampled_from(["", "call ", "um ", "i mean "]), thanks=st.booleans())
def test_an_entry_that_is_said_whole_is_meant(encoder: ContextEncoder, entry: str, before: str, thanks: bool) -> None:
    assert named(encoder, f"{before}{entry}{' please' if thanks else ''}") == {entry}
