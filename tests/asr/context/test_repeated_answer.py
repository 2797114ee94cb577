"""Requests to say it again: the earlier answer reweights the phrases."""

from __future__ import annotations

import math

import pytest

from asr.context import ContextEncoder
from asr.context.repeated_answer import repeated_answer, reweighted
from asr.context.types import Context, Entry, Phrase, Turn

NAMES = tuple(Phrase(name, "contacts", math.log(0.2)) for name in ("meg bauer", "tom power", "ann quill"))


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        ("Sorry, could you repeat your first and last name?", True),
        ("I didn't quite catch that. Who should I call?", True),
        ("Please say the name again.", True),
        ("Who do you want to call?", False),
        ("Calling Meg.", False),
    ],
)
def test_an_answer_that_is_asked_for_again(asked: str, again: bool) -> None:
    turns = (Turn("system", "Who?"), Turn("user", "Tom Tower"), Turn("system", asked))
    assert repeated_answer(turns) == ("tom tower" if again else "")


def test_only_the_last_answer_counts() -> None:
    assert repeated_answer((Turn("system", "Please repeat that."),)) == ""
    assert repeated_answer((Turn("user", "Tom"), Turn("system", "Again, once more?"), Turn("user", "Tom"))) == ""


def test_what_sounds_like_the_earlier_answer_is_likelier_meant() -> None:
    before = {p.text: p.weight for p in NAMES}
    after = {p.text: p.weight for p in reweighted("tom tower", NAMES)}
    assert after["tom power"] > before["tom power"] > after["meg bauer"]
    assert sum(map(math.exp, after.values())) < 1.0
    assert reweighted("", NAMES) == NAMES and reweighted("tom", ()) == ()


def test_an_earlier_answer_that_is_like_no_entry_means_none_of_them() -> None:
    after = reweighted("chrysanthemum festival", NAMES)
    assert all(b.weight < a.weight for a, b in zip(NAMES, after, strict=True))


def test_the_encoder_reads_it(encoder: ContextEncoder) -> None:
    entries = tuple(Entry("contacts", p.text) for p in NAMES)

    def weight(asked: str) -> float:
        turns = (Turn("system", "Who?"), Turn("user", "Tom Tower"), Turn("system", asked))
        phrases = {p.text: p.weight for p in encoder.encode(Context(turns, entries)).phrases}
        return phrases["tom power"] - phrases["meg bauer"]

    assert weight("Could you repeat that?") > weight("Could you tell me that?") + 1.0
