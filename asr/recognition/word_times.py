"""Word times: from the frames of words' tokens to the sound around them.

A transducer emits a token when it has read enough of it: a word's first token comes some 120 ms after the word has
begun, its last one before it has ended. So a word reaches from where the sound before its first token begins to where
the sound behind its last token ends, and words without a pause between them meet shortly before the first token of the
second. Times here are in frames of the encoder from the utterance's start, as fractions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

_LATE = 3.0
"""Frames by which a word's first token comes late, where nothing else tells when the word began."""
_EARLY = 2.0
"""Frames by which its last one comes early."""
_REACH_BACK, _REACH_ON = 8, 20
"""Frames of sound before the first and behind the last token that can be the word's, where it goes on without end. On
dev a slow word ("go" of 0.7 s) emits its only token at its beginning."""
_SHARE = 0.25
"""Sound is what is louder than the utterance's background by so much of what its speech is,"""
_RANGE_DB = 36.0
"""and no further than so many dB below its loudest frame: breath and the hum of a room are none."""
_DIGITAL_DB = 3.0
"""What is no further than this above the quietest frame may be digital silence, before or behind a recording, and"""
_QUIET_DB, _LEAST_QUIET = 25.0, 5
"""what is so far below the loudest is background: the room's is the lower fifth of it, where there are such frames."""
_CLOSURE = 2
"""So few quiet frames between sounds are part of a word, as before a plosive."""
_OVERHANG = 0.25
"""Frames by which a word's last loud frame lasts longer than its sound: a frame is as loud as its loudest quarter."""
_LEAST = 1.0
"""Frames of the shortest word."""

Span = tuple[float, float]


def sound_of(loudness: Tensor) -> tuple[bool, ...]:
    """Which of an utterance's (T,) frames hold sound, by their loudness in dB."""
    if not len(loudness):
        return ()
    levels = loudness.cpu().numpy()
    background, speech = np.quantile(levels, (0.1, 0.95))
    room = levels[(levels > levels.min() + _DIGITAL_DB) & (levels < levels.max() - _QUIET_DB)]
    if len(room) >= _LEAST_QUIET:
        background = max(background, np.quantile(room, 0.2))
    least = max(background + _SHARE * (speech - background), levels.max() - _RANGE_DB)
    loud: list[bool] = (levels > least).tolist()
    last = -1
    for i, is_loud in enumerate(loud):
        if is_loud:
            if 0 <= last < i - 1 and i - last - 1 <= _CLOSURE:
                loud[last + 1 : i] = [True] * (i - last - 1)
            last = i
    return tuple(loud)


def word_spans(tokens: Sequence[tuple[int, int]], sound: Sequence[bool], end: float) -> list[Span]:
    """Start and end of each word, in order, none within another and none past `end`.

    Args:
        tokens: the frames of each word's first and last token.
        sound: of each frame, `sound_of`; empty: not known.
        end: of the audio, in frames.

    Returns:
        (start, end) of each word, in frames as fractions.
    """
    starts = [_start(first, tokens[i - 1][1] if i else -1, sound) for i, (first, _) in enumerate(tokens)]
    following = [*starts[1:], max(end, 0.0)]
    ends = [_end(tokens[i][1], starts[i], following[i], sound) for i in range(len(tokens))]
    return _apart(starts, ends, max(end, 0.0))


def _start(first: int, before: int, sound: Sequence[bool]) -> float:
    """before: the frame of the last token of the word before, -1: there is none."""
    lowest, at = max(before + 1, first - _REACH_BACK, 0), min(first, len(sound) - 1)
    while at > lowest and not sound[at]:  # a token may come behind the sound that it stands for
        at -= 1
    if at < 0 or at < lowest or not sound[at]:
        return max(before + 0.5, first - _LATE, 0.0)
    while at > lowest and sound[at - 1]:
        at -= 1
    if at and sound[at - 1]:  # no pause before the word
        return max(before + 0.5, first - _LATE, 0.0)
    return float(at)


def _end(last: int, start: float, following: float, sound: Sequence[bool]) -> float:
    """following: where the next word begins, or the audio ends."""
    if not sound:
        return min(last + _EARLY, following)
    at, most = last, min(following, last + _REACH_ON)
    while at < len(sound) and sound[at] and at < most:
        at += 1
    if at == last:
        while at - 1 > start and at <= len(sound) and not sound[at - 1]:
            at -= 1
        if not (0 < at <= len(sound) and sound[at - 1]):
            at = last + 1
        return min(at - _OVERHANG, following)
    if at >= most:  # no pause behind the word
        return following if most == following else min(following, last + _EARLY)
    return min(at - _OVERHANG, following)


def _apart(starts: Sequence[float], ends: Sequence[float], end: float) -> list[Span]:
    """The same words, each as long as the shortest one where there is room, none past the end."""
    spans: list[Span] = []
    for start, stop in zip(reversed(starts), reversed(ends), strict=True):
        stop = min(max(stop, start + _LEAST), end)
        start = max(0.0, min(start, stop - _LEAST))
        spans.append((start, stop))
        end = start
    return spans[::-1]
