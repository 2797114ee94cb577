"""Speech for the demonstration: recordings shipped with it, else a synthesiser of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from asr.audio import Samples, read_container
from asr.extras import install_hint
from asr.text import normalize
from server.demo.espeak import espeak_wav

_TIMEOUT_S = 60


class SynthesisError(Exception):
    """Nothing here can speak the text. The message says what to install."""


class Speech(NamedTuple):
    """Float32 samples, samples a second, and what spoke them."""

    samples: Samples
    rate: int
    by: str


def speak(text: str) -> Speech:
    """A text as speech. Raises SynthesisError."""
    shipped = Path(__file__).parent / "audio" / (normalize(text).replace(" ", "_") + ".flac")
    if shipped.is_file():
        return Speech(*read_container(shipped.read_bytes()), "the project's own synthesis")
    for name, command in _COMMANDS.items():
        if shutil.which(name):
            wav = _run([*command, text])
            if wav is not None:
                return Speech(*read_container(wav), name)
    wav = espeak_wav(text)
    if wav is not None:
        return Speech(*read_container(wav), "espeak-ng (espeakng-loader)")
    raise SynthesisError(
        "no synthesiser for a text that the demo has no recording of; "
        f"install flite or espeak-ng, or run: {install_hint('synthesis')}"
    )


_COMMANDS = {
    "flite": ["flite", "-voice", "slt", "-o", "/dev/stdout", "-t"],
    "espeak-ng": ["espeak-ng", "-v", "en-us", "-s", "150", "--stdout", "--"],
}


def _run(command: list[str]) -> bytes | None:
    """Standard output of a synthesiser as a WAV file, or None when it does not work."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    try:
        read_container(done.stdout)
    except ValueError:
        return None
    return done.stdout
