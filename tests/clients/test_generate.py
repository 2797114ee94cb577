"""The generated modules are those of the .proto files, and the check finds when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr.context.question import TURN_SIGNAL
from clients.python import generate_stubs as gen_proto
from context_store.validation import MAX_EVENTS_PER_CALL


def test_committed_modules_are_up_to_date() -> None:
    result = CliRunner().invoke(gen_proto.app, ["--check"])
    assert result.exit_code == 0, result.output


def test_check_finds_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = tmp_path / "proto"
    (proto / "a").mkdir(parents=True)
    (proto / "a" / "b.proto").write_text('syntax = "proto3"; package a; message B { string c = 1; }')
    package = tmp_path / "package"
    (package / "a").mkdir(parents=True)
    monkeypatch.setattr(gen_proto, "PROTO_ROOT", proto)
    monkeypatch.setattr(gen_proto, "PACKAGE_ROOT", package)
    assert CliRunner().invoke(gen_proto.app, ["--check"]).exit_code == 1
    assert CliRunner().invoke(gen_proto.app, []).exit_code == 0
    assert CliRunner().invoke(gen_proto.app, ["--check"]).exit_code == 0
    (package / "a" / "b_pb2.pyi").write_text("changed")
    (package / "a" / "gone_pb2.py").write_text("left over")
    result = CliRunner().invoke(gen_proto.app, ["--check"])
    assert result.exit_code == 1
    assert "b_pb2.pyi" in result.output
    assert "gone_pb2.py" in result.output
    assert CliRunner().invoke(gen_proto.app, []).exit_code == 0
    assert not (package / "a" / "gone_pb2.py").exists()


def test_the_comments_name_the_values_that_the_code_has() -> None:
    recognizer, context = (
        (gen_proto.PROTO_ROOT / "carryover" / "v1" / f"{name}.proto").read_text() for name in ("recognizer", "context")
    )
    assert f'"{TURN_SIGNAL}" for what was said before' in recognizer
    assert f'"{TURN_SIGNAL}" for what was said before' in context
    assert f"1 to {MAX_EVENTS_PER_CALL} in one call" in context
