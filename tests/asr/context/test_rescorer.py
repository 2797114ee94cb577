"""The rescorer with audio and without, and its candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.context import Context, ContextEncoder, Entry, Rescorer, Turn, phonetics
from asr.context.answer_tables import AnswerTables
from asr.context.candidates import candidates
from asr.context.foreign_nbest import ListScorer, rank_scores
from asr.context.phrase_index import PhraseIndex, parts_of
from asr.context.rescorer import ForceScore, biased_words
from asr.context.types import ContextEmbedding, Phrase
from asr.errors import ContextError
from asr.recognition.results import Hypothesis, Word

MEG = Context(
    (Turn("user", "call Meg"), Turn("system", "Do you mean Meg Jones or Meg Bauer?")),
    (Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer")),
)
HEARD = (Hypothesis("power", -6.0), Hypothesis("powder", -8.0), Hypothesis("our", -9.0))
SoundsLike = Callable[[str], ForceScore]
heard_lists = st.lists(
    st.builds(
        Hypothesis,
        st.lists(
            st.sampled_from(["power", "meg", "call", "jones", "the", "please", "bow", "are", "owl"]), max_size=5
        ).map(" ".join),
        st.floats(-50, -1),
    ),
    min_size=1,
    max_size=20,
).map(tuple)
contexts = st.builds(
    lambda turns, entries: Context(tuple(turns), tuple(entries)),
    st.lists(st.builds(Turn, st.sampled_from(["user", "system"]), st.text("meg or?BC ", max_size=20)), max_size=3),
    st.lists(st.builds(Entry, st.just("x"), st.sampled_from(["Meg Bauer", "Power", "Joan", "the Owl"])), max_size=4),
)


def test_power_becomes_bauer(encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike) -> None:
    rescored = rescorer.rescore(HEARD, encoder.encode(MEG), sounds_like("bauer"))
    assert rescored.nbest[0].text == "bauer"
    assert rescored.nbest[0].from_context
    assert rescored.changed
    (word,) = rescored.biased_words
    assert (word.word, word.phrase, word.signal) == ("bauer", "Meg Bauer", "contacts")
    assert word.nats == rescored.nbest[0].context > 0
    assert word.rank == 1  # to these ears; the search had not found it
    assert {h.text for h in rescored.nbest if not h.from_context} == {"power", "powder", "our"}


PLANES = Context((Turn("system", "Which plane?"),), (Entry("planes", "Boeing 747"), Entry("planes", "Airbus A320")))
DOCTORS = Context((Turn("system", "Which one?"),), (Entry("contacts", "Mr. Brown"), Entry("contacts", "Dr. Brown")))


@pytest.mark.parametrize(
    ("context", "said", "written"),
    [
        (PLANES, "boeing seven forty seven", "Boeing 747"),
        (PLANES, "boeing seven hundred and forty seven", "Boeing 747"),
        (PLANES, "airbus a three twenty", "Airbus A320"),
        (DOCTORS, "doctor brown", "Dr. Brown"),
        (DOCTORS, "dr brown", "Dr. Brown"),
        (DOCTORS, "mister brown", "Mr. Brown"),
    ],
)
def test_an_entry_that_is_said_in_another_form_stays_as_it_is_said(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike, context: Context, said: str, written: str
) -> None:
    heard = (Hypothesis(said, -6.0), Hypothesis(said[:-2], -9.0))
    embedding = encoder.encode(context)
    for force_score in (sounds_like(said), None):
        assert rescorer.rescore(heard, embedding, force_score).nbest[0].text == said
    found = biased_words(Hypothesis(f"call {said}", -1.0), "call", PhraseIndex(embedding.phrases), 1)
    assert [(w.word, w.phrase) for w in found] == [(word, written) for word in said.split()]
    assert ContextEmbedding.from_bytes(embedding.to_bytes()).phrases[0].name == embedding.phrases[0].name


def test_what_is_heard_nearly_becomes_the_form_that_was_said(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    heard = (Hypothesis("boing seven forty seven", -9.0), Hypothesis("bowing seven forty", -12.0))
    best = rescorer.rescore(heard, encoder.encode(PLANES), sounds_like("boeing seven forty seven")).nbest[0]
    assert best.text == "boeing seven forty seven"


def test_entries_of_one_form_are_indexed_as_their_texts_are() -> None:
    names = [("meg bauer", "Meg Bauer"), ("the kitchen light", "The kitchen light"), ("power", "Power")]
    index = PhraseIndex([Phrase(text, "x", -1.0, written) for text, written in names])
    plain = PhraseIndex([Phrase(text, "x", -1.0) for text, _ in names])
    assert index.parts == plain.parts and index.phones == plain.phones
    assert index.prefixes.total == plain.prefixes.total
    assert np.array_equal(phonetics.least_distances(index.forms, ["meg power"])[0], phonetics.distances(
        *phonetics.encode([phonetics.phones(text) for text, _ in names]),
        *phonetics.encode([phonetics.phones("meg power")])))  # fmt: skip


def test_words_of_a_list_with_capitals_and_stops_find_their_phrase(encoder: ContextEncoder) -> None:
    (word,) = biased_words(Hypothesis("Bauer.", -1.0), "Power!", PhraseIndex(encoder.encode(MEG).phrases), 2)
    assert (word.word, word.phrase, word.signal) == ("bauer", "Meg Bauer", "contacts")


@pytest.mark.parametrize(("ids", "found"), [(("17",), "17"), (("17", "4"), "")])
def test_a_biased_word_has_the_id_of_its_entry_where_only_one_is_so_named(
    encoder: ContextEncoder, ids: tuple[str, ...], found: str
) -> None:
    context = Context((), tuple(Entry("contacts", "Meg Bauer", one) for one in ids))
    (word,) = biased_words(Hypothesis("bauer", -1.0), "power", PhraseIndex(encoder.encode(context).phrases), 2)
    assert word.id == found


def test_a_biased_word_tells_where_its_reading_stood_without_context(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    heard = (Hypothesis("power", -1.0), Hypothesis("jones", -3.0))
    scores = {"power": -1.0, "jones": -3.0}

    def forced(texts: Sequence[str]) -> list[Hypothesis]:
        return [Hypothesis(t, scores.get(t, -50.0)) for t in texts]

    rescored = rescorer.rescore(heard, encoder.encode(MEG), forced)
    assert [(b.word, b.phrase, b.rank) for b in rescored.biased_words] == [("jones", "Meg Jones", 2)]
    first, second = rescored.nbest[0], next(h for h in rescored.nbest if h.text == "power")
    assert rescored.biased_words[0].nats >= second.acoustic - first.acoustic


def test_words_that_context_brings_are_as_sure_as_their_reading(encoder: ContextEncoder, rescorer: Rescorer) -> None:
    scores = {"call power": -6.0, "call bauer": -2.0, "call powder": -6.5}

    def forced(texts: Sequence[str]) -> list[Hypothesis]:
        def word(text: str) -> Word:
            return Word(text, 0.0, 0.1, 0.2)

        return [
            Hypothesis(t, scores.get(t, -50.0), words=tuple(map(word, t.split())), confidence=0.2 if t else 0.0)
            for t in texts
        ]

    rescored = rescorer.rescore(forced(["call power", "call powder"]), encoder.encode(MEG), forced)
    best, *others = rescored.nbest
    assert best.text == "call bauer" and best.from_context
    call, bauer = best.words
    assert call.confidence == 0.2 and 0.5 < bauer.confidence < 1
    assert best.confidence == pytest.approx((0.2 + bauer.confidence) / 2)
    powder = next(h for h in others if h.text == "call powder")
    assert powder.words[1].confidence < 1 - bauer.confidence + 1e-9  # they share what is certain
    assert next(h for h in others if h.text == "call power").confidence == 0.2


def test_the_plain_answer_stands_where_nothing_in_the_context_sounds_like_it(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    heard = (Hypothesis("turn on the kitchen light", -4.0), Hypothesis("turn on a kitchen light", -5.0))
    rescored = rescorer.rescore(heard, encoder.encode(MEG), sounds_like("turn on the kitchen light"))
    assert rescored.nbest == heard
    assert not rescored.changed


def test_no_context_hands_back_the_same_objects(encoder: ContextEncoder, rescorer: Rescorer) -> None:
    def never(_: object) -> list[Hypothesis]:
        raise AssertionError("nothing is to be scored")

    for rescored in (rescorer.rescore(HEARD, encoder.encode(Context()), never),):
        assert all(a is b for a, b in zip(rescored.nbest, HEARD, strict=True))
        assert not rescored.changed
        assert rescored.biased_words == ()


def test_readings_of_a_search_led_by_phrases_are_candidates(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    led = (Hypothesis("jones", -3.0, from_context=True), Hypothesis("power", -6.0, from_context=True))
    rescored = rescorer.rescore((*HEARD, *led), encoder.encode(MEG), sounds_like("jones"))
    assert rescored.nbest[0].text == "jones"
    assert rescored.nbest[0].from_context
    texts = [h.text for h in rescored.nbest]
    assert len(texts) == len(set(texts))
    weather = tuple(Hypothesis(h.text, h.acoustic) for h in HEARD)
    kept = rescorer.rescore((*weather, *led), encoder.encode(Context()), sounds_like("power"))
    assert all(a is b for a, b in zip(kept.nbest, weather, strict=True))


def test_what_the_search_added_for_phrases_counts_for_nothing(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    weather = Context((Turn("system", "It is raining."),))
    heard = (Hypothesis("jones", -8.0, bias=5.0), Hypothesis("power", -6.0))
    rescored = rescorer.rescore(heard, encoder.encode(weather), sounds_like("power"))
    assert [(h.text, h.bias) for h in rescored.nbest] == [("power", 0.0), ("jones", 0.0)]
    assert not rescored.changed


def test_the_language_models_score_counts(encoder: ContextEncoder, rescorer: Rescorer) -> None:
    def forced(texts: Sequence[str]) -> list[Hypothesis]:
        return [Hypothesis(t, -5.0, language=-30.0 if t == "bauer" else -2.0) for t in texts]

    heard = (Hypothesis("power", -5.0, language=-2.0), Hypothesis("powder", -8.0, language=-2.0))
    assert rescorer.rescore(heard, encoder.encode(MEG), forced).nbest[0].text != "bauer"


def test_between_two_phrases_equally_meant_the_sound_decides(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    offered = Context(
        (Turn("system", "Do you mean Anna Power or Anna Tower?"),),
        (Entry("contacts", "Anna Power"), Entry("contacts", "Anna Tower")),
    )
    embedding = encoder.encode(offered)
    even = replace(embedding, phrases=tuple(replace(p, weight=-0.7) for p in embedding.phrases))
    for said in ("power", "tower"):
        heard = (Hypothesis(said, -6.0), Hypothesis("our", -9.0))
        assert rescorer.rescore(heard, even, sounds_like(said)).nbest[0].text == said
    heard = (Hypothesis("power", -6.0), Hypothesis("our", -9.0))
    assert rescorer.rescore(heard, even, sounds_like("tower")).nbest[0].text == "tower"


def test_a_reading_without_a_phrase_gains_nothing(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike
) -> None:
    devices = Context((Turn("system", "OK."),), (Entry("devices", "desk fan"), Entry("devices", "kitchen lamp")))
    heard = (Hypothesis("call meg", -4.0), Hypothesis("call mage", -9.0), Hypothesis("call mag", -9.5))
    assert rescorer.rescore(heard, encoder.encode(devices), sounds_like("call mage")).nbest == heard


@pytest.mark.parametrize(("heard", "said"), [("i mean rig", "i mean rick"), ("rickshaw", "rick shaw")])
def test_people_are_called_by_their_nicknames(
    encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike, heard: str, said: str
) -> None:
    entries = Entry("contacts", "Derek Shaw"), Entry("contacts", "Ann Wood")
    embedding = encoder.encode(Context((Turn("system", "Which one?"),), entries))
    assert rescorer.rescore((Hypothesis(heard, -3.0),), embedding, sounds_like(said)).nbest[0].text == said


@pytest.mark.parametrize(
    ("entries", "question", "heard", "text", "changed"),
    [
        (("Meg Jones", "Meg Bauer"), "Do you mean Meg Jones or Meg Bauer?", "power", "bauer", True),
        (("Meg Jones", "Meg Bauer"), "Do you mean Meg Jones or Meg Bauer?", "the answer is power", "bauer", True),
        ((), "Meg Jones or Meg Bauer?", "power", "bauer", True),
        ((), "I found Meg Jones and Meg Bauer. Which one?", "power", "bauer", True),
        (("Dr. Brown", "Mr. Brown"), "Dr. Brown or Mr. Brown?", "doctor crown", "brown", True),
        (("Meg Jones", "Meg Bauer"), "Do you mean Meg Jones or Meg Bauer?", "cancel", "cancel", False),
        (("Meg Jones", "Meg Bauer"), "Do you mean Meg Jones or Meg Bauer?", "turn on the fan", "fan", False),
    ],
)
def test_what_is_offered_outweighs_what_is_likelier_to_be_said(
    encoder: ContextEncoder,
    rescorer: Rescorer,
    sounds_like: SoundsLike,
    entries: tuple[str, ...],
    question: str,
    heard: str,
    text: str,
    changed: bool,
) -> None:
    """Where it sounds like what was heard, and only there."""
    context = Context((Turn("system", question),), tuple(Entry("contacts", entry) for entry in entries))
    rescored = rescorer.rescore((Hypothesis(heard, -2.0),), encoder.encode(context), sounds_like(heard))
    assert rescored.changed == changed
    assert text in rescored.nbest[0].text


def test_silence_is_never_filled(encoder: ContextEncoder, rescorer: Rescorer, sounds_like: SoundsLike) -> None:
    silence = (Hypothesis("", -0.5),)
    assert rescorer.rescore(silence, encoder.encode(MEG), sounds_like("bauer")).nbest == silence


def test_another_models_embedding_is_refused(encoder: ContextEncoder, rescorer: Rescorer) -> None:
    with pytest.raises(ContextError, match="encode the context again"):
        rescorer.rescore(HEARD, replace(encoder.encode(MEG), model_version="older"), None)


@settings(max_examples=60, deadline=None)
@given(heard=heard_lists, context=contexts, audio=st.booleans())
def test_a_result_is_one_of_the_nbest_or_a_marked_candidate(
    encoder: ContextEncoder, rescorer: Rescorer, heard: tuple[Hypothesis, ...], context: Context, audio: bool
) -> None:
    def force_score(texts: Sequence[str]) -> list[Hypothesis]:
        return [Hypothesis(t, -5.0 - len(t)) for t in texts]

    embedding = encoder.encode(context)
    rescored = rescorer.rescore(heard, embedding, force_score if audio else None)
    again = rescorer.rescore(heard, embedding, force_score if audio else None)
    assert rescored == again
    kept = [h.text for h in rescored.nbest if not h.from_context]
    assert sorted(kept) == sorted(h.text for h in heard)
    assert all(h.text not in kept for h in rescored.nbest if h.from_context)
    assert rescored.changed == (rescored.nbest[0].text != heard[0].text)
    if not rescored.changed:
        assert all(a is b for a, b in zip(rescored.nbest, heard, strict=True))


def test_the_margin_keeps_the_plain_answer_of_another_recogniser(encoder: ContextEncoder, rescorer: Rescorer) -> None:
    embedding, heard = encoder.encode(MEG), (Hypothesis("call mag power", 0.0), Hypothesis("call power", 0.0))
    assert rescorer.rescore(heard, embedding, None).changed
    patient = replace(rescorer.text_lists, constants=replace(rescorer.constants, margin=50.0))
    strict = Rescorer(patient, "tiny-1")
    assert not strict.rescore(heard, embedding, None).changed


def test_a_closed_gate_keeps_the_plain_answer_of_another_recogniser(
    encoder: ContextEncoder, rescorer: Rescorer, likes: Callable[..., ListScorer]
) -> None:
    closed = likes(last=4.0)
    cast(torch.nn.Linear, closed.gate[2]).bias.data.fill_(-40.0)
    shut = Rescorer(replace(rescorer.text_lists, network=closed), "tiny-1")
    assert not shut.rescore(HEARD, encoder.encode(MEG), None).changed


@pytest.mark.parametrize("scores", [(0.0, 0.0, 0.0), (-1.0, -2.0, -3.0), (900.0, 500.0, 100.0), (math.nan,) * 3])
def test_lists_of_other_recognisers_need_no_scores(
    encoder: ContextEncoder, rescorer: Rescorer, scores: tuple[float, ...]
) -> None:
    heard = tuple(Hypothesis(t, s) for t, s in zip(("call mag power", "call power", "call"), scores, strict=True))
    rescored = rescorer.rescore(heard, encoder.encode(MEG), None)
    assert "meg bauer" in rescored.nbest[0].text
    assert rescored.nbest[0].from_context
    far = rescorer.rescore((Hypothesis("what is the weather in paris", scores[0]),), encoder.encode(MEG), None)
    assert not far.changed


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10), st.floats(0.01, 100), st.floats(-1000, 1000))
def test_the_scale_of_scores_does_not_matter(scores: list[float], scale: float, shift: float) -> None:
    ordered = sorted((round(s, 2) for s in scores), reverse=True)
    values = rank_scores(ordered)
    assert values == sorted(values, reverse=True)
    assert values[0] == 0.0
    assert rank_scores([s * scale + shift for s in ordered]) == pytest.approx(values, abs=1e-3)


def test_candidates_sound_like_what_was_heard(tables: AnswerTables, encoder: ContextEncoder) -> None:
    embedding = encoder.encode(MEG)
    found = candidates(["i mean power", "i mean our"], PhraseIndex(embedding.phrases), embedding.question, tables, 24)
    assert "i mean bauer" in found
    assert len(found) <= 24
    assert not {"i mean power", "i mean our"} & set(found)
    assert "the second one" in candidates(
        ["the sekund one"], PhraseIndex(embedding.phrases), embedding.question, tables, 24
    )
    assert candidates([""], PhraseIndex(embedding.phrases), embedding.question, tables, 24) == []


@pytest.mark.parametrize("heard", [["the"], ["the of"], ["call mag power", "the"], ["", "call"]])
def test_phrases_by_which_nothing_is_named_bring_nothing(
    tables: AnswerTables, encoder: ContextEncoder, heard: list[str]
) -> None:
    embedding = encoder.encode(Context(entries=(Entry("titles", "The"), Entry("titles", "of"))))
    assert embedding.phrases
    assert candidates(heard, PhraseIndex(embedding.phrases), embedding.question, tables, 24) == []


def test_parts_of_a_phrase() -> None:
    assert ("bauer", "last") in parts_of("meg bauer")
    assert ("kitchen light", "full") in parts_of("the kitchen light")
    assert parts_of("the") == []
    assert parts_of("") == []


def test_the_index_finds_the_longest_and_then_the_likeliest_part() -> None:
    index = PhraseIndex([Phrase("meg bauer", "a", -3.0), Phrase("meg jones", "b", -1.0), Phrase("bauer", "c", -0.5)])
    part, start, end = index.find(["call", "meg", "bauer", "now"]) or pytest.fail("nothing found")
    assert (part.text, start, end) == ("meg bauer", 1, 3)
    part, _, _ = index.find(["meg"]) or pytest.fail("nothing found")
    assert index.phrases[part.phrase].text == "meg jones"
    assert index.find(["power"]) is None
