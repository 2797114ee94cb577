"""Fits the weights of the scores that a final result is ranked by to a set of models, on dev, and keeps them.

    python -m recipes.second_pass.weights DEV-MANIFEST... [--sample 40] [--model DIR] [--second-pass DIR] [--lists FILE]

Every recording is heard once. Its texts, the transducer's and the attention decoder's together, are then ranked by

    transducer + ctc × CTC head + language × n-gram + token_bonus × tokens
        + attention × attention decoder + word_bonus × words

with every ctc, attention and word_bonus of a grid. Those with the least mean of the sets' word error rates are written
into fitted.json with the versions of the models, if they are better than the weights at the start where each half of
the recordings is ranked by weights fitted to the other half; else those of the start are. language and token_bonus
count in the search: `scripts/fit_language` fits them, before. Confidences are fitted after
(`scripts/calibrate_confidence`).
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from asr.acoustic.checkpoint import SHIPPED
from asr.commands.terminal import give_up
from asr.errors import AsrError
from asr.fitted import FILE, FittedWeights, UnfittedWarning, save_fitted
from asr.recognition.recognizer import Recognizer
from asr.second_pass.attention_decoder import SHIPPED as SHIPPED_SECOND_PASS
from benchmarks.peers.compare_recognizers import read_sets
from recipes.second_pass.fit import DevLists, Fit, Rates, fit
from recipes.second_pass.lists import text_lists


def place(model: Path, second_pass: Path) -> Path:
    """Where the recogniser looks for them: beside the acoustic model, but beside the attention decoder where that alone
    is not the shipped one."""
    return (second_pass if model == SHIPPED and second_pass != SHIPPED_SECOND_PASS else model) / FILE


def table(found: Fit, start: FittedWeights, given: Rates | None, chosen: FittedWeights, least: Rates) -> Table:
    out = Table("", "ctc", "attention", "word bonus", *found.before.of, "mean")

    def row(name: str, weights: FittedWeights | None, rates: Rates) -> None:
        values = [f"{v:g}" for v in (weights.ctc, weights.attention, weights.word_bonus)] if weights else ["", "", ""]
        out.add_row(name, *values, *(f"{rate:.1f}" for rate in rates.of.values()), f"{rates.mean:.2f}")

    row("at the start", start, found.before)
    row("fitted", found.weights, found.after)
    row("fitted to the other half", None, found.held_out)
    if given:
        row("given", chosen, given)
    row("any ranking", None, least)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="DEV-MANIFEST")
    parser.add_argument("--sample", type=int, default=40, help="Recordings of each manifest.")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="Folder of the acoustic model.")
    parser.add_argument(
        "--second-pass", type=Path, default=SHIPPED_SECOND_PASS, help="Folder of the attention decoder."
    )
    parser.add_argument("--lists", type=Path, help="Keep what was heard here: it goes on where it stopped.")
    parser.add_argument("--out", type=Path, help=f"The file to write; none: {FILE} beside the models.")
    parser.add_argument(
        "--weights", type=float, nargs=3, metavar=("CTC", "ATTENTION", "WORD_BONUS"), help="Keep these instead."
    )
    parser.add_argument("--dry-run", action="store_true", help="Print alone.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        utterances, _ = read_sets(args.manifests, None, args.sample, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnfittedWarning)
            recognizer = Recognizer.load(args.model, second_pass=args.second_pass)
        lists = DevLists(text_lists(recognizer, utterances, args.lists))
        found = fit(lists, recognizer.weights)
        chosen, given = found.weights if found.better else recognizer.weights, None
        if args.weights:
            ctc, attention, word_bonus = args.weights
            chosen = replace(recognizer.weights, ctc=ctc, attention=attention, word_bonus=word_bonus)
            given = lists.named(lists.errors([chosen])[:, 0])
        out = args.out or place(args.model, args.second_pass)
        if not args.dry_run:
            save_fitted(replace(chosen, models=recognizer.models), out)
    except (AsrError, OSError) as error:
        give_up(error)
    Console(width=None if Console().is_terminal else 160).print(
        table(found, recognizer.weights, given, chosen, lists.least())
    )
    kept = "the fitted weights" if found.better else "the weights at the start: the fitted ones are no better held out"
    kept = "the given weights" if given else kept
    Console(stderr=True).print(kept if args.dry_run else f"{kept}; written to {out}")


if __name__ == "__main__":
    main()
