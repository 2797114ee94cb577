"""A run as a table for the terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from asr.context.types import BiasedWord
from asr.evaluation.endpoint_delay import EndpointFigures
from asr.evaluation.run import Outcome
from asr.evaluation.signals import Worth
from asr.evaluation.statistics import Interval
from asr.evaluation.summary import Figures, Summary

FEW = 10
"""Errors from which on a relative change is given."""
_COLUMNS = (
    "WER", "sub", "ins", "del", "errors vs none", "B-WER", "U-WER", "entities", "in n-best", "oracle", "false bias",
    "exact", "named",
)  # fmt: skip


def percent(interval: Interval, *, signed: bool = False) -> str:
    """Such as "12.3 [10.1, 14.9]", in percent; a dash where it is not defined."""
    if math.isnan(interval.value):
        return "–"
    form = "{:+.1f}" if signed else "{:.1f}"
    value, low, high = (form.format(100 * x) for x in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def change_text(interval: Interval, before: int, after: int) -> str:
    """Such as "-26.3 [-40.0, -10.2]", the relative change of a number of errors in percent.

    Of fewer than `FEW` errors, where percents say nothing, the numbers: "1 → 25 errors".
    """
    if before < FEW:
        return f"{before} → {after} errors"
    return percent(interval, signed=True)


def table(summary: Summary, title: str = "") -> Table:
    """One row for each set and condition, then for each make and condition."""
    out = Table(title=title or None, caption="percent, with 95% bootstrap intervals by dialogue", pad_edge=False)
    out.add_column("set")
    out.add_column("condition", no_wrap=True)
    for name in _COLUMNS:
        out.add_column(name, justify="right", no_wrap=name in ("WER", "errors vs none"))
    groups = [(f"{name} ({summary.utterances[name]})", figures) for name, figures in summary.figures.items()]
    groups += [(f"make {name} ({make.utterances})", make.figures) for name, make in summary.makes.items()]
    for place, (name, by_condition) in enumerate(groups):
        for number, (condition, figures) in enumerate(by_condition.items()):
            cells = _cells(condition, figures, by_condition["none"])
            out.add_row("" if number else name, condition, *cells, style="" if place else "bold")
        out.add_section()
    return out


def _cells(condition: str, figures: Figures, plain: Figures) -> list[str | Text]:
    counts = figures.counts
    none = condition == "none"
    changed = "" if none else change_text(figures.change, plain.counts["errors"], counts["errors"])
    helped = "green" if figures.change.high < 0 else "red" if figures.change.low > 0 else ""
    return [
        percent(figures.wer),
        *(str(counts[name]) for name in ("substitutions", "insertions", "deletions")),
        Text(changed, style=helped),
        *(_short(figure) for figure in (figures.b_wer, figures.u_wer, figures.entity_recall)),
        *(_short(figure) for figure in (figures.entity_recall_nbest, figures.oracle_wer)),
        "" if none else _short(figures.false_bias),
        *(_short(figure) for figure in (figures.exact, figures.named)),
    ]


def _short(interval: Interval) -> str:
    return "–" if math.isnan(interval.value) else f"{100 * interval.value:.1f}"


def endpoint_line(figures: EndpointFigures) -> str:
    """Such as "endpoint: 640 ms median, 900 ms p90 after the end of speech; ..." with shares in percent."""
    delay = "no utterance ended in time"
    if figures.delay_ms:
        delay = f"{figures.delay_ms[0]:.0f} ms median, {figures.delay_ms[1]:.0f} ms p90 after the end of speech"
    if figures.likely_ms:
        delay += f"; likely finals {figures.likely_ms[0]:.0f} ms median, {figures.likely_ms[1]:.0f} ms p90"
    cut, missed, withdrawn = percent(figures.early), percent(figures.missed), percent(figures.withdrawn)
    return (
        f"endpoint: {delay}; cut early {cut}%, missed {missed}%, a likely final withdrawn {withdrawn}% of "
        f"{figures.utterances} utterances"
    )


def signal_lines(signals: Mapping[str, Worth]) -> list[str]:
    """Such as "contacts: errors -16.3% [-28.1, -6.5] alone, +41.2% [+20.0, +70.1] where left out: helps" for each."""
    return [
        f"{name}: errors {_signal_change(w.alone, *w.errors_alone)} alone, "
        f"{_signal_change(w.left_out, *w.errors_left_out)} where left out: {w.verdict}"
        for name, w in signals.items()
    ]


def _signal_change(interval: Interval, before: int, after: int) -> str:
    return f"{before} → {after}" if before < FEW else percent(interval, signed=True).replace(" ", "% ", 1)


def to_json(summary: Summary, outcomes: Sequence[Outcome], settings: dict[str, Any]) -> dict[str, Any]:
    """The whole run: `settings` of the command, `summary`, and every utterance with its hypotheses.

    biased_words has the conditions under which context changed the text: each word that it brought, the phrase and the
    signal behind it, what the context said for the answer (nats), and its rank without. meant has the entries that the
    text under a condition names. context_status is that of the
    utterance's own context (of *none* where *relevant* was not asked for); context_statuses has it for each condition.
    """
    return {"settings": settings, "summary": summary.to_json(), "utterances": [_utterance(o) for o in outcomes]}


def _utterance(outcome: Outcome) -> dict[str, Any]:
    utterance, results = outcome.utterance, outcome.results
    own = results.get("relevant", results["none"])
    return {
        "id": utterance.id,
        "set": utterance.set,
        "make": utterance.make,
        "reference": utterance.text,
        "hyp": {condition: h.nbest[0] for condition, h in results.items()},
        "nbest": {condition: list(h.nbest) for condition, h in results.items()},
        "biased_words": {c: [_rounded(b) for b in h.biased_words] for c, h in results.items() if h.biased_words},
        "meant": {c: [asdict(m) for m in h.meant] for c, h in results.items() if h.meant},
        "context_status": own.status,
        "context_statuses": {condition: h.status for condition, h in results.items()},
        "seconds_audio": round(outcome.seconds_audio, 3),
        "seconds_wall": round(outcome.seconds_wall, 4),
        "ending": outcome.ending and asdict(outcome.ending),
    }


def _rounded(word: BiasedWord) -> dict[str, Any]:
    return asdict(word) | {"nats": round(word.nats, 2)}
