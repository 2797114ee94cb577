"""A run as one HTML page that needs nothing else: plots, figures, the utterances that context changed, with sound."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from asr.context.types import BiasedWord
from asr.errors import ManifestError
from asr.evaluation.plots import Bar, Dot, bars, dots
from asr.evaluation.recordings import AudioReader
from asr.evaluation.report import FEW, change_text, endpoint_line, percent
from asr.evaluation.run import Outcome
from asr.evaluation.signals import Worth
from asr.evaluation.summary import ALL, METRICS, Figures, Summary
from asr.evaluation.wer import align, count

MAX_SHOWN = 400
MAX_SOUND_BYTES = 12_000_000
"""Audio in one page, before base64; utterances past it are shown without sound."""
_ASSETS = Path(__file__).parent / "assets"
STYLE = _ASSETS / "page.css"
_MEDIA = {b"OggS": "audio/ogg", b"RIFF": "audio/wav", b"fLaC": "audio/flac"}
_DIRECTIONS = {"better": "fewer errors", "worse": "more errors", "neutral": "may be chance"}
_VERDICTS = {"better": "fewer errors", "worse": "more errors", "same": "other errors, as many"}


@dataclass(frozen=True)
class Change:
    """An utterance whose 1-best under `condition` is another than without context; verdict: a key of _VERDICTS."""

    outcome: Outcome
    condition: str
    verdict: str


def changes(outcomes: Sequence[Outcome], conditions: Sequence[str], *, any_spelling: bool = False) -> list[Change]:
    """All of them: worse ones first, then better ones, then the rest, each in the order of the outcomes."""
    found = []
    for outcome in outcomes:
        reference, plain = outcome.utterance.reference, outcome.heard["none"].nbest[0]
        before = count(align(reference, plain, any_spelling=any_spelling)).total
        for condition in conditions:
            text = outcome.heard[condition].nbest[0]
            if text != plain:
                after = count(align(reference, text, any_spelling=any_spelling)).total
                verdict = "better" if after < before else "worse" if after > before else "same"
                found.append(Change(outcome, condition, verdict))
    rank = {"worse": 0, "better": 1, "same": 2}
    return sorted(found, key=lambda change: rank[change.verdict])


def page(summary: Summary, outcomes: Sequence[Outcome], conditions: Sequence[str], settings: dict[str, Any]) -> str:
    """The page. It holds the references and what was recognised: treat it as you treat the recordings."""
    found = changes(outcomes, conditions, any_spelling=bool(settings.get("any_spelling")))
    values = {
        "style": STYLE.read_text(),
        "script": (_ASSETS / "page.js").read_text(),
        "settings": _settings(summary, settings),
        "cards": "".join(_card(c, summary.figures[ALL]) for c in conditions if not of_signal(c)),
        "plots": _plots(summary, [c for c in conditions if not of_signal(c)]),
        "table": _table(summary),
        "signals": _signals(summary.signals),
        "metrics": "".join(f"<dt>{escape(_HEADS[n])}</dt><dd>{escape(t)}</dd>" for n, t in METRICS.items()),
        "filters": _filters(found, conditions),
        "changes": _change_list(_by_utterance(found)),
        "number": str(len({c.outcome.utterance.id for c in found})),
    }
    text = (_ASSETS / "page.html").read_text()
    for name, value in values.items():
        text = text.replace(f"<!--{name}-->", value, 1)
    return text


def of_signal(condition: str) -> bool:
    """Whether it is a condition of one signal alone or left out, of which there are two for each."""
    return ":" in condition


def _by_utterance(found: Sequence[Change]) -> list[list[Change]]:
    """The changes of each utterance together, in the order of its first."""
    groups: dict[str, list[Change]] = {}
    for change in found:
        groups.setdefault(change.outcome.utterance.id, []).append(change)
    return list(groups.values())


def _settings(summary: Summary, settings: dict[str, Any]) -> str:
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
    return "".join(f"<span>{escape(str(k))} <b>{escape(str(v))}</b></span>" for k, v in shown.items())


def _card(condition: str, by_condition: Mapping[str, Figures]) -> str:
    figures, change, direction = by_condition[condition], "", ""
    if condition != "none":
        direction = "better" if figures.change.high < 0 else "worse" if figures.change.low > 0 else ""
        told = change_text(figures.change, by_condition["none"].counts["errors"], figures.counts["errors"])
        value, _, interval = told.partition(" ")
        change = f'<p class="change">{told if "→" in told else f"<b>{value}%</b> errors {interval}"}</p>'
    wer = f"{100 * figures.wer.value:.1f}"
    figure = f'<p class="wer">{wer}<small>% WER</small></p>'
    return f'<div class="card {direction}"><h3>{escape(condition)}</h3>{figure}{change}</div>'


def _plots(summary: Summary, conditions: Sequence[str]) -> str:
    rows = []
    for condition in conditions:
        figures = summary.figures[ALL][condition]
        words = max(1, figures.counts["words"])
        kinds = ("substitutions", "deletions", "insertions")
        parts = [(kind, figures.counts[kind] / words) for kind in kinds]
        rows.append(Bar(condition, parts, figures.wer, f"{100 * figures.wer.value:.1f}%"))
    legend = "".join(f'<span class="key {kind}">{kind}</span>' for kind in ("substitutions", "deletions", "insertions"))
    legend += '<span class="key interval">95% interval</span>'
    out = [_figure("Word error rate by condition", bars(rows, "word error rate, all sets"), legend)]
    by_set = {f"{name} ({summary.utterances[name]})": figures for name, figures in summary.figures.items()}
    for condition in (c for c in conditions if c not in ("none", "late")):
        out += [_changes_plot(condition, by_set, "set"), _changes_plot(condition, _by_make(summary), "make")]
    return "".join(out)


def _by_make(summary: Summary) -> dict[str, Mapping[str, Figures]]:
    """The figures of each make, with its name and size."""
    return {f"{name} ({make.utterances})": make.figures for name, make in summary.makes.items()}


def _changes_plot(condition: str, groups: Mapping[str, Mapping[str, Figures]], of: str) -> str:
    """The change of the errors in each group that had enough of them; "" for fewer than two such groups."""
    marks = [
        Dot(name, _direction(f), f.change, f"{100 * f.change.value:+.0f}%")
        for name, by_condition in groups.items()
        for f in [by_condition[condition]]
        if f.change.value == f.change.value and by_condition["none"].counts["errors"] >= FEW
    ]
    if len(marks) < 2:
        return ""
    keys = "".join(f'<span class="key {color}">{text}</span>' for color, text in _DIRECTIONS.items())
    axis = f"errors against none: left of the line is better; {of}s of {FEW} errors and more"
    return _figure(f"Change of the errors with {condition} context, by {of}", dots(marks, axis), keys)


def _direction(figures: Figures) -> str:
    return "better" if figures.change.high < 0 else "worse" if figures.change.low > 0 else "neutral"


def _figure(title: str, svg: str, legend: str) -> str:
    return f"<figure><figcaption>{escape(title)}{legend}</figcaption>{svg}</figure>"


_HEADS = {
    "wer": "WER", "change": "errors vs none", "b_wer": "B-WER", "u_wer": "U-WER", "entity_recall": "entities",
    "entity_recall_nbest": "in n-best", "oracle_wer": "oracle WER", "false_bias": "false bias",
    "changed": "changed", "exact": "exact", "named": "named",
}  # fmt: skip


def _table(summary: Summary) -> str:
    """All sets together and each make, and folded away each set of its own and each signal alone and left out."""
    names = list(summary.figures[ALL])
    main, signals = [c for c in names if not of_signal(c)], ["none", *filter(of_signal, names)]
    whole = f"{ALL} ({summary.utterances[ALL]})"
    out = _rows(whole, summary.figures[ALL], main)
    out += "".join(_rows(f"make {name}", figures, main) for name, figures in _by_make(summary).items())
    if len(summary.figures) > 1:
        sets = {f"{name} ({summary.utterances[name]})": figures for name, figures in summary.figures.items()}
        parts = "".join(_rows(name, figures, main) for name, figures in sets.items() if name != whole)
        out += f"<details><summary>Each set of its own</summary>{parts}</details>"
    if len(signals) > 1:
        parts = _rows(whole, summary.figures[ALL], signals)
        out += f"<details><summary>Each signal alone and left out</summary>{parts}</details>"
    return out


def _rows(name: str, by_condition: Mapping[str, Figures], conditions: Sequence[str]) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("sub", "ins", "del", *_HEADS.values()))
    body = []
    plain = by_condition["none"]
    for condition in conditions:
        figures = by_condition[condition]
        cells = [str(figures.counts[k]) for k in ("substitutions", "insertions", "deletions")]
        hidden = ("change", "false_bias", "changed") if condition == "none" else ()
        told = change_text(figures.change, plain.counts["errors"], figures.counts["errors"])
        texts = {n: told if n == "change" else percent(getattr(figures, n)) for n in _HEADS}
        cells += ["" if n in hidden else _two_lines(texts[n]) for n in _HEADS]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        body.append(f"<tr><th>{escape(condition)}</th>{row}</tr>")
    return f"<table><thead><tr><th>{escape(name)}</th>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _signals(signals: Mapping[str, Worth]) -> str:
    """What each signal is worth, where that was asked for."""
    if not signals:
        return ""
    heads = "".join(f"<th>{head}</th>" for head in ("errors with it alone", "errors where it is left out", ""))
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{_two_lines(change_text(worth.alone, *worth.errors_alone))}</td>"
        f"<td>{_two_lines(change_text(worth.left_out, *worth.errors_left_out))}</td>"
        f"<td>{escape(worth.verdict)}</td></tr>"
        for name, worth in signals.items()
    )
    return (
        "<h2>What each signal is worth <small>change of the errors, percent: against none, against all signals</small>"
        f"</h2><table><thead><tr><th>signal</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _two_lines(figure: str) -> str:
    if "→" in figure:
        return escape(figure)
    value, _, interval = figure.partition(" ")
    return f"{escape(value)}<small>{escape(interval)}</small>"


def _filters(found: Sequence[Change], conditions: Sequence[str]) -> str:
    named = [c for c in conditions if any(change.condition == c for change in found)]
    numbers = {c: sum(change.condition == c for change in found) for c in named}
    options = "".join(f'<option value="{escape(c)}">{escape(c)} ({numbers[c]})</option>' for c in named)
    boxes = "".join(
        f'<label><input type="checkbox" value="{v}" checked> {escape(text)} '
        f"({sum(change.verdict == v for change in found)})</label>"
        for v, text in _VERDICTS.items()
    )
    return f'<select id="condition"><option value="">all conditions ({len(found)})</option>{options}</select>{boxes}'


def _change_list(found: Sequence[Sequence[Change]]) -> str:
    """A card for each utterance; found: the changes of each."""
    if not found:
        return "<p>Context changed no utterance.</p>"
    out, sounds = [], []
    left = MAX_SOUND_BYTES
    with AudioReader() as audio:
        for number, group in enumerate(found[:MAX_SHOWN]):
            sound, used = _sound(audio, group[0].outcome, left)
            left -= used
            sounds.append(f'<template id="s{number}">{sound}</template>')
            out.append(_utterance(group, f"s{number}"))
    if len(found) > MAX_SHOWN:
        out.append(f"<p>{len(found) - MAX_SHOWN} more are in the JSON.</p>")
    return "".join(out + sounds)  # the script makes a player where it is looked at


def _sound(audio: AudioReader, outcome: Outcome, room: int) -> tuple[str, int]:
    try:
        data = audio.read(outcome.utterance.audio)
    except ManifestError:
        return "", 0
    media = _MEDIA.get(data[:4])
    if media is None or len(data) > room:
        return "", 0
    encoded = base64.b64encode(data).decode()
    return f'<audio controls preload="none" src="data:{media};base64,{encoded}"></audio>', len(data)


def _utterance(changes: Sequence[Change], sound: str) -> str:
    """An utterance that context changed: what was said, and what each condition made of it."""
    outcome = changes[0].outcome
    utterance, plain = outcome.utterance, outcome.heard["none"].nbest[0]
    question = next((t.text for t in reversed(utterance.context.turns) if t.speaker == "system"), "")
    turns = "".join(f"<p><i>{escape(t.speaker)}</i> {escape(t.text)}</p>" for t in utterance.context.turns)
    entries = "".join(f"<li>{escape(e.text)} <i>{escape(e.signal)}</i></li>" for e in utterance.context.entries)
    context = f"{turns}<ul>{entries}</ul>" if turns or entries else "<p>none</p>"
    same: dict[str, list[Change]] = {}
    for change in changes:
        same.setdefault(outcome.heard[change.condition].nbest[0], []).append(change)
    return (
        f'<article class="{changes[0].verdict}"><header><b>{escape(utterance.set)}</b>'
        f'<span class="id">{escape(utterance.id)}</span></header>'
        + (f'<p class="question">{escape(question)}</p>' if question else "")
        + f'<div class="sound" data-sound="{sound}"></div><dl>'
        f"<dt>said</dt><dd>{escape(utterance.reference)}</dd>"
        f"<dt>none</dt><dd>{_difference(utterance.reference, plain)}</dd></dl>"
        f"{''.join(_reading(alike) for alike in same.values())}"
        f"<details><summary>the dialogue's own context</summary>{context}</details></article>"
    )


def _reading(alike: Sequence[Change]) -> str:
    """What one or more conditions made of an utterance, all of them the same text."""
    first = alike[0]
    names, heard = [change.condition for change in alike], first.outcome.heard[first.condition]
    nbest = "".join(f"<li>{escape(text) or '(silence)'}</li>" for text in heard.nbest)
    return (
        f'<section class="reading {first.verdict}" data-conditions="{escape(" ".join(names))}" '
        f'data-verdict="{first.verdict}"><dl><dt>{escape(", ".join(names))}</dt>'
        f"<dd>{_difference(first.outcome.utterance.reference, heard.nbest[0])} "
        f'<span class="verdict">{escape(_VERDICTS[first.verdict])}</span></dd>{_brought(heard.biased_words)}</dl>'
        f"<details><summary>n-best</summary><ol>{nbest}</ol></details></section>"
    )


def _brought(words: Sequence[BiasedWord]) -> str:
    """What brought each word that the plain 1-best has not, by how much, and where it stood before."""
    if not words:
        return ""
    by = "; ".join(
        f"<b>{escape(b.word)}</b> by {escape(f'{b.phrase} ({b.signal})') if b.phrase else 'what was said before'}"
        for b in words
    )
    return f"<dt>because</dt><dd>{by}; +{words[0].nats:.1f} nats, without context number {words[0].rank}</dd>"


def _difference(reference: str, heard: str) -> str:
    """The words heard, wrong ones marked; the words missed, struck through."""
    out = []
    for step in align(reference, heard):
        if step.kind == "equal":
            out.append(escape(step.heard))
            continue
        out += [f"<del>{escape(step.reference)}</del>"] if step.reference else []
        out += [f"<ins>{escape(step.heard)}</ins>"] if step.heard else []
    return " ".join(out) or "<del>(silence)</del>"
