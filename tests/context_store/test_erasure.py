"""Erasing a tenant, and what a backup still says after an erasure."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from context_store import DialogueId, Entities, Event, InvalidEventError, Utterance
from context_store.commands.erase_tenant import app
from tests.support.store_bench import START_S, Bench

EVENTS = [Event("a", START_S, Utterance("call meg")), Event("b", START_S + 1, Entities("contacts", ("Meg Bauer",)))]


@pytest.fixture
def tenant() -> str:
    return f"acme-{uuid.uuid4().hex[:8]}"


def fill(bench: Bench, tenant: str, dialogues: int) -> list[DialogueId]:
    ids = [DialogueId(tenant, f"d{number}") for number in range(dialogues)]
    for dialogue in ids:
        bench.store.record(dialogue, "t1", EVENTS)
    return ids


def test_a_tenants_dialogues_go_and_nobody_elses(bench: Bench, tenant: str) -> None:
    mine, others = fill(bench, tenant, 60), [*fill(bench, f"{tenant}2", 2), *fill(bench, f"x{tenant}", 2)]
    told: list[int] = []
    assert bench.store.delete_tenant(tenant, lambda table, items: told.append(items)) == 60 * 4
    assert sum(told) == 60 * 4 and max(told) <= 100
    assert not any(bench.dialogue_items(dialogue) for dialogue in mine)
    assert all(len(bench.store.read_turns(dialogue)[0].events) == 2 for dialogue in others)
    assert bench.store.delete_tenant(tenant) == 0
    with pytest.raises(InvalidEventError):
        bench.store.delete_tenant("")


def test_keys_go_first(bench: Bench, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure that stops after its first step has made everything unreadable."""
    (dialogue,) = fill(bench, tenant, 1)
    replica = bench.replica()
    assert replica.store.read_turns(dialogue)[0].events

    def stop(table: str, items: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.delete_tenant(tenant, stop)
    assert bench.dialogue_items(dialogue)
    for store in (bench.store, replica.store):
        assert not store.read_turns(dialogue)[0].events


def test_what_backups_say_after_an_erasure(bench: Bench, new_dialogue: Callable[[], DialogueId]) -> None:
    """A copy of the payload table says nothing any more. One of the events table brings the keys back: hence the
    advice to keep none of it."""
    dialogue = new_dialogue()
    bench.store.record(dialogue, "t1", EVENTS)
    items = bench.dialogue_items(dialogue)
    payloads, events = ([item for item in items if name in item] for name in ("item", "turn"))
    bench.store.delete_dialogue(dialogue)
    for item in payloads:
        bench.rewrite(bench.config.payload_table, item)
    for item in events:
        if item["turn"]["S"] != "#key":
            bench.rewrite(bench.config.events_table, item)
    (turn,) = bench.replica().store.read_turns(dialogue)
    assert turn.version == 2 and not turn.events
    for item in events:
        bench.rewrite(bench.config.events_table, item)
    assert len(bench.replica().store.read_turns(dialogue)[0].events) == 2


def test_point_in_time_recovery_of_the_keys_is_noticed(bench: Bench) -> None:
    assert bench.store.keys_backed_up() is False
    table, client = bench.config.events_table, bench.store._access.client
    for enabled in (True, False):
        client.update_continuous_backups(
            TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": enabled}
        )
        assert bench.store.keys_backed_up() is enabled


def test_a_tenants_keys_are_forgotten_in_memory(bench: Bench, tenant: str) -> None:
    (mine,), (other,) = fill(bench, tenant, 1), fill(bench, f"{tenant}2", 1)
    bench.store.forget_tenant(tenant)
    unwraps = bench.key.unwraps
    bench.store.read_turns(other)
    assert bench.key.unwraps == unwraps
    bench.store.read_turns(mine)
    assert bench.key.unwraps == unwraps + 1


def test_the_command(bench: Bench, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bench, tenant, 3)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, os.environ.get(name, "local"))
    names = ["--events-table", bench.config.events_table, "--payload-table", bench.config.payload_table]
    place = ["--endpoint", str(bench.config.endpoint_url), "--region", bench.config.region, *names]
    assert CliRunner().invoke(app, [tenant, *place], input="n\n").exit_code == 1
    erased = CliRunner().invoke(app, [tenant, *place], input="y\n")
    assert (erased.exit_code, erased.stdout.strip().splitlines()[-1]) == (0, "12")
    assert CliRunner().invoke(app, [tenant, *place, "--yes"]).stdout.strip() == "0"
    refused = CliRunner().invoke(app, ["a#b", *place, "--yes"])
    assert refused.exit_code == 2 and "tenant" in refused.stderr
