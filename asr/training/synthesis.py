"""Synthesised training speech from what a machine has: espeak-ng and flite, many voices, names and commands.

Poor voices, but they say names that no corpus has, and they are what a demo without recordings speaks with.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.audio import SAMPLE_RATE
from asr.jsonl import text_lines, write_objects
from asr.text import normalize

ESPEAK_VOICES = [f"{accent}+{v}" for accent in ("en-us", "en-gb", "en-gb-scotland") for v in
                 ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")]  # fmt: skip
FLITE_VOICES = ["awb", "kal16", "rms", "slt"]
CARRIERS = ["{}"] * 6 + ["call {}", "{} please", "text {}", "i meant {}", "message {} please", "no {}", "phone {}"]


def of_train(name: str) -> bool:
    """Names are apart by hash: 8 is dev, 9 is test, the rest is for training."""
    return hashlib.md5(name.lower().encode()).digest()[0] % 10 < 8


def _column(path: Path, most: int) -> list[str]:
    return [line.split("\t")[0].strip() for line in text_lines(path)][1 : most + 1]


def spoken_commands(data: Path) -> Iterator[list[str]]:
    """The train commands of each file of DATA/text/commands, as they are written."""
    for path in sorted((data / "text/commands").glob("*.txt.gz")):
        yield [text for text, part, *_ in (line.split("\t") for line in text_lines(path)) if part == "train"]


def prose(data: Path) -> list[str]:
    """The prompts of DATA/text/prose, as they are written."""
    return [line.split("\t")[0] for line in text_lines(data / "text/prose/prompts.tsv.gz")]


def prompts(data: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Texts to say: half names alone and in short commands, half commands and prose; train parts only."""
    given = [n for n in _column(data / "text/names/given_names.tsv.gz", 4000) if of_train(n)]
    family = [n for n in _column(data / "text/names/surnames.tsv.gz", 8000) if of_train(n)]
    commands = [text for of_file in spoken_commands(data) for text in of_file] + prose(data)
    out: dict[str, None] = {}
    while len(out) < count:
        first, last = str(rng.choice(given)), str(rng.choice(family))
        name = [first, last, last, f"{first} {last}"][rng.integers(4)]
        spoken = str(rng.choice(CARRIERS)).format(name) if rng.random() < 0.5 else commands[rng.integers(len(commands))]
        text = normalize(spoken)
        if text and len(text) < 90 and of_train(f"{first} {last}"):
            out[text] = None
    return list(out)


def say(text: str, voice: str, speed: float, pitch: int) -> np.ndarray:
    """(n,) float32 at 16 kHz; voice is `espeak/NAME` or `flite/NAME`, speed 1 is usual, pitch 0 to 99 (espeak)."""
    engine, name = voice.split("/")
    if engine == "espeak":
        command = ["espeak-ng", "-v", name, "-s", str(int(165 * speed)), "-p", str(pitch), "--stdout", text]
        wave = subprocess.run(command, check=True, capture_output=True).stdout
    else:
        stretch = f"duration_stretch={1 / speed:.2f}"
        command = ["flite", "-voice", name, "--setf", stretch, "-t", text, "-o", "/dev/stdout"]
        wave = subprocess.run(command, check=True, capture_output=True).stdout
    start = wave.index(b"data") + 8  # streamed headers carry no length
    rate = int.from_bytes(wave[24:28], "little")
    samples = np.frombuffer(wave[start : start + (len(wave) - start) // 2 * 2], "<i2").astype(np.float32) / 32768
    return soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)


def synthesize(
    data: Path, out: Path, count: int, seed: int, progress: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Writes OUT/synthesis-train.jsonl.gz and its shard; returns what could not be said."""
    rng, failed, lines = np.random.default_rng(seed), [], []
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out / "synthesis-train-00.tar", "w") as tar:
        for i, text in enumerate(prompts(data, count, rng)):
            engine, voices = ("flite", FLITE_VOICES) if rng.random() < 0.3 else ("espeak", ESPEAK_VOICES)
            voice = f"{engine}/{rng.choice(voices)}"
            progress(i + 1)
            try:
                samples = say(text, voice, rng.uniform(0.8, 1.2), int(rng.integers(20, 80)))
            except (subprocess.CalledProcessError, ValueError) as error:
                failed.append(f"{voice}: {error}")
                continue
            flac = io.BytesIO()
            soundfile.write(flac, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            member = tarfile.TarInfo(f"synthesis-{i:05d}.flac")
            member.size = len(flac.getvalue())
            flac.seek(0)
            tar.addfile(member, flac)
            audio = {"shard": "synthesis-train-00.tar", "member": member.name}
            lines.append({"id": f"synthesis-{i:05d}", "audio": audio, "text": text, "speaker": voice,
                          "duration_s": len(samples) / SAMPLE_RATE, "source": voice.split("/")[0]})  # fmt: skip
    write_objects(out / "synthesis-train.jsonl.gz", lines)
    return failed
