"""Expiry, embeddings, deletion, paging, and a store that does not answer."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest

from context_store import (
    ContextStore,
    DialogueId,
    Entities,
    Event,
    ExpectSpeech,
    Reply,
    Speak,
    StoreConfig,
    StoreConfigError,
    StoreUnavailableError,
    ThrottledError,
    TooLargeError,
    Utterance,
    WrappingKey,
    create_tables,
)
from context_store.aws import client_options
from tests.support.store_bench import START_S, TTL_S, Bench, Clock, open_bench

ONE = [Event("a", START_S, Utterance("one")), Event("x", START_S + 1, ExpectSpeech())]


def test_what_has_expired_is_never_used_though_it_is_in_the_table(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", ONE)
    (turn,) = bench.store.read_turns(dialogue)
    bench.store.put_embedding(dialogue, turn, "m", b"vectors")
    bench.clock.now = START_S + TTL_S - 1
    assert bench.store.get_embedding(dialogue, "t1", "m") == b"vectors"
    assert len(bench.store.read_turns(dialogue)) == 1
    bench.clock.now = START_S + TTL_S
    stored = bench.dialogue_items(dialogue)
    assert len(stored) == 4, "still in the table"
    for store in (bench.store, bench.replica().store):
        assert store.read_turns(dialogue) == []
        assert store.get_embedding(dialogue, "t1", "m") is None
        status = store.dialogue_status(dialogue)
        assert (status.turns, status.expired_turns) == ((), 1)
    assert bench.dialogue_items(dialogue) == stored


def test_repeating_does_not_prolong(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", ONE)
    bench.clock.now += TTL_S / 2
    bench.store.record(dialogue, "t1", ONE)
    bench.clock.now += TTL_S / 2
    assert bench.store.read_turns(dialogue) == []


def test_a_turn_used_again_after_its_expiry_starts_anew(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", ONE)
    bench.clock.now += 3 * TTL_S
    again = bench.store.record(dialogue, "t1", [Event("a", START_S + 5, Reply("two")), Event("b", START_S, Speak())])
    assert (again.version, again.trigger) == (2, False)
    for store in (bench.store, bench.replica().store):
        assert [event.body for event in store.read_turns(dialogue)[0].events] == [Speak(), Reply("two")]


def test_an_expired_payload_is_left_out_of_a_live_turn(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", ONE)
    (turn,) = (
        item
        for item in bench.items(bench.config.events_table)
        if item["dialogue"]["S"] == f"acme#{dialogue.id}" and item["turn"]["S"] == "t1"
    )
    turn["expires_at"]["N"] = str(int(START_S + 10 * TTL_S))
    bench.rewrite(bench.config.events_table, turn)
    bench.clock.now += TTL_S
    (stored,) = bench.store.read_turns(dialogue)
    assert [event.kind for event in stored.events] == ["expect_speech"]


def test_a_long_dialogue_keeps_its_key(bench: Bench, dialogue: DialogueId) -> None:
    for number in range(6):
        bench.store.record(dialogue, f"t{number}", [Event("a", bench.clock.now, Utterance(f"n{number}"))])
        bench.clock.now += TTL_S * 0.6
    assert bench.key.wraps == 1
    texts = [turn.events[0].body for turn in bench.replica().store.read_turns(dialogue)]
    assert texts == [Utterance("n5")], "each turn expires on its own"


def test_embeddings_are_written_once_for_each_version(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", ONE)
    (first,) = bench.store.read_turns(dialogue)
    other = bench.replica()
    assert bench.store.get_embedding(dialogue, "t1", "m") is None
    assert bench.store.put_embedding(dialogue, first, "m", b"\x00\xff")
    assert not other.store.put_embedding(dialogue, first, "m", b"of another replica")
    assert other.store.get_embedding(dialogue, "t1", "m") == b"\x00\xff"
    assert other.store.get_embedding(dialogue, "t1", "m2") is None
    assert other.store.get_embedding(dialogue, "t2", "m") is None
    bench.store.record(dialogue, "t1", [Event("b", START_S + 2, Reply("late"))])
    (second,) = other.store.read_turns(dialogue)
    assert other.store.put_embedding(dialogue, second, "m", b"newer")
    assert bench.store.get_embedding(dialogue, "t1", "m") == b"newer"
    with pytest.raises(TooLargeError):
        bench.store.put_embedding(dialogue, second, "m3", bytes(400_000))


def test_deletion_leaves_nothing_and_may_be_repeated(bench: Bench, new_dialogue: Callable[[], DialogueId]) -> None:
    dialogue, bystander = new_dialogue(), new_dialogue()
    for of in (dialogue, bystander):
        for number in range(3):
            bench.store.record(of, f"t{number}", ONE)
    (turn, *_) = bench.store.read_turns(dialogue)
    bench.store.put_embedding(dialogue, turn, "m", b"vectors")
    assert bench.store.delete_dialogue(dialogue) == 1 + 3 + 3 + 1
    assert bench.dialogue_items(dialogue) == []
    assert bench.store.delete_dialogue(dialogue) == 0
    assert bench.store.read_turns(dialogue) == []
    assert bench.store.get_embedding(dialogue, "t0", "m") is None
    assert len(bench.store.read_turns(bystander)) == 3


def test_the_key_goes_first_and_then_nothing_is_readable(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = bench.replica()
    bench.store.record(dialogue, "t1", ONE)
    assert len(replica.store.read_turns(dialogue)[0].events) == 2
    with monkeypatch.context() as patch:
        patch.setattr(bench.store._turns, "delete_all", _fail)
        with pytest.raises(StoreUnavailableError):
            bench.store.delete_dialogue(dialogue)
    assert len([item for item in bench.dialogue_items(dialogue) if "sealed" in item]) == 1, "interrupted after the key"
    (turn,) = replica.store.read_turns(dialogue)
    assert [event.kind for event in turn.events] == ["expect_speech"], "though the replica has the key in memory"
    assert bench.store.delete_dialogue(dialogue) == 2


def _fail(*_: Any) -> int:
    raise StoreUnavailableError("interrupted")


def test_a_late_write_starts_a_new_dialogue(bench: Bench, dialogue: DialogueId) -> None:
    replica = bench.replica()
    replica.store.record(dialogue, "t1", ONE)
    bench.store.delete_dialogue(dialogue)
    replica.store.record(dialogue, "t2", [Event("b", START_S, Utterance("new"))])
    for store in (bench.store, replica.store, bench.replica().store):
        (turn,) = store.read_turns(dialogue)
        assert [event.body for event in turn.events] == [Utterance("new")]


def test_the_lives_of_a_dialogue_are_told_apart_without_decrypting(bench: Bench, dialogue: DialogueId) -> None:
    lives = set()
    for _ in range(2):
        recorded = bench.store.record(dialogue, "t1", ONE)
        assert recorded.generation == bench.replica().store.dialogue_status(dialogue).generation
        assert recorded.generation == bench.store.read_turns(dialogue)[0].generation
        lives.add(recorded.generation)
        bench.store.delete_dialogue(dialogue)
        assert bench.store.dialogue_status(dialogue).generation == ""
    assert len(lives) == 2
    signal = bench.store.record(dialogue, "t1", [Event("s", START_S, Speak())])
    assert signal.generation == bench.store.dialogue_status(dialogue).generation == ""


def test_a_write_that_meets_left_overs_of_a_deletion_replaces_them(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", ONE)
    bench.store._keys.destroy(dialogue)
    replica = bench.replica()
    replica.store.record(dialogue, "t1", ONE)
    assert replica.store.read_turns(dialogue)[0].events == tuple(ONE)
    assert bench.store.read_turns(dialogue)[0].events == tuple(ONE)


@pytest.mark.parametrize("method", ["put", "update"])
def test_a_deletion_in_the_middle_of_a_write(
    bench: Bench, dialogue: DialogueId, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the deletion falls, the write that comes back as recorded can be read, and nothing older can."""
    writer = bench.replica()
    writer.store.record(dialogue, "t1", ONE)
    real = getattr(writer.store._access, method)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(writer.store._access, method, real)
        result = real(*arguments)
        bench.store.delete_dialogue(dialogue)
        return result

    monkeypatch.setattr(writer.store._access, method, interrupted)
    recorded = writer.store.record(dialogue, "t2", [Event("b", START_S, Utterance("new"))])
    assert recorded.version == 1
    (turn,) = bench.store.read_turns(dialogue)
    assert (turn.turn, [event.body for event in turn.events]) == ("t2", [Utterance("new")])


