"""Adapts Whisper to windows as short as the utterance: the same outputs as the original's on its padded 30 s.

    python -m recipes.second_pass.adapt WHISPER CACHE OUT [--hours 3]

WHISPER: the original in the Hugging Face form. CACHE: of `teacher`, which may still be writing. OUT: `checkpoint.pt`
every few minutes, from which the same command goes on; `adapted.safetensors` (the average of the latest weights), and
`log.jsonl`.

Self-distillation, after the "audio context fine-tuning" that users of whisper.cpp came to: the student hears the clip
and a tail of 0.2 to 1.2 s of silence drawn at random; the loss is the Kullback-Leibler divergence of its token
distributions from the original's along the original's greedy text, the end included, and the distance of its encoded
frames from the original's. Where a clip has a transcript that the original's text does not say, the loss is the cross
entropy of the original's text with its wrong words mended instead. Embeddings and positions stay as they are. To go on
from weights that were adapted before, give their folder in the place of WHISPER.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from asr.second_pass.model import AttentionModel, load_attention_model
from asr.second_pass.tokens import WrittenTokens
from recipes.second_pass.features import log_mel
from recipes.second_pass.labels import mend
from recipes.second_pass.teacher import PROMPT

console = Console(stderr=True, highlight=False)

SECONDS = 40.0
"""Audio in a batch, padding included."""
FRAMES_WEIGHT = 0.5
AVERAGE = 0.995
"""Decay of the exponential moving average of the weights."""
POOL = 40
"""Parts that are drawn from at once."""


def window(clip: dict[str, Any], rng: np.random.Generator) -> Tensor:
    """(F, 80) features of the clip and its tail; F even."""
    samples = clip["samples"].float() / 32767
    tail = int(rng.uniform(0.2, 1.2) * 16000)
    total = -(-(len(samples) + tail) // 320) * 320
    return log_mel(F.pad(samples, (0, total - len(samples))))


def batches(parts: list[Path], tokens: WrittenTokens, rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """The clips of some parts in batches of similar length."""
    clips = [correct(clip, tokens) for part in parts for clip in torch.load(part, weights_only=True)]
    clips.sort(key=lambda clip: len(clip["samples"]) * rng.uniform(0.9, 1.1))
    out: list[list[dict[str, Any]]] = [[]]
    for clip in clips:
        longest = max(len(c["samples"]) for c in [*out[-1], clip]) / 16000 + 0.8
        if out[-1] and longest * (len(out[-1]) + 1) > SECONDS:
            out.append([])
        out[-1].append(clip)
    return [out[i] for i in rng.permutation(len(out))]


def correct(clip: dict[str, Any], tokens: WrittenTokens) -> dict[str, Any]:
    """A clip of the cache whose text is mended where its transcript says otherwise; its one next token is then sure."""
    mended = mend(tokens.decode(clip["tokens"][:-1].tolist()), clip["text"]) if clip["text"] else None
    if mended is None:
        return clip
    ids = torch.tensor([*tokens.encode(mended), tokens.end], dtype=torch.int32)
    return {**clip, "tokens": ids, "next": ids[:, None], "log_p": torch.zeros(len(ids), 1).half()}


def losses(student: AttentionModel, batch: list[dict[str, Any]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Divergence a token, and squared distance of an encoded frame beside the original's power."""
    features = [window(clip, rng) for clip in batch]
    lengths = torch.tensor([len(f) for f in features])
    encoded = student.encoder(pad_sequence(features, batch_first=True), lengths)
    apart = []
    for clip, frames in zip(batch, encoded, strict=True):
        wanted = clip["encoded"].float()
        if len(wanted):
            apart.append((frames[: len(wanted)].float() - wanted).square().sum(-1) / wanted.square().sum(-1).mean())
    texts = [clip["tokens"].long() for clip in batch]
    prompt = torch.tensor(PROMPT)
    given = pad_sequence([torch.cat([prompt, t[:-1]]) for t in texts], batch_first=True)
    audio = [student.decoder.audio(one[: n // 2]) for one, n in zip(encoded, lengths.tolist(), strict=True)]
    states, _ = student.decoder(given, audio)
    states = torch.cat([s[len(PROMPT) - 1 :][: len(t)] for s, t in zip(states, texts, strict=True)])
    log_p = student.decoder.logits(states).float().log_softmax(-1)
    at, divergence = 0, []
    for clip in batch:
        wanted = clip["log_p"].float()
        own = log_p[at : at + len(wanted)].gather(1, clip["next"].long())
        divergence.append((wanted.exp() * (wanted - own)).sum(-1))
        at += len(wanted)
    none = encoded.new_zeros(1).float()
    return torch.cat(divergence).mean(), torch.cat(apart or [none]).mean()


class Adaptation:
    """The student, its optimiser and its average; a value on disk between runs."""

    def __init__(self, original: AttentionModel, rate: float) -> None:
        self.student = original
        for name, value in self.student.named_parameters():
            value.requires_grad_("embed" not in name)
        self.trained = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.average = copy.deepcopy(self.student)
        self.rate, self.step = rate, 0

    def learn(self, loss: Tensor) -> None:
        self.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, self.step / 30)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        decay = min(AVERAGE, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)

    def save(self, folder: Path) -> None:
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").rename(folder / "checkpoint.pt")
        weights = {name: value.half().contiguous() for name, value in self.average.state_dict().items()}
        save_file(weights, folder / "adapted.tmp")
        (folder / "adapted.tmp").rename(folder / "adapted.safetensors")

    def load(self, folder: Path) -> None:
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whisper", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=2e-5, help="Learning rate of AdamW.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    run = Adaptation(load_attention_model(args.whisper).train(), args.rate)
    if (args.out / "checkpoint.pt").exists():
        run.load(args.out)
    tokens = WrittenTokens(args.whisper / "tokenizer.json", run.student.config.vocab_size)
    rng = np.random.default_rng(run.step)
    until, saved, sums = time.monotonic() + 3600 * args.hours, time.monotonic(), []
    used: dict[Path, int] = {}
    while time.monotonic() < until:
        parts = sorted(args.cache.glob("part-*.pt"))
        if not parts:
            time.sleep(5.0)
            continue
        parts.sort(key=lambda part: (used.get(part, 0), rng.random()))  # new ones first
        for part in parts[:POOL]:
            used[part] = used.get(part, 0) + 1
        for batch in batches(parts[:POOL], tokens, rng):
            with torch.autocast("cpu", torch.bfloat16):
                divergence, apart = losses(run.student, batch, rng)
                loss = divergence + FRAMES_WEIGHT * apart
            run.learn(loss)
            sums.append((float(divergence.detach()), float(apart.detach())))
            if run.step % 20 == 0:
                means = [round(float(x), 4) for x in np.mean(sums, 0)]
                line = {"step": run.step, "divergence": means[0], "frames": means[1], "parts": len(parts)}
                console.print(line)
                with (args.out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                sums.clear()
            if time.monotonic() > saved + 240:
                run.save(args.out)
                saved = time.monotonic()
            if time.monotonic() > until:
                break
    run.save(args.out)


if __name__ == "__main__":
    main()
