"""Makes the recordings of a manifest anew as they come in by other ways: quiet, noisy, from a room, by telephone.

    python -m recipes.sets.conditions MANIFEST OUT [--conditions "-50 dBFS,-45 dBFS,…"] [--limit N] [--seed 0]

OUT gets a manifest of the same name, with each line once for every condition, and the recordings, 16 bit. `make`
becomes "an4 at -45 dBFS". Quiet recordings keep what 16 bits leave of them. Noise is between pink and brown, so far
below the speech where it is loudest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import track

from asr.audio import SAMPLE_RATE, Samples, read_at_16k
from asr.evaluation.jsonl import read_objects, write_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from recipes.acoustic.channels import NARROW, Channel, transmit
from recipes.acoustic.rooms import convolve, room_response

Condition = Callable[[Samples, np.random.Generator], Samples]
_FRAME = SAMPLE_RATE // 50


def _at(peak_dbfs: float) -> Condition:
    return lambda samples, rng: samples / (np.abs(samples).max() + 1e-9) * np.float32(10 ** (peak_dbfs / 20))


def _noise(snr_db: float) -> Condition:
    """Noise, as many dB below the loud frames of speech (95th percentile)."""

    def add(samples: Samples, rng: np.random.Generator) -> Samples:
        spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
        frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
        noise = np.fft.irfft(spectrum / np.maximum(frequency, 20) ** rng.uniform(0.5, 1), len(samples))
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        loud = np.percentile(np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1)), 95)
        return (samples + noise / noise.std() * loud * 10 ** (-snr_db / 20)).astype(np.float32)

    return add


def _through(channel: Channel) -> Condition:
    return lambda samples, rng: transmit(samples, channel, rng)


CONDITIONS: dict[str, Condition] = {
    **{f"{level} dBFS": _at(level) for level in (-50, -45, -20, 0)},
    **{f"{snr} dB noise": _noise(snr) for snr in (20, 10, 5)},
    "room": lambda samples, rng: convolve(samples, room_response(rng)),
    "telephone": _through(Channel(1, NARROW, "ULAW")),
    "GSM": _through(Channel(1, NARROW, "GSM610")),
    "Opus": _through(Channel(1, SAMPLE_RATE, "OPUS", "OGG", (8, 12))),
}
"""Peaks in dBFS; noise in dB below the speech; a room's echo; G.711, GSM full rate, Opus at 8 to 12 kbit/s."""


def remade(
    manifest: Path, out: Path, conditions: Sequence[str], limit: int | None, seed: int
) -> Iterator[dict[str, Any]]:
    """The lines of the new manifest; writes the recordings to OUT/audio. limit: so many of the lines, evenly spread."""
    lines = list(read_objects(manifest))
    chosen = range(len(lines)) if limit is None else np.linspace(0, len(lines) - 1, min(limit, len(lines))).astype(int)
    with AudioReader() as audio:
        for number in track(list(chosen), "remaking"):
            line = lines[number]
            samples = read_at_16k(audio.read(parse_audio(line, manifest.parent)))
            for condition in conditions:
                rng = np.random.default_rng([seed, number, *condition.encode()])
                name = f"{line['id']} at {condition}".replace("/", "-").replace(" ", "-")
                sound = CONDITIONS[condition](samples, rng)
                peak = max(1.0, float(np.abs(sound).max()))
                soundfile.write(out / "audio" / f"{name}.flac", sound / peak, SAMPLE_RATE)
                make = f"{line.get('make') or line.get('corpus') or manifest.stem} at {condition}"
                kept = {k: v for k, v in line.items() if k not in ("audio", "shard", "member")}
                yield kept | {"id": name, "path": f"audio/{name}.flac", "make": make}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="comma-separated; all are in the default")
    parser.add_argument("--limit", type=int, help="only so many lines, evenly spread")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    conditions = [name.strip() for name in args.conditions.split(",")]
    if unknown := [name for name in conditions if name not in CONDITIONS]:
        parser.error(f"condition {unknown[0]!r} is not known; use {', '.join(CONDITIONS)}")
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    lines = remade(args.manifest, args.out, conditions, args.limit, args.seed)
    write_objects(args.out / args.manifest.name, lines)


if __name__ == "__main__":
    main()
