"""Options of the commands that look after the tables: which ones, and where."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from context_store.config import StoreConfig

DEFAULTS = StoreConfig()

Endpoint: TypeAlias = Annotated[
    str | None, typer.Option(help="URL of the DynamoDB endpoint, e.g. http://127.0.0.1:8000. Default: AWS itself.")
]
Region: TypeAlias = Annotated[str, typer.Option(help="AWS region.")]
EventsTable: TypeAlias = Annotated[str, typer.Option(help="Name of the events table.")]
PayloadTable: TypeAlias = Annotated[str, typer.Option(help="Name of the payload table.")]
