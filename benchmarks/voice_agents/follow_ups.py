"""Is each answer recognised with the context of the question, and how early is the question known?

Dialogues of two turns, with a reply of 2 s that a speech synthesis speaks in between, in a voice-agent framework that
runs in an environment of its own. README.md has the commands.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import soundfile
import typer

from benchmarks.server.processes import server_process

ROOT = Path(__file__).parents[2]
app = typer.Typer(add_completion=False, help=__doc__)


class FollowUp(NamedTuple):
    """What is said: recordings of server/demo/audio, and the names of which the question asks."""

    first: str
    answer: str
    names: tuple[str, str]

    @property
    def question(self) -> str:
        """What the assistant asks."""
        return f"Do you mean {self.names[0]} or {self.names[1]}?"


FOLLOW_UPS = (
    FollowUp("call_meg", "bauer", ("Meg Jones", "Meg Bauer")),
    FollowUp("call_sam", "taylor", ("Sam Taylor", "Sam Miller")),
    FollowUp("call_sam", "miller", ("Sam Taylor", "Sam Miller")),
)


@contextmanager
def recordings() -> Iterator[Path]:
    """The folder of the recordings as WAV files."""
    with tempfile.TemporaryDirectory() as folder:
        for name in {name for one in FOLLOW_UPS for name in (one.first, one.answer)}:
            samples, rate = soundfile.read(ROOT / f"server/demo/audio/{name}.flac", dtype="int16")
            soundfile.write(Path(folder, f"{name}.wav"), samples, rate, subtype="PCM_16")
        yield Path(folder)


def hold(python: Path, framework: str, count: int) -> Iterator[dict[str, Any]]:
    """Hold dialogues one after the other."""
    program = Path(__file__).parent / f"{framework}_dialogues.py"
    with server_process({"CARRYOVER_STORE__ENDPOINT": "local"}) as server, recordings() as folder:
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [python, program], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        ) as agent:
            assert agent.stdin and agent.stdout
            for number in range(count):
                one = FOLLOW_UPS[number % len(FOLLOW_UPS)]
                call = {
                    "server": f"127.0.0.1:{server.port}",
                    "recordings": [str(folder / f"{name}.wav") for name in (one.first, one.answer)],
                    "question": one.question,
                    "names": one.names,
                }
                print(json.dumps(call), file=agent.stdin, flush=True)
                yield json.loads(agent.stdout.readline())
            agent.stdin.close()


def percentiles(values: list[float], *which: int) -> str:
    """Of seconds, in words."""
    found = ", ".join(f"{np.percentile(values, one):.3f} s (p{one})" for one in which)
    return f"{found}, {max(values):.3f} s (most)"


@app.command()
def main(
    framework: Annotated[str, typer.Argument(help="pipecat or livekit")],
    python: Annotated[Path, typer.Option(help="Python of an environment with the framework and its plugin")],
    dialogues: Annotated[int, typer.Option(help="so many")] = 50,
) -> None:
    """Hold dialogues and print what came of them."""
    held = []
    for one in hold(python, framework, dialogues):
        held.append(one)
        print(json.dumps(one), flush=True)
    statuses = [one["finals"][-1][1] for one in held]
    print(f"answers with their context: {statuses.count('APPLIED')} of {len(held)}")
    print(f"the reply's text recorded: {percentiles([one['recorded'] for one in held], 50, 99)} behind its end")
    print(f"its context ready: {percentiles([one['ready'] for one in held], 50, 99)} behind it")
    early = [one["playback_ended"] - one["recorded"] for one in held]
    print(f"recorded before playback ended: at least {min(early):.2f} s")
    ttfs = [value for one in held for value in one.get("ttfs", [])]
    if ttfs:
        print(f"end of speech to final transcript: {percentiles(ttfs, 50, 99)}, {len(ttfs)} utterances")


if __name__ == "__main__":
    app()
