"""Several recognisers on the same recordings: word error rates with intervals, speed, table, JSON and page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from asr.audio import SAMPLE_RATE, read_at_16k
from asr.errors import AudioError, ManifestError
from asr.evaluation.alternatives import closest
from asr.evaluation.html_report import KINDS, error_bar, render
from asr.evaluation.manifest import Utterance
from asr.evaluation.plots import bars
from asr.evaluation.recordings import AudioReader
from asr.evaluation.report import percent
from asr.evaluation.statistics import Bootstrap, Interval
from asr.evaluation.summary import ALL, without_nan
from asr.evaluation.wer import Errors, align, count
from benchmarks.peers.recognizers import Transcribe, what_failed


@dataclass(frozen=True)
class Transcribed:
    """texts: by recogniser, its text in the form that counts fewest errors; seconds: processor time that each took;
    after: how much of that once the last sample was there."""

    utterance: Utterance
    texts: dict[str, str]
    seconds: dict[str, float]
    after: dict[str, float]
    seconds_audio: float


@dataclass(frozen=True)
class Unusable:
    """A recording that cannot be read, or that a recogniser fails at, and why."""

    utterance: Utterance
    reason: str


@dataclass(frozen=True)
class Score:
    """One recogniser on one set. wer: 0 to 1 and more, 95% bootstrap interval by dialogue, else by utterance."""

    wer: Interval
    errors: Errors
    real_time_factor: float
    """Seconds of one core's work a second of audio: processor time of all threads, which other work disturbs little."""
    delay_s: tuple[float, float]
    """Seconds of work between the last sample and the text, median and 95th percentile."""


def best_form(reference: str, text: str) -> str:
    """The spoken form of a text, as written or as said, that has the fewest errors against the reference."""
    return " ".join(closest(text, reference)[0])


def transcribe_all(
    utterances: Sequence[Utterance], recognizers: Mapping[str, Transcribe]
) -> Iterator[Transcribed | Unusable]:
    """Every utterance through every recogniser, in order."""
    with AudioReader() as audio:
        for utterance in utterances:
            try:
                samples = read_at_16k(audio.read(utterance.audio))
            except (AudioError, ManifestError) as error:
                yield Unusable(utterance, str(error))
                continue
            texts, seconds, after = {}, {}, {}
            for name, transcribe in recognizers.items():
                started = time.process_time()
                try:
                    answer = transcribe(samples, utterance.context)
                except Exception as error:  # of another's package: all are compared on what all could read
                    yield Unusable(utterance, f"{name} failed ({what_failed(error)}); left out for all")
                    break
                seconds[name] = time.process_time() - started
                after[name] = seconds[name] if answer.after_s is None else answer.after_s
                texts[name] = best_form(utterance.reference, answer.text)
            else:
                yield Transcribed(utterance, texts, seconds, after, len(samples) / SAMPLE_RATE)


def scores(
    found: Sequence[Transcribed], draws: int = 2000, seed: int = 0, *, any_spelling: bool = False
) -> dict[str, dict[str, Score]]:
    """By set ("all" first where there are several), then by recogniser. any_spelling: as of `align`."""
    sets = sorted({t.utterance.set for t in found})
    groups = {ALL: list(found)} if len(sets) != 1 else {}
    groups |= {name or ALL: [t for t in found if t.utterance.set == name] for name in sets}
    out: dict[str, dict[str, Score]] = {}
    for name, members in groups.items():
        bootstrap = Bootstrap([t.utterance.dialogue for t in members], draws, seed)
        out[name] = {}
        for recognizer in members[0].texts:
            each = [
                count(align(t.utterance.reference, t.texts[recognizer], any_spelling=any_spelling)) for t in members
            ]
            work, audio = sum(t.seconds[recognizer] for t in members), sum(t.seconds_audio for t in members)
            wer = bootstrap.ratio([e.total for e in each], [e.words for e in each])
            median, late = np.percentile([t.after[recognizer] for t in members], (50, 95)).tolist()
            out[name][recognizer] = Score(wer, sum(each, Errors()), work / audio, (median, late))
    return out


def table(by_set: Mapping[str, Mapping[str, Score]], sizes: Mapping[str, int]) -> Table:
    """A row for each set, a column for each recogniser; the last rows have its speed over everything."""
    first = next(iter(by_set.values()))
    out = Table(caption="word error rate in percent, with 95% bootstrap intervals", pad_edge=False)
    out.add_column("set (utterances)")
    for recognizer in first:
        out.add_column(recognizer, justify="right", no_wrap=True)
    for name, of_set in by_set.items():
        out.add_row(f"{name} ({sizes[name]})", *(percent(score.wer) for score in of_set.values()))
    out.add_section()
    for title, cells in speeds(first):
        out.add_row(title, *cells)
    return out


def speeds(of_set: Mapping[str, Score]) -> list[tuple[str, list[str]]]:
    """Rows of a table: their titles, and a cell for each recogniser."""
    factors = [f"{score.real_time_factor:.3f}" for score in of_set.values()]
    delays = [f"{1000 * median:.0f} (p95 {1000 * late:.0f})" for median, late in (s.delay_s for s in of_set.values())]
    return [("real-time factor", factors), ("work after the last sample, ms", delays)]


def sizes_of(found: Sequence[Transcribed], by_set: Mapping[str, object]) -> dict[str, int]:
    """How many utterances each set has."""
    return {name: len(found) if name == ALL else sum(t.utterance.set == name for t in found) for name in by_set}


def to_json(
    found: Sequence[Transcribed], by_set: Mapping[str, Mapping[str, Score]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """`settings`, `scores: {SET: {RECOGNIZER: {wer, errors, real_time_factor, delay_s}}}`, `utterances`."""
    return {
        "settings": dict(settings),
        "utterances_of": sizes_of(found, by_set),
        "scores": {name: {r: without_nan(asdict(s)) for r, s in of_set.items()} for name, of_set in by_set.items()},
        "utterances": [
            {"id": t.utterance.id, "set": t.utterance.set, "reference": t.utterance.text, "hyp": t.texts,
             "seconds_audio": round(t.seconds_audio, 3), "seconds": {k: round(v, 4) for k, v in t.seconds.items()},
             "seconds_after": {k: round(v, 4) for k, v in t.after.items()}}
            for t in found
        ],
    }  # fmt: skip


def page(found: Sequence[Transcribed], by_set: Mapping[str, Mapping[str, Score]], settings: Mapping[str, Any]) -> str:
    """One HTML page that needs nothing else: a plot of each set, and the figures."""

    def plot(of_set: Mapping[str, Score]) -> str:
        return bars(
            [error_bar(name, vars(s.errors) | {"words": s.errors.words}, s.wer) for name, s in of_set.items()],
            "word error rate",
        )

    first = next(iter(by_set.values()))
    return render(
        Path(__file__).with_suffix(".html"),
        by_set=by_set,
        kinds=KINDS,
        percent=percent,
        plots={name: plot(of_set) for name, of_set in by_set.items()},
        recognizers=list(first),
        settings=settings,
        sizes=sizes_of(found, by_set),
        speeds=speeds(first),
    )
