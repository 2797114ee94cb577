"""Real servers on loopback sockets, each on its own event loop in a thread, over one store."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np

from asr.context.phrase_index import PhraseIndex
from asr.context.types import BiasedWord, Context, ContextEmbedding, Phrase, Rescored
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Hypothesis
from carryover.v1 import context_pb2, context_pb2_grpc, recognizer_pb2, recognizer_pb2_grpc
from context_store import ContextStore, StoreConfig, WrappingKey
from server.app import Parts, Server
from server.settings import load_settings

DEADLINE_S = 60.0
RATE = 16_000


class EchoEncoder:
    """A context encoder that keeps the entries as phrases, and can be made to wait or to fail."""

    model_version = "echo-1"

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.seen: list[Context] = []

    def encode(self, context: Context) -> ContextEmbedding:
        assert self.go_on.wait(DEADLINE_S)
        self.seen.append(context)
        if self.error is not None:
            raise self.error
        vectors = np.arange(3 * 4, dtype=np.float32).reshape(3, 4)
        phrases = tuple(
            Phrase(entry.text.lower(), entry.signal, -1.0, ids=(entry.id,) if entry.id else (), aliases=entry.aliases)
            for entry in context.entries
        )
        return ContextEmbedding(vectors, vectors.mean(0), phrases, "none", self.model_version)


class FirstPhraseRescorer:
    """Puts the context's first phrase before everything, with its forced score; can be made to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def rescore(
        self,
        nbest: Sequence[Hypothesis],
        embedding: ContextEmbedding,
        force_score: Callable[[Sequence[str]], list[Hypothesis]] | None,
        index: PhraseIndex,
    ) -> Rescored:
        if self.error is not None:
            raise self.error
        if not embedding.phrases:
            return Rescored(tuple(nbest))
        phrase = embedding.phrases[0]
        forced = force_score([phrase.text])[0] if force_score else Hypothesis(phrase.text, -1.0, from_context=True)
        forced = replace(forced, context=2.5)
        words = tuple(BiasedWord(word, phrase.text, phrase.signal, 2.5, 3) for word in phrase.text.split())
        return Rescored((forced, *nbest), True, words)


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class WithKey(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends a bearer key with every call."""

    def __init__(self, key: str) -> None:
        self._metadata = [("authorization", f"Bearer {key}")]

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._signed(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._signed(details), requests)

    def _signed(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), *self._metadata])


@dataclass
class Replica:
    """A running server and clients of it."""

    server: Server
    port: int
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    encoder: Any
    rescorer: Any
    clock: Clock
    channel: grpc.Channel | None = None

    def connect(self, port: int) -> None:
        """Make the clients."""
        self.port = port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.recognizer = recognizer_pb2_grpc.RecognizerStub(self.channel)
        self.context = context_pb2_grpc.ContextStub(self.channel)

    def with_key(self, key: str) -> Replica:
        """The same server, called with a bearer key."""
        other = copy.copy(self)
        assert self.channel is not None
        other.channel = grpc.intercept_channel(self.channel, WithKey(key))
        other.recognizer = recognizer_pb2_grpc.RecognizerStub(other.channel)
        other.context = context_pb2_grpc.ContextStub(other.channel)
        return other

    def run(self, work: Any) -> Any:
        """Result of a coroutine, awaited on the server's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE_S)

    def call(self, work: Callable[[], Any]) -> Any:
        """Result of a function, called on the server's event loop."""

        async def called() -> Any:
            return work()

        return self.run(called())

    async def store_answered(self) -> None:
        """Waits, on the server's loop, until a stream is open and the store has said what it knows of its dialogue."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.server.streams.running or self.server.contexts.asking:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """End the server, its event loop and the client."""
        if self.channel is not None:
            self.channel.close()
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE_S)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def stream(
        self, audio: bytes | Iterable[bytes], *, chunk: int = 6400, deadline_s: float = DEADLINE_S, **config: Any
    ) -> list[recognizer_pb2.StreamingRecognizeResponse]:
        """All responses to a stream of LINEAR16 audio (or whatever `config` says). Raises grpc.RpcError."""
        settings = {"encoding": recognizer_pb2.LINEAR16, "sample_rate_hertz": RATE, **config}
        pieces = [audio[i : i + chunk] for i in range(0, len(audio), chunk)] if isinstance(audio, bytes) else audio

        def messages() -> Iterator[recognizer_pb2.StreamingRecognizeRequest]:
            yield recognizer_pb2.StreamingRecognizeRequest(config=recognizer_pb2.StreamingConfig(**settings))
            if "dialogue_id" in config:
                self.run(self.store_answered())
            for piece in pieces:
                yield recognizer_pb2.StreamingRecognizeRequest(audio=piece)

        return list(self.recognizer.StreamingRecognize(messages(), timeout=deadline_s))

    def finals(self, audio: bytes, **config: Any) -> list[recognizer_pb2.StreamingRecognitionResult]:
        """The final results of a stream."""
        return [result for response in self.stream(audio, **config) for result in response.results if result.is_final]

    def record(self, dialogue: str, turn: str, *events: context_pb2.Event) -> context_pb2.RecordEventsResponse:
        """Record events; their ids are their places."""
        for i, event in enumerate(events):
            event.event_id = event.event_id or f"e{i}"
        request = context_pb2.RecordEventsRequest(dialogue_id=dialogue, turn_id=turn, events=events)
        return self.context.RecordEvents(request, timeout=DEADLINE_S)

    def ask(self, dialogue: str, turn: str, *entries: str) -> context_pb2.RecordEventsResponse:
        """Record a turn in which the assistant asks back."""
        return self.record(
            dialogue,
            turn,
            context_pb2.Event(utterance=context_pb2.Utterance(text="call meg")),
            context_pb2.Event(reply=context_pb2.Reply(text="which meg do you mean")),
            context_pb2.Event(entities=context_pb2.Entities(signal="contacts", entries=entries or ("meg bauer",))),
            context_pb2.Event(expect_speech=context_pb2.ExpectSpeech()),
        )

    def status(self, dialogue: str, turn: str = "") -> context_pb2.GetContextStatusResponse:
        """How far a context is."""
        request = context_pb2.GetContextStatusRequest(dialogue_id=dialogue, turn_id=turn)
        return self.context.GetContextStatus(request, timeout=DEADLINE_S)

    def wait_for(self, state: str, dialogue: str, turn: str = "") -> context_pb2.GetContextStatusResponse:
        """The status once it is in a state; fails after a minute."""
        for _ in range(600):
            status = self.status(dialogue, turn)
            if context_pb2.ContextState.Name(status.state) == state:
                return status
            threading.Event().wait(0.1)
        raise AssertionError(f"still {context_pb2.ContextState.Name(status.state)}: {status.reason}")


@dataclass
class Workshop:
    """Makes replicas over the same tables with the same key, and closes them."""

    recognizer: Recognizer
    config: StoreConfig
    key: WrappingKey
    replicas: list[Replica] = field(default_factory=list)
    store: Callable[..., ContextStore] = ContextStore

    def start(
        self, *, encoder: Any = None, rescorer: Any = None, recognizer: Any = None, clock: Clock | None = None,
        config: StoreConfig | None = None, **flags: Any,
    ) -> Replica:  # fmt: skip
        """A new replica. flags: settings, with __ for the dot."""
        clock = clock or Clock()
        config = config or self.config
        names = {
            "port": 0, "model.workers": 2, "store.ttl_s": config.ttl_s, "drain_s": 30,
            "model.second_pass_wait_ms": DEADLINE_S * 1000,
            "context.yield_ms": 1, "context.deadline_s": DEADLINE_S, "context.shed_ms": DEADLINE_S * 1000,
        }  # fmt: skip
        settings = load_settings(None, names | {k.replace("__", "."): v for k, v in flags.items()}, {})
        encoder, rescorer = encoder or EchoEncoder(), rescorer or FirstPhraseRescorer()
        store = self.store(config, self.key, clock=clock)
        parts = Parts(recognizer or self.recognizer, encoder, rescorer, store, clock)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        async def make() -> Server:
            return Server(settings, parts)

        server = asyncio.run_coroutine_threadsafe(make(), loop).result(DEADLINE_S)
        self.replicas.append(Replica(server, 0, loop, thread, encoder, rescorer, clock))
        port = self.replicas[-1].run(server.start())
        self.replicas[-1].connect(port)
        return self.replicas[-1]

    def close(self) -> None:
        """End all replicas."""
        for replica in self.replicas:
            if hasattr(replica.encoder, "go_on"):
                replica.encoder.go_on.set()
            replica.close()
