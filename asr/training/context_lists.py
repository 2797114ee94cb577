"""n-best lists to learn rescoring from: follow-ups decoded, and under each condition the candidates' exact scores.

Everything is kept in a folder of the acoustic model's own (frames as fp16, lists as JSON lines), so an interrupted run
goes on where it stopped and a new rescorer costs no decoding.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr.context.candidates import AnswerTables, candidates, expand
from asr.context.encoder import ContextEncoder
from asr.context.rescorer import MAX_CANDIDATES, MAX_EXPANDED
from asr.context.types import Context, ContextEmbedding
from asr.hypothesis import Encoded
from asr.recognizer import Recognizer
from asr.training.context_data import FollowUp, SoundAlikes, anti, irrelevant

CONDITIONS = ("relevant", "irrelevant", "anti")
NBEST = 16
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Decoded:
    """One utterance without context: its n-best, best first, log P(y|x) in nats exact."""

    row: FollowUp
    texts: tuple[str, ...]
    acoustic: tuple[float, ...]


@dataclass(frozen=True)
class ContextList:
    """The same utterance under one condition: candidates with their exact scores."""

    decoded: Decoded
    condition: str
    embedding: ContextEmbedding
    texts: tuple[str, ...]
    acoustic: tuple[float, ...]


def _audio(rows: Sequence[FollowUp], folder: Path) -> Iterator[tuple[FollowUp, np.ndarray, int]]:
    by_shard: dict[str, list[FollowUp]] = {}
    for row in rows:
        by_shard.setdefault(row.shard, []).append(row)
    for shard, part in by_shard.items():
        with tarfile.open(folder / shard) as tar:
            for row in part:
                member = tar.extractfile(row.member)
                if member is None:
                    raise FileNotFoundError(f"{shard} has no member {row.member}")
                samples, rate = soundfile.read(io.BytesIO(member.read()), dtype="float32")
                yield row, samples, rate


def decode(
    rows: Sequence[FollowUp], recognizer: Recognizer, data: Path, work: Path, progress: Progress
) -> list[Decoded]:
    """Decodes what `work` does not have yet. progress: (stage, done, total)."""
    frames = work / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    lists = work / "nbest.jsonl"
    known = _read(lists)
    todo = [r for r in rows if r.id not in known]
    with open(lists, "a") as out:
        for done, (row, samples, rate) in enumerate(_audio(todo, data / "followups"), 1):
            result = recognizer.recognize(samples, rate, nbest=NBEST)
            assert result.encoded is not None
            texts = [h.text for h in result.nbest]
            exact = recognizer.force_score(result.encoded, texts)
            np.save(frames / f"{row.id}.npy", result.encoded.frames.numpy().astype(np.float16))
            line = {"id": row.id, "texts": texts, "acoustic": [round(h.acoustic, 3) for h in exact]}
            print(json.dumps(line), file=out, flush=True)
            known[row.id] = line
            progress("decoding", done, len(todo))
    return [Decoded(r, tuple(known[r.id]["texts"]), tuple(known[r.id]["acoustic"])) for r in rows]


def conditions_of(
    rows: Sequence[FollowUp], pools: dict[str, SoundAlikes], seed: int = 1
) -> dict[str, dict[str, Context]]:
    """Contexts of each row by condition; conditions that a row has nothing for are left out."""
    out: dict[str, dict[str, Context]] = {}
    for i, row in enumerate(rows):
        rng = random.Random(f"{seed} {row.id}")
        found = {"relevant": row.context, "irrelevant": irrelevant(rows, i, rng), "anti": anti(row, pools)}
        out[row.id] = {name: context for name, context in found.items() if context}
    return out


def score_candidates(
    decoded: Sequence[Decoded],
    contexts: dict[str, dict[str, Context]],
    encoder: ContextEncoder,
    tables: AnswerTables,
    recognizer: Recognizer,
    work: Path,
    progress: Progress,
) -> list[ContextList]:
    """Candidates of every utterance and condition with exact scores; scores of earlier runs are used again."""
    path = work / "scores.jsonl"
    known = _read(path)
    lists: list[ContextList] = []
    with open(path, "a") as out:
        for done, item in enumerate(decoded, 1):
            embeddings = {c: encoder.encode(context) for c, context in contexts[item.row.id].items()}
            scores: dict[str, float] = dict(known.get(item.row.id, {}).get("scores", {}))
            before = len(scores)
            frames = torch.from_numpy(np.load(work / "frames" / f"{item.row.id}.npy").astype(np.float32))
            encoded = Encoded(frames, 0.0)
            first = {c: candidates(item.texts, e, tables, MAX_CANDIDATES) for c, e in embeddings.items()}
            _score({t for texts in first.values() for t in texts}, scores, encoded, recognizer)
            more = {
                c: expand(item.texts, e, tables, _known(item, first[c], scores), MAX_EXPANDED)
                for c, e in embeddings.items()
            }
            _score({t for texts in more.values() for t in texts}, scores, encoded, recognizer)
            if len(scores) > before:
                print(json.dumps({"id": item.row.id, "scores": scores}), file=out, flush=True)
            found = {c: (e, [*first[c], *more[c]]) for c, e in embeddings.items()}
            for condition, (embedding, texts) in found.items():
                acoustic = tuple(scores[t] for t in texts)
                lists.append(ContextList(item, condition, embedding, tuple(texts), acoustic))
            progress("scoring", done, len(decoded))
    return lists


def _score(texts: Set[str], scores: dict[str, float], encoded: Encoded, recognizer: Recognizer) -> None:
    """Adds the exact scores of those texts that have none yet."""
    missing = sorted(texts - scores.keys())
    for text, forced in zip(missing, recognizer.force_score(encoded, missing) if missing else [], strict=True):
        scores[text] = round(forced.acoustic, 3)


def _known(item: Decoded, texts: Sequence[str], scores: dict[str, float]) -> dict[str, float]:
    """What the rescorer would know of this list: scores of its own n-best and of these candidates."""
    return {t: scores[t] for t in texts} | dict(zip(item.texts, item.acoustic, strict=True))


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Lines by id, the last one of each; an unfinished last line is dropped."""
    found: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            found[row["id"]] = row
    return found
