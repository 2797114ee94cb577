"""What context does to the word error rate, by condition and set, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from recipes.context.fit import HARM_WEIGHT, Example


@dataclass(frozen=True)
class Line:
    """One condition on one set; rates in percent, intervals 95%, paired bootstrap over utterances.

    plain: WER without context. rescored: WER with. relative: change of errors. false_bias: utterances right without
    context and wrong with it. worse: utterances with more word errors than without.
    """

    condition: str
    set: str
    utterances: int
    plain: float
    rescored: float
    rescored_interval: tuple[float, float]
    relative: float
    relative_interval: tuple[float, float]
    false_bias: float
    worse: float
    oracle: float


def report(examples: Sequence[Example], chosen: Sequence[int], draws: int = 2000) -> list[Line]:
    """One line for each condition and set, and for each condition over all sets."""
    lines = []
    pairs = list(zip(examples, chosen, strict=True))
    for condition in HARM_WEIGHT:
        mine = [p for p in pairs if p[0].condition == condition]
        for name in ("all", *sorted({e.set for e, _ in mine})):
            part = [p for p in mine if name in ("all", p[0].set)]
            if part:
                lines.append(_line(condition, name, part, draws))
    return lines


def _line(condition: str, name: str, part: Sequence[tuple[Example, int]], draws: int) -> Line:
    plain = np.array([float(e.errors[0]) for e, _ in part])
    after = np.array([float(e.errors[c]) for e, c in part])
    oracle = np.array([float(e.errors.min()) for e, _ in part])
    words = np.array([float(e.words) for e, _ in part])
    picks = np.random.default_rng(1).integers(0, len(part), (draws, len(part)))
    wer = after[picks].sum(1) / words[picks].sum(1)
    relative = after[picks].sum(1) / np.maximum(1.0, plain[picks].sum(1)) - 1
    return Line(
        condition=condition,
        set=name,
        utterances=len(part),
        plain=_percent(plain.sum() / words.sum()),
        rescored=_percent(after.sum() / words.sum()),
        rescored_interval=_interval(wer),
        relative=_percent(after.sum() / max(1.0, plain.sum()) - 1),
        relative_interval=_interval(relative),
        false_bias=_percent(float(((plain == 0) & (after > 0)).mean())),
        worse=_percent(float((after > plain).mean())),
        oracle=_percent(oracle.sum() / words.sum()),
    )


def _percent(value: float) -> float:
    return round(100 * float(value), 1)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return _percent(low), _percent(high)


def as_json(lines: Sequence[Line]) -> list[dict[str, object]]:
    return [asdict(line) for line in lines]


def as_markdown(lines: Sequence[Line]) -> str:
    """A table for the card."""
    rows = [
        "| context | set | utterances | WER none | WER with it | errors, relative | false bias | worse | oracle |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for x in lines:
        low, high = x.rescored_interval
        rlow, rhigh = x.relative_interval
        rows.append(
            f"| {x.condition} | {x.set} | {x.utterances} | {x.plain} | {x.rescored} ({low} to {high}) "
            f"| {x.relative:+} ({rlow:+} to {rhigh:+}) | {x.false_bias} | {x.worse} | {x.oracle} |"
        )
    return "\n".join(rows) + "\n"
