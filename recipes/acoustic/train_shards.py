"""Train the acoustic model on packed shards, within a time limit, with a checkpoint that travels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from asr.acoustic import PRESETS, load_model
from asr.acoustic.checkpoint import SHIPPED
from asr.commands.terminal import Bars, console, give_up
from asr.cpus import available_cpus
from asr.errors import AsrError, ManifestError, ModelError
from asr.text.tokenizer import Tokenizer
from recipes.acoustic.parts import INDEX, join_checkpoint, split_checkpoint
from recipes.acoustic.speech import SpeechCache
from recipes.acoustic.training import WHOLE, Recipe, TrainingState, put_start, quick_wer, train

app = typer.Typer(add_completion=False)
EVALUATION_SHARE = 0.15
"""Of the minutes, kept for the checkpoint and the evaluation at the end."""


def open_caches(shards: Path, work: Path, bars: Bars, workers: int) -> tuple[SpeechCache, SpeechCache]:
    """Train and dev speech of all shards in a folder.

    Raises:
        ManifestError: one of them is missing, or holds nothing.
    """
    caches = []
    for split in ("train", "dev"):
        manifests = sorted(shards.glob(f"{split}-*.jsonl.gz"))
        cache = SpeechCache(manifests, work / "cache", bars.show, workers)
        if not cache.utterances:
            raise ManifestError(f"{shards}: no {split}-NN.jsonl.gz with speech; scripts/prepare_speech makes them")
        caches.append(cache)
    return caches[0], caches[1]


def put_parts(work: Path, parts: Path) -> None:
    """Puts the checkpoint of the parts together in WORK, if there are any."""
    if (parts / INDEX).exists():
        join_checkpoint(parts, work / "checkpoint.pt")
        (work / "log.jsonl").write_bytes((parts / "log.jsonl").read_bytes())


def check_device(device: str) -> None:
    """
    Raises:
        ModelError: there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda: no GPU is there; use --device cpu")
    torch.set_float32_matmul_precision("high")


