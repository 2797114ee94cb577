"""Packing speech into shards: bounded, the same for the same seed, resumable, speakers apart, bad files left out."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.errors import ManifestError
from asr.evaluation.jsonl import read_objects, write_objects
from recipes.acoustic import prepare_speech
from recipes.acoustic.packing import Packed, pack
from recipes.acoustic.speech import SpeechCache

LIMIT = 40_000


def tone(number: int, kind: str, seconds: float = 0.5, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    samples = 0.3 * np.sin(2 * np.pi * (200 + 40 * number) * np.arange(round(seconds * rate)) / rate)
    subtype = {"OGG": "OPUS", "WAV": "PCM_16"}[kind]
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def corpus(folder: Path, name: str, split: str, recordings: dict[str, bytes], **more: Any) -> Path:
    """A corpus in the layout of DATA/speech: one speaker for every two utterances, unless `more` says otherwise."""
    folder = folder / "speech" / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    with tarfile.open(folder / f"{name}-{split}-00.tar", "w") as tar:
        for i, (key, data) in enumerate(recordings.items()):
            member = tarfile.TarInfo(f"{key}.audio")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            lines.append({"id": f"{name}/{key}", "shard": f"{name}-{split}-00.tar", "member": member.name,
                          "speaker": f"{name}/{split}{i // 2}", "text": f"Word {key}", **more})  # fmt: skip
    write_objects(folder / f"{name}-{split}.jsonl.gz", lines)
    return folder / f"{name}-{split}.jsonl.gz"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    corpus(folder, "oggs", "train", {f"t{i:02d}": tone(i, "OGG") for i in range(30)})
    wavs = {f"w{i}": tone(i, "WAV", rate=8_000) for i in range(4)}
    corpus(folder, "wavs", "train", {**wavs, "broken": b"RIFF no more", "short": tone(1, "WAV", 0.05)})
    for split in ("dev", "test"):
        corpus(folder, "oggs", split, {f"{split}{i}": tone(i, "OGG") for i in range(4)})
    return folder


def manifests(data: Path) -> dict[str, list[Path]]:
    return {split: sorted(data.glob(f"speech/*/*-{split}.jsonl.gz")) for split in ("train", "dev", "test")}


def packing(data: Path, out: Path, seed: int = 1, splits: tuple[str, ...] = ("train", "dev")) -> Packed:
    return pack(manifests(data), splits, out, most_bytes=LIMIT, seed=seed, workers=2)


def ids(out: Path, split: str = "train") -> list[str]:
    return [line["id"] for m in sorted(out.glob(f"{split}-*.jsonl.gz")) for line in read_objects(m)]


def test_everything_usable_is_in_bounded_shards(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    packed = packing(data, out)
    assert sorted(name for name, _ in packed.problems) == ["wavs/broken", "wavs/short"]
    assert packed.utterances == 38 and packed.seconds == pytest.approx(19, abs=0.5)
    shards = sorted(out.glob("train-*.tar"))
    assert len(shards) > 2 and all(s.stat().st_size <= LIMIT for s in shards)
    assert packed.shards == len(list(out.glob("*.tar")))
    assert sorted(ids(out)) == sorted([f"oggs/t{i:02d}" for i in range(30)] + [f"wavs/w{i}" for i in range(4)])
    assert ids(out) != sorted(ids(out)) and sorted(ids(out, "dev")) == [f"oggs/dev{i}" for i in range(4)]
    bad = [line["id"] for m in out.glob("train-*.bad.jsonl") for line in read_objects(m)]
    assert sorted(bad) == ["wavs/broken", "wavs/short"]


def test_shards_are_what_training_reads(data: Path, tmp_path: Path) -> None:
    packing(data, tmp_path / "out")
    cache = SpeechCache(sorted((tmp_path / "out").glob("train-*.jsonl.gz")), tmp_path / "cache", workers=2)
    assert sorted(u.id for u in cache.utterances) == sorted(ids(tmp_path / "out"))
    by_id = {u.id: u for u in cache.utterances}
    assert by_id["oggs/t07"].corpus == "oggs" and by_id["oggs/t07"].text == "word t zero seven"
    found = np.abs(np.fft.rfft(cache.samples(by_id["wavs/w3"])[:8000])).argmax() * 2  # Hz
    assert abs(found - 320) <= 4 and by_id["wavs/w3"].seconds == pytest.approx(0.5, abs=0.01)


def test_ogg_is_taken_as_it_is(data: Path, tmp_path: Path) -> None:
    packing(data, tmp_path / "out")
    (line,) = (x for m in (tmp_path / "out").glob("train*.gz") for x in read_objects(m) if x["id"] == "oggs/t05")
    with tarfile.open(tmp_path / "out" / line["audio"]["shard"]) as tar:
        member = tar.extractfile(line["audio"]["member"])
        assert member is not None and member.read() == tone_in(data, "t05")


def tone_in(data: Path, key: str) -> bytes:
    with tarfile.open(data / "speech/oggs/oggs-train-00.tar") as tar:
        member = tar.extractfile(f"{key}.audio")
        assert member is not None
        return member.read()


def test_the_seed_decides_the_order(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        packing(data, tmp_path / name, seed, ("dev",))
    packing(data, tmp_path / "d", 1, ("train",))
    files = {name: (tmp_path / name / "dev-00.tar").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]
    assert not list((tmp_path / "d").glob("dev*"))


@pytest.mark.parametrize("missing", [1, 2])
def test_a_packing_that_was_stopped_goes_on(data: Path, tmp_path: Path, missing: int) -> None:
    packing(data, tmp_path / "whole")
    packing(data, tmp_path / "stopped")
    expected = ids(tmp_path / "whole")
    manifests_left = sorted((tmp_path / "stopped").glob("train-*.jsonl.gz"))
    kept = (tmp_path / "stopped/train-00.tar").stat().st_mtime_ns
    for manifest in manifests_left[-missing:]:
        manifest.unlink()
    again = packing(data, tmp_path / "stopped")
    assert 0 < again.utterances < 38
    assert ids(tmp_path / "stopped") == expected
    assert (tmp_path / "stopped/train-00.tar").stat().st_mtime_ns == kept
    assert packing(data, tmp_path / "stopped").utterances == 0
    assert not list((tmp_path / "stopped").glob("*.part"))


def test_speakers_of_dev_and_test_stay_out_of_train(data: Path, tmp_path: Path) -> None:
    corpus(data, "mixed", "train", {"a": tone(1, "OGG"), "b": tone(2, "OGG")}, speaker="oggs/test0")
    corpus(data, "more", "train", {"c": tone(1, "OGG")}, speaker="oggs/dev1")
    corpus(data, "most", "dev", {"d": tone(1, "OGG")}, speaker="oggs/test1")
    packed = packing(data, tmp_path / "out")
    reasons = dict(packed.problems)
    assert "train's alone" in reasons["mixed/a"] and "train's alone" in reasons["more/c"]
    assert "dev's alone" in reasons["most/d"]
    everything = ids(tmp_path / "out") + ids(tmp_path / "out", "dev")
    assert not {"mixed/a", "mixed/b", "more/c", "most/d"} & set(everything)


def test_lines_without_a_verbatim_text_and_taken_ids_are_left_out(data: Path, tmp_path: Path) -> None:
    corpus(data, "odd", "train", {"a": tone(1, "OGG")}, text="!")
    corpus(data, "weak", "train", {"b": tone(1, "OGG")}, weak=True)
    corpus(data, "zz", "train", {"c": tone(1, "OGG")}, id="oggs/t01")
    reasons = dict(packing(data, tmp_path / "out").problems)
    assert "no verbatim text" in reasons["odd/a"] and "no verbatim text" in reasons["weak/b"]
    assert "taken" in reasons["oggs/t01"]


def test_shards_of_another_plan_are_refused(data: Path, tmp_path: Path) -> None:
    packing(data, tmp_path / "out")
    with pytest.raises(ManifestError, match="another folder"):
        packing(data, tmp_path / "out", seed=7)


def test_the_command(data: Path, tmp_path: Path) -> None:
    extra = corpus(tmp_path / "more", "extra", "train", {"x": tone(3, "WAV")})
    arguments = ["--data", data, "--out", tmp_path / "out", "--extra", extra, "--shard-mb", 0.1]
    result = CliRunner().invoke(prepare_speech.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0 and "wavs/broken: " in result.stderr and "39 utterances" in result.stderr
    listed = [Path(line) for line in result.stdout.split()]
    assert listed == [*sorted((tmp_path / "out").glob("train*.gz")), *sorted((tmp_path / "out").glob("dev*.gz"))]
    assert "extra/x" in ids(tmp_path / "out")
    assert json.loads((tmp_path / "out/train.plan.json").read_text())["seed"] == 1


@pytest.mark.parametrize(("option", "reason"), [(("--splits", "train,other"), "choose among"), ((), "holds no speech")])
def test_the_command_says_what_to_change(tmp_path: Path, option: tuple[str, ...], reason: str) -> None:
    (tmp_path / "data").mkdir()
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *option]
    result = CliRunner().invoke(prepare_speech.app, arguments)
    assert result.exit_code == 2 and reason in result.stderr
