"""Training speech: corpora of tar shards with manifests, decoded once into int16 files, batched by length."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from asr.audio import SAMPLE_RATE
from asr.errors import ManifestError
from asr.evaluation.jsonl import read_objects, write_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from asr.text import normalize
from recipes.progress import Progress

ALWAYS_ACOUSTIC = {"prose", "names", "command"}
NOT_VERBATIM = ("untranscribed", "alnum_weak")
"""Corpora without a text of what was really said."""
SINGLE_WORDS = ("speech_commands",)
_READ_AHEAD = 256


@dataclass(frozen=True)
class Utterance:
    id: str
    corpus: str
    speaker: str
    text: str
    start: int
    """First sample in the cache's file."""
    samples: int
    file: str = ""
    """Name of the cache's file."""
    then: tuple[Utterance, ...] = ()
    """Said next in one breath; `text` and `seconds` are of the whole."""

    @property
    def seconds(self) -> float:
        return sum(u.samples for u in (self, *self.then)) / SAMPLE_RATE


def for_acoustic(line: dict[str, Any]) -> bool:
    """Half of the follow-up turns stay unheard by the acoustic model: the rescorer learns from its errors on them."""
    if "set" not in line or line["set"] in ALWAYS_ACOUSTIC:
        return True
    return hashlib.md5(str(line["id"]).encode()).digest()[0] % 2 == 0


def find_manifests(data: Path, split: str) -> list[Path]:
    """The manifests of a split ("train", "dev", "test") with verbatim texts: DATA/speech/*/ and DATA/followups/.

    Raises:
        ManifestError: there are none.
    """
    found = [*data.glob(f"speech/*/*-{split}.jsonl.gz"), *data.glob(f"followups/*-{split}.jsonl.gz")]
    found = [m for m in sorted(found) if not m.name.startswith(NOT_VERBATIM)]
    if not found:
        raise ManifestError(f"{data}: holds no speech/*/*-{split}.jsonl.gz; give the folder that has speech/")
    return found


def corpus_of(manifest: Path) -> str:
    """NAME of a manifest NAME-SPLIT.jsonl.gz."""
    return manifest.name.split(".")[0].rsplit("-", 1)[0]


def decode_int16(data: bytes) -> npt.NDArray[np.int16]:
    """(n,) samples of an audio file at 16 kHz, mono.

    Raises:
        ValueError: it cannot be decoded, or is something else.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    if rate != SAMPLE_RATE or samples.ndim != 1 or not len(samples):
        raise ValueError(f"{len(samples)} samples at {rate} Hz; a recording has to be mono {SAMPLE_RATE} Hz")
    return np.asarray(samples, np.int16)


def decode_all(lines: Sequence[dict[str, Any]], folder: Path, workers: int) -> Iterator[npt.NDArray[np.int16] | str]:
    """For each line of a manifest in `folder` its samples, or why there are none; decoded on `workers` threads."""
    with AudioReader() as reader, ThreadPoolExecutor(workers) as pool:

        def read(line: dict[str, Any]) -> bytes | str:
            try:
                return reader.read(parse_audio(line, folder))
            except ManifestError as error:
                return str(error)

        for first in range(0, len(lines), _READ_AHEAD):
            yield from pool.map(_decode_or_reason, [read(line) for line in lines[first : first + _READ_AHEAD]])


def _decode_or_reason(data: bytes | str) -> npt.NDArray[np.int16] | str:
    if isinstance(data, str):
        return data
    try:
        return decode_int16(data)
    except ValueError as error:
        return str(error)


def _decode_manifest(manifest: Path, cache: Path, workers: int, progress: Progress) -> None:
    """Decodes one manifest's utterances into CACHE.raw and CACHE.jsonl; the index is written last."""
    lines = [line for line in read_objects(manifest) if line.get("text") and not line.get("weak")]
    lines.sort(key=lambda line: str(line.get("audio", line).get("shard", "")))
    index, bad, at = [], [], 0
    with open(cache.with_suffix(".raw"), "wb") as raw:
        for done, (line, samples) in enumerate(zip(lines, decode_all(lines, manifest.parent, workers), strict=True), 1):
            progress(f"decoding {corpus_of(manifest)}", done, len(lines))
            if isinstance(samples, str):
                bad.append({"id": line["id"], "error": samples})
                continue
            raw.write(samples.tobytes())
            index.append(
                {
                    "id": line["id"],
                    "corpus": str(line.get("corpus") or corpus_of(manifest)),
                    "speaker": line["speaker"],
                    "text": normalize(str(line["text"])),
                    "start": at,
                    "samples": len(samples),
                    "acoustic": for_acoustic(line),
                }
            )
            at += len(samples)
    if bad:
        write_objects(cache.with_suffix(".bad.jsonl"), bad)
    write_objects(cache.with_suffix(".jsonl"), index)


