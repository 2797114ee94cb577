"""Fit what the words' confidences mean, on dev."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from asr.acoustic.checkpoint import SHIPPED
from asr.audio import read_container
from asr.commands.terminal import give_up, track, warn
from asr.decoding import BEAM
from asr.errors import AsrError, AudioError, ManifestError, ModelError
from asr.evaluation.manifest import Utterance
from asr.evaluation.recordings import AudioReader
from asr.evaluation.reliability import reliability, words_right
from asr.evaluation.run import recognise
from asr.recognition.calibration import FILE, Evidence, fit_calibration
from asr.recognition.recognizer import Recognizer
from benchmarks.peers.compare_recognizers import read_sets

app = typer.Typer(add_completion=False)
FOLDS = 5


@dataclass(frozen=True)
class Spoken:
    """A word that was heard. utterance: the place of its recording; raw: its confidence without a calibration."""

    set: str
    utterance: int
    raw: float
    evidence: Evidence
    right: bool


def spoken_words(recognizer: Recognizer, utterances: Sequence[Utterance]) -> Iterator[list[Spoken] | str]:
    """For each utterance the words of its 1-best, or why there are none."""
    with AudioReader() as audio:
        for place, utterance in enumerate(utterances):
            try:
                samples, rate = read_container(audio.read(utterance.audio))
                best = recognise(recognizer, samples, rate, 1).nbest[0]
            except (AudioError, ManifestError) as error:
                yield f"{utterance.id}: {error}"
                continue
            right = words_right(utterance.reference, best.text)
            yield [
                Spoken(utterance.set, place, word.confidence, word.evidence, said)
                for word, said in zip(best.words, right, strict=True)
                if word.evidence is not None
            ]


def held_out(words: Sequence[Spoken]) -> list[float]:
    """Each word's confidence by a calibration fitted to the other folds' utterances.

    Raises:
        ModelError: the words of the other folds are all right, or all wrong.
    """
    folds = [word.utterance % FOLDS for word in words]
    fitted = {}
    for fold in set(folds):
        others = [w for w, f in zip(words, folds, strict=True) if f != fold]
        fitted[fold] = fit_calibration([w.evidence for w in others], [w.right for w in others], [w.set for w in others])
    return [fitted[fold].confidence(word.evidence) for word, fold in zip(words, folds, strict=True)]


def table(words: Sequence[Spoken], confidences: Sequence[float]) -> Table:
    """Expected calibration error of each set, without and with calibration."""
    out = Table("set", "words", "right", "error before", "after", caption="expected calibration error; after: 5 folds")
    for name in sorted({w.set for w in words}):
        some = [i for i, w in enumerate(words) if w.set == name]
        right = [words[i].right for i in some]
        curves = [reliability([x[i] for i in some], right) for x in ([w.raw for w in words], confidences)]
        errors = [f"{curve.error:.3f}" for curve in curves if curve]
        out.add_row(name, str(len(some)), f"{sum(right) / len(right):.3f}", *errors)
    return out


@app.command()
def main(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST.jsonl...", help="Recordings of dev.", show_default=False)
    ],
    model: Annotated[Path, typer.Option(help="Folder of the acoustic model, which is written to.")] = SHIPPED,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many utterances of each file, drawn by --seed; none: all.")
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses that the search keeps.")] = BEAM,
    seed: Annotated[int, typer.Option(help="Of --sample.")] = 0,
    attention: Annotated[
        Path | None,
        typer.Option(help="Folder of an attention decoder: for results that it has heard too; written there."),
    ] = None,
) -> None:
    """Listens to dev, fits the probability that a word is right, and writes it into confidence.json of the MODEL or of
    the ATTENTION decoder.

    Each file counts alike. Prints the calibration error of each before and after, where every word's confidence comes
    from a fit to other utterances. Only words' confidences change: the utterance's is the transducer's own.
    """
    torch.set_num_threads(1)
    words: list[Spoken] = []
    try:
        utterances, failed = read_sets(manifests, None, sample, seed)
        loaded = Recognizer.load(None if model == SHIPPED else model, beam=beam, second_pass=attention or True)
        recognizer = Recognizer(  # without calibrations, and without an attention decoder that was not asked for
            loaded.model, loaded.tokenizer, beam=beam, version=loaded.version, language=loaded.language,
            weights=loaded.weights, attention=loaded.attention if attention else None,
        )  # fmt: skip
        if recognizer.language is None:
            raise ModelError("calibration needs a language model for the acoustic model's tokens, and there is none")
        for heard in track(spoken_words(recognizer, utterances), len(utterances), "listening"):
            if isinstance(heard, str):
                warn(heard)
                failed += 1
            else:
                words += heard
        shown = table(words, held_out(words))
        heard_by = recognizer.attention.version if recognizer.attention else ""
        fitted = fit_calibration(
            [w.evidence for w in words], [w.right for w in words], [w.set for w in words],
            recognizer.version, recognizer.language.version, heard_by,
        )  # fmt: skip
        fitted.save(attention or model)
    except (AsrError, OSError) as error:
        give_up(error)
    Console(width=None if Console().is_terminal else 120, highlight=False).print(shown)
    print(f"{len(words)} words: written to {(attention or model) / FILE}")
    if failed:
        warn(f"{failed} lines or recordings could not be used")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
