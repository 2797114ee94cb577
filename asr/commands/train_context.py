"""Train the context encoder and the rescorer; goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from asr.context.candidates import AnswerTables
from asr.context.encoder import ContextEncoder, save_model
from asr.context.model import ContextModel, ContextModelConfig
from asr.context.rescorer import ListScorer, read_tables
from asr.recognizer import Recognizer
from asr.tokens import Tokenizer
from asr.training import context_lists
from asr.training.context_data import (
    FollowUp,
    Sample,
    dialogue_samples,
    followup_sample,
    pools_of,
    read_followups,
    read_names,
    rename,
)
from asr.training.context_fit import Example, choose, example, fit, fit_margin
from asr.training.context_lists import ContextList
from asr.training.context_pretrain import pretrain
from asr.training.context_report import as_json, as_markdown, report
from asr.training.context_tables import count_tables
from asr.training.speech import for_acoustic

console = Console(stderr=True)
log = logging.getLogger("carryover.train_context")
_DIALOGUES = 60_000
_FOLLOWUP_SHARE = 0.35


@dataclass(frozen=True)
class _Text:
    """Training text: samples of dialogues and of the follow-ups that the acoustic model may hear too."""

    dialogues: list[Sample]
    followups: list[Sample]
    given: list[str]
    surnames: list[str]

    def draw(self, rng: random.Random) -> Sample:
        if rng.random() < _FOLLOWUP_SHARE:
            return rename(rng.choice(self.followups), self.given, self.surnames, rng)
        return rng.choice(self.dialogues)


def _heard(row: FollowUp) -> bool:
    return for_acoustic({"id": row.id, "set": row.set})


def read_text(data: Path) -> _Text:
    rows = [r for r in read_followups(data, "train") if _heard(r) and r.context]
    return _Text(
        dialogue_samples(data, random.Random(0), _DIALOGUES),
        [followup_sample(r) for r in rows],
        read_names(data, "given_names", 4000),
        read_names(data, "surnames", 20_000),
    )


def network(data: Path, out: Path, tokenizer: Tokenizer, seconds: float, bar: Progress) -> ContextModel:
    """The context network: read from OUT where it is trained already, else trained on text."""
    torch.manual_seed(1)
    model = ContextModel(ContextModelConfig(tokenizer.vocab_size))
    path = out / "network.safetensors"
    if path.exists():
        return _read_network(model, path)
    text = read_text(data)
    held_out = [followup_sample(r) for r in read_followups(data, "dev") if r.context][:200]
    task = bar.add_task("network on text", total=1000)

    def progress(share: float, losses: dict[str, float]) -> None:
        bar.update(task, completed=int(1000 * share))
        log.info("network %s", json.dumps(losses))

    scores = pretrain(model, tokenizer, text.draw, held_out, seconds=seconds, batch=16, progress=progress)
    log.info("network held out %s", json.dumps(scores))
    (out / "network.json").write_text(json.dumps(scores))
    save_file({k: v.half() for k, v in model.state_dict().items()}, path)
    return _read_network(model, path)


def _read_network(model: ContextModel, path: Path) -> ContextModel:
    """As it will be shipped, in fp16's precision, so that the scorers are fitted to what they will meet."""
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return model.eval()


def tables(data: Path, out: Path) -> AnswerTables:
    path = out / "tables.json"
    if not path.exists():
        text = read_text(data)
        names = {n.lower() for n in text.given[:1500]} | {"dr", "cinema"}
        path.write_text(json.dumps(count_tables([*text.followups * 3, *text.dialogues[:20_000]], names)))
    return read_tables(json.loads(path.read_text()))


def lists(
    rows: list[FollowUp], split: str, data: Path, work: Path, encoder: ContextEncoder, answers: AnswerTables,
    recognizer: Recognizer, bar: Progress,
) -> list[ContextList]:  # fmt: skip
    """Decoded and scored lists of one split, under every condition."""
    tasks: dict[str, int] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(f"{stage} {split}", total=total)
        bar.update(tasks[stage], completed=done)  # type: ignore[arg-type]

    decoded = context_lists.decode(rows, recognizer, data, work / split, progress)
    contexts = context_lists.conditions_of(rows, pools_of(rows, data))
    return context_lists.score_candidates(decoded, contexts, encoder, answers, recognizer, work / split, progress)


