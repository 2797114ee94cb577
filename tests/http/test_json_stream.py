"""StreamingRecognize over a WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from google.protobuf.json_format import MessageToDict

from server.access import make_key
from tests.http.conftest import call, metric
from tests.support.waiting import until

PATH = "/carryover.v1.Recognizer/StreamingRecognize"
CONFIG = {"encoding": "LINEAR16", "sample_rate_hertz": 16_000, "interim_results": True}


@asynccontextmanager
async def opened(replica: Any, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{replica.server.http_port}{PATH}"
        async with session.ws_connect(url, **options) as socket:
            yield socket


async def rest(socket: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """What the server says until it closes the stream."""
    return [json.loads(message.data) async for message in socket]


def said(replica: Any, speak: Callable[[Any], Awaitable[None]], **options: Any) -> list[Any]:
    """What the server says to what a client does."""

    async def talk() -> list[Any]:
        async with opened(replica, **options) as socket, asyncio.timeout(60):
            await speak(socket)
            return await rest(socket)

    return asyncio.run(talk())


def test_a_stream_says_what_grpcs_does(shared: Any, pcm: bytes) -> None:
    config = {**CONFIG, "max_alternatives": 3, "voice_activity_events": True}

    async def speak(socket: Any) -> None:
        await socket.send_json({"config": config})
        for start in range(0, len(pcm), 6400):
            await socket.send_bytes(pcm[start : start + 6400])
        await socket.send_json({"end": {}})

    ours = shared.stream(pcm, **{k: v for k, v in config.items() if k not in ("encoding", "sample_rate_hertz")})
    timings = ("lookup_ms", "rescore_ms")
    told = said(shared, speak, protocols=("carryover.v1",))
    expected = [MessageToDict(one, preserving_proto_field_name=True) for one in ours]
    assert [drop(one, timings) for one in told] == [drop(one, timings) for one in expected]


def drop(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {name: drop(one, names) for name, one in value.items() if name not in names}
    return [drop(one, names) for one in value] if isinstance(value, list) else value


def test_a_stream_is_steered(shared: Any, pcm: bytes) -> None:
    async def speak(socket: Any) -> None:
        await socket.send_json({"config": {**CONFIG, "interim_results": False}})
        await socket.send_bytes(pcm[:32_000])
        await socket.send_json({"finalize": {}})
        await socket.send_json({"update": {"endpointing": {"trailing_silence_s": 0.3}}})
        await socket.send_bytes(pcm)
        await socket.send_json({"end": {}})

    results = [result for one in said(shared, speak) for result in one["results"]]
    assert results[0]["finalized"] and len(results) > 1


BAD: list[tuple[list[Any], str]] = [
    (["{"], "request: is no carryover.v1.StreamingRecognizeRequest in JSON"),
    ([{"end": {}}], "config: the stream is empty"),
    ([b"\0\0"], "config: send the configuration in the first message"),
    ([{"config": CONFIG}, {"audio": "AAAA"}], "audio: send it as bytes"),
    ([{"config": CONFIG}, {"config": CONFIG}], "config: was sent twice"),
    ([{"config": {**CONFIG, "sample_rate_hertz": 1}}], "config.sample_rate_hertz"),
    ([{"config": CONFIG}, b"\0"], "audio"),
    ([{"config": CONFIG}, {"update": {"endpointing": {"likely_silence_s": 10**400}}}], "request: is no"),
]


@pytest.mark.parametrize(("messages", "says"), BAD)
def test_bad_input(shared: Any, messages: list[Any], says: str) -> None:
    async def speak(socket: Any) -> None:
        for one in messages:
            if isinstance(one, bytes):
                await socket.send_bytes(one)
            else:
                await socket.send_str(one if isinstance(one, str) else json.dumps(one))

    *_, last = said(shared, speak)
    assert last["error"]["code"] == "invalid_argument" and last["error"]["message"].startswith(says)


def test_a_client_that_leaves(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start(http_port=0)

    async def leave() -> None:
        async with opened(replica) as socket:
            await socket.send_json({"config": CONFIG})
            await socket.send_bytes(pcm)
            await socket.receive()

    asyncio.run(leave())
    until(lambda: metric(replica, "calls_total", method="http.StreamingRecognize", code="CANCELLED"))
    assert not replica.server.streams.running


def test_a_stream_is_refused_before_it_begins(workshop: Any, tmp_path: Any) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"), limits__tenant_streams=1)

    async def nothing(socket: Any) -> None:
        await socket.send_json({"end": {}})

    for options, status in (
        ({}, 401),
        ({"protocols": ("carryover-key.co_no",)}, 401),
        ({"origin": "http://evil"}, 403),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            said(replica, nothing, **options)
        assert refused.value.status == status
    assert call(replica, PATH).json["code"] == "unauthenticated"
    (told,) = said(replica, nothing, protocols=("carryover.v1", f"carryover-key.{secret}"))  # as browsers send keys
    assert "the stream is empty" in told["error"]["message"]
    with replica.call(lambda: replica.server.streams.one("acme")):
        refused_call = call(replica, PATH, authorization=f"Bearer {secret}")
    assert refused_call.status == 429 and "limits.tenant_streams" in refused_call.json["message"]
    assert call(replica, PATH, authorization=f"Bearer {secret}").json["message"].startswith("upgrade: ")


def test_a_key_that_is_taken_back(workshop: Any, tmp_path: Any, pcm: bytes) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"))

    async def speak(socket: Any) -> None:
        await socket.send_json({"config": CONFIG})
        await socket.send_bytes(pcm[:6400])
        (tmp_path / "keys").write_text("other cert:other\n")
        await asyncio.to_thread(replica.call, replica.server.access.reload)
        await socket.send_bytes(pcm[:6400])

    *_, last = said(replica, speak, headers={"authorization": f"Bearer {secret}"})
    assert last["error"]["code"] == "unauthenticated"


def test_a_server_that_closes_ends_streams(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start(http_port=0)

    async def speak() -> Any:
        async with opened(replica) as socket, asyncio.timeout(60):
            await socket.send_json({"config": CONFIG})
            await socket.send_bytes(pcm)
            await socket.receive()
            closing = asyncio.create_task(asyncio.to_thread(replica.run, replica.server.listener.close()))
            await rest(socket)
            await closing
            return socket.close_code

    assert asyncio.run(speak()) == aiohttp.WSCloseCode.GOING_AWAY


def test_pings_are_answered_at_a_pace(shared: Any) -> None:
    """As tiny messages are: 200 at once, then 100 a second."""

    async def ask() -> float:
        url = f"http://127.0.0.1:{shared.server.http_port}/v1/realtime"
        async with aiohttp.ClientSession() as http, asyncio.timeout(60), http.ws_connect(url, autoping=False) as socket:
            assert (await socket.receive_json())["type"] == "session.created"
            begun = time.monotonic()
            for _ in range(280):
                await socket.ping(b"x" * 100)
            for _ in range(280):
                assert (await socket.receive()).type is aiohttp.WSMsgType.PONG
            return time.monotonic() - begun

    assert asyncio.run(ask()) > 0.5
