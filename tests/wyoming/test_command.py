"""The command as it is started: what it says when it cannot, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wyoming.client import AsyncTcpClient, AsyncUnixClient
from wyoming.info import Describe

from carryover_wyoming import announce, command
from carryover_wyoming.command import main
from server.access import make_key
from tests.support.certificates import Authority
from tests.support.registry import environment_with, skip_where_out_of_reach
from tests.support.waiting import PATIENCE_S
from tests.support.waiting import until as until_now
from tests.wyoming.conftest import answers, recording, run, send, transcribed, until
from tests.wyoming.hass_stand_in import TOKEN, HassStandIn, running

CLIENTS = Path(__file__).parents[2] / "clients"
COMMAND = [sys.executable, "-m", "carryover_wyoming.command"]


@pytest.fixture(autouse=True)
def _ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start in this process that should fail, and does not, ends all the same."""

    async def started(*_: object) -> None:
        raise AssertionError("it has started")

    monkeypatch.setattr(command, "_until_told", started)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a start that fails."""
    assert main(arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("carryover-wyoming: ")]
    return line


@pytest.fixture
def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("uri", ["0.0.0.0:10300", "tcp://host", "tcp://h:99999", "stdio://", "unix://", "tcp://h:1/x"])
def test_an_address_to_listen_on(capsys: pytest.CaptureFixture[str], uri: str) -> None:
    assert "listen on tcp://HOST:PORT" in said(capsys, "--uri", uri)


def test_no_server(capsys: pytest.CaptureFixture[str], free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_FIRST_ANSWER_S", 1.0)
    line = said(capsys, "--server", f"127.0.0.1:{free}")
    assert f"no Carryover server answers at 127.0.0.1:{free}; start it, or name another by --server" in line


def test_a_server_that_asks_for_a_key(capsys: pytest.CaptureFixture[str], workshop: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(make_key("acme")[1] + "\n")
    server = ("--server", f"127.0.0.1:{workshop.start(access={'keys_file': keys}).port}")
    assert "asks for a key: name a file that holds it (--key-file)" in said(capsys, *server)
    (tmp_path / "key").write_text("wrong")
    assert "does not know the key (--key-file)" in said(capsys, *server, "--key-file", str(tmp_path / "key"))


def test_files_and_options(capsys: pytest.CaptureFixture[str], shared: Any, tmp_path: Path, free: int) -> None:
    server = ("--server", f"127.0.0.1:{shared.port}")
    assert "--key-file: nowhere cannot be read" in said(capsys, *server, "--key-file", "nowhere")
    assert "ca: nowhere cannot be read" in said(capsys, *server, "--ca", "nowhere")
    assert "--zeroconf: only tcp://" in said(capsys, *server, "--uri", f"unix://{tmp_path}/s", "--zeroconf")
    (tmp_path / "token").write_text("t")
    assert "name it by --hass-url" in said(capsys, *server, "--hass-token-file", str(tmp_path / "token"))
    assert "--hass-url needs a token" in said(capsys, *server, "--hass-url", "http://h:1")
    hass = ("--hass-token", "t", "--hass-url")
    assert "h:8123 is no address of Home Assistant" in said(capsys, *server, *hass, "h:8123")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free))
        taken.listen()
        assert "address already in use" in said(capsys, *server, "--uri", f"tcp://127.0.0.1:{free}")
    (tmp_path / "file").write_text("not a socket")
    assert "--uri unix" in said(capsys, *server, "--uri", f"unix://{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "not a socket"


def test_a_wrong_token(capsys: pytest.CaptureFixture[str], shared: Any) -> None:
    async def work() -> None:
        async with running(HassStandIn()) as url:
            arguments = ("--server", f"127.0.0.1:{shared.port}", "--hass-url", url, "--hass-token", "wrong")
            line = await asyncio.to_thread(said, capsys, *arguments)
            assert "does not take the token; make a long-lived one" in line

    run(work())


def test_zeroconf_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    line = said(capsys, "--server", f"127.0.0.1:{shared.port}", "--uri", "tcp://127.0.0.1:0", "--zeroconf")
    assert "pip install 'carryover-wyoming[zeroconf]'" in line


@dataclass
class Started:
    """A bridge in a process of its own. lines: what it has said."""

    process: subprocess.Popen[str]
    lines: list[str]
    address: str = ""

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)


@contextmanager
def started(*arguments: str) -> Iterator[Started]:
    """The command, once it listens."""
    environment = {**os.environ, "PYTHONWARNINGS": "error,ignore::DeprecationWarning", "GRPC_VERBOSITY": "error"}
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
    bridge = Started(process, [])

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            bridge.lines.append(line)
            if found := re.search(r"listening on (\S+) ", line):
                bridge.address = found[1]

    reading = threading.Thread(target=read)
    reading.start()
    try:
        until_now(lambda: bridge.address or process.poll() is not None)
        assert bridge.address, bridge.lines
        yield bridge
    finally:
        process.kill()
        process.wait()
        reading.join()
        assert process.stderr is not None
        process.stderr.close()


def test_it_drains(shared: Any, pcm: bytes, tmp_path: Path) -> None:
    """A recording under way is answered; whoever is idle, and whoever comes, is not waited for; no text is logged."""

    async def work() -> None:
        path = tmp_path / "socket"
        with started("--server", f"127.0.0.1:{shared.port}", "--uri", f"unix://{path}", "--debug") as bridge:
            assert bridge.address == str(path)
            async with AsyncUnixClient(path) as busy, AsyncUnixClient(path) as idle:
                *events, stop = recording(pcm)
                await send(busy, events)
                await idle.write_event(Describe().event())
                assert await idle.read_event() is not None
                await until(lambda: shared.server.streams.running)
                bridge.process.send_signal(signal.SIGTERM)
                assert await idle.read_event() is None
                with pytest.raises(OSError):  # noqa: PT011
                    await AsyncUnixClient(path).connect()
                await busy.write_event(stop)
                text = (await answers(busy))[-2].data["text"]
                assert text
                assert await busy.read_event() is None
            assert await asyncio.to_thread(bridge.wait) == 0
            log = "".join(bridge.lines)
            assert "answered: " in log and "Traceback" not in log and text not in log

    run(work())


def test_it_starts_before_home_assistant_and_survives_it(shared: Any, pcm: bytes, free: int, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a long-lived token\n")

    async def work() -> None:
        arguments = ("--server", f"127.0.0.1:{shared.port}", "--uri", "tcp://127.0.0.1:0")
        hass = ("--hass-url", f"http://127.0.0.1:{free}", "--hass-token-file", str(tmp_path / "token"))
        with started(*arguments, *hass) as bridge:
            assert "going on without it" in "".join(bridge.lines)
            house = HassStandIn()
            house.add("light.meg", "Meg Bauer")
            await house.start(free)
            await until(lambda: "1 names of 1 things" in "".join(bridge.lines))
            await house.stop()
            port = int(bridge.address.rpartition(":")[2])
            async with AsyncTcpClient("127.0.0.1", port) as client:
                assert (await transcribed(client, pcm))["text"]
            bridge.process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(bridge.wait) == 0
            assert "Meg" not in "".join(bridge.lines)

    run(work())


def test_a_home_assistant_with_a_certificate_of_its_own(
    shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("house")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files["certificate"], files["key"])
    monkeypatch.setenv("HASS_TOKEN", TOKEN)

    async def says(line: str, arguments: Sequence[str]) -> None:
        async with AsyncExitStack() as stack:  # the house answers here while the bridge starts there
            starting = started(*arguments)
            bridge = await asyncio.to_thread(starting.__enter__)
            stack.push_async_callback(asyncio.to_thread, starting.__exit__, None, None, None)
            await until(lambda: line in "".join(bridge.lines))

    async def work() -> None:
        house = HassStandIn()
        url = f"https://localhost:{await house.start(tls=tls)}"
        arguments = ("--server", f"127.0.0.1:{shared.port}", "--uri", "tcp://127.0.0.1:0", "--hass-url", url)
        await says("SSL_CERT_FILE", arguments)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        await says("connected with Home Assistant", arguments)
        await house.stop()

    run(work())


@pytest.mark.slow
def test_what_it_says_that_it_needs_is_enough() -> None:
    """In an environment with its requirements and its client's, and nothing else."""
    project, client = (tomllib.loads((CLIENTS / name / "pyproject.toml").read_text()) for name in ("wyoming", "python"))
    own = [one for one in project["project"]["dependencies"] if not one.startswith("carryover-client")]
    with skip_where_out_of_reach():
        python = environment_with([*own, *client["project"]["dependencies"]])
    path = os.pathsep.join(str(CLIENTS / name) for name in ("wyoming", "python"))
    done = subprocess.run([python, *COMMAND[1:], "--help"], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0 and "--hass-token-file" in done.stdout, done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_only_what_others_reach_is_announced(capsys: pytest.CaptureFixture[str], shared: Any, host: str) -> None:
    """The default --uri is this machine's own."""
    uri = f"tcp://[{host}]:0" if ":" in host else f"tcp://{host}:0"
    line = said(capsys, "--server", f"127.0.0.1:{shared.port}", "--uri", uri, "--zeroconf")
    assert "is reached from this machine alone: listen on --uri tcp://0.0.0.0:10300" in line


def test_the_address_that_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "_own_address", lambda: socket.inet_aton("192.0.2.7"))
    assert announce._reached("0.0.0.0") == announce._reached("::") == socket.inet_aton("192.0.2.7")
    assert announce._reached("192.0.2.9") == socket.inet_aton("192.0.2.9")


