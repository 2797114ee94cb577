"""Training of the context network and of the scorer of lists without audio."""

from __future__ import annotations

import gzip
import io
import json
import operator
import random
import resource
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from asr.audio import Samples
from asr.context import Context, ContextEncoder, Entry, Turn
from asr.context.answer_tables import AnswerTables
from asr.context.checkpoint import read_tables
from asr.context.features import FEATURES, LIST_FEATURES
from asr.context.model import ContextModel
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer
from recipes.context import lists as context_lists
from recipes.context.data import (
    FollowUp,
    Sample,
    SoundAlikes,
    Stock,
    anti,
    confusable,
    dialogue_samples,
    followup_sample,
    irrelevant,
    rename,
)
from recipes.context.fit import (
    MARGINS,
    Example,
    Judged,
    choose,
    cross_fit,
    example,
    fit,
    outcome,
    select,
    word_errors,
)
from recipes.context.pretrain import evaluate, pretrain
from recipes.context.report import as_markdown, report
from recipes.context.tables import add_names, count_tables
from recipes.synthesis.corpus import of_train

MEG = Context(
    (Turn("user", "call Meg"), Turn("system", "Do you mean Meg Jones or Meg Bauer?")),
    (Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer")),
)
ROW = FollowUp("a-1", "disambiguation", "bauer", "meg bauer", MEG, "followups-dev-00.tar", "a-1.flac", 1.0)
YES = replace(ROW, id="a-2", text="yes", target=None, member="a-2.flac", context=Context(MEG.turns[:1]))


def test_names_are_exchanged_everywhere_alike() -> None:
    other = rename(followup_sample(ROW), Stock(["Ann"], ["Stone"], {}), random.Random(1))
    assert other.answer == "stone"
    assert other.target is not None
    assert other.context.entries[other.target].text == "Ann Stone"
    assert "Bauer" not in str(other)
    assert "Meg" not in str(other)


def test_other_things_are_exchanged_where_the_answer_names_them_whole() -> None:
    context = Context(
        (Turn("system", "Tesco or The Kings?"),), (Entry("places", "The Kings"), Entry("places", "Tesco"))
    )
    stock = Stock([], [], {"places": ["Blue Door"]})
    other = rename(Sample(context, "take me to the kings", 0), stock, random.Random(1))
    assert other.answer == "take me to blue door"
    assert {e.text for e in other.context.entries} == {"Blue Door"}
    part = rename(Sample(context, "kings please", 0), stock, random.Random(1))
    assert part.answer == "kings please"
    assert Entry("places", "The Kings") in part.context.entries


def test_dialogues_hold_no_names_of_dev_or_test(tmp_path: Path) -> None:
    names = [f"Hotel {c}{d}" for c in "abcdefgh" for d in "xyz"]
    train, held_out = [n for n in names if of_train(n)], [n for n in names if not of_train(n)]
    assert train
    assert held_out

    def turn(speaker: str, name: str) -> dict[str, object]:
        return {"speaker": speaker, "text": f"{name}, please", "entities": [{"type": "hotel_name", "value": name}]}

    folder = tmp_path / "text" / "dialogues"
    folder.mkdir(parents=True)
    with gzip.open(folder / "x.train.jsonl.gz", "wt") as out:
        for name in names:
            print(
                json.dumps({"turns": [turn("system", name), turn("user", name.upper()) | {"followup": True}]}), file=out
            )
    samples = dialogue_samples(tmp_path, Stock([], [], {"places": train}), random.Random(0), 1000)
    assert len(samples) == len(names)
    for sample in samples:
        said = f"{sample.answer} {sample.context}".lower()
        assert not any(n.lower() in said for n in held_out)
        named = next(e for e in sample.context.entries) if sample.context.entries else None
        assert named is None or named.text.lower() in sample.answer


def test_long_lists_are_cut_around_the_target() -> None:
    entries = tuple(Entry("devices", "lamp " + "x" * i) for i in range(300))
    for seed in range(20):
        cut = rename(Sample(Context((), entries), "lamp", 299), Stock([], [], {}), random.Random(seed))
        assert len(cut.context.entries) <= 80
        assert cut.target is not None
        assert cut.context.entries[cut.target] == entries[299]


def test_anti_contexts_hold_a_sound_alike_in_the_place_of_what_is_said() -> None:
    pools = {"given": SoundAlikes(["Mag", "Tom"]), "surname": SoundAlikes(["Bower", "Power", "Jones"])}
    context = anti(ROW, pools)
    assert context is not None
    assert "bauer" not in str(context).lower()
    assert "Power" in context.turns[-1].text
    assert "Jones" in context.turns[-1].text
    assert anti(YES, pools) is None


def test_a_confusable_context_keeps_what_is_meant_and_offers_its_sound_alike() -> None:
    pools = {"given": SoundAlikes(["Mag", "Tom"]), "surname": SoundAlikes(["Bower", "Power", "Jones"])}
    context = confusable(ROW, pools, random.Random(0))
    assert context is not None
    assert context.entries == (Entry("contacts", "Meg Power"), Entry("contacts", "Meg Bauer"))
    assert context.turns[-1].text == "Do you mean Meg Power or Meg Bauer?"
    assert confusable(YES, pools, random.Random(0)) is None


def test_irrelevant_is_another_rows_context() -> None:
    other = replace(YES, context=Context((Turn("system", "Which room?"),)))
    assert irrelevant([ROW, other], 0, random.Random(0)) == other.context


def test_tables_count_carriers_and_common_answers() -> None:
    samples = [
        *[Sample(MEG, "i mean bauer", 1)] * 3,
        *[Sample(MEG, "bauer", 1)] * 6,
        *[Sample(MEG, "the second one", 1)] * 4,
        *[Sample(MEG, "jack", None)] * 4,
    ]
    tables = read_tables(json.loads(json.dumps(count_tables(samples, {"jack"}))))
    assert tables.carriers.keys() == {("", ""), ("i mean", "")}
    assert tables.carriers["", ""] > tables.carriers["i mean", ""]
    assert tables.answers["which"].keys() == {"the second one"}


def test_a_little_training_lowers_the_losses(tiny_tokenizer: Tokenizer, network: ContextModel, tmp_path: Path) -> None:
    model = ContextModel(network.config)
    samples = [followup_sample(ROW), Sample(MEG, "yes", None), Sample(Context(), "play", None)]
    before = evaluate(model, tiny_tokenizer, samples, 3)
    pretrain(
        model, tiny_tokenizer, lambda rng: rng.choice(samples), steps=60, batch=4, checkpoint=tmp_path / "x.pt",
        progress=lambda *_: None,
    )  # fmt: skip
    after = evaluate(model, tiny_tokenizer, samples, 3)
    assert after["words"] < before["words"]
    assert after["entry"] < before["entry"]


@pytest.mark.parametrize("tasks", [("words",), ("words", "belongs")])
def test_what_is_no_task_is_not_learned(
    tiny_tokenizer: Tokenizer, network: ContextModel, tmp_path: Path, tasks: tuple[str, ...]
) -> None:
    model = ContextModel(network.config)
    before = model.turn_head.weight.detach().clone()
    samples = [followup_sample(ROW), Sample(MEG, "yes", None)]
    pretrain(
        model, tiny_tokenizer, lambda rng: rng.choice(samples), steps=3, batch=4, checkpoint=tmp_path / "x.pt",
        progress=lambda *_: None, tasks=tasks,
    )  # fmt: skip
    assert torch.equal(model.turn_head.weight, before) == ("belongs" not in tasks)


def test_the_most_frequent_names_are_added_once(tmp_path: Path) -> None:
    folder = tmp_path / "text" / "names"
    folder.mkdir(parents=True)
    for kind in ("given_names", "surnames"):
        with gzip.open(folder / f"{kind}.tsv.gz", "wt") as out:
            out.write(f"name\tcount\n{kind[:5].title()}\t9\nO'Neill\t8\nRare\t1\n")
    tables = tmp_path / "tables.json"
    tables.write_text(json.dumps({"carriers": [["", "", 0.0]], "answers": {}}))
    add_names(tables, tmp_path, given=1, surnames=2)
    known = read_tables(json.loads(tables.read_text()))
    assert (known.given, known.surnames) == ({"given"}, {"surna", "o'neill"})
    assert known.carriers == {("", ""): 0.0}
    add_names(tables, tmp_path, given=3, surnames=3)
    assert read_tables(json.loads(tables.read_text())) == known


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    tiny_tokenizer: Tokenizer, network: ContextModel, tmp_path: Path
) -> None:
    samples = [followup_sample(ROW), Sample(MEG, "yes", None), Sample(Context(), "play", None)]

    def run(name: str, *steps: int) -> dict[str, torch.Tensor]:
        for n in steps:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = ContextModel(network.config)
            pretrain(
                model, tiny_tokenizer, lambda rng: rng.choice(samples), steps=n, batch=2, checkpoint=tmp_path / name,
                progress=lambda *_: None,
            )  # fmt: skip
        return model.state_dict()

    whole, halves = run("a", 6), run("b", 3, 6)
    assert all(torch.equal(whole[k], halves[k]) for k in whole)