@pytest.mark.parametrize("reborn", [False, True])
def test_a_job_under_way_brings_nothing_back(bench: Bench, dialogue: DialogueId, reborn: bool) -> None:
    replica = bench.replica()
    replica.store.record(dialogue, "t1", ONE)
    (turn,) = replica.store.read_turns(dialogue)
    bench.store.delete_dialogue(dialogue)
    if reborn:
        bench.store.record(dialogue, "t1", ONE)
    before = bench.dialogue_items(dialogue)
    for store in (replica.store, bench.store):
        assert not store.put_embedding(dialogue, turn, "m", b"of the deleted dialogue")
    assert bench.dialogue_items(dialogue) == before
    assert bench.store.get_embedding(dialogue, "t1", "m") is None


def test_more_than_a_page_is_read_and_deleted(bench: Bench, dialogue: DialogueId) -> None:
    contacts = Entities("contacts", tuple(f"{number:06d}" for number in range(30_000)))
    for number in range(5):
        events = [Event(f"{number}-{part}", START_S + number, contacts) for part in range(2)]
        bench.store.record(dialogue, f"t{number}", events)
    assert len(bench.store.read_turns(dialogue)) == 5
    assert all(event.body == contacts for turn in bench.store.read_turns(dialogue) for event in turn.events)
    bench.requests.clear()
    assert bench.store.delete_dialogue(dialogue) == 1 + 5 + 10
    assert bench.requests["Query"] >= 3, "2.7 MB do not fit a page"
    assert bench.dialogue_items(dialogue) == []


