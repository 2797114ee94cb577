"""The generated modules are those of the .proto files, and the check finds when they are not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr.context.question import TURN_SIGNAL
from clients.python import generate_stubs as gen_proto
from context_store.validation import MAX_EVENTS_PER_CALL
from tests.support.registry import skip_where_out_of_reach


def test_committed_modules_are_up_to_date() -> None:
    result = CliRunner().invoke(gen_proto.app, ["--check"])
    assert result.exit_code == 0, result.output


def test_committed_modules_are_what_the_pinned_compiler_writes(tmp_path: Path) -> None:
    with skip_where_out_of_reach(gen_proto.CompilerError):
        gen_proto.compiler()
    texts = gen_proto.generate(gen_proto.PROTO_ROOT, tmp_path)
    assert len(texts) == 3 * len([*gen_proto.PROTO_ROOT.rglob("*.proto")])
    for path, text in texts.items():
        assert (gen_proto.PACKAGE_ROOT / path).read_text() == text, path


def test_the_doors_modules_are_what_the_pinned_compiler_writes(tmp_path: Path) -> None:
    with skip_where_out_of_reach(gen_proto.CompilerError):
        gen_proto.compiler()
    texts = gen_proto.generate(gen_proto.DOORS_ROOT, tmp_path, gen_proto.MESSAGES)
    assert len(texts) == 6
    for path, text in texts.items():
        assert (gen_proto.DOORS_ROOT / path).read_text() == text, path


def test_the_client_asks_for_no_older_runtime_than_its_modules_were_made_for() -> None:
    """Generated code refuses a runtime older than its compiler."""
    project = (gen_proto.PACKAGE_ROOT / "pyproject.toml").read_text()
    lowest = dict(re.findall(r'"(grpcio|protobuf)>=([\d.]+)"', project))
    (made,) = {
        re.search(r"Protobuf Python Version: (\d+\.\d+)", path.read_text())[1]  # type: ignore[index]
        for path in gen_proto.PACKAGE_ROOT.rglob("*_pb2.py")
    }
    assert lowest["protobuf"] == made
    assert f"grpcio-tools=={lowest['grpcio']}.0" == gen_proto.TOOLS


def write_package(package: Path, proto: Path) -> None:
    """Modules as the compiler would write them, with its headers."""
    for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
        text = f"made = {end!r}\n"
        file = package / "a" / f"b{end}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(gen_proto.header(gen_proto.digest_of_sources(proto), text) + text)


def test_check_finds_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto, package = tmp_path / "proto", tmp_path / "package"
    (proto / "a").mkdir(parents=True)
    (proto / "a" / "b.proto").write_text('syntax = "proto3"; package a; message B { string c = 1; }')
    write_package(package, proto)
    monkeypatch.setattr(gen_proto, "PROTO_ROOT", proto)
    monkeypatch.setattr(gen_proto, "PACKAGE_ROOT", package)
    assert CliRunner().invoke(gen_proto.app, ["--check"]).exit_code == 0

    edited = package / "a" / "b_pb2.pyi"
    edited.write_text(edited.read_text() + "changed = True\n")
    (package / "a" / "gone_pb2.py").write_text("left over")
    (package / "a" / "b_pb2_grpc.py").unlink()
    result = CliRunner().invoke(gen_proto.app, ["--check"])
    assert result.exit_code == 1
    assert set(re.findall(r"a/(\w+\.pyi?) is out of date", result.output)) == {
        "b_pb2.pyi", "gone_pb2.py", "b_pb2_grpc.py"
    }  # fmt: skip

    (package / "a" / "gone_pb2.py").unlink()
    write_package(package, proto)
    (proto / "a" / "b.proto").write_text('syntax = "proto3"; package a; message B { string d = 1; }')
    assert len(gen_proto.outdated(proto, package)) == 3


def test_generating_writes_what_is_missing_and_clears_what_is_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with skip_where_out_of_reach(gen_proto.CompilerError):
        gen_proto.compiler()
    proto, package = tmp_path / "proto", tmp_path / "package"
    (proto / "a").mkdir(parents=True)
    (proto / "a" / "b.proto").write_text('syntax = "proto3"; package a; message B { string c = 1; }')
    (package / "a").mkdir(parents=True)
    (package / "a" / "gone_pb2.py").write_text("left over")
    monkeypatch.setattr(gen_proto, "PROTO_ROOT", proto)
    monkeypatch.setattr(gen_proto, "PACKAGE_ROOT", package)
    assert CliRunner().invoke(gen_proto.app, []).exit_code == 0
    assert not (package / "a" / "gone_pb2.py").exists()
    assert CliRunner().invoke(gen_proto.app, ["--check"]).exit_code == 0
    (proto / "a" / "b.proto").write_text("nonsense")
    refused = CliRunner().invoke(gen_proto.app, [])
    assert refused.exit_code == 2 and "do not compile" in refused.output and "b.proto" in refused.output


def test_the_comments_name_the_values_that_the_code_has() -> None:
    recognizer, context = (
        (gen_proto.PROTO_ROOT / "carryover" / "v1" / f"{name}.proto").read_text() for name in ("recognizer", "context")
    )
    assert f'"{TURN_SIGNAL}" for what was said before' in recognizer
    assert f'"{TURN_SIGNAL}" for what was said before' in context
    assert f"1 to {MAX_EVENTS_PER_CALL} in one call" in context
