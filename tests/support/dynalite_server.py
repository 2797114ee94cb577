"""Another DynamoDB for tests: dynalite of npm, which shares no code with moto, installed into the user's cache."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.npm_packages import installed

NOT_ON_DYNALITE = {
    "test_erasure.py::test_point_in_time_recovery_of_the_keys_is_noticed": "it has no point-in-time recovery",
    "test_events.py::test_without_expect_speech_nothing_is_read_or_decrypted": (
        "its failed conditions bring no item, so that of a repeated event is read (and not decrypted)"
    ),
    "test_lifetime.py::test_tables_are_made_once_with_expiry_on": "it has no UpdateTimeToLive",
    "test_lifetime.py::test_the_command": "it has no UpdateTimeToLive",
}
"""Tests of tests/context_store that cannot pass there, and why. One that passes is a failure."""

_PACKAGE = Path(__file__).parent / "dynalite"
"""Its version and those of all that it needs are in package-lock.json, with their digests."""


@contextmanager
def dynalite_server() -> Iterator[str]:
    """URL of a server of its own, with nothing in it. Skips the test where it can be neither found nor installed."""
    server = subprocess.Popen(
        ["node", "serve.js"], cwd=installed(_PACKAGE), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port, "dynalite has not started; what it says is above"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.communicate()  # closes its standard input, with which it ends
