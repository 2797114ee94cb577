"""What context does to the word error rate, by condition and set, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from asr.evaluation.report import percent
from asr.evaluation.statistics import Bootstrap, Interval
from asr.evaluation.summary import ALL, without_nan
from recipes.context.fit import HARM_WEIGHT, Example


@dataclass(frozen=True)
class Line:
    """One condition on one set; shares with 95% intervals, paired bootstrap over utterances."""

    condition: str
    set: str
    utterances: int
    plain: Interval
    """WER without context."""
    rescored: Interval
    """WER with it."""
    change: Interval
    """Of the errors."""
    false_bias: Interval
    """Utterances right without context and wrong with it."""
    worse: Interval
    """Utterances with more word errors than without."""
    oracle: Interval
    """WER of the best of each list."""


def report(examples: Sequence[Example], chosen: Sequence[int], draws: int = 2000) -> list[Line]:
    """One line for each condition and set, and for each condition over all sets. chosen: the place in each list."""
    lines = []
    pairs = list(zip(examples, chosen, strict=True))
    for condition in HARM_WEIGHT:
        mine = [p for p in pairs if p[0].condition == condition]
        for name in (ALL, *sorted({e.set for e, _ in mine})):
            part = [p for p in mine if name in (ALL, p[0].set)]
            if part:
                lines.append(_line(condition, name, part, draws))
    return lines


def _line(condition: str, name: str, part: Sequence[tuple[Example, int]], draws: int) -> Line:
    plain, after, oracle, words = (
        np.array(column, np.float64)
        for column in zip(*((e.errors[0], e.errors[c], e.errors.min(), e.words) for e, c in part), strict=True)
    )
    bootstrap, each = Bootstrap([e.id for e, _ in part], draws), np.ones(len(part))
    return Line(
        condition=condition,
        set=name,
        utterances=len(part),
        plain=bootstrap.ratio(plain, words),
        rescored=bootstrap.ratio(after, words),
        change=bootstrap.change(after, plain),
        false_bias=bootstrap.ratio((plain == 0) & (after > 0), each),
        worse=bootstrap.ratio(after > plain, each),
        oracle=bootstrap.ratio(oracle, words),
    )


def as_json(lines: Sequence[Line]) -> list[object]:
    """Plain values; null where a figure is not defined."""
    return [without_nan(asdict(line)) for line in lines]


def as_markdown(lines: Sequence[Line]) -> str:
    """A table for the card, in percent."""
    rows = [
        "| context | set | utterances | WER none | WER with it | change of errors | false bias | worse | oracle |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for x in lines:
        plain, false_bias, worse, oracle = (
            percent(figure).partition(" ")[0] for figure in (x.plain, x.false_bias, x.worse, x.oracle)
        )
        rows.append(
            f"| {x.condition} | {x.set} | {x.utterances} | {plain} | {percent(x.rescored)} "
            f"| {percent(x.change, signed=True)} | {false_bias} | {worse} | {oracle} |"
        )
    return "\n".join(rows) + "\n"
