"""The context encoder, and the compiling of its phrases, in a thread beside recognition and behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from asr.context.types import Context, ContextEmbedding
from asr.decoding import PhraseGraph
from server import logs
from server.engine import AudioLoad
from server.fair_threads import lower_priority


class Encoder(Protocol):
    """What the server needs of `asr.context.encoder.ContextEncoder`."""

    @property
    def model_version(self) -> str:
        """Version of the context model."""
        ...

    def encode(self, context: Context) -> ContextEmbedding:
        """The context as vectors and phrases; blocking."""
        ...


Compile = Callable[[ContextEmbedding], PhraseGraph | None]


class EncoderThread:
    """One thread of low priority. Before each context it waits, for a bounded time, until no audio is being worked on.

    compile_phrases: an embedding's phrases as the search follows them. yield_s: the longest wait, so that a server that
    is never idle still makes contexts.
    """

    def __init__(self, encoder: Encoder, compile_phrases: Compile, load: AudioLoad, yield_s: float) -> None:
        self._encoder = encoder
        self._compile_phrases = compile_phrases
        self._load = load
        self._yield_s = yield_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="encode", initializer=lower_priority)

    @property
    def model_version(self) -> str:
        """Version of the context model."""
        return self._encoder.model_version

    async def encode(self, context: Context) -> ContextEmbedding:
        """Encode a context. Raises what the encoder raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._encode, context)

    async def compile(self, embedding: ContextEmbedding) -> PhraseGraph | None:
        """The embedding's phrases for the search; None where there are none, or they cannot be used (it is logged)."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._compile, embedding)

    def _compile(self, embedding: ContextEmbedding) -> PhraseGraph | None:
        try:
            return self._compile_phrases(embedding)
        except Exception as error:  # rescoring does without
            logs.failure("phrases_not_compiled", error)
            return None

    def _encode(self, context: Context) -> ContextEmbedding:
        self._load.wait_for_pause(self._yield_s)
        return self._encoder.encode(context)

    def close(self) -> None:
        """End the thread; contexts that have not begun are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
