"""Pack transcribed speech into shards for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.commands.terminal import give_up, warn
from asr.errors import AsrError, ManifestError
from recipes.acoustic.packing import SPLITS, pack
from recipes.acoustic.speech import find_manifests
from recipes.progress import Bars

app = typer.Typer(add_completion=False)
SHOWN = 20


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with speech/ and followups/.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the shards; outside the repository.", show_default=False)],
    extra: Annotated[list[Path] | None, typer.Option(help="More training speech: NAME-train.jsonl.gz.")] = None,
    splits: Annotated[str, typer.Option(help="Comma-separated: what to pack.")] = "train,dev",
    shard_mb: Annotated[float, typer.Option(min=0.1, max=60, help="Largest size of a shard, millions of bytes.")] = 55,
    seed: Annotated[int, typer.Option(help="Of the order in which the utterances go into the shards.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Threads that check and encode recordings.")] = 2,
) -> None:
    """Writes OUT/SPLIT-NN.tar with OUT/SPLIT-NN.jsonl.gz, each a mixture of all corpora and of use without the others.

    Ogg is taken as it is, all else becomes Ogg Opus. Every recording is decoded once; what cannot be is left out and
    listed in OUT/SPLIT-NN.bad.jsonl. Speakers of dev or test are left out of train. Run it again to go on behind the
    last whole shard. Prints the manifests.
    """
    try:
        wanted = [name.strip() for name in splits.split(",") if name.strip()]
        if not wanted or set(wanted) - set(SPLITS):
            raise ManifestError(f"splits are {splits!r}; choose among {', '.join(SPLITS)}")
        manifests = {split: find_manifests(data, split) for split in SPLITS}
        manifests["train"] += extra or []
        with Bars() as bars:
            packed = pack(manifests, wanted, out, most_bytes=int(shard_mb * 1e6), seed=seed, workers=workers,
                          progress=bars.show)  # fmt: skip
    except (AsrError, OSError) as error:
        give_up(error)
    for name, reason in packed.problems[:SHOWN]:
        warn(f"{name}: {reason}")
    if packed.problems:
        warn(f"{len(packed.problems)} recordings were left out")
    warn(f"{packed.utterances} utterances, {packed.seconds / 3600:.2f} h packed now; {packed.shards} shards in all")
    for split in wanted:
        for manifest in sorted(out.glob(f"{split}-*.jsonl.gz")):
            print(manifest)


if __name__ == "__main__":
    app()
