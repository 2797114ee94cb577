"""Shared fixtures: a tiny seeded recogniser that runs in milliseconds, and audio made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from asr.acoustic import Transducer
from asr.audio import Samples
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer
from tests.support import tiny_recognizer as tiny

torch.set_num_threads(1)
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # other work on the machine makes no test fail

ROOT = Path(__file__).parents[1]
LONG = [
    ROOT / "tests" / name
    for name in (
        "dialogues/test_dialogue_machine.py", "golden/test_golden.py", "clients/test_environments.py",
        "test_install.py", "test_docs.py", "integration/test_serve.py", "integration/test_faults.py",
        "integration/test_replicas.py", "integration/test_soak.py", "integration/test_benchmark.py",
    )
]  # fmt: skip
"""The files that take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first: no process is left alone with one of them at the end."""
    assert all(file.is_file() for file in LONG)
    items.sort(key=lambda item: LONG.index(item.path) if item.path in LONG else len(LONG))


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: Tokenizer) -> Transducer:
    return tiny.transducer(tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_recognizer(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> Recognizer:
    return Recognizer(tiny_model, tiny_tokenizer, beam=6, version="tiny")


@pytest.fixture(scope="session")
def speech() -> Samples:
    """Three seconds at 16 kHz: chirps and noise with pauses, which the tiny model takes for words."""
    return tiny.speech()
