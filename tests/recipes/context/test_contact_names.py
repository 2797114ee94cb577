"""Lists of contacts around callers' names, for fitting and judging."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from asr.context import ContextEncoder
from asr.context.answer_tables import AnswerTables
from asr.recognition.recognizer import Recognizer
from asr.text import normalize
from recipes.context.fit import example
from recipes.context.lists import Tools
from recipes.context.names import MAKES, PARTS, Call, ContactLists, name_lists, read_calls, read_contacts

POOL = [
    "Gemma Smith",
    "Jemma Smith",
    "Jenna Smith",
    "Derek Berry",
    "Derrick Barry",
    *(f"Tom Quill{c}" for c in "abcdefg"),
]


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("size", [1, 3, 6, 9])
def test_lists_hold_the_name_or_not(size: int, make: str) -> None:
    contacts = ContactLists(POOL)
    lists = [contacts.draw("gemma smith", size, present, random.Random(1), make) for present in (True, False)]
    assert [len(entries) for entries in lists] == [size, size]
    assert [len(set(entries)) for entries in lists] == [size, size]
    assert ["gemma smith" in map(normalize, entries) for entries in lists] == [True, False]
    assert lists[0] == contacts.draw("gemma smith", size, True, random.Random(1), make)


def test_each_make_has_the_names_that_it_is_about() -> None:
    contacts = ContactLists(POOL)
    alike, near, surname, given, mixed, repeated = (
        contacts.draw("gemma smith", 6, False, random.Random(2), make) for make in MAKES[1:]
    )
    assert {"Jemma Smith", "Jenna Smith"} <= set(alike) & set(near) & set(mixed)
    assert sum(n.endswith(" Smith") for n in surname) == 5  # as many given names are left
    assert all(n.startswith("Gemma ") for n in given)
    assert len(set(map(normalize, repeated))) == 2


def test_calls_are_read_and_halves_are_apart_by_speaker(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "speaker": f"s{i % 9}", "reference": "Gemma Smith" if i % 2 else None,
         "context": [{"speaker": "system", "text": "Your name?"}], "nbest": [{"text": "Jemma Smith"}]}
        for i in range(60)
    ]  # fmt: skip
    with gzip.open(tmp_path / "x.jsonl.gz", "wt") as out:
        out.write("\n".join(map(json.dumps, rows)))
    calls = read_calls(tmp_path / "x.jsonl.gz")
    assert len(calls) == 30
    assert calls[0].name == "gemma smith"
    assert {c.half for c in calls} == {"dev", "report"}
    assert not {c.speaker for c in calls if c.half == "dev"} & {c.speaker for c in calls if c.half == "report"}
    parts = [{c.speaker for c in calls if c.half == "dev" and c.part == part} for part in range(PARTS)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len({c.speaker for c in calls if c.half == "dev"})
    with gzip.open(tmp_path / "c.tsv.gz", "wt") as out:
        out.write("first\tlast\nGemma\tSmith\n")
    assert read_contacts(tmp_path / "c.tsv.gz") == ["Gemma Smith"]


def test_lists_of_names_become_examples(
    encoder: ContextEncoder, tables: AnswerTables, tiny_recognizer: Recognizer, tmp_path: Path
) -> None:
    call = Call("1", "s", "gemma smith", (), ("Gemma Smyth", "gemma smyth", "Jenna Smith"))
    contacts = ContactLists([*POOL, *(f"Meg Bauer{'x' * i}" for i in range(1000))])
    tools = Tools(tiny_recognizer, encoder, tables, tmp_path, tmp_path)
    lists = list(name_lists(call, contacts, tools))
    assert [x.condition for x in lists] == ["relevant", "anti"]
    assert lists[0].decoded.texts == ("gemma smyth", "jenna smith")
    assert "gemma smith" in lists[0].texts
    assert "Gemma Smith" not in {entry.text for entry in lists[1].decoded.row.context.entries}
    made = example(lists[0], encoder.model, encoder.tokenizer, tables)
    assert made.errors.min() == 0
    assert made.errors[0] == 1
