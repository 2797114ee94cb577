"""Train the context encoder and the rescorer; goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from asr.context.checkpoint import WEIGHTS, read_tables, read_weights, save_model
from asr.context.encoder import ContextEncoder
from asr.context.foreign_nbest import ListScorer
from asr.context.model import ContextModel, ContextModelConfig
from asr.context.types import Context
from asr.decoding import BEAM
from asr.decoding import ngram as language_model
from asr.fitted import FILE, ModelVersions, RescorerConstants, content_digest, read_fitted, save_fitted
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer
from recipes.acoustic.speech import for_acoustic
from recipes.context.data import (
    FollowUp,
    Sample,
    Stock,
    dialogue_samples,
    followup_sample,
    pools_of,
    read_followups,
    read_stock,
    rename,
)
from recipes.context.fit import RIGHT_WEIGHT, STARTS, Example, choose, cross_fit, example, fit, select
from recipes.context.lists import ContextList, Tools, conditions_of, make_lists, ranked_list, share_out
from recipes.context.names import PARTS, Call, ContactLists, name_lists, read_calls, read_contacts
from recipes.context.people import read_people
from recipes.context.pretrain import TASKS, evaluate, pretrain
from recipes.context.report import as_json, as_markdown, report
from recipes.context.tables import add_names, count_tables

console = Console(stderr=True)
log = logging.getLogger("carryover.train_context")
STAGES = ("text", "lists", "fit")
_DIALOGUES = 60_000
_FOLLOWUP_SHARE = 0.35
_BATCH = 16
_DRAWS = 2
"""Contact lists with the caller's name, and as many without it, for each call."""


@dataclass(frozen=True)
class _Text:
    """Training text: samples of dialogues and of the follow-ups that the acoustic model may hear too."""

    dialogues: list[Sample]
    followups: list[Sample]
    stock: Stock

    def draw(self, rng: random.Random) -> Sample:
        if rng.random() < _FOLLOWUP_SHARE:
            return rename(rng.choice(self.followups), self.stock, rng)
        return rng.choice(self.dialogues)


def _heard(row: FollowUp) -> bool:
    return for_acoustic({"id": row.id, "set": row.set})


def read_text(data: Path) -> _Text:
    rows = [r for r in read_followups(data, "train") if _heard(r) and r.context]
    stock = read_stock(data, rows)
    dialogues = dialogue_samples(data, stock, random.Random(0), _DIALOGUES)
    return _Text(dialogues, [followup_sample(r) for r in rows], stock)


def learn_text(data: Path, out: Path, tokenizer: Tokenizer, steps: int, tasks: set[str], bar: Progress) -> None:
    """The stage `text`: the network and the tables of answers, into OUT; goes on where it stopped."""
    digest = hashlib.sha256(tokenizer.proto).hexdigest()[:12]
    known = {"steps": steps, "tokens": digest, "tasks": sorted(tasks)}
    report_file = out / "network.json"
    if report_file.exists() and known.items() <= json.loads(report_file.read_text()).items():
        return
    text = read_text(data)
    names = {n.lower() for n in text.stock.given[:1500]} | {"dr", "cinema"}
    counted = count_tables([*text.followups * 3, *text.dialogues[:20_000]], names)
    (out / "tables.json").write_text(json.dumps(counted))
    torch.manual_seed(1)
    model = ContextModel(ContextModelConfig(tokenizer.vocab_size))
    task = bar.add_task("network on text", total=steps)

    def progress(step: int, losses: dict[str, float]) -> None:
        bar.update(task, completed=step)
        log.info("network %s", json.dumps({"step": step} | losses))

    pretrain(
        model, tokenizer, text.draw, steps=steps, batch=_BATCH, checkpoint=out / "network.pt", progress=progress,
        tasks=tasks,
    )  # fmt: skip
    save_file({k: v.half() for k, v in model.state_dict().items()}, out / "network.safetensors")
    model = read_network(out, tokenizer)
    held_out = [followup_sample(r) for r in read_followups(data, "dev") if r.context]
    scores = evaluate(model, tokenizer, held_out, _BATCH)
    log.info("network held out %s", json.dumps(scores))
    report_file.write_text(json.dumps(known | scores))


