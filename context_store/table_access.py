"""The few DynamoDB calls that the store needs, with paging, retries of what was left over, and mapped errors.

Items are in DynamoDB's own notation (`{"S": ...}`, `{"N": ...}`, `{"B": ...}`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from context_store.aws import CONFLICTS, client_options, error_code, unavailable
from context_store.config import StoreConfig
from context_store.errors import StoreConfigError, ThrottledError, TooLargeError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
_LEFT_OVER_ATTEMPTS = 6
_CONFLICT_ATTEMPTS = 3
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSES_S = 5.0
_BATCH_WRITE = 25
_BATCH_GET = 100
_KEY_ATTRIBUTES = ("dialogue", "turn", "item")
"""The partition key, and the sort keys of the two tables; no item has both of these."""


class ConditionFailedError(Exception):
    """A conditional write was refused. Never leaves the package.

    answered: the item that the refusal brought with it, if any.
    read: reads the item.
    """

    def __init__(self, answered: Item | None, read: Callable[[], Item | None]) -> None:
        super().__init__("condition failed")
        self.answered = answered
        self._read = read

    @cached_property
    def item(self) -> Item:
        """The item in the place of the write; empty: none.

        A refusal brings none where there is none, and some servers that speak DynamoDB never bring one: then it is read
        here, so it may be younger than the refusal. Raises as `TableAccess.get`.
        """
        return self.answered or self._read() or {}


class TableAccess:
    """One boto3 client, shared by all threads (boto3 clients are thread-safe; resources are not).

    Raises StoreConfigError where the endpoint or the profile that the environment names cannot be used.
    """

    def __init__(self, config: StoreConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        try:
            self.client: DynamoDBClient = boto3.session.Session().client("dynamodb", **client_options(config))
        except BotoCoreError as error:
            raise unavailable("DynamoDB", error) from None
        except ValueError:
            raise StoreConfigError("the endpoint is no URL; give one such as http://127.0.0.1:8000") from None
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

    def page(
        self, table: str, condition: str, values: Item, names: Mapping[str, str], **options: Any
    ) -> tuple[list[Item], Item | None]:
        """Items that match, read consistently, of at most 1 MB; and where the next page begins, None at the end."""
        answer = self._call(
            self.client.query,
            TableName=table,
            KeyConditionExpression=condition,
            ConsistentRead=True,
            **_expressions(names, values),
            **options,
        )
        return answer["Items"], answer.get("LastEvaluatedKey")

    def query(
        self,
        table: str,
        condition: str,
        values: Item,
        names: Mapping[str, str],
        *,
        pages: int | None = None,
        **options: Any,
    ) -> Iterator[Item]:
        """All items that match, read consistently, however many pages they fill, or those of so many pages."""
        for number in count(1):
            items, after = self.page(table, condition, values, names, **options)
            yield from items
            if not after or number == pages:
                return
            options["ExclusiveStartKey"] = after

    def scan_keys(self, table: str, sort_key: str, prefix: str) -> Iterator[Item]:
        """Primary keys of all items whose partition key begins with `prefix`; reads the whole table."""
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

    def batch_get(self, table: str, keys: Sequence[Item], most_bytes: int | None = None) -> list[Item]:
        """The items of those keys that exist, read consistently, in any order. Raises ThrottledError.

        An answer holds 16 MB at most, and less where DynamoDB likes: what it leaves is asked for again, until there are
        `most_bytes` of binary values; then the rest is left out.
        """
        items: list[Item] = []
        for chunk in chunks(keys, _BATCH_GET):
            left: Any = {table: {"Keys": chunk, "ConsistentRead": True}}
            patience = _Patience(self._sleep)
            while True:
                answer = self._call(self.client.batch_get_item, RequestItems=left)
                items += answer["Responses"].get(table, [])
                if most_bytes is not None and sum(map(_binary_bytes, items)) >= most_bytes:
                    return items
                left = answer.get("UnprocessedKeys")
                if not left:
                    break
                if not patience.goes_on(len(left[table]["Keys"])):
                    raise ThrottledError("DynamoDB leaves part of a batch unread; repeat later")
        return items

    def batch_delete(self, table: str, keys: Sequence[Item]) -> None:
        """Delete the items of those keys. Raises ThrottledError."""
        for chunk in chunks(keys, _BATCH_WRITE):
            left: Any = {table: [{"DeleteRequest": {"Key": key}} for key in chunk]}
            patience = _Patience(self._sleep)
            while True:
                left = self._call(self.client.batch_write_item, RequestItems=left).get("UnprocessedItems")
                if not left:
                    break
                if not patience.goes_on(len(left[table])):
                    raise ThrottledError("DynamoDB leaves part of a deletion undone; repeat the call")

    def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return self._past_conflicts(method, **arguments)
        except ClientError as error:
            code = error_code(error)
            if code == "ConditionalCheckFailedException":
                raise self._condition_failed(error, **arguments) from None
            if code == "ValidationException" and "size" in str(error.response["Error"].get("Message", "")).lower():
                raise TooLargeError("events", "the turn is full (400 KB in DynamoDB); start a new turn") from None
            raise unavailable("DynamoDB", error) from None
        except BotoCoreError as error:
            raise unavailable("DynamoDB", error) from None

    def _condition_failed(self, error: ClientError, **arguments: Any) -> ConditionFailedError:
        answered: Any = error.response.get("Item")
        table, written = arguments["TableName"], arguments.get("Key") or arguments["Item"]
        key = {name: value for name, value in written.items() if name in _KEY_ATTRIBUTES}
        return ConditionFailedError(answered, lambda: self.get(table, key))

    def _past_conflicts(self, method: Callable[..., Any], **arguments: Any) -> Any:
        for attempt in range(_CONFLICT_ATTEMPTS - 1):
            try:
                return method(**arguments)
            except ClientError as error:
                if error_code(error) not in CONFLICTS:
                    raise
            self._sleep(_FIRST_PAUSE_S * 2**attempt)
        return method(**arguments)


class _Patience:
    """Pauses between attempts at what a batch has left over: ever longer ones without progress, and a few s in all."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep
        self._left: int | None = None
        self._attempts = 0
        self._paused_s = 0.0

    def goes_on(self, left: int) -> bool:
        """Pauses before the next attempt; False when there should be none. left: keys that are not done."""
        progress = self._left is None or left < self._left
        self._left, self._attempts = left, 1 if progress else self._attempts + 1
        pause_s = _FIRST_PAUSE_S * 2 ** (self._attempts - 1)
        self._paused_s += pause_s
        if self._attempts >= _LEFT_OVER_ATTEMPTS or self._paused_s > _LONGEST_PAUSES_S:
            return False
        self._sleep(pause_s)
        return True


def _binary_bytes(item: Item) -> int:
    return sum(len(value["B"]) for value in item.values() if "B" in value)


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