def _examples(items: list[ContextList], encoder: ContextEncoder, answers: AnswerTables, exact: bool) -> list[Example]:
    return [example(i, encoder.model, encoder.tokenizer, answers, exact=exact) for i in items]


def _save(out: Path, encoder: ContextEncoder, scorers: dict[str, ListScorer], margins: list[float]) -> str:
    """Writes OUT/model; the version is a digest of everything that decides a result."""
    folder = out / "model"
    table = json.loads((out / "tables.json").read_text())
    save_model(folder, encoder.model, encoder.tokenizer, {"tables": table, "margins": margins, "version": ""})
    tensors = load_file(folder / "context.safetensors")
    for name, scorer in scorers.items():
        tensors |= {f"{name}.{k}": v.float().contiguous() for k, v in scorer.state_dict().items()}
    save_file(tensors, folder / "context.safetensors")
    config = json.loads((folder / "config.json").read_text())
    digest = hashlib.sha256((folder / "context.safetensors").read_bytes() + json.dumps(config).encode())
    version = f"context-{digest.hexdigest()[:12]}"
    (folder / "config.json").write_text(json.dumps(config | {"version": version}, indent=1) + "\n")
    return version


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with followups/ and text/.")],
    acoustic: Annotated[Path, typer.Option(help="Folder of the acoustic model whose lists are learned from.")],
    out: Annotated[Path, typer.Option(help="Folder for caches, log, report and model; outside the repository.")],
    minutes: Annotated[float, typer.Option(help="Minutes of training the network on text.")] = 14.0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    beam: Annotated[int, typer.Option(help="Beam of the recogniser.")] = 8,
    test: Annotated[bool, typer.Option(help="Also report on the test split, once a model is final.")] = False,
    limit: Annotated[int, typer.Option(help="Utterances of each split at most; 0: all.")] = 0,
) -> None:
    """Leaves OUT/model as it would be shipped, OUT/report.json and OUT/report.md, and prints the table."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=out / "log.txt", level=logging.INFO, format="%(asctime)s %(message)s")
    recognizer = Recognizer.load(acoustic, beam=beam)
    digest = hashlib.sha256((acoustic / "transducer.safetensors").read_bytes()).hexdigest()[:12]
    work = out / "lists" / f"{digest}-{beam}"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        model = network(data, out, recognizer.tokenizer, 60 * minutes, bar)
        answers = tables(data, out)
        encoder = ContextEncoder(model, recognizer.tokenizer, "training")
        splits = {"train": [r for r in read_followups(data, "train") if not _heard(r)]}
        splits |= {s: read_followups(data, s) for s in (("dev", "test") if test else ("dev",))}
        items = {
            split: lists(rows[: limit or None], split, data, work, encoder, answers, recognizer, bar)
            for split, rows in splits.items()
        }
    scorers, margins, results = {}, [], {}
    for name, exact in (("forced", True), ("ranked", False)):
        console.print(f"fitting the scorer of {name} lists ...")
        examples = {split: _examples(part, encoder, answers, exact) for split, part in items.items()}
        scorers[name] = fit(examples["train"])
        margins.append(fit_margin(examples["dev"], scorers[name]))
        log.info("%s: margin %s", name, margins[-1])
        for split in ("train", "dev", "test"):
            if split in examples:
                chosen = choose(examples[split], scorers[name], margins[-1])
                results[f"{name} {split}"] = report(examples[split], chosen)
    version = _save(out, encoder, scorers, margins)
    (out / "report.json").write_text(
        json.dumps({"version": version, "margins": margins} | {k: as_json(v) for k, v in results.items()}, indent=1)
    )
    text = "".join(f"\n### {k}\n\n{as_markdown(v)}" for k, v in results.items() if "train" not in k)
    (out / "report.md").write_text(text)
    typer.echo(text)
    console.print(f"{version}: {out / 'model'}")


if __name__ == "__main__":
    app()
