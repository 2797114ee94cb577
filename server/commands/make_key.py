"""Makes a bearer key for a tenant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.access import make_key, read_keys
from server.settings import ConfigError

app = typer.Typer(add_completion=False)


@app.command()
def main(
    tenant: Annotated[str, typer.Argument(help="Whose key it is: 1 to 63 of a-z, 0-9, - and _.")],
    keys_file: Annotated[
        Path | None, typer.Option(help="The server's file of keys: the hash is added to it, made when absent.")
    ] = None,
) -> None:
    """Make a key for TENANT. The key goes to standard output, once: nobody can tell it from its hash.

    Without --keys-file the line for the server's file of keys goes to standard error. A running server takes the new
    key within a second; to take one back, remove its line.
    """
    try:
        key, line = make_key(tenant)
        if keys_file is None:
            typer.echo(f"for access.keys_file: {line}", err=True)
        else:
            _append(keys_file, line)
            typer.echo(f"make_key: its hash is in {keys_file}", err=True)
    except (ConfigError, OSError) as error:
        typer.echo(f"make_key: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(key)


def _append(file: Path, line: str) -> None:
    """Adds a line as one write, so that a server that reads meanwhile sees all of it or nothing."""
    if file.exists():
        read_keys(file)
        text = file.read_text(encoding="utf-8")
        line = line if not text or text.endswith("\n") else f"\n{line}"
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{line}\n")


if __name__ == "__main__":
    app()
