"""Packs manifests of speech into tar shards of a bounded size, each with a manifest of its own.

A shard holds a random mixture of all corpora and can be moved and trained on without the others. What is packed, and
where, follows from the manifests and the seed; a packing that was stopped goes on behind its last whole shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import soxr

from asr.audio import SAMPLE_RATE, read_container
from asr.errors import ManifestError
from asr.evaluation.jsonl import read_objects, write_objects
from asr.evaluation.recordings import AudioPlace, AudioReader, parse_audio
from asr.text import normalize
from recipes.acoustic.speech import corpus_of, decode_int16
from recipes.progress import Progress

_BLOCK = 512
_END_OF_TAR = 20 * _BLOCK
_READ_AHEAD = 64
_SHORTEST_S = 0.1
SPLITS = ("train", "dev", "test")


@dataclass
class Packed:
    """What a packing left: shards in all, and what this run wrote into them.

    problems: (id, reason) of what was left out.
    """

    shards: int = 0
    utterances: int = 0
    seconds: float = 0.0
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    line: dict[str, Any]
    corpus: str
    place: AudioPlace


_Checked = tuple[_Source, bytes | str, float]
"""A recording as Ogg, or what is wrong with it, and its seconds."""


def pack(
    manifests: Mapping[str, Sequence[Path]],
    splits: Sequence[str],
    out: Path,
    *,
    most_bytes: int,
    seed: int,
    workers: int = 1,
    progress: Progress = lambda *_: None,
) -> Packed:
    """Writes OUT/SPLIT-NN.tar and OUT/SPLIT-NN.jsonl.gz for each of `splits`.

    Args:
        manifests: for each of train, dev and test what belongs to it. A speaker of test is left out of the others, one
            of dev out of train.
        most_bytes: of a shard. workers: threads that check the recordings and encode what is not Ogg already.
    Raises:
        ManifestError: a manifest cannot be read, or OUT holds shards of another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    packed, taken = Packed(), set[str]()
    for split in reversed(SPLITS):
        sources = _gather(manifests.get(split, ()), seed, packed.problems if split in splits else [])
        speakers = {str(s.line.get("speaker")) for s in sources}
        if split in splits:
            for source in (s for s in sources if str(s.line.get("speaker")) in taken):
                packed.problems.append((source.line["id"], f"its speaker is not {split}'s alone"))
            sources = [s for s in sources if str(s.line.get("speaker")) not in taken]
            _check_plan(out / f"{split}.plan.json", sources, most_bytes, seed)
            _pack_split(sources, out, split, most_bytes, workers, packed, progress)
        taken |= speakers
    return packed


def _gather(manifests: Sequence[Path], seed: int, problems: list[tuple[str, str]]) -> list[_Source]:
    """The manifests' usable lines in their order in the shards."""
    sources: dict[str, _Source] = {}
    for manifest in manifests:
        for line in read_objects(manifest):
            name = str(line.get("id") or "")
            if not name or name in sources:
                problems.append((name, f"{manifest.name}: its id is {'taken' if name else 'missing'}"))
            elif line.get("weak") or not normalize(str(line.get("text") or "")):
                problems.append((name, "it has no verbatim text"))
            else:
                corpus = str(line.get("corpus") or corpus_of(manifest))
                sources[name] = _Source(line, corpus, parse_audio(line, manifest.parent))
    order = sorted(sources)
    random.Random(seed).shuffle(order)
    return [sources[name] for name in order]


def _check_plan(path: Path, sources: Sequence[_Source], most_bytes: int, seed: int) -> None:
    digest = hashlib.sha256("\n".join(s.line["id"] for s in sources).encode()).hexdigest()
    plan = {"seed": seed, "most_bytes": most_bytes, "utterances": len(sources), "sha256_of_ids": digest}
    if path.exists() and json.loads(path.read_text()) != plan:
        raise ManifestError(f"{path} is the plan of other speech, sizes or seed: choose another folder or empty it")
    path.write_text(json.dumps(plan, indent=1) + "\n")


