"""Training of the acoustic model: CTC on a frozen encoder, then RNN-T with auxiliary CTC on everything.

The schedule runs on seconds of training, not on steps, so that one recipe fits a machine of any speed: learning rates
warm up, stay, and fall to a tenth over the last part of `hours`. A checkpoint holds all of the state; training that is
started again goes on from it.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.acoustic import PRESETS, Transducer, load_encoder, load_model, save_model
from asr.errors import ModelError
from asr.evaluation.wer import Errors, align, count
from asr.text.tokenizer import Tokenizer
from recipes.acoustic.augment import collate, mask_features
from recipes.acoustic.losses import band_starts, banded_rnnt_loss
from recipes.acoustic.rendering import Planned, Rendered, render
from recipes.acoustic.speech import SpeechCache, Utterance, batches, draw_epoch

BAND = 4
"""Token positions of each frame that the RNN-T loss looks at. Few, so that tokens come when CTC hears them: with room
to be late, their probability spreads over many frames and the blank wins each."""


WHOLE = 1500
"""A chunk that any utterance is in as a whole, frames of 20 ms: what the second pass hears."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what training does; kept in the checkpoint and in the card."""

    preset: str = "base"
    hours: float = 1.5
    batch_s: float = 40.0
    frozen_share: float = 0.05
    """Share of the hours in which the encoder stays as it is and only CTC is trained."""
    rnnt_share: float = 0.06
    """Share of the hours after which the RNN-T loss joins."""
    decay_share: float = 0.6
    head_lr: float = 2e-3
    encoder_lr: float = 1.5e-4
    ctc_weight: float = 0.3
    ema: float = 0.995
    chunks: tuple[int, ...] = (8, 16, 16, 24, WHOLE, WHOLE, WHOLE)
    """Drawn per batch; frames of 20 ms."""
    shares: dict[str, float] = field(
        default_factory=lambda: {"speech_commands": 0.6, "an4": 2.0, "fsdd_strings": 2.0, "librispeech": 1.5}
    )
    sounds: float = 0.1
    """Share of the utterances in whose place a sound is heard that nobody speaks (`sounds.py`)."""
    seed: int = 1

    def from_model(self) -> Recipe:
        """For a start from a trained model: nothing is frozen and the RNN-T loss is there from the first step."""
        return replace(self, frozen_share=0.0, rnnt_share=0.0)


@dataclass
class TrainingState:
    model: Transducer
    average: Transducer
    optimizer: torch.optim.Optimizer
    seconds: float = 0.0
    step: int = 0
    epoch: int = 0


