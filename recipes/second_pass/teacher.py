"""Writes down what the original Whisper makes of each clip on its padded 30 s: the targets of `adapt`.

    python -m recipes.second_pass.teacher WHISPER DATA CACHE [--hours 3]

WHISPER: a folder in the Hugging Face form. DATA: the folder with speech/ and followups/. CACHE: files of 32 clips
each, `part-00000.pt` and so on; what is there is kept, so the command can be stopped and called again. `adapt` reads
the parts that are there, and may run beside it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from asr.audio import SAMPLE_RATE
from asr.second_pass.model import AttentionModel, load_attention_model
from asr.second_pass.tokens import WrittenTokens
from recipes.second_pass.corpora import Clip, draw_clips
from recipes.second_pass.features import log_mel

END, PROMPT = 50256, (50257, 50362)
"""tiny.en's end of text; start of transcript, no timestamps."""
PART, KEPT, WINDOW_S = 32, 24, 30.0
"""Clips in a file; probabilities kept for each token; seconds that the model was trained on."""


def most_tokens(seconds: float) -> int:
    """More text than anybody says in so many seconds."""
    return int(8 + 8 * seconds)


@torch.inference_mode()
def targets(model: AttentionModel, clips: list[Clip], banned: Tensor) -> list[dict[str, Tensor | str]]:
    """For each clip its greedy tokens with the end, (U, KEPT) likeliest next tokens and their log-probabilities, and
    the encoded frames of the clip. Clips on which the model loops are left out."""
    features = torch.stack([log_mel(F.pad(torch.from_numpy(c.samples), (0, _missing(c)))) for c in clips])
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encoder(features).float()
    audio = [model.decoder.audio(one) for one in encoded]
    tokens = torch.tensor([PROMPT] * len(clips))
    limit = max(most_tokens(len(c.samples) / SAMPLE_RATE) for c in clips)
    new, past, steps = tokens, None, []
    ended = torch.zeros(len(clips), dtype=torch.bool)
    for _ in range(limit):
        states, past = model.decoder(new, audio, past)
        scores = model.decoder.logits(states[:, -1])
        scores[:, banned] = -torch.inf
        steps.append(torch.topk(scores.log_softmax(-1), KEPT))
        new = steps[-1].indices[:, :1]
        tokens = torch.cat([tokens, new], 1)
        ended |= new[:, 0] == END
        if ended.all():
            break
    out: list[dict[str, Tensor | str]] = []
    for i, clip in enumerate(clips):
        text = tokens[i, len(PROMPT) :]
        ends = (text == END).nonzero()
        if not len(ends) or int(ends[0]) > most_tokens(len(clip.samples) / SAMPLE_RATE):
            continue
        count = int(ends[0]) + 1
        frames = -(-len(clip.samples) // 320)
        out.append(
            {
                "id": clip.id,
                "text": clip.text,
                "samples": torch.from_numpy((clip.samples * 32767).clip(-32768, 32767).astype(np.int16)),
                "tokens": text[:count].int(),
                "next": torch.stack([s.indices[i] for s in steps[:count]]).int(),
                "log_p": torch.stack([s.values[i] for s in steps[:count]]).half(),
                "encoded": encoded[i, :frames].to(torch.bfloat16).clone(),
            }
        )
    return out


def nothing(clip: Clip) -> dict[str, Tensor | str]:
    """The target of a clip in which nothing is said: the end, surely."""
    return {
        "id": clip.id,
        "text": "",
        "samples": torch.from_numpy((clip.samples * 32767).clip(-32768, 32767).astype(np.int16)),
        "tokens": torch.tensor([END]).int(),
        "next": torch.tensor([[END]]).int(),
        "log_p": torch.zeros(1, 1).half(),
        "encoded": torch.zeros(0, 0),
    }


def _missing(clip: Clip) -> int:
    return int(WINDOW_S * SAMPLE_RATE) - len(clip.samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whisper", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    model = load_attention_model(args.whisper)
    banned = ~WrittenTokens(args.whisper / "tokenizer.json", model.config.vocab_size).allowed()
    clips, until = draw_clips(args.data), time.monotonic() + 3600 * args.hours
    for number in track(itertools.count(), "listening", total=None):
        part = list(itertools.islice(clips, PART))
        if not part or time.monotonic() > until:
            break
        path = args.cache / f"part-{number:05}.pt"
        if path.exists():
            continue
        spoken = sorted((clip for clip in part if clip.speech), key=lambda clip: len(clip.samples))
        out = [nothing(clip) for clip in part if not clip.speech]
        for batch in _batched(spoken, args.batch):
            out += targets(model, batch, banned)
        torch.save(out, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)


def _batched(items: list[Clip], size: int) -> list[list[Clip]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


if __name__ == "__main__":
    main()
