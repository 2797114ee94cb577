"""The command `carryover`: each of the project's commands as a subcommand, loaded when it is called."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

SERVER, SPEECH, STORE = "The server", "Speech and n-best lists", "Keys and tables"
COMMANDS = {
    "demo": ("server.commands.demo", SERVER, "Play a dialogue of two turns, with and without context."),
    "serve": ("server.commands.serve", SERVER, "Serve carryover.v1 over gRPC."),
    "stream-client": ("server.commands.stream_client", SERVER, "Stream a file or the microphone to a server."),
    "check-health": ("server.commands.check_health", SERVER, "Ask a server whether it serves."),
    "transcribe": ("asr.commands.transcribe", SPEECH, "Transcribe many files."),
    "evaluate-wer": ("asr.commands.evaluate_wer", SPEECH, "Measure word errors with and without context."),
    "rescore-nbest": ("asr.commands.rescore_nbest", SPEECH, "Re-order another recogniser's n-best lists."),
    "make-key": ("server.commands.make_key", STORE, "Make a key for a tenant."),
    "create-tables": ("context_store.commands.create_tables", STORE, "Create the two DynamoDB tables."),
    "erase-tenant": ("context_store.commands.erase_tenant", STORE, "Erase everything that is stored of a tenant."),
}
"""Name: module whose `app` it is, group and line in the help. A command's own help is its module's."""


class _Commands(TyperGroup):
    """Lists the commands without loading them, which would load the models' libraries, and loads the one called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        if listed is None:
            return name, listed, rest
        return name, typer.main.get_command(importlib.import_module(COMMANDS[listed.name or ""][0]).app), rest


app = typer.Typer(cls=_Commands, add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"carryover {version('carryover-asr')}")
        raise typer.Exit


@app.callback()
def main(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Carryover: a streaming speech recogniser for assistants that ask back.

    `carryover demo` plays a dialogue; `carryover COMMAND --help` explains a command.
    """


def _listed() -> None:
    """Stands for a command in the list."""


for _name, (_, _group, _line) in COMMANDS.items():
    app.command(_name, help=_line, rich_help_panel=_group)(_listed)


if __name__ == "__main__":
    app()
