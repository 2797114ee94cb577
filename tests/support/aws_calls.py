"""What the store asks of AWS, by who asks: recorded from calls to moto's AWS in this process."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Set
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.loaders import Loader
from moto import mock_aws
from typer.testing import CliRunner

import context_store
from context_store import (
    Body,
    ContextStore,
    DialogueId,
    Entities,
    Event,
    ExpectSpeech,
    Reply,
    StoreConfig,
    Utterance,
    create_tables,
    kms_wrapping_key,
)
from context_store.commands import erase_tenant

CONFIG = StoreConfig()
Calls = set[tuple[str, str]]
"""Pairs of an IAM action and what it is for: a table's name, or `key`."""
_TEXT = "a text that is long enough to be a payload of its own"


@contextmanager
def recorded() -> Iterator[Calls]:
    """Collects the calls of all clients while it lasts."""
    calls: Calls = set()
    ask = BaseClient._make_api_call  # type: ignore[attr-defined]  # the one place that all calls pass

    def note(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
        service = client.meta.service_model.service_name
        named = [arguments["TableName"]] if "TableName" in arguments else list(arguments.get("RequestItems", {}))
        calls.update((f"{service}:{operation}", name) for name in (named if service == "dynamodb" else ["key"]))
        return ask(client, operation, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", note)
        yield calls


@cache
def of_a_server() -> frozenset[tuple[str, str]]:
    """What two replicas ask: every public method of the store but those of commands, in a dialogue and its erasure."""
    with _aws() as key:
        create_tables(CONFIG)
        with recorded() as calls:
            one, other = (ContextStore(CONFIG, kms_wrapping_key(key, region=CONFIG.region)) for _ in range(2))
            dialogue = DialogueId("acme", "d1")
            for store in (one, other):
                store.check()
                store.lacking()
                store.keys_backed_up()
            for number in range(12):  # more turns than are read at once
                bodies: list[Body] = [
                    Utterance(_TEXT),
                    Reply(_TEXT),
                    Entities("contacts", ("Meg Bauer",)),
                    ExpectSpeech(),
                ]
                one.record(dialogue, str(number), [Event(f"e{i}", number, body) for i, body in enumerate(bodies)])
            one.place(dialogue, "0", [Event("e9", 20.0, Reply(_TEXT + "."))])
            for store in (other, one):
                turns = store.read_turns(dialogue)
                store.put_embedding(dialogue, turns[-1], "model", b"vectors")
                store.get_embedding(dialogue, turns[-1].turn, "model")
                store.dialogue_status(dialogue)
                store.sweep([dialogue])
            one.forget_tenant("acme")
            one.delete_dialogue(dialogue)
            assert not other.put_embedding(
                dialogue, turns[-1], "late", b"vectors"
            )  # it had not heard of that, and takes it back
            for store in (one, other):
                store.close()
    return frozenset(calls)


@cache
def of_an_operator() -> frozenset[tuple[str, str]]:
    """What create_tables (for the first time, and again) and erase_tenant ask."""
    with _aws() as key:
        with recorded() as calls:
            create_tables(CONFIG)
            create_tables(CONFIG)
        store = ContextStore(CONFIG, kms_wrapping_key(key, region=CONFIG.region))
        store.record(DialogueId("acme", "d1"), "1", [Event("e1", 1.0, Utterance(_TEXT))])
        store.close()
        with recorded() as erasing:
            done = CliRunner().invoke(erase_tenant.app, ["acme", "--yes"])
            assert done.exit_code == 0, done.output
    return frozenset(calls | erasing)


@cache
def of_the_code() -> Set[str]:
    """The actions of DynamoDB that the package's code names at all."""
    model = Loader().load_service_model("dynamodb", "service-2")
    operations = {
        "".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:]: name for name in model["operations"]
    }
    found = set()
    for file in Path(context_store.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in operations:
                value = node.value
                if (value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")) == "client":
                    found.add(f"dynamodb:{operations[node.attr]}")
    return found


@contextmanager
def own_aws() -> Iterator[None]:
    """An AWS with nothing in it. Others of this process, such as the tests' own DynamoDB, are other accounts."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("MOTO_ACCOUNT_ID", f"{random.SystemRandom().randrange(10**12):012}")
        mock = mock_aws()
        mock.start(reset=False)  # `with` would empty the others
        try:
            yield
        finally:
            mock.stop(remove_data=False)


@contextmanager
def _aws() -> Iterator[str]:
    """An AWS with nothing in it but a KMS key, whose ARN this is."""
    with own_aws():
        client = boto3.client("kms", region_name=CONFIG.region)
        yield str(client.create_key()["KeyMetadata"]["Arn"])
