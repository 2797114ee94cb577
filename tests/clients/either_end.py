"""What tests/clients/test_environments.py runs in environments of their own: a dialogue by each client, as JSON.

Nothing but the client is imported here.
"""

import asyncio
import gc
import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from carryover import Audio, ChangeRequestError, Client, Final, Stream, aio

TARGET, PCM = sys.argv[1], Audio(Path(sys.argv[2]).read_bytes())


def pieces() -> Iterator[bytes]:
    while True:
        yield from PCM


def threads() -> list[str]:
    dialogue, told = uuid.uuid4().hex, []
    with Client(TARGET) as client:
        told += [result.transcript for result in client.stream(PCM) if isinstance(result, Final)]
        assert client.record(dialogue, "1", user="call meg", contacts=["meg bauer"], expect_speech=True)
        told += [client.wait_until_ready(dialogue, timeout=60).state, client.recognize(PCM).transcript]
        told += [client.rescore(["power"], dialogue=dialogue).nbest[0].text]
        for _ in range(5):
            try:
                list(client.stream(pieces()))
            except ChangeRequestError as error:
                told.append(str(error.code))
        with client.stream(dialogue=dialogue, turn="2") as stream:
            stream.update(phrases=["meg"])
            stream.send(PCM.samples)
            stream.finalize()
            told += [result.transcript for result in stream if isinstance(result, Final) and end(stream, result)]
        for _ in range(5):
            client.stream().send(PCM.samples)  # and forget it
        stream = client.stream(pieces())
        told.append(type(next(stream)).__name__)
    gc.collect()
    return told


def end(stream: Stream[Any], result: Final) -> bool:
    if result.finalized:
        stream.end()
    return result.finalized


async def asyncio_() -> list[str]:
    dialogue, told = uuid.uuid4().hex, []
    async with aio.Client(TARGET) as client:
        told += [result.transcript async for result in client.stream(PCM) if isinstance(result, Final)]
        assert await client.record(dialogue, "1", user="call meg", contacts=["meg bauer"], expect_speech=True)
        told += [(await client.wait_until_ready(dialogue, timeout=60)).state, (await client.recognize(PCM)).transcript]
        told += [(await client.rescore(["power"], dialogue=dialogue)).nbest[0].text]
        for _ in range(5):
            try:
                async for _ in client.stream(pieces()):
                    pass
            except ChangeRequestError as error:
                told.append(str(error.code))
        async with client.stream(dialogue=dialogue, turn="2") as stream:
            await stream.update(phrases=["meg"])
            await stream.send(PCM.samples)
            await stream.finalize()
            async for result in stream:
                if isinstance(result, Final) and result.finalized:
                    told.append(result.transcript)
                    await stream.end()
        for _ in range(5):
            await client.stream().send(PCM.samples)  # and forget it
        stream = client.stream(pieces())
        told.append(type(await anext(stream)).__name__)
        with suppress(TimeoutError):
            await asyncio.wait_for(stream.finalize(), 0)
    gc.collect()
    return told


versions = {name: version(name) for name in ("grpcio", "protobuf")}
print(json.dumps({"versions": versions, "threads": threads(), "asyncio": asyncio.run(asyncio_())}))
