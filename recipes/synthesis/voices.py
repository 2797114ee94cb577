"""Voices for training speech: espeak-ng, flite and festival as programs, Piper as a library (the `synthesis` extra).

Kokoro's are in `kokoro.py`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr

from asr.audio import SAMPLE_RATE, Samples
from asr.errors import ModelError
from asr.extras import install_hint


class Engine(Protocol):
    """A synthesiser. share: how often it speaks, beside others."""

    @property
    def name(self) -> str: ...

    @property
    def voices(self) -> Sequence[str]: ...

    @property
    def share(self) -> float: ...

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        """(n,) at 16 kHz, at a random speed and pitch.

        Raises:
            ValueError, subprocess.CalledProcessError: it cannot say that.
        """
        ...


class Espeak:
    """Poor voices, but they say names that no corpus has, and they are what a demo without recordings speaks with."""

    name, share = "espeak", 0.7
    voices = tuple(f"{accent}+{variant}" for accent in ("en-us", "en-gb", "en-gb-scotland") for variant in
                   ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5"))  # fmt: skip

    def __init__(self) -> None:
        _need_program("espeak-ng")

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        speed, pitch = str(int(165 * rng.uniform(0.8, 1.2))), str(rng.integers(20, 80))
        return _run(["espeak-ng", "-v", voice, "-s", speed, "-p", pitch, "--stdout", text])


class Flite:
    name, share = "flite", 0.3
    voices = ("awb", "kal16", "rms", "slt")

    def __init__(self) -> None:
        _need_program("flite")

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        stretch = f"duration_stretch={1 / rng.uniform(0.8, 1.2):.2f}"
        return _run(["flite", "-voice", voice, "--setf", stretch, "-t", text, "-o", "/dev/stdout"])


class Festival:
    """The English voices that are installed: HTS (festvox-us-slt-hts) and diphones (festvox-kallpc16k, -kdlpc16k).

    Raises:
        ModelError: festival is missing, or has no English voice.
    """

    name, share = "festival", 0.3
    _ENGLISH = ("cmu_us_", "nitech_us_", "kal_", "ked_", "rab_", "don_")

    def __init__(self) -> None:
        _need_program("festival")
        printed = subprocess.run(["festival", "-b", "(print (voice.list))"], capture_output=True, text=True).stdout
        self.voices = tuple(sorted(v for v in re.findall(r"\w+", printed) if v.startswith(self._ENGLISH)))
        if not self.voices:
            raise ModelError("festival has no English voice: install the Debian package festvox-us-slt-hts")

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        rate, shift = rng.uniform(0.8, 1.2), rng.uniform(-3, 3)
        how = f"(Parameter.set 'Duration_Stretch {1 / rate:.2f})"
        if voice.endswith("_hts"):  # speed, and half-tones
            how = f'(set! hts_engine_params (append hts_engine_params \'(("-r" {rate:.2f}) ("-fm" {shift:.1f}))))'
        return _run(["text2wave", "-eval", f"(voice_{voice})", "-eval", how], text)


class Piper:
    """One voice of Piper (VITS), from its ONNX file beside its .onnx.json.

    Raises:
        ModelError: piper-tts or the voice is missing.
    """

    name, share = "piper", 1.0

    def __init__(self, path: Path) -> None:
        try:
            from piper import PiperVoice
        except ImportError as error:
            raise ModelError(f"piper-tts is not installed: {install_hint('synthesis')}") from error
        if not path.exists() or not path.with_name(path.name + ".json").exists():
            raise ModelError(f"{path}: give a Piper voice's .onnx file, with its .onnx.json beside it")
        self.voices = (path.stem,)
        self._voice = PiperVoice.load(path)

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        from piper import SynthesisConfig

        how = SynthesisConfig(
            length_scale=rng.uniform(0.8, 1.25), noise_scale=rng.uniform(0.4, 0.9), noise_w_scale=rng.uniform(0.5, 1.0)
        )
        chunks = list(self._voice.synthesize(text, how))
        if not chunks:
            raise ValueError("nothing to say")
        samples = np.concatenate([chunk.audio_float_array for chunk in chunks])
        return soxr.resample(samples, chunks[0].sample_rate, SAMPLE_RATE).astype(np.float32)


def _need_program(name: str) -> None:
    if shutil.which(name) is None:
        raise ModelError(f"{name} not found: install the Debian package of that name")


def _run(command: list[str], text: str = "") -> Samples:
    """What a program that reads `text` writes to standard output: a WAV file whose header may carry no length."""
    wave = subprocess.run(command, check=True, capture_output=True, input=text.encode()).stdout
    start = wave.index(b"data") + 8
    rate = int.from_bytes(wave[24:28], "little")
    samples = np.frombuffer(wave[start : start + (len(wave) - start) // 2 * 2], "<i2").astype(np.float32) / 32768
    return soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)
