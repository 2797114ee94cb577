"""The contract is what it was: interfaces by name, texts and scores of the shipped models to the bit.

To the bit on the kind of machine that recorded them; elsewhere texts are compared exactly and numbers closely.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from itertools import islice

import pytest

from tests.golden import probe, record

SHOWN = 20
"""Differences that a failure lists."""


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands configure the process's logging; tests after these have it as it was."""
    loggers = [logging.getLogger(), logging.getLogger("carryover")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.parametrize("name", probe.GOLDEN)
def test_it_is_as_recorded(name: str) -> None:
    exact = record.fingerprint() == record.read("fingerprint")
    now = json.loads(json.dumps(probe.GOLDEN[name]()))
    differences = list(islice(record.differences(record.read(name), now, exact=exact), SHOWN))
    assert not differences, "\n".join([f"{name}, {'to the bit' if exact else 'closely'}:", *differences])
