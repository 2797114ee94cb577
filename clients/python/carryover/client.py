"""A small client of the interface: what `stream_client` and `demo` share, and a pattern for clients of one's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.recognizer_pb2_grpc import RecognizerStub

Samples: TypeAlias = NDArray[np.float32]
PIECE_S = 0.1
_ACCEPTED_S = 1.0
"""Seconds that audio waits for the server to accept the configuration; some proxies keep the word back."""


def linear16(samples: Samples) -> bytes:
    """Encode (n,) float32 samples, -1 to 1, as LINEAR16."""
    return (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()


async def pieces(samples: Samples, rate: int, *, real_time: bool) -> AsyncIterator[bytes]:
    """Cut (n,) float32 samples, -1 to 1, into LINEAR16 pieces of 0.1 s; in real time each comes when it was spoken."""
    step, began = int(rate * PIECE_S), time.monotonic()
    for start in range(0, len(samples), step):
        piece = samples[start : start + step]
        if real_time:
            await asyncio.sleep(max(0.0, began + (start + len(piece)) / rate - time.monotonic()))
        yield linear16(piece)


async def recognise(
    stub: RecognizerStub,
    config: pb.StreamingConfig,
    audio: AsyncIterator[bytes],
    on_result: Callable[[pb.StreamingRecognitionResult], None] = lambda result: None,
    timeout_s: float | None = None,
) -> tuple[list[pb.StreamingRecognitionResult], pb.SpeechContextReport | None]:
    """Stream audio, and return the final results, and the report on phrases where the configuration has any.

    Audio waits until the server has accepted the configuration: grpc.aio loses the status of a call that is refused
    while a message is on its way ("Internal error from Core").

    Args:
        audio: pieces in the configuration's encoding.
        on_result: is given each result, partial ones too, as it comes.
        timeout_s: of the whole call; None: none.

    Raises:
        grpc.aio.AioRpcError: the server ended the call with an error.
        Exception: what `audio` raises.
    """
    broken: Exception | None = None

    async def messages() -> AsyncIterator[pb.StreamingRecognizeRequest]:
        nonlocal broken
        yield pb.StreamingRecognizeRequest(config=config)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ACCEPTED_S):
                if not tuple(await call.initial_metadata()):
                    await call.code()
        if call.done():
            return
        try:
            async for piece in audio:
                yield pb.StreamingRecognizeRequest(audio=piece)
        except Exception as error:  # gRPC only cancels the call, and tells nobody why
            broken = error
            raise

    finals: list[pb.StreamingRecognitionResult] = []
    report = None
    call: Any = stub.StreamingRecognize(messages(), timeout=timeout_s)
    try:
        async for response in call:
            if response.HasField("speech_context_report"):
                report = response.speech_context_report
            for result in response.results:
                on_result(result)
                if result.is_final:
                    finals.append(result)
    except (asyncio.CancelledError, grpc.aio.AioRpcError):
        if broken is not None:
            raise broken from None
        raise
    return finals, report


def context_summary(info: pb.ContextInfo) -> dict[str, Any]:
    """A ContextInfo as plain values, for JSON."""
    timings = {field.name: round(value, 2) for field, value in info.timings.ListFields()}
    return {
        "status": pb.ContextInfo.Status.Name(info.status),
        "changed": info.changed,
        "plain_transcript": info.plain_transcript,
        "biased_words": [_biased_word(b) for b in info.biased_words],
        "meant": [{"entry": m.entry, "signal": m.signal, "id": m.entry_id} for m in info.meant],
        "timings": timings,
        "reason": info.reason,
    }


def pass_names(passes: Iterable[pb.StreamingRecognitionResult.Pass]) -> list[str]:
    """Passes by their names in the interface."""
    known = pb.StreamingRecognitionResult.Pass
    return [known.Name(one) if one in known.values() else str(one) for one in passes]


def _biased_word(word: pb.BiasedWord) -> dict[str, Any]:
    """nats, rank: None where unset."""
    return {
        "word": word.word,
        "phrase": word.phrase,
        "signal": word.signal,
        "nats": round(word.nats, 2) if word.HasField("nats") else None,
        "rank": word.rank if word.HasField("rank") else None,
        "id": word.entry_id,
    }
