"""Synthesised training speech: repeatable, resumable, without names of dev and test."""

from __future__ import annotations

import gzip
import shutil
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.audio import Samples
from asr.errors import ModelError
from asr.evaluation.jsonl import read_objects
from recipes.acoustic.speech import SpeechCache
from recipes.synthesis import synthesize_speech
from recipes.synthesis.corpus import held_out_names, of_train, prompts, synthesize
from recipes.synthesis.kokoro import Kokoro
from recipes.synthesis.voices import Espeak, Festival, Piper

HELD_OUT = next(name for name in ("meg", "pia", "ada", "ida", "eva", "zoe", "amy", "una") if not of_train(name))


class Tones:
    """Says every text as a tone as long as the text; cannot say q."""

    name, voices, share = "tones", ("low", "high"), 1.0

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        if "q" in text:
            raise ValueError("no q")
        pitch = {"low": 200, "high": 900}[voice] * rng.uniform(0.9, 1.1)
        return (0.3 * np.sin(2 * np.pi * pitch * np.arange(1600 * len(text)) / 16_000)).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    names = [f"{a}{b}" for a in ("mar", "lin", "tor", "queb", "sal") for b in ("a", "en", "ito", "win", "ley", "os")]
    texts = {
        "names/given_names.tsv.gz": ["name\tcount", f"{HELD_OUT.title()}\t1", *(f"{n.title()}\t1" for n in names)],
        "names/surnames.tsv.gz": ["name\tcount", *(f"{n.title()}son\t1" for n in names)],
        "commands/some.txt.gz": ["turn on the lights\ttrain\tx", "never say this\ttest\tx"],
        "prose/prompts.tsv.gz": ["it was a dark night\tIt was a dark night.\tx", f"so said {HELD_OUT}\tSo.\tx"],
        "wordfreq.tsv.gz": ["word\tzipf", "the\t7", "night\t5"],
    }
    for name, lines in texts.items():
        path = tmp_path / "data/text" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path / "data"


def test_prompts_hold_no_names_of_dev_and_test(data: Path) -> None:
    said = prompts(data, 90, np.random.default_rng(0))
    assert len(set(said)) == 90 and "never say this" not in said
    assert {"turn on the lights", "it was a dark night"} <= set(said)
    held_out = held_out_names(data)
    assert any(text.startswith("number ") for text in said)
    assert HELD_OUT in held_out and not {word for text in said for word in text.split()} & held_out


def test_it_speaks_resumes_and_is_what_training_reads(data: Path, tmp_path: Path) -> None:
    failed = synthesize(data, tmp_path / "a", 25, 3, [Tones()], per_shard=10)
    lines = list(read_objects(tmp_path / "a/synthesis-train.jsonl.gz"))
    assert len(lines) + len(failed) == 25 and 0 < len(failed) < 10 and "no q" in failed[0]
    assert {line["speaker"] for line in lines} == {"tones/low", "tones/high"}
    cache = SpeechCache([tmp_path / "a/synthesis-train.jsonl.gz"], tmp_path / "cache")
    assert [u.text for u in cache.utterances] == [line["text"] for line in lines]
    assert cache.utterances[0].corpus == "synthesis"

    stopped = synthesize(data, tmp_path / "b", 25, 3, [Tones()], per_shard=10, limit_s=0)
    assert stopped == [] and not list(read_objects(tmp_path / "b/synthesis-train.jsonl.gz"))
    synthesize(data, tmp_path / "b", 25, 3, [Tones()], per_shard=10)
    (tmp_path / "b/synthesis-train-01.jsonl").unlink()
    kept = (tmp_path / "b/synthesis-train-02.tar").read_bytes()
    synthesize(data, tmp_path / "b", 25, 3, [Tones()], per_shard=10)
    assert list(read_objects(tmp_path / "b/synthesis-train.jsonl.gz")) == lines
    assert (tmp_path / "b/synthesis-train-02.tar").read_bytes() == kept
    with tarfile.open(tmp_path / "b/synthesis-train-01.tar") as tar:
        assert len(tar.getnames()) == sum("train-01" in line["audio"]["shard"] for line in lines)


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--engines", "siri"), "'siri' is not known"), (("--engines", ""), "no engine"),
     (("--engines", "", "--piper-voice", "absent.onnx"), "absent.onnx|piper-tts is not installed"),
     (("--engines", "", "--kokoro", "absent"), "npz missing|piper-tts is not installed")],
)  # fmt: skip
def test_the_command_says_what_is_missing(data: Path, tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(synthesize_speech.app, arguments)
    assert result.exit_code == 2 and any(part in result.stderr for part in reason.split("|"))


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="espeak-ng not found"):
        Espeak()


