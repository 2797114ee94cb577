"""Two replicas over one store, with everything about them that can go wrong at hand."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import numpy as np
from botocore.loaders import JSONFileLoader

from asr.context.phrase_index import PhraseIndex
from asr.context.types import BiasedWord, Context, ContextEmbedding, Phrase, Rescored
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Hypothesis
from benchmarks.server.fault_proxy import Fault, FaultProxy, Plan, fault_proxy, no_faults
from carryover.v1 import recognizer_pb2
from context_store import ContextStore, DialogueId, StoreConfig, local_wrapping_key
from server.access import make_key
from tests.dialogues.model import CONTEXT_TTL_S, STORE_TTL_S, Key
from tests.support import tiny_recognizer as tiny
from tests.support.moto_server import dynamodb_endpoint, fresh_tables
from tests.support.replicas import DEADLINE_S, RATE, Clock, Replica, Workshop

TENANTS = ("acme", "umbra")
UTTERANCES = 8
"""So many of a stream."""
_SPEECH = slice(20_000, 25_120)
"""What of the tiny model's speech is said: one chunk."""
TRUSTING = 1
"""The replica that uses a context for a while when its store fails; the other one never does."""
_POLL_S = 0.001

_SETTINGS: dict[str, Any] = {
    "endpoint__trailing_silence_s": 0.28, "endpoint__likely_silence_s": 0.28, "model__batch_wait_ms": 0,
    "context__ttl_s": CONTEXT_TTL_S, "context__queue": 3, "context__tenant_queue": 2, "context__deadline_s": 20,
    "context__sweep_s": 3600, "limits__idle_seconds": 600, "store__deadline_s": 20,
}  # fmt: skip
"""Memory is swept when a step says so."""


class MarkedEncoder:
    """A context encoder whose phrases are all that it reads. It can be made to wait or to fail."""

    model_version = "marked-1"

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.fails = False

    def encode(self, context: Context) -> ContextEmbedding:
        assert self.go_on.wait(DEADLINE_S)
        if self.fails:
            raise ArithmeticError
        phrases = [Phrase(entry.text, entry.signal, -1.0) for entry in context.entries]
        phrases += [Phrase(turn.text, "turns", -2.0) for turn in context.turns]
        vectors = np.ones((1, 4), np.float32)
        return ContextEmbedding(vectors, vectors.mean(0), tuple(phrases), "none", self.model_version)


class MarkedRescorer:
    """Puts the context's first phrase before everything, and names all of its phrases."""

    def rescore(
        self,
        nbest: Sequence[Hypothesis],
        embedding: ContextEmbedding,
        force_score: Callable[[Sequence[str]], list[Hypothesis]] | None,
        index: PhraseIndex,
    ) -> Rescored:
        if not embedding.phrases:
            return Rescored(tuple(nbest))
        first = Hypothesis(embedding.phrases[0].text, -1.0, from_context=True)
        words = tuple(BiasedWord(phrase.text, phrase.text, phrase.signal, 1.0, 1) for phrase in embedding.phrases)
        return Rescored((first, *nbest), True, words)


