"""The language model's counting, pruning and weights."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import Samples
from asr.decoding import BeamSearch
from asr.decoding.ngram import NGram, hash_tokens
from asr.errors import ModelError
from asr.evaluation.wer import align, count
from asr.recognition.recognizer import Recognizer
from recipes.language.kneser_ney import BackOffModel, mix, prune, to_automaton, train_kneser_ney
from recipes.language.text import OVERLAP, HeldOut, read_texts
from recipes.language.weights import Fit, HypothesisScores, Spoken, Trial, best_values, rates
from recipes.synthesis.corpus import of_train

VOCAB = 7
Texts = list[list[int]]
some_texts = st.lists(st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=8), min_size=1, max_size=12)


def automaton(model: BackOffModel) -> NGram:
    return to_automaton(model, "", "test")


def perplexity(model: NGram, texts: Texts) -> float:
    return math.exp(-sum(model.score_texts(texts)) / sum(len(t) + 1 for t in texts))


def sums(model: NGram) -> list[float]:
    every = np.arange(len(model._lower))
    return (np.exp(model.scores(every)[:, 1:].astype(float)).sum(1) + np.exp(model.final(every).astype(float))).tolist()


@settings(max_examples=15, deadline=None)
@given(some_texts, some_texts)
def test_every_state_is_a_distribution(first: Texts, second: Texts) -> None:
    one, two = (train_kneser_ney(texts, VOCAB, 4) for texts in (first, second))
    mixed = mix([one, two], np.array([0.3, 0.7]))
    for model in (one, mixed, prune(mixed, 6)):
        assert sums(automaton(model)) == pytest.approx([1.0] * len(sums(automaton(model))), abs=1e-4)


def test_kneser_ney_by_hand() -> None:
    """Order 2 over "1 2", "1 3", "1 2": too few counts for estimated discounts, so 0.5, 0.75, 0.9."""
    model = train_kneser_ney([[1, 2], [1, 3], [1, 2]], 4, 2)
    # different tokens before each: the end after 2 and 3; 1 after the beginning; 2 and 3 after 1
    unigram = {0: 2, 1: 1, 2: 1, 3: 1}
    spread = (0.75 + 3 * 0.5) / 5 / 4
    lower = {t: (c - (0.75 if c == 2 else 0.5)) / 5 + spread for t, c in unigram.items()}
    assert model.levels[0].prob.tolist() == pytest.approx([lower[t] for t in range(4)])
    scores = automaton(model).scores(np.array([automaton(model).start]))
    assert float(np.exp(scores[0, 1])) == pytest.approx((3 - 0.9) / 3 + 0.9 / 3 * lower[1], abs=1e-5)
    after_one = automaton(model).advance(np.array([automaton(model).start]), np.array([1]))[1]
    left = (0.75 + 0.5) / 3
    scores = automaton(model).scores(after_one)
    assert float(np.exp(scores[0, 2])) == pytest.approx((2 - 0.75) / 3 + left * lower[2], abs=1e-5)
    assert float(np.exp(scores[0, 1])) == pytest.approx(left * lower[1], abs=1e-5)


def periodic(seed: int, step: int, count: int = 200) -> Texts:
    """Texts that count up by `step`, now and then with a mistake."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        text = [int(rng.integers(1, VOCAB))]
        while rng.random() < 0.85:
            text.append((text[-1] - 1 + (step if rng.random() < 0.9 else 3)) % (VOCAB - 1) + 1)
        out.append(text)
    return out


def test_a_mixture_finds_out_which_source_a_text_is_of() -> None:
    """A text of a source pays for the source's share once, not in every token."""
    shares = {1: 0.9, 5: 0.1}
    models = {step: train_kneser_ney(periodic(0, step), VOCAB, 4) for step in shares}
    mixed = automaton(mix(list(models.values()), np.array(list(shares.values()))))
    for step, share in shares.items():
        texts = periodic(1, step, 50)
        alone = sum(automaton(models[step]).score_texts(texts))
        assert alone - sum(mixed.score_texts(texts)) < (0.2 - 1.1 * math.log(share)) * len(texts)


