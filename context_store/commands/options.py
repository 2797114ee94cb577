"""Options of the commands that look after the tables: which ones, and where."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from context_store.config import StoreConfig

DEFAULTS = StoreConfig()
_TIMEOUT_S = 10.0
"""The service may take its time here: nobody waits for an answer to a spoken turn."""

Endpoint: TypeAlias = Annotated[
    str | None, typer.Option(help="URL of the DynamoDB endpoint, e.g. http://127.0.0.1:8000. Default: AWS itself.")
]
Region: TypeAlias = Annotated[str, typer.Option(help="AWS region.")]
EventsTable: TypeAlias = Annotated[str, typer.Option(help="Name of the events table.")]
PayloadTable: TypeAlias = Annotated[str, typer.Option(help="Name of the payload table.")]


def patient_config(endpoint: str | None, region: str, events_table: str, payload_table: str) -> StoreConfig:
    """The configuration that the options describe, with time enough for slow answers."""
    return StoreConfig(
        endpoint_url=endpoint,
        region=region,
        events_table=events_table,
        payload_table=payload_table,
        connect_timeout_s=_TIMEOUT_S,
        read_timeout_s=_TIMEOUT_S,
        max_attempts=5,
    )