def toy(condition: str, *, right: int, seed: int) -> Example:
    """Three hypotheses; a feature names the right one where the context is relevant."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, len(FEATURES), generator=generator) * 0.001
    features[1, FEATURES.index("full")] = 1.0
    of_list = torch.zeros(len(LIST_FEATURES))
    of_list[LIST_FEATURES.index("none_meant")] = 0.0 if condition == "relevant" else 1.0
    errors = torch.ones(3)
    errors[right] = 0.0
    acoustic = torch.tensor([0.0, -1.0, -4.0])
    limits = torch.full((3,), torch.inf)
    return Example(str(seed), "toy", condition, 1, ("a", "b", "c"), features, of_list, limits, acoustic, errors)


def toys(start: int) -> list[Example]:
    return [
        toy(c, right=1 if c == "relevant" else 0, seed=start + i)
        for i in range(40)
        for c in ("relevant", "irrelevant", "anti")
    ]


def test_fitting_learns_when_the_context_matters() -> None:
    scorer = fit(toys(0), 1.0, steps=400)
    dev = toys(1000)
    chosen_scorer, margin = select([scorer], [dev])
    assert chosen_scorer is scorer
    chosen = choose(dev, scorer, margin)
    for condition in ("relevant", "irrelevant", "anti"):
        places = [i for i, e in enumerate(dev) if e.condition == condition]
        after = outcome([dev[i] for i in places], [chosen[i] for i in places])
        assert after.rescored == 0.0
        assert after.false_bias == 0
    lines = report(dev, chosen, draws=50)
    assert {(x.condition, x.change.value) for x in lines if x.set == "all"} >= {("relevant", -1.0)}
    assert "| relevant | all | 40 |" in as_markdown(lines)


def test_the_margin_keeps_a_scorer_that_only_harms_from_harming() -> None:
    scorer = fit([toy("relevant", right=1, seed=i) for i in range(40)], 1.0, steps=100)
    dev = [toy("anti", right=0, seed=i) for i in range(40)]
    assert outcome(dev, choose(dev, scorer, 0.0)).rescored == 40
    assert outcome(dev, choose(dev, scorer, select([scorer], [dev])[1])).rescored == 0


def test_of_several_fits_the_one_that_helps_without_harm_is_selected() -> None:
    harmful = fit([toy("relevant", right=1, seed=i) for i in range(40)], 1.0, steps=100)
    useless = fit([toy("anti", right=0, seed=i) for i in range(40)], 1.0, steps=100)
    good = fit(toys(0), 1.0, steps=400)
    dev = toys(1000)
    assert select([harmful, useless, good], [dev])[0] is good
    assert outcome(dev, choose(dev, *select([harmful, useless], [dev]))).false_bias == 0


def test_the_margin_keeps_from_harming_each_group_of_lists() -> None:
    """What is half a percent of all lists may be all that there is of one group."""
    scorer = fit([toy("relevant", right=1, seed=i) for i in range(40)], 1.0, steps=100)
    helped = [toy("relevant", right=1, seed=i) for i in range(10)]
    spared = [replace(toy("anti", right=0, seed=i), base=torch.tensor([0.0, -50.0, -50.0])) for i in range(200)]
    harmed = [toy("anti", right=0, seed=0)]

    def chosen(*groups: list[Example]) -> list[int]:
        return choose([*helped, *harmed], scorer, select([scorer], groups)[1])

    assert chosen([*helped, *spared, *harmed]) == [1] * 11
    assert chosen([*helped, *spared], [*helped, *harmed])[-1] == 0


@pytest.mark.parametrize("plain", [0.0, 1.0])
def test_names_that_were_not_learned_from_have_a_say_in_the_margin(plain: float) -> None:
    """At most 2% of them may get more errors than before, whether they were right then or not."""
    scorer = fit([toy("relevant", right=1, seed=i) for i in range(40)], 1.0, steps=100)
    dev = [toy("relevant", right=1, seed=i) for i in range(20)]

    def margin(harmed: int) -> float:
        name = replace(toy("anti", right=1, seed=0), set="names")
        lists = [replace(name, errors=torch.tensor([plain, plain + 1, 2.0]))] * harmed + [name] * (50 - harmed)
        totals = [torch.tensor([0.0, 1.4, -9.0])] * harmed + [torch.tensor([0.0, 9.0, -9.0])] * (50 - harmed)
        return select([scorer], [dev], [Judged(lists, totals)])[1]

    assert margin(1) == MARGINS[0]
    assert margin(2) >= 1.4


def test_each_part_is_judged_by_a_scorer_that_learned_from_the_others() -> None:
    """What is right in one part alone cannot be known there."""
    parts = [[toy("relevant", right=right, seed=i) for i in range(30)] for right in (0, 1)]
    judged = cross_fit(parts, [], 1.0)
    assert list(judged.lists) == [*parts[0], *parts[1]]
    assert judged.choose(0.0) == [1] * 30 + [0] * 30


@pytest.mark.parametrize(("kind", "taken"), [("toy", 1), ("names", 0)])
def test_of_a_name_only_the_whole_is_worth_taking(kind: str, taken: int) -> None:
    """In three of four lists the first candidate mends one of two errors, in the fourth it makes a third."""
    lists = [
        replace(toy("anti", right=0, seed=i), set=kind, errors=torch.tensor([2.0, 1.0 if i % 4 else 3.0, 3.0]))
        for i in range(60)
    ]
    scorer = fit(lists, 1.0, steps=200)
    assert set(choose(lists, scorer, 0.0)) == {taken}


def test_what_weighs_a_right_answer_keeps_it() -> None:
    """A hypothesis that is right in two of three lists, and nothing tells which: worth it unless harm weighs more."""
    lists = [toy("relevant", right=int(i % 3 > 0), seed=i) for i in range(60)]
    taken = {weight: sum(choose(lists, fit(lists, weight, steps=200), 0.0)) for weight in (1.0, 50.0)}
    assert taken == {1.0: 60, 50.0: 0}


def test_what_never_varied_in_training_counts_for_nothing() -> None:
    lists = toys(0)
    grammar = FEATURES.index("grammar")
    for example_ in lists:
        example_.features[:, grammar] = 0.0
    scorer = fit(lists, 1.0, steps=50)
    plain = scorer(lists[0].features, lists[0].of_list, lists[0].limits)
    lists[0].features[:, grammar] = torch.tensor([0.0, 3.0, -3.0])
    assert torch.allclose(scorer(lists[0].features, lists[0].of_list, lists[0].limits), plain, atol=1e-3)


@pytest.mark.parametrize(
    ("reference", "text", "errors"), [("a b c", "a b c", 0), ("a b", "", 2), ("", "a", 1), ("a b c", "a x c d", 2)]
)
def test_word_errors(reference: str, text: str, errors: int) -> None:
    assert word_errors(reference, text) == errors


@pytest.fixture
def data(tmp_path: Path, speech: Samples) -> Path:
    folder = tmp_path / "followups"
    folder.mkdir()
    with tarfile.open(folder / ROW.shard, "w") as tar:
        for row in (ROW, YES):
            audio = io.BytesIO()
            soundfile.write(audio, speech, 16_000, format="FLAC")
            member = tarfile.TarInfo(row.member)
            member.size = len(audio.getvalue())
            tar.addfile(member, io.BytesIO(audio.getvalue()))
    with gzip.open(folder / "followups-dev.jsonl.gz", "wt"):
        pass
    return tmp_path


def test_lists_are_made_once_and_scored_under_every_condition(
    data: Path, tiny_recognizer: Recognizer, encoder: ContextEncoder, tables: AnswerTables
) -> None:
    work = data / "work"
    contexts = {ROW.id: {"relevant": MEG, "irrelevant": YES.context}, YES.id: {"relevant": YES.context}}

    def run() -> list[context_lists.ContextList]:
        tools = context_lists.Tools(tiny_recognizer, encoder, tables, data / "followups", work)
        return context_lists.make_lists([ROW, YES], contexts, lambda: tools, work, lambda *_: None, lambda x, _: x)

    first = run()
    kept = (work / "lists.jsonl").read_text()
    assert len(kept.splitlines()) == 2
    assert [(x.decoded.row.id, x.condition) for x in first] == [
        ("a-1", "relevant"), ("a-1", "irrelevant"), ("a-2", "relevant"),
    ]  # fmt: skip
    assert len(first[0].texts) == len(first[0].scores) > 0
    assert np.isfinite(first[0].scores).all()
    (data / "followups" / ROW.shard).unlink()
    again = run()
    assert (work / "lists.jsonl").read_text() == kept
    assert [(x.texts, x.scores) for x in again] == [(x.texts, x.scores) for x in first]
    made = example(first[0], encoder.model, encoder.tokenizer, tables)
    assert made.features.shape == (len(made.texts), len(FEATURES))
    assert torch.isfinite(made.features).all()
    assert torch.isfinite(made.of_list).all()
    assert made.limits.shape == made.base.shape


def test_workers_send_values_and_no_open_files() -> None:
    """torch would send an open file for each tensor: with many lists a process ran out of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        tools: Any = partial(torch.ones, 2)
        found = list(context_lists.share_out(operator.mul, range(400), tools, workers=2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert torch.equal(torch.stack(found), torch.arange(400)[:, None] * torch.ones(2))
