"""Confidence of words: what it is made of, how it is fitted, and that the recogniser applies it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.acoustic import Transducer
from asr.audio import Samples
from asr.decoding.ngram import NGram, hash_tokens
from asr.errors import ModelError
from asr.evaluation.reliability import reliability
from asr.recognition.calibration import FILE, Calibration, Evidence, fit_calibration, load_calibration
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer

CALIBRATION = Calibration("tiny", "tiny-lm", 0.5, 0.3, 0.4, 0.2, 0.1, -0.3)
logs = st.lists(st.floats(-40, 0), min_size=1, max_size=6)


@given(certainty=logs, before=logs, language=st.floats(-60, 0), letters=st.integers(1, 20))
def test_confidence_is_a_probability_that_grows_with_the_evidence(
    certainty: list[float], before: list[float], language: float, letters: int
) -> None:
    word = "a" * letters
    evidence = Evidence.of(word, certainty, before + certainty, [language], 3)
    sure = CALIBRATION.confidence(evidence)
    assert 0 < sure < 1
    likelier = Evidence.of(word, [c / 2 for c in certainty], before + certainty, [language / 2], 3)
    assert CALIBRATION.confidence(likelier) >= sure


def drawn(count: int, seed: int) -> tuple[list[Evidence], list[bool], list[str]]:
    """Words that are right with the probability that `CALIBRATION` says."""
    rng = np.random.default_rng(seed)
    evidence = [
        Evidence(
            rng.normal(0, 3), rng.normal(0, 2), -rng.exponential(6), int(rng.integers(1, 9)), int(rng.integers(1, 9))
        )
        for _ in range(count)
    ]
    right = [bool(rng.random() < CALIBRATION.confidence(e)) for e in evidence]
    return evidence, right, ["a" if rng.random() < 0.8 else "b" for _ in range(count)]


def test_the_fit_finds_what_the_words_were_drawn_from() -> None:
    fitted = fit_calibration(*drawn(6000, 0), "tiny", "tiny-lm")
    for name in ("constant", "tokens", "utterance", "language", "letters", "words"):
        assert abs(getattr(fitted, name) - getattr(CALIBRATION, name)) < 0.15, name
    evidence, right, _ = drawn(3000, 1)
    curve = reliability([fitted.confidence(e) for e in evidence], right)
    raw = reliability([1 / (1 + math.exp(-e.tokens)) for e in evidence], right)
    assert curve and raw and curve.error < 0.04 < raw.error


def test_each_set_counts_alike() -> None:
    """Ten times the words of one set, all the same ones, change nothing."""
    evidence, right, sets = drawn(400, 2)
    more = [i for i in range(400) for _ in range(10 if sets[i] == "a" else 1)]
    again = fit_calibration([evidence[i] for i in more], [right[i] for i in more], [sets[i] for i in more])
    once = fit_calibration(evidence, right, sets)
    ratio = len(more) / 400  # the ridge counts for less, the more words there are
    assert ratio > 5 and np.allclose(_weights(again), _weights(once), atol=2e-3)


def _weights(c: Calibration) -> list[float]:
    return [c.constant, c.tokens, c.utterance, c.language, c.letters, c.words]


def test_nothing_to_tell_apart_is_refused() -> None:
    evidence, _, sets = drawn(5, 3)
    with pytest.raises(ModelError, match="more recordings"):
        fit_calibration(evidence, [True] * 5, sets)


def test_files_are_for_their_models(tmp_path: Path) -> None:
    assert load_calibration(tmp_path, "tiny", "tiny-lm") is None
    CALIBRATION.save(tmp_path)
    assert load_calibration(tmp_path, "tiny", "tiny-lm") == CALIBRATION
    assert load_calibration(tmp_path, "tiny", "another") is None is load_calibration(tmp_path, "another", "tiny-lm")
    for damaged in ("{", "{}", json.dumps({**json.loads((tmp_path / FILE).read_text()), "tokens": math.nan})):
        (tmp_path / FILE).write_text(damaged)
        with pytest.raises(ModelError, match="fit it again"):
            load_calibration(tmp_path, "tiny", "tiny-lm")


@pytest.fixture(scope="module")
def spoken(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> tuple[Recognizer, Recognizer]:
    """A recogniser with a language model, without and with a calibration."""
    vocab, rng = tiny_tokenizer.vocab_size, np.random.default_rng(0)
    language = NGram(
        np.arange(vocab), np.log(rng.dirichlet(np.ones(vocab))), np.zeros(vocab, np.int64), np.zeros(1),
        order=2, vocab_size=vocab, tokens_hash=hash_tokens(tiny_tokenizer),
    )  # fmt: skip

    def made(calibration: Calibration | None) -> Recognizer:
        return Recognizer(
            tiny_model, tiny_tokenizer, beam=6, version="tiny", language=language, language_weight=0.3,
            calibration=calibration,
        )  # fmt: skip

    return made(None), made(CALIBRATION)


def test_only_confidences_are_calibrated(spoken: tuple[Recognizer, Recognizer], speech: Samples) -> None:
    raw, calibrated = (r.recognize(speech) for r in spoken)
    assert len(raw.nbest) > 1 and any(h.words for h in raw.nbest)
    for before, after in zip(raw.nbest, calibrated.nbest, strict=True):
        assert replace(before, words=(), confidence=0) == replace(after, words=(), confidence=0)
        sure = [word.confidence for word in after.words]
        assert after.confidence == pytest.approx(np.mean(sure) if sure else 0)
        for plain, word in zip(before.words, after.words, strict=True):
            assert (plain.text, plain.start_s, plain.end_s) == (word.text, word.start_s, word.end_s)
            assert word.evidence is not None and word.evidence == plain.evidence
            assert word.confidence == CALIBRATION.confidence(word.evidence)
            assert (word.evidence.letters, word.evidence.words) == (len(word.text), len(after.words))
        language = spoken[0].language
        assert isinstance(language, NGram)
        scores = language.token_scores([before.tokens])[0]
        evidence = [w.evidence for w in after.words if w.evidence]
        assert np.isclose(sum(e.language for e in evidence) + scores[-1], sum(scores), atol=1e-6)


def test_forced_texts_and_partials_are_calibrated_alike(spoken: tuple[Recognizer, Recognizer], speech: Samples) -> None:
    recognizer = spoken[1]
    result = recognizer.recognize(speech)
    assert result.encoded is not None
    for forced in recognizer.force_score(result.encoded, ["call meg", "no"]):
        assert forced.words and all(w.evidence for w in forced.words)
        assert all(w.confidence == CALIBRATION.confidence(w.evidence) for w in forced.words if w.evidence)


def test_without_a_language_model_nothing_is_calibrated(tiny_recognizer: Recognizer, speech: Samples) -> None:
    assert all(word.evidence is None for word in tiny_recognizer.recognize(speech).nbest[0].words)
