"""The two tables: their schema, creation and check."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from context_store.aws import error_code, knows_call, unavailable
from context_store.config import StoreConfig
from context_store.errors import StoreConfigError, StoreError, StoreUnavailableError
from context_store.table_access import ConditionFailedError, Item, TableAccess

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_SORT_KEYS = {"events": "turn", "payload": "item"}
_TTL_ATTRIBUTE = "expires_at"
_ACTIVE_WITHIN_S = 120.0
_POLL_S = 0.5
_PROBE: Item = {"dialogue": {"S": "#"}, "turn": {"S": "#"}}
"""Key of an item that no dialogue has: no name is empty."""


def create_tables(config: StoreConfig, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Create both tables where absent, wait until they are ACTIVE, switch TTL on. Repeating it changes nothing.

    Where the endpoint has no TTL, that is reported, and the tables are used without.

    Args:
        report: called at each step, for progress.

    Raises:
        StoreConfigError: a table of that name has another schema, or the call is refused.
        StoreUnavailableError: the endpoint does not answer.
    """
    client = TableAccess(config).client
    try:
        for table, sort_key in _schemas(config):
            _create(client, table, sort_key, report)
        for table, _ in _schemas(config):
            _wait_active(client, table)
            _enable_ttl(client, table, report)
    except (BotoCoreError, ClientError) as error:
        raise unavailable("DynamoDB", error) from None
    finally:
        client.close()


def check_tables(access: TableAccess, config: StoreConfig) -> None:
    """Raise StoreConfigError or StoreUnavailableError unless both tables answer and are ACTIVE."""
    try:
        for table, sort_key in _schemas(config):
            description = access.client.describe_table(TableName=table)["Table"]
            _check_schema(table, sort_key, description)
            if description["TableStatus"] not in ("ACTIVE", "UPDATING"):
                raise StoreUnavailableError(f"the table {table} is {description['TableStatus']}; wait and repeat")
    except (BotoCoreError, ClientError) as error:
        raise unavailable("DynamoDB", error) from None


def point_in_time_recovery(access: TableAccess, table: str) -> bool | None:
    """Is it on for a table? None where the endpoint, or what we may do there, does not tell."""
    try:
        description = access.client.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    except (BotoCoreError, ClientError):
        return None
    return description.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED"


def lacking(access: TableAccess, config: StoreConfig) -> list[str]:
    """What tables or endpoint lack that the store does without, and what it costs: a clause each.

    What the endpoint, or what we may do there, does not tell is left out.
    """
    clauses = []
    if forever := [table for table, _ in _schemas(config) if _expires(access, table) is False]:
        clauses.append(
            f"time to live is off for {' and '.join(forever)}: expired items are never used, but stay there "
            "(scripts/create_tables switches it on, or says that the endpoint has none)"
        )
    if _returns_old_items(access, config) is False:
        clauses.append("failed conditions bring no item: each repeated text costs another read")
    return clauses


def _expires(access: TableAccess, table: str) -> bool | None:
    try:
        state = access.client.describe_time_to_live(TableName=table).get("TimeToLiveDescription", {})
    except ClientError as error:
        return None if knows_call(error) else False
    except BotoCoreError:
        return None
    return _expiry_is_on(state) and state.get("AttributeName") == _TTL_ATTRIBUTE


def _returns_old_items(access: TableAccess, config: StoreConfig) -> bool | None:
    """Does a failed condition bring the item that it found? AWS itself does; others are asked, with an item for it."""
    if config.endpoint_url is None:
        return True
    table = config.events_table
    try:
        access.client.put_item(TableName=table, Item=_PROBE)
        try:
            access.delete_if(table, _PROBE, "attribute_not_exists(#d)", {"#d": "dialogue"}, {})
        except ConditionFailedError as failed:
            access.delete(table, _PROBE)
            return bool(failed.answered)
    except (StoreError, BotoCoreError, ClientError):
        return None
    return None  # another server that asks the same has deleted it


def _schemas(config: StoreConfig) -> list[tuple[str, str]]:
    if config.events_table == config.payload_table:
        raise StoreConfigError("events_table and payload_table have the same name; give two names")
    return [(config.events_table, _SORT_KEYS["events"]), (config.payload_table, _SORT_KEYS["payload"])]


def _create(client: DynamoDBClient, table: str, sort_key: str, report: Callable[[str], None]) -> None:
    try:
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "dialogue", "AttributeType": "S"},
                {"AttributeName": sort_key, "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "dialogue", "KeyType": "HASH"},
                {"AttributeName": sort_key, "KeyType": "RANGE"},
            ],
        )
        report(f"{table}: created")
    except ClientError as error:
        if error_code(error) != "ResourceInUseException":
            raise
        _check_schema(table, sort_key, client.describe_table(TableName=table)["Table"])
        report(f"{table}: is there already")


def _check_schema(table: str, sort_key: str, description: Any) -> None:
    keys = {(key["AttributeName"], key["KeyType"]) for key in description["KeySchema"]}
    if keys != {("dialogue", "HASH"), (sort_key, "RANGE")}:
        raise StoreConfigError(
            f"the table {table} has other keys than dialogue and {sort_key}; choose another table name"
        )


def _wait_active(client: DynamoDBClient, table: str) -> None:
    deadline = time.monotonic() + _ACTIVE_WITHIN_S
    while client.describe_table(TableName=table)["Table"]["TableStatus"] != "ACTIVE":
        if time.monotonic() > deadline:
            raise StoreUnavailableError(f"the table {table} is not ACTIVE after {_ACTIVE_WITHIN_S:.0f} s; run it again")
        time.sleep(_POLL_S)


def _enable_ttl(client: DynamoDBClient, table: str, report: Callable[[str], None]) -> None:
    try:
        state = client.describe_time_to_live(TableName=table).get("TimeToLiveDescription", {})
        if _expiry_is_on(state):
            if state.get("AttributeName") != _TTL_ATTRIBUTE:
                raise StoreConfigError(
                    f"the table {table} expires by another attribute; switch that off and run it again"
                )
            report(f"{table}: expiry is on already")
            return
        client.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": _TTL_ATTRIBUTE}
        )
    except ClientError as error:
        if knows_call(error):
            raise
        report(f"{table}: expiry cannot be switched on at this endpoint; expired items are never used, but stay there")
        return
    report(f"{table}: expiry switched on")


def _expiry_is_on(state: Any) -> bool:
    return state.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
