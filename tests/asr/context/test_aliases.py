"""Other names of an entry, and entries that are named more often: an alias heard names its entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from asr.context import ContextEncoder, Rescorer
from asr.context.entity_linking import meant
from asr.context.inputs import entries_of
from asr.context.phrase_index import PhraseIndex
from asr.context.phrases import graph_phrases
from asr.context.rescorer import biased_words
from asr.context.spelling import phrase_spelling
from asr.context.types import Context, ContextEmbedding, Entry, Meant, Turn
from asr.recognition.results import Hypothesis

MUM = Entry("contacts", "Margaret Smith", "17", ("Mum", "Big Maggie"))
OTHERS = (Entry("contacts", "Meg Bauer", "4"), Entry("contacts", "Tom Price"))


def context(*entries: Entry) -> Context:
    return Context((Turn("user", "call"), Turn("system", "who do you mean")), entries)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("mum", {"17"}),
        ("call mum please", {"17"}),
        ("big maggie", {"17"}),
        ("margaret smith", {"17"}),
        ("smith", {"17"}),
        ("big", set()),  # an alias is said as a whole
        ("bauer", {"4"}),
    ],
)
def test_an_alias_names_its_entry(encoder: ContextEncoder, text: str, ids: set[str]) -> None:
    embedding = encoder.encode(context(MUM, *OTHERS))
    for one in (embedding, ContextEmbedding.from_bytes(embedding.to_bytes())):
        found = meant(text, one)
        assert {m.id for m in found} == ids
        assert all(m.entry != "Mum" for m in found)


def test_entries_of_one_name_are_told_apart_by_their_aliases(encoder: ContextEncoder) -> None:
    one, other = Entry("contacts", "Meg Bauer", "1", ("Mum",)), Entry("contacts", "Meg Bauer", "2", ("Auntie",))
    embedding = encoder.encode(context(one, other))
    assert meant("mum", embedding) == (Meant("Meg Bauer", "contacts", "1"),)
    assert {m.id for m in meant("meg bauer", embedding)} == {"1", "2"}
    index = PhraseIndex(embedding.phrases)
    (word,) = biased_words(Hypothesis("auntie", -1.0), "anti", index, 2)
    assert (word.phrase, word.id) == ("Meg Bauer", "2")
    assert {word.id for word in biased_words(Hypothesis("meg bauer", -1.0), "mega power", index, 2)} == {""}


def test_an_alias_wins_where_it_sounds_like_what_was_said(
    encoder: ContextEncoder,
    rescorer: Rescorer,
    sounds_like: Callable[[str], Callable[[Sequence[str]], list[Hypothesis]]],
) -> None:
    heard = (Hypothesis("mad", -3.0), Hypothesis("mat", -4.0))
    embedding = encoder.encode(context(Entry("contacts", "Elizabeth Winterbottom", "9", ("Mad Max",)), *OTHERS))
    rescored = rescorer.rescore((Hypothesis("mad mags", -5.0), *heard), embedding, sounds_like("mad max"))
    assert rescored.nbest[0].text == "mad max"
    assert {(b.phrase, b.id) for b in rescored.biased_words} == {("Elizabeth Winterbottom", "9")}


def test_aliases_are_among_the_phrases_of_the_search_and_keep_their_spelling(encoder: ContextEncoder) -> None:
    index = PhraseIndex(encoder.encode(context(MUM, *OTHERS)).phrases)
    assert {"mum", "big maggie", "margaret smith"} <= {phrase.text for phrase in graph_phrases(index)}
    spelling = phrase_spelling(index=index)
    assert [spelling(form) for form in ("mum", "big maggie", "margaret smith")] == [
        "Mum",
        "Big Maggie",
        "Margaret Smith",
    ]
    brought = biased_words(Hypothesis("mum", -1.0), "mom", index, 2)
    assert phrase_spelling(index=index, biased=brought)("mum") == "Mum"


def test_what_is_no_alias_is_left_out_and_turns_do_not_repeat_one() -> None:
    entry = Entry("contacts", "Margaret Smith", aliases=("  ", "Ж", " Big   Maggie ", *["a"] * 20))
    said = Context((Turn("system", "do you mean Big Maggie or Tom Price?"),), (entry,))
    phrases = entries_of(said)
    assert phrases[0].aliases[:1] == ("Big Maggie",) and len(phrases[0].aliases) <= 16
    assert "big maggie" not in [phrase.text for phrase in phrases[1:]]


def test_a_weight_is_what_an_entry_is_worth_of_the_others(encoder: ContextEncoder) -> None:
    entries = [Entry("contacts", name) for name in ("Meg Bauer", "Tom Price", "Ann Brown")]
    even = np.array([phrase.weight for phrase in encoder.encode(context(*entries)).phrases])
    loved = Entry("contacts", "Meg Bauer", weight=5.0)
    weighed = np.array([phrase.weight for phrase in encoder.encode(context(loved, *entries[1:])).phrases])
    assert (weighed[0] - weighed[1]) - (even[0] - even[1]) == pytest.approx(math.log(5.0), abs=1e-4)
    assert np.exp(weighed).sum() == pytest.approx(np.exp(even).sum(), rel=1e-4)
    alike = encoder.encode(context(*(Entry("contacts", entry.text, weight=1.0) for entry in entries)))
    assert [phrase.weight for phrase in alike.phrases] == even.tolist()
