"""Plots as inline SVG: text in the page's own font and colours, no script, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from asr.evaluation.statistics import Interval

ROW, LEFT, RIGHT, TOP, BOTTOM = 30, 190, 96, 12, 40
WIDTH = 760


@dataclass(frozen=True)
class Bar:
    """A row of a plot: its parts are (CSS class, length), laid end to end; the interval is of their sum."""

    label: str
    parts: Sequence[tuple[str, float]]
    interval: Interval
    note: str


@dataclass(frozen=True)
class Dot:
    """A row of a plot: a value with its interval; color is a CSS class."""

    label: str
    color: str
    interval: Interval
    note: str


def bars(rows: Sequence[Bar], axis: str) -> Markup:
    """Stacked horizontal bars from zero, with a whisker for the interval. Values are shares: 0.1 is drawn as 10%."""
    highs = [x for row in rows for x in (row.interval.value, row.interval.high) if math.isfinite(x)]
    scale = _Scale(0.0, max([0.01, *highs]))
    body = []
    for number, row in enumerate(rows):
        y, at = TOP + number * ROW, 0.0
        for color, length in row.parts:
            width = scale(at + length) - scale(at)
            body.append(f'<rect class="{color}" x="{scale(at):.1f}" y="{y + 5}" width="{width:.1f}" height="18"/>')
            at += length
        body += [_whisker(scale, row.interval, y + 14), _row_text(row.label, row.note, y + 18)]
    return _frame(scale, body, len(rows), axis)


def dots(rows: Sequence[Dot], axis: str) -> Markup:
    """Values with whiskers on both sides of a line at zero. Values are shares: -0.26 is drawn as -26%."""
    values = [x for r in rows for x in (r.interval.value, r.interval.low, r.interval.high) if math.isfinite(x)]
    scale = _Scale(max(-1.0, min([-0.1, *values])), min(1.5, max([0.1, *values])))
    body = [f'<line class="zero" x1="{scale(0):.1f}" x2="{scale(0):.1f}" y1="{TOP}" y2="{TOP + ROW * len(rows)}"/>']
    for number, row in enumerate(rows):
        y = TOP + number * ROW + 14
        body.append(_row_text(row.label, row.note, y + 4))
        if math.isfinite(row.interval.value):
            body.append(_whisker(scale, row.interval, y))
            body.append(f'<circle class="{row.color}" cx="{scale(row.interval.value):.1f}" cy="{y}" r="6"/>')
    return _frame(scale, body, len(rows), axis)


class _Scale:
    """Values to x coordinates, with round marks; what lies outside is drawn at the edge."""

    def __init__(self, low: float, high: float) -> None:
        raw = (high - low) / 6
        power = 10.0 ** math.floor(math.log10(raw))
        self.step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw - 1e-12)
        self.low = math.floor(low / self.step + 1e-9) * self.step
        self.high = math.ceil(high / self.step - 1e-9) * self.step

    def __call__(self, value: float) -> float:
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def marks(self) -> list[float]:
        """The values that the axis shows."""
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]


def _whisker(scale: _Scale, interval: Interval, y: float) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    low, high = scale(interval.low), scale(interval.high)
    return f'<path class="whisker" d="M{low:.1f} {y - 5}v10M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - 5}v10"/>'


def _row_text(label: str, note: str, y: float) -> str:
    left = f'<text class="label" x="{LEFT - 10}" y="{y}" text-anchor="end">{escape(label)}</text>'
    return left + f'<text class="note" x="{WIDTH - RIGHT + 10}" y="{y}">{escape(note)}</text>'


def _frame(scale: _Scale, body: Sequence[str], rows: int, axis: str) -> Markup:
    bottom = TOP + rows * ROW
    digits = 0 if scale.step >= 0.01 else 1
    grid = "".join(
        f'<line class="grid" x1="{scale(m):.1f}" x2="{scale(m):.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="mark" x="{scale(m):.1f}" y="{bottom + 16}" text-anchor="middle">'
        f"{100 * m + 0.0:.{digits}f}%</text>"
        for m in scale.marks()
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    caption = f'<text class="mark" x="{middle}" y="{bottom + 34}" text-anchor="middle">{escape(axis)}</text>'
    size = f'viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img" aria-label="{escape(axis)}"'
    return Markup(f"<svg {size}>{grid}{''.join(body)}{caption}</svg>")
