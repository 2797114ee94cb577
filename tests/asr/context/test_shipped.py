"""The weights in the package: they load, belong together, and do what they are for on a list made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asr.context import Context, ContextEncoder, Entry, Rescorer, Turn
from asr.context.checkpoint import WEIGHTS, ContextModels
from asr.context.phonetics import distance, phones
from asr.recognition.results import Hypothesis


@pytest.fixture(scope="module")
def shipped() -> tuple[ContextEncoder, Rescorer]:
    models = ContextModels.load()
    return models.encoder, models.rescorer


def test_encoder_and_rescorer_are_of_one_version(shipped: tuple[ContextEncoder, Rescorer]) -> None:
    encoder, rescorer = shipped
    assert encoder.model_version == rescorer.model_version
    assert sum(f.stat().st_size for f in WEIGHTS.iterdir()) < 6_000_000
    assert encoder.model_version in (WEIGHTS / "CARD.md").read_text()


def test_the_tokens_are_those_of_the_acoustic_model() -> None:
    assert (WEIGHTS / "tokens.model").read_bytes() == (WEIGHTS.parent / "acoustic" / "tokens.model").read_bytes()


@pytest.mark.parametrize("name", ["Bauer", "Rivera", "Okafor"])
def test_an_offered_name_is_heard_and_an_absent_one_is_not(shipped: tuple[ContextEncoder, Rescorer], name: str) -> None:
    encoder, rescorer = shipped
    said = name.lower()

    def force_score(texts: Sequence[str]) -> list[Hypothesis]:  # a recogniser with sharp ears
        return [Hypothesis(t, -12.0 * distance(phones(t), phones(said)) - 3.0) for t in texts]

    heard = (Hypothesis(said[:-2], -5.0), Hypothesis(said[1:], -6.0))
    turns = (Turn("user", "call Meg"), Turn("system", f"Do you mean Meg Jones or Meg {name}?"))
    asked = Context(turns, (Entry("contacts", "Meg Jones"), Entry("contacts", f"Meg {name}")))
    assert rescorer.rescore(heard, encoder.encode(asked), force_score).nbest[0].text == said
    devices = Context((Turn("system", "Which device?"),), (Entry("devices", "kitchen lamp"), Entry("devices", "fan")))
    other = rescorer.rescore(heard, encoder.encode(devices), force_score)
    assert other.nbest[0].text in {h.text for h in heard}


@pytest.mark.parametrize(
    ("entries", "heard", "said"),
    [
        (("Dr. Brown", "Mr. Brown"), ("doctor brown", "doctor braun"), "doctor brown"),
        (("Mr. Brown", "Dr. Brown"), ("doctor bron", "doctor bow"), "doctor brown"),
        (("Dr. Brown", "Mr. Brown"), ("mister brown", "mister bound"), "mister brown"),
        (("Sgt. Pepper", "Prof. Pepper"), ("professor pepper", "professor paper"), "professor pepper"),
        (("Boeing 747", "Airbus A320"), ("boeing seven forty seven", "bowing seven forty"), "boeing seven forty seven"),
        (("Boeing 747", "Airbus A320"), ("bowing seven forty seven", "bow in seven"), "boeing seven forty seven"),
        (("MTV", "CNN"), ("m t v", "m t b"), "m t v"),
        (("MTV", "CNN"), ("m t b", "m d v"), "m t v"),
        (("Blink-182", "U2"), ("blink one eighty two", "blink won eighty two"), "blink one eighty two"),
    ],
)
def test_entries_are_meant_in_the_form_in_which_they_are_said(
    shipped: tuple[ContextEncoder, Rescorer], entries: tuple[str, str], heard: tuple[str, str], said: str
) -> None:
    encoder, rescorer = shipped

    def force_score(texts: Sequence[str]) -> list[Hypothesis]:
        return [Hypothesis(t, -12.0 * distance(phones(t), phones(said)) - 3.0) for t in texts]

    turns = (Turn("system", f"Do you mean {entries[0]} or {entries[1]}?"),)
    asked = encoder.encode(Context(turns, tuple(Entry("list", entry) for entry in entries)))
    hypotheses = tuple(Hypothesis(text, -3.0 - 2.0 * i) for i, text in enumerate(heard))
    for ears in (force_score, None):
        assert rescorer.rescore(hypotheses, asked, ears).nbest[0].text == said


def test_another_form_of_the_same_entry_is_no_change(shipped: tuple[ContextEncoder, Rescorer]) -> None:
    encoder, rescorer = shipped
    asked = encoder.encode(Context((), (Entry("contacts", "Dr. Brown"), Entry("contacts", "Mr. Brown"))))
    for ears in (lambda texts: [Hypothesis(t, -3.0 - 9.0 * (t != "doctor brown")) for t in texts], None):
        rescored = rescorer.rescore((Hypothesis("dr brown", -3.0), Hypothesis("the brown", -5.0)), asked, ears)
        assert rescored.nbest[0].text == "dr brown" and not rescored.changed


def test_a_name_that_is_heard_but_spelled_otherwise(shipped: tuple[ContextEncoder, Rescorer]) -> None:
    """The acoustic model is surer of a spelling that it knows: that counts for less where the name is known."""
    encoder, rescorer = shipped

    def force_score(texts: Sequence[str]) -> list[Hypothesis]:
        far = {t: distance(phones(t), phones("bower")) for t in texts}
        return [Hypothesis(t, -1.0 - 12.0 * far[t] - 10.0 * (t != "bower")) for t in texts]

    heard = (Hypothesis("bower", -1.0), Hypothesis("bowers", -9.0))
    turns = (Turn("user", "call Meg"), Turn("system", "Do you mean Meg Jones or Meg Bauer?"))
    asked = Context(turns, (Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer")))
    rescored = rescorer.rescore(heard, encoder.encode(asked), force_score)
    assert rescored.nbest[0].text == "bauer" and rescored.nbest[0].acoustic == -11.0
    others = Context((Turn("system", "Do you mean Meg Jones or Meg Stone?"),), (Entry("contacts", "Meg Stone"),))
    assert rescorer.rescore(heard, encoder.encode(others), force_score).nbest[0].text == "bower"
