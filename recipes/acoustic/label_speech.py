"""Label recordings without a text by what two other recognisers agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.commands.terminal import console, give_up, warn
from asr.errors import AsrError, ModelError
from benchmarks.peers import recognizers as peers
from benchmarks.peers.compare_recognizers import load_recognizers
from benchmarks.peers.recognizers import Transcribe
from recipes.acoustic.labels import label
from recipes.progress import Bars

app = typer.Typer(add_completion=False)
LOADERS = {"whisper": peers.whisper, "moonshine": peers.moonshine, "pocketsphinx": peers.pocketsphinx}


def load_two(names: str) -> dict[str, Transcribe]:
    """
    Raises:
        ModelError: they are not two, or one is unknown or not installed.
    """
    wanted = {name.strip() for name in names.split(",")}
    if len(wanted) != 2 or wanted - set(LOADERS):
        raise ModelError(f"{names!r} are not two of {', '.join(LOADERS)}")
    return load_recognizers(LOADERS, names, contexts=False)


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST.jsonl", help="May be gzipped; texts are not read.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifest; outside the repository.", show_default=False)],
    recognizers: Annotated[str, typer.Option(help="Two of them; the first one's texts are taken.")] = (
        "whisper,moonshine"
    ),
    most_apart: Annotated[
        float, typer.Option(min=0, max=1, help="Largest difference that is kept, in errors per word.")
    ] = 0.1,
) -> None:
    """Writes OUT/labelled-train.jsonl.gz, for `train_acoustic --extra` and `prepare_speech --extra`. Run it again to
    go on where it stopped, or with another --most-apart.
    """
    try:
        with Bars() as bars:
            kept, heard, problems = label(manifest, out, load_two(recognizers), most_apart, bars.show)
    except (AsrError, OSError) as error:
        give_up(error)
    for name, reason in problems:
        warn(f"{name}: {reason}")
    hours = sum(line.get("duration_s", 0.0) for line in kept) / 3600
    console.print(f"{len(kept)} of {heard} recordings, {hours:.2f} h, {sum(line['apart'] == 0 for line in kept)} alike")
    print(out / "labelled-train.jsonl.gz")


if __name__ == "__main__":
    app()
