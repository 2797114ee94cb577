"""Floods: each is what it says, a server in order refuses it, and the soak sees the harm that it does."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import soundfile
from google.protobuf.message import DecodeError
from typer.testing import CliRunner

from benchmarks.server import soak
from benchmarks.server.baseline import BaselineRecognizer
from benchmarks.server.dialogues import stream_config
from benchmarks.server.floods import DECODED_BYTES, FLOODS, Flood, Target
from benchmarks.server.hostile_soak import Outcome, Siege, Waits, judge
from benchmarks.server.processes import ServerProcess
from benchmarks.server.waits import Clip
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb
from server.access import make_key
from server.app import Parts

SIZE = 1 << 20
MOST_GROWTH_MB = 600.0


def flood(name: str) -> Flood:
    (found,) = [flood for flood in FLOODS if flood.name == name]
    return found


def test_each_flood_is_what_it_says() -> None:
    with pytest.raises(DecodeError):
        pb.RecognizeRequest.FromString(flood("malformed").make(SIZE))
    unknown = pb.RecognizeRequest.FromString(flood("unknown-fields").make(SIZE))
    assert not unknown.ListFields() and unknown.ByteSize() > SIZE - 3
    events = ctx.RecordEventsRequest.FromString(flood("events").make(SIZE))
    assert len(events.events) == SIZE // 2 and events.dialogue_id and events.turn_id
    turns = ctx.RescoreRequest.FromString(flood("turns").make(SIZE))
    assert len(turns.context.turns) == SIZE // 2 and len(turns.nbest) == 1
    phrases = pb.StreamingRecognizeRequest.FromString(flood("empty-phrases").make(SIZE))
    assert len(phrases.config.speech_contexts[0].phrases) == SIZE // 2
    requests = [pb.RecognizeRequest.FromString(sent) for sent in flood("digit-phrases").make(SIZE)]
    lists = [request.config.speech_contexts[0].phrases for request in requests]
    assert len(lists) == 8 and {len(phrases) for phrases in lists} == {5000}
    assert len({phrase for phrases in lists for phrase in phrases}) == 40_000
    assert max(len(phrase) for phrases in lists for phrase in phrases) <= 100  # none is refused for its length


def test_a_long_file_is_small() -> None:
    sent = flood("long-flac").make(SIZE)
    info = soundfile.info(io.BytesIO(pb.RecognizeRequest.FromString(sent).audio))
    assert info.channels == 8 and info.duration > 60 and len(sent) < 50_000


@pytest.fixture
def keyed(workshop: Any, tmp_path: Path) -> tuple[Any, Target]:
    """A replica's client of one tenant, and another's way to it."""
    keys = {tenant: make_key(tenant) for tenant in ("probe", "flood")}
    (tmp_path / "keys").write_text("".join(f"{line}\n" for _, line in keys.values()))
    replica = workshop.start(access__keys_file=str(tmp_path / "keys"))
    client = replica.with_key(keys["probe"][0])
    client.key = keys["probe"][0]
    return client, Target(replica.port, keys["flood"][0])


def resident_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say what memory is held")
@pytest.mark.parametrize("name", ["malformed-4", "events-4", "turns", "unknown-fields", "empty-phrases"])
def test_a_flood_costs_nobody_a_stream(keyed: tuple[Any, Target], pcm: bytes, name: str) -> None:
    """By counts, not by time: what the machine is busy with does not matter."""
    client, target = keyed
    expected, before, sent = client.finals(pcm), resident_mb(), flood(name).make(DECODED_BYTES)
    over, peak = threading.Event(), 0.0

    def streams() -> list[Any]:
        heard = [client.finals(pcm)]
        while not over.is_set():
            heard.append(client.finals(pcm))
        return heard

    with ThreadPoolExecutor(1) as pool:
        speaking = pool.submit(streams)
        answers = asyncio.run(flood(name).once(target, sent))
        peak = max(peak, resident_mb())
        over.set()
        assert all(finals == expected for finals in speaking.result())
    assert answers.keys() <= flood(name).statuses, answers
    assert peak - before < MOST_GROWTH_MB


class InThisProcess:
    """For a server that runs in this process."""

    pid = os.getpid()

    def poll(self) -> None:
        return None


def test_the_soak_sees_what_a_flood_does_to_others(
    keyed: tuple[Any, Target], tmp_path: Path, speech: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, target = keyed
    (tmp_path / "key").write_text(client.key)
    clip, server = Clip(speech[:8000], 16_000, 0.0), client.server
    parts = Parts(server.scheduler.recognizer, client.encoder, client.rescorer, server.store.store, client.clock)
    with BaselineRecognizer.open(parts, server.settings) as baseline:
        texts = asyncio.run(baseline.texts(clip.samples, stream_config(clip), None))
    process: Any = ServerProcess(InThisProcess(), target.port, "")  # type: ignore[arg-type]
    siege = Siege(process, target, tmp_path / "key", clip, texts)
    idle = asyncio.run(siege.idle(0.5))
    assert idle.streams and idle.statuses == {"OK": idle.streams} and not idle.wrong_results

    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(server.scheduler, "open", broken)
    harmed = asyncio.run(siege.flooded(flood("idle-connections"), 0.5, idle))
    assert harmed.answers.keys() == {"OPENED"} and 0 < harmed.memory_mb["before"] <= harmed.memory_mb["peak"]
    assert harmed.probe.without_status == harmed.probe.streams
    assert any("did not end with OK" in problem for problem in harmed.problems)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, ""),
        ({"p95_ms": 300.0}, ""),  # 1.5 times 200
        ({"p95_ms": 301.0}, "p95 of 301 ms is above 300 ms"),
        ({"p95_ms": None}, "no stream"),
        ({"statuses": {"OK": 9, "CANCELLED": 1}}, "1 of the probe's 10 streams"),
        ({"wrong_results": 2}, "2 results"),
        ({"after": 111.0}, "memory stays at 111 MB, 100 before"),
        ({"answers": {"OK": 3}}, "ended with OK"),
    ],
)
def test_what_counts_as_harm(changed: dict[str, Any], named: str) -> None:
    usual = {"p95_ms": 210.0, "statuses": {"OK": 10}, "wrong_results": 0, "after": 109.0}
    is_ = {**usual, "answers": {"INVALID_ARGUMENT": 3}, **changed}
    idle = Waits(10, 100.0, 200.0, 0, 0, {"OK": 10})
    probe = Waits(10, 100.0, is_["p95_ms"], 0, is_["wrong_results"], is_["statuses"])
    memory = {"before": 100.0, "peak": 500.0, "after": is_["after"]}
    problems = judge(Outcome("events", "", probe, is_["answers"], memory, []), idle, flood("events"))
    assert [named in problem for problem in problems] == [True] * bool(named)


def test_an_idle_server_that_is_quick_may_become_slower() -> None:
    """Where 1.5 times what it takes is still nothing that anybody would notice."""
    idle, probe = Waits(9, 20.0, 40.0, 0, 0, {"OK": 9}), Waits(9, 100.0, 249.0, 0, 0, {"OK": 9})
    memory = dict.fromkeys(("before", "peak", "after"), 100.0)
    assert judge(Outcome("turns", "", probe, {}, memory, []), idle, flood("turns")) == []


def test_a_flood_that_there_is_not() -> None:
    result = CliRunner().invoke(soak.app, ["--hostile", "--floods", "events,rain"])
    assert result.exit_code == 2 and "rain" in result.output
