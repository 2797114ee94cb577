"""transcribe, evaluate_wer and rescore_nbest as they are run, on tiny models."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer import Typer
from typer.testing import CliRunner, Result

from asr.audio import Samples
from asr.commands import evaluate_wer, rescore_nbest, transcribe
from asr.context.checkpoint import ContextModels
from asr.decoding import BoostedPhrase
from asr.recognition.recognizer import Recognizer
from asr.text import normalize


@pytest.fixture(autouse=True)
def tiny_weights(monkeypatch: pytest.MonkeyPatch, tiny_recognizer: Recognizer, context_parts: Any) -> None:
    """The commands run as they are, on tiny models."""
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: tiny_recognizer)
    monkeypatch.setattr(ContextModels, "load", lambda *_, **__: context_parts)


def run(app: Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_transcribe(tmp_path: Path, speech: Samples, tiny_recognizer: Recognizer) -> None:
    plain = tiny_recognizer.recognize(speech, nbest=3)
    soundfile.write(tmp_path / "a.flac", np.stack([speech, speech], 1), 16_000, subtype="PCM_24")
    soundfile.write(tmp_path / "b.wav", speech, 16_000, subtype="FLOAT")
    lines = {"id": "a", "audio": {"path": "a.flac"}}, {"id": "b", "path": "b.wav", "text": plain.nbest[0].text}
    listed = write(tmp_path / "list.jsonl", *lines)
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl", "--nbest", 3)
    assert result.exit_code == 0 and "WER 0.00%" in result.stderr and result.stdout == ""
    a, b = read(tmp_path / "out.jsonl")
    assert set(a) == {"id", "hyp", "nbest", "seconds_audio", "seconds_wall"} and a["id"] == "a"
    assert b["hyp"] == b["nbest"][0]["text"] == plain.nbest[0].text
    assert [n["text"] for n in b["nbest"]] == [h.text for h in plain.nbest]
    assert b["nbest"][0]["score"] == pytest.approx(plain.nbest[0].score, abs=1e-3)
    assert a["seconds_audio"] == 3.0 and a["seconds_wall"] > 0


def test_transcribe_in_written_form(tmp_path: Path, speech: Samples, tiny_recognizer: Recognizer) -> None:
    nbest = tiny_recognizer.recognize(speech, nbest=3).nbest
    word = next(w for w in nbest[0].text.split() if len(w) > 1)
    soundfile.write(tmp_path / "a.wav", speech, 16_000, subtype="FLOAT")
    listed = write(
        tmp_path / "list.jsonl", {"id": "a", "path": "a.wav", "text": nbest[0].text, "names": [word.upper()]}
    )
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl", "--nbest", 3, "--written")
    assert result.exit_code == 0 and "WER 0.00%" in result.stderr
    (row,) = read(tmp_path / "out.jsonl")
    assert set(row) == {"id", "hyp", "nbest", "seconds_audio", "seconds_wall"}
    assert row["hyp"] == row["nbest"][0]["text"] and row["hyp"][0].isupper() and row["hyp"].endswith(".")
    assert normalize(row["hyp"]) == nbest[0].text
    arguments = (listed, "--out", tmp_path / "out.jsonl", "--written", "--phrases-field", "names")
    assert run(transcribe.app, *arguments).exit_code == 0
    assert word.upper() in read(tmp_path / "out.jsonl")[0]["hyp"]


def test_transcripts_are_scored_as_they_may_have_been_said(
    tmp_path: Path, speech: Samples, tiny_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"a": "doctor smith was born in nineteen eighty four", "b": "", "c": "the color"}
    texts = {"a": "Dr. Smith was born in 1984.", "b": "", "c": "the colour"}
    soundfile.write(tmp_path / "a.wav", speech, 16_000)
    listed = write(tmp_path / "list.jsonl", *({"id": i, "path": "a.wav", "text": text} for i, text in texts.items()))
    real = transcribe.transcribe

    def heard(recognizer: Any, value: dict[str, Any], *rest: Any) -> dict[str, Any]:
        return {**real(recognizer, value, *rest), "hyp": said[value["id"]] or "some noise"}

    monkeypatch.setattr(transcribe, "transcribe", heard)
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl")
    assert "(3 errors in 10 words: 1 substitutions, 2 insertions, 0 deletions)" in result.stderr
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl", "--any-spelling")
    assert "(2 errors in 10 words: 0 substitutions, 2 insertions, 0 deletions)" in result.stderr
    listed = write(tmp_path / "silent.jsonl", {"id": "b", "path": "a.wav", "text": ""})
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl")
    assert "WER undefined (2 errors in 0 words: 0 substitutions, 2 insertions, 0 deletions)" in result.stderr


def test_nbest_lists_are_scored_as_they_may_have_been_said(tmp_path: Path) -> None:
    nbest = [{"text": "Dr. Smith, at IBM since 1984."}]
    line = {"id": "a", "nbest": nbest, "reference": "doctor smith at i b m since nineteen eighty four"}
    result = run(rescore_nbest.app, write(tmp_path / "in.jsonl", line), tmp_path / "out.jsonl")
    assert "WER 0.00% before, 0.00% after" in result.stderr


def test_lists_through_pipes_and_gzipped(tmp_path: Path, speech: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16_000)
    monkeypatch.chdir(tmp_path)
    line = json.dumps({"id": "a", "path": "a.wav"})
    Path("marked.jsonl").write_text(line + "\n", encoding="utf-8-sig")
    packed = run(transcribe.app, "marked.jsonl", "--out", "out.jsonl.gz")
    assert packed.exit_code == 0, packed.output
    row = json.loads(gzip.decompress(Path("out.jsonl.gz").read_bytes()))
    piped = CliRunner().invoke(transcribe.app, ["-", "--out", "-"], input=line + "\n")
    assert json.loads(piped.stdout)["hyp"] == row["hyp"]
    piped = CliRunner().invoke(rescore_nbest.app, ["-", "-"], input=json.dumps(row))
    assert json.loads(piped.stdout) == {**row, "changed": False}


def test_transcribe_does_the_rest_when_files_are_bad(tmp_path: Path, speech: Samples) -> None:
    soundfile.write(tmp_path / "good.wav", speech, 8_000)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    lines = [{"id": "1", "path": "bad.wav"}, {"id": "2", "path": "absent.wav"}, "nonsense", {"path": "good.wav"}]
    listed = write(tmp_path / "list.jsonl", *lines, {"id": "5", "path": "good.wav"})
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["5"]
    for line in (1, 2, 3, 4):
        assert f"line {line}:" in result.stderr
    assert "4 of 5 lines" in result.stderr


def test_transcribe_with_phrases(tmp_path: Path, speech: Samples, tiny_recognizer: Recognizer) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16_000, subtype="FLOAT")
    lines = [
        {"id": "plain", "path": "a.wav"}, {"id": "boosted", "path": "a.wav", "names": ["j", "", "мэг"]},
        {"id": "wrong", "path": "a.wav", "names": "Meg"},
    ]  # fmt: skip
    listed = write(tmp_path / "list.jsonl", *lines)
    result = run(transcribe.app, listed, "--out", tmp_path / "out.jsonl", "--phrases-field", "names")
    assert result.exit_code == 1 and "line 3: names must be a list" in result.stderr
    plain, boosted = read(tmp_path / "out.jsonl")

    for row, names in ((plain, []), (boosted, ["j"])):
        phrases = [BoostedPhrase(name) for name in names]
        expected = tiny_recognizer.recognize(speech, graph=tiny_recognizer.compile(phrases)).nbest
        assert [(n["text"], n["score"]) for n in row["nbest"]] == [(h.text, round(h.score, 4)) for h in expected]
        assert any(h.bias > 0 for h in expected) == bool(names)


def test_commands_name_the_folder_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do so at once, not after the models are loaded."""
    for models in ("transcribe.Recognizer", "rescore_nbest.ContextModels"):
        monkeypatch.delattr(f"asr.commands.{models}.load")
    out = tmp_path / "no" / "o"
    listed = write(tmp_path / "list.jsonl")
    for app, arguments in ((transcribe.app, (listed, "--out", out)), (rescore_nbest.app, (listed, out))):
        result = run(app, *arguments)
        assert result.exit_code == 2
        assert result.stderr.splitlines() == [f"{out}: there is no folder {out.parent}; make it first"]


