"""The command `carryover-wyoming`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from carryover import CarryoverError, CheckKeyError, DeadlineError, RetryLaterError, ServerInfo, aio
from carryover_wyoming import __version__
from carryover_wyoming.announce import AnnounceError, announced
from carryover_wyoming.bridge import Address, Bridge, UriError, info
from carryover_wyoming.conversations import Conversations
from carryover_wyoming.hass import HomeAssistant
from carryover_wyoming.hass_socket import HassError, HassTokenError, websocket_url
from carryover_wyoming.recognition import Recognition

_log = logging.getLogger(__name__)

DRAIN_S = 20.0
"""Seconds that recordings under way have left when the bridge is told to end."""

_FIRST_ANSWER_S = 10.0


class StartError(Exception):
    """The bridge cannot start. The message says what to change."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bridge until SIGTERM or SIGINT.

    Returns:
        0; 2 if it could not start.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for noisy in ("asyncio", "grpc", "zeroconf"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        asyncio.run(_run(options))
    except (StartError, UriError, HassError, AnnounceError, CarryoverError) as error:
        _say(str(error))
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="carryover-wyoming", description="A Wyoming speech-to-text server in front of a Carryover server."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--uri", default="tcp://127.0.0.1:10300", help="where to listen: tcp://HOST:PORT, unix:///PATH [%(default)s]"
    )
    parser.add_argument("--server", default="127.0.0.1:50051", help="HOST:PORT of the Carryover server [%(default)s]")
    for name, what in (
        ("ca", "PEM file: who signed the server's certificate"),
        ("key-file", "file that holds the bearer key"),
        ("certificate", "PEM file: the bridge's certificate"),
        ("certificate-key", "PEM file: its private key"),
    ):
        variable = f"CARRYOVER_CLIENT_{name.replace('-', '_').upper()}"
        parser.add_argument(
            f"--{name}", type=Path, default=os.environ.get(variable) or None, help=f"{what} [{variable}]"
        )
    parser.add_argument("--hass-url", help="Home Assistant whose names and conversations are used: http://HOST:8123")
    parser.add_argument(
        "--hass-token",
        default=os.environ.get("HASS_TOKEN"),
        help="long-lived access token of an administrator; other users of this machine see options [HASS_TOKEN]",
    )
    parser.add_argument("--hass-token-file", type=Path, help="file that holds the token")
    parser.add_argument(
        "--endpointing",
        action="store_true",
        help="find the end of commands, in place of Home Assistant (from 2026.3 on; older versions ignore it)",
    )
    parser.add_argument(
        "--zeroconf", nargs="?", const="carryover", metavar="NAME", help="announce the bridge in the local network"
    )
    parser.add_argument("--debug", action="store_true", help="log more; never what was said")
    return parser


async def _run(options: argparse.Namespace) -> None:
    address = Address.of(options.uri)
    if options.zeroconf and address.path is not None:
        raise StartError("--zeroconf: only tcp:// addresses can be announced")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(options))
        server = await _server_info(client, options)
        characters = int(server.limits.get("phrase_characters", 0))
        hass = _home_assistant(options, characters)
        conversations = None
        background: list[Callable[[], Awaitable[None]]] = []
        if hass is not None:
            await _check(hass)
            conversations = Conversations(client, lambda: hass.names)
            background = [partial(hass.run, conversations), conversations.run]
        recognition = Recognition(
            client, server, names=hass, conversations=conversations, ends_itself=options.endpointing
        )
        bridge = Bridge(info(server, ends_itself=options.endpointing), recognition)
        try:
            address = await bridge.listen(address)
        except OSError as error:
            raise StartError(f"--uri {options.uri}: {error.strerror or error}") from None
        stack.push_async_callback(bridge.drain, 0.0)
        if options.zeroconf:
            await stack.enter_async_context(announced(address.host, address.port, options.zeroconf))
        await _until_told(bridge, address, background)


def _client(options: argparse.Namespace) -> aio.Client:
    return aio.Client(
        options.server,
        key=_text(options.key_file, "--key-file"),
        ca=options.ca,
        certificate=options.certificate,
        certificate_key=options.certificate_key,
    )


async def _server_info(client: aio.Client, options: argparse.Namespace) -> ServerInfo:
    try:
        return await client.server_info(timeout_s=_FIRST_ANSWER_S)
    except CheckKeyError:
        what = "asks for a key: name a file that holds it" if options.key_file is None else "does not know the key"
        raise StartError(f"the server at {options.server} {what} (--key-file)") from None
    except (RetryLaterError, DeadlineError):
        advice = "start it, or name another by --server"
        if options.ca is None:
            advice += " (one with TLS needs --ca)"
        raise StartError(f"no Carryover server answers at {options.server}; {advice}") from None


def _home_assistant(options: argparse.Namespace, most_characters: int) -> HomeAssistant | None:
    token = _text(options.hass_token_file, "--hass-token-file") or options.hass_token
    if options.hass_url is None:
        if options.hass_token_file is not None:
            raise StartError("--hass-token-file is the token of a Home Assistant: name it by --hass-url")
        return None
    if not token:
        raise StartError("--hass-url needs a token: --hass-token-file FILE, or HASS_TOKEN in the environment")
    return HomeAssistant(websocket_url(options.hass_url), token, most_characters=most_characters)


async def _check(hass: HomeAssistant) -> None:
    """Find out about a wrong token; a Home Assistant that does not run may come later."""
    try:
        await hass.check()
    except HassTokenError:
        raise
    except HassError as error:
        _log.warning("%s; going on without it, and trying again", error)


def _text(file: Path | None, option: str) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(errors="replace").strip()
    except OSError as error:
        raise StartError(f"{option}: {file} cannot be read ({error.strerror})") from None


def _say(line: str) -> None:
    sys.stderr.write(f"carryover-wyoming: {line}\n")
    sys.stderr.flush()


async def _until_told(bridge: Bridge, address: Address, background: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Work until a signal, then drain."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    tasks = [asyncio.ensure_future(work()) for work in background]
    where = address.path or f"{address.host}:{address.port}"
    _say(f"listening on {where} (Ctrl-C ends it)")
    await told.wait()
    _log.info("draining")
    await bridge.drain(DRAIN_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
