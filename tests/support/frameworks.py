"""The voice-agent frameworks that tests run, in environments of their own, and our distributions beside them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CLIENTS = Path(__file__).parents[2] / "clients"
PIPECAT = ("pipecat-ai==1.14.0", "nvidia-riva-client==2.28.0")
"""Pipecat, with what its service for NVIDIA needs: one environment for all tests of it."""
LIVEKIT = ("livekit-plugins-nvidia==1.8.9", "livekit-plugins-openai==1.8.9")
"""LiveKit Agents, with its plugins for NVIDIA and OpenAI: likewise."""


def install(folder: Path, *distributions: str) -> Path:
    """The folder that our distributions are installed in, as a wheel has them, without what they need."""
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    command = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    for name in distributions:
        source = folder / name
        left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(CLIENTS / name, source, ignore=left_out)
        subprocess.run([*pip, *command, str(source)], check=True, capture_output=True)
    return site
