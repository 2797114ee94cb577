"""Synthesise training speech: names, commands, prose."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from asr.commands.terminal import give_up, warn
from asr.errors import AsrError, ModelError
from recipes.progress import Bars
from recipes.synthesis.corpus import synthesize
from recipes.synthesis.kokoro import Kokoro
from recipes.synthesis.voices import Engine, Espeak, Festival, Flite, Piper

app = typer.Typer(add_completion=False)


def choose_engines(names: str, piper_voice: list[Path], kokoro: Path | None) -> list[Engine]:
    """
    Raises:
        ModelError: an engine is unknown or missing.
    """
    known: dict[str, Callable[[], Engine]] = {"espeak": Espeak, "flite": Flite, "festival": Festival}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise ModelError(f"engine {unknown[0]!r} is not known; use {', '.join(known)}, --piper-voice and --kokoro")
    engines: list[Engine] = [known[name]() for name in wanted]
    engines += [Piper(path) for path in piper_voice]
    engines += [Kokoro(kokoro)] if kokoro else []
    if not engines:
        raise ModelError("no engine: name one, or give --piper-voice or --kokoro")
    return engines


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with text/.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for manifest and shards; outside the repository.")],
    count: Annotated[int, typer.Option(help="Utterances.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed says the same.")] = 1,
    engines: Annotated[
        str, typer.Option(help="Comma-separated: espeak, flite, festival; may be empty.")
    ] = "espeak,flite",
    piper_voice: Annotated[list[Path] | None, typer.Option(help="A Piper voice's .onnx; may be repeated.")] = None,
    kokoro: Annotated[Path | None, typer.Option(help="Folder of Kokoro's model and its pack of speakers.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so long, with what there is.")] = math.inf,
) -> None:
    """Writes OUT/synthesis-train.jsonl.gz and OUT/synthesis-train-NN.tar, for `train_acoustic --extra` and
    `prepare_speech --extra`. Names of dev and test are never said. Run it again to go on behind the last whole shard.
    """
    try:
        chosen = choose_engines(engines, piper_voice or [], kokoro)
        with Bars() as bars:
            failed = synthesize(data, out, count, seed, chosen, limit_s=60 * minutes, progress=bars.show)
    except (AsrError, OSError) as error:
        give_up(error)
    for line in failed:
        warn(line)
    print(out / "synthesis-train.jsonl.gz")


if __name__ == "__main__":
    app()
