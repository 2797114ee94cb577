"""Manifests: every way to write a line, and what is said of one that cannot be used."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from asr.commands import evaluate_wer, rescore_nbest, transcribe
from asr.context.types import Entry, Turn
from asr.errors import ManifestError
from asr.evaluation.manifest import parse_entries, parse_utterance, read_manifest
from asr.evaluation.recordings import AudioPlace, AudioReader

LINE: dict[str, Any] = {
    "id": "one",
    "audio": {"shard": "a.tar", "member": "one.opus"},
    "text": "Bauer!",
    "set": "disambiguation",
    "target": "Meg Bauer",
    "context": {
        "turns": [{"speaker": "user", "text": "call Meg"}, {"speaker": "system", "text": "Meg Jones or Meg Bauer?"}],
        "entities": [{"signal": "contacts", "text": "Meg Bauer"}],
    },
}


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_line_of_the_contract(tmp_path: Path) -> None:
    (utterance,), problems = read_manifest(write(tmp_path / "m.jsonl", LINE))
    assert not problems
    assert utterance.audio == AudioPlace(tmp_path / "a.tar", "one.opus")
    assert (utterance.text, utterance.target, utterance.dialogue) == ("bauer", "meg bauer", "one")
    assert utterance.reference == "Bauer!"
    assert utterance.context.turns[0] == Turn("user", "call Meg")
    assert utterance.context.entries == (Entry("contacts", "Meg Bauer"),)


def test_gzip_paths_and_absent_contexts(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "a", "audio": {"path": "x.wav"}, "text": "yes"}\n\n'))
    (utterance,), _ = read_manifest(path)
    assert utterance.audio == AudioPlace(tmp_path / "x.wav")
    assert utterance.target is None and not utterance.context


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 10_000, "not JSON"),
        ({**LINE, "id": 7}, "id is missing"),
        ({**LINE, "text": None}, "text is not a string"),
        ({**LINE, "audio": {"shard": "a.tar"}}, "audio names no file"),
        ({**LINE, "audio": 7}, "audio names no file"),
        ({**LINE, "context": []}, None),
        ({**LINE, "context": "call Meg"}, "context is no object and no list"),
        ({**LINE, "context": {"turns": [{"speaker": "user"}]}}, "turns of the context"),
        ({**LINE, "context": {"turns": [{"speaker": "robot", "text": "hi"}]}}, "speaker of a turn"),
        ({**LINE, "context": {"entities": ["Meg"]}}, "entities must be a list"),
        ({**LINE, "id": "good"}, "its id is taken"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path: Path, line: object, reason: str | None) -> None:
    utterances, problems = read_manifest(write(tmp_path / "m.jsonl", {**LINE, "id": "good"}, line))
    assert utterances[0].id == "good"
    if reason is None:
        assert not problems
    else:
        (problem,) = problems
        assert problem.line == 2 and reason in problem.reason


def test_sets_and_limit(tmp_path: Path) -> None:
    lines = [{**LINE, "id": str(i), "set": "ab"[i % 2]} for i in range(10)]
    path = write(tmp_path / "m.jsonl", *lines)
    assert [u.id for u in read_manifest(path, sets=["b"], limit=3)[0]] == ["1", "3", "5"]
    with pytest.raises(ManifestError, match="no usable utterance of the sets c"):
        read_manifest(path, sets=["c"])


def test_files_that_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        read_manifest(tmp_path / "absent.jsonl")
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(b"{}" * 1000)[:-9])
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(tmp_path / "m.jsonl.gz")
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "m.jsonl")
    with pytest.raises(ManifestError, match="no usable utterance; line 1: not JSON"):
        read_manifest(write(tmp_path / "bad.jsonl", "nonsense"))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*LINE, "turns", "text"]), inner),
)


@given(st.dictionaries(st.sampled_from([*LINE]), json_values))
def test_any_object_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        utterance = parse_utterance({**LINE, **changes}, Path())
    except ManifestError:
        return
    assert utterance.id and isinstance(utterance.text, str)


def test_audio_of_shards_and_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        member = tarfile.TarInfo("one.opus")
        member.size = 3
        shard.addfile(member, io.BytesIO(b"abc"))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        shard.addfile(folder)
    (tmp_path / "plain.wav").write_bytes(b"def")
    (tmp_path / "broken.tar").write_bytes(b"no tar file")
    with AudioReader() as reader:
        assert reader.read(AudioPlace(tmp_path / "a.tar", "one.opus")) == b"abc"
        assert reader.read(AudioPlace(tmp_path / "plain.wav")) == b"def"
        for place in (
            AudioPlace(tmp_path / "a.tar", "two.opus"),
            AudioPlace(tmp_path / "a.tar", "folder"),
            AudioPlace(tmp_path / "broken.tar", "one.opus"),
            AudioPlace(tmp_path / "absent.wav"),
        ):
            with pytest.raises(ManifestError):
                reader.read(place)


@pytest.mark.parametrize("key", ["signal", "type"])
def test_the_name_of_a_signal_stands_under_either_key(key: str) -> None:
    assert parse_entries([{key: "contacts", "text": "Meg"}]) == (Entry("contacts", "Meg"),)


def test_an_entity_has_aliases_and_a_weight() -> None:
    value = {"signal": "devices", "text": "Lamp", "id": "7", "aliases": ["reading light"], "weight": 2}
    assert parse_entries([value]) == (Entry("devices", "Lamp", "7", ("reading light",), 2.0),)


@pytest.mark.parametrize(
    "wrong",
    [{"aliases": "light"}, {"aliases": [1]}, {"aliases": ["a"] * 17}, {"weight": 0}, {"weight": "2"}, {"weight": True}],
)
def test_aliases_and_weights_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=next(iter(wrong))):
        parse_entries([{"signal": "devices", "text": "Lamp"} | wrong])


TURNS = [{"speaker": "user", "text": "call Meg"}, {"speaker": "system", "text": "Which one?"}]
ENTITIES = [{"signal": "contacts", "text": "Meg Bauer"}]
SPELLINGS: list[dict[str, Any]] = [
    {"audio": {"path": "a.wav"}, "text": "bauer", "context": {"turns": TURNS, "entities": ENTITIES}},
    {"path": "a.wav", "text": "bauer", "context": {"turns": TURNS}, "entities": ENTITIES},
    {"audio": "a.wav", "reference": "bauer", "context": TURNS, "entities": [{"type": "contacts", "text": "Meg Bauer"}]},
    {"path": "a.wav", "reference": "Bauer!", "entities": ENTITIES,
     "context": [TURNS[0], {"speaker": "assistant", "text": "Which one?"}]},
]  # fmt: skip
"""One utterance as manifests, transcribe's lists and n-best lists write it."""


