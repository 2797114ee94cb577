"""Re-order the n-best lists of any recogniser with the dialogues' contexts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from asr.commands.terminal import check_writable, console, give_up, report, track, warn
from asr.context.checkpoint import ContextModels
from asr.context.entity_linking import meant
from asr.context.phrase_index import PhraseIndex
from asr.errors import AsrError, ContextError, ManifestError
from asr.evaluation.jsonl import Problem, read_lines, text_output
from asr.evaluation.manifest import parse_context, reference_of
from asr.evaluation.wer import Errors, align, count
from asr.recognition.results import Hypothesis

app = typer.Typer(add_completion=False)
_NBEST = 'nbest must be a list of {text, score?}, best first, as in {"nbest": [{"text": "bower", "score": -1.2}]}'


def rescore(value: dict[str, Any], models: ContextModels) -> dict[str, Any]:
    """The line with its `nbest` re-ordered, `changed` and, where it has a context, `meant`.

    `meant` are the entries that the first hypothesis names; every other field, also of the hypotheses, stays as it was.

    A hypothesis that the list did not have, a phrase of the context that sounds like the others, is marked
    `from_context`.

    Raises:
        ManifestError: a field of the line is wrong. ContextError: the context cannot be used.
    """
    entries = value.get("nbest")
    if not isinstance(entries, list) or not all(isinstance(r, dict) for r in entries):
        raise ManifestError(_NBEST)
    if not all(isinstance(r.get("text"), str) for r in entries):
        raise ManifestError(_NBEST)
    context = parse_context(value)
    if not entries or not context:
        return {**value, "changed": False}
    scores = _scores(entries)
    nbest = tuple(Hypothesis(text=r["text"], acoustic=s) for r, s in zip(entries, scores, strict=True))
    embedding = models.encoder.encode(context)
    index = PhraseIndex(embedding.phrases)
    rescored = models.rescorer.rescore(nbest, embedding, None, index)
    left = list(entries)
    out = []
    for hypothesis in rescored.nbest:
        own = next((r for r in left if not hypothesis.from_context and r["text"] == hypothesis.text), None)
        if own is not None:
            left.remove(own)
        out.append(own or {"text": hypothesis.text, "from_context": True})
    named = [asdict(m) for m in meant(rescored.nbest[0].text, embedding, index)]
    return {**value, "nbest": out, "changed": rescored.changed, "meant": named}


def _scores(entries: list[dict[str, Any]]) -> list[float]:
    """The scores where every hypothesis has one, else all equal: then the rank counts."""
    scores = [r.get("score") for r in entries]
    if any(s is None for s in scores):
        return [0.0] * len(entries)
    if not all(isinstance(s, int | float) and math.isfinite(s) for s in scores):
        raise ManifestError("score of a hypothesis must be a finite number, higher is better")
    return [float(s) for s in scores]  # type: ignore[arg-type]


@app.command()
def main(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN.jsonl",
            help="Lines {id, context: [{speaker, text}], entities: [{type, text}], nbest: [{text, score?}], "
            "reference?} (docs/files.md); gzipped or not; -: stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.jsonl",
            help="The same lines, re-ordered, with `changed` and `meant`; -: stdout.",
            show_default=False,
        ),
    ],
    any_spelling: Annotated[
        bool, typer.Option("--any-spelling", help="Take British and American spelling of a word for the same.")
    ] = False,
) -> None:
    """Re-order n-best lists of any recogniser with what was said before and what the services know.

    Hypotheses come best first; scores may have any scale (higher is better) or be left out. Lines that cannot be used
    are reported, the rest is done, and the exit status is then 1. Where lines have a reference, the WER before and
    after is printed at the end.
    """
    try:
        lines = list(read_lines(source))
        check_writable(out)
        models = ContextModels.load()
        opened = text_output(out)
    except (AsrError, OSError) as error:
        give_up(error)
    before, after, failed, changed = Errors(), Errors(), 0, 0
    with opened as output:
        for number, value in track(lines, len(lines), "rescoring"):
            if isinstance(value, Problem):
                failed += report(source, [value])
                continue
            try:
                row = rescore(value, models)
            except (ContextError, ManifestError) as error:
                failed += report(source, [Problem(number, str(error))])
                continue
            output.write(json.dumps(row) + "\n")
            changed += row["changed"]
            reference = reference_of(value)
            if reference is not None and value["nbest"]:
                first, last = value["nbest"][0]["text"], row["nbest"][0]["text"]
                before += count(align(reference, first, any_spelling=any_spelling))
                after += count(align(reference, last, any_spelling=any_spelling))
    console.print(f"{changed} of {len(lines) - failed} changed")
    if before.words:
        console.print(f"WER {100 * before.rate:.2f}% before, {100 * after.rate:.2f}% after ({before.words} words)")
    if failed:
        warn(f"{failed} of {len(lines)} lines could not be used")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