def start_state(recipe: Recipe, tokenizer: Tokenizer, pretrained: Path | None, device: str) -> TrainingState:
    """
    Raises:
        ModelError: the file of pretrained weights holds something else.
    """
    torch.manual_seed(recipe.seed)
    config = PRESETS[recipe.preset](tokenizer.vocab_size)
    model = Transducer(config)
    torch.nn.init.zeros_(model.join_out.weight)  # RNN-T begins as CTC
    torch.nn.init.zeros_(model.join_out.bias)
    if pretrained is not None:
        load_encoder(model.encoder, pretrained)
    average = Transducer(config)
    average.load_state_dict(model.state_dict())
    model, average = model.to(device), average.to(device)
    encoder: list[Tensor] = []
    heads: list[Tensor] = []
    for name, weight in model.named_parameters():
        old = name.startswith("encoder.") and not name.startswith("encoder.stack")
        (encoder if old else heads).append(weight)
    optimizer = torch.optim.AdamW(
        [{"params": heads, "peak": recipe.head_lr}, {"params": encoder, "peak": recipe.encoder_lr}],
        lr=0.0,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    return TrainingState(model, average, optimizer)


def save_state(state: TrainingState, path: Path) -> None:
    held = {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "seconds": state.seconds,
        "step": state.step,
        "epoch": state.epoch,
    }
    torch.save(held, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_state(state: TrainingState, path: Path) -> None:
    held = torch.load(path, map_location="cpu", weights_only=True)
    state.model.load_state_dict(held["model"])
    state.average.load_state_dict(held["average"])
    state.optimizer.load_state_dict(held["optimizer"])
    state.seconds, state.step, state.epoch = held["seconds"], held["step"], held["epoch"]


def put_start(folder: Path, start: Path, recipe: Recipe, pretrained: Path | None) -> None:
    """Leaves a checkpoint in FOLDER that starts from the weights of the model in `start`.

    Raises:
        ModelError: the model cannot be read, or has another shape than the recipe's preset.
    """
    model, tokenizer, _ = load_model(start)
    if model.config != PRESETS[recipe.preset](tokenizer.vocab_size):
        raise ModelError(f"{start}: its shape is not that of the preset {recipe.preset}")
    state = start_state(recipe, tokenizer, pretrained, "cpu")
    state.model.load_state_dict(model.state_dict())
    state.average.load_state_dict(model.state_dict())
    save_state(state, folder / "checkpoint.pt")


def learning_rate(recipe: Recipe, share: float, frozen: bool) -> float:
    """Factor of the peak rate when `share` (0 to 1) of the training is done; the encoder's starts later."""
    start = recipe.frozen_share if frozen else 0.0
    warm = min(1.0, max(0.0, share - start) / 0.02)
    left = min(1.0, (1.0 - share) / recipe.decay_share)
    return warm * max(0.03, left)


def encode(model: Transducer, features: Tensor, chunk: int) -> Tensor:
    """(B, F / 2, width) frames of 20 ms of (B, F, 80) features, begun anywhere in a stream."""
    offset = torch.randint(0, model.config.positions, (len(features),), device=features.device)
    offset *= (torch.rand(len(features), device=features.device) < 0.6).long()
    return model.encoder.frames(features, chunk, offset)


def loss_of(
    model: Transducer, encoded: Tensor, lengths: Tensor, texts: list[list[int]], rnnt: bool, ctc_weight: float
) -> tuple[Tensor, dict[str, float]]:
    """Loss per token of a batch: encoded (B, T, encoded), lengths (B,) in frames of 10 ms."""
    blank = model.config.blank
    counts = torch.tensor([len(t) for t in texts], dtype=torch.int32)
    targets = torch.zeros(len(texts), max(1, int(counts.max())), dtype=torch.int64)
    for row, text in zip(targets, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    targets, frames = targets.to(encoded.device), (lengths // 4).to(torch.int32)
    total = counts.sum().clamp(min=1)
    scores = model.ctc(encoded).float()
    ctc = torch.nn.functional.ctc_loss(scores.transpose(0, 1), targets, frames, counts, blank, reduction="sum")
    parts = {"ctc": float(ctc.detach() / total)}
    if not rnnt:
        return ctc / total, parts
    frames, counts = frames.to(encoded.device), counts.to(encoded.device)
    starts = band_starts(scores, targets, frames, counts, blank, BAND)
    at = starts[..., None] + torch.arange(BAND, device=encoded.device)
    predicted = model.predictor(targets)
    rows = torch.arange(len(texts), device=encoded.device)[:, None, None]
    predicted = predicted[rows, at.clamp(max=predicted.shape[1] - 1)]
    logits = model.join(model.join_encoded(encoded)[:, :, None], predicted).float()
    transducer = banded_rnnt_loss(logits, targets, starts, frames, counts, blank)
    parts["rnnt"] = float(transducer.detach() / total)
    return (ctc_weight * ctc + (1 - ctc_weight) * transducer) / total, parts


def needed_frames(tokens: list[int]) -> int:
    """Frames that a CTC alignment takes at least: one a token, and a blank between equal ones."""
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))


def prepare(
    rendered: Rendered, tokenizer: Tokenizer, rng: np.random.Generator, device: str
) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Masked features (B, F, 80), their lengths (B,) in frames, and the texts' tokens."""
    features, lengths = collate(rendered.waves)
    features = mask_features(features.to(device), lengths, rng)
    texts = [tokenizer.sample(text) if rng.random() < 0.2 else tokenizer.encode(text) for text in rendered.texts]
    fits = [i for i, t in enumerate(texts) if needed_frames(t) <= int(lengths[i]) // 4]
    return features[fits], lengths[fits], [texts[i] for i in fits]


def greedy_ctc(model: Transducer, features: Tensor, chunk: int) -> list[list[int]]:
    """Best path of the CTC head: a quick look at how far the encoder is."""
    ids = model.ctc(model.encoder(features, chunk)).argmax(-1)
    return [[t for t in torch.unique_consecutive(row).tolist() if t != model.config.blank] for row in ids]


def greedy_rnnt(model: Transducer, features: Tensor, chunk: int, symbols: int = 4) -> list[list[int]]:
    """Greedy search, all utterances of the batch at once."""
    encoded = model.join_encoded(model.encoder(features, chunk))
    rows = torch.arange(len(encoded), device=encoded.device)
    history = torch.full((len(encoded), model.config.history), model.config.blank, device=encoded.device)
    out: list[list[int]] = [[] for _ in rows]
    for t in range(encoded.shape[1]):
        for _ in range(symbols):
            best = model.join(encoded[:, t], model.predictor.step(history)).argmax(-1)
            spoken = best != model.config.blank
            if not spoken.any():
                break
            history = torch.where(spoken[:, None], torch.cat([history[:, 1:], best[:, None]], 1), history)
            for i in rows[spoken].tolist():
                out[i].append(int(best[i]))
    return out


@torch.inference_mode()
def quick_wer(
    model: Transducer,
    tokenizer: Tokenizer,
    cache: SpeechCache,
    utterances: list[Utterance],
    device: str,
    rnnt: bool,
    chunk: int = 16,
) -> dict[str, float]:
    """WER in percent by corpus, greedy. chunk: frames of 20 ms."""
    errors: dict[str, Errors] = {}
    rng = np.random.default_rng(0)
    for batch in batches(utterances, 60.0, rng):
        features, _ = collate([cache.samples(u) for u in batch], tail=6400)
        search = greedy_rnnt if rnnt else greedy_ctc
        for utterance, ids in zip(batch, search(model, features.to(device), chunk), strict=True):
            found = count(align(utterance.text, tokenizer.decode(ids)))
            errors[utterance.corpus] = errors.get(utterance.corpus, Errors()) + found
    return {name: round(100 * found.rate, 1) for name, found in sorted(errors.items())}


def steps(cache: SpeechCache, recipe: Recipe, epoch: int, step: int) -> Iterator[Planned]:
    """The batches from the start of an epoch on, without end."""
    steps_on = itertools.count(step)
    for epoch_on in itertools.count(epoch):
        rng = np.random.default_rng([recipe.seed, epoch_on])
        drawn = [u for u in draw_epoch(cache.utterances, recipe.shares, rng) if u.seconds < 16]
        yield from (Planned(epoch_on, next(steps_on), batch) for batch in batches(drawn, recipe.batch_s, rng))


def train(
    recipe: Recipe,
    cache: SpeechCache,
    dev: tuple[SpeechCache, list[Utterance]],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    pretrained: Path | None,
    device: str = "cpu",
    every_s: float = 240.0,
    limit_s: float = math.inf,
    workers: int = 0,
    log: Callable[[dict[str, object]], None] = lambda _: None,
    on_step: Callable[[TrainingState], None] = lambda _: None,
) -> TrainingState:
    """Trains until `recipe.hours` are used up; a checkpoint, a model and dev WER every `every_s` seconds.

    This run ends after `limit_s` seconds, its checkpoints counted in, and the next goes on from there; `workers`
    processes make batches ahead. FOLDER gets checkpoint.pt, model/ (the averaged weights, as they would be shipped)
    and log.jsonl.
    """
    state = start_state(recipe, tokenizer, pretrained, device)
    if (folder / "checkpoint.pt").exists():
        load_state(state, folder / "checkpoint.pt")
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    state.model.train()
    entered = since = mark = time.monotonic()
    heard, begun = 0.0, state.seconds
    parts: dict[str, float] = {}
    frozen_now: bool | None = None
    for rendered in render(cache, steps(cache, recipe, state.epoch, state.step), recipe.seed, workers, recipe.sounds):
        rng = np.random.default_rng([recipe.seed, state.step, 1])
        torch.manual_seed(recipe.seed * 1_000_003 + state.step)
        share = state.seconds / (3600 * recipe.hours)
        if share >= 1 or mark - entered >= limit_s:
            break
        heads, encoder = state.optimizer.param_groups
        heads["lr"] = heads["peak"] * learning_rate(recipe, share, False)
        encoder["lr"] = encoder["peak"] * learning_rate(recipe, share, True)
        frozen = share < recipe.frozen_share and pretrained is not None
        if frozen != frozen_now:
            for weight in encoder["params"]:
                weight.requires_grad_(not frozen)
            frozen_now = frozen
        features, lengths, texts = prepare(rendered, tokenizer, rng, device)
        chunk = int(rng.choice(recipe.chunks))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            encoded = state.model.encoder.stacked(encode(state.model, features, chunk))
            loss, now = loss_of(state.model, encoded, lengths, texts, share >= recipe.rnnt_share, recipe.ctc_weight)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), 2.0)
        if math.isfinite(float(norm)):
            state.optimizer.step()
        state.step, state.epoch = state.step + 1, rendered.planned.epoch
        keep = min(recipe.ema, state.step / (state.step + 10))
        with torch.no_grad():
            for mean, value in zip(state.average.parameters(), state.model.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        parts = {k: 0.95 * parts.get(k, v) + 0.05 * v for k, v in now.items()}
        heard += sum(u.seconds for u in rendered.planned.utterances)
        state.seconds += time.monotonic() - mark
        mark = time.monotonic()
        on_step(state)
        if mark - since > every_s:
            _checkpoint(recipe, state, dev, tokenizer, folder, device, parts, heard / (state.seconds - begun), log)
            since = mark = time.monotonic()
    _checkpoint(recipe, state, dev, tokenizer, folder, device, parts, heard / max(1.0, state.seconds - begun), log)
    return state


def _checkpoint(
    recipe: Recipe,
    state: TrainingState,
    dev: tuple[SpeechCache, list[Utterance]],
    tokenizer: Tokenizer,
    folder: Path,
    device: str,
    parts: dict[str, float],
    speed: float,
    log: Callable[[dict[str, object]], None],
) -> None:
    save_state(state, folder / "checkpoint.pt")
    model = state.average.eval()
    save_model(folder / "model", model, tokenizer, f"{recipe.preset}-{state.step}")
    rnnt = state.seconds >= 3600 * recipe.hours * recipe.rnnt_share
    entry: dict[str, object] = {
        "step": state.step,
        "epoch": state.epoch,
        "hours": round(state.seconds / 3600, 3),
        "hours_left": round(recipe.hours - state.seconds / 3600, 3),
        "times_real_time": round(speed, 1),
        "loss": {k: round(v, 3) for k, v in parts.items()},
        "dev_wer_ctc": quick_wer(model, tokenizer, *dev, device, False),
        "dev_wer_rnnt": quick_wer(model, tokenizer, *dev, device, True) if rnnt else None,
        "dev_wer_whole": quick_wer(model, tokenizer, *dev, device, True, WHOLE) if rnnt else None,
    }
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(entry) + "\n")
    log(entry)
