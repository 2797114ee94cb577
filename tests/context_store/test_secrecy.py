"""Sealing, dialogue keys and wrapping keys: what is altered, moved or foreign never opens."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from context_store import (
    DialogueId,
    Event,
    Reply,
    Speak,
    StoreConfig,
    StoreConfigError,
    StoreError,
    StoreUnavailableError,
    TamperedError,
    Utterance,
    kms_wrapping_key,
    load_or_create_key_file,
    local_wrapping_key,
)
from context_store.local_server import local_server
from context_store.sealing import canonical, digest, seal, unseal
from tests.support.store_bench import START_S, Bench, Clock, open_bench

SECRET = bytes(range(32))
CONTEXT = {"tenant": "acme", "dialogue": "d", "turn": "t", "kind": "utterance", "item": "a"}


@given(plaintext=st.binary(max_size=200), place=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_is_noticed(plaintext: bytes, place: int, flip: int) -> None:
    sealed = bytearray(seal(SECRET, CONTEXT, plaintext))
    assert unseal(SECRET, CONTEXT, bytes(sealed)) == plaintext
    sealed[place % len(sealed)] ^= flip
    with pytest.raises(TamperedError):
        unseal(SECRET, CONTEXT, bytes(sealed))


@given(keep=st.integers(0, 90))
@settings(max_examples=10, deadline=None)
def test_any_truncation_is_noticed(keep: int) -> None:
    sealed = seal(SECRET, CONTEXT, b"ten bytes.")
    assert len(sealed) == 91
    with pytest.raises(TamperedError):
        unseal(SECRET, CONTEXT, sealed[:keep])


def test_what_was_sealed_before_opens_still() -> None:
    """The format of stored payloads, byte for byte."""
    sealed = bytes.fromhex(
        "016465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182835467a7afca670c34826a5838fb20a5"
        "ccc561651159e4a08ebf079e707de85819d64ca01732276c163c478d4d015acc1c8de6f98c"
    )
    assert unseal(SECRET, CONTEXT, sealed) == b"text"
    assert digest(SECRET, CONTEXT, b"text").hex() == (
        "57e811ddde134db714d503834a6f6c9904e06541090b8bb754608114b3fe3622"
    )


@pytest.mark.parametrize("name", sorted(CONTEXT))
def test_every_part_of_the_context_is_bound(name: str) -> None:
    sealed = seal(SECRET, CONTEXT, b"text")
    other = {**CONTEXT, name: CONTEXT[name] + "x"}
    with pytest.raises(TamperedError):
        unseal(SECRET, other, sealed)
    assert digest(SECRET, other, b"text") != digest(SECRET, CONTEXT, b"text")


def test_another_key_does_not_open() -> None:
    with pytest.raises(TamperedError, match="key"):
        unseal(bytes(32), CONTEXT, seal(SECRET, CONTEXT, b"text"))


@given(one=st.dictionaries(st.text(), st.text(), max_size=3), two=st.dictionaries(st.text(), st.text(), max_size=3))
@settings(max_examples=100, deadline=None)
def test_canonical_form_is_one_to_one(one: dict[str, str], two: dict[str, str]) -> None:
    assert (canonical(one) == canonical(two)) == (one == two)


def test_equal_texts_look_different(bench: Bench, dialogue: DialogueId) -> None:
    events = [Event("a", START_S, Utterance("yes")), Event("b", START_S, Utterance("yes"))]
    bench.store.record(dialogue, "t1", events)
    first, second = (item for item in bench.dialogue_items(dialogue) if "sealed" in item)
    assert first["sealed"] != second["sealed"]
    assert first["digest"] != second["digest"]


def _payloads(bench: Bench, dialogue: DialogueId) -> list[dict[str, Any]]:
    return sorted(
        (item for item in bench.dialogue_items(dialogue) if "sealed" in item), key=lambda item: item["item"]["S"]
    )


CONTENT = ("sealed", "digest", "key_id", "expires_at")


@pytest.mark.parametrize("what", ["event", "turn", "kind", "dialogue", "tenant"])
def test_ciphertext_swapped_between_places_is_refused(bench: Bench, what: str) -> None:
    name = uuid.uuid4().hex
    here = DialogueId("acme", name)
    there = DialogueId("other", name) if what == "tenant" else DialogueId("acme", name + "2")
    source = there if what in ("dialogue", "tenant") else here
    kind = Reply if what == "kind" else Utterance
    bench.store.record(here, "t1", [Event("a", START_S, Utterance("one"))])
    event = Event("b" if what in ("event", "kind") else "a", START_S, kind("two"))
    bench.store.record(source, "t2" if what == "turn" else "t1", [event])
    items = _payloads(bench, here) + _payloads(bench, source)
    target = next(item for item in items if item["item"]["S"] == "t1#utterance#a")
    foreign = next(item for item in items if item["sealed"] != target["sealed"])
    forged = {**target, **{name: foreign[name] for name in CONTENT}, "key_id": target["key_id"]}
    bench.rewrite(bench.config.payload_table, forged)
    with pytest.raises(TamperedError):
        bench.replica().store.read_turns(here)


@pytest.mark.parametrize("attribute", ["sealed", "digest", "expires_at", "missing"])
def test_altered_attributes_are_refused(bench: Bench, dialogue: DialogueId, attribute: str) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Utterance("one"))])
    (item,) = _payloads(bench, dialogue)
    if attribute == "missing":
        del item["sealed"]
    elif attribute == "expires_at":
        item["expires_at"]["N"] = str(int(item["expires_at"]["N"]) + 1)
    else:
        item[attribute]["B"] = item[attribute]["B"][:-1] + b"\x00\x01"[: 1 + (item[attribute]["B"][-1] == 0)][-1:]
    bench.rewrite(bench.config.payload_table, item)
    with pytest.raises(TamperedError) as refused:
        bench.store.read_turns(dialogue)
    assert "one" not in str(refused.value)


def test_a_dialogue_key_moved_to_another_dialogue_is_refused(
    bench: Bench, new_dialogue: Callable[[], DialogueId]
) -> None:
    here, there = new_dialogue(), new_dialogue()
    for dialogue in (here, there):
        bench.store.record(dialogue, "t1", [Event("a", START_S, Utterance("one"))])
    moved = next(item for item in bench.dialogue_items(there) if "wrapped" in item)
    bench.rewrite(bench.config.events_table, {**moved, "dialogue": {"S": f"acme#{here.id}"}})
    with pytest.raises(TamperedError):
        bench.replica().store.read_turns(here)


def test_an_embedding_is_sealed_and_bound(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Utterance("one"))])
    (turn,) = bench.store.read_turns(dialogue)
    assert bench.store.put_embedding(dialogue, turn, "m1", b"plain vectors")
    assert bench.store.put_embedding(dialogue, turn, "m2", b"other vectors")
    one, two = (item for item in _payloads(bench, dialogue) if "#embedding#" in item["item"]["S"])
    assert b"vectors" not in one["sealed"]["B"]
    bench.rewrite(bench.config.payload_table, {**one, **{name: two[name] for name in CONTENT}})
    with pytest.raises(TamperedError):
        bench.store.get_embedding(dialogue, "t1", "m1")


def test_writers_at_once_share_one_key(bench: Bench, dialogue: DialogueId) -> None:
    replicas = [bench.replica() for _ in range(4)]
    barrier = threading.Barrier(len(replicas))

    def write(number: int) -> None:
        barrier.wait()
        replicas[number].store.record(dialogue, "t1", [Event(str(number), START_S + number, Utterance(f"n{number}"))])

    with ThreadPoolExecutor(len(replicas)) as pool:
        list(pool.map(write, range(len(replicas))))
    assert len({item["key_id"]["S"] for item in bench.dialogue_items(dialogue) if "key_id" in item}) == 1
    (turn,) = bench.store.read_turns(dialogue)
    assert [event.body for event in turn.events] == [Utterance(f"n{number}") for number in range(4)]


def test_the_loser_of_the_race_takes_the_winners_key(bench: Bench, dialogue: DialogueId) -> None:
    replica = bench.replica()
    wrap = bench.key.wrap

    def slow_wrap(secret: bytes, context: Any) -> bytes:
        bench.key.wrap = wrap  # type: ignore[method-assign]
        replica.store.record(dialogue, "t1", [Event("winner", START_S, Utterance("first"))])
        return wrap(secret, context)

    bench.key.wrap = slow_wrap  # type: ignore[method-assign]
    bench.store.record(dialogue, "t1", [Event("loser", START_S + 1, Utterance("second"))])
    (turn,) = bench.replica().store.read_turns(dialogue)
    assert [event.body for event in turn.events] == [Utterance("first"), Utterance("second")]
    assert (bench.key.wraps, bench.key.unwraps) == (1, 1)


def test_the_key_cache_is_bounded_and_expires(bench: Bench, new_dialogue: Callable[[], DialogueId]) -> None:
    replica = bench.replica(key_cache_entries=2, key_cache_s=10.0)
    dialogues = [new_dialogue() for _ in range(3)]
    for dialogue in dialogues:
        replica.store.record(dialogue, "t1", [Event("a", START_S, Utterance("one"))])
    replica.store.read_turns(dialogues[2])
    assert replica.key.unwraps == 0
    replica.store.read_turns(dialogues[0])
    assert replica.key.unwraps == 1, "the oldest was dropped"
    bench.clock.now += 11
    replica.store.read_turns(dialogues[2])
    assert replica.key.unwraps == 2, "its time is over"


def test_another_wrapping_key_reads_nothing(bench: Bench, dialogue: DialogueId) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Utterance("one"))])
    stranger = open_bench(bench.config, bench.clock, local_wrapping_key())
    with pytest.raises(TamperedError, match="wrapping key"):
        stranger.store.read_turns(dialogue)


@pytest.mark.parametrize("damage", ["altered", "truncated", "empty", "junk", "context"])
def test_a_damaged_wrapped_key_is_refused(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    key = local_wrapping_key(SECRET)
    wrapped = key.wrap(bytes(32), CONTEXT)
    context = CONTEXT
    if damage == "context":
        context = {**CONTEXT, "dialogue": "e"}
    else:
        wrapped = {
            "altered": wrapped[:-1] + bytes([wrapped[-1] ^ 1]),
            "truncated": wrapped[:-5],
            "empty": b"",
            "junk": b"junk",
        }[damage]
    with pytest.raises(TamperedError):
        key.unwrap(wrapped, context)
    with pytest.raises(TamperedError):
        key.unwrap(key.wrap(bytes(32), {}), CONTEXT)
    assert not caplog.records


def test_kms_wraps_one_key_a_dialogue(bench: Bench, dialogue: DialogueId) -> None:
    with local_server() as url:
        options: dict[str, Any] = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        client = boto3.client("kms", region_name="us-east-1", endpoint_url=url, **options)
        arns = [client.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ACCESS_KEY_ID", "local")
            environment.setenv("AWS_SECRET_ACCESS_KEY", "local")
            own, other = (kms_wrapping_key(arn, region="us-east-1", endpoint_url=url) for arn in arns)
            missing = kms_wrapping_key(arns[0][:-12] + "0" * 12, region="us-east-1", endpoint_url=url)
            closed = kms_wrapping_key(arns[0], region="us-east-1", endpoint_url="http://127.0.0.1:9")
            writer, reader = (open_bench(bench.config, bench.clock, own) for _ in range(2))
            for turn in ("t1", "t2"):
                writer.store.record(dialogue, turn, [Event("a", START_S, Utterance("one"))])
            assert (writer.key.wraps, writer.key.unwraps) == (1, 0)
            assert reader.store.read_turns(dialogue)[1].events[0].body == Utterance("one")
            assert reader.key.unwraps == 1
            with pytest.raises(TamperedError):
                open_bench(bench.config, bench.clock, other).store.read_turns(dialogue)
            with pytest.raises(TamperedError):
                own.unwrap(own.wrap(bytes(32), {"dialogue": "a"}), {"dialogue": "b"})
            with pytest.raises(StoreConfigError, match="KMS"):
                missing.wrap(bytes(32), CONTEXT)
            with pytest.raises(StoreUnavailableError, match="KMS"):
                closed.wrap(bytes(32), CONTEXT)
        client.close()
    with pytest.raises(StoreConfigError, match="ARN"):
        kms_wrapping_key("alias/mine", region="us-east-1")


def test_a_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "wrapping.key"
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: load_or_create_key_file(path), range(8)))
    assert len(keys) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["wrapping.key"]
    path.chmod(0o644)
    with pytest.raises(StoreConfigError, match="chmod 600"):
        load_or_create_key_file(path)
    path.chmod(0o600)
    for content in ("00" * 31, "not hex", "é"):
        path.write_text(content)
        with pytest.raises(StoreConfigError, match="64 hexadecimal"):
            load_or_create_key_file(path)
    with pytest.raises(StoreConfigError, match="32 bytes"):
        local_wrapping_key(b"short")


OTHERS: list[Any] = [
    None, {"S": "x"}, {"S": ""}, {"S": "speak nan"}, {"N": "-7"}, {"N": "1.5"}, {"N": "9" * 30}, {"B": b""}, {"L": []},
    {"BOOL": True}, {"NULL": True}, {"M": {}}, {"SS": ["x"]}, {"SS": ["1 #key", "x ", " y"]}, {"NS": ["1"]},
]  # fmt: skip
"""What may stand in an attribute's place; None: nothing."""


