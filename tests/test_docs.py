"""What the documentation shows runs as it stands: Python as pasted, commands by their own parsers, names, links."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel
from typer.testing import CliRunner

from asr.context.types import Entry, Turn
from asr.evaluation.manifest import EXAMPLE, parse_utterance
from benchmarks.server.processes import server_process
from server.metrics import Metrics
from server.scheduler import Work
from server.settings import Settings
from tests.support.pages import blocks

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/*.md",
        "samples/*.md",
        "recipes/**/*.md",
        "benchmarks/**/*.md",
        "asr/weights/*/*.md",
        "clients/**/*.md",
    )
    for page in ROOT.glob(pattern)
)
OUTSIDE = ("http://", "https://", "#")
FOLDERS = "asr|benchmarks|clients|context_store|deploy|docs|proto|recipes|samples|scripts|server|tests"


class Command(NamedTuple):
    """A command of a page. whole: it stands on a line of its own, with nothing left out."""

    script: str
    arguments: list[str]
    whole: bool


def commands(page: Path) -> list[Command]:
    """Each `./scripts/...` of a page, without comments; what stands in [] is an option like any other."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    found = []
    for before, line in re.findall(r"^(.*?)(?=\./scripts)(\./scripts/[a-z_]+(?![a-z_/])[^`\n|]*)", text, re.MULTILINE):
        whole = not before.strip() and "..." not in line
        name, *words = shlex.split(re.sub(r"[\[\]]|\.\.\.", "", line), comments=True)
        found.append(Command(name.removeprefix("./scripts/"), [re.sub(r"^N$", "1", word) for word in words], whole))
    return found


def command_of(script: str) -> Any:
    module_name = re.search(r'lib/run" (\S+) "\$@"', (ROOT / "scripts" / script).read_text())
    assert module_name, f"scripts/{script} runs no module"
    module = importlib.import_module(module_name[1])
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command()(module.main)
    return typer.main.get_command(app)


def run_python(code: str) -> str:
    """What pasted code prints."""
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(code, "pasted", "exec"), {"__name__": "__main__"})
    return out.getvalue()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server_process({"CARRYOVER_STORE__ENDPOINT": "local"}) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_block_of_python_is_run_below() -> None:
    pages = {str(page.relative_to(ROOT)): len(blocks(str(page), "python")) for page in PAGES}
    assert {name: count for name, count in pages.items() if count} == {
        "README.md": 1, "clients/python/README.md": 1, "docs/api.md": 3, "docs/context.md": 1,
        "docs/context_store.md": 1, "docs/phrases.md": 1,
        "docs/doors.md": 2,  # by tests/doors, in the environments of the clients that it is for
        "docs/http.md": 2,  # by tests/http, likewise
        "clients/livekit/README.md": 1, "clients/pipecat/README.md": 1,  # by tests/plugins, likewise
    }  # fmt: skip


EXAMPLES = {
    "stream_a_file": "README.md",
    "follow_up": "docs/api.md",
    "steer_a_stream": "docs/api.md",
    "aliases": "docs/api.md",
    "rescore_offline": "docs/context.md",
    "boost_phrases": "docs/phrases.md",
    "record_events": "docs/context_store.md",
}


def test_the_examples_are_what_the_pages_show() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == EXAMPLES.keys()
    for name, page in EXAMPLES.items():
        code = (ROOT / "examples" / f"{name}.py").read_text()
        assert code.split('"""\n\n', 1)[1] in blocks(page, "python"), name


@pytest.mark.parametrize("page", ["README.md", "clients/python/README.md"])
def test_the_readmes_client(address: str, in_checkout: None, page: str) -> None:
    (code,) = blocks(page, "python")
    told = run_python(code.replace("127.0.0.1:50051", address)).splitlines()
    status, text = told[-1].split(" ", 1)
    assert status == "NOT_FOUND" and text.startswith("call "), told


def test_the_follow_up_of_the_interface(address: str, in_checkout: None) -> None:
    code, _, _ = blocks("docs/api.md", "python")
    told = run_python(code.replace("127.0.0.1:50051", address)).splitlines()
    assert told[-1] == "APPLIED bauer", told


