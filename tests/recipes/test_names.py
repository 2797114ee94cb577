"""Sets of names: what is asked, listed and said fits together; the splits have nothing in common."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from asr.text import normalize
from recipes.names.makes import SPLITS, VOICES, Names, turns


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "text" / "names"
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrst"
    words = [f"{a}{v}{b}{w}n" for a in "bdgklmnprst" for v in "aeiou" for b in letters for w in "aeo"]
    for name in ("given_names.tsv.gz", "surnames.tsv.gz"):
        with gzip.open(folder / name, "wt") as file:
            file.write("name\tcount\n" + "".join(f"{word}\t{i}\n" for i, word in enumerate(words)))
    return tmp_path


@pytest.mark.parametrize("split", SPLITS)
def test_a_turn_means_what_it_lists(data: Path, split: str) -> None:
    rng = random.Random(1)
    for kind, make in turns(Names(data, split, rng), rng).items():
        for _ in range(5):
            turn = make()
            assert turn.kind == kind or kind in ("not listed",)
            assert turn.text and turn.text == normalize(turn.text)
            asked = normalize(turn.question)
            if turn.target is not None:
                assert turn.target in turn.entries or normalize(turn.target) in asked
                if kind != "ordinals":
                    assert set(turn.text.split()) & set(normalize(turn.target).split())


def test_splits_have_no_name_and_no_voice_in_common(data: Path) -> None:
    rng = random.Random(1)
    dev, test = Names(data, "dev", rng), Names(data, "test", rng)
    assert dev.surnames and test.surnames and not set(dev.surnames) & set(test.surnames)
    for make, voices in VOICES["dev"].items():
        assert not set(voices) & set(VOICES["test"][make])
