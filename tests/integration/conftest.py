"""Real servers on loopback sockets, each on its own event loop in a thread, over moto's DynamoDB."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asr.context.checkpoint import ContextModels
from asr.recognition.recognizer import Recognizer
from context_store import StoreConfig, WrappingKey, local_wrapping_key
from server import tracing
from tests.support.moto_server import dynamodb_endpoint, fresh_tables
from tests.support.replicas import Replica, Workshop


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands configure the process's logging; tests after them have it as it was."""
    loggers = [logging.getLogger(), logging.getLogger("carryover")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def tables() -> Iterator[StoreConfig]:
    """Tables of this run's own."""
    with dynamodb_endpoint() as url, fresh_tables(url) as config:
        yield config


@pytest.fixture(scope="session")
def key() -> WrappingKey:
    """One wrapping key for all replicas."""
    return local_wrapping_key()


@pytest.fixture
def workshop(tiny_recognizer: Recognizer, tables: StoreConfig, key: WrappingKey) -> Iterator[Workshop]:
    """Makes replicas with the tiny recogniser."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop
    shop.close()


@pytest.fixture(scope="module")
def shared(tiny_recognizer: Recognizer, tables: StoreConfig, key: WrappingKey) -> Iterator[Replica]:
    """One replica for tests that leave no trace in it."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop.start(limits__stream_seconds=20, limits__recording_seconds=20)
    shop.close()


@pytest.fixture(scope="session")
def shipped(tables: StoreConfig, key: WrappingKey) -> Iterator[Replica]:
    """One replica with the shipped models."""
    recognizer = Recognizer.load()
    models = ContextModels.load(None, recognizer.models)
    shop = Workshop(recognizer, tables, key)
    yield shop.start(encoder=models.encoder, rescorer=models.rescorer)
    shop.close()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Where spans go."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.close()


@pytest.fixture
def pcm(speech: Any) -> bytes:
    """Three seconds of LINEAR16 at 16 kHz that the tiny model takes for words."""
    return (np.clip(speech, -1, 1) * 32767).astype("<i2").tobytes()


@pytest.fixture
def dialogue() -> str:
    """An id that no other test uses."""
    return uuid.uuid4().hex
