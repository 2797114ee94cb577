"""What other servers that speak DynamoDB lack: the store does without it, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from context_store import DialogueId, Event, Speak, TooLargeError, create_tables
from context_store.commands.create_tables import app
from context_store.table_access import ConditionFailedError, Item
from tests.support.dynalite_server import NOT_ON_DYNALITE
from tests.support.store_bench import START_S, Bench

KEY: Item = {"dialogue": {"S": "acme#lacking"}, "turn": {"S": "t1"}}
STORED: Item = {**KEY, "expires_at": {"N": "7"}}


@pytest.fixture
def known(bench: Bench, server: str) -> Bench:
    if server == "named":
        pytest.skip("which server that is is not known here")
    return bench


def test_what_the_endpoint_lacks_is_told_and_nothing_is_left_behind(known: Bench, server: str) -> None:
    bench = known
    before = bench.items(bench.config.events_table)
    lacking = bench.store.lacking()
    if server == "moto":
        assert lacking == []
    else:
        expiry, old_items = lacking
        assert f"off for {bench.config.events_table} and {bench.config.payload_table}" in expiry
        assert "never used" in expiry and "failed conditions" in old_items
    assert bench.items(bench.config.events_table) == before


def test_expiry_that_is_off_is_told(known: Bench, server: str) -> None:
    if server == "dynalite":
        pytest.skip("it is always off there")
    client, table = known.store._access.client, known.config.payload_table
    try:
        off = {"Enabled": False, "AttributeName": "expires_at"}
        client.update_time_to_live(TableName=table, TimeToLiveSpecification=off)  # type: ignore[arg-type]
        (expiry,) = known.store.lacking()
        assert f"off for {table}:" in expiry and "create_tables" in expiry
    finally:
        create_tables(known.config)
    assert known.store.lacking() == []


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("UnknownOperationException", 400, True),
        ("NotImplemented", 501, True),
        ("AccessDeniedException", 400, False),
        ("InternalServerError", 500, False),
    ],
)
def test_an_endpoint_that_does_not_say_is_not_one_that_lacks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: str, status: int, told: bool
) -> None:
    def refuse(**_: Any) -> Any:
        answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, "DescribeTimeToLive")

    monkeypatch.setattr(bench.store._access.client, "describe_time_to_live", refuse)
    assert any("time to live" in clause for clause in bench.store.lacking()) == told


def test_tables_are_made_where_they_cannot_expire(known: Bench, server: str) -> None:
    config = known.config
    names = ["--events-table", config.events_table, "--payload-table", config.payload_table]
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    done = CliRunner().invoke(app, ["--endpoint", str(config.endpoint_url), *names], env=keys)
    assert (done.exit_code, done.stdout) == (0, f"{config.events_table} {config.payload_table}\n")
    said = "expiry cannot be switched on at this endpoint; expired items are never used, but stay there"
    for table in (config.events_table, config.payload_table):
        assert (f"{table}: {said}\n" in done.stderr) == (server == "dynalite")


@pytest.mark.parametrize("write", ["put", "update", "delete_if"])
def test_a_failed_condition_has_the_item_that_is_there(known: Bench, server: str, write: str) -> None:
    bench, table = known, known.config.events_table
    access = bench.store._access
    writes = {
        "put": lambda: access.put(table, STORED, "#x > :x", {"#x": "expires_at"}, {":x": {"N": "7"}}),
        "update": lambda: access.update(table, KEY, "SET #x = :x", "#x > :x", {"#x": "expires_at"}, {":x": {"N": "7"}}),
        "delete_if": lambda: access.delete_if(table, KEY, "#x > :x", {"#x": "expires_at"}, {":x": {"N": "7"}}),
    }
    bench.rewrite(table, STORED)
    with pytest.raises(ConditionFailedError) as failed:
        writes[write]()
    assert bench.requests["GetItem"] == 0, "nobody has asked for it"
    assert failed.value.item == failed.value.item == STORED
    assert bench.requests["GetItem"] == (server == "dynalite")
    assert access.delete(table, KEY)
    with pytest.raises(ConditionFailedError) as failed:
        writes[write]()
    assert failed.value.item == {}


def test_a_repeated_event_of_a_full_turn_changes_nothing(bench: Bench, dialogue: DialogueId) -> None:
    store = bench.replica(max_events=2).store
    events = [Event(f"e{number}", START_S, Speak()) for number in range(2)]
    for _ in range(2):
        assert store.record(dialogue, "t1", events).version == 2
    with pytest.raises(TooLargeError, match="start a new turn"):
        store.record(dialogue, "t1", [Event("e3", START_S, Speak())])
    store.close()


def test_the_list_names_tests() -> None:
    for named in NOT_ON_DYNALITE:
        file, _, test = named.partition("::")
        assert f"def {test}(" in (Path(__file__).parent / file).read_text()
