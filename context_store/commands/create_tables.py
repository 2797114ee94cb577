"""Command: create the two DynamoDB tables and switch their expiry on."""

from __future__ import annotations

import typer
from rich.console import Console

from context_store.commands.options import DEFAULTS, Endpoint, EventsTable, PayloadTable, Region
from context_store.config import StoreConfig
from context_store.errors import StoreError
from context_store.tables import create_tables

app = typer.Typer(add_completion=False)


@app.command()
def main(
    endpoint: Endpoint = None,
    region: Region = DEFAULTS.region,
    events_table: EventsTable = DEFAULTS.events_table,
    payload_table: PayloadTable = DEFAULTS.payload_table,
) -> None:
    """Create Carryover's two DynamoDB tables, wait until they are active and switch their expiry (TTL) on.

    Running it again changes nothing. Credentials are found as usual by boto3: environment, profile or role.
    """
    progress = Console(stderr=True)
    config = StoreConfig(endpoint, region, events_table, payload_table)
    where = endpoint or f"AWS in {region}"
    try:
        create_tables(config.patient(), report=lambda line: progress.print(line, highlight=False, soft_wrap=True))
    except (StoreError, ValueError) as error:
        progress.print(f"create_tables: {where}: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(2) from None
    typer.echo(f"{events_table} {payload_table}")


if __name__ == "__main__":
    app()
