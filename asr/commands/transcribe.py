"""Transcribe a list of audio files with the server's streaming recogniser."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from asr.audio import read_container
from asr.commands.terminal import check_writable, console, give_up, report, track, warn
from asr.context.spelling import phrase_spelling
from asr.decoding import BEAM, BoostedPhrase
from asr.errors import AsrError, AudioError, ManifestError
from asr.evaluation.jsonl import Problem, read_lines, text_output
from asr.evaluation.manifest import reference_of, required_text
from asr.evaluation.recordings import AudioReader, parse_audio
from asr.evaluation.wer import Errors, align, count
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Hypothesis, Result
from asr.recognition.written_form import written_nbest
from asr.text import spoken_forms

app = typer.Typer(add_completion=False)


def transcribe(
    recognizer: Recognizer,
    value: dict[str, Any],
    folder: Path,
    files: AudioReader,
    nbest: int,
    phrases_field: str | None,
    written: bool = False,
) -> dict[str, Any]:
    """One line of the output for one line `{id, path, ...}` of the list, or of a manifest.

    written: its texts are in written form.

    Raises:
        ManifestError, AudioError: what is wrong with the line or its file.
    """
    name = required_text(value, "id")
    samples, rate = read_container(files.read(parse_audio(value, folder)))
    phrases = _phrases(value, phrases_field) if phrases_field else ()
    started = time.perf_counter()
    result = recognizer.recognize(samples, rate, nbest, recognizer.compile(phrases) if phrases else None)
    found = _in_written_form(result, phrases) if written else result.nbest
    seconds = time.perf_counter() - started
    return {
        "id": name,
        "hyp": found[0].text,
        "nbest": [{"text": h.text, "score": round(h.score, 4)} for h in found],
        "seconds_audio": round(len(samples) / rate, 3),
        "seconds_wall": round(seconds, 4),
    }


def _in_written_form(result: Result, phrases: Sequence[BoostedPhrase]) -> tuple[Hypothesis, ...]:
    """The n-best, phrases spelled as they are listed."""
    spelling = phrase_spelling({form: phrase for phrase in reversed(phrases) for form in spoken_forms(phrase.text)})
    attended = result.encoded.attention if result.encoded else None
    return written_nbest(result.nbest, attended, spelling)


def _phrases(value: dict[str, Any], field: str) -> tuple[BoostedPhrase, ...]:
    """The phrases of a line; those that cannot be spelled are not searched for."""
    listed = value.get(field, [])
    if not isinstance(listed, list) or not all(isinstance(phrase, str) for phrase in listed):
        raise ManifestError(f"{field} must be a list of strings")
    return tuple(BoostedPhrase(text) for text in dict.fromkeys(listed))


@app.command()
def main(
    list_file: Annotated[
        Path,
        typer.Argument(
            metavar="LIST.jsonl",
            help="Lines {id, path, text?} (docs/files.md); gzipped or not; -: stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Where the lines go; gzipped if named so; -: stdout.", show_default=False),
    ],
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses that the search keeps.")] = BEAM,
    nbest: Annotated[int, typer.Option(min=1, help="Hypotheses to write; at most the beam.")] = 8,
    phrases_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="A field of the list's lines with phrases to expect.")
    ] = None,
    written: Annotated[
        bool, typer.Option("--written", help="Write texts cased and punctuated, with numbers as digits.")
    ] = False,
    any_spelling: Annotated[
        bool, typer.Option("--any-spelling", help="Take British and American spelling of a word for the same.")
    ] = False,
) -> None:
    """Transcribe the audio files of LIST.jsonl, or of a manifest; paths are relative to the list's folder.

    Writes lines {id, hyp, nbest: [{text, score}], seconds_audio, seconds_wall}. Files that cannot be read are reported,
    the rest is done, and the exit status is then 1. Where the list gives texts, the WER is printed at the end.
    """
    try:
        lines = list(read_lines(list_file))
        check_writable(out)
        recognizer = Recognizer.load(beam=beam)
        opened = text_output(out)
    except (AsrError, OSError) as error:
        give_up(error)
    errors, compared, failed, audio_s, wall_s = Errors(), False, 0, 0.0, 0.0
    with opened as output, AudioReader() as files:
        for number, value in track(lines, len(lines), "transcribing"):
            if isinstance(value, Problem):
                failed += report(list_file, [value])
                continue
            try:
                row = transcribe(recognizer, value, list_file.parent, files, nbest, phrases_field, written)
            except (AudioError, ManifestError) as error:
                failed += report(list_file, [Problem(number, str(error))])
                continue
            output.write(json.dumps(row) + "\n")
            output.flush()
            audio_s, wall_s = audio_s + row["seconds_audio"], wall_s + row["seconds_wall"]
            reference = reference_of(value)
            if reference is not None:
                errors, compared = errors + count(align(reference, row["hyp"], any_spelling=any_spelling)), True
    if compared:
        rate = f"{100 * errors.rate:.2f}%" if errors.words else "undefined"
        console.print(f"WER {rate} ({errors.total} errors in {errors.words} words: {_kinds(errors)})")
    if audio_s:
        console.print(f"{audio_s:.1f} s of audio in {wall_s:.1f} s: real-time factor {wall_s / audio_s:.3f}")
    if failed:
        warn(f"{failed} of {len(lines)} lines could not be transcribed")
        raise typer.Exit(1)


def _kinds(errors: Errors) -> str:
    return f"{errors.substitutions} substitutions, {errors.insertions} insertions, {errors.deletions} deletions"


if __name__ == "__main__":
    app()