def test_it_announces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """To whoever looks for Wyoming servers, and takes it back at its end."""
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    monkeypatch.setattr(announce, "_own_address", lambda: socket.inet_aton("127.0.0.1"))
    seen: list[tuple[str, str]] = []

    class Listener:
        def add_service(self, zeroconf: Any, kind: str, name: str) -> None:
            seen.append(("added", name))

        def remove_service(self, zeroconf: Any, kind: str, name: str) -> None:
            seen.append(("removed", name))

        def update_service(self, zeroconf: Any, kind: str, name: str) -> None: ...

    async def work() -> None:
        try:
            zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
        except OSError as error:
            pytest.skip(f"no multicast on this machine: {error}")
        browser = AsyncServiceBrowser(zeroconf.zeroconf, "_wyoming._tcp.local.", listener=Listener())  # type: ignore[arg-type]
        async with announce.announced("0.0.0.0", 10300, "carryover"):
            await until(lambda: [kind for kind, name in seen if name.startswith("carryover-")] == ["added"])
            info = await zeroconf.async_get_service_info("_wyoming._tcp.local.", seen[0][1])
            assert info is not None and info.port == 10300
        await until(lambda: seen[-1][0] == "removed")
        await browser.async_cancel()
        await zeroconf.async_close()

    run(work())