def test_the_steered_stream_of_the_interface(address: str, in_checkout: None) -> None:
    _, code, _ = blocks("docs/api.md", "python")
    told = run_python(code.replace("127.0.0.1:50051", address)).splitlines()
    assert told == ["NOT_FOUND call meg", "APPLIED bauer"]


def test_the_alias_of_the_interface(address: str, in_checkout: None) -> None:
    _, _, code = blocks("docs/api.md", "python")
    told = run_python(code.replace("127.0.0.1:50051", address)).strip()
    assert f"`{told}`" in (ROOT / "docs/api.md").read_text() and "Margaret" in told


def test_context_in_python(in_checkout: None) -> None:
    (code,) = blocks("docs/context.md", "python")
    assert run_python(code).startswith("bauer True (BiasedWord(")


def test_phrases_in_python(in_checkout: None) -> None:
    (code,) = blocks("docs/phrases.md", "python")
    assert run_python(code) == "blue it\nblue tit\n"


def test_the_store_in_python() -> None:
    (code,) = blocks("docs/context_store.md", "python")
    assert run_python(code) == "turn-1 ['call Meg', '']\n"


def test_the_examples_of_lines_are_read() -> None:
    for page in ("docs/files.md", "docs/evaluation.md"):
        (text,) = blocks(page, "json")
        utterance = parse_utterance(json.loads(text), Path("m"))
        assert utterance.context.entries == (Entry("contacts", "Meg Bauer"),)
        assert utterance.context.turns[0] == Turn("user", "call Meg") and utterance.text == "bauer"
    assert parse_utterance(json.loads(EXAMPLE), Path("m")).audio.path == Path("m/u1.wav")


def test_the_settings_are_settings() -> None:
    for text in blocks("docs/operation.md", "toml"):
        Settings.model_validate(tomllib.loads(text))


