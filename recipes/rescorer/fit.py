"""Fits what speaks for a hypothesis that names an entry of the context, to lists of several makes, and keeps it.

    python -m recipes.rescorer.fit LISTS... [--judge LISTS...] [--context DIR] [--keep-out MAKE]

LISTS are what `recipes.rescorer.lists` wrote. The weights (`asr.context.evidence`) are those of a conditional logistic
regression: among an utterance's hypotheses that name an entry, and its plain 1-best as it stands, those with the fewest
word errors are right.

The report has a line for each make and condition: turns exactly right without and with context, those made wrong, and
word errors. What LISTS say is cross-fitted, each fifth of the utterances by the weights of the others, and once more
with the whole make left out; --judge names lists that nothing is fitted to. The weights are written into fitted.json of
the context model.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from asr.context.checkpoint import WEIGHTS, ContextModels
from asr.context.evidence import EVIDENCE, evidence
from asr.context.features import match
from asr.context.phrase_index import PhraseIndex
from asr.evaluation.wer import align, count
from asr.fitted import FILE, RescorerConstants, read_fitted, save_fitted
from asr.recognition.recognizer import Recognizer
from recipes.rescorer.lists import HypothesisList, read_lists

NOT_MEANT = 0.7
"""What a turn counts whose context does not hold what is meant: who is asked which of two mostly means one of them."""
_RIDGE = 1e-3
_FOLDS = 5


@dataclass(frozen=True)
class Example:
    """rows: (hypotheses that name an entry, EVIDENCE). errors: of the plain 1-best, then of each of these, words."""

    id: str
    make: str
    kind: str
    condition: str
    meant: bool
    rows: NDArray[np.float64]
    errors: NDArray[np.int64]
    words: int

    @property
    def fold(self) -> int:
        return hashlib.md5(self.id.encode()).digest()[0] % _FOLDS

    def chosen(self, weights: NDArray[np.float64]) -> int:
        """Errors of what comes first."""
        odds = np.concatenate([[0.0], self.rows @ weights])
        return int(self.errors[int(odds.argmax())])


def example(one: HypothesisList, models: ContextModels) -> Example:
    embedding = models.encoder.encode(one.context)
    index = PhraseIndex(embedding.phrases)
    hypotheses = one.hypotheses()
    words = count(align(one.reference, "")).words
    if not hypotheses:
        errors = [count(align(one.reference, "")).total]
        rows = np.zeros((0, len(EVIDENCE)))
        return Example(one.id, one.make, one.kind, one.condition, one.meant, rows, np.array(errors), words)
    matches = [match(h.text, index) for h in hypotheses]
    found = evidence(hypotheses, one.heard, matches, index, embedding.question, models.rescorer.tables)
    errors = [count(align(one.reference, hypotheses[i].text)).total for i in (0, *found)]
    rows = np.array([*found.values()]).reshape(len(found), len(EVIDENCE))
    return Example(one.id, one.make, one.kind, one.condition, one.meant, rows, np.array(errors), words)


def fit(examples: Sequence[Example]) -> NDArray[np.float64]:
    """(EVIDENCE,) weights by maximum likelihood, a little shrunk."""
    telling = [e for e in examples if len(set(e.errors.tolist())) > 1]
    width = 1 + max(len(e.rows) for e in telling)
    rows = torch.zeros(len(telling), width, len(EVIDENCE), dtype=torch.float64)
    there, best = (torch.zeros(len(telling), width, dtype=torch.bool) for _ in range(2))
    for i, e in enumerate(telling):
        n = len(e.errors)
        rows[i, 1:n] = torch.from_numpy(e.rows)
        there[i, :n] = True
        best[i, :n] = torch.from_numpy(e.errors == e.errors.min())
    share = torch.tensor([1.0 if e.meant else NOT_MEANT for e in telling], dtype=torch.float64)
    weights = torch.zeros(len(EVIDENCE), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_p = (rows @ weights).masked_fill(~there, -torch.inf).log_softmax(1)
        right = log_p.masked_fill(~best, -torch.inf).logsumexp(1)
        out: Tensor = -(share * right).sum() / share.sum() + _RIDGE * weights.square().sum()
        out.backward()
        return out

    optimizer.step(loss)
    return weights.detach().numpy()


Errors = list[tuple[Example, int]]


def cross_fitted(examples: Sequence[Example], part: Callable[[Example], object]) -> Errors:
    """Errors of each example's first hypothesis by weights fitted to the examples of other parts."""
    out = []
    for one in sorted({part(e) for e in examples}, key=str):
        weights = fit([e for e in examples if part(e) != one])
        out += [(e, e.chosen(weights)) for e in examples if part(e) == one]
    return out


def report(title: str, errors: Errors) -> Table:
    table = Table("make", "condition", "turns", "right before", "right", "made wrong", "WER before", "WER", title=title)
    for make, condition in sorted({(e.make, e.condition) for e, _ in errors}):
        rows = [(e, now) for e, now in errors if (e.make, e.condition) == (make, condition)]
        turns, words = len(rows), sum(e.words for e, _ in rows)
        before, now = sum(int(e.errors[0]) for e, _ in rows), sum(n for _, n in rows)
        shares = (
            sum(not e.errors[0] for e, _ in rows),
            sum(not n for _, n in rows),
            sum(not e.errors[0] and n > 0 for e, n in rows),
        )
        figures = (f"{100 * x / turns:.1f}%" for x in shares)
        table.add_row(make, condition, str(turns), *figures, *(f"{100 * x / words:.1f}" for x in (before, now)))
    return table


def examples_of(files: Iterable[Path], models: ContextModels) -> dict[bool, list[Example]]:
    """By whether the attention decoder has heard them."""
    out: dict[bool, list[Example]] = {True: [], False: []}
    for one in track([row for file in files for row in read_lists(file)], "reading", console=Console(stderr=True)):
        out[one.attended].append(example(one, models))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, nargs="*", default=[])
    parser.add_argument("--context", type=Path, default=WEIGHTS, help="folder of the context model, written to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    models = ContextModels.load(args.context)
    examples, judged = examples_of(args.lists, models), examples_of(args.judge, models)
    found = {}
    for attended, name in ((True, "with the attention decoder"), (False, "without")):
        found[attended] = fit(examples[attended])
        console.print(report(f"{name}, cross-fitted", cross_fitted(examples[attended], lambda e: e.fold)))
        console.print(report(f"{name}, the make left out", cross_fitted(examples[attended], lambda e: e.make)))
        if judged[attended]:
            rows = [(e, e.chosen(found[attended])) for e in judged[attended]]
            console.print(report(f"{name}, lists that nothing was fitted to", rows))
        console.print({k: round(v, 3) for k, v in zip(EVIDENCE, found[attended].tolist(), strict=True)})
    constants = read_fitted(RescorerConstants, args.context / FILE)
    versions = replace(Recognizer.load().models, context=models.rescorer.model_version)
    rounded = {a: tuple(round(v, 4) for v in weights.tolist()) for a, weights in found.items()}
    constants = replace(constants, attended=rounded[True], unattended=rounded[False], models=versions)
    save_fitted(constants, args.context / FILE)


if __name__ == "__main__":
    main()