def _asked(store: ContextStore, dialogue: DialogueId, also: list[str]) -> tuple[list[str], list[str], int, int]:
    """Turns by `dialogue_status` and by `read_turns`, and the requests and items that both took."""
    requests: list[str] = []
    items: list[int] = []

    def after_call(parsed: Any, model: Any, **_: Any) -> None:
        requests.append(model.name)
        items.append(len(parsed.get("Items", ())) + sum(map(len, parsed.get("Responses", {}).values())))

    events = store._access.client.meta.events
    events.register("after-call.dynamodb.*", after_call)
    status, turns = store.dialogue_status(dialogue, also), store.read_turns(dialogue)
    events.unregister("after-call.dynamodb.*", after_call)
    assert all(
        text.body == Utterance(f"of {turn.turn}") for turn in turns for text in turn.events if text.event_id == "a"
    )
    return [turn.turn for turn in status.turns], [turn.turn for turn in turns], len(requests), sum(items)


def test_the_newest_turns_cost_the_same_in_a_long_dialogue(bench: Bench, new_dialogue: Any) -> None:
    """Ids say nothing of time: the newest turn sorts first, in the middle and last."""

    def record(dialogue: DialogueId, number: int) -> str:
        turn = hashlib.sha256(str(number).encode()).hexdigest()[:8]
        at = START_S + number
        bench.store.record(dialogue, turn, [Event("a", at, Utterance(f"of {turn}")), Event("x", at, ExpectSpeech())])
        return turn

    short, long = new_dialogue(), new_dialogue()
    few = [record(short, number) for number in range(5)]
    many = [record(long, number) for number in range(3)]
    client = bench.store._access.client
    old = next(item for item in bench.dialogue_items(long) if item.get("turn", {}).get("S") == many[0])
    for at in range(0, 500, 25):  # turns that lie in the table, as many as a dialogue of hours has
        names = [f"{'09afz'[number % 5]}-{number}" for number in range(at, at + 25)]
        requests: Any = [{"PutRequest": {"Item": {**old, "turn": {"S": name}}}} for name in names]
        client.batch_write_item(RequestItems={bench.config.events_table: requests})
    many += [record(long, number) for number in range(3, 24)]
    status, turns, requests_short, _ = _asked(bench.store, short, [])
    assert (status, turns) == (few, few)
    status, turns, requests_long, items_long = _asked(bench.store, long, [many[1]])
    assert status[-16:] == many[-16:] and many[1] in status
    assert turns == many[-8:]
    assert requests_short == 3
    assert requests_long <= 5
    assert items_long <= 80
    for dialogue, all_of_it in ((short, few), (long, many)):  # what a stream asks for
        for known, requests in (((), 2), (all_of_it[-1:], 1), (all_of_it[:1], 2), ((*all_of_it[-2:], "none"), 1)):
            bench.requests.clear()
            found = bench.store.dialogue_status(dialogue, known, "next")
            assert found.turns[-1].turn == all_of_it[-1]
            assert bench.requests == {"BatchGetItem": requests}
        assert bench.store.dialogue_status(dialogue, besides=all_of_it[-1]).turns[-1].turn == all_of_it[-2]
    for number in range(5):
        bench.store.record(long, f"silent {number}", [Event("a", START_S, Utterance("yes"))])
    bench.requests.clear()
    assert many[-1] in [turn.turn for turn in bench.store.dialogue_status(long, besides="").turns if turn.trigger]
    assert bench.requests == {"BatchGetItem": 3}
    assert bench.store.delete_dialogue(long) == 1 + 524 + 24 + 10


