"""Training on shards from a folder: in time, with a checkpoint in parts that goes on elsewhere."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner, Result

from asr.acoustic import load_model, save_model
from asr.acoustic.transducer import Transducer
from asr.errors import ModelError
from asr.evaluation.jsonl import write_objects
from asr.text.tokenizer import Tokenizer
from recipes.acoustic import train_shards
from recipes.acoustic.parts import join_checkpoint, split_checkpoint
from recipes.acoustic.training import Recipe, load_state, save_state, start_state


@pytest.fixture
def shards(tmp_path: Path, tiny_tokenizer: Tokenizer) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for split, count in (("train", 12), ("dev", 4)):
        lines = []
        with tarfile.open(folder / f"{split}-00.tar", "w") as tar:
            for i in range(count):
                file = io.BytesIO()
                tone = 0.3 * np.sin(2 * np.pi * (300 if i % 2 else 2000) * np.arange(9600) / 16_000)
                soundfile.write(file, tone, 16_000, format="OGG", subtype="OPUS")
                member = tarfile.TarInfo(f"{i}.opus")
                member.size = len(file.getvalue())
                tar.addfile(member, io.BytesIO(file.getvalue()))
                audio = {"shard": f"{split}-00.tar", "member": member.name}
                lines.append({"id": f"{split}/{i}", "audio": audio, "corpus": "tones" if i < 3 else "others",
                              "speaker": "s", "text": "yes" if i % 2 else "no"})  # fmt: skip
        write_objects(folder / f"{split}-00.jsonl.gz", lines)
    (folder / "tokens.model").write_bytes(tiny_tokenizer.proto)
    return folder


def run(shards: Path, work: Path, parts: Path, *more: object) -> Result:
    arguments = (shards, "--work", work, "--parts", parts, "--tokens", shards / "tokens.model", "--preset", "tiny",
                 "--device", "cpu", "--batch-s", 4, "--workers", 1, *more)  # fmt: skip
    return CliRunner().invoke(train_shards.app, [str(a) for a in arguments], catch_exceptions=False)


def test_it_trains_in_time_and_goes_on_elsewhere(shards: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    first = run(shards, tmp_path / "here", parts, "--minutes", 0.08)
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert result["steps"] > 0
    assert {p.name for p in parts.iterdir()} == {"checkpoint.json", "checkpoint-0.bin", "log.jsonl", "result.json"}
    again = run(shards, tmp_path / "there", parts, "--minutes", 0.08)
    assert again.exit_code == 0
    later = json.loads((parts / "result.json").read_text())
    assert later["steps"] > result["steps"] and later["hours"] > result["hours"]
    model, tokenizer, version = load_model(tmp_path / "there/model")
    assert model.vocab_size == tokenizer.vocab_size and version == later["model"]
    exported = run(shards, tmp_path / "third", parts, "--minutes", 0)
    last = json.loads(exported.stdout)
    assert exported.exit_code == 0 and last["steps"] == later["steps"]
    assert last["dev_utterances"] == {"others": 1, "tones": 3}  # without a limit, all of dev
    for way in ("ctc", "rnnt", "whole"):
        assert set(last[f"dev_wer_{way}"]) == {"others", "tones"}
    assert len((parts / "log.jsonl").read_text().splitlines()) >= 3


def test_it_starts_from_a_model(
    shards: Path, tmp_path: Path, tiny_model: Transducer, tiny_tokenizer: Tokenizer
) -> None:
    save_model(tmp_path / "model", tiny_model, tiny_tokenizer, "given")
    result = run(shards, tmp_path / "work", tmp_path / "parts", "--minutes", 0, "--start", tmp_path / "model")
    assert result.exit_code == 0 and json.loads(result.stdout)["steps"] == 0
    given, kept = load_model(tmp_path / "model")[0], load_model(tmp_path / "work/model")[0]
    assert torch.allclose(given.ctc_out.weight, kept.ctc_out.weight, rtol=1e-5)  # packed a second time


@pytest.mark.parametrize(
    ("spoil", "more", "reason"),
    [
        (lambda f: (f / "dev-00.jsonl.gz").unlink(), (), "no dev-NN.jsonl.gz"),
        (lambda f: None, ("--start", "absent"), "absent"),
        (lambda f: None, ("--device", "cuda"), "no GPU"),
    ],
)
def test_it_says_what_is_missing(
    shards: Path, tmp_path: Path, spoil: object, more: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spoil(shards)  # type: ignore[operator]
    result = run(shards, tmp_path / "work", tmp_path / "parts", *more)
    assert result.exit_code == 2 and reason in result.stderr


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_tokenizer: Tokenizer) -> Path:
    """A tiny model after three steps of Adam on noise."""
    state = start_state(Recipe(preset="tiny"), tiny_tokenizer, None, "cpu")
    generator = torch.Generator().manual_seed(1)
    for group in state.optimizer.param_groups:
        group["lr"] = 1e-3
    for _ in range(3):
        for weight in state.model.parameters():
            weight.grad = 1e-3 * torch.randn(weight.shape, generator=generator)
        state.optimizer.step()
        state.step += 1
    state.seconds = 12.5
    save_state(state, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def test_parts_join_to_nearly_the_same_state(checkpoint: Path, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    paths = split_checkpoint(checkpoint, tmp_path / "parts", 60_000)
    assert len(paths) > 2 and all(p.stat().st_size <= 60_000 for p in paths)
    assert sum(p.stat().st_size for p in paths) < 0.6 * checkpoint.stat().st_size
    join_checkpoint(tmp_path / "parts", tmp_path / "joined.pt")
    before, after = (start_state(Recipe(preset="tiny"), tiny_tokenizer, None, "cpu") for _ in range(2))
    load_state(before, checkpoint)
    load_state(after, tmp_path / "joined.pt")
    assert (after.step, after.seconds, after.epoch) == (3, 12.5, 0)
    for old, new in zip(before.model.parameters(), after.model.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-5)
        moments, kept = before.optimizer.state[old], after.optimizer.state[new]
        assert kept["step"] == moments["step"]
        torch.testing.assert_close(kept["exp_avg_sq"], moments["exp_avg_sq"], rtol=5e-3, atol=1e-30)
        error = (kept["exp_avg"] - moments["exp_avg"]).abs().max()
        assert error < 0.04 * moments["exp_avg"].abs().max()


def test_fewer_parts_than_before_leave_no_old_ones(checkpoint: Path, tmp_path: Path) -> None:
    split_checkpoint(checkpoint, tmp_path / "parts", 60_000)
    assert len(split_checkpoint(checkpoint, tmp_path / "parts")) == 2 == len(list((tmp_path / "parts").iterdir()))


def test_parts_that_do_not_belong_together_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    paths = split_checkpoint(checkpoint, tmp_path / "parts", 60_000)
    shutil.copy(paths[1], paths[2])
    with pytest.raises(ModelError, match="damaged"):
        join_checkpoint(tmp_path / "parts", tmp_path / "joined.pt")
    paths[1].unlink()
    with pytest.raises(ModelError, match="No such file"):
        join_checkpoint(tmp_path / "parts", tmp_path / "joined.pt")
    with pytest.raises(ModelError, match="more than 4 parts"):
        split_checkpoint(checkpoint, tmp_path / "parts", 1000)
