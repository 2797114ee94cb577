"""The evidence for hypotheses that name an entry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context import Context, ContextEncoder, Entry, Turn
from asr.context.answer_tables import AnswerTables
from asr.context.evidence import EVIDENCE, apart, evidence, within
from asr.context.features import match
from asr.context.phrase_index import PhraseIndex
from asr.recognition.results import Hypothesis

MEG = Context(
    (Turn("system", "Do you mean Meg Jones or Meg Bauer?"),),
    (Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer")),
)
HEARD = ("bower", "bower please", "meg bower", "bauer", "i mean bauer", "the bauer thing", "jones", "nothing")


def of(encoder: ContextEncoder, tables: AnswerTables, *texts: str, heard: int) -> dict[str, dict[str, float]]:
    embedding = encoder.encode(MEG)
    hypotheses = [Hypothesis(t, -2.0 - i, language=-1.0, attention=-3.0 * i) for i, t in enumerate(texts)]
    index = PhraseIndex(embedding.phrases)
    found = evidence(hypotheses, heard, [match(t, index) for t in texts], index, embedding.question, tables)
    return {texts[i]: dict(zip(EVIDENCE, row, strict=True)) for i, row in found.items()}


def test_names_count_where_people_say_them(encoder: ContextEncoder, tables: AnswerTables) -> None:
    found = of(encoder, tables, "the bower thing", "bauer", "i mean bauer", "the bauer thing", "a bauer b", heard=1)
    assert set(found) == {"bauer", "i mean bauer", "the bauer thing"}  # the last one has words that were not heard
    assert (found["bauer"]["strange"], found["the bauer thing"]["strange"]) == (0.0, 1.0)
    assert found["the bauer thing"]["unlike"] == 0.0 < found["bauer"]["unlike"]
    found = of(encoder, tables, "meg something", "meg bauer something", heard=2)
    assert set(found) == {"meg bauer something"}  # half of a name and what may be the other half, misheard


def test_the_numbers_are_over_the_plain_1best(encoder: ContextEncoder, tables: AnswerTables) -> None:
    found = of(encoder, tables, "bower", "bauer", "jones", heard=1)
    assert found["bauer"]["acoustic"] == pytest.approx(-0.1) and found["jones"]["attention"] == pytest.approx(-0.6)
    assert found["bauer"]["unlike"] < found["jones"]["unlike"] and found["bauer"]["distance"] < 0.2
    assert {row["constant"] for row in found.values()} == {1.0}
    assert found["bauer"]["entries"] == math.log(2) / 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(HEARD), min_size=1, max_size=6, unique=True), st.data())
def test_every_number_is_one(
    encoder: ContextEncoder, tables: AnswerTables, texts: list[str], data: st.DataObject
) -> None:
    heard = data.draw(st.integers(1, len(texts)))
    for row in of(encoder, tables, *texts, heard=heard).values():
        assert all(math.isfinite(value) and abs(value) <= 20 for value in row.values())


def test_what_stands_within_other_words() -> None:
    assert within("call meg bauer please", ("call", "please")) == "meg bauer"
    assert within("call please", ("call", "please")) == "" == within("dial meg", ("call", ""))
    assert within("meg", ("", "")) == "meg"


def test_sounds_are_compared_where_the_name_stands(encoder: ContextEncoder) -> None:
    embedding = encoder.encode(MEG)
    texts = ["i mean bower", "i mean bauer", "jones"]
    named = {i: found for i, text in enumerate(texts) if (found := match(text, PhraseIndex(embedding.phrases)))}
    distances = apart(texts, 1, named)
    assert distances[1] < (0.5, 0.2) and distances[2][1] > 0.5
    assert apart(texts, 0, named) == {1: (10.0, 1.0), 2: (10.0, 1.0)}