def test_places_are_bounded(bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("context_store.turn_order.KEPT", 17)
    monkeypatch.setattr("context_store.turn_order._MOST", 20)
    for number in range(30):
        bench.store.record(dialogue, f"t{number}", [Event("a", START_S - number, Utterance("x"))])
    (key,) = (item for item in bench.dialogue_items(dialogue) if "wrapped" in item)
    assert 17 <= sum(name.startswith("t#") for name in key) <= 20
    assert [turn.turn for turn in bench.store.read_turns(dialogue)] == [f"t{n}" for n in range(22, 30)]
    late = bench.store.record(dialogue, "t3", [Event("b", START_S, Reply("y"))])
    assert late.place == 4, "a turn that the dialogue's item does not name any more keeps its place"
    assert bench.store.read_turns(dialogue)[-1].turn == "t29"


def _as_earlier_versions_wrote(bench: Bench, dialogue: DialogueId, *, pointers: bool = True) -> None:
    """Rewrites a dialogue's items: no places, and pointers with the times of the turns' earliest events."""
    items = bench.dialogue_items(dialogue)
    turns = {item["turn"]["S"]: item for item in items if "turn" in item and "wrapped" not in item}
    for turn in turns.values():
        turn.pop("place", None)
        bench.rewrite(bench.config.events_table, turn)
    (key,) = (item for item in items if "wrapped" in item)
    key = {name: value for name, value in key.items() if name != "next" and not name.startswith("t#")}
    if pointers:
        times = {name: float(turn["e#a"]["S"].split(" ")[1]) for name, turn in turns.items()}
        key["turns"] = {"SS": [f"{time_s:018.6f} {name}" for name, time_s in times.items()]}
    bench.rewrite(bench.config.events_table, key)


@pytest.mark.parametrize("pointers", [True, False])
def test_a_dialogue_of_an_earlier_version(bench: Bench, dialogue: DialogueId, pointers: bool) -> None:
    """Its turns stand by their times, before those of this version; a late event changes nothing of that."""
    for number in reversed(range(20)):
        bench.store.record(dialogue, f"t{number}", [Event("a", START_S + number, Utterance("x"))])
    _as_earlier_versions_wrote(bench, dialogue, pointers=pointers)
    assert [turn.turn for turn in bench.store.read_turns(dialogue)] == [f"t{n}" for n in range(12, 20)]
    assert len(bench.store.dialogue_status(dialogue).turns) >= (16 if pointers else 20)
    if not pointers:
        return
    ask = [Event("a", START_S - 100, Reply("new")), Event("x", START_S - 100, ExpectSpeech())]
    assert bench.store.record(dialogue, "new", ask).place == 1
    assert bench.store.record(dialogue, "t19", [Event("b", START_S + 200, Reply("late"))]).place == 0
    assert bench.store.place(dialogue, "t18", [Event("x", START_S + 200, ExpectSpeech())]).place == 0
    assert bench.store.record(dialogue, "newer", ask).place > 1
    order = [turn.turn for turn in bench.store.read_turns(dialogue)]
    assert order == [*(f"t{n}" for n in range(14, 20)), "new", "newer"]
    assert bench.store.dialogue_status(dialogue, besides="newer").turns[-1].turn == "new"


def test_a_turn_that_is_still_being_recorded_stands_nowhere_yet(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its texts are no part of older turns' contexts; whoever recorded it in vain repeats the call."""
    bench.store.record(dialogue, "t1", ONE)
    with monkeypatch.context() as patch:
        patch.setattr(bench.store._keys, "place", _fail)
        with pytest.raises(StoreUnavailableError):
            bench.store.record(dialogue, "t2", ONE)
    for store in (bench.store, bench.replica().store):
        assert [turn.turn for turn in store.read_turns(dialogue)] == ["t1"]
        assert [turn.turn for turn in store.dialogue_status(dialogue, ["t2"], "").turns] == ["t1"]
    assert bench.store.record(dialogue, "t2", ONE).place == 2
    assert [turn.turn for turn in bench.store.read_turns(dialogue)] == ["t1", "t2"]


def test_keys_are_swept(bench: Bench, new_dialogue: Callable[[], DialogueId]) -> None:
    """Those past their time, and those of dialogues that were deleted at another replica."""
    kept, deleted, anew, silent = (new_dialogue() for _ in range(4))
    for of in (kept, deleted, anew):
        bench.store.record(of, "t1", ONE)
    other = bench.replica().store
    other.delete_dialogue(deleted)
    other.delete_dialogue(anew)
    other.record(anew, "t1", ONE)
    bench.requests.clear()
    found = bench.store.sweep([deleted, anew, silent])
    assert bench.requests == {"BatchGetItem": 1}
    assert found == {deleted: "", silent: "", anew: other.dialogue_status(anew).generation}
    assert list(bench.store._keys._cache) == [kept]
    bench.clock.now += bench.config.key_cache_s
    assert bench.store.sweep([]) == {}
    assert not bench.store._keys._cache


def test_a_long_dialogue_without_any_text(bench: Bench, dialogue: DialogueId) -> None:
    for number in range(20):
        bench.store.record(dialogue, f"t{number}", [Event("x", START_S + number, ExpectSpeech())])
    assert bench.store.dialogue_status(dialogue).turns[-1].turn == "t19"
    assert bench.requests == {"UpdateItem": 20, "Query": 2, "BatchGetItem": 1}


def test_of_too_much_text_the_newest_turns_is_read(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        bench.store.record(
            dialogue, f"t{number}", [Event(f"a{i}", START_S + number, Utterance("x")) for i in range(32)]
        )
    monkeypatch.setattr("context_store.payloads.MOST_BYTES", 1)
    assert [len(turn.events) for turn in bench.store.read_turns(dialogue)] == [4, 32, 32, 32]


def test_left_over_parts_of_batches_are_tried_again(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store.record(dialogue, "t1", ONE)
    client = bench.store._access.client
    sleeps: list[float] = []
    monkeypatch.setattr(bench.store._access, "_sleep", sleeps.append)
    real_get, real_write = client.batch_get_item, client.batch_write_item
    answers = {"get": 2, "write": 2}

    def busy_get(RequestItems: Any) -> Any:
        answers["get"] -= 1
        return (
            {"Responses": {}, "UnprocessedKeys": RequestItems}
            if answers["get"] >= 0
            else real_get(RequestItems=RequestItems)
        )

    def busy_write(RequestItems: Any) -> Any:
        answers["write"] -= 1
        return {"UnprocessedItems": RequestItems} if answers["write"] >= 0 else real_write(RequestItems=RequestItems)

    monkeypatch.setattr(client, "batch_get_item", busy_get)
    monkeypatch.setattr(client, "batch_write_item", busy_write)
    assert bench.store.read_turns(dialogue)[0].events == tuple(ONE)
    assert bench.store.delete_dialogue(dialogue) == 3
    assert bench.dialogue_items(dialogue) == []
    assert sleeps == sorted(sleeps[:2]) + sorted(sleeps[2:])
    bench.store.record(dialogue, "t1", ONE)
    answers.update(get=100, write=100)
    with pytest.raises(ThrottledError):
        bench.store.read_turns(dialogue)
    with pytest.raises(ThrottledError):
        bench.store.delete_dialogue(dialogue)


def test_a_batch_that_is_answered_bit_by_bit(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB may answer with as little as it likes of a batch: while there is progress, it is asked on."""
    said = [Event(f"a{i}", START_S + i, Utterance(f"text {i}")) for i in range(20)]
    bench.store.record(dialogue, "t1", said)
    client = bench.store._access.client
    sleeps: list[float] = []
    monkeypatch.setattr(bench.store._access, "_sleep", sleeps.append)
    real_get, real_write = client.batch_get_item, client.batch_write_item
    table = bench.config.payload_table
    empty = iter([False, True, True] * 100)  # after each answer two that bring nothing

    def one_get(RequestItems: Any) -> Any:
        keys = RequestItems[table]["Keys"]
        if next(empty):
            return {"Responses": {}, "UnprocessedKeys": RequestItems}
        answer = real_get(RequestItems={table: {"Keys": keys[:1], "ConsistentRead": True}})
        left = {table: {"Keys": keys[1:], "ConsistentRead": True}}
        return {**answer, "UnprocessedKeys": left if keys[1:] else {}}

    def one_write(RequestItems: Any) -> Any:
        ((table, requests),) = RequestItems.items()
        real_write(RequestItems={table: requests[:1]})
        return {"UnprocessedItems": {table: requests[1:]} if requests[1:] else {}}

    monkeypatch.setattr(client, "batch_get_item", one_get)
    monkeypatch.setattr(client, "batch_write_item", one_write)
    assert bench.store.read_turns(dialogue)[0].events == tuple(said)
    assert sum(sleeps) < 5
    sleeps.clear()
    assert bench.store.delete_dialogue(dialogue) == 22
    assert sum(sleeps) < 5
    assert bench.dialogue_items(dialogue) == []


def test_a_store_that_is_down_says_so(bench: Bench, dialogue: DialogueId) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        down = bench.replica(endpoint_url=f"http://127.0.0.1:{held.getsockname()[1]}", max_attempts=1)
        for call in (
            lambda: down.store.record(dialogue, "t1", [Event("a", START_S, Utterance("secret words"))]),
            lambda: down.store.read_turns(dialogue),
            lambda: down.store.delete_dialogue(dialogue),
            lambda: down.store.check(),
        ):
            with pytest.raises(StoreUnavailableError) as error:
                call()
            assert "secret" not in str(error.value)


def test_missing_tables_are_named_as_the_cause(bench: Bench, dialogue: DialogueId) -> None:
    lost = bench.replica(events_table="no-such-table")
    for call in (lambda: lost.store.check(), lambda: lost.store.record(dialogue, "t1", ONE)):
        with pytest.raises(StoreConfigError, match="create_tables"):
            call()


def test_tables_are_made_once_with_expiry_on(tables: StoreConfig, session_key: WrappingKey) -> None:
    steps: list[str] = []
    create_tables(tables, report=steps.append)
    assert [step.split(": ")[1] for step in steps] == ["is there already"] * 2 + ["expiry is on already"] * 2
    client = boto3.client("dynamodb", **client_options(tables))
    for table in (tables.events_table, tables.payload_table):
        expiry = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        assert expiry["AttributeName"] == "expires_at"
        assert expiry["TimeToLiveStatus"] in ("ENABLED", "ENABLING")
    client.close()
    open_bench(tables, Clock(), session_key).store.check()
    swapped = replace(tables, events_table=tables.payload_table, payload_table=tables.events_table)
    with pytest.raises(StoreConfigError, match="other keys"):
        create_tables(swapped)
    with pytest.raises(StoreConfigError, match="two names"):
        create_tables(replace(tables, payload_table=tables.events_table))


def _run_create_tables(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", **os.environ}
    command = [sys.executable, "-m", "context_store.commands.create_tables", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_the_command(tables: StoreConfig) -> None:
    names = ["--events-table", tables.events_table, "--payload-table", tables.payload_table]
    done = _run_create_tables("--endpoint", str(tables.endpoint_url), "--region", tables.region, *names)
    assert (done.returncode, done.stdout) == (0, f"{tables.events_table} {tables.payload_table}\n")
    assert "expiry is on already" in done.stderr


def test_the_command_with_nobody_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        failed = _run_create_tables("--endpoint", f"http://127.0.0.1:{held.getsockname()[1]}")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "did not answer" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_text_that_is_still_being_written_is_not_counted(
    bench: Bench, dialogue: DialogueId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a context without it would count as one of all the turn's events, for ever."""
    writer = bench.replica()
    writer.store.record(dialogue, "t1", ONE)  # its key is in memory
    bench.store.delete_dialogue(dialogue)
    bench.store.record(dialogue, "t1", ONE)
    place, seen = writer.store._keys.place, []

    def between(*arguments: Any) -> int | None:
        seen.extend(bench.store.read_turns(dialogue))
        return place(*arguments)

    monkeypatch.setattr(writer.store._keys, "place", between)
    assert writer.store.record(dialogue, "t1", [Event("b", START_S + 2, Reply("two"))]).version == 3
    assert (seen[0].version, len(seen[0].events)) == (2, 2)
    (turn,) = bench.store.read_turns(dialogue)
    assert (turn.version, len(turn.events)) == (3, 3)