def test_every_setting_is_documented() -> None:
    documented = set()
    for text in blocks("docs/operation.md", "toml"):
        everything = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)  # the optional ones too
        for name, value in tomllib.loads(everything).items():
            documented |= {f"{name}.{part}" for part in value} if isinstance(value, dict) else {name}
    assert documented == set(setting_names(Settings))


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The settings of a section and of the sections in it, by dotted path."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_metric_is_documented_with_its_labels() -> None:
    text = (ROOT / "docs/operation.md").read_text()
    table = text[text.index("| metric |") :].split("\n\n")[0]
    documented = {
        name: frozenset(labels.split(",") if labels else ())
        for row in table.splitlines()
        for name, labels in re.findall(r"`(carryover_\w+)(?:\{([\w,]+)\})?`", row.split("|")[1])
    }
    metrics = Metrics()
    metrics.watch_tasks(lambda: 0)
    names = {f"{f.name}_total" if f.type == "counter" else f.name for f in metrics.registry.collect()}
    assert documented.keys() == {name for name in names if name.startswith("carryover_")}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.collect()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if labels := documented[name]:
                metric.labels(**dict.fromkeys(labels, "x"))  # raises where they are not the metric's
            else:
                assert family.samples, f"{name} has labels"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one(page: Path) -> None:
    for script, arguments, whole in commands(page):
        assert (ROOT / "scripts" / script).is_file(), script
        for word in arguments:
            if word.startswith(("samples/", "server/", "asr/")) and "{" not in word:
                assert (ROOT / word).exists(), word
        if script == "test":
            continue
        command = command_of(script)
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert options <= known, f"{script} has no {options - known}"
        if whole:
            command.make_context(script, list(arguments))  # raises where an argument is missing or of another kind


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(OUTSIDE):
            continue
        file, _, anchor = target.partition("#")
        assert (page.parent / file).exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", (page.parent / file).read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_name_of_the_code_is_there(page: Path) -> None:
    text = re.sub(r"\\\n\s*", "", page.read_text())
    for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        if module.partition(".")[0] in FOLDERS.split("|"):
            assert importlib.util.find_spec(module), module
    for name in re.findall(rf"`((?:{FOLDERS})(?:\.\w+)+)\b", text):
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_but_of_a_table_is_long(page: Path) -> None:
    long = [line for line in page.read_text().splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long


def test_the_pages_that_the_code_names_are_there() -> None:
    for folder in ("asr", "benchmarks", "clients", "context_store", "recipes", "server", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"\b(?:docs|recipes|benchmarks)/[\w/]+\.md\b", file.read_text()):
                assert (ROOT / name).is_file(), f"{file.name} names {name}"


def test_no_page_names_a_file_that_nobody_has() -> None:
    """Manifests are the samples', a command's own output, or in DATA, which docs/data.md describes."""
    for page in PAGES:
        made = set(re.findall(r"(?:--out|--json|--html|--plot) (\S+)|OUT\.jsonl|PEOPLE\.jsonl", page.read_text()))
        for words in commands(page):
            for word in words.arguments:
                if word.endswith((".jsonl", ".jsonl.gz")) and not set(word) & set("/$"):
                    assert word in made or word.partition(".")[0].isupper() or word in OWN, f"{page.name}: {word}"


OWN = {"out.jsonl", "rescored.jsonl", "lists.jsonl", "PEOPLE-train.jsonl", "PEOPLE-dev.jsonl", "names.jsonl"}
"""What was written by a command before, and one that recipes/context/NOTEBOOK.md says is not kept."""


FOLLOWUPS = 4


def test_the_commands_on_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of docs/files.md, as they stand, in a folder where `samples` is, with fewer lines in its longest file."""
    (tmp_path / "samples").mkdir()
    for path in (ROOT / "samples").iterdir():
        os.symlink(path, tmp_path / "samples" / path.name)
    lines = (ROOT / "samples/followups.jsonl").read_text().splitlines(keepends=True)[:FOLLOWUPS]
    (tmp_path / "samples/followups.jsonl").unlink()
    (tmp_path / "samples/followups.jsonl").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    ran = commands(ROOT / "docs/files.md")[1:]
    assert [script for script, *_ in ran] == ["transcribe", "evaluate_wer", "rescore_nbest"]
    for script, arguments, _ in ran:
        module: Any = importlib.import_module(f"asr.commands.{script}")
        result = CliRunner().invoke(module.app, arguments)
        assert result.exit_code == 0, result.output
    heard = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    changed = [json.loads(line)["changed"] for line in (tmp_path / "rescored.jsonl").read_text().splitlines()]
    assert len(heard) == FOLLOWUPS and sum(changed) >= 4 and "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("picture", ["walk_audio.svg", "walk_event.svg"])
def test_the_walks_name_functions_that_are_there(picture: str) -> None:
    drawn = (ROOT / "docs" / picture).read_text()
    numbers = {int(number) for number in re.findall(r'class="number">(\d+)<', drawn)}
    assert numbers == set(range(1, 9)), "docs/architecture.md says how many modules the main line has"
    code = ""
    for kind, text in re.findall(r'class="(module|function)">([^<]+)<', drawn):
        if kind == "module":
            code = (ROOT / text).read_text()
            continue
        for names, work in re.findall(r"([\w.]+)(?:\((\w+)\))?", text):
            for name in names.split("."):
                assert re.search(rf"^ *(?:async def|def|class) {name}\b", code, re.MULTILINE), f"{names} of {picture}"
            assert not work or work in Work.__members__, text


def test_the_tables_of_modules_are_complete() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    tables = re.findall(r"^### `([\w/]+)/`\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert [folder for folder, _ in tables] == [
        "server", "server/codec", "server/doors", "server/http", "server/contexts", "asr/recognition", "asr/context",
        "context_store",
    ]  # fmt: skip
    for folder, table in tables:
        there = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py"}
        assert sorted(re.findall(r"^\| `(\w+\.py)` \| \S", table, re.MULTILINE)) == sorted(there), folder


def test_the_pictures_tell_one_story() -> None:
    """What the demo's drawn terminal shows without context is what README, pages and pictures say."""
    drawn = (ROOT / "docs/demo.svg").read_text().replace("&#160;", " ")
    texts = [" ".join(text.split()) for text in re.findall(r">([^<>]+)</text>", drawn)]
    plain = texts[texts.index("without context") + 1]
    assert texts[texts.index("with context") + 1] == "bauer" and plain != "bauer"
    for page in ("README.md", "docs/follow_up.svg", "docs/api.md", "docs/context.md"):
        text = (ROOT / page).read_text()
        assert plain in text and not set(re.findall(r"\b(?:power|bower|baur)\b", text)) - {plain}, page
