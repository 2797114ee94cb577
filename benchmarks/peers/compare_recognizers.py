"""Compare with other recognisers on the same recordings."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from asr.audio import SAMPLE_RATE, Samples
from asr.commands.terminal import check_writable, give_up, report, track, warn
from asr.context.checkpoint import ContextModels
from asr.context.types import Context
from asr.decoding import BEAM
from asr.errors import AsrError, ManifestError, ModelError
from asr.evaluation.manifest import Utterance, read_manifest
from asr.evaluation.run import prepare, recognise_timed, rescore
from asr.extras import install_hint
from asr.recognition.recognizer import Recognizer
from benchmarks.peers import recognizers as peers
from benchmarks.peers.compare import Transcribed, page, scores, sizes_of, table, to_json, transcribe_all
from benchmarks.peers.recognizers import Answer, Transcribe

app = typer.Typer(add_completion=False)
OURS = "carryover"
NAMES = (OURS, "carryover-context", "pocketsphinx", "whisper", "whisper-hotwords", "moonshine", "vosk", "sherpa")
WITH_CONTEXT = ("carryover-context", "whisper-hotwords")
"""Those that read the utterances' contexts."""
_NBEST = 8


def carryover(model: Path | None, beam: int, *, with_context: bool = False) -> Transcribe:
    """Our recogniser, streamed in chunks of 100 ms; with_context: then each utterance's own context.

    A context is encoded and its phrases compiled before the answer begins, as the server does while the assistant
    speaks; exact scores and rescoring come after the last sample.
    """
    recognizer = Recognizer.load(model, beam=beam)
    models = ContextModels.load(models=recognizer.models) if with_context else None

    def transcribe(samples: Samples, context: Context) -> Answer:
        if models is None or not context:
            result, after = recognise_timed(recognizer, samples, SAMPLE_RATE, _NBEST)
            return Answer(result.nbest[0].text, after)
        bundle = prepare(context, models, recognizer)
        result, after = recognise_timed(recognizer, samples, SAMPLE_RATE, _NBEST, bundle.graph)
        ended = time.process_time()
        rescored = rescore(result, bundle, models.rescorer, recognizer)
        return Answer(rescored.nbest[0].text, after + time.process_time() - ended)

    return transcribe


