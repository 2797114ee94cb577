"""Makes sets of answers to a question, spoken by several synthesisers.

    python -m recipes.sets.answers DATA OUT [--split dev] [--makes espeak,flite,festival,piper] [--each 4] [--seed 0]

Each synthesiser is a make: OUT gets a manifest for each, `answers-MAKE-SPLIT.jsonl`, and the recordings. Nothing is
known but the question and the entries that belong to the kind of turn (`turns.py`). Names of the splits are apart by
hash, and so are the voices. Constants may be fitted to `train`; `dev` is for choosing, `test` for reporting.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import track

from asr.audio import SAMPLE_RATE, Samples
from asr.evaluation.jsonl import write_objects
from recipes.sets.names import SPLITS, Names
from recipes.sets.turns import REQUESTS, Turn, makers
from recipes.synthesis.kokoro import Kokoro
from recipes.synthesis.voices import Engine, Espeak, Festival, Flite, Piper

VOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "espeak": ("en-us+m1", "en-gb+f2", "en-us+f4", "en-gb-x-gbclan", "en-us+m7"),
        "kokoro": ("af_bella", "am_adam", "bf_isabella", "bm_lewis", "af_nicole", "am_michael"),
    },
    "dev": {
        "espeak": ("en-us", "en-gb", "en-us+f3", "en-us-nyc"),
        "flite": ("slt", "kal16"),
        "festival": ("kal_diphone", "cmu_us_slt_arctic_hts"),
        "piper": ("en_US-joe-medium",),
        "kokoro": ("af_kore", "am_liam", "bf_alice", "bm_fable"),
    },
    "test": {
        "espeak": ("en-gb-x-rp", "en-us+m3", "en-gb-scotland", "en-029+f4"),
        "flite": ("rms", "awb"),
        "festival": ("ked_diphone",),
        "kokoro": ("af_sarah", "am_eric", "bf_emma", "bm_george"),
    },
}
"""By split, then by make. flite and festival have too few speakers for three splits; Piper's one voice is dev's."""


def engine(make: str, voices: Path | None, split: str) -> Engine:
    """The synthesiser of a make. voices: the folder with the files of Piper and Kokoro.

    Raises:
        ModelError: it is not installed, or its files are missing.
    """
    programs: dict[str, Callable[[], Engine]] = {"espeak": Espeak, "flite": Flite, "festival": Festival}
    if make in programs:
        return programs[make]()
    folder = voices or Path()
    return Kokoro(folder, VOICES[split][make]) if make == "kokoro" else Piper(folder / f"{VOICES[split][make][0]}.onnx")


def recorded(samples: Samples, rng: np.random.Generator) -> Samples:
    """As of a quiet room: a little silence around it, a level of −6 to −26 dBFS, noise 45 to 60 dB below."""
    samples = samples / (np.abs(samples).max() + 1e-9) * 10 ** (-rng.uniform(6, 26) / 20)
    samples = np.pad(samples, (int(rng.uniform(0.1, 0.5) * SAMPLE_RATE), int(rng.uniform(0.2, 0.5) * SAMPLE_RATE)))
    noise = rng.standard_normal(len(samples)) * np.abs(samples).max() * 10 ** (-rng.uniform(45, 60) / 20)
    return (samples + noise).astype(np.float32)


def context_of(turn: Turn, rng: random.Random) -> dict[str, Any]:
    """What is known before the answer, in the manifest's form."""
    request = rng.choice(REQUESTS) if turn.signal == "contacts" else "show me what there is"
    turns = [{"speaker": "user", "text": request}]
    turns += [{"speaker": "system", "text": turn.question}] if turn.question else []
    return {"turns": turns, "entities": [{"signal": turn.signal, "text": entry} for entry in turn.entries]}


def speak(names: Names, make: str, say: Engine, split: str, each: int, seed: int, out: Path) -> list[dict[str, Any]]:
    """The lines of a make's manifest; writes the recordings to OUT/audio. Every turn, its voice and its sound follow
    from the seed, the make, the kind and its number."""
    lines = []
    voices = VOICES[split][make]
    plan = [(kind, number) for kind in makers(names, random.Random()) for number in range(each)]
    for place, (kind, number) in enumerate(track(plan, make)):
        rng = random.Random(f"{seed} {split} {make} {kind} {number}")
        noise = np.random.default_rng(rng.getrandbits(64))
        turn, voice = makers(names, rng)[kind](), voices[place % len(voices)]
        samples = recorded(say.say(turn.spoken, voice, noise), noise)
        name = f"answers-{make}-{split}-{place:04}"
        soundfile.write(out / "audio" / f"{name}.flac", samples, SAMPLE_RATE)
        lines.append({
            "id": name, "path": f"audio/{name}.flac", "text": turn.text, "speaker": f"{make}/{voice}", "make": make,
            "set": kind.replace(",", ""),  # evaluate_wer --sets has commas between
            "target": turn.target, "context": context_of(turn, rng),
        })  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of docs/data.md")
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    parser.add_argument("--makes", default="espeak,flite,festival", help="also piper and kokoro, which need --voices")
    parser.add_argument("--voices", type=Path, help="folder with the files of Piper and Kokoro")
    parser.add_argument("--each", type=int, default=4, help="turns of each kind and make")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    makes = [make for make in args.makes.split(",") if make]
    if unknown := [make for make in makes if make not in VOICES[args.split]]:
        parser.error(f"no voices of {unknown[0]!r} for {args.split}; use {', '.join(VOICES[args.split])}")
    names = Names(args.data, args.split)
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    for make in makes:
        say = engine(make, args.voices, args.split)
        lines = speak(names, make, say, args.split, args.each, args.seed, args.out)
        write_objects(args.out / f"answers-{make}-{args.split}.jsonl", lines)


if __name__ == "__main__":
    main()
