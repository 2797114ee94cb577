"""Whole names of contacts in lists without audio: judged by how they sound, not by what else is listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from asr.context import Context, ContextEncoder, Entry, Rescorer, Turn
from asr.context.answer_tables import AnswerTables
from asr.context.checkpoint import ContextModels
from asr.context.contact_classifier import FEATURES, evidence, named_contact
from asr.context.features import ListDistances, list_distances
from asr.context.phrase_index import PhraseIndex
from asr.recognition.results import Hypothesis

TABLES = AnswerTables(given=frozenset({"shane", "katie", "julia"}), surnames=frozenset({"hughes", "gill", "davies"}))
NAME_ASKED = (Turn("system", "What is your full name?"),)
SHAME = ("shame shoes", "shame used", "shame hughes")


@pytest.fixture(scope="module")
def shipped() -> tuple[ContextEncoder, Rescorer]:
    models = ContextModels.load()
    return models.encoder, models.rescorer


def known(names: Sequence[str], texts: Sequence[str]) -> tuple[str, dict[str, float]]:
    found = evidence(names, list_distances([(n,) for n in names], texts), texts, TABLES)
    return names[found.place], dict(zip(FEATURES, found.values, strict=True))


def test_evidence_is_of_the_nearest_name() -> None:
    name, values = known(["tom quill", "shane hughes", "wayne hughes"], SHAME)
    assert name == "shane hughes"
    assert 0 < values["excess"] < 1 and 0 < values["lead"] < 1.5
    assert values["listed"] == 0 and known(["shame hughes"], SHAME)[1]["listed"] == 1
    assert (values["given_name"], values["surname"], values["one_word"]) == (0, 0, 0)
    assert known([name], ["katie gill"])[1]["given_name"] == known([name], ["katie gill"])[1]["surname"] == 1
    assert known([name], ["shane"])[1]["one_word"] == 1


def test_what_is_far_off_changes_nothing_of_the_evidence() -> None:
    far = ["patrick walsh", "wendy jackson", "tom quill"]
    alone, among = (known(["shane hughes", *others], SHAME)[1] for others in ([], far))
    assert alone == among


def test_a_context_without_contacts_names_none(encoder: ContextEncoder) -> None:
    embedding = encoder.encode(Context(entries=(Entry("places", "Shane Hughes"),)))
    heard = ListDistances.of(SHAME, PhraseIndex(embedding.phrases))
    assert named_contact(SHAME, heard, PhraseIndex(embedding.phrases), TABLES, [0.0] * 8) is None


def answer(
    tools: tuple[ContextEncoder, Rescorer], texts: Sequence[str], contacts: Sequence[str], turns: tuple[Turn, ...]
) -> str:
    encoder, rescorer = tools
    embedding = encoder.encode(Context(turns, tuple(Entry("contacts", n) for n in contacts)))
    return rescorer.rescore(tuple(Hypothesis(t, 0.0) for t in texts), embedding, None).nbest[0].text


OTHERS = ("Patrick Walsh", "Wendy Jackson", "Andrew Lee", "Kathleen Hall", "Julie Barnes", "Derek Berry")


@pytest.mark.parametrize(
    ("turns", "contacts"),
    [
        (NAME_ASKED, OTHERS[:1]),
        (NAME_ASKED, OTHERS),
        ((), OTHERS),
        ((Turn("system", "Who would you like to call?"),), OTHERS),
    ],
)
def test_a_name_that_is_not_among_the_contacts_stays(
    shipped: tuple[ContextEncoder, Rescorer], turns: tuple[Turn, ...], contacts: Sequence[str]
) -> None:
    for name in ("Katie Gill", "Andrea Jones", "Julia Davies"):
        assert answer(shipped, (name, name.replace("i", "e")), contacts, turns) == name


@pytest.mark.parametrize("more", [0, 1, 6])
def test_a_name_that_is_misheard_is_found_among_the_contacts(
    shipped: tuple[ContextEncoder, Rescorer], more: int
) -> None:
    contacts = ("Shane Hughes", *OTHERS[:more])
    assert answer(shipped, SHAME, contacts, NAME_ASKED) == "shane hughes"
    assert answer(shipped, SHAME, [write(n) for n in contacts for write in (str.upper, str.title)], NAME_ASKED) == (
        "shane hughes"
    )


def test_a_name_that_is_heard_stays_beside_one_that_sounds_like_it(
    shipped: tuple[ContextEncoder, Rescorer],
) -> None:
    assert answer(shipped, ("Martin Burgess", "Martin Burges"), ("Martin Lewis",), NAME_ASKED) == "Martin Burgess"
    assert answer(shipped, ("Stephen Moss", "Steven Moss"), ("Steven Moss", "Stephen Moss"), NAME_ASKED) == (
        "Stephen Moss"
    )


def test_without_weights_contacts_are_weighed_as_all_else_is(encoder: ContextEncoder, rescorer: Rescorer) -> None:
    embedding = encoder.encode(Context(NAME_ASKED, (Entry("contacts", "Shane Hughes"),)))
    heard = tuple(Hypothesis(t, 0.0) for t in SHAME)
    never, always = (0.0,) * len(FEATURES) + (-9.0,), (0.0,) * len(FEATURES) + (9.0,)
    for weights, found in (((), True), (never, False), (always, True)):
        constants = replace(rescorer.constants, contacts=weights)
        own = Rescorer(replace(rescorer.text_lists, constants=constants), "tiny-1")
        assert (own.rescore(heard, embedding, None).nbest[0].text == "shane hughes") == found


def test_distances_of_a_list_are_below_each_ones() -> None:
    together = list_distances([("shane hughes",), ("tom quill",)], SHAME)
    each = [list_distances([("shane hughes",), ("tom quill",)], [text]) for text in SHAME]
    assert together.shape == (2,)
    assert np.all(together <= each[0])
