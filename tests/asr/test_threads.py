"""Recognition computes with one thread, whoever calls it, and leaves the caller's number of threads as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from asr.context.checkpoint import ContextModels
from asr.context.types import Context, Entry
from asr.decoding import BoostedPhrase
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Hypothesis
from asr.threads import one_thread


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch as a user's program has it: two threads, and none asked for in the environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load()


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers of threads that torch had in its matrix products, transforms and joins."""
    seen: set[int] = set()

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            seen.add(torch.get_num_threads())
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in ((torch.fft, "rfft"), (torch.nn.functional, "linear"), (torch.nn.functional, "layer_norm"),
                        (torch.nn.functional, "conv1d"), (torch, "cat"), (torch, "stack")):  # fmt: skip
        watch(owner, name)
    return seen


def test_a_stream_and_what_is_asked_of_its_result(recognizer: Recognizer, two_threads: None, used: set[int]) -> None:
    speech = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    result = recognizer.recognize(speech)
    assert result.encoded is not None
    recognizer.force_score(result.encoded, ["call meg"])
    recognizer.with_context(result, recognizer.compile([BoostedPhrase("meg bauer", 5.0)]))
    assert used == {1} and torch.get_num_threads() == 2


def test_an_error_leaves_the_threads_as_they_were(recognizer: Recognizer, two_threads: None) -> None:
    result = recognizer.recognize(np.zeros(1600, np.float32))
    assert result.encoded is not None
    with pytest.raises(ValueError, match="outside a-z"):
        recognizer.force_score(result.encoded, ["Ö"])
    assert torch.get_num_threads() == 2


def test_context_and_rescoring(two_threads: None, used: set[int]) -> None:
    models = ContextModels.load()
    used.clear()
    embedding = models.encoder.encode(Context((), (Entry("contacts", "Meg Bauer"),)))
    models.rescorer.rescore([Hypothesis(f"call meg {name}", 0.0) for name in ("power", "bower")], embedding, None)
    assert used == {1} and torch.get_num_threads() == 2


def test_what_the_environment_asks_for_is_kept(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with one_thread():
        assert torch.get_num_threads() == 2
