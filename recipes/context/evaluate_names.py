"""Measure what contact lists do for callers' names in the n-best lists of another recogniser."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from asr.commands.terminal import check_writable, give_up, track
from asr.context.checkpoint import ContextModels
from asr.errors import AsrError
from asr.evaluation.statistics import Bootstrap, Interval
from asr.evaluation.wer import contains
from asr.recognition.results import Hypothesis
from asr.text import normalize
from recipes.context.fit import word_errors
from recipes.context.names import HALVES, MAKES, Call, ContactLists, read_calls, read_contacts

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Tried:
    """One call with one list: whether the 1-best names the caller before and after, and the change in word errors."""

    speaker: str
    before: bool
    after: bool
    changed: bool
    more_errors: int


@dataclass(frozen=True)
class Line:
    """Shares of the calls: the name in the 1-best before and after, changed, changed for the worse."""

    make: str
    contacts: int
    present: bool
    calls: int
    before: Interval
    after: Interval
    changed: Interval
    worse: Interval


@dataclass(frozen=True)
class Kind:
    """A kind of contact lists: make, one of MAKES, entries, and whether the caller's name is among them."""

    make: str
    contacts: int
    present: bool

    def rng(self, call: Call, seed: int) -> random.Random:
        return random.Random(f"{seed} {call.id} {self}")


def attempt(call: Call, contacts: ContactLists, kind: Kind, models: ContextModels, seed: int) -> Tried:
    context = contacts.context(call, kind.contacts, kind.present, kind.rng(call, seed), kind.make)
    heard = tuple(Hypothesis(t, 0.0) for t in call.nbest)
    rescored = models.rescorer.rescore(heard, models.encoder.encode(context), None)
    before, after = normalize(call.nbest[0]), normalize(rescored.nbest[0].text)
    more = word_errors(call.name, after) - word_errors(call.name, before)
    return Tried(call.speaker, contains(before, call.name), contains(after, call.name), rescored.changed, more)


def line(tried: Sequence[Tried], kind: Kind) -> Line:
    draws, all_ = Bootstrap([t.speaker for t in tried]), [1] * len(tried)

    def share(values: list[bool]) -> Interval:
        return draws.ratio(values, all_)

    return Line(
        kind.make, kind.contacts, kind.present, len(tried), share([t.before for t in tried]),
        share([t.after for t in tried]), share([t.changed for t in tried]), share([t.more_errors > 0 for t in tried]),
    )  # fmt: skip


def _table(lines: Sequence[Line]) -> Table:
    columns = ("make", "contacts", "caller among them", "calls", "name right before", "after", "changed",
               "for the worse")  # fmt: skip
    out = Table(*columns, box=None)
    for x in lines:
        figures = [f"{100 * i.value:.1f} ({100 * i.low:.1f} to {100 * i.high:.1f})"
                   for i in (x.before, x.after, x.changed, x.worse)]  # fmt: skip
        out.add_row(x.make, str(x.contacts), "yes" if x.present else "no", str(x.calls), *figures)
    return out


@app.command()
def main(
    nbest: Annotated[
        Path,
        typer.Argument(metavar="NBEST.jsonl.gz", help="Lines {id, speaker, reference, context, nbest: [{text}]}."),
    ],
    names: Annotated[Path, typer.Argument(metavar="CONTACTS.tsv.gz", help="First and last name a line, a header.")],
    sizes: Annotated[str, typer.Option(help="Comma-separated lengths of the contact lists.")] = "1,10,100,1000",
    makes: Annotated[str, typer.Option(help="Comma-separated makes of the lists.")] = ",".join(MAKES),
    half: Annotated[str, typer.Option(help="dev or report: the speakers that were, or were not, learned from.")] = (
        "report"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many calls.")] = None,
    seed: Annotated[int, typer.Option(help="Of the contact lists.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="Folder of the context model; unset: the shipped one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None,
) -> None:
    """Rescore callers' n-best lists with contact lists that hold the caller's name, and with such that do not.

    Shares in percent with 95% intervals by speaker. A name is right where the 1-best holds it as it is spelled.
    """
    if half not in HALVES:
        raise typer.BadParameter(f"choose one of {', '.join(HALVES)}", param_hint="--half")
    lengths = [int(s) for s in sizes.split(",") if s.strip().isdecimal()]
    if len(lengths) != sizes.count(",") + 1 or min(lengths) < 1:
        raise typer.BadParameter("give numbers of entries with commas between them", param_hint="--sizes")
    chosen = [m.strip() for m in makes.split(",")]
    if not set(chosen) <= set(MAKES):
        raise typer.BadParameter(f"choose some of {', '.join(MAKES)}", param_hint="--makes")
    try:
        check_writable(json_file)
        calls = [c for c in read_calls(nbest) if c.half == half][:limit]
        contacts = ContactLists(read_contacts(names))
        models = ContextModels.load(weights)
    except (AsrError, OSError) as error:
        give_up(error)
    kinds = [Kind(make, size, present) for make in chosen for size in lengths for present in (True, False)]

    def run() -> Iterator[Line]:
        for kind in kinds:
            yield line([attempt(c, contacts, kind, models, seed) for c in calls], kind)

    lines = list(track(run(), len(kinds), "rescoring"))
    Console(width=None if Console().is_terminal else 160, highlight=False).print(_table(lines))
    if json_file:
        json_file.write_text(json.dumps([asdict(x) for x in lines], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
