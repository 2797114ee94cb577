"""Fit the weight of the language model and the bonus of a token on dev."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from asr.acoustic.checkpoint import SHIPPED as ACOUSTIC
from asr.commands.terminal import give_up
from asr.decoding import BEAM
from asr.decoding.ngram import SHIPPED, NGram
from asr.errors import AsrError
from asr.evaluation.statistics import Bootstrap
from asr.fitted import FILE, FittedWeights, ModelVersions, read_fitted, save_fitted
from asr.recognition.recognizer import Recognizer
from recipes.language.weights import Fit, Spoken, Trial, encode_dev
from recipes.progress import Bars

app = typer.Typer(add_completion=False)


def report(trials: list[Trial], spoken: list[Spoken]) -> Table:
    """WER in percent of each trial and corpus, with 95% bootstrap intervals by utterance."""
    corpora = sorted({s.corpus for s in spoken})
    table = Table("weight", "bonus", *(f"{c} ({sum(s.corpus == c for s in spoken)})" for c in corpora), "mean")
    for trial in trials:
        cells = []
        for corpus in corpora:
            rows = [i for i, s in enumerate(spoken) if s.corpus == corpus]
            words = [len(spoken[i].text.split()) for i in rows]
            wer = Bootstrap([spoken[i].id for i in rows]).ratio([trial.errors[i] for i in rows], words)
            cells.append(f"{100 * wer.value:.1f} ({100 * wer.low:.1f} to {100 * wer.high:.1f})")
        table.add_row(f"{trial.weight:.2f}", f"{trial.bonus:.1f}", *cells, f"{100 * trial.mean:.2f}")
    return table


def keep(file: Path, models: ModelVersions, weight: float, token_bonus: float) -> None:
    """Writes the values, with the other weights of the file where these are of the same models."""
    known = read_fitted(FittedWeights, file) if file.exists() else FittedWeights()
    if known.models is None or not known.models.covers(models):
        known = FittedWeights(models=models)
    save_fitted(replace(known, language=weight, token_bonus=token_bonus), file)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with speech/ and followups/.", show_default=False)],
    model: Annotated[Path | None, typer.Option(help="Folder of the acoustic model; none: the shipped one.")] = None,
    language: Annotated[Path, typer.Option(help="Folder of the language model.")] = SHIPPED,
    seconds: Annotated[float, typer.Option(min=1, help="Of audio of each dev corpus.")] = 90.0,
    rounds: Annotated[int, typer.Option(min=1, help="Searches at most, besides the one without the model.")] = 4,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses that the search keeps.")] = BEAM,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Search dev a few times and keep the values with the fewest word errors, each corpus counted alike.

    Writes them into fitted.json of the MODEL, from where the recogniser takes them, and prints WER by corpus for all
    values tried. What else stands there for these models is kept; fit it anew afterwards.
    """
    torch.set_num_threads(threads)
    try:
        recognizer = Recognizer.load(model, beam=1, language_weight=0.0)
        ngram = NGram.load(language, recognizer.tokenizer)
        with Bars() as bars:
            spoken = encode_dev(recognizer, data, seconds, bars.show)
            fit = Fit(recognizer, ngram, spoken, beam, bars.show)
            best = fit.run(rounds)
        file = (model or ACOUSTIC) / FILE
        keep(file, ModelVersions(recognizer.version, ngram.version), best.weight, best.bonus)
    except (AsrError, OSError) as error:
        give_up(error)
    Console(width=None if Console().is_terminal else 200, highlight=False).print(report(fit.trials, spoken))
    print(f"weight {best.weight}, token_bonus {best.bonus}: written to {file}")


if __name__ == "__main__":
    app()
