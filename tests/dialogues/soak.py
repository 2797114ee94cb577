"""Plays dialogues at random for as long as one likes: `python -m tests.dialogues.soak --steps 100000 --seed 1`.

The steps are those of `player.RULES`, in examples of `--example` steps with dialogues of their own. On a fault it
prints the steps that led there, as few as still lead there, and exits with 1. An example is a function of the seed and
of its number; what its steps come to depends, where they meet on the way, on the machine's threads too. The store is
moto's, whose work is half of it all, or the DynamoDB that CARRYOVER_TEST_DYNAMODB_ENDPOINT names.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.dialogues.model import FaultError
from tests.dialogues.player import RULES, Player, Step, Tally, chosen
from tests.dialogues.rig import Rig, rig

_SHRINK_S = 120.0
_AGAIN = 2
"""So often a shorter list of steps is tried before it counts as harmless."""


@dataclass
class Soak:
    """Examples one after the other, on one rig."""

    rig: Rig
    seed: int
    tally: Tally = field(default_factory=Tally)
    played: int = 0

    def play(self, steps: Sequence[Step], tally: Tally | None = None) -> tuple[FaultError | None, Sequence[Step]]:
        """The fault that steps lead to, and those up to it."""
        self.played += 1
        player = Player(self.rig, f"{self.seed}-{self.played}", tally)
        try:
            for step in steps:
                player.do(step)
        except FaultError as fault:
            return fault, player.steps
        finally:
            player.finish()
        return None, player.steps

    def example(self, number: int, length: int) -> list[Step]:
        """The steps of an example."""
        rng = random.Random(f"{self.seed} {number}")
        return [chosen(rng) for _ in range(length)]

    def shrunk(self, steps: Sequence[Step], kind: str) -> Sequence[Step]:
        """Fewer and plainer steps that still lead to a fault of a kind, found within some minutes."""
        deadline_s = time.monotonic() + _SHRINK_S
        size = len(steps) // 2
        while True:
            for other in [*_without(steps), *_fewer(steps, size), *(_plainer(steps) if size == 1 else ())]:
                if time.monotonic() > deadline_s:
                    return steps
                if (found := self._leads_to(other, kind)) is not None:
                    steps = found
                    break
            else:
                if size == 1:
                    return steps
                size = max(1, size // 2)

    def _leads_to(self, steps: Sequence[Step], kind: str) -> Sequence[Step] | None:
        for _ in range(_AGAIN):
            fault, done = self.play(steps)
            if fault is not None and fault.kind == kind:
                return done
        return None


def _without(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The steps without all those of one rule, one stream or one dialogue."""
    for part in dict.fromkeys(part for step in steps for part in _parts(step)):
        kept = [step for step in steps if part not in _parts(step)]
        if len(steps) - len(kept) > 1:
            yield kept


def _parts(step: Step) -> list[object]:
    return [step.rule, *((name, value) for name, value in step.arguments if name in ("stream", "dialogue"))]


def _fewer(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """The steps without so many in a row, the last ones first."""
    for start in range(len(steps) - size, -1, -size):
        yield [*steps[:start], *steps[start + size :]]


def _plainer(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The steps with one argument replaced by a plainer one."""
    for place, (rule, arguments) in enumerate(steps):
        for name, value in arguments:
            values = RULES[rule].choices[name]
            for plainer in dict.fromkeys(values[: values.index(value)]):
                changed = tuple((other, plainer if other == name else kept) for other, kept in arguments)
                yield [*steps[:place], Step(rule, changed), *steps[place + 1 :]]


def run(
    steps: Annotated[int, typer.Option(help="Steps in all.")] = 100_000,
    seed: Annotated[int | None, typer.Option(help="Of the choice of steps; unset: another one each time.")] = None,
    example: Annotated[int, typer.Option(help="Steps of one example, after which dialogues begin anew.")] = 60,
    first: Annotated[int, typer.Option(help="Number of the first example.")] = 0,
) -> None:
    """Play dialogues at random against two replicas, and check every context."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)  # what is broken on purpose is logged by the thousand
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    told = Console(stderr=True)
    told.print(f"seed {seed}")
    with rig() as running:
        soak = Soak(running, seed)
        began_s = time.monotonic()
        for number in _shown(range(first, first + -(-steps // example)), example, told):
            fault, done = soak.play(soak.example(number, example), soak.tally)
            if fault is not None:
                typer.echo(f"example {number}, step {len(done)}: {fault}")
                told.print("looking for fewer steps that lead there")
                for step in soak.shrunk(done, fault.kind):
                    typer.echo(f"    {step}")
                typer.echo(f"again: python -m tests.dialogues.soak --seed {seed} --example {example} --first {number}")
                raise typer.Exit(1)
        _report(soak.tally, time.monotonic() - began_s)


def _shown(numbers: range, example: int, console: Console) -> Iterator[int]:
    """The numbers, with a progress bar from five seconds on."""
    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task, began_s = progress.add_task("", total=len(numbers) * example, visible=False), time.monotonic()
        for number in numbers:
            yield number
            progress.update(task, advance=example, visible=time.monotonic() - began_s > 5)


def _report(tally: Tally, seconds: float) -> None:
    total = sum(tally.rules.values())
    typer.echo(f"{total} steps in {seconds:.0f} s, {total / seconds:.0f} a second; no fault")
    typer.echo("rules: " + _counts(tally.rules))
    typer.echo("contexts: " + _counts(tally.statuses) + f"; {tally.had_to_apply} had to apply, and did")
    typer.echo("calls that failed while something was wrong: " + _counts(tally.refused))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


if __name__ == "__main__":
    typer.run(run)
