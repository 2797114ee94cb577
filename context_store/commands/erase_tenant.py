"""Command: erase everything that is stored of a tenant."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from context_store.commands.options import DEFAULTS, Endpoint, EventsTable, PayloadTable, Region
from context_store.config import StoreConfig
from context_store.errors import StoreError
from context_store.store import ContextStore
from context_store.wrapping import local_wrapping_key

app = typer.Typer(add_completion=False)


@app.command()
def main(
    tenant: Annotated[str, typer.Argument(help="Whose dialogues.")],
    endpoint: Endpoint = None,
    region: Region = DEFAULTS.region,
    events_table: EventsTable = DEFAULTS.events_table,
    payload_table: PayloadTable = DEFAULTS.payload_table,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Destroy all dialogue keys of TENANT, then delete everything of it in both tables; prints the number of items.

    Take the tenant's keys out of the servers' file first (they forget it at the next call of anyone), and run this
    again until it prints 0: it erases what it finds. It needs no wrapping key, and reads both tables from end to end.
    """
    console = Console(stderr=True)
    if not yes:
        typer.confirm(f"Erase everything of the tenant {tenant!r}?", abort=True, err=True)
    try:
        config = StoreConfig(endpoint, region, events_table, payload_table)
        store = ContextStore(config.patient(), local_wrapping_key())
        columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed} items"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            bars = {table: progress.add_task(table, total=None) for table in (events_table, payload_table)}
            deleted = store.delete_tenant(tenant, lambda table, items: progress.advance(bars[table], items))
        store.close()
    except (StoreError, ValueError) as error:
        console.print(f"erase_tenant: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(2) from None
    typer.echo(deleted)


if __name__ == "__main__":
    app()
