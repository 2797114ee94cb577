"""Shared fixtures: a tiny seeded recogniser that runs in milliseconds, and audio made here."""

from __future__ import annotations

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