@app.command()
def main(
    shards: Annotated[Path, typer.Argument(help="Folder of scripts/prepare_speech.", show_default=False)],
    work: Annotated[Path, typer.Option(help="Folder for cache, full checkpoint, log and model.", show_default=False)],
    parts: Annotated[Path, typer.Option(help="Folder for the checkpoint in parts and the result; training goes on from "
                                             "the parts that are there.", show_default=False)],
    pretrained: Annotated[Path | None, typer.Option(help="Start from Whisper tiny.en's encoder (safetensors).")] = None,
    start: Annotated[Path | None, typer.Option(help="Start from the weights of this model folder.")] = None,
    tokens: Annotated[Path, typer.Option(help="SentencePiece model.", show_default="the shipped")] =
        SHIPPED / "tokens.model",
    minutes: Annotated[float, typer.Option(min=0, help="Of this run, from start to result.")] = 9.0,
    hours: Annotated[float, typer.Option(help="Of training in all runs: the learning rates follow them.")] = 0.3,
    preset: Annotated[str, typer.Option(help=f"Model size: {' or '.join(PRESETS)}.")] = "base",
    batch_s: Annotated[float, typer.Option(help="Seconds of audio in a batch.")] = 600.0,
    head_lr: Annotated[float, typer.Option(help="Peak learning rate of what is not the encoder's.")] = Recipe.head_lr,
    encoder_lr: Annotated[float, typer.Option(help="Peak learning rate of the encoder.")] = Recipe.encoder_lr,
    distill_weight: Annotated[float, typer.Option(help="Of the distance from the pretrained encoder.")] = 0.0,
    ema: Annotated[float, typer.Option(help="Of the averaged weights: what a step keeps.")] = 0.998,
    device: Annotated[str, typer.Option(help="cuda (in bf16) or cpu.")] = "cuda",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make batches, threads that decode.")] =
        max(1, available_cpus() - 2),
    every_s: Annotated[float, typer.Option(help="Seconds between checkpoints in WORK.")] = 150.0,
) -> None:  # fmt: skip
    """Decodes the shards, trains, evaluates on dev, and leaves PARTS/checkpoint* (files below 16 MB, 64 MB together),
    PARTS/log.jsonl and PARTS/result.json, all within the minutes given; run it again, there or elsewhere, to go on.

    It reads nothing but SHARDS and writes nothing but WORK and PARTS. WORK/model is the model as it would be shipped.
    With --minutes 0 it only writes that model and the result.
    """
    began = time.monotonic()
    try:
        check_device(device)
        for folder in (work, parts):
            folder.mkdir(parents=True, exist_ok=True)
        recipe = replace(Recipe(), preset=preset, hours=hours, batch_s=batch_s, head_lr=head_lr, encoder_lr=encoder_lr,
                         ema=ema, distill_weight=distill_weight)  # fmt: skip
        recipe = recipe.from_model() if start else recipe
        tokenizer = Tokenizer.load(tokens)
        with Bars() as bars:
            cache, dev_cache = open_caches(shards, work, bars, max(1, workers))
            if not (work / "checkpoint.pt").exists():
                put_parts(work, parts)
            if start is not None and not (work / "checkpoint.pt").exists():
                put_start(work, start, recipe, pretrained)
            left = 60 * minutes * (1 - EVALUATION_SHARE) - (time.monotonic() - began)
            dev_few = dev_cache.utterances[:: max(1, len(dev_cache.utterances) // 200)]

            def stepped(state: TrainingState) -> None:
                bars.show("training (s)", round(state.seconds), round(3600 * recipe.hours))

            state = train(recipe, cache, (dev_cache, dev_few), tokenizer, work, pretrained=pretrained, device=device,
                          every_s=every_s, limit_s=max(0.0, left), workers=workers, on_step=stepped,
                          log=lambda entry: console.print_json(data=entry))  # fmt: skip
        split_checkpoint(work / "checkpoint.pt", parts)
        (parts / "log.jsonl").write_bytes((work / "log.jsonl").read_bytes())
        result = evaluate(recipe, state, tokenizer, cache, dev_cache, work, device,
                          lambda: 60 * minutes - (time.monotonic() - began) if minutes else math.inf)  # fmt: skip
    except (AsrError, OSError) as error:
        give_up(error)
    result["minutes"] = round((time.monotonic() - began) / 60, 2)
    (parts / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def evaluate(
    recipe: Recipe, state: TrainingState, tokenizer: Tokenizer, cache: SpeechCache, dev: SpeechCache, work: Path,
    device: str, seconds_left: Callable[[], float],
) -> dict[str, Any]:  # fmt: skip
    """Figures of the run, and WER on dev of the model in WORK/model: greedy, 320 ms chunks; by corpus, percent.

    A corpus that no time is left for is left out.
    """
    model, _, version = load_model(work / "model", device)
    result: dict[str, Any] = {
        "model": version,
        "steps": state.step,
        "hours": round(state.seconds / 3600, 4),
        "of_hours": recipe.hours,
        "epochs": state.epoch,
        "train_hours": round(math.fsum(u.seconds for u in cache.utterances) / 3600, 2),
        "dev_utterances": {},
        "dev_wer_ctc": {},
        "dev_wer_rnnt": {},
        "dev_wer_whole": {},
    }
    longest = 0.0
    for corpus in sorted({u.corpus for u in dev.utterances}):
        started = time.monotonic()
        if seconds_left() < longest:
            break
        utterances = [u for u in dev.utterances if u.corpus == corpus]
        result["dev_utterances"][corpus] = len(utterances)
        result["dev_wer_ctc"] |= quick_wer(model, tokenizer, dev, utterances, device, False)
        result["dev_wer_rnnt"] |= quick_wer(model, tokenizer, dev, utterances, device, True)
        result["dev_wer_whole"] |= quick_wer(model, tokenizer, dev, utterances, device, True, WHOLE)
        longest = max(longest, time.monotonic() - started)
    return result


if __name__ == "__main__":
    app()