@pytest.fixture(scope="module")
def spoilt(tables: StoreConfig, session_key: Any) -> Iterator[tuple[Bench, DialogueId, list[dict[str, Any]]]]:
    """A dialogue of two turns with texts and an embedding, and its items as they were written."""
    bench, dialogue = open_bench(tables, Clock(), session_key), DialogueId("acme", uuid.uuid4().hex)
    for turn in ("t1", "t2"):
        bench.store.record(
            dialogue, turn, [Event("a", START_S, Utterance("secret words")), Event("x", START_S, Reply("y"))]
        )
    bench.store.put_embedding(dialogue, bench.store.read_turns(dialogue)[0], "m", b"vectors")
    yield bench, dialogue, bench.dialogue_items(dialogue)
    bench.store.close()


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_whatever_stands_in_the_tables_only_the_stores_own_errors_come_out(spoilt: Any, data: st.DataObject) -> None:
    bench, dialogue, items = spoilt
    item = dict(data.draw(st.sampled_from(items)))
    table = bench.config.events_table if "turn" in item else bench.config.payload_table
    name = data.draw(st.sampled_from([*sorted(item.keys() - {"dialogue", "turn", "item"}), "turns", "at_limit"]))
    value = data.draw(st.sampled_from(OTHERS))
    spoiled = {key: kept for key, kept in {**item, name: value}.items() if kept is not None}
    bench.rewrite(table, spoiled)
    event = Event("a", START_S, Utterance("secret words"))
    for call in (
        lambda: bench.store.dialogue_status(dialogue),
        lambda: bench.store.read_turns(dialogue),
        lambda: bench.store.get_embedding(dialogue, "t1", "m"),
        lambda: bench.store.record(dialogue, "t1", [event]),
        lambda: bench.store.record(dialogue, "t1", [Event("s", START_S, Speak())]),
    ):
        bench.store._keys.forget_all()  # as another replica
        with suppress(StoreError):
            call()
    for one in items:  # as it was
        bench.rewrite(bench.config.events_table if "turn" in one else bench.config.payload_table, one)


@pytest.mark.parametrize("value", [{"S": "tomorrow"}, None])
def test_a_malformed_expiry_of_a_key_is_named(bench: Bench, dialogue: DialogueId, value: Any) -> None:
    bench.store.record(dialogue, "t1", [Event("a", START_S, Utterance("x"))])
    (key,) = (item for item in bench.dialogue_items(dialogue) if "wrapped" in item)
    bench.rewrite(bench.config.events_table, {k: v for k, v in {**key, "expires_at": value}.items() if v is not None})
    for call in (lambda: bench.store.dialogue_status(dialogue), lambda: bench.store.read_turns(dialogue)):
        with pytest.raises(TamperedError, match="malformed"):
            call()
    assert bench.store.delete_dialogue(dialogue) == 3


def test_a_store_in_this_process_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moto.server", None)
    with pytest.raises(StoreConfigError, match=r"pip install 'carryover-asr\[local\]'"), local_server():
        pass
