"""Weights fitted to lists of texts, and the file that they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asr.acoustic.checkpoint import SHIPPED
from asr.audio import Samples
from asr.errors import ModelError
from asr.evaluation.manifest import Utterance, read_manifest
from asr.fitted import FILE, FittedWeights
from asr.recognition.recognizer import Recognizer
from asr.second_pass.attention_decoder import SHIPPED as SHIPPED_SECOND_PASS
from recipes.second_pass.fit import DevLists, fit
from recipes.second_pass.lists import Candidate, TextList, text_lists
from recipes.second_pass.weights import place


def made(count: int, per_word: float, seed: int = 0) -> list[TextList]:
    """Lists in which the right text beats one that lacks a word where a word earns more than `per_word` nats."""
    rng = np.random.default_rng(seed)
    lists = []
    for i in range(count):
        right = Candidate("one two two", -10 - per_word, -5.0, -8.0, -4.0, 6)
        short = Candidate("one two", -10 + float(rng.normal(0, 0.1)), -5.0, -8.0, -4.0, 6)
        wrong = Candidate("nine", -60.0, -50.0, -8.0, -40.0, 6)
        lists.append(TextList(str(i), f"set{i % 2}", "one two two", (short, right, wrong)))
    return lists


def test_a_word_bonus_is_found_where_words_are_lost() -> None:
    found = fit(DevLists(made(40, 1.2)), FittedWeights())
    assert found.before.mean == pytest.approx(100 / 3) and found.after.mean == found.held_out.mean == 0
    assert found.better and found.weights.word_bonus > 1.2


def test_weights_that_are_right_already_are_no_gain() -> None:
    found = fit(DevLists(made(40, -2.5)), FittedWeights())
    assert found.before.mean == 0 and not found.better


def test_each_set_counts_the_same() -> None:
    long = TextList("a", "long", "one " * 99 + "two", (Candidate("one " * 98 + "two", 0, 0, 0, 1, 0),))
    short = TextList("b", "short", "one", (Candidate("two", 0, 0, 0, 1, 0),))
    lists = DevLists([long, short])
    assert lists.named(lists.errors([FittedWeights()])[:, 0]).mean == pytest.approx((1 + 100) / 2)


def test_lists_are_kept_and_those_of_other_models_refused(
    tiny_recognizer: Recognizer, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    soundfile.write(tmp_path / "u.wav", speech[:16_000], 16_000)
    (tmp_path / "made-dev.jsonl").write_text(json.dumps({"id": "u", "audio": {"path": "u.wav"}, "text": "one"}) + "\n")
    utterances: list[Utterance] = read_manifest(tmp_path / "made-dev.jsonl")[0]
    file = tmp_path / "lists.jsonl"
    first = text_lists(tiny_recognizer, utterances, file)
    heard = tiny_recognizer.recognize(speech[:16_000], nbest=20)
    for candidate, hypothesis in zip(first[0].candidates, heard.nbest, strict=False):
        ctc = tiny_recognizer.weights.ctc * candidate.ctc
        assert candidate.transducer + ctc == pytest.approx(hypothesis.acoustic, abs=1e-3)
    (tmp_path / "u.wav").unlink()
    assert text_lists(tiny_recognizer, utterances, file) == first
    monkeypatch.setattr(tiny_recognizer, "version", "another")
    with pytest.raises(ModelError, match="made with other models"):
        text_lists(tiny_recognizer, utterances, file)


def test_the_place_is_beside_what_is_not_shipped(tmp_path: Path) -> None:
    assert place(SHIPPED, SHIPPED_SECOND_PASS) == SHIPPED / FILE
    assert place(tmp_path, SHIPPED_SECOND_PASS) == tmp_path / FILE
    assert place(SHIPPED, tmp_path) == tmp_path / FILE
