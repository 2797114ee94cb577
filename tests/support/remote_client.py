"""A client of another protocol in a process and an environment of its own, called by lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.registry import environment_with, skip_where_out_of_reach


class CallError(Exception):
    """A call ended with another status than OK: its name, and what it says."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code, self.details = code, details


class RemoteClient:
    """Makes calls in the other process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, do: str, *, before_audio: Callable[[], None] | None = None, **call: Any) -> list[Any]:
        """The responses to a call.

        before_audio: is called when the configuration is on its way; then the audio follows. Raises CallError.
        """
        self._say(json.dumps({"do": do, "hold": before_audio is not None, **call}))
        if before_audio is not None:
            try:
                before_audio()
            finally:
                self._say("go on")
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        if "code" in answer:
            raise CallError(answer["code"], answer["details"])
        responses: list[Any] = answer["responses"]
        return responses

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)


@contextmanager
def remote_client(program: Path, requirements: Sequence[str], **environment: str) -> Iterator[RemoteClient]:
    """A program that answers such calls, in an environment with these packages.

    environment: variables. Skips the test where the packages cannot be had.
    """
    with skip_where_out_of_reach():
        python = environment_with(requirements)
    command, pipe = [str(python), str(program)], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
    try:
        yield RemoteClient(process)
    finally:
        process.communicate()  # closes its standard input, with which it ends