def test_commands_say_in_one_line_what_is_missing(tmp_path: Path) -> None:
    for app, arguments in (
        (transcribe.app, ("absent.jsonl", "--out", tmp_path / "o")),
        (rescore_nbest.app, (tmp_path / "absent.jsonl", tmp_path / "o")),
        (evaluate_wer.app, (tmp_path / "absent.jsonl",)),
    ):
        result = run(app, *arguments)
        assert result.exit_code == 2 and "absent.jsonl: No such file" in result.stderr
        assert len(result.stderr.splitlines()) == 1


LISTED = {
    "id": "1",
    "context": [{"speaker": "system", "text": "Do you mean Meg Jones or Meg Bauer?"}],
    "entities": [{"type": "contacts", "text": "Meg Jones"}, {"type": "contacts", "text": "Meg Bauer"}],
    "nbest": [{"text": "meg power", "score": -1.0, "mine": 1}, {"text": "Meg Bauer", "score": -1.5, "mine": 2}],
    "reference": "meg bauer",
    "more": [1],
}


def test_rescore_nbest(tmp_path: Path) -> None:
    unscored = {**LISTED, "id": "2", "nbest": [{"text": "meg power"}, {"text": "meg bauer"}]}
    nothing = {**LISTED, "id": "3", "context": [], "entities": []}
    source = write(tmp_path / "in.jsonl", LISTED, unscored, nothing, {"id": "4", "nbest": []})
    result = run(rescore_nbest.app, source, tmp_path / "out.jsonl")
    assert result.exit_code == 0 and "2 of 4 changed" in result.stderr
    assert "WER 50.00% before, 16.67% after" in result.stderr
    first, second, third, fourth = read(tmp_path / "out.jsonl")
    assert first["changed"] and first["nbest"][0] == LISTED["nbest"][1]
    assert LISTED["nbest"][0] in first["nbest"] and first["more"] == [1]
    assert all(n in LISTED["nbest"] or n["from_context"] for n in first["nbest"])
    assert first["meant"] == [{"entry": "Meg Bauer", "signal": "contacts", "id": ""}]
    assert second["changed"] and second["nbest"][0] == {"text": "meg bauer"}
    assert third == {**nothing, "changed": False}
    assert fourth == {"id": "4", "nbest": [], "changed": False}


