"""The client alone, installed beside the oldest and the newest grpcio and protobuf that it may meet."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.registry import environment_with, skip_where_out_of_reach

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients/python"
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
MOST_MB, MOST_S = 40, 0.5
LOWEST = [one.split(">=") for one in PROJECT["dependencies"]]
OLDEST, NEWEST = "oldest", "newest"


@cache
def python_with(end: str) -> Path:
    """The Python of an environment with the dependencies, nothing else."""
    with skip_where_out_of_reach():
        if end == OLDEST:
            return environment_with([f"{name}=={version}.*" for name, version in LOWEST])
        return environment_with(PROJECT["dependencies"], made_in=f"{date.today():%Y-%m}")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the client's wheel is installed in."""
    folder = tmp_path_factory.mktemp("client")
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    command = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
    subprocess.run([*pip, *command, str(folder / "source")], check=True, capture_output=True)
    return folder / "site"


def run(python: Path, site: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [str(python), *arguments], cwd=site, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not re.search("Warning|Traceback|Exception|never", done.stderr), done.stderr
    return done.stdout


@pytest.mark.parametrize("end", [OLDEST, NEWEST])
def test_a_dialogue_at_either_end(workshop: Any, pcm: bytes, installed: Path, tmp_path: Path, end: str) -> None:
    replica = workshop.start(limits__stream_seconds=4)
    (tmp_path / "pcm").write_bytes(pcm)
    program = str(Path(__file__).parent / "either_end.py")
    told = json.loads(run(python_with(end), installed, program, f"127.0.0.1:{replica.port}", str(tmp_path / "pcm")))
    if end == OLDEST:
        assert [told["versions"][name].startswith(f"{version}.") for name, version in LOWEST] == [True, True]
    finals = [final.alternatives[0].transcript for final in replica.finals(pcm, chunk=3200)]
    assert told["threads"] == told["asyncio"]
    assert told["threads"][: len(finals)] == finals and "READY" in told["threads"]
    assert told["threads"][-7:-2] == ["RESOURCE_EXHAUSTED"] * 5
    assert told["threads"][-2] and told["threads"][-1] == "Partial"


def test_it_needs_nothing_but_grpc_and_protobuf() -> None:
    assert sorted(name for name, _ in LOWEST) == ["grpcio", "protobuf"]


def test_it_is_small_and_imports_fast(installed: Path) -> None:
    """With its dependencies; what `du -sm` and `python -X importtime` say."""
    python = python_with(NEWEST)
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    files = [file for folder in (site, installed) for file in folder.rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files if "__pycache__" not in file.parts) / 1e6
    timed = "import time; t = time.process_time(); import carryover, carryover.aio; print(time.process_time() - t)"
    seconds = min(float(run(python, installed, "-c", timed)) for _ in range(3))
    assert megabytes <= MOST_MB, f"{megabytes:.0f} MB"
    assert seconds < MOST_S, f"{seconds:.2f} s"


TYPED = """
from carryover import Client, Final, SpeechBegin, Stream, Result, aio
for result in Client().stream("a.wav"):
    print(result.transcript + (result.context.status if isinstance(result, Final) else ""))
stream: Stream[Result] = Client().stream(dialogue="d", phrases={"a": 1.0})
stream.update(turn="2")
for item in Client().stream(voice_activity_events=True, dialogue="d"):
    print(item.time_s if isinstance(item, SpeechBegin) else item)
async def hear(stream: aio.Stream[Result]) -> str:
    await stream.finalize()
    return [result.transcript async for result in stream][0]
"""
UNTYPED = """
from carryover import Client
for result in Client().stream("a.wav"):
    print(result.context.status, Client().record("d", "1", users="call meg"))
for item in Client().stream(voice_activity_events=True):
    print(item.transcript)
Client().stream("a.wav", dialog="d")
"""


def test_its_types_are_for_everybody(installed: Path, tmp_path: Path) -> None:
    """With what is installed, `mypy --strict` takes what is right and finds what is wrong in a program that uses it."""
    assert (installed / "carryover/v1/context_pb2.pyi").is_file() and not (installed / "generate_stubs.py").exists()
    (tmp_path / "right.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(UNTYPED)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site / "client.pth").write_text(f"{installed}\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    command += ["--python-executable", str(tmp_path / "venv/bin/python")]
    done = [
        subprocess.run([*command, f"{name}.py"], cwd=tmp_path, capture_output=True, text=True)
        for name in ("right", "wrong")
    ]
    assert done[0].returncode == 0, done[0].stdout
    assert done[1].returncode == 1
    assert all(f'"{wrong}"' in done[1].stdout for wrong in ("context", "users", "transcript", "SpeechBegin"))
    assert "No overload variant" in done[1].stdout  # of `dialog`
