"""An evaluation run, its figures, table, JSON and page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from asr.audio import Samples
from asr.context import ContextEncoder
from asr.context.types import Context, ContextEmbedding
from asr.evaluation.conditions import CONDITIONS
from asr.evaluation.html_report import changes, page
from asr.evaluation.manifest import read_manifest
from asr.evaluation.report import change_text, table, to_json
from asr.evaluation.run import Outcome, Unusable, evaluate, recognise
from asr.evaluation.statistics import Interval
from asr.evaluation.summary import summarize
from asr.recognition.recognizer import Recognizer
from tests.support.small_evaluation import ContextModels


@pytest.fixture
def outcomes(manifest: Path, tiny_recognizer: Recognizer, context_parts: ContextModels) -> list[Outcome]:
    utterances, _ = read_manifest(manifest)
    run = evaluate(utterances, CONDITIONS, tiny_recognizer, context_parts, nbest=6)
    return [outcome for outcome in run if isinstance(outcome, Outcome)]


def test_listening_gives_what_the_recogniser_gives(tiny_recognizer: Recognizer, speech: Samples) -> None:
    recognised, whole = recognise(tiny_recognizer, speech, 16_000, 6), tiny_recognizer.recognize(speech, nbest=6)
    assert [h.text for h in recognised.nbest] == [h.text for h in whole.nbest]
    assert recognised.nbest[0].score == whole.nbest[0].score


def test_none_and_late_are_the_plain_result(
    outcomes: list[Outcome], manifest: Path, tiny_recognizer: Recognizer, speech: Samples
) -> None:
    for outcome in outcomes:
        assert outcome.results["none"].nbest == outcome.results["late"].nbest
        assert (outcome.results["none"].status, outcome.results["late"].status) == ("NOT_REQUESTED", "NOT_READY")
    first = tiny_recognizer.recognize(np.ascontiguousarray(speech[2_000:22_000]), nbest=6)
    assert outcomes[0].results["none"].nbest == tuple(h.text for h in first.nbest)


def test_the_own_context_brings_what_was_said(outcomes: list[Outcome]) -> None:
    for outcome in outcomes[:3]:
        assert outcome.results["none"].nbest[0] != outcome.utterance.text
        assert outcome.results["relevant"].nbest[0] == outcome.utterance.text
        assert outcome.results["anti"].nbest[0] != outcome.utterance.text
    assert outcomes[3].results["relevant"].status == "NOT_FOUND"


def test_a_context_that_fails_costs_no_result(
    manifest: Path, tiny_recognizer: Recognizer, context_parts: ContextModels
) -> None:
    class Broken(ContextEncoder):
        def __init__(self) -> None: ...

        def encode(self, context: Context) -> ContextEmbedding:
            raise RuntimeError("out of paper")

    run = evaluate(read_manifest(manifest)[0], CONDITIONS, tiny_recognizer, replace(context_parts, encoder=Broken()))
    for outcome in run:
        assert isinstance(outcome, Outcome)
        assert outcome.results["relevant"].nbest == outcome.results["none"].nbest
        relevant = outcome.results["relevant"]
        assert (relevant.status, relevant.problem) in (("FAILED", "RuntimeError: out of paper"), ("NOT_FOUND", ""))


def test_a_recording_that_cannot_be_read_is_named(
    manifest: Path, tiny_recognizer: Recognizer, context_parts: ContextModels
) -> None:
    (manifest.parent / "1.wav").write_bytes(b"RIFF")
    (manifest.parent / "2.wav").unlink()
    run = list(evaluate(read_manifest(manifest)[0], ("none",), tiny_recognizer, context_parts))
    assert [isinstance(outcome, Unusable) for outcome in run] == [False, True, True, False]


def test_without_context_no_model_is_needed(manifest: Path, tiny_recognizer: Recognizer) -> None:
    utterances, _ = read_manifest(manifest)
    run = list(evaluate(utterances, ("none", "late"), tiny_recognizer, None))
    assert [o.results["late"].status for o in run if isinstance(o, Outcome)] == ["NOT_READY"] * 4
    with pytest.raises(ValueError, match="need the context models"):
        list(evaluate(utterances, ("none", "anti"), tiny_recognizer, None))


def test_the_figures(outcomes: list[Outcome]) -> None:
    summary = summarize(outcomes, CONDITIONS, draws=200)
    assert list(summary.figures) == ["all", "a", "b"] and list(summary.figures["all"]) == list(CONDITIONS)
    assert summary.utterances == {"all": 4, "a": 2, "b": 2}
    relevant, none = (summary.figures["all"][c] for c in ("relevant", "none"))
    assert none.counts["errors"] > relevant.counts["errors"] > 0  # u3 has no context
    assert relevant.change.value == relevant.counts["errors"] / none.counts["errors"] - 1
    assert relevant.entity_recall.value == 0.75 and none.entity_recall.value == 0
    assert none.entity_recall_nbest.value == 1  # the truth is the second reading
    assert none.oracle_wer.value == 0 and relevant.changed.value == 0.75
    assert summary.figures["a"]["relevant"].counts["errors"] == 0
    assert summary.figures["all"]["late"].change.high == 0
    sums = [{name: figures.counts[name] for name in ("words", "errors")} for figures in summary.figures["b"].values()]
    assert all(row["words"] == sums[0]["words"] for row in sums)


def test_the_figures_of_each_make(outcomes: list[Outcome]) -> None:
    assert summarize(outcomes, CONDITIONS, draws=50).makes == {}  # none is named
    makes = ("espeak", "flite", "espeak", "")
    of_makes = [replace(o, utterance=replace(o.utterance, make=m)) for o, m in zip(outcomes, makes, strict=True)]
    summary = summarize(of_makes, CONDITIONS, draws=50)
    assert {name: make.utterances for name, make in summary.makes.items()} == {"espeak": 2, "flite": 1}
    assert all(list(make.figures) == list(CONDITIONS) for make in summary.makes.values())
    set_a = summary.figures["a"]["relevant"]  # the same two utterances
    assert summary.makes["espeak"].figures["relevant"].counts == set_a.counts
    value = to_json(summary, of_makes, {})
    assert value["summary"]["makes"]["flite"]["figures"]["relevant"]["wer"]["value"] == 0
    assert [u["make"] for u in value["utterances"]] == list(makes)
    assert "make espeak (2)" in page(summary, of_makes, CONDITIONS, {})
    console = Console(width=200, record=True, file=StringIO())
    console.print(table(summary))
    assert "make flite (1)" in console.export_text()


def test_exactly_right_and_named(outcomes: list[Outcome]) -> None:
    relevant, none = (summarize(outcomes, CONDITIONS, draws=50).figures["all"][c] for c in ("relevant", "none"))
    assert (relevant.exact.value, none.exact.value) == (0.75, 0)
    assert (relevant.named.value, none.named.value) == (0.75, 0)  # u3 names what its context does not have
    nobody = [replace(o, utterance=replace(o.utterance, target="")) for o in outcomes[:3]]
    invents = [replace(o, utterance=replace(o.utterance, text="", written="")) for o in nobody]
    for heard, named in ((nobody, 1.0), (invents, 0.0)):
        assert summarize(heard, CONDITIONS, draws=50).figures["all"]["relevant"].named.value == named
    unsaid = [replace(o, utterance=replace(o.utterance, target=None)) for o in outcomes]
    assert summarize(unsaid, CONDITIONS, draws=50).figures["all"]["relevant"].counts["to_name"] == 0


def test_the_json_of_the_contract(outcomes: list[Outcome]) -> None:
    whole = to_json(summarize(outcomes, CONDITIONS, draws=50), outcomes, {"seed": 0})
    value = json.loads(json.dumps(whole, allow_nan=False))
    assert {"summary", "utterances"} <= set(value)
    first, last = value["utterances"][0], value["utterances"][3]
    assert {"id", "set", "reference", "hyp", "nbest", "context_status"} <= set(first)
    assert set(first["hyp"]) == set(first["nbest"]) == set(CONDITIONS)
    assert all(first["nbest"][c][0] == first["hyp"][c] for c in CONDITIONS)
    assert (first["context_status"], last["context_status"]) == ("APPLIED", "NOT_FOUND")
    assert {u["id"] for u in value["utterances"] if "relevant" in u["biased_words"]} == {
        c.outcome.utterance.id for c in changes(outcomes, CONDITIONS) if c.condition == "relevant"
    }
    assert all(set(m) == {"entry", "signal", "id"} for u in value["utterances"] for c in u["meant"].values() for m in c)
    assert "relevant" in first["meant"] and "none" not in first["meant"]
    brought = first["biased_words"]["relevant"]
    assert all(b["signal"] == "contacts" and b["nats"] > 0 and b["rank"] >= 1 for b in brought) and brought


def test_the_same_seed_gives_the_same_run(
    outcomes: list[Outcome], manifest: Path, tiny_recognizer: Recognizer, context_parts: ContextModels
) -> None:
    again = evaluate(read_manifest(manifest)[0], CONDITIONS, tiny_recognizer, context_parts, nbest=6)
    for first, second in zip(outcomes, again, strict=True):
        assert isinstance(second, Outcome)
        assert all(first.results[c].nbest == second.results[c].nbest for c in CONDITIONS)


class Elements(HTMLParser):
    """Counts the elements of a page and checks that they are closed in order."""

    VOID = ("meta", "input", "rect", "line", "path", "circle", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_holds_what_changed(outcomes: list[Outcome]) -> None:
    text = page(summarize(outcomes, CONDITIONS, draws=50), outcomes, CONDITIONS, {"manifest": "m.jsonl"})
    elements = Elements()
    elements.feed(text)
    assert elements.open == []
    names = [name for name, _ in elements.seen]
    found = changes(outcomes, CONDITIONS)
    assert names.count("article") == len({c.outcome.utterance.id for c in found}) >= 3
    readings = [a["data-conditions"] or "" for _, a in elements.seen if "data-conditions" in a]
    assert sorted(" ".join(readings).split()) == sorted(c.condition for c in found)
    assert names.count("svg") == 1  # the sets have too few errors for a plot of their changes
    sounds = [a["src"] or "" for name, a in elements.seen if name == "audio"]
    assert len(sounds) == len({c.outcome.utterance.id for c in found})
    assert all(src.startswith("data:audio/wav;base64,UklGR") for src in sounds)
    assert not re.search(r"""(?:src|href)=["'](?!data:)|@import|url\(""", text)
    assert "Who &lt;b&gt;is&lt;/b&gt; it?" in text and "Who <b>" not in text
    assert "<!--" not in text
    assert text.count("<dt>because</dt>") == len(readings)


