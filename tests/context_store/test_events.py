"""Recording: the trigger, idempotency, order, clashes, and what a record must never do."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from context_store import (
    ContextStore,
    DialogueId,
    Entities,
    Event,
    EventClashError,
    ExpectSpeech,
    InvalidEventError,
    PayloadClashError,
    Recorded,
    Reply,
    Speak,
    Transcribe,
    Utterance,
)
from context_store import payloads as payloads_module
from context_store import store as store_module
from context_store.sealing import unseal
from tests.support.store_bench import START_S, Bench, Clock

QUESTION = [
    Event("u1", START_S + 1, Utterance("call Meg")),
    Event("r1", START_S + 2, Reply("do you mean Meg Jones or Meg Bauer?")),
    Event("c1", START_S + 2.5, Entities("contacts", ("Meg Jones", "Meg Bauer"))),
    Event("s1", START_S + 3, Speak()),
    Event("x1", START_S + 4, ExpectSpeech()),
]


def test_the_update_itself_tells_whether_to_start(bench: Bench, dialogue: DialogueId) -> None:
    first = bench.store.record(dialogue, "t1", [Event("a", START_S, Speak())])
    assert (first.version, first.trigger) == (1, False)
    assert bench.requests == {"UpdateItem": 1}
    second = bench.store.record(dialogue, "t1", [Event("b", START_S, ExpectSpeech())])
    assert (second.version, second.trigger) == (2, True)
    assert bench.requests == {"UpdateItem": 2}
    late = bench.store.record(dialogue, "t1", [Event("c", START_S, Transcribe())])
    assert (late.version, late.trigger) == (3, True)


def test_without_expect_speech_nothing_is_read_or_decrypted(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []

    def counted(key: bytes, context: dict[str, str], sealed: bytes) -> bytes:
        opened.append(sealed)
        return unseal(key, context, sealed)

    monkeypatch.setattr(payloads_module, "unseal", counted)
    for event in QUESTION[:-1]:
        assert not bench.store.record(dialogue, "t1", [event]).trigger
        assert not bench.store.record(dialogue, "t1", [event]).trigger
    assert not any(bench.requests[name] for name in ("GetItem", "BatchGetItem", "Query", "Scan"))
    assert opened == []
    assert (bench.key.wraps, bench.key.unwraps) == (1, 0)
    bench.store.read_turns(dialogue)
    assert len(opened) == 3, "the counter must see the decryptions that do happen"


def test_texts_come_back_in_the_order_of_time(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", QUESTION)
    (turn,) = bench.replica().store.read_turns(dialogue)
    assert turn.events == tuple(QUESTION)
    assert turn.version == 5


def test_ids_of_entries_come_back_and_entries_without_are_stored_as_before(bench: Bench, dialogue: DialogueId) -> None:
    named = Entities("contacts", ("Meg", "Peg"), ("17", ""))
    bench.store.record(
        dialogue, "t1", [Event("a", START_S, named), Event("b", START_S + 1, Entities("places", ("Rome",)))]
    )
    (turn,) = bench.replica().store.read_turns(dialogue)
    assert [event.body for event in turn.events] == [named, Entities("places", ("Rome",))]
    assert store_module._content(Entities("places", ("Rome",))) == b'{"signal":"places","entries":["Rome"]}'
    with pytest.raises(InvalidEventError, match="ids"):
        bench.store.record(dialogue, "t1", [Event("c", START_S, Entities("contacts", ("Meg", "Peg"), ("17",)))])


def test_aliases_and_weights_come_back_and_are_sealed(bench: Bench, dialogue: DialogueId) -> None:
    named = Entities("contacts", ("Margaret", "Peg"), ("17", ""), (("Mum", "Maggie"), ()), (2.5, 1.0))
    bench.store.record(dialogue, "t1", [Event("a", START_S, named)])
    (turn,) = bench.replica().store.read_turns(dialogue)
    assert [event.body for event in turn.events] == [named]
    assert "Maggie" not in "".join(bench.bodies) + str(bench.dialogue_items(dialogue)) and "Maggie" not in repr(named)
    for wrong, field in (
        (Entities("contacts", ("Meg", "Peg"), aliases=(("Mum",),)), "aliases"),
        (Entities("contacts", ("Meg",), weights=(0.0,)), "weights"),
        (Entities("contacts", ("Meg", "Peg"), weights=(1.0,)), "weights"),
    ):
        with pytest.raises(InvalidEventError, match=field):
            bench.store.record(dialogue, "t1", [Event("c", START_S, wrong)])


def test_events_table_and_requests_hold_no_text(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", QUESTION)
    everything = "".join(bench.bodies) + str(bench.dialogue_items(dialogue))
    for word in ("Meg", "call", "mean", "contacts"):
        assert word not in everything
    turn = next(item for item in bench.items(bench.config.events_table) if item["turn"]["S"] == "t1")
    assert all(len(value) == 1 and len(next(iter(value.values()))) < 100 for value in turn.values())


def test_values_do_not_show_text() -> None:
    shown = repr([*QUESTION, Entities("my-secret-signal", ("Meg",))])
    assert "Meg" not in shown
    assert "secret" not in shown


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(QUESTION), repeats=st.lists(st.sampled_from(QUESTION), max_size=4),
    sizes=st.lists(st.integers(1, 3), min_size=9, max_size=9),
)  # fmt: skip
def test_order_repetition_and_grouping_change_nothing(
    bench: Bench, order: list[Event], repeats: list[Event], sizes: list[int]
) -> None:
    reference, shuffled = (DialogueId("acme", uuid.uuid4().hex) for _ in range(2))
    expected = bench.store.record(reference, "t1", QUESTION)
    rest = [*order, *repeats]
    for size in sizes:
        if rest:
            recorded = bench.store.record(shuffled, "t1", rest[:size])
            rest = rest[size:]
    assert (recorded.version, recorded.trigger) == (expected.version, expected.trigger)
    there, here = (bench.store.read_turns(of)[0] for of in (reference, shuffled))
    assert (there.turn, there.version, there.events) == (here.turn, here.version, here.events)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.lists(st.sampled_from([0.0, START_S - 86_400, START_S, START_S + 5, 9e10]), min_size=4, max_size=4),
    writers=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    late=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=4),
)
def test_turns_are_in_the_order_in_which_the_store_took_them(
    bench: Bench, times: list[float], writers: list[int], late: list[tuple[int, int]]
) -> None:
    """Whatever the callers' clocks and the replicas' say, and whatever comes later."""
    dialogue = DialogueId("acme", uuid.uuid4().hex)
    behind = bench.replica()
    behind.clock = Clock()
    behind.clock.now -= 5.0
    stores = [bench.store, ContextStore(bench.config, bench.key, clock=behind.clock)]
    names = [f"id-{(number * 7) % 4}" for number in range(4)]
    for name, time_s, writer in zip(names, times, writers, strict=True):
        text = Event("u", time_s, Utterance(f"turn {name}"))
        assert stores[writer].record(dialogue, name, [text]).place == names.index(name) + 1
    for number, writer in late:
        events = [Event("l", 1.0, Reply("late")), Event("x", 2.0, ExpectSpeech())]
        assert stores[writer].record(dialogue, names[number], events).place == number + 1
    for store in stores:
        assert [turn.turn for turn in store.read_turns(dialogue)] == names
        assert [turn.place for turn in store.dialogue_status(dialogue).turns] == [1, 2, 3, 4]
        assert [turn.turn for turn in store.read_turns(dialogue, limit=2)] == names[-2:]
    stores[1].close()


def test_what_a_call_costs(bench: Bench, dialogue: DialogueId) -> None:
    def cost(turn: str, *events: Event, record: Callable[..., Recorded] = bench.store.record) -> dict[str, int]:
        bench.requests.clear()
        record(dialogue, turn, events)
        return dict(bench.requests)

    speak, ask = Event("s", START_S, Speak()), Event("x", START_S, ExpectSpeech())
    cost("t1", Event("u", START_S, Utterance("one")))  # makes the key too
    first = {"PutItem": 1, "UpdateItem": 3}  # the text; the event, the turn's place, the place in the turn's item
    assert cost("t2", Event("u", START_S, Utterance("two"))) == first
    assert cost("t2", Event("r", START_S, Reply("well"))) == {"PutItem": 1, "UpdateItem": 2}
    for signal in (speak, ask, ask, Event("y", START_S, Transcribe())):
        assert cost("t2", signal, record=bench.store.place) == {"UpdateItem": 1}
    assert cost("t3", ask) == {"UpdateItem": 1}
    assert bench.store.record(dialogue, "t3", [ask]).place == 0
    assert cost("t3", ask, record=bench.store.place) == {"UpdateItem": 3}
    assert bench.store.record(dialogue, "t3", [ask]).place == 3
    assert cost("t3", ask, record=bench.store.place) == {"UpdateItem": 1}


def test_one_id_for_two_kinds_is_refused_and_nothing_of_it_kept(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Speak())])
    with pytest.raises(EventClashError, match="event_id"):
        bench.store.record(dialogue, "t1", [Event("b", START_S, Transcribe()), Event("a", START_S, ExpectSpeech())])
    with pytest.raises(EventClashError):
        bench.store.record(dialogue, "t2", [Event("a", START_S, Speak()), Event("a", START_S, ExpectSpeech())])
    (turn,) = bench.store.dialogue_status(dialogue).turns
    assert (turn.version, turn.kinds) == (1, ("speak",))


def test_one_id_for_two_texts_is_refused_and_the_first_stays(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Utterance("Bauer"))])
    before = bench.dialogue_items(dialogue)
    for store in (bench.store, bench.replica().store):
        with pytest.raises(PayloadClashError) as clash:
            store.record(dialogue, "t1", [Event("a", START_S, Utterance("power"))])
        assert "power" not in str(clash.value)
        assert "Bauer" not in str(clash.value)
    with pytest.raises(PayloadClashError):
        bench.store.record(dialogue, "t2", [Event("a", START_S, Reply("x")), Event("a", START_S, Reply("y"))])
    assert bench.store.read_turns(dialogue)[0].events[0].body == Utterance("Bauer")
    assert [item for item in bench.dialogue_items(dialogue) if "sealed" in item] == [
        item for item in before if "sealed" in item
    ], "a payload is written once"


def test_a_payload_is_written_once_also_by_another_replica(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", QUESTION)
    before = [item for item in bench.dialogue_items(dialogue) if "sealed" in item]
    assert bench.replica().store.record(dialogue, "t1", QUESTION).version == 5
    assert [item for item in bench.dialogue_items(dialogue) if "sealed" in item] == before


def test_a_first_time_stays(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Speak())])
    bench.store.record(dialogue, "t1", [Event("a", START_S + 9, Speak())])
    assert bench.store.dialogue_status(dialogue).turns[0].start_s == START_S


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Event("", START_S, Speak()), "event_id"),
        (Event("a#b", START_S, Speak()), "event_id"),
        (Event("a\n", START_S, Speak()), "event_id"),
        (Event("\ud800", START_S, Speak()), "event_id"),
        (Event("é" * 129, START_S, Speak()), "event_id"),
        (Event("a", float("nan"), Speak()), "time"),
        (Event("a", float("inf"), Speak()), "time"),
        (Event("a", -1.0, Speak()), "time"),
        (Event("a", START_S * 1000, Speak()), "time"),
        (Event("a", START_S, Utterance("\udfff secret")), "text"),
        (Event("a", START_S, Entities("", ("secret",))), "signal"),
        (Event("a", START_S, Entities("contacts", ("secret\ud812",))), "entries"),
        (Event("a", START_S, Utterance("secret " * 150_000)), "utterance"),
        (Event("a", START_S, Entities("contacts", ("secret " * 150_000,))), "entities"),
    ],
)
def test_bad_events_say_which_field(bench: Bench, dialogue: DialogueId, event: Event, field: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        bench.store.record(dialogue, "t1", [event])
    assert refused.value.field == field
    assert "secret" not in str(refused.value)
    assert bench.store.dialogue_status(dialogue).turns == ()


@pytest.mark.parametrize(
    ("tenant", "name", "turn", "field"),
    [
        ("", "d", "t", "tenant"),
        ("a#b", "d", "t", "tenant"),
        ("a", "", "t", "dialogue_id"),
        ("a", "d#e", "t", "dialogue_id"),
        ("a", "d" * 257, "t", "dialogue_id"),
        ("a", "d", "", "turn_id"),
        ("a", "d", "#key", "turn_id"),
        ("a", "d", "t\x00", "turn_id"),
    ],
)
def test_bad_names_are_refused(bench: Bench, tenant: str, name: str, turn: str, field: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        bench.store.record(DialogueId(tenant, name), turn, [Event("a", START_S, Speak())])
    assert refused.value.field == field
    assert not bench.requests


def test_longest_names_and_largest_payload_fit(bench: Bench, dialogue: DialogueId) -> None:
    longest = DialogueId("t" * 256, dialogue.id.ljust(256, "d"))
    text = "a" * 379_900
    bench.store.record(longest, "u" * 256, [Event("e" * 256, START_S, Utterance(text))])
    assert bench.store.read_turns(longest)[0].events[0].body == Utterance(text)


def test_events_of_one_call_are_limited(bench: Bench, dialogue: DialogueId) -> None:
    events = [Event(f"{number:04d}" * 64, START_S, Utterance("a")) for number in range(32)]
    assert bench.store.record(dialogue, "t", events).version == 32
    assert len(bench.store.read_turns(dialogue)[0].events) == 32
    with pytest.raises(InvalidEventError, match="split"):
        bench.store.record(dialogue, "t", [*events, Event("a", START_S, Speak())])
    with pytest.raises(InvalidEventError, match="empty"):
        bench.store.record(dialogue, "t", [])


def test_tenants_are_apart(bench: Bench, dialogue: DialogueId) -> None:
    other = DialogueId("other", dialogue.id)
    bench.store.record(dialogue, "t1", QUESTION)
    assert bench.store.read_turns(other) == []
    assert bench.store.dialogue_status(other).turns == ()
    bench.store.record(other, "t1", [Event("u1", START_S, Utterance("something else"))])
    assert bench.store.delete_dialogue(other) == 3
    assert len(bench.store.read_turns(dialogue)[0].events) == 5


def test_events_that_come_at_once_are_all_kept(bench: Bench) -> None:
    """As at AWS, where updates of an item follow each other, so at the server in the process."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            for _ in range(10):
                dialogue = DialogueId("acme", uuid.uuid4().hex)
                events = [[Event(f"e{number}", START_S, Speak())] for number in range(6)]
                list(pool.map(lambda one, of=dialogue: bench.store.record(of, "t1", one), events))
                assert bench.store.read_turns(dialogue)[0].version == 6
    finally:
        sys.setswitchinterval(before)
