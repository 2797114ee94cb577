"""Makes recordings in which nobody says anything: ten minutes of each kind.

    python -m recipes.sets.non_speech OUT [--data DATA --split dev] [--real FOLDER ...] [--minutes 10] [--seed 0]

OUT gets `non-speech.jsonl`, lines with an empty text whose `make` is the kind, and the recordings, a minute each.
`sounds.py` makes most kinds by rule. With --data there is babble of six to ten voices of the split's speakers, in which
no word can be made out; with --real also the sound files of a folder and those below, whose name is the kind
(`README.md`). Levels are -6 to -30 dBFS peak, over a noise floor 50 to 70 dB below. No model is trained on these
recordings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from rich.progress import track

from asr.audio import SAMPLE_RATE, read_at_16k
from asr.evaluation.jsonl import read_objects, write_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from recipes.sets.names import SPLITS
from recipes.sets.sounds import KINDS, Maker, Signal

LENGTH_S = 60
CORPORA = ("librispeech", "speechocean762", "an4")
_SOUNDS = (".wav", ".ogg", ".oga", ".flac")
_SPOKEN = "audio-channel"
"""Files of the desktop's sound theme in which somebody says which loudspeaker it is."""


def babble(data: Path, split: str) -> Maker:
    """Six to ten people at once, equally loud on average, each saying one thing after another."""
    speech: list[Signal] = []
    with AudioReader() as audio:
        for corpus in CORPORA:
            folder = data / "speech" / corpus
            for line in list(read_objects(folder / f"{corpus}-{split}.jsonl.gz"))[::3]:
                speech.append(read_at_16k(audio.read(parse_audio(line, folder))).astype(np.float64))

    def make(rng: np.random.Generator, n: int) -> Signal:
        out = np.zeros(n)
        for _ in range(rng.integers(6, 11)):
            said = np.concatenate([speech[i] / (speech[i].std() + 1e-9) for i in rng.integers(0, len(speech), 40)])
            out += np.roll(np.resize(said, n), rng.integers(n))
        return out

    return make


def files_of(folder: Path) -> Maker:
    """The sound files of a folder, one after another, short ones with pauses between."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix in _SOUNDS and not p.name.startswith(_SPOKEN))
    sounds = [sound for path in paths if np.abs(sound := _read(path)).max(initial=0) > 1e-3]

    def make(rng: np.random.Generator, n: int) -> Signal:
        parts: list[Signal] = []
        while sum(map(len, parts)) < n:
            sound = sounds[rng.integers(len(sounds))].astype(np.float64)
            start = rng.integers(0, max(1, len(sound) - n))
            pause = np.zeros(int(rng.uniform(0.2, 2.0) * SAMPLE_RATE))
            parts += [sound[start : start + n] / np.abs(sound).max(), pause]
        return np.concatenate(parts)[:n]

    return make


def _read(path: Path) -> Signal:
    """A file of any rate, its channels mixed, at 16 kHz."""
    samples, rate = soundfile.read(path, always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE))


def heard(sound: Signal, rng: np.random.Generator) -> Signal:
    """At a level, over a floor of noise; digital silence stays what it is."""
    peak = np.abs(sound).max()
    if peak == 0:
        return sound
    level = 10 ** (-rng.uniform(6, 30) / 20)
    return level * (sound / peak + rng.standard_normal(len(sound)) * 10 ** (-rng.uniform(50, 70) / 20))


def make_all(kinds: dict[str, Maker], out: Path, minutes: int, seed: int) -> Iterator[dict[str, Any]]:
    """The manifest's lines; writes the recordings to OUT/audio. Each follows from the seed, its kind and its number."""
    for kind, maker in track(kinds.items(), "making"):
        for number in range(minutes):
            rng = np.random.default_rng([seed, number, *kind.encode()])
            name = f"{kind.lower().replace(' ', '-')}-{number:02}"
            sound = heard(maker(rng, LENGTH_S * SAMPLE_RATE), rng)
            soundfile.write(out / "audio" / f"{name}.flac", sound.clip(-1, 1), SAMPLE_RATE)
            yield {
                "id": name, "path": f"audio/{name}.flac", "text": "", "speaker": "nobody", "duration_s": LENGTH_S,
                "make": kind, "set": "no speech", "target": None,
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="the folder of docs/data.md, for babble")
    parser.add_argument("--split", choices=("dev", "test"), default="dev", help="whose voices babble")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="folders with sound files")
    parser.add_argument("--minutes", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kinds = dict(KINDS)
    if args.data:
        kinds["babble"] = babble(args.data, args.split)
    kinds |= {folder.name: files_of(folder) for folder in args.real}
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    seed = [*SPLITS].index(args.split) + len(SPLITS) * args.seed
    write_objects(args.out / "non-speech.jsonl", make_all(kinds, args.out, args.minutes, seed))


if __name__ == "__main__":
    main()