class SpeechCache:
    """Decoded utterances of some manifests, memory-mapped.

    Args:
        manifests: `NAME-SPLIT.jsonl.gz` files beside their tar shards; a line's `corpus` goes before NAME.
        folder: where the decoded samples are kept; a manifest that is there already is not decoded again.
        workers: threads that decode.
    """

    def __init__(
        self, manifests: Sequence[Path], folder: Path, progress: Progress = lambda *_: None, workers: int = 1
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.utterances: list[Utterance] = []
        self._raw: dict[str, npt.NDArray[np.int16]] = {}
        for manifest in manifests:
            name = manifest.name.split(".")[0]
            if not (folder / f"{name}.jsonl").exists():
                _decode_manifest(manifest, folder / name, workers, progress)
            for line in read_objects(folder / f"{name}.jsonl"):
                if line.pop("acoustic") and line["text"]:
                    self.utterances.append(Utterance(**line, file=name))
            if (folder / f"{name}.raw").stat().st_size:
                self._raw[name] = np.memmap(folder / f"{name}.raw", np.int16, "r")

    def samples(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """(n,) at 16 kHz, -1 to 1."""
        said = [
            self._raw[u.file][u.start : u.start + u.samples].astype(np.float32) / 32768.0
            for u in (utterance, *utterance.then)
        ]
        return said[0] if len(said) == 1 else np.concatenate([trim(x) for x in said])


def trim(samples: npt.NDArray[np.float32], margin_s: float = 0.06) -> npt.NDArray[np.float32]:
    """Without the silence (10 ms blocks 30 dB below the loudest) at both ends, but for a margin."""
    blocks = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    power = np.square(blocks).mean(1)
    loud = np.flatnonzero(power > 1e-3 * power.max(initial=0.0))
    if not len(loud):
        return samples
    margin = int(margin_s * SAMPLE_RATE)
    return samples[max(0, loud[0] * 160 - margin) : (loud[-1] + 1) * 160 + margin]


def say_in_a_row(words: Sequence[Utterance], rng: np.random.Generator) -> list[Utterance]:
    """Half of these one-word utterances as they are, the others joined to strings of 2 to 6 of a speaker's.

    Every fourth word comes twice: that it was said again must not be taken for its echo.
    """
    of: dict[str, list[Utterance]] = {}
    out = []
    for i in rng.permutation(len(words)):
        if rng.random() < 0.5:
            out.append(words[i])
        else:
            of.setdefault(words[i].speaker, []).append(words[i])
    for mine in of.values():
        row = [w for word in mine for w in [word] * (1 + int(rng.random() < 0.25))]
        while row:
            count = int(rng.integers(2, 7))
            first, *then = row[:count]
            out.append(replace(first, then=tuple(then), text=" ".join(w.text for w in row[:count])))
            row = row[count:]
    return out


def draw_epoch(utterances: list[Utterance], shares: dict[str, float], rng: np.random.Generator) -> list[Utterance]:
    """Each utterance `shares[corpus]` times on average (1 where the corpus is not named)."""
    shares_of = np.array([shares.get(u.corpus, 1.0) for u in utterances])
    counts = np.floor(shares_of + rng.random(len(utterances))).astype(int)
    drawn = [u for u, n in zip(utterances, counts, strict=True) for _ in range(n)]
    words = [u for u in drawn if u.corpus in SINGLE_WORDS]
    return [u for u in drawn if u.corpus not in SINGLE_WORDS] + say_in_a_row(words, rng)


def batches(utterances: list[Utterance], seconds: float, rng: np.random.Generator) -> Iterator[list[Utterance]]:
    """Batches of similar length, at most `seconds` long with padding, in random order."""
    keyed = sorted(utterances, key=lambda u: u.seconds * rng.uniform(0.9, 1.1))
    out: list[list[Utterance]] = [[]]
    for utterance in keyed:
        longest = max([utterance.seconds, *(u.seconds for u in out[-1])])
        if out[-1] and longest * (len(out[-1]) + 1) > seconds:
            out.append([])
        out[-1].append(utterance)
    for i in rng.permutation(len(out)):
        yield out[i]
