"""Callers of the benchmark against a real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from benchmarks.server import benchmark_server
from benchmarks.server.waits import BenchmarkError, Clip, Waits, measure, mortal_store
from context_store import ContextStore, DialogueId, Event, Speak, StoreUnavailableError, local_wrapping_key
from context_store.local_server import local_config


def test_each_utterance_of_each_caller_is_measured(shared: Any, speech: Any) -> None:
    said: list[None] = []
    clips = [Clip.of(speech[:9_600], 16_000), Clip.of(speech[8000:24_000], 16_000)]
    waits = asyncio.run(measure(shared.port, clips, 2, 0.5, lambda: said.append(None), phrases=["meg bauer"]))
    assert len(waits.final) == len(said) >= 2
    assert all(wait > 0 for wait in waits.final)
    assert 0 < len(waits.first_partial) <= len(waits.final)


def test_the_same_again_in_dialogues(workshop: Any, speech: Any) -> None:
    replica, dead = workshop.start(), Waits()
    waits = asyncio.run(measure(replica.port, [Clip.of(speech[:9_600], 16_000)], 2, 0.1, lambda: None, dead))
    assert len(waits.final) == len(dead.final) == 2
    metrics = replica.server.metrics.context
    results = {s.labels["status"]: s.value for f in metrics.collect() for s in f.samples if s.name.endswith("_total")}
    assert results.pop("NOT_REQUESTED") >= 2
    assert results.keys() <= {"NOT_FOUND", "NOT_READY"} and sum(results.values()) >= 2


def test_a_store_that_dies() -> None:
    with mortal_store() as (settings, die):
        config = local_config(settings["CARRYOVER_STORE__ENDPOINT"], max_attempts=1)
        store = ContextStore(config, local_wrapping_key())
        store.record(DialogueId("t", "d"), "1", [Event("1", 0.0, Speak())])
        die()
        with pytest.raises(StoreUnavailableError):
            store.dialogue_status(DialogueId("t", "d"))
        store.close()


def test_no_server_is_an_error_in_words(speech: Any) -> None:
    with pytest.raises(BenchmarkError, match="UNAVAILABLE"):
        asyncio.run(measure(1, [Clip.of(speech[:1600], 16_000)], 1, 0.1, lambda: None))


@pytest.fixture
def short(speech: Any, tmp_path: Path) -> str:
    soundfile.write(tmp_path / "short.wav", speech[:9_600], 16_000)
    return str(tmp_path / "short.wav")


def test_ever_more_streams_until_they_wait_too_long(short: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert benchmark_server.next_number(8, 149.0, 150.0) == 16
    assert benchmark_server.next_number(8, 151.0, 150.0) is None and benchmark_server.next_number(8, 1.0, None) is None
    monkeypatch.setattr(benchmark_server, "MOST_STREAMS", 2)
    command = ["--streams", "1", "--seconds", "1", "--audio", short, "--until-ms", "60000"]
    result = CliRunner().invoke(benchmark_server.app, command)
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["streams"]) == ["1", "2"]


def test_a_device_that_is_not_there(short: str) -> None:
    result = CliRunner().invoke(benchmark_server.app, ["--device", "banana", "--audio", short])
    assert result.exit_code == 2 and "device 'banana' cannot be used" in result.stderr
