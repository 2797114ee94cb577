"""`carryover check-health`: what a container's health check runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from server.app import LIVENESS, SERVICES
from server.commands.check_health import app


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that drains: it is alive and takes no calls."""
    server, servicer = grpc.server(ThreadPoolExecutor(1)), health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
    servicer.set(SERVICES[0], health_pb2.HealthCheckResponse.NOT_SERVING)
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield bound
    server.stop(None).wait()


def test_it_asks_the_health_port_of_the_environment(port: int) -> None:
    environment = {"CARRYOVER_HEALTH_PORT": str(port)}
    alive = CliRunner().invoke(app, ["--service", LIVENESS], env=environment)
    assert (alive.exit_code, alive.stdout) == (0, "SERVING\n")
    draining = CliRunner().invoke(app, [], env=environment)
    assert draining.exit_code == 1 and f"{SERVICES[0]} is NOT_SERVING" in draining.stderr


def test_what_it_says_of_a_server_that_is_not_there(port: int) -> None:
    unknown = CliRunner().invoke(app, [f"127.0.0.1:{port}", "--service", "no.Service"])
    assert unknown.exit_code == 1 and "NOT_FOUND" in unknown.stderr
    nobody = CliRunner().invoke(app, ["127.0.0.1:1"])
    assert nobody.exit_code == 1 and "127.0.0.1:1: UNAVAILABLE" in nobody.stderr
