"""A run as one HTML page that needs nothing else: plots, figures, the utterances that context changed, with sound.

The pages are Jinja templates in `templates/`, with autoescape; here is what they are given.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from asr.context.types import BiasedWord
from asr.errors import ManifestError
from asr.evaluation.manifest import Utterance
from asr.evaluation.plots import Bar, Dot, bars, dots
from asr.evaluation.recordings import AudioReader
from asr.evaluation.report import FEW, change_text, endpoint_line, percent
from asr.evaluation.run import Outcome
from asr.evaluation.summary import ALL, METRICS, Figures, Summary
from asr.evaluation.wer import align, count

MAX_SHOWN = 400
MAX_SOUND_BYTES = 12_000_000
"""Audio in one page, before base64; utterances past it are shown without sound."""
KINDS = ("substitutions", "deletions", "insertions")
_TEMPLATES = Path(__file__).parent / "templates"
_MEDIA = {b"OggS": "audio/ogg", b"RIFF": "audio/wav", b"fLaC": "audio/flac"}
_DIRECTIONS = {"better": "fewer errors", "worse": "more errors", "neutral": "may be chance"}
_VERDICTS = {"better": "fewer errors", "worse": "more errors", "same": "other errors, as many"}
_HEADS = {
    "wer": "WER", "change": "errors vs none", "b_wer": "B-WER", "u_wer": "U-WER", "entity_recall": "entities",
    "entity_recall_nbest": "in n-best", "oracle_wer": "oracle WER", "false_bias": "false bias",
    "changed": "changed", "exact": "exact", "named": "named",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """An utterance whose 1-best under `condition` is another than without context."""

    outcome: Outcome
    condition: str
    verdict: str
    """"better", "worse" or "same"."""


@dataclass(frozen=True)
class Figure:
    """A plot with its caption."""

    title: str
    legend: Mapping[str, str]
    """CSS class → text."""
    svg: Markup


@dataclass(frozen=True)
class Card:
    """A condition's word error rate, all sets together."""

    condition: str
    direction: str
    wer: str
    change: str


@dataclass(frozen=True)
class Changed:
    """What one or more conditions made of an utterance, all of them the same text."""

    conditions: tuple[str, ...]
    verdict: str
    nbest: tuple[str, ...]
    biased_words: tuple[BiasedWord, ...]


@dataclass(frozen=True)
class ChangedUtterance:
    """An utterance that context changed."""

    utterance: Utterance
    verdict: str
    """Of its first change."""
    plain: str
    question: str
    results: tuple[Changed, ...]
    sound: str
    """A data URL, "": none."""


