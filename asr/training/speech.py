"""Training speech: corpora of tar shards with manifests, decoded once into one int16 file, batched by length."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from asr.audio import SAMPLE_RATE
from asr.text import normalize

Progress = Callable[[str, int, int], None]
ALWAYS_ACOUSTIC = {"prose", "names", "command"}


@dataclass(frozen=True)
class Utterance:
    id: str
    corpus: str
    speaker: str
    text: str
    start: int
    """First sample in the cache."""
    samples: int

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE


def for_acoustic(line: dict[str, object]) -> bool:
    """Half of the follow-up turns stay unheard by the acoustic model: the rescorer learns from its errors on them."""
    if "set" not in line or line["set"] in ALWAYS_ACOUSTIC:
        return True
    return hashlib.md5(str(line["id"]).encode()).digest()[0] % 2 == 0


def _lines(manifest: Path) -> list[dict[str, object]]:
    opener = gzip.open if manifest.suffix == ".gz" else open
    with opener(manifest, "rt") as lines:
        return [json.loads(line) for line in lines]


def _decode_manifest(manifest: Path, cache: Path, progress: Progress) -> None:
    """Decodes one manifest's utterances into CACHE.raw and CACHE.jsonl; the index is written last."""
    corpus = manifest.name.split(".")[0].rsplit("-", 1)[0]
    shards: dict[str, list[dict[str, object]]] = {}
    for line in _lines(manifest):
        audio = line.get("audio", line)
        assert isinstance(audio, dict)
        if line.get("text") and not line.get("weak"):
            shards.setdefault(str(audio["shard"]), []).append(line | {"member": audio["member"]})
    total, done, at = sum(map(len, shards.values())), 0, 0
    index, bad = [], []
    with open(cache.with_suffix(".raw"), "wb") as raw:
        for shard, lines in shards.items():
            with tarfile.open(manifest.parent / shard) as tar:
                members = {m.name: m for m in tar}
                for line in lines:
                    done += 1
                    progress(corpus, done, total)
                    try:
                        member = tar.extractfile(members[str(line["member"])])
                        assert member is not None
                        samples, rate = soundfile.read(io.BytesIO(member.read()), dtype="int16")
                        if rate != SAMPLE_RATE:
                            raise ValueError(f"{rate} Hz, not {SAMPLE_RATE}")
                    except (KeyError, ValueError, soundfile.LibsndfileError) as error:
                        bad.append({"id": line["id"], "error": str(error)})
                        continue
                    raw.write(samples.tobytes())
                    index.append(
                        {
                            "id": line["id"],
                            "corpus": corpus,
                            "speaker": line["speaker"],
                            "text": normalize(str(line["text"])),
                            "start": at,
                            "samples": len(samples),
                            "acoustic": for_acoustic(line),
                        }
                    )
                    at += len(samples)
    if bad:
        cache.with_suffix(".bad.jsonl").write_text("".join(json.dumps(b) + "\n" for b in bad))
    cache.with_suffix(".jsonl").write_text("".join(json.dumps(i) + "\n" for i in index))


class SpeechCache:
    """Decoded utterances of some manifests, memory-mapped.

    Args:
        manifests: `NAME-SPLIT.jsonl.gz` files beside their tar shards.
        folder: where the decoded samples are kept; a manifest that is there already is not decoded again.
    """

    def __init__(self, manifests: list[Path], folder: Path, progress: Progress = lambda *_: None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.utterances: list[Utterance] = []
        self._raw: dict[str, npt.NDArray[np.int16]] = {}
        for manifest in manifests:
            cache = folder / manifest.name.split(".")[0]
            if not cache.with_suffix(".jsonl").exists():
                _decode_manifest(manifest, cache, progress)
            for line in map(json.loads, cache.with_suffix(".jsonl").read_text().splitlines()):
                if line.pop("acoustic") and line["text"]:
                    self.utterances.append(Utterance(**line))
                    self._raw.setdefault(line["corpus"], np.memmap(cache.with_suffix(".raw"), np.int16, "r"))

    def samples(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        raw = self._raw[utterance.corpus][utterance.start : utterance.start + utterance.samples]
        return raw.astype(np.float32) / 32768.0


def draw_epoch(
    utterances: list[Utterance], shares: dict[str, float], rng: np.random.Generator
) -> list[Utterance]:
    """Each utterance `shares[corpus]` times on average (1 where the corpus is not named)."""
    shares_of = np.array([shares.get(u.corpus, 1.0) for u in utterances])
    counts = np.floor(shares_of + rng.random(len(utterances))).astype(int)
    return [u for u, n in zip(utterances, counts, strict=True) for _ in range(n)]


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