def test_the_page_is_led_by_its_summary(outcomes: list[Outcome]) -> None:
    """With --signals there are two conditions more for each signal: no card and no bar of their own."""
    heard = {"only:contacts": "relevant", "without:contacts": "none", "only:turns": "none", "without:turns": "relevant"}
    more = [replace(o, results=o.results | {c: o.results[like] for c, like in heard.items()}) for o in outcomes]
    conditions = (*CONDITIONS, *heard)
    text = page(summarize(more, conditions, draws=50), more, conditions, {"manifest": "m.jsonl"})
    assert text.count('<div class="card') == len(CONDITIONS)
    parts = ('<section class="cards">', "What each signal is worth", "<figure>", "<article")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "relevant, only:contacts, without:turns" in text
    for name in ("substitutions", "deletions", "insertions", "interval"):
        assert f'<span class="key {name}">' in text


def test_changes_of_few_errors_are_told_as_numbers() -> None:
    assert change_text(Interval(24.0, 4.75, 36.0), 1, 25) == "1 → 25 errors"
    assert change_text(Interval(float("nan"), float("nan"), float("nan")), 0, 3) == "0 → 3 errors"
    assert change_text(Interval(-0.263, -0.4, -0.1), 40, 29) == "-26.3 [-40.0, -10.0]"


def test_worse_changes_come_first(outcomes: list[Outcome]) -> None:
    verdicts = [change.verdict for change in changes(outcomes, CONDITIONS)]
    assert verdicts == sorted(verdicts, key=["worse", "better", "same"].index) and "better" in verdicts
