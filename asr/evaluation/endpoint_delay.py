"""Endpoint delay: how long after the last sound of speech an utterance is ended, and how often too early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.audio import Samples
from asr.evaluation.statistics import Bootstrap, Interval
from asr.recognition.recognizer import Recognizer, StreamOptions

FRAME_S = 0.02
TAIL_S = 2.5
"""Background that follows the recording: what has not ended by then counts as missed."""
CHUNK_S = 0.1
_RANGE_DB = 10.0
_BELOW_SPEECH_DB = 35.0
_ABOVE_QUIET = 0.35


@dataclass(frozen=True)
class Ending:
    """Where an utterance ended, in seconds of audio after its start."""

    speech_end_s: float
    """The last sound of speech."""
    endpoint_s: float | None
    """The first final result; None where none came."""
    likely_s: float | None = None
    """A likely final that the final result confirmed, word for word."""
    withdrawn: bool = False
    """There was a likely final that the final result did not confirm."""

    @property
    def early(self) -> bool:
        """The utterance was cut while it was being said."""
        return self.endpoint_s is not None and self.endpoint_s < self.speech_end_s


@dataclass(frozen=True)
class EndpointFigures:
    """Over the utterances whose end of speech is known."""

    utterances: int
    delay_ms: tuple[float, float] | None
    """Median and 90th percentile of what was neither cut early nor missed, in audio time (the computing comes on top);
    None where nothing was."""
    likely_ms: tuple[float, float] | None
    """The same of likely finals that were confirmed."""
    early: Interval
    missed: Interval
    withdrawn: Interval
    """Shares of utterances."""


def speech_end(samples: Samples, rate: int) -> float | None:
    """Seconds to the end of the last frame of 20 ms that is speech by its energy.

    Speech is louder than 35 dB below the loud frames (95th percentile) and than a third of the way from the quiet ones
    (5th percentile) up to these. None where loud and quiet are less than 10 dB apart: then the energy says nothing.
    """
    size = round(FRAME_S * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    if not len(frames):
        return None
    levels = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-10)
    quiet, loud = np.percentile(levels, [5, 95])
    if loud - quiet < _RANGE_DB:
        return None
    speech = np.flatnonzero(levels > max(loud - _BELOW_SPEECH_DB, quiet + _ABOVE_QUIET * (loud - quiet)))
    return float((speech[-1] + 1) * size / rate)


def find_ending(recognizer: Recognizer, samples: Samples, rate: int) -> Ending | None:
    """Stream the recording in chunks of 100 ms with endpointing on.

    It is followed by 2.5 s of noise as loud as its quiet frames; None where its end of speech is not known.
    """
    end = speech_end(samples, rate)
    if end is None:
        return None
    size = round(FRAME_S * rate)
    powers = np.mean(np.square(samples[: len(samples) // size * size].reshape(-1, size)), axis=1)
    noise = np.random.default_rng(0).standard_normal(round(TAIL_S * rate)) * np.sqrt(np.percentile(powers, 5))
    audio = np.concatenate([samples, noise.astype(np.float32)])
    stream = recognizer.open(StreamOptions(sample_rate_hertz=rate, nbest=1, interim_results=True))
    step, likely = round(CHUNK_S * rate), []
    for start in range(0, len(audio), step):
        for result in stream.accept(audio[start : start + step]):
            if result.likely_final:
                likely.append(result)
            if result.is_final and result.endpoint_s is not None:
                right = [r.nbest[0].text == result.nbest[0].text for r in likely]
                confirmed = likely[-1].end_s if likely and right[-1] else None
                return Ending(end, result.endpoint_s, confirmed, withdrawn=not all(right))
    return Ending(end, None)


def endpoint_figures(endings: Sequence[Ending], dialogues: Sequence[str], draws: int, seed: int) -> EndpointFigures:
    """Delay percentiles, and shares with their 95% bootstrap intervals by dialogue."""
    bootstrap, each = Bootstrap(dialogues, draws, seed), np.ones(len(endings))
    whole = [e for e in endings if not e.early]
    return EndpointFigures(
        len(endings),
        _percentiles_ms([e.endpoint_s - e.speech_end_s for e in whole if e.endpoint_s is not None]),
        _percentiles_ms([e.likely_s - e.speech_end_s for e in whole if e.likely_s is not None]),
        bootstrap.ratio([e.early for e in endings], each),
        bootstrap.ratio([e.endpoint_s is None for e in endings], each),
        bootstrap.ratio([e.withdrawn for e in endings], each),
    )


def _percentiles_ms(seconds: Sequence[float]) -> tuple[float, float] | None:
    if not seconds:
        return None
    p50, p90 = (1000 * np.percentile(seconds, [50, 90])).round().tolist()
    return p50, p90
