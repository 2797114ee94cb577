"""What the commands over lists share: progress and problems on standard error, one way to give up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asr.errors import AsrError
from asr.evaluation.jsonl import Problem, check_folder

T = TypeVar("T")

console = Console(stderr=True, highlight=False)


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a bar on a terminal and nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)


def warn(message: str) -> None:
    """One line on standard error."""
    console.print(message, style="yellow", markup=False, soft_wrap=True)


def report(file: object, problems: Iterable[Problem]) -> int:
    """Says which lines of a file cannot be used and why; how many they are."""
    number = 0
    for problem in problems:
        warn(f"{file}, line {problem.line}: {problem.reason}")
        number += 1
    return number


def check_writable(*files: Path | None) -> None:
    """Opens each file but "-", without changing it: no run of minutes is to end in a result that cannot be written.

    Raises:
        OSError: one of them cannot be written.
    """
    for file in (file for file in files if file is not None and str(file) != "-"):
        check_folder(file)
        file.open("a").close()


def give_up(error: AsrError | OSError) -> NoReturn:
    """Ends the command with status 2 and one line that says why."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
    console.print(text, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(2)
