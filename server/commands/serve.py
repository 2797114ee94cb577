"""Runs the server until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from server import logs
from server.hosting import HostError, running, until_signalled
from server.settings import ConfigError, Settings, load_settings

_STUCK_S = 2.0
_SWITCH_S = 0.0001
"""Python's threads take turns after this: the event loop, and audio after each of its operations, wait so long for a
thread that compiles phrases, not 5 ms."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one. Default: 50051.")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port for the page, REST and WebSockets; 0 picks a free one. Default: none.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings, see docs/operation.md.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Store: 'local' (in this process, the default), 'aws', or a DynamoDB's URL.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="AWS region of the store. Default: us-east-1.")] = None,
) -> None:
    """Serve carryover.v1 over gRPC. Settings: defaults, then --config, then CARRYOVER_* variables, then flags."""
    flags = {"port": port, "http_port": http_port, "host": host, "store.endpoint": endpoint, "store.region": region}
    try:
        settings = load_settings(config, flags)
        sys.setswitchinterval(_SWITCH_S)
        asyncio.run(_serve(settings))
        _leave_stuck_threads()
        _flush_standard_error()
    except (ConfigError, HostError) as error:
        typer.echo(f"serve: {error}", err=True)
        raise typer.Exit(2) from None


async def _serve(settings: Settings) -> None:
    logs.configure(settings.log_level)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # which would end the process
        loop.add_signal_handler(number, logs.event, "signal_ignored")
    async with running(settings, _say) as (server, port):
        loop.add_signal_handler(signal.SIGHUP, server.access.reload)  # certificates are read for each connection
        if server.http_port is not None:
            scheme = "https" if settings.tls.certificate else "http"
            _say(f"page: {scheme}://{settings.host}:{server.http_port}/")
        _say(f"listening on {settings.host}:{port} (Ctrl-C ends it)")
        name = await until_signalled()
        _say(f"{name}: finishing what runs, at most {settings.drain_s:g} s; {name} again: at once")
        drained, again = loop.create_task(server.drain()), loop.create_task(until_signalled(name))
        await asyncio.wait((drained, again), return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        again.cancel()


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
    with suppress(OSError):  # a full disk, or a reader that is gone, is no reason not to serve
        typer.echo(f"serve: {line}", err=True)


def _flush_standard_error() -> None:
    """What cannot be written is given up, so that Python does not end with an error for it."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    app()