def render(template: Path, **values: Any) -> str:
    """Fill in a template, which may include those of this package; every value is escaped but `Markup`."""
    folders = FileSystemLoader([template.parent, _TEMPLATES])
    environment = Environment(
        loader=folders, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template(template.name).render(values)


def changes(outcomes: Sequence[Outcome], conditions: Sequence[str], *, any_spelling: bool = False) -> list[Change]:
    """All of them: worse ones first, then better ones, then the rest, each in the order of the outcomes."""
    found = []
    for outcome in outcomes:
        reference, plain = outcome.utterance.reference, outcome.results["none"].nbest[0]
        before = count(align(reference, plain, any_spelling=any_spelling)).total
        for condition in conditions:
            text = outcome.results[condition].nbest[0]
            if text != plain:
                after = count(align(reference, text, any_spelling=any_spelling)).total
                verdict = "better" if after < before else "worse" if after > before else "same"
                found.append(Change(outcome, condition, verdict))
    rank = {"worse": 0, "better": 1, "same": 2}
    return sorted(found, key=lambda change: rank[change.verdict])


def page(summary: Summary, outcomes: Sequence[Outcome], conditions: Sequence[str], settings: dict[str, Any]) -> str:
    """The page. It holds the references and what was recognised: treat it as you treat the recordings."""
    found = changes(outcomes, conditions, any_spelling=bool(settings.get("any_spelling")))
    plain = [c for c in conditions if not of_signal(c)]
    groups: dict[str, list[Change]] = {}
    for change in found:
        groups.setdefault(change.outcome.utterance.id, []).append(change)
    sets = {f"{name} ({summary.utterances[name]})": figures for name, figures in summary.figures.items()}
    whole = next(iter(sets))
    signals = ["none", *filter(of_signal, conditions)]
    folded = [
        ("Each set of its own", {name: f for name, f in sets.items() if name != whole}, plain),
        ("Each signal alone and left out", {whole: sets[whole]} if len(signals) > 1 else {}, signals),
    ]
    return render(
        _TEMPLATES / "page.html",
        align=align,
        cards=[_card(c, summary.figures[ALL]) for c in plain],
        cells=_cells,
        change_text=change_text,
        changes=found,
        conditions=plain,
        figures=_plots(summary, plain),
        folded=[part for part in folded if part[1]],
        groups=groups,
        heads=("sub", "ins", "del", *_HEADS.values()),
        main={whole: sets[whole]} | {f"make {name}": figures for name, figures in _by_make(summary).items()},
        metrics={_HEADS[name]: text for name, text in METRICS.items()},
        numbers={c: n for c in conditions if (n := sum(change.condition == c for change in found))},
        settings=_settings(summary, settings),
        shown=_shown(list(groups.values())[:MAX_SHOWN]),
        signals=summary.signals,
        verdicts=_VERDICTS,
    )


def of_signal(condition: str) -> bool:
    """Whether it is a condition of one signal alone or left out, of which there are two for each."""
    return ":" in condition


def error_bar(label: str, errors: Mapping[str, int], wer: Any) -> Bar:
    """A bar of the three kinds of errors. errors: with the number of words; wer: its `Interval`."""
    words = max(1, errors["words"])
    return Bar(label, [(kind, errors[kind] / words) for kind in KINDS], wer, f"{100 * wer.value:.1f}%")


def _settings(summary: Summary, settings: dict[str, Any]) -> dict[str, Any]:
    shown = {
        **settings,
        "utterances": summary.utterances[ALL],
        "dialogues": summary.dialogues[ALL],
        "real-time factor": f"{summary.real_time_factor:.3f}",
    }
    for name, times in (("context encoding", summary.encode_ms), ("rescoring", summary.rescore_ms)):
        if times:
            shown[name] = f"{times[0]:.1f} ms median, {times[1]:.1f} ms p99"
    if summary.confidence:
        shown["calibration error of the words"] = f"{summary.confidence.error:.3f}"
    if summary.endpoint:
        shown["endpoint"] = endpoint_line(summary.endpoint).removeprefix("endpoint: ")
    return shown


def _direction(figures: Figures) -> str:
    return "better" if figures.change.high < 0 else "worse" if figures.change.low > 0 else ""


def _card(condition: str, by_condition: Mapping[str, Figures]) -> Card:
    figures = by_condition[condition]
    wer = f"{100 * figures.wer.value:.1f}"
    if condition == "none":
        return Card(condition, "", wer, "")
    change = change_text(figures.change, by_condition["none"].counts["errors"], figures.counts["errors"])
    return Card(condition, _direction(figures), wer, change)


def _plots(summary: Summary, conditions: Sequence[str]) -> list[Figure]:
    of_all = summary.figures[ALL]
    rows = [error_bar(c, of_all[c].counts, of_all[c].wer) for c in conditions]
    legend = dict(zip(KINDS, KINDS, strict=True)) | {"interval": "95% interval"}
    out = [Figure("Word error rate by condition", legend, bars(rows, "word error rate, all sets"))]
    by_set = {f"{name} ({summary.utterances[name]})": figures for name, figures in summary.figures.items()}
    for condition in (c for c in conditions if c not in ("none", "late")):
        out += _changes_plot(condition, by_set, "set") + _changes_plot(condition, _by_make(summary), "make")
    return out


def _by_make(summary: Summary) -> dict[str, Mapping[str, Figures]]:
    """The figures of each make, with its name and size."""
    return {f"{name} ({make.utterances})": make.figures for name, make in summary.makes.items()}


def _changes_plot(condition: str, groups: Mapping[str, Mapping[str, Figures]], of: str) -> list[Figure]:
    """The change of the errors in each group that had enough of them; none for fewer than two such groups."""
    marks = [
        Dot(name, _direction(f) or "neutral", f.change, f"{100 * f.change.value:+.0f}%")
        for name, by_condition in groups.items()
        for f in [by_condition[condition]]
        if f.change.value == f.change.value and by_condition["none"].counts["errors"] >= FEW
    ]
    if len(marks) < 2:
        return []
    axis = f"errors against none: left of the line is better; {of}s of {FEW} errors and more"
    return [Figure(f"Change of the errors with {condition} context, by {of}", _DIRECTIONS, dots(marks, axis))]


def _cells(condition: str, by_condition: Mapping[str, Figures]) -> list[str]:
    """A row of the table: counts of errors, then the figures of _HEADS."""
    figures, plain = by_condition[condition], by_condition["none"]
    hidden = ("change", "false_bias", "changed") if condition == "none" else ()
    texts = {name: "" if name in hidden else percent(getattr(figures, name)) for name in _HEADS}
    if condition != "none":
        texts["change"] = change_text(figures.change, plain.counts["errors"], figures.counts["errors"])
    return [*(str(figures.counts[k]) for k in ("substitutions", "insertions", "deletions")), *texts.values()]


def _shown(groups: Sequence[Sequence[Change]]) -> list[ChangedUtterance]:
    """Each utterance that context changed, by its changes."""
    out, room = [], MAX_SOUND_BYTES
    with AudioReader() as audio:
        for group in groups:
            outcome = group[0].outcome
            same: dict[str, list[Change]] = {}
            for change in group:
                same.setdefault(outcome.results[change.condition].nbest[0], []).append(change)
            sound, used = _sound(audio, outcome, room)
            room -= used
            turns = outcome.utterance.context.turns
            question = next((t.text for t in reversed(turns) if t.speaker == "system"), "")
            plain = outcome.results["none"].nbest[0]
            results = tuple(map(_changed, same.values()))
            out.append(ChangedUtterance(outcome.utterance, group[0].verdict, plain, question, results, sound))
    return out


def _changed(alike: Sequence[Change]) -> Changed:
    first = alike[0]
    result = first.outcome.results[first.condition]
    return Changed(tuple(change.condition for change in alike), first.verdict, result.nbest, result.biased_words)


def _sound(audio: AudioReader, outcome: Outcome, room: int) -> tuple[str, int]:
    """A recording as a data URL, and its bytes; "" where it cannot be played or is larger than the room."""
    try:
        data = audio.read(outcome.utterance.audio)
    except ManifestError:
        return "", 0
    media = _MEDIA.get(data[:4])
    if media is None or len(data) > room:
        return "", 0
    return f"data:{media};base64,{base64.b64encode(data).decode()}", len(data)
