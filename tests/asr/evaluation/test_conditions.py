"""The contexts of the conditions: irrelevant, anti, parts of the own one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asr.context.types import Context, Entry, Turn
from asr.errors import ManifestError
from asr.evaluation.conditions import context_for, parse_conditions, signal_conditions
from asr.evaluation.manifest import Utterance
from asr.evaluation.recordings import AudioPlace
from asr.text import normalize


def utterance(
    name: str, text: str, target: str | None, *entries: str, turn: str = "", signal: str = "contacts"
) -> Utterance:
    turns = (Turn("user", "call someone"), Turn("system", turn)) if turn else ()
    context = Context(turns, tuple(Entry(signal, e) for e in entries))
    return Utterance(name, AudioPlace(Path("x.wav")), text, "set", context, name, target)


MEG = utterance(
    "meg", "bauer", "meg bauer", "Meg Jones", "Meg Bauer", "Max Power", turn="Do you mean Meg Jones or Meg Bauer?"
)
LIGHTS = utterance("lights", "patio dimmer", None, "patio dimmer", "porch light", turn="Which one?", signal="devices")
YES = utterance("yes", "yes", "", "Meg Bauer")
ALONE = utterance("alone", "stop", None)
ALL = [MEG, LIGHTS, YES, ALONE]


def test_none_leads_whatever_is_asked() -> None:
    assert parse_conditions("relevant, late") == ("none", "relevant", "late")
    assert parse_conditions("none,relevant,relevant") == ("none", "relevant")
    with pytest.raises(ManifestError, match="'relevent' is not known"):
        parse_conditions("relevent")


def test_no_context_in_none_and_late_and_the_own_one_in_relevant() -> None:
    assert context_for("none", ALL, 0, 0) is None and context_for("late", ALL, 0, 0) is None
    assert context_for("relevant", ALL, 0, 0) is MEG.context


@pytest.mark.parametrize("seed", range(20))
def test_irrelevant_is_another_dialogues_without_what_is_said(seed: int) -> None:
    context = context_for("irrelevant", ALL, 0, seed)
    assert context == LIGHTS.context  # that of `yes` holds Meg Bauer, that of `alone` nothing


def test_irrelevant_is_the_same_for_the_same_seed_and_varies_with_it() -> None:
    many = [utterance(str(i), "x", None, f"name {i}") for i in range(30)]
    picks = [[context_for("irrelevant", many, i, seed) for i in range(30)] for seed in (1, 1, 2)]
    assert picks[0] == picks[1] != picks[2]
    assert all(context != many[i].context for i, context in enumerate(picks[0]))


def test_anti_holds_everything_but_the_target() -> None:
    context = context_for("anti", ALL, 0, 0)
    assert context is not None
    assert [e.text for e in context.entries] == ["Meg Jones", "Max Power"]
    assert "bauer" not in normalize(" ".join(t.text for t in context.turns))
    assert context.turns[1].text == "Do you mean Meg Jones or Meg Jones?"


def test_anti_takes_the_entries_that_are_said_where_no_target_is_named() -> None:
    context = context_for("anti", ALL, 1, 0)
    assert context is not None and [e.text for e in context.entries] == ["porch light"]


def test_anti_takes_the_entry_of_which_a_part_is_said_where_no_target_is_named() -> None:
    bauer = replace(MEG, target=None)
    assert context_for("anti", [bauer], 0, 0) == context_for("anti", [MEG], 0, 0)
    lights = utterance("l", "the porch lights", None, "porch lights", "patio lights", "porch lamp")
    context = context_for("anti", [lights], 0, 0)
    assert context is not None and [e.text for e in context.entries] == ["patio lights", "porch lamp"]
    other = replace(YES, dialogue="other", target=None)
    assert context_for("irrelevant", [bauer, other], 0, 0) == Context()  # it holds Meg Bauer


def test_anti_leaves_the_context_of_an_answer_that_means_no_entity() -> None:
    assert context_for("anti", ALL, 2, 0) == YES.context


def test_signals_alone_and_left_out() -> None:
    assert signal_conditions(ALL) == (
        "only:contacts", "only:devices", "only:turns", "without:contacts", "without:devices", "without:turns",
    )  # fmt: skip
    assert context_for("only:contacts", ALL, 0, 0) == Context((), MEG.context.entries)
    assert context_for("only:turns", ALL, 0, 0) == Context(MEG.context.turns, ())
    assert context_for("without:turns", ALL, 0, 0) == Context((), MEG.context.entries)
    assert context_for("without:contacts", ALL, 0, 0) == Context(MEG.context.turns, ())