class CountedStore(ContextStore):
    """Knows how many of its calls are under way."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.under_way = 0
        self.lock = threading.Lock()


def _counted(name: str) -> Callable[..., Any]:
    method = getattr(ContextStore, name)

    @wraps(method)
    def call(self: CountedStore, *arguments: Any, **keywords: Any) -> Any:
        with self.lock:
            self.under_way += 1
        try:
            return method(self, *arguments, **keywords)
        finally:
            with self.lock:
                self.under_way -= 1

    return call


for _name in (
    "record", "place", "read_turns", "dialogue_status", "put_embedding", "get_embedding", "delete_dialogue", "sweep",
):  # fmt: skip
    setattr(CountedStore, _name, _counted(_name))


class Stream:
    """One open stream: audio goes in, results come out, both when the caller says so."""

    def __init__(self, replica: Replica, metadata: Any, **config: Any) -> None:
        self._requests: queue.SimpleQueue[recognizer_pb2.StreamingRecognizeRequest | None] = queue.SimpleQueue()
        settings = {"encoding": recognizer_pb2.LINEAR16, "sample_rate_hertz": RATE, "interim_results": True, **config}
        config_message = recognizer_pb2.StreamingConfig(max_alternatives=3, enable_word_time_offsets=True, **settings)
        self._requests.put(recognizer_pb2.StreamingRecognizeRequest(config=config_message))
        self.call = replica.recognizer.StreamingRecognize(
            iter(self._requests.get, None), timeout=600, metadata=metadata
        )

    def send(self, audio: bytes) -> None:
        """More audio."""
        self._requests.put(recognizer_pb2.StreamingRecognizeRequest(audio=audio))

    def read(self) -> recognizer_pb2.StreamingRecognitionResult:
        """The next result. Raises grpc.RpcError."""
        (result,) = next(self.call).results
        return result

    def close(self) -> list[recognizer_pb2.StreamingRecognitionResult]:
        """Ends the audio; the results that are left."""
        self._requests.put(None)
        return [result for response in self.call for result in response.results]

    def leave(self) -> None:
        """As a client that vanishes."""
        self._requests.put(None)
        self.call.cancel()


class Rig:
    """Two replicas and what can be done to them."""

    def __init__(self, url: str, config: StoreConfig, keys: dict[str, str], keys_file: Path) -> None:
        tokenizer = tiny.tokenizer()
        model = tiny.transducer(tokenizer, tiny.SilenceAware)
        recognizer = Recognizer(model, tokenizer, beam=4, version="tiny", second_pass=False)
        self.metadata = {tenant: (("authorization", f"Bearer {key}"),) for tenant, key in keys.items()}
        self._url = url
        self._config = replace(config, max_attempts=1)
        self._keys_file = keys_file
        self._shop = Workshop(recognizer, config, local_wrapping_key(), store=CountedStore)
        self._stacks = [ExitStack(), ExitStack()]
        self.clocks = [Clock(), Clock()]
        self.proxies: list[FaultProxy] = []
        self.replicas: list[Replica] = []
        self._go_on = threading.Event()
        self._go_on.set()
        for number in (0, 1):
            self._start(number)
        pcm = (tiny.speech()[_SPEECH] * 32767).astype("<i2").tobytes()
        self.pause = bytes(len(pcm))
        """Silence; behind `words` it brings the final result."""
        self.words = pcm + self.pause
        """An utterance's audio, which brings one other result. The encoder looks ahead, so a part of it is silent."""
        self.plain = list(self._plain())

    def _plain(self) -> Iterator[recognizer_pb2.StreamingRecognitionResult]:
        """The plain final results of a stream's utterances, each of which brings one other result before."""
        stream = Stream(self.replicas[0], self.metadata[TENANTS[0]])
        stream.send(self.pause)
        for _ in range(UTTERANCES):
            stream.send(self.words)
            partial = stream.read()
            assert partial.alternatives[0].transcript and not partial.is_final
            stream.send(self.pause)
            final = stream.read()
            assert final.alternatives[0].transcript and final.is_final
            yield final
        stream.leave()

    def _start(self, number: int) -> None:
        proxy = self._stacks[number].enter_context(fault_proxy(self._url))
        replica = self._shop.start(
            encoder=MarkedEncoder(),
            rescorer=MarkedRescorer(),
            clock=self.clocks[number],
            config=replace(self._config, endpoint_url=proxy.url),
            access__keys_file=str(self._keys_file),
            context__cached_dialogues=(64, 3)[number],
            context__unconfirmed_s=60 if number == TRUSTING else 0,
            **_SETTINGS,
        )
        self.proxies[number : number + 1] = [proxy]
        self.replicas[number : number + 1] = [replica]

    # What can be done to a replica

    def kill(self, number: int) -> None:
        """Ends a replica at once: from now on nothing of it reaches the store or a client; then starts it anew."""
        self.proxies[number].plan = always(Fault.UNREACHABLE)
        self._go_on.set()
        self._end(number)
        self._start(number)

    def restart(self, number: int) -> None:
        """Drains a replica, ends it and starts it anew."""
        replica = self.replicas[number]
        replica.run(replica.server.drain())
        self._end(number)
        self._start(number)

    def _end(self, number: int) -> None:
        replica = self.replicas[number]
        replica.encoder.go_on.set()
        replica.close()
        self._shop.replicas.remove(replica)
        self._stacks[number].close()

    def store_fault(self, number: int, fault: Fault | None, seed: int = 0) -> None:
        """Has a replica's calls of the store fail. seed: not 0: only some of them do."""
        self.proxies[number].plan = some(fault, seed) if seed and fault else always(fault)

    def hold_store(self, number: int) -> None:
        """Has the store answer a replica no more, until `recover`."""
        self._go_on.clear()

        def held(operation: str) -> Fault | None:
            assert self._go_on.wait(DEADLINE_S)
            return None

        self.proxies[number].plan = held

    def load(self, number: int, *, late: bool) -> None:
        """Has a replica believe that its audio is late."""
        self.replicas[number].server.scheduler._late_s = -1.0 if late else DEADLINE_S

    def recover(self) -> None:
        """Ends all that was wrong, and waits until nothing is under way any more."""
        for number, replica in enumerate(self.replicas):
            self.proxies[number].plan = no_faults
            replica.encoder.go_on.set()
            replica.encoder.fails = False
            self.load(number, late=False)
        self._go_on.set()
        for number in (0, 1):
            self.wait_idle(number)

    def wait_idle(self, number: int) -> None:
        """Waits until a replica makes no context and asks the store nothing."""
        server = self.replicas[number].server
        until(lambda: not (self.replicas[number].call(lambda: server.contexts.busy or server.contexts.asking)))
        until(lambda: not self._store(number).under_way)

    def wait_answered(self, number: int) -> None:
        """Waits until the store has answered all that a replica asked it for its streams."""
        replica = self.replicas[number]
        until(lambda: not replica.call(lambda: replica.server.contexts.asking))

    # What a replica holds in memory

    def sweep(self, number: int) -> None:
        """Has a replica forget what it need not hold any more."""
        self.replicas[number].run(self.replicas[number].server.contexts.sweep())

    def held(self, number: int) -> list[Any]:
        """The contexts in a replica's memory."""
        replica = self.replicas[number]
        contexts: list[Any] = replica.call(lambda: list(replica.server.contexts.cache))
        return contexts

    def held_keys(self, number: int) -> dict[DialogueId, float]:
        """The dialogues whose keys are in a replica's memory, with the seconds until which they may be."""
        keys = self._store(number)._keys
        with keys._lock:
            return {dialogue: until_s for dialogue, (until_s, _) in keys._cache.items()}

    def _store(self, number: int) -> CountedStore:
        store = self.replicas[number].server.store.store
        assert isinstance(store, CountedStore)
        return store

    def clear(self, keys: Iterable[Key]) -> None:
        """Deletes dialogues from the store: what stays makes it slower."""
        for key in keys:
            self._store(0).delete_dialogue(DialogueId(*key))

    def close(self) -> None:
        """Ends everything."""
        self._go_on.set()
        for number in (0, 1):
            self.proxies[number].plan = no_faults
            self._end(number)


