"""Fits what decides whether another recogniser's list names a contact, to real callers with contact lists of all makes.

    python -m recipes.rescorer.callers DATA [--context DIR] [--limit N] [--makes]

DATA has text/nbest. Every caller of the half "dev" gets a list of each make and size with the name and one without it.
A change that gives the caller's name to a list that had another 1-best is what is wanted, one that adds word errors is
what is not. The constant is then lowered until, in cross-fits by speaker, at most 2% of the lists of each make and size
without the name get more errors; lists of fewer than ten names are left out of this, for a caller whose name sounds
like the only contact is told from one who said it by nothing. The weights are written into fitted.json of the context
model, the rest of which stays. --makes: also fit without each make and judge on it, on the half "report".
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.commands.terminal import give_up
from asr.context.answer_tables import AnswerTables
from asr.context.checkpoint import WEIGHTS, ContextModels
from asr.context.contact_classifier import FEATURES, evidence
from asr.context.features import list_distances
from asr.context.foreign_nbest import distinct_texts
from asr.errors import AsrError
from asr.evaluation.wer import contains
from asr.fitted import FILE, save_fitted
from recipes.context.evaluate_names import Kind
from recipes.context.fit import WORSE, word_errors
from recipes.context.names import HALVES, MAKES, PARTS, Call, ContactLists, read_calls, read_contacts

SIZES = (1, 10, 100, 1000)
KINDS = tuple(Kind(*kind) for kind in product(MAKES, SIZES, (True, False)))
_FEWEST = 10
"""Different names of the lists that the constant is chosen on."""
_GAINED, _WORSE, _NEITHER = 1.0, 3.0, 0.02
"""Weights of the lists where the nearest contact is the caller and mends the 1-best, where it adds word errors, and of
the others."""
_PULL = 1.0
"""Precision of the weights' prior, of features of unit variance."""
_STEP = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lists:
    """Of N lists: values (N, FEATURES) of the nearest contact; whether it mends the 1-best, adds word errors, is the
    caller's name; whether the 1-best was right before, holds a contact already; kind, a place in KINDS; different
    names; part: the call's."""

    values: Array
    gained: NDArray[np.bool_]
    worse: NDArray[np.bool_]
    right: NDArray[np.bool_]
    before: NDArray[np.bool_]
    settled: NDArray[np.bool_]
    kind: NDArray[np.int64]
    names: NDArray[np.int64]
    part: NDArray[np.int64]

    def only(self, chosen: NDArray[np.bool_]) -> Lists:
        return Lists(*(getattr(self, field)[chosen] for field in self.__dataclass_fields__))


def lists_of(calls: Sequence[Call], contacts: ContactLists, tables: AnswerTables) -> Lists:
    """A list of each kind for every call; all names are compared with the call once."""
    rows = []
    known = contacts.names()
    for call in track(calls, "lists", console=Console(stderr=True)):
        texts = distinct_texts(call.nbest)
        if not texts:
            continue
        every = list(dict.fromkeys((*known, *contacts.families(call.name), call.name)))
        distance = dict(zip(every, list_distances([(n,) for n in every], texts).tolist(), strict=True))
        plain, errors = texts[0], word_errors(call.name, texts[0])
        for kind, one in enumerate(KINDS):
            drawn = contacts.draw(call.name, one.contacts, one.present, one.rng(call, 0), one.make)
            names = list(dict.fromkeys(map(str.lower, drawn)))
            found = evidence(names, np.array([distance[n] for n in names], np.float32), texts, tables)
            nearest = names[found.place]
            right, before = nearest == call.name, contains(plain, call.name)
            settled = any(contains(plain, name) for name in names if name.split()[0] in plain)
            more = word_errors(call.name, nearest) > errors
            rows.append((found.values, right and not before, more, right, before, settled, kind, len(names), call.part))
    columns = list(zip(*rows, strict=True))
    types = [float, *[bool] * 5, *[int] * 3]
    return Lists(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))