def _pack_split(
    sources: Sequence[_Source],
    out: Path,
    split: str,
    most_bytes: int,
    workers: int,
    packed: Packed,
    progress: Progress,
) -> None:
    place = {source.line["id"]: i for i, source in enumerate(sources)}
    done, at = 0, 0
    while (whole := out / f"{split}-{done:02d}.jsonl.gz").exists():
        at = place[list(read_objects(whole))[-1]["id"]] + 1
        done += 1

    def counted() -> Iterator[_Checked]:
        for count, found in enumerate(_checked(sources[at:], workers), at + 1):
            progress(f"packing {split}", count, len(sources))
            yield found

    for number, (members, bad) in enumerate(_fill(counted(), most_bytes), done):
        packed.problems += [(b["id"], b["error"]) for b in bad]
        if not members:
            continue
        lines = _write_shard(out / f"{split}-{number:02d}.tar", members)
        if bad:
            write_objects(out / f"{split}-{number:02d}.bad.jsonl", bad)
        write_objects(out / f"{split}-{number:02d}.jsonl.gz", lines)
        packed.utterances += len(lines)
        packed.seconds += sum(line["duration_s"] for line in lines)
    packed.shards += len(list(out.glob(f"{split}-*.jsonl.gz")))


def _fill(checked: Iterator[_Checked], most_bytes: int) -> Iterator[tuple[list[_Checked], list[dict[str, str]]]]:
    """What goes into each shard, and what was found bad on the way."""
    size, members, bad = _END_OF_TAR, list[_Checked](), list[dict[str, str]]()
    for found in checked:
        source, audio, _ = found
        if isinstance(audio, str):
            bad.append({"id": source.line["id"], "error": audio})
            continue
        room = _BLOCK + -(-len(audio) // _BLOCK) * _BLOCK
        if members and size + room > most_bytes:
            yield members, bad
            size, members, bad = _END_OF_TAR, [], []
        members.append(found)
        size += room
    if members or bad:
        yield members, bad


def _write_shard(path: Path, members: Sequence[_Checked]) -> list[dict[str, Any]]:
    """Writes the tar file and returns the lines of its manifest."""
    lines, part = [], path.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for source, audio, seconds in members:
            assert isinstance(audio, bytes)
            member = tarfile.TarInfo(f"{source.line['id']}.opus")
            member.size = len(audio)
            tar.addfile(member, io.BytesIO(audio))
            lines.append(_line(source, path.name, member.name, seconds))
    part.replace(path)
    return lines


def _line(source: _Source, shard: str, member: str, seconds: float) -> dict[str, Any]:
    kept = {k: v for k, v in source.line.items() if k not in ("audio", "shard", "member")}
    audio = {"shard": shard, "member": member}
    return {**kept, "audio": audio, "corpus": source.corpus, "duration_s": round(seconds, 3)}


def _checked(sources: Sequence[_Source], workers: int) -> Iterator[_Checked]:
    with AudioReader() as reader, ThreadPoolExecutor(workers) as pool:

        def read(source: _Source) -> bytes | str:
            try:
                return reader.read(source.place)
            except ManifestError as error:
                return str(error)

        for first in range(0, len(sources), _READ_AHEAD):
            some = sources[first : first + _READ_AHEAD]
            audio = pool.map(_as_ogg, [read(source) for source in some])
            yield from ((source, *found) for source, found in zip(some, audio, strict=True))


def _as_ogg(data: bytes | str) -> tuple[bytes | str, float]:
    if isinstance(data, str):
        return data, 0.0
    try:
        if not data.startswith(b"OggS"):
            data = _encode(data)
        seconds = len(decode_int16(data)) / SAMPLE_RATE
    except ValueError as error:  # AudioError is one
        return str(error), 0.0
    return (data, seconds) if seconds >= _SHORTEST_S else (f"it is {seconds:.3f} s long", 0.0)


def _encode(data: bytes) -> bytes:
    """A WAV or FLAC file as Ogg Opus at 16 kHz, about 26 kbit/s; only its serial number differs from run to run."""
    samples, rate = read_container(data)
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(samples, rate, SAMPLE_RATE), SAMPLE_RATE, format="OGG", subtype="OPUS")
    return file.getvalue()
