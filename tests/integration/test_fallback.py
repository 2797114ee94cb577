"""Without a usable context the result is the plain recogniser's, bit for bit, and says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from asr.errors import ContextError
from asr.recognition.recognizer import Recognizer, StreamOptions
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from context_store.local_server import local_server
from tests.support.moto_server import fresh_tables


def plain_results(recognizer: Recognizer, pcm: bytes) -> list[list[tuple[Any, ...]]]:
    """What the recogniser says of the audio, without a server or a context: every number, exactly."""
    stream = recognizer.open(StreamOptions())
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768.0
    results = [result for result in (*stream.accept(samples), *stream.finish()) if result.is_final]
    return [
        [
            (h.text, np.float32(h.confidence), h.score, [(w.text, w.start_s, w.end_s) for w in h.words])
            for h in result.nbest
        ]
        for result in results
    ]


def served(finals: list[pb.StreamingRecognitionResult]) -> list[list[tuple[Any, ...]]]:
    return [
        [
            (a.transcript, np.float32(a.confidence), a.score, [(w.word, w.start, w.end) for w in a.words])
            for a in final.alternatives
        ]
        for final in finals
    ]


@pytest.fixture
def check(tiny_recognizer: Recognizer, pcm: bytes) -> Any:
    """Asserts that a replica answers with the plain result and a status; returns the last ContextInfo."""
    expected = plain_results(tiny_recognizer, pcm)
    assert any(result[0][0] for result in expected)

    def check(replica: Any, status: str, **config: Any) -> pb.ContextInfo:
        finals = replica.finals(pcm, max_alternatives=32, enable_word_time_offsets=True, **config)
        assert served(finals) == expected
        for final in finals:
            assert pb.ContextInfo.Status.Name(final.context.status) == status
            assert not final.context.changed
            assert not final.context.biased_words
            assert final.context.plain_transcript == final.alternatives[0].transcript
        return finals[-1].context

    return check


def test_not_requested(workshop: Any, check: Any) -> None:
    check(workshop.start(), "NOT_REQUESTED")


def test_not_found(workshop: Any, check: Any, dialogue: str) -> None:
    assert check(workshop.start(), "NOT_FOUND", dialogue_id=dialogue, turn_id="1").reason


def test_not_ready(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1")
    replica.wait_for("ENCODING", dialogue)
    assert "encoding" in check(replica, "NOT_READY", dialogue_id=dialogue, turn_id="2").reason


def test_dropped_because_too_many_wait(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start(context__queue=1)
    replica.encoder.go_on.clear()
    for i in range(4):
        replica.ask(f"{dialogue}-{i}", "1")
    status = replica.status(f"{dialogue}-3")
    assert status.reason.startswith("dropped")
    assert "dropped" in check(replica, "NOT_READY", dialogue_id=f"{dialogue}-3", turn_id="2").reason


def test_expired(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start(context__ttl_s=100)
    replica.ask(dialogue, "1")
    replica.wait_for("READY", dialogue)
    replica.clock.now += 101
    check(replica, "EXPIRED", dialogue_id=dialogue, turn_id="2")
    assert replica.status(dialogue).state == 7
    fresh = workshop.start(context__ttl_s=100, clock=replica.clock)
    check(fresh, "EXPIRED", dialogue_id=dialogue, turn_id="2")


def test_everything_stored_has_expired(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1")
    replica.wait_for("READY", dialogue)
    replica.clock.now += workshop.config.ttl_s + 1
    check(replica, "EXPIRED", dialogue_id=dialogue, turn_id="2")


def test_deadline(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start(context__deadline_s=0.2)
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1")
    replica.wait_for("FAILED", dialogue)
    assert "0.2 s" in check(replica, "FAILED", dialogue_id=dialogue, turn_id="2").reason


def test_encoder_raises(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.encoder.error = ContextError("secret words")
    replica.ask(dialogue, "1")
    assert "secret" not in replica.wait_for("FAILED", dialogue).reason
    assert check(replica, "FAILED", dialogue_id=dialogue, turn_id="2").reason == "ContextError while encoding"


def test_rescorer_raises(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1")
    replica.wait_for("READY", dialogue)
    replica.rescorer.error = RuntimeError("secret words")
    assert check(replica, "FAILED", dialogue_id=dialogue, turn_id="2").reason == "RuntimeError while rescoring"


def test_rescorer_raises_while_phrases_of_both_sides_are_searched_for(workshop: Any, dialogue: str, pcm: bytes) -> None:
    """The client's own phrases stay, the context's leave no trace: every number as without the dialogue."""
    replica = workshop.start()
    settings = {
        "max_alternatives": 32, "enable_word_time_offsets": True,
        "speech_contexts": [pb.SpeechContext(phrases=["j"], boost=2.0)],
    }  # fmt: skip
    expected = served(replica.finals(pcm, **settings))
    assert expected != served(replica.finals(pcm, max_alternatives=32, enable_word_time_offsets=True))
    replica.ask(dialogue, "1", "bauer")
    replica.wait_for("READY", dialogue)
    replica.rescorer.error = RuntimeError("secret words")
    finals = replica.finals(pcm, dialogue_id=dialogue, turn_id="2", **settings)
    assert served(finals) == expected
    assert all(f.context.status == pb.ContextInfo.FAILED and not f.context.changed for f in finals)


def test_disabled(workshop: Any, check: Any, dialogue: str) -> None:
    replica = workshop.start(context__enabled=False)
    assert not replica.ask(dialogue, "1").triggered
    check(replica, "DISABLED", dialogue_id=dialogue, turn_id="2")
    check(replica, "NOT_REQUESTED")
    nbest = [context_pb2.NBestEntry(text="power"), context_pb2.NBestEntry(text="bauer")]
    for source in ({"dialogue_id": dialogue}, {"context": context_pb2.InlineContext()}):
        answer = replica.context.Rescore(context_pb2.RescoreRequest(nbest=nbest, **source), timeout=60)
        assert [entry.text for entry in answer.nbest] == ["power", "bauer"]
        assert answer.context.status == pb.ContextInfo.DISABLED


@pytest.fixture
def doomed_store() -> Iterator[Any]:
    """A store's configuration, and what stops its server."""
    with ExitStack() as server:
        url = server.enter_context(local_server())
        with fresh_tables(url) as config:
            yield config, server.close
            server.enter_context(local_server(int(url.rsplit(":", 1)[1])))  # so that the tables can be deleted


def test_store_down(workshop: Any, check: Any, dialogue: str, doomed_store: Any, pcm: bytes) -> None:
    config, stop = doomed_store
    replica = workshop.start(config=config)
    replica.ask(f"{dialogue}-known", "1")
    replica.wait_for("READY", f"{dialogue}-known")
    stop()
    assert "StoreUnavailableError" in check(replica, "FAILED", dialogue_id=dialogue, turn_id="1").reason
    known = replica.finals(pcm, dialogue_id=f"{dialogue}-known", turn_id="2")[-1].context
    assert known.status == pb.ContextInfo.APPLIED
