"""DynamoDB for tests: moto's server in this process, or what CARRYOVER_TEST_DYNAMODB_ENDPOINT names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3

from context_store import StoreConfig, create_tables
from context_store.aws import client_options
from context_store.local_server import local_config, local_server


@contextmanager
def dynamodb_endpoint() -> Iterator[str]:
    """URL of a DynamoDB: the one that the environment names, else a server of our own."""
    named = os.environ.get("CARRYOVER_TEST_DYNAMODB_ENDPOINT")
    if named:
        yield named
    else:
        with local_server() as url:
            yield url


@contextmanager
def fresh_tables(endpoint_url: str, **changes: Any) -> Iterator[StoreConfig]:
    """Two tables of unique names, deleted afterwards; ``changes`` replace fields of the configuration.

    With an endpoint named by the environment, credentials in the environment are used where there are any.
    """
    run = uuid.uuid4().hex[:12]
    names: dict[str, Any] = {"events_table": f"test-events-{run}", "payload_table": f"test-payloads-{run}"}
    if os.environ.get("CARRYOVER_TEST_DYNAMODB_ENDPOINT") and os.environ.get("AWS_ACCESS_KEY_ID"):
        names |= {"access_key_id": None, "secret_access_key": None, "region": os.environ.get("AWS_REGION", "us-east-1")}
    config = local_config(endpoint_url, **{**names, **changes})
    create_tables(config)
    client = boto3.client("dynamodb", **client_options(config))
    try:
        yield config
    finally:
        for table in (config.events_table, config.payload_table):
            client.delete_table(TableName=table)
        client.close()
