"""Sets of answers: what is asked, listed and said fits together; the splits have nothing in common."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from asr.text import normalize
from recipes.sets.answers import VOICES
from recipes.sets.names import SPLITS, THINGS, Names, Sounds, of_split
from recipes.sets.people import KINDS, Alternatives, line_of
from recipes.sets.turns import makers
from recipes.synthesis.kokoro import HELD_OUT

_SAME_WORDS_SAID = ("ordinals", "beside the point", "did you say", "nicknames", "junior or senior")


def _gzip(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "text"
    words = [f"{a}{v}{b}{w}n" for a in "bdgklmnprst" for v in "aeiou" for b in "abcdefghijklmnopqrst" for w in "aeo"]
    for name in ("given_names", "surnames"):
        _gzip(folder / f"names/{name}.tsv.gz", ["name\tcount", *(f"{word}\t{i}" for i, word in enumerate(words))])
    nicknames = [f"{word.capitalize()}\t{other.capitalize()}" for word, other in zip(words, words[1:], strict=False)]
    _gzip(folder / "names/nicknames.tsv.gz", ["given_name\tnicknames", *nicknames[:900]])
    _gzip(folder / "pronunciations/cmudict.dict.gz", [f"{word} {' '.join(word.upper())}" for word in words])
    for kind in THINGS:
        _gzip(folder / f"{kind}.tsv.gz", ["value\tcount", *(f"{word} lamp\t1" for word in words[:300])])
    return folder.parent


@pytest.mark.parametrize("split", SPLITS)
def test_a_turn_means_what_it_lists(data: Path, split: str) -> None:
    rng = random.Random(1)
    for kind, make in makers(Names(data, split), rng).items():
        for _ in range(4):
            turn = make()
            assert turn.text and turn.text == normalize(turn.text)
            assert len(set(turn.entries)) == len(turn.entries), kind
            if turn.target is None:
                assert kind == "beside the point" or kind.startswith("not listed")
            else:
                assert turn.target in turn.entries or normalize(turn.target) in normalize(turn.question)
                if kind not in _SAME_WORDS_SAID:
                    assert set(turn.text.split()) & set(normalize(turn.target).split()), kind
            if kind.startswith("not listed"):
                assert not any(normalize(entry) in turn.text for entry in turn.entries)


@pytest.mark.parametrize("size", [10, 100])
def test_a_list_has_its_length_and_its_make(data: Path, size: int) -> None:
    rng = random.Random(1)
    turns = makers(Names(data, "dev"), rng)
    for make in ("random", "near", "family", "mixed"):
        turn = turns[f"list of {size}, {make}"]()
        assert len(turn.entries) == size and turn.target
        alike = sum(entry.split()[1] == turn.target.split()[1] for entry in turn.entries)
        assert make != "family" or alike == size
        assert make != "random" or alike < size / 4


def test_near_names_sound_alike_but_not_the_same(data: Path) -> None:
    near = Names(data, "dev").sounds.near("badan", ["Badan", "Baden", "Tosen", "Badon"], 2)
    assert near == ["Baden", "Badon"]


def test_splits_have_no_name_and_no_voice_in_common(data: Path) -> None:
    dev, test = Names(data, "dev"), Names(data, "test")
    assert dev.surnames and test.surnames and not set(dev.surnames) & set(test.surnames)
    assert all(of_split(name, "test") for name in (*test.given, *test.nicknames, *test.things[0]))
    for make in VOICES["dev"]:
        voices = [voice for of_split in VOICES.values() for voice in of_split.get(make, ())]
        assert len(voices) == len(set(voices))
    assert not set(VOICES["train"]["kokoro"]) & HELD_OUT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["badan", "badan baden", "b a d"])
def test_what_people_said_is_offered_or_nothing_like_it(data: Path, kind: str, text: str) -> None:
    said = ["badan", "baden", "badon", "kodan", "b a d", "n e g", "r o t", "badan baden", "kodan badon"]
    words = [f"{a}{b}dan" for a in "bdgklmnprst" for b in "aeiou"]
    line = line_of(kind, text, Alternatives(said, Sounds(data), words), random.Random(3))
    entries = [normalize(entry["text"]) for entry in line["context"]["entities"]]
    assert len(entries) == len(set(entries)) <= (10 if "ten" in kind else 2)
    assert (normalize(text) in entries) == kind.startswith("one")
    assert line["target"] is None or normalize(line["target"]) == normalize(text)
    if "alike" in kind and len(text.split()) == 2:
        assert any(set(entry.split()) & set(text.split()) for entry in entries if entry != text)
