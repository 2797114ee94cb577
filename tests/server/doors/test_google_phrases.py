"""Google's phrase sets: classes are put in within bounds, and dialogues are found among references."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.doors.google_phrases import Phrases, boost, dialogue_and_turn
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits

CLASSES = {"who": ("meg", "zoe"), "what": ("jones", "bauer", "smith"), "none": ()}
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="-"), min_size=1, max_size=20)


def expanded(phrase: str, **limits: int) -> list[str]:
    phrases = Phrases("adaptation", Limits(**limits), CLASSES)
    phrases.add(phrase, 4.0)
    return [one for context in phrases.contexts() for one in context.phrases]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("call meg", ["call meg"]),
        ("$5.50 and $ {x}", ["$5.50 and $ {x}"]),
        ("call ${who}", ["call meg", "call zoe"]),
        ("${who}'s", ["meg's", "zoe's"]),
        ("${who} ${what}", [f"{who} {what}" for who in CLASSES["who"] for what in CLASSES["what"]]),
        ("call ${none}", []),
    ],
)
def test_classes(phrase: str, expected: list[str]) -> None:
    assert expanded(phrase) == expected


def test_boosts_of_phrases_stay_theirs() -> None:
    phrases = Phrases("adaptation", Limits())
    for phrase, nats in (("a", 3.0), ("b", None), ("c", 3.0)):
        phrases.add(phrase, nats)
    assert [(list(one.phrases), one.boost if one.HasField("boost") else None) for one in phrases.contexts()] == [
        (["a", "c"], 3.0), (["b"], None)
    ]  # fmt: skip
    assert [boost("boost", *values) for values in ((0.0, 0.0), (-1.0, 3.0), (2.0, 3.0), (99.0,))] == [None, 3, 2, 20]
    with pytest.raises(InvalidRequestError, match="boost: send a number"):
        boost("boost", float("nan"))


def test_few_bytes_do_not_become_many() -> None:
    began = time.process_time()
    for phrase in ("${who}" * 40, "${what}" * 1000, "x" * 1_000_000 + "${who}", "${who}" * 200_000):
        with pytest.raises(LimitError):
            expanded(phrase)
    with pytest.raises(LimitError, match="send at most 5 "):
        expanded("${who} ${what}", phrases=5)
    assert time.process_time() - began < 5


@given(st.sampled_from(["", "a/", "projects/p/locations/l/"]), ids, st.none() | ids)
def test_a_dialogue_and_a_turn(parent: str, dialogue: str, turn: str | None) -> None:
    name = f"{parent}phraseSets/dialogue-{dialogue}" + (f"-turn-{turn}" if turn else "")
    assert dialogue_and_turn("references", [name]) == {"dialogue_id": dialogue, "turn_id": turn or ""}


def test_a_turn_is_behind_the_last_separator() -> None:
    ids = dialogue_and_turn("references", ["phraseSets/dialogue-a-turn-b-turn-c"])
    assert ids == {"dialogue_id": "a-turn-b", "turn_id": "c"}


@pytest.mark.parametrize(
    "names",
    [
        ["phraseSets/other"], ["xphraseSets/dialogue-d"], ["phraseSets/dialogue-"], ["phraseSets/dialogue--turn-1"],
        ["phraseSets/dialogue-d-turn-"], [""], ["phraseSets/dialogue-d", "phraseSets/dialogue-e"],
    ],
)  # fmt: skip
def test_other_references_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="^references: "):
        dialogue_and_turn("references", names)


def test_long_references_take_no_time() -> None:
    began = time.process_time()
    dialogue_and_turn("references", ["a/" * 500_000 + "phraseSets/dialogue-" + "-turn-" * 300_000 + "x"])
    assert time.process_time() - began < 5
