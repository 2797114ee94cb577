"""What a command says that needs an extra which is not installed: one sentence that names it, before any work."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from asr.commands import evaluate_wer
from asr.errors import ModelError
from asr.extras import install_hint
from asr.pairing import PAIR, load_torchaudio
from asr.recognition.recognizer import Recognizer
from benchmarks.search import benchmark_search
from context_store import StoreConfigError
from context_store.local_server import local_server
from recipes.acoustic import train_acoustic
from server.settings import ConfigError, TracesSettings
from server.tracing import configure

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
Missing = Callable[..., None]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Missing:
    """Has these modules, and all below them, not be there."""

    def take_away(*names: str) -> None:
        for name in [*names, *(n for n in sys.modules if n.startswith(tuple(f"{name}." for name in names)))]:
            monkeypatch.setitem(sys.modules, name, None)

    return take_away


def said(app: typer.Typer, *arguments: str) -> str:
    """The one line of a command that gives up."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1, result.output
    return result.stderr


def test_a_page_of_an_evaluation(missing: Missing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing("jinja2")
    for name in ("asr.evaluation.html_report", "asr.evaluation.plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    line = said(evaluate_wer.app, str(ROOT / "samples/followups.jsonl"), "--html", str(tmp_path / "page.html"))
    assert line.strip().endswith(install_hint("eval")) and "the extra `eval`" in line
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (evaluate_wer, ("samples/followups.jsonl", "--model", "EMFORMER_RNNT_BASE_LIBRISPEECH")),
        (benchmark_search, ("--audio", "samples/followups.jsonl")),
        (train_acoustic, ("--data", "nowhere", "--out", "nowhere")),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else "",
)
def test_what_is_torchaudios_own(
    module: object, arguments: tuple[str, ...], missing: Missing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    missing("torchaudio")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command()(module.main)  # type: ignore[attr-defined]
    line = said(app, *arguments)
    assert "the extra `emformer`" in line and f"-m pip install {' '.join(PAIR)}" in line
    assert not (ROOT / "nowhere").exists()


def test_recognition_asks_for_no_torchaudio(missing: Missing) -> None:
    missing("torchaudio")
    with pytest.raises(ModelError):
        load_torchaudio()
    Recognizer.load(beam=2)  # its warm-up recognises something


def test_a_store_in_the_process_and_traces(missing: Missing) -> None:
    missing("moto", "opentelemetry.sdk")
    with pytest.raises(StoreConfigError, match=re.escape(install_hint("local"))), local_server():
        pass
    with pytest.raises(ConfigError, match=re.escape(install_hint("otel"))):
        configure(TracesSettings(endpoint="http://127.0.0.1:4318"))


def test_the_http_port() -> None:
    code = (
        "import sys; sys.modules['aiohttp'] = None; from server.commands.serve import app; "
        "app(['--port', '0', '--http-port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and install_hint("web") in done.stderr.splitlines()[-1]


def test_every_extra_that_is_advised_is_there() -> None:
    """In code and pages."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").rglob("*.md")]
    code = [file for name in ("asr", "benchmarks", "context_store", "recipes", "server") for file in
            (ROOT / name).rglob("*.py")]  # fmt: skip
    text = "\n".join(file.read_text(encoding="utf-8") for file in (*pages, *code))
    advised = re.findall(r"install_hint\(['\"]([\w-]+)", text)
    advised += ",".join(re.findall(r"(?:carryover-asr|'\.)\[([a-z,]+)\]", text)).split(",")
    assert {"emformer", "eval", "local", "otel", "peers", "synthesis", "train", "web"} <= set(EXTRAS)
    assert advised and set(advised) <= set(EXTRAS)
