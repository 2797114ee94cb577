"""The path of a follow-up over sockets: events, reply window, rescored result, other replicas, erasure."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from asr.context.types import Rescored
from asr.recognition.results import Hypothesis
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from context_store import ContextStore, DialogueId
from server.access import DEFAULT_TENANT
from server.scheduler import Scheduler

WHOLE_UTTERANCE = pb.StreamingRecognitionResult.WHOLE_UTTERANCE
CONTEXT_PHRASES = pb.StreamingRecognitionResult.CONTEXT_PHRASES
STATES = ["RECORDED", "TRIGGERED", "READING", "ENCODING", "READY"]


def names(status: context_pb2.GetContextStatusResponse) -> list[str]:
    return [context_pb2.ContextState.Name(entry.state) for entry in status.timeline]


def test_a_follow_up_is_rescored_with_its_context(workshop: Any, pcm: bytes, dialogue: str) -> None:
    replica = workshop.start()
    plain = replica.finals(pcm)
    assert replica.ask(dialogue, "1", "Meg Bauer", "Meg Jones").triggered
    status = replica.wait_for("READY", dialogue)
    assert names(status) == STATES
    times = [entry.time.ToNanoseconds() for entry in status.timeline]
    assert times == sorted(times)
    assert status.turn_id == "1"
    assert status.expires_at.ToNanoseconds() > times[-1]

    finals = replica.finals(pcm, dialogue_id=dialogue, turn_id="2", max_alternatives=32)

    assert len(finals) == len(plain)
    for final, without in zip(finals, plain, strict=True):
        info = final.context
        assert info.status == pb.ContextInfo.APPLIED
        assert final.alternatives[0].transcript == "meg bauer"
        assert info.plain_transcript == without.alternatives[0].transcript == final.alternatives[1].transcript
        assert info.changed
        assert [a.context_score for a in final.alternatives[:2]] == [2.5, 0.0]
        assert final.alternatives[1].score == without.alternatives[0].score
        assert [(b.word, b.phrase, b.signal, b.nats, b.rank) for b in info.biased_words] == [
            ("meg", "meg bauer", "contacts", 2.5, 3), ("bauer", "meg bauer", "contacts", 2.5, 3)
        ]  # fmt: skip
        assert [(m.entry, m.signal, m.entry_id) for m in info.meant] == [("meg bauer", "contacts", "")]
        assert not without.context.meant
        assert info.context_turn_id == "1"
        assert list(without.passes) == [pb.StreamingRecognitionResult.STREAMING, WHOLE_UTTERANCE]
        assert list(final.passes) == [*without.passes, CONTEXT_PHRASES] and not final.skipped_passes
        assert info.timings.HasField("trigger_to_ready_ms")
        assert info.timings.HasField("rescore_ms")
        assert not info.reason


class Witness:
    """A rescorer that changes nothing and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[Hypothesis, ...]] = []

    def rescore(self, nbest: Any, embedding: Any, force_score: Any, index: Any) -> Rescored:
        self.seen.append(tuple(nbest))
        return Rescored(tuple(nbest))


def test_what_the_context_names_is_searched_for(workshop: Any, pcm: bytes, dialogue: str) -> None:
    """A word that the plain search has lost comes back by its phrase; the plain result stays as it is."""
    replica = workshop.start(rescorer=Witness())
    plain = replica.finals(pcm, max_alternatives=32)
    known = [a.transcript for a in plain[0].alternatives]
    assert not any("bauer" in text for text in known)

    replica.ask(dialogue, "1", "bauer")
    replica.wait_for("READY", dialogue)
    finals = replica.finals(pcm, dialogue_id=dialogue, turn_id="2", max_alternatives=32)

    first = finals[0]
    assert first.context.status == pb.ContextInfo.APPLIED and not first.context.changed
    assert first.context.plain_transcript == known[0]
    assert list(first.alternatives)[: len(known)] == list(plain[0].alternatives)
    assert any("bauer" in a.transcript for a in first.alternatives)
    assert [a.from_context for a in first.alternatives] == [a.transcript not in known for a in first.alternatives]
    assert all(h.bias == 0 for nbest in replica.rescorer.seen for h in nbest)


