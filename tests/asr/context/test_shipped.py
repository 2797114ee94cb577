"""The weights in the package: they load, belong together, and do what they are for on a list made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asr.context import Context, ContextEncoder, Entry, Rescorer, Turn
from asr.context.encoder import WEIGHTS
from asr.context.phonetics import distance, phones
from asr.hypothesis import Hypothesis


@pytest.fixture(scope="module")
def shipped() -> tuple[ContextEncoder, Rescorer]:
    return ContextEncoder.load(), Rescorer.load()


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
    others = Context((Turn("system", "Do you mean Meg Jones or Meg Power?"),), (Entry("contacts", "Meg Power"),))
    assert rescorer.rescore(heard, encoder.encode(others), force_score).nbest[0].text == "bower"