@pytest.mark.parametrize(
    "line",
    [
        {**LISTED, "nbest": "meg"},
        {**LISTED, "nbest": [{"score": 1}]},
        {**LISTED, "nbest": [{"text": "a", "score": "high"}]},
        {**LISTED, "nbest": [{"text": "a", "score": float("nan")}]},
        {**LISTED, "context": [{"speaker": "robot", "text": "a"}]},
        {**LISTED, "entities": ["Meg"]},
        "{",
    ],
)
def test_rescore_nbest_names_bad_lines_and_does_the_rest(tmp_path: Path, line: object) -> None:
    source = write(tmp_path / "in.jsonl", line, LISTED)
    result = run(rescore_nbest.app, source, tmp_path / "out.jsonl")
    assert result.exit_code == 1 and "line 1:" in result.stderr and len(read(tmp_path / "out.jsonl")) == 1


def test_evaluate_wer(manifest: Path) -> None:
    json_file, html_file = manifest.parent / "o.json", manifest.parent / "o.html"
    result = run(evaluate_wer.app, manifest, "--json", json_file, "--html", html_file, "--signals")
    assert result.exit_code == 0 and "relevant" in result.stdout and "only:contacts" in result.stdout
    value = json.loads(json_file.read_text())
    assert len(value["utterances"]) == 4 and "without:turns" in value["summary"]["figures"]["all"]
    assert html_file.read_text().startswith("<!doctype html>")
    alone = {c: value["summary"]["figures"]["all"][f"only:{c}"]["counts"]["errors"] for c in ("contacts", "places")}
    assert alone["contacts"] < alone["places"]
    worth = value["summary"]["signals"]
    assert "What each signal is worth" in html_file.read_text()
    assert set(worth) == {"contacts", "places", "turns"}
    assert worth["contacts"]["alone"]["value"] < 0 < worth["contacts"]["left_out"]["value"]
    assert re.search(r"^contacts: errors \d → \d alone, \d → \d where left out: ", result.stdout, re.M)


def test_evaluate_wer_of_two_manifests_reports_each_make(manifest: Path) -> None:
    lines = read(manifest)
    first = write(manifest.parent / "first.jsonl", *({**line, "make": "espeak"} for line in lines))
    second = write(manifest.parent / "second.jsonl", *({**line, "make": "flite"} for line in lines[:3]))
    json_file = manifest.parent / "o.json"
    result = run(evaluate_wer.app, first, second, "--conditions", "relevant", "--json", json_file)
    assert result.exit_code == 0 and "make espeak (4)" in result.stdout and "make flite (3)" in result.stdout
    value = json.loads(json_file.read_text())
    assert value["settings"]["manifest"] == "first.jsonl, second.jsonl"
    assert [u["id"] for u in value["utterances"]][4:] == ["second/u0", "second/u1", "second/u2"]
    assert value["summary"]["utterances"]["all"] == 7
    assert value["summary"]["makes"]["flite"]["figures"]["relevant"]["exact"]["value"] == 1
    assert run(evaluate_wer.app, first, first).exit_code == 2


def test_evaluate_wer_reports_what_it_could_not_use(manifest: Path) -> None:
    (manifest.parent / "0.wav").unlink()
    with manifest.open("a") as lines:
        lines.write("{}\n")
    result = run(evaluate_wer.app, manifest, "--conditions", "relevant", "--json", manifest.parent / "o.json")
    assert result.exit_code == 1 and "line 5: " in result.stderr and "u0: audio file 0.wav" in result.stderr
    value = json.loads((manifest.parent / "o.json").read_text())
    assert [u["id"] for u in value["utterances"]] == ["u1", "u2", "u3"]
    assert set(value["utterances"][0]["hyp"]) == {"none", "relevant"}


def test_evaluate_wer_without_context_loads_no_context_model(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ContextModels, "load")
    json_file = manifest.parent / "o.json"
    result = run(evaluate_wer.app, manifest, "--conditions", "none", "--json", json_file, "--endpoints")
    assert result.exit_code == 0 and "endpoint: " in result.stdout
    value = json.loads(json_file.read_text())
    assert value["settings"]["context model"] == "none"
    assert 0 < value["summary"]["endpoint"]["utterances"] <= 4


def test_evaluate_wer_refuses_before_it_works(manifest: Path) -> None:
    assert run(evaluate_wer.app, manifest, "--conditions", "relevant,odd").exit_code == 2
    result = run(evaluate_wer.app, manifest, "--json", manifest.parent / "no" / "o.json")
    assert result.exit_code == 2 and f"there is no folder {manifest.parent / 'no'}; make it first" in result.stderr
