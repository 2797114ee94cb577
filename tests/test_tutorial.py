"""The tutorial's commands print what the page says that they print."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr.commands import evaluate_wer
from benchmarks.server.processes import server_process
from server.commands import stream_client

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text()
INDENTED = re.findall(r"^    (.+)$", PAGE, re.MULTILINE)
ASKED = [line for line in INDENTED if line.startswith("./scripts/stream_client")]


@pytest.mark.slow
def test_the_dialogue_goes_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with server_process({"CARRYOVER_STORE__ENDPOINT": "local"}) as server:
        address = f"127.0.0.1:{server.port}"

        def said(command: str) -> str:
            arguments = [*shlex.split(command)[1:], "--server", address, "--fast"]
            done = CliRunner().invoke(stream_client.app, arguments)
            assert done.exit_code == 0, done.output
            return done.stdout

        alone, again, whole, unknown = ASKED
        assert said(alone).splitlines()[-1].strip() in {line.strip() for line in INDENTED}
        (example,) = [line.split()[1] for line in INDENTED if line.startswith(".venv/bin/python")]
        code, out = (ROOT / example).read_text().replace("127.0.0.1:50051", address), StringIO()
        with redirect_stdout(out):
            exec(compile(code, example, "exec"), {})
        assert out.getvalue().splitlines()[-1] in INDENTED
        assert said(again).strip().partition("  ")[2] in PAGE
        result = json.loads(said(whole))
        assert {"plain_transcript", "biased_words", "meant"} <= result["context"].keys() and result["passes"]
        assert "NOT_FOUND" in said(unknown) and "NOT_FOUND" in PAGE


@pytest.mark.slow
def test_the_measurement_has_the_errors_that_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (command,) = [line for line in INDENTED if line.startswith("./scripts/evaluate_wer")]
    done = CliRunner().invoke(evaluate_wer.app, [*shlex.split(command)[1:], "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    told = re.search(r"(\d+) of (\d+) words are wrong without, (\d+) with", PAGE)
    figures = json.loads((tmp_path / "out.json").read_text())["summary"]["figures"]["all"]
    plain, relevant = (figures[condition]["counts"] for condition in ("none", "relevant"))
    assert told and told.groups() == tuple(map(str, (plain["errors"], plain["words"], relevant["errors"])))
