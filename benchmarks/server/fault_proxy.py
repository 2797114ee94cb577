"""A proxy before a DynamoDB (or KMS) endpoint that makes calls go wrong, for tests and the soak.

It speaks HTTP, so everything between boto3 and the wire is real: retries, timeouts, connections that break.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_UPSTREAM_TIMEOUT_S = 60.0
_NOT_FORWARDED = ("connection", "transfer-encoding", "content-length", "server", "date")


class Fault(Enum):
    """What goes wrong with a call."""

    SLOW = "slow"  # it is done, late
    THROTTLED = "throttled"  # it is refused: the rate
    ERROR = "error"  # it is answered with 500
    UNREACHABLE = "unreachable"  # the connection breaks before anything is done
    LOST = "lost"  # it is done, and the answer does not arrive


Plan = Callable[[str], Fault | None]
"""The fault of the next call of an operation (``PutItem``, ``Decrypt`` ...), or None. Called from many threads; may
block, and so hold the call."""


def no_faults(operation: str) -> Fault | None:
    """All goes well."""
    return None


def random_faults(rate: float, seed: int) -> Plan:
    """Every call fails with probability ``rate``, by any fault."""
    rng, lock = random.Random(seed), threading.Lock()

    def plan(operation: str) -> Fault | None:
        with lock:
            return rng.choice(tuple(Fault)) if rng.random() < rate else None

    return plan


@dataclass
class FaultProxy:
    """The proxy while it runs.

    plan: may be replaced at any time. counts: calls by fault, None for those that went well.
    """

    url: str
    plan: Plan = no_faults
    slow_s: float = 0.2
    counts: Counter[Fault | None] = field(default_factory=Counter)


@contextmanager
def fault_proxy(upstream: str, plan: Plan = no_faults) -> Iterator[FaultProxy]:
    """Run a proxy on 127.0.0.1 before an endpoint while the context lasts."""
    proxy = FaultProxy("", plan)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy, upstream))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(proxy: FaultProxy, upstream: str) -> type[BaseHTTPRequestHandler]:
    host = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its headers

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = self.headers.get("X-Amz-Target", "")
            fault = proxy.plan(target.rpartition(".")[2])
            proxy.counts[fault] += 1
            if fault is Fault.UNREACHABLE:
                self.close_connection = True
            elif fault is Fault.THROTTLED:
                self._refuse(400, "ThrottlingException")
            elif fault is Fault.ERROR:
                self._refuse(500, "InternalServerError")
            else:
                self._forward(body, fault)

        def _forward(self, body: bytes, fault: Fault | None) -> None:
            if fault is Fault.SLOW:
                time.sleep(proxy.slow_s)
            connection = http.client.HTTPConnection(host, timeout=_UPSTREAM_TIMEOUT_S)
            try:
                connection.request("POST", self.path, body, {name: self.headers[name] for name in self.headers})
                response = connection.getresponse()
                status, headers, answer = response.status, response.getheaders(), response.read()
            except OSError:
                self.close_connection = True
                return
            finally:
                connection.close()
            if fault is Fault.LOST:
                self.close_connection = True
            else:
                kept = [(name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED]
                self._answer(status, kept, answer)

        def _refuse(self, status: int, code: str) -> None:
            body = json.dumps({"__type": code, "message": "made by the fault proxy"}).encode()
            self._answer(status, [("Content-Type", "application/x-amz-json-1.0")], body)

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            try:
                self.send_response(status)
                for name, value in [*headers, ("Content-Length", str(len(body)))]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the caller did not wait for it
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Requests are not logged."""

    return Handler
