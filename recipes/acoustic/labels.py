"""Pseudo-labels: what two recognisers that know nothing of each other both hear in a recording without a text.

Where their texts are nearly the same, the first one's becomes the recording's; the rest is left out (agreement as a
filter, after the committees of Huang et al. 2013, "Semi-supervised GMM and DNN acoustic model training").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.audio import read_at_16k
from asr.context.types import Context
from asr.errors import AudioError, ManifestError
from asr.evaluation.alternatives import closest
from asr.evaluation.jsonl import read_objects, write_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from asr.evaluation.wer import align_words, count
from benchmarks.peers.recognizers import Transcribe, what_failed
from recipes.progress import Progress


def apart(first: str, second: str) -> tuple[float, str]:
    """How far two texts differ, in errors per word of the longer one, and the first as it is spoken.

    Figures and abbreviations have several spoken forms; those with the fewest errors are taken. 1.0 where one of the
    texts is empty.
    """
    one, other = closest(first, second)
    if not one or not other:
        return 1.0, ""
    return count(align_words(one, other)).total / max(len(one), len(other)), " ".join(one)


def label(
    manifest: Path,
    out: Path,
    recognizers: Mapping[str, Transcribe],
    most_apart: float,
    progress: Progress = lambda *_: None,
) -> tuple[list[dict[str, Any]], int, list[tuple[str, str]]]:
    """Writes OUT/labelled-train.jsonl.gz: the manifest's lines whose two texts agree, each with `text` and `apart`.

    What was heard is kept in OUT/heard.jsonl, so that a run that was stopped goes on, and another bound takes seconds.

    Args:
        recognizers: two, by name; the first one's texts are taken.
        most_apart: the largest `apart` that is kept.
    Returns:
        The lines written, how many recordings were heard, and (id, reason) of those that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = list(read_objects(manifest))
    kept, problems = [], []
    known = out / "heard.jsonl"
    heard = {line["id"]: line["texts"] for line in read_objects(known)} if known.exists() else {}
    with AudioReader() as audio, open(known, "a") as file:
        for done, line in enumerate(lines, 1):
            place = parse_audio(line, manifest.parent)
            texts = heard.get(line["id"], {})
            if missing := [name for name in recognizers if name not in texts]:
                try:
                    samples = read_at_16k(audio.read(place))
                except (AudioError, ManifestError) as error:
                    problems.append((str(line["id"]), str(error)))
                    continue
                try:
                    texts = texts | {name: recognizers[name](samples, Context()).text for name in missing}
                except Exception as error:  # of another's package: the other recordings are labelled all the same
                    problems.append((str(line["id"]), f"a recogniser failed ({what_failed(error)})"))
                    continue
                file.write(json.dumps({"id": line["id"], "texts": texts}) + "\n")
                file.flush()
            progress("listening", done, len(lines))
            first, second = (texts[name] for name in recognizers)
            rate_apart, text = apart(first, second)
            if rate_apart <= most_apart:
                where = {"shard": str(place.path.resolve()), "member": place.member}
                if place.member is None:
                    where = {"path": str(place.path.resolve())}
                kept.append({**line, "text": text, "audio": where, "apart": round(rate_apart, 3)})
    write_objects(out / "labelled-train.jsonl.gz", kept)
    return kept, len(lines) - len(problems), problems
