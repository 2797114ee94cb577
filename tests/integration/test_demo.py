"""The demonstration's two turns on the shipped models, by its command."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from server.commands import demo
from server.demo import synthesis


def test_the_follow_up_is_wrong_without_context_and_right_with_it() -> None:
    result = CliRunner().invoke(demo.app, ["--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert [turn["speaker"] for turn in told["turns"]] == ["user", "system", "user"]
    assert told["status"] == "APPLIED"
    assert told["expected"] == told["contextual"] == "bauer"
    assert told["plain"] != "bauer"
    assert told["changed"]
    timeline = told["timeline"]
    assert 0 <= timeline["recorded_ms"] <= timeline["triggered_ms"]
    assert timeline["triggered_ms"] <= timeline["ready_ms"] < timeline["answer_begins_ms"] < timeline["answer_final_ms"]


def test_the_readmes_other_names_need_no_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(synthesis, "espeak_wav", lambda text: None)
    result = CliRunner().invoke(demo.app, ["--choices", "Sam Miller,Sam Taylor", "--answer", "Taylor", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["expected"] == told["contextual"] == "taylor" and told["turns"][0]["text"] == "call sam"


def test_what_cannot_be_played_is_said_in_one_line() -> None:
    for arguments in (["--choices", "Meg Jones"], ["--answer", " "]):
        result = CliRunner().invoke(demo.app, arguments)
        assert result.exit_code == 2
        assert result.stderr.strip().splitlines() == [
            "demo: give at least two --choices, with commas between them, and an --answer"
        ]
