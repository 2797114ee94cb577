"""What is listened to in adapting the second pass: a fixed random order of clips of all training speech.

Short answers and single words come most often, because a window without padding is strangest for them. No transcript is
needed: the original model's own output is what is learned. Where there is one, it tells where the original is wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.audio import SAMPLE_RATE, Samples
from asr.evaluation.jsonl import read_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from recipes.acoustic.augment import augment, coloured_noise
from recipes.acoustic.speech import NOT_VERBATIM, corpus_of, decode_int16, trim

SHARES = {
    "alnum_weak": 1.0,
    "an4": 1.5,
    "commonvoice_en": 2.0,
    "fsdd_strings": 1.5,
    "followups": 0.7,
    "kathleen": 0.5,
    "librispeech": 2.0,
    "ljspeech": 2.0,
    "speech_commands": 0.25,
    "speechocean762": 0.4,
    "untranscribed": 1.0,
    "vctk_sample": 2.0,
}
"""How often each utterance of a corpus is drawn."""
AUGMENTED, CUT, WITHOUT_SPEECH = 0.4, 0.1, 0.04
"""Shares of the clips that are augmented, that end in the middle of speech, and in which nothing is said."""
LONGEST_S = 24.0


@dataclass(frozen=True)
class Clip:
    """samples: (n,) float32 at 16 kHz. speech: False where nothing is said in it. text: its transcript in normal form;
    "" where there is none, or the clip ends before its text does."""

    id: str
    samples: Samples
    speech: bool
    text: str = ""


def draw_clips(data: Path, seed: int = 0) -> Iterator[Clip]:
    """The clips of DATA/speech and DATA/followups, split "train", in a random order that depends on the seed alone."""
    rng = np.random.default_rng(seed)
    drawn: list[tuple[Path, dict[str, Any], int]] = []
    for manifest in sorted([*data.glob("speech/*/*-train.jsonl.gz"), *data.glob("followups/*-train.jsonl.gz")]):
        share = SHARES.get(corpus_of(manifest), 0.0)
        for line in read_objects(manifest):
            for copy in range(int(share + rng.random())):
                drawn.append((manifest, line, copy))
    with AudioReader() as reader:
        for at in rng.permutation(len(drawn)):
            manifest, line, copy = drawn[at]
            own = np.random.default_rng(zlib.crc32(f"{seed} {line['id']} {copy}".encode()))
            samples = (decode_int16(reader.read(parse_audio(line, manifest.parent))) / 32768).astype(np.float32)
            if len(samples) > LONGEST_S * SAMPLE_RATE:
                continue
            text = "" if corpus_of(manifest) in NOT_VERBATIM else line["text"]
            cut = own.random() < CUT
            yield Clip(f"{line['id']} {copy}", _varied(samples, own, cut), True, "" if cut else text)
            if own.random() < WITHOUT_SPEECH:
                yield Clip(f"{line['id']} {copy} none", _without_speech(own), False)


def _varied(samples: Samples, rng: np.random.Generator, cut: bool) -> Samples:
    if rng.random() < 0.5:
        samples = trim(samples, rng.uniform(0.02, 0.3))
    if rng.random() < AUGMENTED:
        samples = augment(samples, lambda: samples, rng)[: int(LONGEST_S * SAMPLE_RATE)]
    if cut:
        samples = samples[: int(len(samples) * rng.uniform(0.3, 0.95))]
    return np.pad(samples, (int(rng.uniform(0, 0.6) * SAMPLE_RATE), 0))


def _without_speech(rng: np.random.Generator) -> Samples:
    """Silence, noise, hum, tones, telephone tones, chimes or clicks of half a second to five."""
    count = int(rng.uniform(0.5, 5.0) * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    kind = rng.integers(6)
    out: NDArray[Any]
    if kind == 0:
        out = np.zeros(count)
    elif kind == 1:
        out = coloured_noise(count, rng.uniform(0, 2), rng)
    elif kind == 2:  # mains hum with overtones
        base = rng.choice([50.0, 60.0, 100.0])
        out = sum(np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) / k for k in range(1, 5))
    elif kind == 3:  # one or two steady or interrupted tones: dial, busy, ring, DTMF
        out = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(300, 1700, rng.integers(1, 3)))
        if rng.random() < 0.6:
            out = out * ((time % rng.uniform(0.2, 1.5)) < rng.uniform(0.1, 0.8))
    elif kind == 4:  # notes that fade, as of a chime or a plucked string
        out = np.zeros(count)
        for start in np.arange(0, count, int(rng.uniform(0.15, 0.6) * SAMPLE_RATE)):
            rest = time[: count - start]
            note = rng.uniform(200, 1500)
            tones = sum(np.sin(2 * np.pi * note * k * rest) / k**1.5 for k in (1, 2, 3))
            out[start:] += tones * np.exp(-rest * rng.uniform(3, 12))
    else:  # keys and knocks
        out = np.zeros(count)
        for start in rng.integers(0, count, rng.integers(2, 20)):
            length = min(count - start, int(rng.uniform(0.003, 0.03) * SAMPLE_RATE))
            out[start : start + length] += rng.standard_normal(length) * np.exp(-np.arange(length) / length * 4)
    out = out.astype(np.float32)
    out = out / (np.abs(out).max() + 1e-9) * 10 ** (-rng.uniform(3, 50) / 20)
    return (out + coloured_noise(count, 1.0, rng) * 10 ** (-rng.uniform(50, 80) / 20)).astype(np.float32)
