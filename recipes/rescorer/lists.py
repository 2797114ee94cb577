"""Collects what the recogniser has heard of answers, to fit what a context's score counts.

    python -m recipes.rescorer.lists MANIFEST... --out LISTS [--conditions relevant,irrelevant,anti] [--limit 200]

Every recording is heard twice, with the second pass and without, and each time the hypotheses that a context is asked
about (those of the n-best and the context's candidates) are written with their scores, a line of LISTS for each
recording, condition and way of hearing. Runs that are stopped go on behind the last whole line.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from asr.audio import read_container
from asr.commands.terminal import give_up
from asr.context.checkpoint import ContextModels
from asr.context.phrases import candidates_of
from asr.context.types import Context, Entry, Turn
from asr.errors import AsrError
from asr.evaluation.conditions import context_for
from asr.evaluation.jsonl import read_objects
from asr.evaluation.manifest import Utterance, read_manifest
from asr.evaluation.recordings import AudioReader
from asr.evaluation.run import prepare, recognise
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Hypothesis, Result
from recipes.acoustic.speech import for_acoustic

_NBEST = 16


@dataclass(frozen=True)
class HypothesisList:
    """An utterance's hypotheses that a context is asked about, the plain 1-best first.

    make, kind: of the manifest's line, where it says. meant: the context holds what is meant. scored: (text,
    acoustic, language, attention), nats; the first `heard` are the n-best. attended: the attention decoder heard it.
    """

    id: str
    make: str
    kind: str
    condition: str
    meant: bool
    reference: str
    attended: bool
    context: Context
    scored: tuple[tuple[str, float, float, float], ...]
    heard: int

    def hypotheses(self) -> list[Hypothesis]:
        return [Hypothesis(text, acoustic=a, language=g, attention=t) for text, a, g, t in self.scored]


def read_lists(path: Path) -> Iterator[HypothesisList]:
    """What `main` wrote. Raises OSError."""
    for row in read_objects(path):
        turns = tuple(Turn(t["speaker"], t["text"]) for t in row["context"]["turns"])
        entries = tuple(Entry(e["signal"], e["text"]) for e in row["context"]["entries"])
        scored = tuple(map(tuple, row["scored"]))
        yield HypothesisList(**row | {"context": Context(turns, entries), "scored": scored})


def hypothesis_list(
    recognizer: Recognizer, result: Result, context: Context, models: ContextModels
) -> tuple[list[Hypothesis], int]:
    """The hypotheses of a final result that a context is asked about, and how many of them the n-best has; none where
    nothing is said."""
    if result.encoded is None or not result.nbest[0].text:
        return [], 0
    bundle = prepare(context, models, recognizer)
    found = recognizer.with_context(result, bundle.graph, _NBEST)
    nbest = (*found.nbest, *candidates_of(found.biased))
    force_score = partial(recognizer.force_score, result.encoded)
    return models.rescorer.scored(nbest, bundle.embedding.question, bundle.index, force_score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--conditions", default="relevant")
    parser.add_argument("--limit", type=int, help="recordings of each manifest")
    parser.add_argument("--unheard", action="store_true", help="only recordings that train_acoustic leaves out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    conditions: list[str] = args.conditions.split(",")
    try:
        known = {row["id"] for row in read_objects(args.out)} if args.out.exists() else set()
        ears = [(True, Recognizer.load()), (False, Recognizer.load(second_pass=False))]
        models = ContextModels.load(models=ears[0][1].models)
        with AudioReader() as audio, open(args.out, "a", encoding="utf-8") as out:
            for manifest in args.manifests:
                utterances, lines = chosen(manifest, args.limit, args.unheard)
                for index, utterance in enumerate(track(utterances, manifest.name, console=Console(stderr=True))):
                    if utterance.id in known:
                        continue
                    samples, rate = read_container(audio.read(utterance.audio))
                    make, rows = str(lines[utterance.id].get("make", "follow-ups")), []
                    for attended, recognizer in ears:
                        result = recognise(recognizer, samples, rate, _NBEST)
                        for condition in conditions:
                            context = context_for(condition, utterances, index, 0) or Context()
                            hypotheses, heard = hypothesis_list(recognizer, result, context, models)
                            texts = [(h.text, h.acoustic, h.language, h.attention) for h in hypotheses]
                            meant = condition == "relevant" and utterance.target != ""
                            rows.append(asdict(HypothesisList(
                                utterance.id, make, utterance.set, condition, meant, utterance.reference, attended,
                                context, tuple(texts), heard,
                            )))  # fmt: skip
                    out.writelines(json.dumps(row) + "\n" for row in rows)
                    out.flush()
    except (AsrError, OSError) as error:
        give_up(error)


def chosen(manifest: Path, limit: int | None, unheard: bool) -> tuple[Sequence[Utterance], dict[str, dict[str, Any]]]:
    """Utterances of a manifest in a fixed random order, and its lines by id."""
    lines = {str(line["id"]): line for line in read_objects(manifest)}
    utterances = [u for u in read_manifest(manifest)[0] if not unheard or not for_acoustic(lines[u.id])]
    random.Random(1).shuffle(utterances)
    return utterances[:limit], lines


if __name__ == "__main__":
    main()