@contextmanager
def rig() -> Iterator[Rig]:
    """Two replicas over fresh tables."""
    made = {tenant: make_key(tenant) for tenant in TENANTS}
    with tempfile.TemporaryDirectory() as folder, _models_of_aws_read_once(), dynamodb_endpoint() as url:
        file = Path(folder) / "keys"
        file.write_text("".join(f"{line}\n" for _, line in made.values()))
        with fresh_tables(url, ttl_s=STORE_TTL_S) as config:
            running = Rig(url, config, {tenant: key for tenant, (key, _) in made.items()}, file)
            try:
                yield running
            finally:
                running.close()


def _models_of_aws_read_once() -> AbstractContextManager[Any]:
    """For each client boto3 reads them anew, which takes longer than all else that a replica does when it starts."""
    load = cache(JSONFileLoader().load_file)
    return patch.object(JSONFileLoader, "load_file", lambda _, path: load(path))


def always(fault: Fault | None) -> Plan:
    """This fault of every call."""
    return lambda operation: fault


def some(fault: Fault, seed: int) -> Plan:
    """This fault of every second or third call, or thereabouts."""
    rng, lock = np.random.default_rng(seed), threading.Lock()

    def plan(operation: str) -> Fault | None:
        with lock:
            return fault if rng.random() < 0.4 else None

    return plan


def until(holds: Callable[[], object]) -> None:
    """Waits, at short intervals, until a condition holds. Raises AssertionError when it does not for a minute."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, "what was waited for did not happen"
        time.sleep(_POLL_S)


def code(error: grpc.RpcError) -> str:
    """The name of an error's status."""
    name: str = error.code().name
    return name
