"""n-best lists to learn rescoring from: follow-ups decoded, and under each condition the candidates' exact scores.

Everything is kept in a folder of the acoustic model's own (frames as fp16, lists as JSON lines), so an interrupted run
goes on where it stopped and a new rescorer costs no decoding. Utterances are shared out to processes.
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from asr.audio import Samples, read_container
from asr.context.answer_tables import AnswerTables
from asr.context.candidates import candidates, expand
from asr.context.encoder import ContextEncoder
from asr.context.foreign_nbest import MAX_CANDIDATES, sounding_alike
from asr.context.phrase_index import PhraseIndex
from asr.context.phrases import candidates_of, graph_phrases
from asr.context.rescorer import MAX_EXPANDED
from asr.context.types import Context, ContextEmbedding
from asr.evaluation.recordings import AudioPlace, AudioReader
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Encoded, Hypothesis, Result
from asr.text import normalize
from recipes.acoustic.augment import coloured_noise
from recipes.context.data import FollowUp, SoundAlikes, anti, confusable, irrelevant

Job = TypeVar("Job")
T = TypeVar("T")
NBEST = 8
Progress = Callable[[int, int], None]
Score = tuple[float, float]
"""Acoustic and language, nats."""


@dataclass(frozen=True)
class Decoded:
    """One utterance without context: its n-best, best first, with exact scores."""

    row: FollowUp
    texts: tuple[str, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class ContextList:
    """The same utterance under one condition: candidates with their exact scores."""

    decoded: Decoded
    condition: str
    embedding: ContextEmbedding
    texts: tuple[str, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Tools:
    """What makes lists. audio: folder that shards are named from; work: where what was decoded is kept."""

    recognizer: Recognizer
    encoder: ContextEncoder
    tables: AnswerTables
    audio: Path
    work: Path


@dataclass(frozen=True)
class Known:
    """What is kept of an utterance. nbest: texts, best first; led: by condition, those of a search that the context's
    phrases led; scores: of all texts that were ever scored."""

    nbest: tuple[str, ...] = ()
    led: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)


def read_samples(row: FollowUp, folder: Path) -> tuple[Samples, int]:
    """(n,) float32, with the row's noise, the same whenever it is read; and its rate."""
    with AudioReader() as audio:
        samples, rate = read_container(audio.read(AudioPlace(folder / row.shard, row.member or None)))
    if row.noise_db is None:
        return samples, rate
    rng = np.random.default_rng(list(row.id.encode()))
    noise = coloured_noise(len(samples), rng.uniform(0, 2), rng)
    power = float(np.sqrt(np.mean(np.square(samples))))
    return (samples + noise * power * 10 ** (-row.noise_db / 20)).astype(np.float32), rate


def lists_of(
    row: FollowUp, contexts: dict[str, Context], known: Known, tools: Tools
) -> tuple[Known, list[ContextList]]:
    """The utterance's lists under every condition, and what is now known of it."""
    frames = tools.work / "frames" / f"{row.id}.npy"
    scores, led = dict(known.scores), dict(known.led)
    if known.nbest:
        encoded = Encoded(torch.from_numpy(np.load(frames).astype(np.float32)), 0.0)
        result = Result(tuple(Hypothesis(t, 0.0) for t in known.nbest), True, 1.0, 0.0, 0.0, encoded=encoded)
    else:
        result = tools.recognizer.recognize(*read_samples(row, tools.audio), nbest=NBEST)
        assert result.encoded is not None
        encoded = result.encoded
        np.save(frames, encoded.frames.numpy().astype(np.float16))
    nbest = tuple(h.text for h in result.nbest)
    _score(set(nbest), scores, encoded, tools.recognizer)
    embeddings = {c: tools.encoder.encode(context) for c, context in contexts.items()}
    for condition in embeddings.keys() - led.keys():
        led[condition] = _led(result, embeddings[condition], tools.recognizer)
    found = {c: _candidates(nbest, led[c], e, tools.tables) for c, e in embeddings.items()}
    _score({t for texts in found.values() for t in texts}, scores, encoded, tools.recognizer)
    for condition, embedding in embeddings.items():
        heard = {t: scores[t][0] for t in (*nbest, *found[condition])}
        found[condition] += expand(nbest, PhraseIndex(embedding.phrases), tools.tables, heard, MAX_EXPANDED)
    _score({t for texts in found.values() for t in texts}, scores, encoded, tools.recognizer)
    decoded = Decoded(row, nbest, tuple(scores[t] for t in nbest))
    lists = [
        ContextList(decoded, c, embeddings[c], tuple(texts), tuple(scores[t] for t in texts))
        for c, texts in found.items()
    ]
    return Known(nbest, led, scores), lists


def _led(result: Result, embedding: ContextEmbedding, recognizer: Recognizer) -> tuple[str, ...]:
    graph = recognizer.compile(graph_phrases(PhraseIndex(embedding.phrases)))
    return tuple(h.text for h in candidates_of(recognizer.with_context(result, graph, NBEST).biased))


