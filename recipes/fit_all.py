"""Fits every constant of a set of models anew, in one run, and reports by make what they do.

    python -m recipes.fit_all DATA WORK [--voices VOICES] [--small]

DATA is the folder of docs/data.md, WORK gets sets, lists, logs and report.md; VOICES holds the files of Piper and
Kokoro (recipes/sets). Each step is a command that could be run by hand; it is printed, its output is kept in WORK/logs,
and where it has run to its end with the same command and the same models before it, it is left out: a run that is
stopped goes on. --small draws few recordings: it shows that the steps work, not what the constants should be.

| step | fits | writes |
|---|---|---|
| scores | what CTC head, n-gram and attention decoder count | asr/weights/acoustic/fitted.json |
| sets | nothing: makes sets of answers of several makes, train and dev | WORK/sets |
| lists | nothing: what is heard of them, and of the follow-ups | WORK/lists |
| entries | what speaks for a hypothesis that names an entry | asr/weights/context/fitted.json |
| callers | what speaks for a contact in another recogniser's list | asr/weights/context/fitted.json |
| confidence | what a word's confidence means | confidence.json of both models |
| endings | nothing: delay and cut utterances at the shipped endpointing | WORK/endings.json |
| report | nothing: every dev make under every condition | WORK/report.md |
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from asr.acoustic.checkpoint import SHIPPED as ACOUSTIC
from asr.commands.terminal import give_up
from asr.context.checkpoint import WEIGHTS as CONTEXT
from asr.errors import AsrError, ModelError
from asr.fitted import content_digest
from asr.second_pass.attention_decoder import SHIPPED as SECOND_PASS

WEIGHTS = (
    ACOUSTIC / "encoder.safetensors", ACOUSTIC / "transducer.safetensors", SECOND_PASS / "model.safetensors",
    CONTEXT / "context.safetensors",
)  # fmt: skip
SPEECH = ("an4", "speech_commands", "fsdd_strings", "speechocean762", "librispeech")
TRAIN_MAKES, DEV_MAKES = ("espeak", "kokoro"), ("espeak", "flite", "festival", "piper", "kokoro")
NEED_VOICES = ("piper", "kokoro")
PEOPLE = ("an4", "speech_commands", "librispeech", "fsdd_strings")


@dataclass(frozen=True)
class Step:
    """commands: run one after the other, each the arguments behind `python -m`."""

    name: str
    commands: tuple[tuple[str, ...], ...]


def steps(data: Path, work: Path, voices: Path | None, small: bool) -> list[Step]:
    """The whole run, in its order. small: few recordings."""
    many, few = ("6", "3") if small else ("60", "40")
    sets, lists = work / "sets", work / "lists"
    dev = [str(data / "speech" / corpus / f"{corpus}-dev.jsonl.gz") for corpus in SPEECH]
    followups = [str(data / "followups" / f"followups-{split}.jsonl.gz") for split in ("train", "dev")]
    trained, judged = (
        [make for make in makes if voices or make not in NEED_VOICES] for makes in (TRAIN_MAKES, DEV_MAKES)
    )
    spoken = ("--voices", str(voices)) if voices else ()
    each = ("--each", "1") if small else ()
    makes = [(make, "train") for make in trained] + [(make, "dev") for make in judged]
    answers = {(m, s): str(sets / f"answers-{m}-{s}.jsonl") for m, s in makes}
    answers |= {(m, s): str(sets / f"people-{m}-{s}.jsonl") for m in PEOPLE for s in ("train", "dev")}
    conditions = ("--conditions", "relevant,irrelevant,anti")
    limit = ("--limit", many) if small else ()

    def heard(split: str) -> tuple[tuple[str, ...], ...]:
        own = [file for (_, of_split), file in answers.items() if of_split == split]
        out = str(lists / f"{split}.jsonl")
        unheard = ("--unheard",) if split == "train" else ()
        turns = followups[split == "dev"]
        return (
            ("recipes.rescorer.lists", *own, "--out", out, "--conditions", "relevant,anti", *limit),
            ("recipes.rescorer.lists", turns, "--out", out, *conditions, *unheard, "--limit", many if small else "200"),
        )

    reported = [file for (_, split), file in answers.items() if split == "dev"]
    return [
        Step("scores", (
            ("recipes.second_pass.weights", *dev, followups[1], "--sample", few,
             "--lists", str(lists / "scores.jsonl")),
        )),
        Step("sets", (
            *(("recipes.sets.answers", str(data), str(sets), "--split", split, "--makes", ",".join(own), *spoken, *each)
              for split, own in (("train", trained), ("dev", judged))),
            *(("recipes.sets.people", str(data), str(sets), "--split", split, *each) for split in ("train", "dev")),
        )),
        Step("lists", (*heard("train"), *heard("dev"))),
        Step("entries", (
            ("recipes.rescorer.fit", str(lists / "train.jsonl"), str(lists / "dev.jsonl")),
        )),
        Step("callers", (("recipes.rescorer.callers", str(data), *(("--limit", "40") if small else ())),)),
        Step("confidence", (
            ("recipes.acoustic.calibrate_confidence", *dev, "--sample", many),
            ("recipes.acoustic.calibrate_confidence", *dev, "--sample", many, "--attention", str(SECOND_PASS)),
        )),
        Step("endings", (
            ("asr.commands.evaluate_wer", *dev[:2], "--conditions", "none", "--limit", many, "--endpoints",
             "--json", str(work / "endings.json")),
        )),
        Step("report", (
            ("asr.commands.evaluate_wer", *reported, followups[1], "--conditions", "none,relevant,irrelevant,anti",
             *limit, "--json", str(work / "report.json"), "--html", str(work / "report.html")),
        )),
    ]  # fmt: skip


def run(step: Step, work: Path, before: str, console: Console) -> str:
    """Runs a step unless it has run; returns its key, which holds those of the steps before it.

    Raises:
        ModelError: one of its commands failed.
    """
    key = hashlib.sha256(json.dumps([before, content_digest(*WEIGHTS), step.commands]).encode()).hexdigest()
    done = work / "done" / step.name
    if done.exists() and done.read_text() == key:
        console.print(f"{step.name}: done before")
        return key
    log, started = work / "logs" / f"{step.name}.txt", time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        for command in step.commands:
            console.print(f"{step.name}: python -m {' '.join(command)}", soft_wrap=True)
            file.write(f"$ python -m {' '.join(command)}\n")
            file.flush()
            if subprocess.run([sys.executable, "-m", *command], stdout=file).returncode:
                raise ModelError(f"step {step.name} failed: what it printed stands in {log}; run this again to go on")
    console.print(f"{step.name}: {time.monotonic() - started:.0f} s, {log}")
    done.write_text(key)
    return key


def figures(work: Path, chosen: Sequence[Step]) -> str:
    """What the steps printed, as one Markdown page."""
    parts = ["# Figures of the shipped models, by make\n\nMade by `python -m recipes.fit_all`; dev alone.\n"]
    for step in chosen:
        log = work / "logs" / f"{step.name}.txt"
        if step.name not in ("sets", "lists") and log.exists():
            parts.append(f"\n## {step.name}\n\n```\n{log.read_text(encoding='utf-8').strip()}\n```\n")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--voices", type=Path, help="folder with the files of Piper and Kokoro; none: without these")
    parser.add_argument("--small", action="store_true", help="few recordings: to see that it runs")
    args = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    for folder in ("sets", "lists", "logs", "done"):
        (args.work / folder).mkdir(parents=True, exist_ok=True)
    planned, key = steps(args.data, args.work, args.voices, args.small), ""
    try:
        for step in planned:
            key = run(step, args.work, key, console)
    except (AsrError, OSError) as error:
        give_up(error)
    (args.work / "report.md").write_text(figures(args.work, planned), encoding="utf-8")
    console.print(f"{args.work / 'report.md'}")


if __name__ == "__main__":
    main()
