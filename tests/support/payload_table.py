"""A dialogue's payloads vanish from the store, as in an erasure that has only begun."""

from __future__ import annotations

import boto3

from context_store import StoreConfig
from context_store.aws import client_options


def delete_payloads(config: StoreConfig, dialogue: str, tenant: str = "default") -> None:
    """Delete the items of the payload table, past the store and its keys."""
    client = boto3.client("dynamodb", **client_options(config))
    found = client.query(
        TableName=config.payload_table,
        KeyConditionExpression="#d = :d",
        ExpressionAttributeNames={"#d": "dialogue"},
        ExpressionAttributeValues={":d": {"S": f"{tenant}#{dialogue}"}},
    )
    for item in found["Items"]:
        client.delete_item(TableName=config.payload_table, Key={name: item[name] for name in ("dialogue", "item")})
    client.close()
