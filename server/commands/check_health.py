"""Asks a server whether it serves, for containers and scripts."""

from __future__ import annotations

import os
from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PORT = "CARRYOVER_HEALTH_PORT"
DEFAULT_PORT = "50052"

app = typer.Typer(add_completion=False)


@app.command()
def main(
    server: Annotated[
        str | None,
        typer.Argument(
            metavar="[HOST:PORT]",
            help=f"Of a port without TLS, such as health_port. Default: port ${_PORT}, or {DEFAULT_PORT}, here.",
            show_default=False,
        ),
    ] = None,
    service: Annotated[
        str, typer.Option(help="Whose health: of a service, or `liveness`, which a draining server has too.")
    ] = "carryover.v1.Recognizer",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 3,
) -> None:
    """Print SERVING when the server answers that it serves; else say why not, and exit with status 1."""
    target = server or f"127.0.0.1:{os.environ.get(_PORT) or DEFAULT_PORT}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            typer.echo(f"check_health: {target}: {error.code().name}: {error.details()}", err=True)
            raise typer.Exit(1) from None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        typer.echo(f"check_health: {target}: {service} is {status}", err=True)
        raise typer.Exit(1)
    typer.echo(status)


if __name__ == "__main__":
    app()
