"""The contract is what it was: interfaces by name, texts and scores of the shipped models to the bit.

To the bit on the kind of machine that recorded them. Elsewhere what no model computes is the same, and of what one
does nearly all is, numbers closely.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from tests.golden import probe, record

SHOWN = 20
"""Differences that a failure lists."""
INTERFACES = ("scripts", "proto", "manifest")
"""What no model computes."""


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
    recorded = record.read(name)
    differences = list(record.differences(recorded, now, exact=exact))
    allowed = 0 if exact or name in INTERFACES else record.CHANGED * record.values(recorded)
    what = f"{name}, {'to the bit' if exact else f'closely, {len(differences)} of at most {allowed:.0f} differ'}:"
    assert len(differences) <= allowed, "\n".join([what, *differences[:SHOWN]])