@pytest.mark.parametrize("line", SPELLINGS)
def test_every_spelling_means_the_same_utterance(line: dict[str, Any]) -> None:
    wanted = parse_utterance({"id": "u1", **SPELLINGS[0]}, Path("f"))
    assert wanted.context.turns == (Turn("user", "call Meg"), Turn("system", "Which one?"))
    assert wanted.context.entries == (Entry("contacts", "Meg Bauer"),)
    found = parse_utterance({"id": "u1", **line}, Path("f"))
    assert replace(found, written=wanted.written) == wanted


def test_one_file_does_for_every_command(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.01, 8000), 16_000)
    nbest = [{"text": "power", "score": -1}, {"text": "bower", "score": -2}]
    source = write(tmp_path / "list.jsonl", {"id": "u1", **SPELLINGS[2], "nbest": nbest})
    for command, arguments in (
        (transcribe, ["--out", str(tmp_path / "out.jsonl")]),
        (evaluate_wer, ["--conditions", "none,relevant", "--limit", "1"]),
        (rescore_nbest, [str(tmp_path / "rescored.jsonl")]),
    ):
        result = CliRunner().invoke(command.app, [str(source), *arguments])
        assert result.exit_code == 0, result.output
        assert "WER" in result.output
    assert json.loads((tmp_path / "rescored.jsonl").read_text())["changed"]


def test_a_line_that_cannot_be_used_is_shown_one_that_can(tmp_path: Path) -> None:
    """The example of each message is itself a line that is read."""
    robot = [{"speaker": "robot", "text": "hello"}]
    for changes in (
        {"text": None}, {"id": 7}, {"audio": 7}, {"context": 7}, {"context": [7]}, {"entities": 7}, {"context": robot}
    ):  # fmt: skip
        line = {**LINE, **changes}
        with pytest.raises(ManifestError) as caught:
            parse_utterance(line, tmp_path)
        message = str(caught.value)
        if " as in " in message:
            parse_utterance({**LINE, **json.loads(message.partition(" as in ")[2])}, tmp_path)
        else:
            assert 'give "path": "u1.wav"' in message
