"""Two server processes as one target, with one DynamoDB between them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from asr.acoustic.checkpoint import save_model
from carryover import aio
from carryover.connect import OPTIONS
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.context_pb2_grpc import ContextStub
from carryover.v1.recognizer_pb2_grpc import RecognizerStub
from tests.support.waiting import PATIENT, until

ROOT = Path(__file__).parents[2]


class Pair:
    """`run_replicas` with two servers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            self.said.append(line)
            if found := re.search(r"target for all of them: (\S+)", line):
                break
        else:
            raise AssertionError("".join(self.said))
        self.address = found[1]
        servers = re.findall(r"server \d: (127\.0\.0\.1:\d+), process (\d+)", "".join(self.said))
        self.servers = [(address, int(pid)) for address, pid in servers]
        threading.Thread(target=process.stderr.read, daemon=True).start()


@pytest.fixture
def pair(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Iterator[Pair]:
    save_model(tmp_path / "acoustic", tiny_model, tiny_tokenizer, "tiny")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CARRYOVER_")}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmarks.server.run_replicas"],
        env={**environ, **PATIENT, "PYTHONPATH": str(ROOT), "CARRYOVER_MODEL__WEIGHTS": str(tmp_path / "acoustic")},
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield Pair(process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def channel(address: str) -> grpc.Channel:
    """A connection of its own."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), *OPTIONS])


async def versions(address: str, calls: int) -> set[str]:
    """What the project's own client hears from a target, again and again."""
    async with aio.Client(address) as client:
        return {(await client.server_info()).model_version for _ in range(calls)}


def refuses(address: str) -> bool:
    """Does nobody take connections there?"""
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def ask(address: str, dialogue: str) -> None:
    events = [
        ctx.Event(event_id="1", utterance=ctx.Utterance(text="call meg")),
        ctx.Event(event_id="2", entities=ctx.Entities(signal="contacts", entries=["meg bauer", "meg jones"])),
        ctx.Event(event_id="3", expect_speech=ctx.ExpectSpeech()),
    ]
    with channel(address) as connection:
        request = ctx.RecordEventsRequest(dialogue_id=dialogue, turn_id="1", events=events)
        assert ContextStub(connection).RecordEvents(request, timeout=30).triggered


def answer(address: str, dialogue: str, pcm: bytes) -> pb.StreamingRecognitionResult:
    config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, dialogue_id=dialogue, turn_id="2")

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        yield pb.StreamingRecognizeRequest(config=config)
        yield pb.StreamingRecognizeRequest(audio=pcm)

    with channel(address) as connection:
        responses = list(RecognizerStub(connection).StreamingRecognize(messages(), timeout=60))
    return [result for response in responses for result in response.results if result.is_final][-1]


def answer_in_context(address: str, dialogue: str, pcm: bytes) -> pb.StreamingRecognitionResult:
    """The answer to a stream that the store was quick enough for; none waits for it."""
    finals: list[pb.StreamingRecognitionResult] = []

    def found() -> bool:
        finals.append(answer(address, dialogue, pcm))
        return finals[-1].context.status != pb.ContextInfo.NOT_READY

    until(found)
    assert len({final.context.plain_transcript for final in finals}) == 1
    return finals[-1]


def until_ready(address: str, dialogue: str) -> None:
    request = ctx.GetContextStatusRequest(dialogue_id=dialogue)
    with channel(address) as connection:
        context = ContextStub(connection)
        until(lambda: context.GetContextStatus(request, timeout=30).state == ctx.READY)


def test_any_replica_answers_any_turn_and_one_may_die(pair: Pair, pcm: bytes) -> None:
    (one, pid), (other, _) = pair.servers
    plain = answer(other, "unknown", pcm).alternatives[0].transcript
    ask(one, "d")
    until_ready(one, "d")
    until_ready(other, "d")
    for address in (one, other, pair.address, pair.address):
        info = answer_in_context(address, "d", pcm).context
        assert info.status == pb.ContextInfo.APPLIED
        assert info.plain_transcript == plain
    ask(pair.address, "e")  # either of them makes it
    os.kill(pid, signal.SIGKILL)
    until(lambda: refuses(one))  # while it dies, its port still takes connections
    assert len(asyncio.run(versions(pair.address, 6))) == 1
    for _ in range(4):
        final = answer(pair.address, "e", pcm)
        assert final.context.status in (pb.ContextInfo.APPLIED, pb.ContextInfo.NOT_READY)
        assert final.context.plain_transcript == plain
    until_ready(pair.address, "e")
    assert answer_in_context(pair.address, "e", pcm).context.status == pb.ContextInfo.APPLIED
