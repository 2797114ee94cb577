"""Servers as processes of their own on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from server.settings import PRIVATE

_SAID = 20
_STOP_S = 60.0


class ProcessError(Exception):
    """A server did not start. The message is the last that it said."""


@dataclass(frozen=True)
class ServerProcess:
    """A server that listens. metrics_url: where it answers Prometheus."""

    process: subprocess.Popen[str]
    port: int
    metrics_url: str


def store_environment(endpoint: str, key_file: str) -> dict[str, str]:
    """Settings of a server whose store is at an endpoint on this machine that takes any credentials."""
    no_proxy = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1")))
    return {
        "CARRYOVER_STORE__ENDPOINT": endpoint,
        "CARRYOVER_STORE__KEY_FILE": key_file,
        "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", "local"),
        "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY", "local"),
        "no_proxy": no_proxy,
        "NO_PROXY": no_proxy,
    }


def server_environment(settings: Mapping[str, str], *, private: bool = True) -> dict[str, str]:
    """The environment that `server_process` gives a server, for the same arguments."""
    ports = {"CARRYOVER_METRICS_PORT": "0", "CARRYOVER_HEALTH_PORT": ""}
    return {**os.environ, **(PRIVATE if private else {}), **ports, **settings}


@contextmanager
def server_process(
    settings: Mapping[str, str], say: Callable[[str], None] = lambda line: None, *, private: bool = True
) -> Iterator[ServerProcess]:
    """A server on free ports, while inside; SIGTERM ends it.

    settings: environment variables, before this process's own. say: is given each line that it says or logs.
    private: on loopback without TLS and keys, whatever this process's environment says. Raises ProcessError.
    """
    command = [sys.executable, "-P", "-m", "server.commands.serve", "--port", "0"]
    environment = server_environment(settings, private=private)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    passing_on = threading.Thread(target=_pass_on, args=(process.stderr, say), daemon=True)
    try:
        running = _until_listening(process)
        passing_on.start()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if passing_on.ident is None:
            process.stderr.close()
        else:
            passing_on.join(_STOP_S)


def _until_listening(process: subprocess.Popen[str]) -> ServerProcess:
    assert process.stderr is not None
    said: deque[str] = deque(maxlen=_SAID)
    metrics_url = ""
    for line in process.stderr:
        said.append(line.strip())
        if found := re.search(r"metrics: (http\S+)", line):
            metrics_url = found[1]
        if found := re.search(r"listening on \S+:(\d+)", line):
            return ServerProcess(process, int(found[1]), metrics_url)
    raise ProcessError(f"a server did not start: {said[-1] if said else 'it said nothing'}")


def _pass_on(lines: IO[str], say: Callable[[str], None]) -> None:
    """All that is still said; closes the pipe behind it."""
    with lines:
        for line in lines:
            say(line.rstrip("\n"))
