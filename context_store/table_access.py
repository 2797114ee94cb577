"""The few DynamoDB calls that the store needs, with paging, retries of what was left over, and mapped errors.

Items are in DynamoDB's own notation (``{"S": ...}``, ``{"N": ...}``, ``{"B": ...}``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from context_store.aws import client_options, error_code, unavailable
from context_store.config import StoreConfig
from context_store.errors import ThrottledError, TooLargeError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
_LEFT_OVER_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.02
_BATCH_WRITE = 25
_BATCH_GET = 100


class ConditionFailedError(Exception):
    """A conditional write found this item in its place (empty: none). Never leaves the package."""

    def __init__(self, item: Item) -> None:
        super().__init__("condition failed")
        self.item = item


class TableAccess:
    """One boto3 client, shared by all threads (boto3 clients are thread-safe; resources are not)."""

    def __init__(self, config: StoreConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client: DynamoDBClient = boto3.session.Session().client("dynamodb", **client_options(config))
        self._sleep = sleep

    def put(self, table: str, item: Item, condition: str, names: Mapping[str, str], values: Item) -> None:
        """Write one item under a condition. Raises ConditionFailedError."""
        self._call(
            self.client.put_item,
            TableName=table,
            Item=item,
            ConditionExpression=condition,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **_expressions(names, values),
        )

    def update(
        self, table: str, key: Item, update: str, condition: str, names: Mapping[str, str], values: Item
    ) -> Item:
        """Update one item under a condition; returns the whole item as it is now. Raises ConditionFailedError."""
        answer = self._call(
            self.client.update_item,
            TableName=table,
            Key=key,
            UpdateExpression=update,
            ConditionExpression=condition,
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **_expressions(names, values),
        )
        return dict(answer["Attributes"])

    def get(self, table: str, key: Item) -> Item | None:
        """One item, read consistently."""
        answer = self._call(self.client.get_item, TableName=table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    def delete(self, table: str, key: Item) -> bool:
        """Delete one item; True when it was there."""
        answer = self._call(self.client.delete_item, TableName=table, Key=key, ReturnValues="ALL_OLD")
        return bool(answer.get("Attributes"))

    def delete_if(self, table: str, key: Item, condition: str, names: Mapping[str, str], values: Item) -> None:
        """Delete one item under a condition. Raises ConditionFailedError."""
        self._call(
            self.client.delete_item,
            TableName=table,
            Key=key,
            ConditionExpression=condition,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **_expressions(names, values),
        )

    def query(self, table: str, condition: str, values: Item, **options: Any) -> Iterator[Item]:
        """All items that match, read consistently, however many pages (of at most 1 MB) they fill."""
        arguments: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
            **options,
        }
        while True:
            answer = self._call(self.client.query, **arguments)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def scan_keys(self, table: str, sort_key: str, prefix: str) -> Iterator[Item]:
        """Primary keys of all items whose partition key begins with ``prefix``; reads the whole table."""
        arguments: dict[str, Any] = {
            "TableName": table,
            "FilterExpression": "begins_with(#d, :p)",
            "ProjectionExpression": "#d, #s",
            "ExpressionAttributeNames": {"#d": "dialogue", "#s": sort_key},
            "ExpressionAttributeValues": {":p": {"S": prefix}},
            "ConsistentRead": True,
        }
        while True:
            answer = self._call(self.client.scan, **arguments)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def batch_get(self, table: str, keys: Sequence[Item]) -> list[Item]:
        """The items of those keys that exist, read consistently, in any order. Raises ThrottledError."""
        items: list[Item] = []
        for chunk in chunks(keys, _BATCH_GET):
            left: Any = {table: {"Keys": chunk, "ConsistentRead": True}}
            for pause in self._pauses():
                answer = self._call(self.client.batch_get_item, RequestItems=left)
                items += answer["Responses"].get(table, [])
                left = answer.get("UnprocessedKeys")
                if not left:
                    break
                pause()
            else:
                raise ThrottledError("DynamoDB leaves part of a batch unread; repeat later")
        return items

    def batch_delete(self, table: str, keys: Sequence[Item]) -> None:
        """Delete the items of those keys. Raises ThrottledError."""
        for chunk in chunks(keys, _BATCH_WRITE):
            left: Any = {table: [{"DeleteRequest": {"Key": key}} for key in chunk]}
            for pause in self._pauses():
                left = self._call(self.client.batch_write_item, RequestItems=left).get("UnprocessedItems")
                if not left:
                    break
                pause()
            else:
                raise ThrottledError("DynamoDB leaves part of a deletion undone; repeat the call")

    def _pauses(self) -> Iterator[Callable[[], None]]:
        """One exponentially longer pause for each attempt at what a batch left over."""
        for attempt in range(_LEFT_OVER_ATTEMPTS):
            yield lambda attempt=attempt: self._sleep(_FIRST_PAUSE_S * 2**attempt)  # type: ignore[misc]

    def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return method(**arguments)
        except ClientError as error:
            code = error_code(error)
            if code == "ConditionalCheckFailedException":
                raise ConditionFailedError(dict(error.response.get("Item", {}))) from None  # type: ignore[call-overload]
            if code == "ValidationException" and "size" in str(error.response["Error"].get("Message", "")).lower():
                raise TooLargeError("events", "the turn is full (400 KB in DynamoDB); start a new turn") from None
            raise unavailable("DynamoDB", error) from None
        except BotoCoreError as error:
            raise unavailable("DynamoDB", error) from None


def _expressions(names: Mapping[str, str], values: Item) -> dict[str, Any]:
    expressions: dict[str, Any] = {}
    if names:
        expressions["ExpressionAttributeNames"] = dict(names)
    if values:
        expressions["ExpressionAttributeValues"] = values
    return expressions


def chunks(keys: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The keys in lists of at most so many."""
    left = iter(keys)
    while chunk := list(islice(left, size)):
        yield chunk
