"""Progress of recipes that do several things: a function to tell it to, and bars that show it."""

from __future__ import annotations

from collections.abc import Callable

import rich.progress
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from asr.commands.terminal import console

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Bars:
    """Several bars, one for each thing that is being done; `show` is a `Progress`."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = rich.progress.Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def show(self, what: str, done: float, total: float) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
