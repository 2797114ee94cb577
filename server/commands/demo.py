"""Two turns over gRPC: a request, and the answer to the question that it raises, with and without context."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from carryover import CarryoverError, Final, LikelyFinal, Result
from server import logs
from server.demo.dialogue import Played, Script, play
from server.demo.synthesis import SynthesisError, speak
from server.hosting import HostError, running
from server.settings import PRIVATE, ConfigError, load_settings

app = typer.Typer(add_completion=False)
_err = Console(stderr=True, highlight=False)
_BAR = 40


@app.command()
def main(
    choices: Annotated[str, typer.Option(help="Names that the assistant asks about, with commas.")] = (
        "Meg Jones,Meg Bauer"
    ),
    answer: Annotated[str, typer.Option(help="What the user answers.")] = "Bauer",
    as_json: Annotated[bool, typer.Option("--json", help="End standard output with one line of JSON.")] = False,
    svg_file: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE.svg", help="Draw what is shown here too.")
    ] = None,
) -> None:
    """Start a server with its store in this process and recognise a follow-up, plain and with context."""
    names = tuple(name for name in (" ".join(part.split()) for part in choices.split(",")) if name)
    try:
        if len(names) < 2 or not answer.strip():
            raise HostError("give at least two --choices, with commas between them, and an --answer")
        played = asyncio.run(_play(Script(names, answer.strip())))
    except (ConfigError, HostError, SynthesisError) as error:
        typer.echo(f"demo: {error}", err=True)
        raise typer.Exit(2) from None
    except CarryoverError as error:
        typer.echo(f"demo: the server answered {error.code}: {error}", err=True)
        raise typer.Exit(2) from None
    show(played, _err if as_json else Console(highlight=False))
    if svg_file:
        _draw(played, svg_file)
    if as_json:
        typer.echo(json.dumps(played.summary()))


async def _play(script: Script) -> Played:
    logs.configure("ERROR")
    logging.getLogger().setLevel(logging.ERROR)
    request, answer = speak(script.request), speak(script.answer)
    _say(f"speech: {' and '.join(dict.fromkeys((request.by, answer.by)))}")
    settings = load_settings(None, {"port": 0, "store.endpoint": "local"}, {**os.environ, **PRIVATE})
    async with running(settings, _say) as (_, port):
        _say(f"server: 127.0.0.1:{port}; two turns follow, in real time")

        return await play(port, script, request, answer, _show_result)


def _show_result(result: Result) -> None:
    kind = "final" if isinstance(result, Final) else "likely final" if isinstance(result, LikelyFinal) else "partial"
    _err.print(Text(f"      {kind:<14}{result.transcript}", style="dim"))


def _say(line: str) -> None:
    typer.echo(f"demo: {line}", err=True)


def _draw(played: Played, file: Path) -> None:
    """What a terminal shows, as docs/demo.svg has it."""
    console = Console(record=True, width=78, file=StringIO(), highlight=False)
    console.print(Text("$ ./scripts/demo", style="bold"))
    show(played, console)
    console.save_svg(str(file), title="Carryover")


def show(played: Played, console: Console) -> None:
    """The dialogue, the answer with and without context, and the reply window's timeline."""
    info = played.summary()
    dialogue = Table.grid(padding=(0, 2))
    for turn in info["turns"][:2]:
        dialogue.add_row(Text(turn["speaker"], style="bold"), turn["text"])
    marked = _marked(info["contextual"], {biased["word"] for biased in info["biased_words"]})
    dialogue.add_row(Text("user", style="bold"), f"(says: {info['expected']})")
    dialogue.add_row("", Text.assemble(("without context  ", "dim"), _judged(Text(info["plain"]), info)))
    dialogue.add_row("", Text.assemble(("with context     ", "dim"), _judged(marked, info)))
    console.print(Panel(dialogue, title="Carryover", title_align="left", expand=False))
    console.print(f"context: {info['status']}, {'changed the result' if info['changed'] else 'changed nothing'}"
                  + (f" ({played.final.context.reason})" if played.final.context.reason else ""))  # fmt: skip
    for biased in info["biased_words"]:
        if biased["phrase"]:
            why = f"  {biased['word']!r} from {biased['phrase']!r} ({biased['signal']})"
            if biased["nats"] is not None:
                why += f": +{biased['nats']:.1f} nats, rank {biased['rank']} by sound alone"
            console.print(why)
    console.print(_timeline(played))


def _marked(text: str, biased: set[str]) -> Text:
    return Text(" ").join(Text(word, style="bold underline" if word in biased else "") for word in text.split())


def _judged(text: Text, info: dict[str, object]) -> Text:
    right = text.plain == info["expected"]
    return Text.assemble(text, "  ", ("✓", "green") if right else ("✗", "red"))


def _timeline(played: Played) -> Table:
    """One bar a stage, on the time since expect-speech."""
    moments = dict(played.moments)
    end = moments["answer_final"]
    names = [name for name, _ in played.moments]
    stages = [
        (name, moments[name], moments[names[i + 1]])
        for i, name in enumerate(names[:-1])
        if name in ("triggered", "reading", "encoding")
    ]
    stages += [("question", 0.0, moments["answer_begins"]), ("answer", moments["answer_begins"], end)]
    table = Table(title="since expect-speech", title_justify="left", title_style="", box=None, padding=(0, 1))
    for header, justify in (("", "left"), ("ms", "right"), ("", "left")):
        table.add_column(header, justify="right" if justify == "right" else "left")
    for name, start, stop in stages:
        left = min(_BAR - 1, max(0, round(start / end * _BAR)))
        width = max(1, round((stop - start) / end * _BAR))
        table.add_row(name, f"{stop - start:.0f}", " " * left + "█" * min(width, _BAR - left))
    return table


if __name__ == "__main__":
    app()