def test_pruning_keeps_what_matters() -> None:
    model = train_kneser_ney(periodic(0, 1) + periodic(0, 2, 20), VOCAB, 4)
    every = sum(len(level.gram) for level in model.levels[1:])
    perplexities = []
    for arcs in (10, every // 2, every, 10**6):
        pruned = prune(model, arcs)
        assert sum(len(level.gram) for level in pruned.levels[1:]) <= arcs
        for shorter, longer in zip(pruned.levels, pruned.levels[1:], strict=False):
            assert set((longer.gram >> pruned.bits).tolist()) <= set(shorter.gram.tolist()), "prefixes stay"
        perplexities.append(perplexity(automaton(pruned), periodic(1, 1, 50)))
    assert perplexities[2] == perplexities[3] == perplexity(automaton(model), periodic(1, 1, 50))
    assert perplexities[1] < 1.05 * perplexities[2] < perplexities[0]


def test_what_cannot_be_trained() -> None:
    with pytest.raises(ModelError, match="at most 15"):
        train_kneser_ney([[1]], 16, 16)
    with pytest.raises(ModelError, match="no text"):
        train_kneser_ney([[], []], 16, 2)


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of the data folder: every file that is read, with a few lines."""
    root = tmp_path_factory.mktemp("data")
    spoken = "it was a dark and stormy night in june"
    write(root / "speech/some/some-test.jsonl.gz", [json.dumps({"id": "a", "text": spoken})])
    write(root / "followups/followups-dev.jsonl.gz", [json.dumps({"id": "b", "text": "Yes please!"})])
    book = [f"chapter {'i' * (i % 7)} goes on" for i in range(300)]
    book[150] = "then " + " ".join(spoken.split()[:OVERLAP])
    write(root / "text/prose/gutenberg.txt.gz", book)
    write(root / "text/prose/ljspeech_text.txt.gz", ["printing in the only sense"])
    write(root / "text/prose/prompts.tsv.gz", ["take care\tTake care.\tcv", f"{spoken}\tx\tcv"])
    write(root / "text/commands/some.txt.gz", ["Play 2 songs!\ttrain\tx", "never this\ttest\tx"])
    turns = [{"speaker": "user", "text": "Call Meg"}, {"speaker": "system", "text": "Which Meg?"}]
    write(root / "text/dialogues/some.train.jsonl.gz", [json.dumps({"turns": turns})])
    names = [f"name{i:c}" for i in range(ord("a"), ord("z"))]
    for kind in ("given_names", "surnames"):
        write(root / f"text/names/{kind}.tsv.gz", ["name\tcount", *(f"{n}\t9" for n in names)])
    write(
        root / "text/entities/film.tsv.gz",
        ["value\tcount\tsources\tsplits", "Dumbo\t3\tsgd\ttrain", "Up\t3\tsgd\ttest"],
    )
    write(root / "text/wordfreq.tsv.gz", ["word\tzipf", "will\t6.4"])
    for kind in ("cities", "brands", "misc_places", "street_names"):
        write(root / f"text/places/{kind}.tsv.gz", ["a\tb", "Paris\tParis"])
    write(root / "text/places/local_search.tsv.gz", ["name\tk\tc\ts\tc\tsplits", "C K Dental\td\t\t\t\ttrain"])
    return root


def test_texts_hold_nothing_of_dev_and_test(data: Path) -> None:
    sources = read_texts(data, 200)
    assert all(sources.values())
    held_out = HeldOut.read(data)
    assert held_out.shares("it was a dark and stormy evening") and not held_out.shares("a dark and stormy night")
    texts = {t for source in sources.values() for t in source}
    assert not any(held_out.shares(t) for t in texts)
    assert len(sources["books"]) == 301 - 81, "what is near to a held-out sentence of a book goes too"
    assert {"play two songs", "call meg", "take care"} <= texts
    assert "never this" not in texts and "which meg" not in texts
    assert not any("up" in t.split() for t in sources["things"]), "a film of the test split only"


def test_names_of_train_only_and_the_same_each_time(data: Path) -> None:
    sources = read_texts(data, 200)
    assert sources == read_texts(data, 200)
    words = Counter(w for t in sources["names"] for w in t.split() if w.startswith("name") and w != "name")
    assert len(words) > 10 and all(of_train(w) for w in words)


def test_values_that_rank_the_right_readings_first() -> None:
    """Of two hypotheses the wrong one is likelier by sound, shorter and worse English; another set does not mind."""
    wrong_and_right = HypothesisScores(*(np.array(n) for n in ([-1.0, -3.0], [-9.0, -4.0], [2.0, 4.0], [3.0, 0.0])))
    indifferent = HypothesisScores(*(np.array(n) for n in ([-1.0, -9.0], [-2.0, -4.0], [2.0, 3.0], [0.0, 1.0])))
    weight, bonus = best_values([wrong_and_right, indifferent], ["a", "b"], [3, 1])
    assert 5 * weight + 2 * bonus > 2 and bonus - 2 * weight < 8
    assert wrong_and_right.chosen_errors(0, 0) == 3 and wrong_and_right.chosen_errors(weight, bonus) == 0
    assert rates([1, 1, 0], ["a", "b", "a"], [3, 2, 1]) == {"a": 0.25, "b": 0.5}


def test_fitting_keeps_the_best_trial(tiny_recognizer: Recognizer, speech: Samples) -> None:
    tokenizer = tiny_recognizer.tokenizer
    heard = tiny_recognizer.recognize(speech)
    assert heard.encoded is not None
    # what the search says with a bonus is the truth here: without one it cannot be the best trial
    longest = max((h.text for h in heard.nbest), key=lambda text: len(tokenizer.encode(text)))
    language = to_automaton(
        train_kneser_ney([tokenizer.encode(longest)] * 3, tokenizer.vocab_size, 3), hash_tokens(tokenizer), "test"
    )
    spoken = [Spoken("set", "one", longest, heard.encoded.frames)]
    fit = Fit(tiny_recognizer, language, spoken, 6, lambda *_: None)
    best = fit.run(3)
    assert 2 <= len(fit.trials) <= 4 and (fit.trials[0].weight, fit.trials[0].bonus) == (0.0, 0.0)
    assert best.mean == min(t.mean for t in fit.trials)
    assert best.errors == (count(align(longest, said(tiny_recognizer, language, best, heard.encoded.frames))).total,)


def said(recognizer: Recognizer, language: NGram, trial: Trial, frames: torch.Tensor) -> str:
    search = BeamSearch(recognizer.model, 6, language=language, language_weight=trial.weight, token_bonus=trial.bonus)
    with torch.inference_mode():
        hypotheses = recognizer.scorer.with_ctc(search.nbest(search.step(frames[None], search.start(1)), 0), frames)
    return recognizer.tokenizer.decode(max(hypotheses, key=lambda r: r.score).tokens)
