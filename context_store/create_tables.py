"""Command: create the two DynamoDB tables and switch their expiry on."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from context_store.config import StoreConfig
from context_store.errors import StoreError
from context_store.tables import create_tables

DEFAULTS = StoreConfig()
# The service may take its time here: nobody waits for an answer to a spoken turn.
TIMEOUT_S = 10.0

app = typer.Typer(add_completion=False)


@app.command()
def main(
    endpoint: Annotated[
        str | None, typer.Option(help="URL of the DynamoDB endpoint, e.g. http://127.0.0.1:8000. Default: AWS itself.")
    ] = None,
    region: Annotated[str, typer.Option(help="AWS region.")] = DEFAULTS.region,
    events_table: Annotated[str, typer.Option(help="Name of the events table.")] = DEFAULTS.events_table,
    payload_table: Annotated[str, typer.Option(help="Name of the payload table.")] = DEFAULTS.payload_table,
) -> None:
    """Create Carryover's two DynamoDB tables, wait until they are active and switch their expiry (TTL) on.

    Running it again changes nothing. Credentials are found as usual by boto3: environment, profile or role.
    """
    progress = Console(stderr=True)
    config = StoreConfig(
        endpoint_url=endpoint,
        region=region,
        events_table=events_table,
        payload_table=payload_table,
        connect_timeout_s=TIMEOUT_S,
        read_timeout_s=TIMEOUT_S,
        max_attempts=3,
    )
    where = endpoint or f"AWS in {region}"
    try:
        create_tables(config, report=lambda line: progress.print(line, highlight=False))
    except (StoreError, ValueError) as error:
        progress.print(f"create_tables: {where}: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(1) from None
    typer.echo(f"{events_table} {payload_table}")


if __name__ == "__main__":
    app()