def fit(lists: Lists) -> Array:
    """(FEATURES + 1,): log-odds that a change mends a list rather than adds errors, by Newton's method."""
    weights = np.where(lists.gained, _GAINED, np.where(lists.worse, _WORSE, np.where(lists.right, 0.0, _NEITHER)))
    weights[lists.settled] = 0.0
    mean, spread = lists.values.mean(0), lists.values.std(0) + 1e-6
    x = np.hstack([(lists.values - mean) / spread, np.ones((len(lists.values), 1))])
    pull = np.array([_PULL] * len(FEATURES) + [1e-6])
    out = np.zeros(x.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-x @ out))
        slope = x.T @ (weights * (p - lists.gained)) + pull * out
        out -= np.linalg.solve((x.T * (weights * p * (1 - p))) @ x + np.diag(pull), slope)
    factors = out[:-1] / spread
    return np.append(factors, out[-1] - factors @ mean)


def changed(lists: Lists, nats: Array) -> NDArray[np.bool_]:
    return (nats > 0) & ~lists.settled


def nats(lists: Lists, weights: Array) -> Array:
    return lists.values @ weights[:-1] + weights[-1]


def fit_with_margin(lists: Lists) -> Array:
    """The fit to all, its constant such that the cross-fits do no more harm than WORSE to lists of any kind."""
    scores = np.zeros(len(lists.kind))
    for part in range(PARTS):
        mine = lists.part == part
        scores[mine] = nats(lists.only(mine), fit(lists.only(~mine)))
    kinds = [(lists.kind == place) & (lists.names >= _FEWEST) for place, kind in enumerate(KINDS) if not kind.present]
    kinds = [kind for kind in kinds if kind.any()]
    margin = 0.0
    while any((changed(lists, scores - margin) & lists.worse)[kind].mean() > WORSE["names"] for kind in kinds):
        margin += _STEP
    weights = fit(lists)
    weights[-1] -= margin
    return weights


def judge(title: str, lists: Lists, weights: Array, makes: Sequence[str] = MAKES) -> Table:
    """Of each make and size: right before and after where the caller is among the contacts, made worse where not."""
    out = Table("make", "contacts", "right before", "after", "made worse without", title=title, box=None)
    change = changed(lists, nats(lists, weights))
    after = np.where(change, lists.right, lists.before)
    for make, size in product(makes, SIZES):
        present, absent = (lists.kind == KINDS.index(Kind(make, size, there)) for there in (True, False))
        figures = lists.before[present], after[present], (change & lists.worse)[absent]
        out.add_row(make, str(size), *(f"{100 * x.mean():.1f}" for x in figures))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--context", type=Path, default=WEIGHTS, help="Folder of the context model, written to.")
    parser.add_argument("--limit", type=int, help="Only so many calls of each half.")
    parser.add_argument("--makes", action="store_true", help="Also judge each make by a fit without it.")
    args = parser.parse_args()
    folder, console = args.data / "text" / "nbest", Console(width=100)
    try:
        rescorer = ContextModels.load(args.context).rescorer
        contacts = ContactLists(read_contacts(folder / "evi_contacts.tsv.gz"))
        calls = read_calls(folder / "evi_en.jsonl.gz")
    except (AsrError, OSError) as error:
        give_up(error)
    halves = {h: [c for c in calls if c.half == h][: args.limit] for h in HALVES[: 2 if args.makes else 1]}
    lists = {half: lists_of(own, contacts, rescorer.tables) for half, own in halves.items()}
    weights = fit_with_margin(lists["dev"])
    console.print(", ".join(f"{n} {w:.2f}" for n, w in zip((*FEATURES, "constant"), weights, strict=True)))
    console.print(judge("dev, by the fit to all of it", lists["dev"], weights))
    if args.makes:
        console.print(judge("report", lists["report"], weights))
        for make in MAKES:
            others = lists["dev"].only(np.array([KINDS[k].make != make for k in lists["dev"].kind]))
            console.print(judge(f"report, without {make}", lists["report"], fit_with_margin(others), [make]))
    kept = tuple(round(float(w), 3) for w in weights)
    save_fitted(replace(rescorer.constants, contacts=kept), args.context / FILE)


if __name__ == "__main__":
    main()
