"""Runs the server until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from server import logs
from server.config import ConfigError, Settings, load_settings
from server.hosting import HostError, running, until_signalled

_STUCK_S = 2.0
_SWITCH_S = 0.0001
"""Python's threads take turns after this: the event loop, and audio after each of its operations, wait so long for a
thread that compiles phrases, not 5 ms."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one. Default: 50051.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings, see docs/operation.md.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Store: 'local' (in this process, the default), 'aws', or a DynamoDB's URL.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS region of the store. Default: us-east-1.")] = None,
) -> None:
    """Serve carryover.v1 over gRPC. Settings: defaults, then --config, then CARRYOVER_* variables, then flags."""
    flags = {"port": port, "host": host, "store.endpoint": endpoint, "store.region": region}
    try:
        settings = load_settings(config, flags)
        sys.setswitchinterval(_SWITCH_S)
        asyncio.run(_serve(settings))
        _leave_stuck_threads()
    except (ConfigError, HostError) as error:
        typer.echo(f"serve: {error}", err=True)
        raise typer.Exit(1) from None


async def _serve(settings: Settings) -> None:
    logs.configure(settings.log_level)
    async with running(settings, _say) as (server, port):
        _say(f"listening on {settings.host}:{port} (Ctrl-C ends it)")
        name = await until_signalled()
        _say(f"{name}: finishing what runs, at most {settings.drain_s:g} s")
        await server.drain()


def _leave_stuck_threads() -> None:
    """All is closed now. A model that hangs in its thread must not keep the process, which Python would wait for."""
    stuck = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    for thread in stuck:
        thread.join(_STUCK_S)
    if any(thread.is_alive() for thread in stuck):
        _say("a thread does not end; leaving it")
        logging.shutdown()
        os._exit(0)


def _say(line: str) -> None:
    typer.echo(f"serve: {line}", err=True)


if __name__ == "__main__":
    app()