def read_network(out: Path, tokenizer: Tokenizer) -> ContextModel:
    """As it will be shipped, in fp16's precision, so that the scorers are fitted to what they will meet."""
    model = ContextModel(ContextModelConfig(tokenizer.vocab_size))
    model.load_state_dict({k: v.float() for k, v in load_file(out / "network.safetensors").items()})
    return model.eval()


def _heard_with(acoustic: Path) -> str:
    """A digest of what decides scores: the acoustic model, and the shipped language model where there is one."""
    files = [acoustic / name for name in ("encoder.safetensors", "transducer.safetensors", FILE)]
    return content_digest(*filter(Path.exists, [*files, language_model.SHIPPED / "ngram.safetensors"]))


def load_tools(acoustic: Path, beam: int, out: Path, audio: Path, work: Path) -> Tools:
    recognizer = Recognizer.load(acoustic, beam=beam)
    encoder = ContextEncoder(read_network(out, recognizer.tokenizer), recognizer.tokenizer, "training")
    return Tools(recognizer, encoder, read_tables(json.loads((out / "tables.json").read_text())), audio, work)


def _without_audio(item: ContextList, tools: Tools) -> Example:
    """A list as another recogniser's, by rank."""
    return _example(ranked_list(item.decoded, item.condition, item.embedding, tools.tables), tools)


def _example(item: ContextList, tools: Tools) -> Example:
    return example(item, tools.encoder.model, tools.encoder.tokenizer, tools.tables)


def lists(
    rows: Sequence[FollowUp], contexts: dict[str, dict[str, Context]], split: str, data: Path, work: Path,
    tools: Callable[[Path, Path], Tools], workers: int, bar: Progress,
) -> list[Example]:  # fmt: skip
    """The stage `lists`: decoded lists of one split, under every condition. tools: from audio and work."""
    task = bar.add_task(f"lists {split}", total=len(rows))
    own = partial(tools, data / "followups", work / split)

    def progress(done: int, _: int) -> None:
        bar.update(task, completed=done)

    return make_lists(rows, contexts, own, work / split, progress, _without_audio, workers)


def _name_examples(contacts: ContactLists, draws: int, call: Call, tools: Tools) -> list[Example]:
    return [_example(x, tools) for x in name_lists(call, contacts, tools, draws)]


def callers(data: Path, tools: Callable[[], Tools], workers: int, bar: Progress) -> dict[str, list[Example]]:
    """Real callers' names for the scorer of lists without audio, in parts that are apart by speaker."""
    folder = data / "text" / "nbest"
    contacts = ContactLists(read_contacts(folder / "evi_contacts.tsv.gz"))
    calls = [c for c in read_calls(folder / "evi_en.jsonl.gz") if c.half == "dev"]
    task = bar.add_task("names", total=len(calls))
    out: dict[str, list[Example]] = {}
    for part in range(PARTS):
        mine = [c for c in calls if c.part == part]
        made = share_out(partial(_name_examples, contacts, _DRAWS), mine, tools, workers)
        out[f"names {part}"] = [e for found in bar.track(made, task_id=task, total=len(calls)) for e in found]
    return out


def _save(out: Path, encoder: ContextEncoder, scorer: ListScorer, margin: float, heard_by: ModelVersions) -> str:
    """Writes OUT/model and returns its version. heard_by: the models whose lists the scorer was fitted to."""
    folder = out / "model"
    table = json.loads((out / "tables.json").read_text())
    save_model(folder, encoder.model, encoder.tokenizer, {"tables": table, "version": "context"})
    tensors = load_file(folder / "context.safetensors")
    tensors |= {f"ranked.{k}": v.float().contiguous() for k, v in scorer.state_dict().items()}
    save_file(tensors, folder / "context.safetensors")
    version = read_weights(folder).version
    shipped = read_fitted(RescorerConstants, WEIGHTS / FILE)
    save_fitted(replace(shipped, margin=margin, models=replace(heard_by, context=version)), folder / FILE)
    return version


