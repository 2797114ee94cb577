"""Fits what a context's score counts beside the attention decoder's, on dev follow-ups, and keeps it.

    python -m recipes.second_pass.context_weight FOLLOWUPS-DEV-MANIFEST [--sample 60] [--second-pass DIR]

Every recording is heard once and rescored under each condition with each value of `attended` (asr.fitted). The one with
the least mean of the conditions' word error rates, of equal ones the smallest, is written into fitted.json of the
context model with the versions of the models; margins and temperatures stay. --keep: the value stays too, and is
written for these models. To be run whenever the attention decoder or the weights of the scores have changed.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.audio import read_container
from asr.commands.compare_recognizers import read_sets
from asr.commands.terminal import give_up
from asr.context.encoder import WEIGHTS, ContextEncoder
from asr.context.phrases import candidates_of
from asr.context.rescorer import Rescorer
from asr.errors import AsrError
from asr.evaluation.conditions import context_for
from asr.evaluation.run import listen, prepare
from asr.evaluation.wer import align, count
from asr.fitted import FILE, UnfittedWarning, save_fitted
from asr.hypothesis import Hypothesis
from asr.recognizer import Recognizer
from asr.recordings import AudioReader
from asr.second_pass.second_pass import SHIPPED as SHIPPED_SECOND_PASS

CONDITIONS = ("relevant", "irrelevant", "anti")
VALUES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
_NBEST = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--sample", type=int, default=60, help="Recordings.")
    parser.add_argument(
        "--second-pass", type=Path, default=SHIPPED_SECOND_PASS, help="Folder of the attention decoder."
    )
    parser.add_argument("--context", type=Path, default=WEIGHTS, help="Folder of the context model, written to.")
    parser.add_argument("--keep", action="store_true", help="Keep the value that is there.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        utterances, _ = read_sets([args.manifest], None, args.sample, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnfittedWarning)
            recognizer = Recognizer.load(second_pass=args.second_pass)
            encoder, rescorer = ContextEncoder.load(args.context), Rescorer.load(args.context)
        constants = rescorer.constants
        errors = {c: dict.fromkeys(VALUES, 0) for c in CONDITIONS}
        words = sum(count(align(u.reference, "")).words for u in utterances)
        with AudioReader() as audio:
            for index, utterance in enumerate(track([] if args.keep else utterances, console=Console(stderr=True))):
                result = listen(recognizer, *read_container(audio.read(utterance.audio)), _NBEST)
                for condition in CONDITIONS:
                    prepared = prepare(context_for(condition, utterances, index, 0), encoder, recognizer)
                    found = recognizer.with_context(result, prepared.graph, _NBEST)
                    nbest, known = (*found.nbest, *candidates_of(found.biased)), dict[str, Hypothesis]()

                    def scored(texts: Sequence[str], result=result, known=known) -> list[Hypothesis]:  # type: ignore
                        new = [text for text in texts if text not in known]
                        known.update(zip(new, recognizer.force_score(result.encoded, new) if new else [], strict=True))
                        return [known[text] for text in texts]

                    for value in VALUES:
                        rescorer.constants = replace(constants, attended=value)
                        best = rescorer.rescore(nbest, prepared.embedding, scored if result.encoded else None).nbest[0]
                        errors[condition][value] += count(align(utterance.reference, best.text)).total
        chosen = constants.attended if args.keep else min(VALUES, key=lambda v: sum(e[v] for e in errors.values()))
        models = replace(recognizer.models, context=rescorer.model_version)
        save_fitted(replace(constants, attended=chosen, models=models), args.context / FILE)
    except (AsrError, OSError) as error:
        give_up(error)
    if not args.keep:
        table = Table("attended", *CONDITIONS)
        for value in VALUES:
            table.add_row(f"{value:g}", *(f"{100 * errors[c][value] / words:.1f}" for c in CONDITIONS))
        Console().print(table)
    Console(stderr=True).print(f"{chosen:g}: written to {args.context / FILE}")


if __name__ == "__main__":
    main()
