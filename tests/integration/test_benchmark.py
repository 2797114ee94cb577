"""Callers of the benchmark against a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.benchmark import BenchmarkError, Clip, measure


def test_each_utterance_of_each_caller_is_measured(shared: Any, speech: Any) -> None:
    said: list[None] = []
    clips = [Clip.of(speech[:9_600], 16_000), Clip.of(speech[8000:24_000], 16_000)]
    waits = asyncio.run(measure(shared.port, clips, 2, 0.5, lambda: said.append(None)))
    assert len(waits.final) == len(said) >= 2
    assert all(wait > 0 for wait in waits.final)
    assert 0 < len(waits.first_partial) <= len(waits.final)


def test_no_server_is_an_error_in_words(speech: Any) -> None:
    with pytest.raises(BenchmarkError, match="UNAVAILABLE"):
        asyncio.run(measure(1, [Clip.of(speech[:1600], 16_000)], 1, 0.1, lambda: None))