def _some(given: str, known: Collection[str], option: str) -> set[str]:
    chosen = {s.strip() for s in given.split(",")}
    if not chosen <= set(known):
        raise typer.BadParameter(f"{given!r}: give some of {', '.join(known)}", param_hint=option)
    return chosen


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with followups/ and text/.")],
    acoustic: Annotated[Path, typer.Option(help="Folder of the acoustic model whose lists are learned from.")],
    out: Annotated[Path, typer.Option(help="Folder for caches, log, report and model; outside the repository.")],
    stages: Annotated[
        str, typer.Option(help="Comma-separated: text (needs the acoustic model's tokens only), lists, fit.")
    ] = ",".join(STAGES),
    steps: Annotated[int, typer.Option(min=1, help="Steps of training the network on text.")] = 6000,
    tasks: Annotated[
        str, typer.Option(help="Comma-separated: what the network learns; fewer show what one is worth.")
    ] = ",".join(TASKS),
    workers: Annotated[int, typer.Option(min=1, help="Processes that make lists.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the other stages.")] = 1,
    beam: Annotated[int, typer.Option(help="Beam of the recogniser.")] = BEAM,
    test: Annotated[bool, typer.Option(help="Also report on the test split, once a model is final.")] = False,
    people: Annotated[
        list[Path] | None, typer.Option(help="Follow-ups of people's train recordings to learn from as well.")
    ] = None,
    people_dev: Annotated[
        list[Path] | None, typer.Option(help="And of their dev recordings, to choose with; both: any number.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Of each file of people's follow-ups so many, drawn.")] = 200,
    limit: Annotated[int, typer.Option(help="Utterances of each split at most; 0: all.")] = 0,
) -> None:
    """Leaves OUT/model as it would be shipped, OUT/report.json and OUT/report.md, and prints the table."""
    chosen, learned = _some(stages, STAGES, "--stages"), _some(tasks, TASKS, "--tasks")
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=out / "log.txt", level=logging.INFO, format="%(asctime)s %(message)s")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        if "text" in chosen:
            learn_text(data, out, Tokenizer.load(acoustic / "tokens.model"), steps, learned, bar)
        if chosen == {"text"}:
            return
        add_names(out / "tables.json", data)
        work = out / "lists" / f"{_heard_with(acoustic)}-{beam}"
        tools = partial(load_tools, acoustic, beam, out)
        splits = {"train": [r for r in read_followups(data, "train") if not _heard(r)]}
        splits |= {s: read_followups(data, s) for s in (("dev", "test") if test else ("dev",))}
        items = {}
        for split, rows in splits.items():
            rows = rows[: limit or None]
            contexts = conditions_of(rows, pools_of(rows, data))
            items[split] = lists(rows, contexts, split, data, work, tools, workers, bar)
        for split, files in (("people train", people or []), ("people dev", people_dev or [])):
            for file in files:
                found = read_people(file, limit or most, noisy=split == "people train")
                of_file = lists(found.rows, found.contexts, f"{split} {file.stem}", data, work, tools, workers, bar)
                items.setdefault(split, []).extend(of_file)
        if "fit" not in chosen:
            return
        names = callers(data, partial(tools, data, work), workers, bar)
    fit_and_report(out, tools(data, work), items, names)


def fit_and_report(out: Path, tools: Tools, items: dict[str, list[Example]], names: dict[str, list[Example]]) -> None:
    """The stage `fit`: scorer, margin, the model's folder and the report."""
    console.print("fitting the scorer of lists without audio ...")
    train = [x for split, part in items.items() if split.endswith("train") for x in part]
    fits = [fit([*train, *chain(*names.values())], RIGHT_WEIGHT, seed=seed) for seed in STARTS]
    held_out = cross_fit(list(names.values()), train, RIGHT_WEIGHT)
    scorer, margin = select(fits, [part for s, part in items.items() if s.endswith("dev")], [held_out])
    log.info("margin %s", margin)
    results = {split: report(part, choose(part, scorer, margin)) for split, part in items.items()}
    results["names, cross-fitted"] = report(held_out.lists, held_out.choose(margin))
    version = _save(out, tools.encoder, scorer, margin, tools.recognizer.models)
    (out / "report.json").write_text(
        json.dumps({"version": version, "margin": margin} | {k: as_json(v) for k, v in results.items()}, indent=1)
    )
    text = "".join(f"\n### {k}\n\n{as_markdown(v)}" for k, v in results.items() if "train" not in k)
    (out / "report.md").write_text(text)
    typer.echo(text)
    console.print(f"{version}: {out / 'model'}; what speaks for entries: python -m recipes.rescorer.fit")


if __name__ == "__main__":
    app()
