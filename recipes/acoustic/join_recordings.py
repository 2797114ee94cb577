"""Join a speaker's recordings into long ones: does a long stream stay as accurate?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer

from asr.audio import SAMPLE_RATE, Samples, read_at_16k
from asr.commands.terminal import give_up, report, track, warn
from asr.errors import AsrError, AudioError, ManifestError
from asr.evaluation.jsonl import Problem, read_lines, write_objects
from asr.evaluation.recordings import AudioReader, parse_audio

app = typer.Typer(add_completion=False)
Line = dict[str, Any]


def joined(lines: Iterable[Line], seconds: float) -> Iterator[list[Line]]:
    """Each speaker's lines in order, as many together as last `seconds` or a little longer; what is left is dropped."""
    waiting: dict[str, list[Line]] = {}
    for line in lines:
        together = waiting.setdefault(str(line["speaker"]), [])
        together.append(line)
        if sum(float(one["duration_s"]) for one in together) >= seconds:
            yield waiting.pop(str(line["speaker"]))


def recording(lines: Iterable[Line], folder: Path, audio: AudioReader) -> Samples:
    """(n,) the lines' recordings at 16 kHz, one after the other.

    Raises:
        AudioError, ManifestError: one cannot be read.
    """
    return np.concatenate([read_at_16k(audio.read(parse_audio(line, folder))) for line in lines])


def usable(line: Line) -> str | None:
    """What a line lacks, if anything."""
    names = ("id", "text", "speaker")
    if any(not isinstance(line.get(name), str) or not line[name] for name in names):
        return f"{', '.join(names)} must be strings with something in them"
    return None if isinstance(line.get("duration_s"), int | float) else "duration_s is no number"


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.jsonl", help="Recordings.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for what is made.", show_default=False)],
    seconds: Annotated[float, typer.Option(min=1, help="Length of a joined recording, at least.")] = 75.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Joined recordings at most.")] = None,
) -> None:
    """Writes OUT/joined.jsonl with a FLAC file a line, and OUT/pieces.jsonl with the same recordings one by one.

    `evaluate_wer --conditions none` on both compares them: a line's `dialogue` is the joined recording that it is in,
    so their intervals are drawn alike.
    """
    try:
        lines: list[Line] = []
        problems: list[Problem] = []
        for number, value in read_lines(manifest):
            lacks = None if isinstance(value, Problem) else usable(value)
            if isinstance(value, Problem) or lacks:
                problems.append(value if isinstance(value, Problem) else Problem(number, str(lacks)))
            else:
                lines.append(value)
        failed = report(manifest, problems)
        groups = list(joined(lines, seconds))[:limit]
        if not groups:
            raise ManifestError(f"{manifest}: no speaker has {seconds:g} s of recordings; give fewer --seconds")
        out.mkdir(parents=True, exist_ok=True)
        whole, pieces = [], []
        with AudioReader() as audio:
            for number, group in enumerate(track(groups, len(groups), "joining")):
                name = f"joined-{number:03d}"
                try:
                    samples = recording(group, manifest.parent, audio)
                except (AudioError, ManifestError) as error:
                    warn(f"{name} left out: {error}")
                    failed += 1
                    continue
                soundfile.write(out / f"{name}.flac", samples, SAMPLE_RATE)
                text, length = " ".join(line["text"] for line in group), round(len(samples) / SAMPLE_RATE, 3)
                about = {"speaker": group[0]["speaker"], "dialogue": name}
                whole.append(
                    {"id": name, "audio": {"path": f"{name}.flac"}, "text": text, "duration_s": length, **about}
                )
                pieces += [_piece(line, manifest.parent, name) for line in group]
        write_objects(out / "joined.jsonl", whole)
        write_objects(out / "pieces.jsonl", pieces)
    except (AsrError, OSError) as error:
        give_up(error)
    print(f"{len(whole)} recordings of {sum(w['duration_s'] for w in whole):.0f} s: {out / 'joined.jsonl'}")
    if failed:
        raise typer.Exit(1)


def _piece(line: Line, folder: Path, name: str) -> Line:
    """The line as it is read from elsewhere: the audio with its whole path."""
    place = parse_audio(line, folder)
    where = str(place.path.resolve())
    audio = {"path": where} if place.member is None else {"shard": where, "member": place.member}
    kept = {key: line[key] for key in ("id", "text", "speaker", "duration_s")}
    return {**kept, "audio": audio, "dialogue": name}


if __name__ == "__main__":
    app()