def test_a_context_does_not_take_back_what_the_clients_phrases_brought(
    workshop: Any, pcm: bytes, dialogue: str
) -> None:
    replica = workshop.start(rescorer=Witness())
    contexts = [pb.SpeechContext(phrases=["j"], boost=2.0)]
    plain = replica.finals(pcm, max_alternatives=32, speech_contexts=contexts)
    replica.ask(dialogue, "1", "bauer")
    replica.wait_for("READY", dialogue)
    finals = replica.finals(pcm, dialogue_id=dialogue, turn_id="2", max_alternatives=32, speech_contexts=contexts)
    for without, final in zip(plain, finals, strict=True):
        assert final.context.status == pb.ContextInfo.APPLIED and not final.context.changed
        assert list(final.alternatives)[: len(without.alternatives)] == list(without.alternatives)
        assert final.context.biased_words == without.context.biased_words
    assert all(h.bias == 0 for nbest in replica.rescorer.seen for h in nbest)


def test_the_encoder_sees_the_dialogue(workshop: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.record(dialogue, "1", context_pb2.Event(utterance=context_pb2.Utterance(text="hello")))
    replica.ask(dialogue, "2", "Meg Bauer", "Meg Jones")
    replica.wait_for("READY", dialogue, "2")
    (context,) = replica.encoder.seen
    said = [(turn.speaker, turn.text) for turn in context.turns]
    assert said == [("user", "hello"), ("user", "call meg"), ("system", "which meg do you mean")]
    assert [(e.signal, e.text) for e in context.entries] == [("contacts", "Meg Bauer"), ("contacts", "Meg Jones")]


def test_without_expect_speech_nothing_is_made(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start()
    event = context_pb2.Event(utterance=context_pb2.Utterance(text="hello"))
    assert not replica.record(dialogue, "1", event).triggered
    status = replica.status(dialogue)
    assert names(status) == ["RECORDED"]
    assert status.timeline[0].time.ToNanoseconds() <= time.time_ns()
    (final, *_) = replica.finals(pcm, dialogue_id=dialogue)
    assert final.context.status == pb.ContextInfo.NOT_FOUND
    assert not replica.encoder.seen


def test_a_turns_own_context_is_not_used_on_it(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1", "first")
    replica.wait_for("READY", dialogue, "1")
    replica.ask(dialogue, "2", "second")
    replica.wait_for("READY", dialogue, "2")

    def used(turn: str) -> str:
        return replica.finals(pcm, dialogue_id=dialogue, turn_id=turn)[0].context.context_turn_id

    assert used("3") == "2"
    assert used("2") == "1"
    assert used("") == "2"


def test_repeated_events_change_nothing(workshop: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1")
    before = replica.wait_for("READY", dialogue)
    assert replica.ask(dialogue, "1").triggered
    assert replica.status(dialogue) == before
    assert len(replica.encoder.seen) == 1


def test_a_refused_event_loses_nothing(workshop: Any, dialogue: str) -> None:
    replica = workshop.start()

    def say(text: str) -> None:
        utterance = context_pb2.Utterance(text=text)
        replica.record(dialogue, "1", context_pb2.Event(event_id="said", utterance=utterance))

    say("first")
    with pytest.raises(grpc.RpcError):
        say("second")
    replica.record(dialogue, "1", context_pb2.Event(event_id="asked", expect_speech=context_pb2.ExpectSpeech()))
    replica.wait_for("READY", dialogue)
    assert [turn.text for turn in replica.encoder.seen[-1].turns] == ["first"]


def test_later_events_of_a_turn_make_its_context_anew(workshop: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1", "Meg Bauer")
    replica.wait_for("READY", dialogue)
    late = context_pb2.Event(event_id="late", entities=context_pb2.Entities(signal="places", entries=["Boston"]))
    replica.record(dialogue, "1", late)
    replica.wait_for("READY", dialogue)
    assert {entry.text for entry in replica.encoder.seen[-1].entries} == {"Meg Bauer", "Boston"}


def test_a_newer_turn_supersedes_what_is_under_way(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start()
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1", "old")
    replica.wait_for("ENCODING", dialogue, "1")
    replica.clock.now += 5
    replica.ask(dialogue, "2", "new")
    assert "superseded" in replica.status(dialogue, "1").reason
    replica.encoder.go_on.set()
    replica.wait_for("READY", dialogue, "2")
    assert names(replica.status(dialogue, "1"))[-1] == "ENCODING"
    info = replica.finals(pcm, dialogue_id=dialogue, turn_id="3")[0].context
    assert (info.status, info.context_turn_id) == (pb.ContextInfo.APPLIED, "2")


def test_a_late_event_of_an_older_turn_leaves_the_newer_ones_job_alone(
    workshop: Any, dialogue: str, pcm: bytes
) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1", "old")
    replica.wait_for("READY", dialogue, "1")
    replica.clock.now += 5
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "2", "new")
    replica.wait_for("ENCODING", dialogue, "2")
    replica.record(dialogue, "1", context_pb2.Event(event_id="late", speak=context_pb2.Speak()))
    replica.encoder.go_on.set()
    replica.wait_for("READY", dialogue, "2")
    info = replica.finals(pcm, dialogue_id=dialogue, turn_id="3")[0].context
    assert (info.status, info.context_turn_id) == (pb.ContextInfo.APPLIED, "2")


@pytest.mark.parametrize("asked", ["events", "stream"])
def test_what_was_dropped_under_load_is_made_when_it_is_asked_for(
    workshop: Any, dialogue: str, pcm: bytes, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    replica = workshop.start()
    monkeypatch.setattr(Scheduler, "late", property(lambda scheduler: True))
    assert not replica.ask(dialogue, "1").triggered
    assert "dropped" in replica.status(dialogue, "1").reason
    info = replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[0].context
    assert info.status == pb.ContextInfo.NOT_READY and "dropped" in info.reason
    monkeypatch.undo()
    if asked == "events":
        assert replica.ask(dialogue, "1").triggered
    else:
        replica.finals(pcm[:6400], dialogue_id=dialogue, turn_id="2")
    replica.wait_for("READY", dialogue, "1")
    assert replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[0].context.status == pb.ContextInfo.APPLIED


def test_a_turn_id_that_is_used_again_after_its_expiry(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1", "old")
    replica.wait_for("READY", dialogue, "1")
    replica.clock.now += workshop.config.ttl_s + 1
    assert replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[0].context.status == pb.ContextInfo.EXPIRED
    assert replica.ask(dialogue, "1", "new").triggered
    replica.wait_for("READY", dialogue, "1")
    final = replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[0]
    assert (final.context.status, final.alternatives[0].transcript) == (pb.ContextInfo.APPLIED, "new")


def test_dialogues_at_once_keep_their_own_contexts(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start()
    ids = [f"{dialogue}-{i}" for i in range(4)]
    for i, name in enumerate(ids):
        replica.ask(name, "1", "abcd"[i] * 3)
    for name in ids:
        replica.wait_for("READY", name)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda name: replica.finals(pcm, dialogue_id=name, turn_id="2"), ids))
    assert [final[0].alternatives[0].transcript for final in answers] == ["aaa", "bbb", "ccc", "ddd"]
    assert len({final[0].context.plain_transcript for final in answers}) == 1


def test_another_replica_uses_the_stored_context(workshop: Any, dialogue: str, pcm: bytes) -> None:
    first = workshop.start()
    second = workshop.start(clock=first.clock)
    first.ask(dialogue, "1", "meg bauer")
    first.wait_for("READY", dialogue)
    first.run(first.server.drain())  # only then is it certain that the embedding is stored
    info = second.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context
    assert info.status == pb.ContextInfo.APPLIED
    assert not info.timings.HasField("trigger_to_ready_ms")
    assert not second.encoder.seen


def test_another_replica_makes_the_context_that_none_made(workshop: Any, dialogue: str, pcm: bytes) -> None:
    first = workshop.start(context__enabled=False)
    second = workshop.start(clock=first.clock)
    assert not first.ask(dialogue, "1").triggered
    second.finals(pcm[:6400], dialogue_id=dialogue, turn_id="2")
    second.wait_for("READY", dialogue)
    assert second.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.status == pb.ContextInfo.APPLIED


def test_a_newer_turn_at_another_replica_wins(workshop: Any, dialogue: str, pcm: bytes) -> None:
    first = workshop.start()
    second = workshop.start(clock=first.clock)
    first.ask(dialogue, "1", "old")
    first.wait_for("READY", dialogue)
    first.clock.now += 5
    second.ask(dialogue, "2", "new")
    second.wait_for("READY", dialogue)
    second.run(second.server.drain())
    info = first.finals(pcm, dialogue_id=dialogue, turn_id="3")[-1].context
    assert info.status == pb.ContextInfo.APPLIED
    assert info.context_turn_id == "2"


def test_embedding_of_a_turn(workshop: Any, dialogue: str) -> None:
    replica = workshop.start()
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1", "Meg Bauer")
    request = context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue)
    with pytest.raises(grpc.RpcError) as caught:
        replica.context.GetContextEmbedding(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "wait until GetContextStatus says READY" in (caught.value.details() or "")
    replica.encoder.go_on.set()
    replica.wait_for("READY", dialogue)
    replica.record(dialogue, "0", context_pb2.Event(speak=context_pb2.Speak()))
    spoken = context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue, turn_id="0")
    with pytest.raises(grpc.RpcError) as caught:
        replica.context.GetContextEmbedding(spoken, timeout=30)
    assert "no event of the turn expects speech" in (caught.value.details() or "")
    answer = replica.context.GetContextEmbedding(request, timeout=30)
    assert list(answer.shape) == [3, 4]
    assert np.array_equal(np.reshape(answer.values, answer.shape), np.arange(12).reshape(3, 4))
    assert len(answer.summary) == 4
    assert answer.model_version == "echo-1"
    assert [(p.phrase, p.signal) for p in answer.phrases] == [("meg bauer", "contacts")]


def test_the_ids_of_entries_come_back_with_what_is_meant(workshop: Any, pcm: bytes, dialogue: str) -> None:
    replica = workshop.start()
    bauer = context_pb2.Entities(signal="contacts", items=[context_pb2.Entry(text="Meg Bauer", id="17")])
    jones = context_pb2.Entities(signal="contacts", entries=["Meg Jones"])
    events = [context_pb2.Event(entities=e) for e in (bauer, jones)]
    replica.record(dialogue, "1", *events, context_pb2.Event(expect_speech=context_pb2.ExpectSpeech()))
    replica.wait_for("READY", dialogue)
    power = context_pb2.NBestEntry(text="power")
    infos = [final.context for final in replica.finals(pcm, dialogue_id=dialogue, turn_id="2")]
    for source in ({"dialogue_id": dialogue}, {"context": context_pb2.InlineContext(entities=[bauer, jones])}):
        rescored = replica.context.Rescore(context_pb2.RescoreRequest(nbest=[power], **source), timeout=30)
        infos.append(rescored.context)
    for info in infos:
        assert [(m.entry, m.signal, m.entry_id) for m in info.meant] == [("meg bauer", "contacts", "17")]


def test_rescore_with_a_dialogue_or_an_inline_context(workshop: Any, dialogue: str) -> None:
    replica = workshop.start()
    nbest = [context_pb2.NBestEntry(text="Power!"), context_pb2.NBestEntry(text="flower")]
    inline = context_pb2.InlineContext(
        turns=[context_pb2.ContextTurn(speaker=context_pb2.ContextTurn.SYSTEM, text="who?")],
        entities=[context_pb2.Entities(signal="contacts", entries=["Bauer"])],
    )
    answer = replica.context.Rescore(context_pb2.RescoreRequest(nbest=nbest, context=inline), timeout=30)
    assert [(e.text, e.from_context) for e in answer.nbest] == [
        ("bauer", True), ("Power!", False), ("flower", False)
    ]  # fmt: skip
    assert (answer.context.status, answer.context.plain_transcript) == (pb.ContextInfo.APPLIED, "Power!")

    request = context_pb2.RescoreRequest(nbest=nbest, dialogue_id=dialogue)
    unknown = replica.context.Rescore(request, timeout=30)
    assert [e.text for e in unknown.nbest] == ["Power!", "flower"]
    assert unknown.context.status == pb.ContextInfo.NOT_FOUND
    replica.ask(dialogue, "1", "Bauer")
    replica.wait_for("READY", dialogue)
    assert replica.context.Rescore(request, timeout=30).nbest[0].text == "bauer"


def test_a_dialogue_that_was_erased_elsewhere_and_begun_anew(workshop: Any, dialogue: str, pcm: bytes) -> None:
    """Nothing of its first life, with the same ids and as many events, is left at a replica that had it in memory."""
    here = workshop.start()
    there = workshop.start(clock=here.clock)
    here.ask(dialogue, "1", "old")
    here.wait_for("READY", dialogue)
    there.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    with pytest.raises(grpc.RpcError) as caught:  # named, so that it could come out of memory
        here.context.GetContextEmbedding(
            context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue, turn_id="1"), timeout=60
        )
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    def heard() -> tuple[int, str]:
        final = here.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1]
        return final.context.status, final.alternatives[0].transcript

    here.ask(dialogue, "1", "second")
    here.wait_for("READY", dialogue)
    there.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    there.ask(dialogue, "1", "third")
    there.wait_for("READY", dialogue)
    there.run(there.server.drain())
    assert heard() == (pb.ContextInfo.APPLIED, "third")
    here.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    here.ask(dialogue, "1", "fourth")
    here.wait_for("READY", dialogue)
    assert heard() == (pb.ContextInfo.APPLIED, "fourth")


def test_a_turns_status_is_not_that_of_an_erased_one_of_its_name(workshop: Any, dialogue: str) -> None:
    """What is recorded at a replica tells it of an erasure elsewhere, whether it expects speech or not."""
    here = workshop.start()
    there = workshop.start(clock=here.clock)
    here.ask(dialogue, "1")
    here.wait_for("READY", dialogue, "1")
    there.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    here.record(dialogue, "1", context_pb2.Event(utterance=context_pb2.Utterance(text="call sam")))
    assert here.status(dialogue, "1").state == context_pb2.RECORDED


@pytest.mark.parametrize("what", ["dialogue", "tenant"])
def test_an_erasure_elsewhere_during_a_job(workshop: Any, dialogue: str, pcm: bytes, what: str) -> None:
    """What the job makes is stored nowhere and used for no turn."""
    here = workshop.start()
    there = workshop.start(clock=here.clock)
    here.encoder.go_on.clear()
    here.ask(dialogue, "1", "old")
    here.wait_for("ENCODING", dialogue, "1")
    if what == "dialogue":
        there.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    else:
        assert there.server.store.store.delete_tenant(DEFAULT_TENANT)
    here.encoder.go_on.set()
    here.wait_for("READY", dialogue, "1")  # it does not know yet
    assert here.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.status == pb.ContextInfo.NOT_FOUND
    here.run(here.server.drain())
    store = ContextStore(workshop.config, workshop.key, clock=here.clock)
    assert store.get_embedding(DialogueId(DEFAULT_TENANT, dialogue), "1", "echo-1") is None
    store.close()


def test_a_new_life_without_a_question_leaves_no_context_of_the_old_one(
    workshop: Any, dialogue: str, pcm: bytes
) -> None:
    here = workshop.start()
    there = workshop.start(clock=here.clock)
    here.ask(dialogue, "1", "old")
    here.wait_for("READY", dialogue)
    there.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    there.record(dialogue, "1", context_pb2.Event(utterance=context_pb2.Utterance(text="call meg")))
    assert here.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.status == pb.ContextInfo.NOT_FOUND
    here.ask(dialogue, "1", "anew")
    here.wait_for("READY", dialogue)
    there.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60)
    here.ask(dialogue, "1", "last")  # as many events again, known by their texts to be others
    here.wait_for("READY", dialogue)
    assert here.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].alternatives[0].transcript == "last"


def test_delete_erases_tables_caches_and_jobs(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start()
    other = workshop.start(clock=replica.clock)
    replica.ask(dialogue, "1")
    replica.wait_for("READY", dialogue)
    other.finals(pcm, dialogue_id=dialogue, turn_id="2")  # now it is in the other's cache too
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "2")
    replica.wait_for("ENCODING", dialogue, "2")

    request = context_pb2.DeleteDialogueRequest(dialogue_id=dialogue)
    deletion = replica.context.DeleteDialogue.future(request, timeout=60)
    replica.encoder.go_on.set()
    assert deletion.result().items_deleted > 0

    store = ContextStore(workshop.config, workshop.key, clock=replica.clock)
    assert not store.dialogue_status(DialogueId(DEFAULT_TENANT, dialogue)).turns
    assert store.get_embedding(DialogueId(DEFAULT_TENANT, dialogue), "2", "echo-1") is None
    store.close()
    for either in (replica, other):
        info = either.finals(pcm, dialogue_id=dialogue, turn_id="3")[-1].context
        assert info.status == pb.ContextInfo.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            either.status(dialogue)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert replica.context.DeleteDialogue(request, timeout=30).items_deleted == 0
