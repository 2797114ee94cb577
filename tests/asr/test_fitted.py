"""Constants that were fitted to some models, met by these and by others."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.acoustic import PRESETS, Transducer
from asr.acoustic.checkpoint import SHIPPED, save_model
from asr.context.checkpoint import WEIGHTS, ContextModels, read_weights
from asr.decoding.ngram import NGram, hash_tokens
from asr.errors import ModelError
from asr.fitted import (
    FILE,
    FittedWeights,
    ModelVersions,
    RescorerConstants,
    UnfittedWarning,
    read_fitted,
    save_fitted,
    weights_for,
)
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer
from recipes.language.fit_language import keep

MODELS = ModelVersions("a-1", "l-1", "t-1")
FITTED = FittedWeights(0.5, 1.0, 0.2, 2.5, 0.5, models=MODELS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_fitted(FITTED, tmp_path / FILE)
    return tmp_path


def test_weights_are_taken_for_the_models_that_they_were_fitted_to(folder: Path, tmp_path: Path) -> None:
    assert weights_for(MODELS, [tmp_path / "nowhere", folder]) == FITTED
    for part in ("language", "attention"):  # a model fewer leaves the others' weights as they are
        assert weights_for(replace(MODELS, **{part: ""}), [folder]) == FITTED


@pytest.mark.parametrize("part", ["acoustic", "language"])
def test_with_other_models_defaults_are_taken_and_named(folder: Path, part: str) -> None:
    with pytest.warns(UnfittedWarning, match=r"other-2.*attention 2.*recipes\.second_pass\.weights") as caught:
        weights = weights_for(replace(MODELS, **{part: "other-2"}), [folder])
    assert weights == FittedWeights() and len(caught) == 1


def test_another_attention_decoder_leaves_the_other_weights(folder: Path) -> None:
    with pytest.warns(UnfittedWarning, match="the attention decoder's weight"):
        weights = weights_for(replace(MODELS, attention="other-2"), [folder])
    assert (weights.language, weights.ctc, weights.attention) == (0.5, 0.2, FittedWeights().attention)


def test_the_decoders_own_file_goes_before_the_acoustic_models(folder: Path, tmp_path: Path) -> None:
    other = replace(FITTED, attention=1.0, models=replace(MODELS, attention="t-2"))
    (tmp_path / "decoder").mkdir()
    save_fitted(other, tmp_path / "decoder" / FILE)
    for models, weights in ((MODELS, FITTED), (replace(MODELS, attention="t-2"), other)):
        assert weights_for(models, [tmp_path / "decoder", folder]) == weights


def test_a_named_file_of_other_models_is_refused(folder: Path) -> None:
    assert weights_for(MODELS, [], folder / FILE) == FITTED
    with pytest.raises(ModelError, match=r"fitted to acoustic a-1, .* not to acoustic a-2"):
        weights_for(replace(MODELS, acoustic="a-2"), [folder], folder / FILE)
    with pytest.raises(ModelError, match="No such file"):
        weights_for(MODELS, [folder], folder / "nothing.json")


@pytest.mark.parametrize(
    "damage",
    [{"ctc": "much"}, {"ctc": float("nan")}, {"colour": 1}, {"models": None}, {"models": {"acoustics": "a"}}],
)
def test_a_damaged_file_is_refused(folder: Path, damage: dict[str, object]) -> None:
    path = folder / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(ModelError, match="fit it again"):
        weights_for(MODELS, [folder])


def test_models_of_one_name_and_size_are_told_apart(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    vocab = tiny_tokenizer.vocab_size
    language = NGram(
        np.arange(vocab), np.full(vocab, -np.log(vocab)), np.zeros(vocab, np.int64), np.zeros(1), order=2,
        vocab_size=vocab, tokens_hash=hash_tokens(tiny_tokenizer), version="lm",
    )  # fmt: skip
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_model(tmp_path / str(seed), Transducer(PRESETS["tiny"](vocab)), tiny_tokenizer, "same")
    with pytest.warns(UnfittedWarning):
        first = Recognizer.load(tmp_path / "1", beam=2, language=language, second_pass=False)
    save_fitted(replace(first.weights, ctc=0.7, models=first.models), tmp_path / "1" / FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = Recognizer.load(tmp_path / "1", beam=2, language=language, second_pass=False)
    assert first.weights.ctc == 0.7
    with pytest.raises(ModelError, match="was fitted to"):
        Recognizer.load(tmp_path / "2", beam=2, language=language, second_pass=False, fitted=tmp_path / "1" / FILE)


def test_the_shipped_constants_are_of_the_shipped_models() -> None:
    weights = read_fitted(FittedWeights, SHIPPED / FILE)
    recognizer = Recognizer.load()  # any warning is an error here
    assert weights.models == recognizer.models and recognizer.weights == weights
    assert recognizer.scorer.calibration is not None and recognizer.scorer.attention_calibration is not None
    assert ContextModels.load(models=recognizer.models).rescorer.constants == read_fitted(
        RescorerConstants, WEIGHTS / FILE
    )


def test_a_rescorer_of_other_lists_says_so() -> None:
    with pytest.warns(UnfittedWarning, match=r"fitted to lists of other models .*recipes.rescorer.fit"):
        ContextModels.load(models=MODELS)


def test_margins_of_another_context_model_are_refused(tmp_path: Path) -> None:
    for file in WEIGHTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    constants = read_fitted(RescorerConstants, tmp_path / FILE)
    assert constants.models is not None and constants.models.context == read_weights(tmp_path).version
    save_fitted(replace(constants, models=replace(constants.models, context="context-other")), tmp_path / FILE)
    with pytest.raises(ModelError, match="was fitted to"):
        ContextModels.load(tmp_path)


def test_a_language_weight_goes_beside_the_other_weights_of_its_models(folder: Path) -> None:
    keep(folder / FILE, ModelVersions("a-1", "l-1"), 0.4, 1.2)
    assert read_fitted(FittedWeights, folder / FILE) == replace(FITTED, language=0.4, token_bonus=1.2)
    keep(folder / FILE, ModelVersions("a-1", "l-2"), 0.3, 1.1)
    expected = FittedWeights(0.3, 1.1, models=ModelVersions("a-1", "l-2"))
    assert read_fitted(FittedWeights, folder / FILE) == expected
