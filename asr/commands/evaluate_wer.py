"""Measure word errors with and without context."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from asr.commands.terminal import check_writable, give_up, report, track, warn
from asr.context.checkpoint import ContextModels
from asr.decoding import BEAM
from asr.errors import AsrError
from asr.evaluation.conditions import CONDITIONS, need_context, parse_conditions, signal_conditions
from asr.evaluation.manifest import read_manifests
from asr.evaluation.report import endpoint_line, signal_lines, table, to_json
from asr.evaluation.run import Outcome, evaluate
from asr.evaluation.summary import Summary, summarize
from asr.extras import install_hint
from asr.recognition.recognizer import Recognizer

app = typer.Typer(add_completion=False)


@app.command()
def main(
    manifests: Annotated[
        list[Path],
        typer.Argument(
            metavar="MANIFEST.jsonl...",
            help="Utterances with contexts (docs/files.md); may be gzipped.",
            show_default=False,
        ),
    ],
    conditions: Annotated[str, typer.Option(help="Comma-separated; none is always among them.")] = ",".join(CONDITIONS),
    signals: Annotated[bool, typer.Option("--signals", help="Also each signal alone, and each left out.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything here.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots and sound here.")
    ] = None,
    sets: Annotated[str, typer.Option(help="Comma-separated sets; empty: all.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many utterances of each manifest.")] = None,
    nbest: Annotated[int, typer.Option(min=1, help="Hypotheses that context may choose from; at most the beam.")] = 8,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses that the search keeps.")] = BEAM,
    model: Annotated[Path | None, typer.Option(help="Folder of the acoustic model; none: the shipped one.")] = None,
    ctc_weight: Annotated[
        float | None, typer.Option(min=0, help="What the CTC head counts in final results; none: as fitted.")
    ] = None,
    second_pass: Annotated[
        bool, typer.Option(help="Recognise an ended utterance once more as a whole for its final result.")
    ] = True,
    chunk_ms: Annotated[int, typer.Option(help="Audio that the encoder takes at a time, a multiple of 40.")] = 320,
    seed: Annotated[int, typer.Option(help="Of the other dialogues' contexts and of the intervals.")] = 0,
    any_spelling: Annotated[
        bool, typer.Option("--any-spelling", help="Take British and American spelling of a word for the same.")
    ] = False,
    endpoints: Annotated[
        bool, typer.Option("--endpoints", help="Also endpoint delay and early cuts; recognises everything twice.")
    ] = False,
) -> None:
    """Recognise the utterances of one or more manifests once and rescore them under each condition.

    none: no context. relevant: their own. irrelevant: another dialogue's. anti: their own without what is meant.
    late: context that was not ready. Prints a table, by set and by make; treat --json and --html, which hold texts and
    sound, as you treat the recordings. The exit status is 1 when lines or recordings could not be used.
    """
    try:
        page = _page() if html_file else None
        named = parse_conditions(conditions)
        wanted = [name.strip() for name in sets.split(",") if name.strip()]
        utterances, problems = read_manifests(manifests, wanted, limit)
        failed = sum(report(file, [problem]) for file, problem in problems)
        named += signal_conditions(utterances) if signals else ()
        recognizer = Recognizer.load(
            model, beam=beam, chunk_ms=chunk_ms, ctc_weight=ctc_weight, second_pass=second_pass
        )
        models = ContextModels.load(models=recognizer.models) if need_context(named) else None
        check_writable(json_file, html_file)
    except (AsrError, OSError) as error:
        give_up(error)
    outcomes: list[Outcome] = []
    run = evaluate(utterances, named, recognizer, models, nbest=nbest, seed=seed, endpoints=endpoints)
    for outcome in track(run, len(utterances), "recognising"):
        if isinstance(outcome, Outcome):
            outcomes.append(outcome)
        else:
            warn(f"{outcome.utterance.id}: {outcome.reason}")
            failed += 1
    settings = {
        "manifest": ", ".join(file.name for file in manifests), "model": recognizer.version,
        "context model": models.rescorer.model_version if models else "none",
        "beam": beam, "nbest": nbest, "ctc_weight": recognizer.weights.ctc, "second_pass": second_pass,
        "chunk_ms": chunk_ms, "seed": seed, "any_spelling": any_spelling,
    }  # fmt: skip
    if outcomes:
        summary = _write(outcomes, named, settings, json_file)
        if html_file and page:
            html_file.write_text(page(summary, outcomes, named, settings), encoding="utf-8")
    if failed:
        warn(f"{failed} lines or recordings could not be used")
        raise typer.Exit(1)


def _page() -> Callable[[Summary, Sequence[Outcome], Sequence[str], dict[str, Any]], str]:
    """What writes the page, which alone needs the extra `eval`. Raises AsrError."""
    try:
        from asr.evaluation.html_report import page
    except ModuleNotFoundError as error:
        raise AsrError(f"--html takes the extra `eval` ({error.name} is missing): {install_hint('eval')}") from error
    return page


def _write(
    outcomes: Sequence[Outcome], conditions: Sequence[str], settings: dict[str, Any], json_file: Path | None
) -> Summary:
    summary = summarize(outcomes, conditions, seed=int(settings["seed"]), any_spelling=bool(settings["any_spelling"]))
    Console(width=None if Console().is_terminal else 200, highlight=False).print(table(summary))
    for line in signal_lines(summary.signals):
        print(line)
    if summary.confidence:
        words = summary.confidence.words
        print(f"confidence: expected calibration error {summary.confidence.error:.3f} over {words} words")
    if summary.endpoint:
        print(endpoint_line(summary.endpoint))
    if json_file:
        json_file.write_text(json.dumps(to_json(summary, outcomes, settings)) + "\n", encoding="utf-8")
    problems = [r.problem for outcome in outcomes for r in outcome.results.values() if r.status == "FAILED"]
    if problems:
        times = f"context failed {len(problems)} times, the first time with {problems[0]}"
        warn(f"{times}; those results are the plain ones (status FAILED in the JSON)")
    return summary


if __name__ == "__main__":
    app()
