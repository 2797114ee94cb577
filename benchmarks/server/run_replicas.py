"""Runs several servers, with one DynamoDB between them, as one target for clients."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.server.processes import ProcessError, server_process, store_environment
from context_store import StoreError, create_tables
from context_store.local_server import local_config, local_server
from server.hosting import until_signalled

app = typer.Typer(add_completion=False)


@app.command()
def main(
    replicas: Annotated[int, typer.Option(help="How many servers.", min=1, max=16)] = 2,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a DynamoDB, with its tables made. Default: one in this process.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Wrapping key that the servers share. Default: one that goes with them.")
    ] = None,
) -> None:
    """Run servers that share nothing but a DynamoDB and a wrapping key, on free ports, until SIGTERM or Ctrl-C.

    Prints the target with which gRPC clients take turns among them. CARRYOVER_* variables set all the servers.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind by an early one
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = endpoint or stack.enter_context(_own_store())
            settings = store_environment(url, str(key_file or folder / "wrapping.key"))
            ports = []
            for number in range(1, replicas + 1):
                _say(f"starting server {number} of {replicas}")
                running = stack.enter_context(server_process(settings, _pass_on, private=False))
                ports.append(running.port)
                _say(f"server {number}: 127.0.0.1:{running.port}, process {running.process.pid}, {running.metrics_url}")
            target = ",".join(f"127.0.0.1:{port}" for port in ports)
            _say(f"target for all of them: ipv4:{target} (Ctrl-C ends them)")
            asyncio.run(until_signalled())
            _say("stopping the servers")
    except (ProcessError, StoreError, OSError) as error:
        _say(str(error))
        raise typer.Exit(2) from None


@contextmanager
def _own_store() -> Iterator[str]:
    with local_server() as url:
        create_tables(local_config(url))
        yield url


def _pass_on(line: str) -> None:
    typer.echo(line, err=True)


def _say(line: str) -> None:
    typer.echo(f"run_replicas: {line}", err=True)


if __name__ == "__main__":
    app()
