"""Says the commands of `benchmarks/home_assistant` with voices that no model was trained on.

python -m recipes.sets.home OUT --kokoro FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from rich.progress import track

from asr.audio import SAMPLE_RATE, Samples
from benchmarks.home_assistant.house import load_house
from recipes.synthesis.kokoro import HELD_OUT, Kokoro

_BEFORE_S, _BEHIND_S = 0.3, 0.5
"""Silence around a command, as satellites send it."""


def say_commands(out: Path, kokoro: Path, seed: int = 1) -> int:
    """Write OUT/NNN.wav and OUT/NNN.txt, one voice after the other; how many."""
    out.mkdir(parents=True, exist_ok=True)
    voices = sorted(HELD_OUT)
    speech, rng = Kokoro(kokoro, HELD_OUT), np.random.default_rng(seed)
    commands = load_house().commands
    for number, command in enumerate(track(commands)):
        said = speech.say(command, voices[number % len(voices)], rng)
        soundfile.write(out / f"{number:03}.wav", _padded(said), SAMPLE_RATE, subtype="PCM_16")
        (out / f"{number:03}.txt").write_text(f"{command}\n")
    return len(commands)


def _padded(samples: Samples) -> Samples:
    before, behind = (np.zeros(int(s * SAMPLE_RATE), np.float32) for s in (_BEFORE_S, _BEHIND_S))
    return np.concatenate([before, samples, behind])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kokoro", type=Path, required=True, help="folder of Kokoro's model and its pack of speakers")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(say_commands(given.out, given.kokoro, given.seed), "commands")