def test_festival_speaks_with_its_english_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that stand for festival: which voices there are, and what text2wave is told."""
    soundfile.write(tmp_path / "said.wav", np.full(3200, 0.25), 32_000)
    scripts = {
        "festival": 'echo "(cmu_us_slt_arctic_hts kal_diphone czech_ph)"',
        "text2wave": f"{{ printf '%s\\n' \"$@\"; /bin/cat; }} > {tmp_path}/told; /bin/cat {tmp_path}/said.wav",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = Festival()
    assert engine.voices == ("cmu_us_slt_arctic_hts", "kal_diphone")
    for voice, speed in (("cmu_us_slt_arctic_hts", "hts_engine_params"), ("kal_diphone", "Duration_Stretch")):
        said = engine.say("call meg", voice, np.random.default_rng(0))
        assert len(said) == 1600 and np.abs(said - 0.25).max() < 0.1
        told = (tmp_path / "told").read_text()
        assert f"(voice_{voice})" in told and speed in told and told.endswith("call meg")
    (tmp_path / "festival").write_text('#!/bin/sh\necho "(czech_ph)"\n')
    with pytest.raises(ValueError, match="festvox-us-slt-hts"):
        Festival()


@pytest.mark.skipif(shutil.which("text2wave") is None, reason="festival is not installed")
def test_festival_itself_says_more_when_there_is_more_to_say() -> None:
    engine = Festival()
    short, long = (engine.say(t, engine.voices[0], np.random.default_rng(0)) for t in ("yes", "yes " * 6))
    assert len(long) > 2 * len(short) > 2000 and np.abs(short).max() > 0.05


def test_kokoro_speaks_with_speakers_that_no_test_set_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that stand for onnxruntime and piper: what the model is given, and what becomes of what it says."""
    asked: dict[str, np.ndarray] = {}

    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            asked.update(inputs)
            return [np.pad(np.full(12_000, 0.25, np.float32), 24_000)[None]]

    class Phonemizer:
        def phonemize(self, accent: str, text: str) -> list[list[str]]:
            return [list({"en-us": "moʊ", "en-gb-x-rp": "məʊ"}[accent])]

    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=Session)
    phonemes = SimpleNamespace(EspeakPhonemizer=Phonemizer)
    for name, module in (("onnxruntime", runtime), ("piper", SimpleNamespace()), ("piper.phonemize_espeak", phonemes)):
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(ModelError, match=r"kokoro-voices-54-fp16\.npz missing"):
        Kokoro(tmp_path)
    (tmp_path / "kokoro-v1.0-int8.onnx").touch()
    styles = {n: np.full((510, 4), i, np.float16) for i, n in enumerate(("af_heart", "bm_lewis", "am_eric"))}
    np.savez(tmp_path / "kokoro-voices-54-fp16.npz", **styles)  # type: ignore[arg-type]
    engine = Kokoro(tmp_path)
    assert set(engine.voices) <= {"af_heart", "bm_lewis", "af_heart+bm_lewis", "bm_lewis+af_heart"}
    said = engine.say("mo", "af_heart+bm_lewis", np.random.default_rng(0))
    assert asked["tokens"].tolist() == [[0, 55, 31, 0]] and asked["style"].tolist() == [[0.5] * 4]
    assert len(said) == 16_000 * 0.7 and np.abs(said[1700:9500] - 0.25).max() < 0.01
    engine.say("mo", "bm_lewis", np.random.default_rng(0))
    assert asked["tokens"].tolist() == [[0, 55, 33, 0]]


def test_piper_needs_its_voice(tmp_path: Path) -> None:
    pytest.importorskip("piper")
    with pytest.raises(ValueError, match="onnx.json beside it"):
        Piper(tmp_path / "absent.onnx")
