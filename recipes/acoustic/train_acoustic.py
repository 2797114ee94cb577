"""Train the acoustic model on folders of transcribed speech; goes on where it stopped."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from asr.commands.terminal import console, give_up
from asr.errors import ModelError
from asr.evaluation.jsonl import read_objects
from asr.pairing import load_torchaudio
from asr.text import normalize
from asr.text.tokenizer import Tokenizer
from recipes.acoustic.speech import SpeechCache, find_manifests
from recipes.acoustic.training import Recipe, TrainingState, put_start, train
from recipes.progress import Bars
from recipes.synthesis.corpus import prose, spoken_commands


def texts_for_tokens(data: Path) -> list[str]:
    """Training texts for the tokens: prompts, commands, dialogues' user turns; train parts only."""
    lines = prose(data)[:25_000]
    for commands in spoken_commands(data):
        lines += commands[:4000]
    for path in sorted((data / "text/dialogues").glob("*.train.jsonl.gz")):
        turns = [t for dialogue in read_objects(path) for t in dialogue["turns"] if t["speaker"] == "user"]
        lines += [t["text"] for t in turns][:4000]
    return [n for n in map(normalize, lines) if n]


def parse_shares(given: list[str], cache: SpeechCache) -> dict[str, float]:
    """
    Raises:
        typer.BadParameter: one is no number, or of a corpus that is not there.
    """
    corpora, out = sorted({u.corpus for u in cache.utterances}), {}
    for one in given:
        corpus, _, times = one.partition("=")
        try:
            out[corpus] = float(times)
        except ValueError as error:
            raise typer.BadParameter(f"{one!r}: give CORPUS=TIMES, as in an4=2") from error
        if corpus not in corpora or not 0 <= out[corpus] < math.inf:
            raise typer.BadParameter(f"{one!r}: TIMES are 0 or more, the corpora {', '.join(corpora)}")
    return out


def _manifests(data: Path, split: str) -> list[Path]:
    """Of the shards of a split that lie in the folder itself, else of the corpora below it."""
    return sorted(data.glob(f"{split}-*.jsonl.gz")) or find_manifests(data, split)


def main(
    data: Annotated[
        Path, typer.Option(help="Folder with speech/, followups/ and text/, or shards of scripts/prepare_speech.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for cache, checkpoint, log and model; outside the repository.")],
    pretrained: Annotated[
        Path | None, typer.Option(help="Start the encoder from Whisper tiny.en's (safetensors), or from this model's.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Start from the weights of this model folder.")] = None,
    extra: Annotated[list[Path] | None, typer.Option(help="More manifests, NAME-train.jsonl.gz.")] = None,
    hours: Annotated[float, typer.Option(help="Hours of training in all.")] = 1.5,
    preset: Annotated[str, typer.Option(help="Model size: base or tiny.")] = "base",
    tokens: Annotated[Path | None, typer.Option(help="SentencePiece model; none: one of the texts in --data.")] = None,
    vocab: Annotated[int, typer.Option(help="SentencePiece pieces of a new one, the blank included.")] = 256,
    batch_s: Annotated[float, typer.Option(help="Seconds of audio in a batch.")] = 40.0,
    head_lr: Annotated[float, typer.Option(help="Peak learning rate of what is not the encoder's.")] = Recipe.head_lr,
    encoder_lr: Annotated[float, typer.Option(help="Peak learning rate of the encoder.")] = Recipe.encoder_lr,
    ema: Annotated[float, typer.Option(help="Of the averaged weights: what a step keeps.")] = Recipe.ema,
    share: Annotated[
        list[str] | None, typer.Option(help="CORPUS=TIMES that an epoch draws each utterance; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of order and augmentation.")] = Recipe.seed,
    device: Annotated[str, typer.Option(help="cpu, or cuda (in bf16).")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make batches ahead.")] = 0,
    minutes: Annotated[
        float, typer.Option(min=0, help="Of training in this run; the next goes on from there.")
    ] = math.inf,
    dev_utterances: Annotated[int, typer.Option(help="Dev utterances of each set at each checkpoint.")] = 60,
    every_s: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 300.0,
) -> None:
    """Trains and leaves OUT/model as it would be shipped; OUT/log.jsonl has losses and dev WER."""
    try:
        load_torchaudio()  # the losses' alignment is torchaudio's
    except ModelError as error:
        give_up(error)
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    given = tokens or (start / "tokens.model" if start else None)
    if given is not None and not (out / "tokens.model").exists():
        shutil.copy(given, out / "tokens.model")
    if (out / "tokens.model").exists():
        tokenizer = Tokenizer.load(out / "tokens.model")
    else:
        console.print("training tokens on the texts ...")
        tokenizer = Tokenizer.train(texts_for_tokens(data), vocab)
        (out / "tokens.model").write_bytes(tokenizer.proto)
    manifests, dev_manifests = _manifests(data, "train") + (extra or []), _manifests(data, "dev")
    with Bars() as bars:
        cache = SpeechCache(manifests, out / "cache", bars.show, threads)
        dev_cache = SpeechCache(dev_manifests, out / "cache", bars.show, threads)
        chosen = []
        for corpus in sorted({u.corpus for u in dev_cache.utterances}):
            of_corpus = [u for u in dev_cache.utterances if u.corpus == corpus]
            picks = np.random.default_rng(0).permutation(len(of_corpus))[:dev_utterances]
            chosen += [of_corpus[i] for i in picks]
        recipe = Recipe(preset=preset, hours=hours, batch_s=batch_s, head_lr=head_lr, encoder_lr=encoder_lr,
                        ema=ema, seed=seed)  # fmt: skip
        recipe = replace(recipe, shares=recipe.shares | parse_shares(share or [], cache))
        if start is not None:
            recipe = recipe.from_model()
            if not (out / "checkpoint.pt").exists():
                put_start(out, start, recipe, pretrained)
        console.print(f"{len(cache.utterances)} utterances, {sum(u.seconds for u in cache.utterances) / 3600:.2f} h")

        def stepped(state: TrainingState) -> None:
            bars.show("training (s)", round(state.seconds), round(hours * 3600))

        train(
            recipe,
            cache,
            (dev_cache, chosen),
            tokenizer,
            out,
            pretrained=pretrained,
            device=device,
            every_s=every_s,
            limit_s=60 * minutes,
            workers=workers,
            log=lambda entry: console.print_json(data=entry),
            on_step=stepped,
        )


if __name__ == "__main__":
    typer.run(main)