def _candidates(
    nbest: Sequence[str], led: Sequence[str], embedding: ContextEmbedding, tables: AnswerTables
) -> list[str]:
    """As the rescorer takes them: those of the search that the context's phrases led first."""
    index = PhraseIndex(embedding.phrases)
    found = dict.fromkeys((*led, *candidates(nbest, index, embedding.question, tables, MAX_CANDIDATES)))
    return [t for t in found if t not in nbest][:MAX_CANDIDATES]


def _score(texts: Set[str], scores: dict[str, Score], encoded: Encoded, recognizer: Recognizer) -> None:
    """Adds the exact scores of those texts that have none yet."""
    missing = sorted(texts - scores.keys())
    for text, forced in zip(missing, recognizer.force_score(encoded, missing) if missing else [], strict=True):
        scores[text] = (round(forced.acoustic, 3), round(forced.language, 3))


def ranked_list(decoded: Decoded, condition: str, embedding: ContextEmbedding, tables: AnswerTables) -> ContextList:
    """The list as another recogniser's, known by its texts alone; all scores are 0."""
    texts = tuple(dict.fromkeys(map(normalize, decoded.texts)))
    found = sounding_alike(texts, PhraseIndex(embedding.phrases), embedding.question, tables)
    nothing = replace(decoded, texts=texts, scores=((0.0, 0.0),) * len(texts))
    return ContextList(nothing, condition, embedding, tuple(found), ((0.0, 0.0),) * len(found))


def make_lists(
    rows: Sequence[FollowUp],
    contexts: dict[str, dict[str, Context]],
    tools: Callable[[], Tools],
    work: Path,
    progress: Progress,
    then: Callable[[ContextList, Tools], T],
    workers: int = 1,
) -> list[T]:
    """What `then` makes of every utterance's lists; what was decoded and scored by earlier runs is read again.

    tools: makes them, once in each process; it and `then` have to be picklable where workers is more than 1.
    """
    (work / "frames").mkdir(parents=True, exist_ok=True)
    path = work / "lists.jsonl"
    known = _read(path)
    jobs = [(row, contexts[row.id], known.get(row.id, Known())) for row in rows]
    out: list[T] = []
    with open(path, "a") as file:
        for done, (now, made) in enumerate(share_out(partial(_one, then), jobs, tools, workers), 1):
            row, _, before = jobs[done - 1]
            if len(now.scores) > len(before.scores):
                print(json.dumps({"id": row.id, **asdict(now)}), file=file, flush=True)
            out += made
            progress(done, len(jobs))
    return out


def _one(
    then: Callable[[ContextList, Tools], T], job: tuple[FollowUp, dict[str, Context], Known], tools: Tools
) -> tuple[Known, list[T]]:
    known, lists = lists_of(*job, tools)
    return known, [then(x, tools) for x in lists]


def share_out(
    function: Callable[[Job, Tools], T], jobs: Sequence[Job], tools: Callable[[], Tools], workers: int
) -> Iterator[T]:
    """function(job, tools) of each job in order, by so many processes, each with tools of its own; 1: by this one."""
    if workers == 1:
        own = tools()
        yield from (function(job, own) for job in jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (tools,)) as pool:
        yield from map(pickle.loads, pool.map(partial(_work, function), jobs, chunksize=4))


_of_process: list[Tools] = []
"""A worker process's own tools: process pools have no other place for them."""


def _start(tools: Callable[[], Tools]) -> None:
    torch.set_num_threads(1)
    _of_process.append(tools())


def _work(function: Callable[[Job, Tools], T], job: Job) -> bytes:
    """The pickled result: torch would hand each of its tensors over as an open file, more than a process may have."""
    return pickle.dumps(function(job, _of_process[0]))


def conditions_of(
    rows: Sequence[FollowUp], pools: dict[str, SoundAlikes], seed: int = 1
) -> dict[str, dict[str, Context]]:
    """Contexts of each row by condition; conditions that a row has nothing for are left out."""
    out: dict[str, dict[str, Context]] = {}
    for i, row in enumerate(rows):
        rng = random.Random(f"{seed} {row.id}")
        found = {
            "relevant": row.context,
            "confusable": confusable(row, pools, rng),
            "irrelevant": irrelevant(rows, i, rng),
            "anti": anti(row, pools),
        }
        out[row.id] = {name: context for name, context in found.items() if context}
    return out


def _read(path: Path) -> dict[str, Known]:
    """Lines by id, the last one of each; an unfinished last line is dropped."""
    found: dict[str, Known] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                continue
            scores = {t: (float(a), float(g)) for t, (a, g) in row["scores"].items()}
            led = {condition: tuple(texts) for condition, texts in row["led"].items()}
            found[row["id"]] = Known(tuple(row["nbest"]), led, scores)
    return found
