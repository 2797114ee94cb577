"""A store on real HTTP: moto's server and, once more, dynalite; or what CARRYOVER_TEST_DYNAMODB_ENDPOINT names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from botocore.loaders import JSONFileLoader

from context_store import DialogueId, StoreConfig, WrappingKey, local_wrapping_key
from tests.support.dynalite_server import NOT_ON_DYNALITE, dynalite_server
from tests.support.moto_server import dynamodb_endpoint, fresh_tables
from tests.support.store_bench import TTL_S, Bench, Clock, open_bench

SERVERS = ["named"] if os.environ.get("CARRYOVER_TEST_DYNAMODB_ENDPOINT") else ["moto", "dynalite"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the failures of NOT_ON_DYNALITE."""
    for item in items:
        reason = NOT_ON_DYNALITE.get(f"{item.path.name}::{item.name.removesuffix('[dynalite]')}")
        if reason and item.name.endswith("[dynalite]"):
            item.add_marker(pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True))


@pytest.fixture(scope="session", autouse=True)
def _models_of_aws_are_read_once() -> Iterator[None]:
    """For each client boto3 reads them anew, which takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Which DynamoDB: moto, dynalite or the one that the environment names."""
    return str(request.param)


@pytest.fixture(scope="session")
def endpoint(server: str) -> Iterator[str]:
    """URL of a DynamoDB."""
    with dynalite_server() if server == "dynalite" else dynamodb_endpoint() as url:
        yield url


@pytest.fixture(scope="session")
def tables(endpoint: str) -> Iterator[StoreConfig]:
    """Tables for this run."""
    with fresh_tables(endpoint, ttl_s=TTL_S) as config:
        yield config


@pytest.fixture(scope="session")
def session_key() -> WrappingKey:
    """One local wrapping key."""
    return local_wrapping_key()


@pytest.fixture
def bench(tables: StoreConfig, session_key: WrappingKey) -> Iterator[Bench]:
    """A store of its own on the run's tables."""
    opened = open_bench(tables, Clock(), session_key)
    yield opened
    opened.store.close()


@pytest.fixture
def new_dialogue() -> Callable[[], DialogueId]:
    """Makes dialogues that no other test uses."""
    return lambda: DialogueId("acme", uuid.uuid4().hex)


@pytest.fixture
def dialogue(new_dialogue: Callable[[], DialogueId]) -> DialogueId:
    """A dialogue that no other test uses."""
    return new_dialogue()
