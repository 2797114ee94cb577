"""The recipe, end to end on a tiny model: it learns, stops, and goes on where it stopped."""

import gzip
import io
import itertools
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st

from asr.acoustic import load_model, save_model
from asr.acoustic.transducer import Transducer
from asr.errors import ModelError
from asr.text.tokenizer import Tokenizer
from recipes.acoustic import train_acoustic
from recipes.acoustic.rendering import Rendered, render
from recipes.acoustic.speech import SpeechCache, Utterance, batches, for_acoustic, say_in_a_row, trim
from recipes.acoustic.train_acoustic import parse_shares
from recipes.acoustic.training import Recipe, learning_rate, load_state, put_start, start_state, steps, train
from tests.support.torchaudio_pair import need_torchaudio


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve utterances: a low tone says yes, a high one no; one file is broken."""
    lines = []
    with tarfile.open(tmp_path / "tones-train-00.tar", "w") as tar:
        for i in range(12):
            t = np.arange(9600) / 16_000
            file = io.BytesIO()
            soundfile.write(file, 0.3 * np.sin(2 * np.pi * (300 if i % 2 else 2000) * t), 16_000, format="FLAC")
            data = b"broken" if i == 11 else file.getvalue()
            member = tarfile.TarInfo(f"{i}.flac")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            lines.append({"id": f"tones/{i}", "shard": "tones-train-00.tar", "member": member.name,
                          "speaker": "s", "text": "yes" if i % 2 else "No."})  # fmt: skip
    manifest = tmp_path / "tones-train.jsonl.gz"
    with gzip.open(manifest, "wt") as written:
        written.writelines(json.dumps(line) + "\n" for line in lines)
    return manifest


def test_cache_decodes_once_and_reports_what_is_broken(corpus: Path, tmp_path: Path) -> None:
    cache = SpeechCache([corpus], tmp_path / "cache")
    assert len(cache.utterances) == 11 and {u.text for u in cache.utterances} == {"yes", "no"}
    assert json.loads((tmp_path / "cache/tones-train.bad.jsonl").read_text())["id"] == "tones/11"
    corpus.with_name("tones-train-00.tar").unlink()
    again = SpeechCache([corpus], tmp_path / "cache")
    assert np.array_equal(again.samples(again.utterances[3]), cache.samples(cache.utterances[3]))
    assert len(again.samples(again.utterances[0])) == 9600


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["one", "two", "go"])), max_size=40), st.integers(0, 99)
)
def test_words_in_a_row_are_one_speakers_and_none_is_lost(said: list[tuple[str, str]], seed: int) -> None:
    words = [Utterance(f"{i}", "speech_commands", who, word, i, 8000) for i, (who, word) in enumerate(said)]
    rows = say_in_a_row(words, np.random.default_rng(seed))
    parts = [[row, *row.then] for row in rows]
    assert {u.start for row in parts for u in row} == {u.start for u in words}
    assert all(len({u.speaker for u in row}) == 1 and len(row) <= 6 for row in parts)
    by_start = {u.start: u.text for u in words}
    assert all(row.text == " ".join(by_start[u.start] for u in part) for row, part in zip(rows, parts, strict=True))
    assert all(row.seconds == 0.5 * len(part) for row, part in zip(rows, parts, strict=True))


def test_a_row_sounds_as_its_words_without_their_silences(corpus: Path, tmp_path: Path) -> None:
    cache = SpeechCache([corpus], tmp_path / "cache")
    first, second = cache.utterances[:2]
    joined = cache.samples(replace(first, then=(second,)))
    assert np.array_equal(joined, np.concatenate([cache.samples(first), cache.samples(second)]))  # nothing to trim
    padded = np.pad(cache.samples(first), 8000)
    assert len(trim(padded)) == 9600 + 2 * 960 and not len(trim(np.zeros(0, np.float32)))


def test_training_learns_checkpoints_and_resumes(corpus: Path, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    need_torchaudio()
    cache = SpeechCache([corpus], tmp_path / "cache")
    seen: list[Any] = []
    recipe = Recipe(preset="tiny", hours=6 / 3600, batch_s=4.0, frozen_share=0.0, rnnt_share=0.3, head_lr=1e-2,
                    encoder_lr=1e-2, shares={})  # fmt: skip
    dev = (cache, cache.utterances[:4])
    first = train(replace(recipe, hours=3 / 3600), cache, dev, tiny_tokenizer, tmp_path, pretrained=None,
                  log=seen.append)  # fmt: skip
    state = start_state(recipe, tiny_tokenizer, None, "cpu")
    load_state(state, tmp_path / "checkpoint.pt")
    assert state.step == first.step and state.seconds == first.seconds
    for held, trained in zip(state.model.parameters(), first.model.parameters(), strict=True):
        assert torch.equal(held, trained)
    last = train(recipe, cache, dev, tiny_tokenizer, tmp_path, pretrained=None, log=seen.append)
    assert last.step > first.step
    assert seen[-1]["loss"]["ctc"] < seen[0]["loss"]["ctc"]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(seen) == 2
    model, tokenizer, _ = load_model(tmp_path / "model")
    assert model.vocab_size == tokenizer.vocab_size


def test_the_command_goes_on_from_shards_in_another_run(
    corpus: Path, tmp_path: Path, tiny_model: Transducer, tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_torchaudio()
    save_model(tmp_path / "given", tiny_model, tiny_tokenizer, "given")
    for split in ("train", "dev"):
        shutil.copy(corpus, corpus.parent / f"{split}-00.jsonl.gz")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    steps = []
    for _ in range(2):
        train_acoustic.main(corpus.parent, tmp_path / "out", start=tmp_path / "given", preset="tiny", batch_s=4.0,
                            minutes=0.02, hours=1.0, dev_utterances=2)  # fmt: skip
        steps.append(json.loads((tmp_path / "out/log.jsonl").read_text().splitlines()[-1])["step"])
    assert 0 < steps[0] < steps[1]
    assert load_model(tmp_path / "out/model")[1].proto == tiny_tokenizer.proto


def test_training_goes_on_from_a_models_weights(
    corpus: Path, tmp_path: Path, tiny_model: Transducer, tiny_tokenizer: Tokenizer
) -> None:
    need_torchaudio()
    save_model(tmp_path / "given", tiny_model, tiny_tokenizer, "given")
    recipe = Recipe(preset="tiny", hours=1 / 3600, batch_s=4.0, shares={}, head_lr=1e-9, encoder_lr=1e-9).from_model()
    put_start(tmp_path, tmp_path / "given", recipe, None)
    cache = SpeechCache([corpus], tmp_path / "cache")
    seen: list[Any] = []
    train(recipe, cache, (cache, cache.utterances[:2]), tiny_tokenizer, tmp_path, pretrained=None, log=seen.append)
    given, kept = load_model(tmp_path / "given")[0], load_model(tmp_path / "model")[0]
    torch.testing.assert_close(kept.ctc_out.weight, given.ctc_out.weight, rtol=1e-4, atol=1e-5)
    assert set(seen[0]["loss"]) == {"ctc", "rnnt"}  # both from the first step


def test_an_encoder_of_a_model_starts_one_for_other_tokens(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    old = start_state(Recipe(preset="tiny"), tiny_tokenizer, None, "cpu").model
    save_model(tmp_path / "model", old, tiny_tokenizer, "tiny-0")
    fewer = Tokenizer.train(["yes no maybe so", "call meg bauer now"], 31)
    new = start_state(Recipe(preset="tiny", seed=2), fewer, tmp_path / "model", "cpu").model
    assert new.config.vocab_size == 31
    kept = load_model(tmp_path / "model")[0].encoder.state_dict()
    for name, weight in new.encoder.state_dict().items():
        assert torch.equal(weight, kept[name]) != name.startswith("stack."), name
    with pytest.raises(ModelError, match="shape"):
        start_state(Recipe(preset="base"), tiny_tokenizer, tmp_path / "model", "cpu")


def test_training_ends_in_time_and_resumes(corpus: Path, tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    cache = SpeechCache([corpus], tmp_path / "cache")
    recipe, dev = Recipe(preset="tiny", hours=1.0, batch_s=4.0, shares={}), (cache, cache.utterances[:2])
    arguments = {"pretrained": None, "limit_s": 0.5}
    first = train(recipe, cache, dev, tiny_tokenizer, tmp_path, **arguments)  # type: ignore[arg-type]
    assert first.seconds < 60  # of the hour that it would take
    last = train(recipe, cache, dev, tiny_tokenizer, tmp_path, **arguments)  # type: ignore[arg-type]
    assert last.step > first.step > 0 and (tmp_path / "model/config.json").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # two workers, on a machine of one core too
def test_batches_sound_the_same_however_they_are_made(corpus: Path, tmp_path: Path) -> None:
    cache, recipe = SpeechCache([corpus], tmp_path / "cache"), Recipe(batch_s=4.0, shares={})

    def first_steps(step: int, count: int, workers: int) -> list[Rendered]:
        return list(render(cache, itertools.islice(steps(cache, recipe, 0, step), count), recipe.seed, workers))

    here, there = first_steps(5, 4, 0), first_steps(5, 4, 2)
    assert [r.planned for r in here] == [r.planned for r in there] and [r.planned.step for r in here] == [5, 6, 7, 8]
    assert {r.planned.epoch for r in here} == {0, 1}  # eleven utterances make three batches
    for one, other in zip(here, there, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.waves, other.waves, strict=True))
    (later,) = first_steps(6, 1, 0)
    assert later.planned.utterances == here[0].planned.utterances
    assert not np.array_equal(later.waves[0], here[0].waves[0])


def test_learning_rate_warms_up_and_falls() -> None:
    recipe = Recipe(frozen_share=0.1)
    assert learning_rate(recipe, 0.0, False) == 0 == learning_rate(recipe, 0.1, True)
    assert learning_rate(recipe, 0.3, False) == 1 == learning_rate(recipe, 0.3, True)
    assert 0 < learning_rate(recipe, 0.99, False) < 0.1


def test_batches_hold_everything_once_and_are_bounded(corpus: Path, tmp_path: Path) -> None:
    cache = SpeechCache([corpus], tmp_path / "cache")
    drawn = list(batches(cache.utterances, 2.0, np.random.default_rng(0)))
    assert sorted(u.id for b in drawn for u in b) == sorted(u.id for u in cache.utterances)
    assert all(max(u.seconds for u in b) * len(b) <= 2.0 for b in drawn)


def test_half_of_the_followups_are_kept_for_the_rescorer() -> None:
    lines = [{"id": f"followup-train-{i:05d}", "set": "who"} for i in range(400)]
    assert 150 < sum(map(for_acoustic, lines)) < 250
    assert for_acoustic({"id": "x", "set": "prose"}) and for_acoustic({"id": "an4/1"})


def test_shares_are_numbers_of_corpora_that_are_there(corpus: Path, tmp_path: Path) -> None:
    cache = SpeechCache([corpus], tmp_path / "cache")
    assert parse_shares([], cache) == {} and parse_shares(["tones=0.5"], cache) == {"tones": 0.5}
    for wrong, reason in (("tones", "CORPUS=TIMES"), ("tones=x", "CORPUS=TIMES"), ("bells=1", "tones"),
                          ("tones=-1", "0 or more"), ("tones=inf", "0 or more")):  # fmt: skip
        with pytest.raises(typer.BadParameter, match=reason):
            parse_shares([wrong], cache)
