"""A dialogue's payloads vanish from the store, as in an erasure that has only begun."""

from __future__ import annotations

from typing import Any

import boto3

from context_store import StoreConfig
from context_store.aws import client_options


def delete_payloads(config: StoreConfig, dialogue: str, tenant: str = "default") -> None:
    """Delete the items of the payload table, past the store and its keys."""
    client = boto3.client("dynamodb", **client_options(config))
    query: dict[str, Any] = {"KeyConditionExpression": "#d = :d", "ExpressionAttributeNames": {"#d": "dialogue"}}
    values = {":d": {"S": f"{tenant}#{dialogue}"}}
    items = client.query(TableName=config.payload_table, ExpressionAttributeValues=values, **query)["Items"]
    for item in items:
        client.delete_item(TableName=config.payload_table, Key={name: item[name] for name in ("dialogue", "item")})
    client.close()
