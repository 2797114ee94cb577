"""Follow-ups made of recordings of names and commands."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr.evaluation.manifest import read_manifest
from recipes.context.data import SoundAlikes
from recipes.context.make_followups import Lexicon, app, context_of, said

POOL = ["millet", "millen", "pudding", "putting", "boston", "bauer", "power", "tower", "zebra", "violet", "hammock"]
LEXICON = Lexicon(
    frozenset({"the", "yellow", "called", "is", "for", "with", "one", "and", "making"}),
    SoundAlikes(POOL), frozenset({"bauer"}), frozenset({"boston"}),
)  # fmt: skip


def test_short_answers_are_entries_and_so_are_rare_words_of_long_ones() -> None:
    assert said(["bauer"], LEXICON) == ["bauer"]
    assert said(["the", "yellow", "millet", "is", "for", "zebra", "pudding"], LEXICON) == ["millet", "zebra pudding"]
    assert said(["a"], LEXICON) == []
    assert said(["the", "one", "called", "is", "yellow"], LEXICON) == []


@pytest.mark.parametrize("text", ["bauer", "boston", "the yellow millet is for making pudding"])
@pytest.mark.parametrize("seed", range(5))
def test_what_was_said_stands_among_sound_alikes_and_others(text: str, seed: int) -> None:
    made = context_of(text, LEXICON, (8,), random.Random(seed))
    assert made is not None
    entries = [e["text"].lower() for e in made["context"]["entities"]]
    assert made["target"] in entries
    assert len(entries) == len(set(entries)) == 8
    others = set(entries) - set(said(text.split(), LEXICON))
    assert not any(set(o.split()) & set(text.split()) for o in others)
    if text == "bauer":
        assert {"power", "tower"} & others
        assert {e["signal"] for e in made["context"]["entities"] if e["text"] == "Bauer"} == {"contacts"}


@pytest.mark.parametrize("seed", range(5))
def test_a_longer_utterance_is_an_item_among_what_others_said(seed: int) -> None:
    text = "erase x a g"
    items = SoundAlikes([text, "erase x a b", "june third nineteen nine", "that's my first code", "rub out b b"])
    made = context_of(text, LEXICON, (4,), random.Random(seed), items)
    assert made is not None
    assert (made["set"], made["target"]) == ("listed", text)
    entries = [e["text"] for e in made["context"]["entities"]]
    assert len(set(entries)) == len(entries) == 4
    assert {"Erase X A G", "Erase X A B"} <= set(entries)
    assert {e.lower() for e in entries} <= set(items.texts)
    assert "'S" not in str(made)
    answer = context_of("bauer", LEXICON, (4,), random.Random(seed), items)
    assert answer is not None
    assert answer["set"] == "answer"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for file, rows in {
        "wordfreq": ["the", "and", "yellow", *POOL],
        "names/given_names": ["meg", "tom"],
        "names/surnames": ["bauer"],
        "places/cities": ["boston"],
    }.items():
        path = tmp_path / "text" / f"{file}.tsv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as out:
            out.write("\n".join(["word\tcount", *(f"{r}\t1" for r in rows)]) + "\n")
    return tmp_path


def test_the_manifest_is_one_that_evaluate_wer_reads(data: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech"
    speech.mkdir()
    (speech / "a.wav").write_bytes(b"RIFF")
    lines = [
        {"id": "1", "path": "a.wav", "text": "Bauer", "speaker": "x", "corpus": "c", "duration_s": 1.0},
        {"id": "2", "shard": "s.tar", "member": "b", "text": "the yellow and the yellow millet"},
        {"id": "3", "path": "a.wav", "text": "the and the and the"},
    ]
    (speech / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = [str(speech / "in.jsonl"), "", "--data", str(data), "--frequent", "3", "--sizes", "4"]

    def run(name: str) -> Path:
        arguments[1] = str(tmp_path / name)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return tmp_path / name

    made = run("out.jsonl")
    utterances, problems = read_manifest(made)
    assert not problems
    assert [(u.id, u.set, u.target) for u in utterances] == [("1", "answer", "bauer"), ("2", "rare_words", "millet")]
    assert utterances[0].audio.path.resolve() == speech / "a.wav"
    assert utterances[1].audio.member == "b"
    assert made.read_text() == run("again.jsonl").read_text()
    arguments.append("--lists")
    assert [u.set for u in read_manifest(run("lists.jsonl"))[0]] == ["answer", "listed", "listed"]


def test_bad_lines_are_reported(data: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(
        'nonsense\n{"id": "1", "text": "bauer"}\n{"id": "2", "path": "a", "text": "bauer"}'
    )
    arguments = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--data", str(data), "--frequent", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
