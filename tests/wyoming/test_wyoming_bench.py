"""A third party's benchmark, `wyoming-bench`, in an environment of its own: through the bridge as through a stream."""

from __future__ import annotations

import asyncio
import json
import re
import wave
from pathlib import Path
from typing import Any

import pytest

from asr.audio import SAMPLE_RATE, read_at_16k
from asr.evaluation.wer import Errors, align_words, count
from carryover import Final, aio
from carryover.audio import linear16
from tests.support.registry import environment_with, skip_where_out_of_reach
from tests.wyoming.conftest import bridge, run

BENCH = ("wyoming-bench==2026.10.0",)
PROGRAM = "from wyoming_bench.cli import main; main()"
"""What the command `wyoming-bench` does; its file has the place that the environment was made in."""
SAMPLES = Path(__file__).parents[2] / "samples"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> Path:
    """The Python of its environment."""
    with skip_where_out_of_reach():
        return environment_with(BENCH)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All recordings of samples/, as WAV files with their texts."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = [line for name in ("people", "followups") for line in (SAMPLES / f"{name}.jsonl").read_text().splitlines()]
    for number, utterance in enumerate(map(json.loads, lines)):
        samples = read_at_16k((SAMPLES / utterance["audio"]["path"]).read_bytes())
        with wave.open(str(folder / f"{number:02}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes(linear16(samples))
        (folder / f"{number:02}.txt").write_text(utterance["text"])
    return folder


def words(text: str) -> list[str]:
    """As the benchmark counts them."""
    return re.sub(r"[^\w\s]", " ", text.lower()).split()


async def stream_errors(client: aio.Client, corpus: Path) -> Errors:
    """Of gRPC's stream on the same files."""
    errors = Errors()
    for path in sorted(corpus.glob("*.wav")):
        async with client.stream(path) as stream:
            finals = [result.transcript async for result in stream if isinstance(result, Final)]
        errors += count(align_words(words(path.with_suffix(".txt").read_text()), words(" ".join(finals))))
    return errors


def test_the_word_error_rate_is_the_streams(bench: Path, corpus: Path, shipped: Any) -> None:
    async def work() -> None:
        async with bridge(shipped.port) as running:
            expected = await stream_errors(running.client, corpus)
            arguments = ["--corpus", corpus, "--rounds", "1", "--warmup", "0", "--trailing-silence", "0"]
            process = await asyncio.create_subprocess_exec(
                bench,
                "-c",
                PROGRAM,
                "stt",
                f"127.0.0.1:{running.port}",
                *map(str, arguments),
                stdout=asyncio.subprocess.PIPE,
            )
            output = (await process.communicate())[0].decode()
            assert process.returncode == 0, output
            for mode in ("non_streaming", "streaming"):
                report = output.split(f"[{mode}] ok={len(list(corpus.glob('*.wav')))} fail=0")[1]
                edits = re.search(r"edits S=(\d+) I=(\d+) D=(\d+) +\(ref words=(\d+)\)", report)
                assert edits, output
                *counted, total = map(int, edits.groups())
                assert (sum(counted), total) == (expected.total, expected.words), mode
            assert expected.rate < 0.3

    run(work(), 300)