def load_recognizers(loaders: dict[str, Callable[[], Transcribe]], names: str, contexts: bool) -> dict[str, Transcribe]:
    """The recognisers named, or, where none is, ours and every other that is installed.

    contexts: whether there are any; where not, those that read them run only if they are named.

    Raises:
        ModelError: one that was named is unknown, not installed, has no model, or does not work here.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := set(wanted) - set(loaders):
        raise ModelError(f"recogniser {unknown.pop()!r} is not known; use {', '.join(loaders)}")
    found = {}
    for name in wanted or [n for n in loaders if contexts or n not in WITH_CONTEXT]:
        try:
            found[name] = _tried(loaders[name]())
        except Exception as error:  # other people's packages raise anything, and a newer one may have another interface
            if name.startswith(OURS) and not isinstance(error, AsrError):
                raise
            missing = _why_not(error)
            if wanted or name.startswith(OURS):
                raise ModelError(f"{name}: {missing}") from error
            warn(f"{name} left out: {missing}")
    return found


def _tried(transcribe: Transcribe) -> Transcribe:
    """The recogniser, once it has taken a second of faint noise: what does not work shows before the recordings."""
    transcribe((0.001 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)).astype(np.float32), Context())
    return transcribe


def _why_not(error: Exception) -> str:
    """Why a recogniser cannot run, and what to do, on one line."""
    if isinstance(error, AsrError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: {install_hint('peers')}"
    return f"what is installed does not run here ({peers.what_failed(error)}); try another version of its package"


def read_sets(
    manifests: list[Path], limit: int | None, sample: int | None = None, seed: int = 0
) -> tuple[list[Utterance], int]:
    """The utterances of all manifests, each file a set of its name, and how many lines could not be used.

    limit: the first so many of each file. sample: so many of these, drawn by `seed`, in the file's order.

    Raises:
        ManifestError: a manifest holds nothing usable, or two hold the same id.
    """
    utterances: list[Utterance] = []
    failed = 0
    for manifest in manifests:
        some, problems = read_manifest(manifest, limit=limit)
        failed += report(manifest, problems)
        if sample is not None and sample < len(some):
            some = [some[i] for i in sorted(random.Random(seed).sample(range(len(some)), sample))]
        utterances += [replace(utterance, set=manifest.name.split(".")[0]) for utterance in some]
    if len({u.id for u in utterances}) < len(utterances):
        raise ManifestError("two manifests hold an utterance of the same id; compare them one at a time")
    return utterances, failed


def _makers(
    model: Path | None, beam: int, whisper_model: Path | None, vosk_model: Path | None, sherpa_model: Path | None
) -> dict[str, Callable[[], Transcribe]]:
    """What loads each recogniser, by its name."""
    makers: tuple[Callable[[], Transcribe], ...] = (
        partial(carryover, model, beam),
        partial(carryover, model, beam, with_context=True),
        peers.pocketsphinx,
        partial(peers.whisper, whisper_model),
        partial(peers.whisper, whisper_model, hotwords=True),
        peers.moonshine,
        partial(peers.vosk, vosk_model),
        partial(peers.sherpa, sherpa_model),
    )
    return dict(zip(NAMES, makers, strict=True))


@app.command()
def main(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST.jsonl...", help="Utterances; may be gzipped.", show_default=False)
    ],
    recognizers: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(NAMES)}; empty: all that are there.")
    ] = "",
    model: Annotated[Path | None, typer.Option(help="Our model's folder, instead of the shipped one.")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses that our search keeps.")] = BEAM,
    whisper_model: Annotated[Path | None, typer.Option(help="CTranslate2 folder; default: the packaged one.")] = None,
    vosk_model: Annotated[Path | None, typer.Option(help="Folder of an unpacked Vosk model.")] = None,
    sherpa_model: Annotated[
        Path | None, typer.Option(help="Folder of an unpacked streaming transducer of sherpa-onnx.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many utterances of each file.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many utterances of each file, drawn by --seed: more speakers.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything here.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals and of --sample.")] = 0,
    any_spelling: Annotated[
        bool, typer.Option("--any-spelling", help="Take British and American spelling of a word for the same.")
    ] = False,
) -> None:
    """Runs every recogniser over the same recordings, one thread each, and prints their word error rates.

    Ours listens as the server does (streaming, endpointing off); the others get the whole recording. Where utterances
    have contexts, carryover-context reads them, and whisper-hotwords has their entries as a hint. Figures,
    abbreviations and capitals count in the spoken form with the fewest errors.
    """
    torch.set_num_threads(1)
    try:
        utterances, failed = read_sets(manifests, limit, sample, seed)
        contexts = any(u.context for u in utterances)
        loaded = load_recognizers(_makers(model, beam, whisper_model, vosk_model, sherpa_model), recognizers, contexts)
        check_writable(json_file, html_file)
    except (AsrError, OSError) as error:
        give_up(error)
    found: list[Transcribed] = []
    for outcome in track(transcribe_all(utterances, loaded), len(utterances), "comparing"):
        if isinstance(outcome, Transcribed):
            found.append(outcome)
        else:
            warn(f"{outcome.utterance.id}: {outcome.reason}")
            failed += 1
    if found:
        names = " ".join(m.name for m in manifests)
        settings = {
            "manifests": names, "beam": beam, "limit": limit, "sample": sample, "seed": seed,
            "any_spelling": any_spelling,
        }  # fmt: skip
        by_set = scores(found, seed=seed, any_spelling=any_spelling)
        shown = table(by_set, sizes_of(found, by_set))
        Console(width=None if Console().is_terminal else 160, highlight=False).print(shown)
        if json_file:
            json_file.write_text(json.dumps(to_json(found, by_set, settings)) + "\n", encoding="utf-8")
        if html_file:
            html_file.write_text(page(found, by_set, settings), encoding="utf-8")
    if failed:
        warn(f"{failed} lines or recordings could not be used")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
