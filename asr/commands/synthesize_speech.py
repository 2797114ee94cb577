"""Synthesise training speech (names, commands, prose) with espeak-ng and flite."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from asr.training.synthesis import synthesize

console = Console(stderr=True)


def main(
    data: Annotated[Path, typer.Option(help="Folder with text/.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifest and its shard; outside the repository.")],
    count: Annotated[int, typer.Option(help="Utterances.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed says the same.")] = 1,
) -> None:
    """Writes OUT/synthesis-train.jsonl.gz and OUT/synthesis-train-00.tar, for `train_acoustic --extra`."""
    missing = [name for name in ("espeak-ng", "flite") if shutil.which(name) is None]
    if missing:
        console.print(f"{' and '.join(missing)} not found: install the Debian packages of that name", style="red")
        raise typer.Exit(1)
    with Progress(console=console) as bar:
        task = bar.add_task("speaking", total=count)
        failed = synthesize(data, out, count, seed, lambda done: bar.update(task, completed=done))
    for line in failed:
        console.print(line, style="yellow")
    print(out / "synthesis-train.jsonl.gz")


if __name__ == "__main__":
    typer.run(main)
