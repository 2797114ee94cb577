"""The mean of several models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from asr.acoustic import PRESETS, load_model, save_model
from asr.acoustic.transducer import Transducer
from asr.text.tokenizer import Tokenizer
from recipes.acoustic.average_models import app


def test_the_mean_of_models_of_one_shape(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(Transducer(PRESETS["tiny"](tiny_tokenizer.vocab_size)))
        save_model(tmp_path / str(seed), models[-1], tiny_tokenizer, f"run-{seed}")
    folders = [str(tmp_path / str(seed)) for seed in range(3)]
    run = CliRunner().invoke(app, [*folders, "--out", str(tmp_path / "mean"), "--version", "mean-of-3"])
    assert run.exit_code == 0, run.output
    mean, _, version = load_model(tmp_path / "mean")
    assert version.startswith("mean-of-3-")
    for name, value in mean.state_dict().items():
        exact = torch.stack([model.state_dict()[name] for model in models]).mean(0)
        torch.testing.assert_close(value, exact, rtol=0, atol=0.02 * float(exact.abs().max()) + 1e-6)  # 8 bits, twice


def test_models_of_other_tokens_are_refused(tmp_path: Path, tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "one", tiny_model, tiny_tokenizer, "one")
    other = Tokenizer.train(["quick brown foxes jump over lazy dogs", "pack my box with five jugs"], 36)
    save_model(tmp_path / "other", Transducer(PRESETS["tiny"](other.vocab_size)), other, "other")
    for folders, reason in ((["one", "other"], "are not those of"), (["one"], "two models or more")):
        paths = [str(tmp_path / name) for name in folders]
        run = CliRunner().invoke(app, [*paths, "--out", str(tmp_path / "mean"), "--version", "mean"])
        assert run.exit_code == 2 and reason in " ".join(run.stderr.split())
        assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("missing", ["absent"])
def test_a_missing_model_is_named(missing: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, [missing, missing, "--out", str(tmp_path / "mean"), "--version", "mean"])
    assert run.exit_code == 2 and missing in run.stderr
