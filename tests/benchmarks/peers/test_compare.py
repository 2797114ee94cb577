"""The comparison with other recognisers: scores, table, JSON and page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from asr.context.checkpoint import ContextModels
from asr.evaluation.manifest import read_manifest
from asr.recognition.recognizer import Recognizer
from benchmarks.peers import compare_recognizers
from benchmarks.peers import recognizers as peers
from benchmarks.peers.compare import Transcribed, best_form, page, scores, sizes_of, to_json, transcribe_all
from benchmarks.peers.recognizers import Answer


@pytest.mark.parametrize(
    ("reference", "written", "form"),
    [
        ("five one two", "512", "five one two"),
        ("five hundred and twelve", "512.", "five hundred and twelve"),
        ("seventeen seventeen", "1717", "seventeen seventeen"),
        ("one two three four", "1-2-3-4", "one two three four"),
        ("five five five one two", "555-12", "five five five one two"),
        ("h i n i c h", "H-I-N-I-C-H", "h i n i c h"),
        ("h i n i c h", "HINICH", "h i n i c h"),
        ("mister smith said okay", "Mr. Smith said OK", "mister smith said okay"),
        ("ibm", "IBM", "ibm"),
        ("yes", "", ""),
    ],
)
def test_the_form_with_the_fewest_errors_counts(reference: str, written: str, form: str) -> None:
    assert best_form(reference, written) == form


@pytest.fixture
def found(manifest: Path) -> list[Transcribed]:
    utterances, _ = read_manifest(manifest)
    texts = iter([u.text for u in utterances])
    run = transcribe_all(utterances, {"right": lambda *_: Answer(next(texts), 0.0), "silent": lambda *_: Answer("")})
    return [t for t in run if isinstance(t, Transcribed)]


def test_scores_by_set_and_recogniser(found: list[Transcribed]) -> None:
    by_set = scores(found, draws=50)
    assert list(by_set) == ["all", "a", "b"] and sizes_of(found, by_set) == {"all": 4, "a": 2, "b": 2}
    for of_set in by_set.values():
        assert of_set["right"].wer.value == 0 == of_set["right"].errors.total
        assert of_set["silent"].wer.value == 1 and of_set["silent"].errors.deletions == of_set["silent"].errors.words
        assert of_set["right"].real_time_factor > 0 and of_set["right"].delay_s == (0, 0) < of_set["silent"].delay_s
    assert by_set["all"]["right"].errors.words == sum(by_set[s]["right"].errors.words for s in "ab")


def test_json_and_page(found: list[Transcribed]) -> None:
    by_set = scores(found, draws=50)
    value = json.loads(json.dumps(to_json(found, by_set, {"seed": 0}), allow_nan=False))
    assert value["scores"]["a"]["silent"]["wer"]["value"] == 1
    assert value["utterances"][2]["hyp"] == {"right": found[2].utterance.text, "silent": ""}
    text = page(found, by_set, {"manifest": "<m>"})
    assert text.count("<svg") == 3 and "&lt;m&gt;" in text and "<!--" not in text


def run(*arguments: object) -> Result:
    return CliRunner().invoke(compare_recognizers.app, [str(a) for a in arguments], catch_exceptions=False)


def fake(_: object = None) -> peers.Transcribe:
    return lambda samples, _: Answer(f"{len(samples)}")


def echo(_: object = None, *, hotwords: bool = False) -> peers.Transcribe:
    return lambda _, context: Answer(" ".join(e.text for e in context.entries) if hotwords else "")


def absent(_: object = None, **__: object) -> peers.Transcribe:
    raise ModuleNotFoundError("no module", name="absent")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tiny_recognizer: Recognizer) -> None:
    """A tiny model of ours, one other recogniser that is there, and others that are not."""
    shipped = ContextModels.load()
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: tiny_recognizer)
    monkeypatch.setattr(ContextModels, "load", lambda *_, **__: shipped)
    monkeypatch.setattr(peers, "pocketsphinx", fake)
    for name in ("whisper", "moonshine", "vosk"):
        monkeypatch.setattr(peers, name, absent)


def test_the_command(manifest: Path) -> None:
    json_file, html_file = manifest.parent / "o.json", manifest.parent / "o.html"
    result = run(manifest, "--json", json_file, "--html", html_file)
    assert (
        result.exit_code == 0
        and "pocketsphinx" in result.stdout
        and "real-time factor" in result.stdout
        and "(p95" in result.stdout
    )
    assert "moonshine left out: absent is not installed" in result.stderr
    value = json.loads(json_file.read_text())
    assert set(value["utterances"][0]["hyp"]) == {"carryover", "carryover-context", "pocketsphinx"}
    assert set(value["utterances"][0]["seconds_after"]) == set(value["utterances"][0]["hyp"])
    plain, _ = read_manifest(manifest)
    assert [u["id"] for u in value["utterances"]] == [u.id for u in plain]
    assert html_file.read_text().startswith("<!doctype html>")


def test_hotwords_are_the_entries(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "whisper", echo)
    json_file = manifest.parent / "o.json"
    assert run(manifest, "--recognizers", "whisper,whisper-hotwords", "--json", json_file).exit_code == 0
    heard = {u["id"]: u["hyp"] for u in json.loads(json_file.read_text())["utterances"]}
    for utterance in read_manifest(manifest)[0]:
        hint = " ".join(entry.text for entry in utterance.context.entries)
        assert heard[utterance.id] == {"whisper": "", "whisper-hotwords": best_form(utterance.text, hint)}


def test_context_is_left_out_where_there_is_none(manifest: Path) -> None:
    bare = manifest.parent / "bare.jsonl"
    bare.write_text(
        "".join(json.dumps({**json.loads(row), "context": {}}) + "\n" for row in manifest.read_text().splitlines())
    )
    result = run(bare)
    assert result.exit_code == 0 and "carryover" in result.stdout and "carryover-context" not in result.stdout


def test_the_command_does_the_rest_where_recordings_are_bad(manifest: Path) -> None:
    (manifest.parent / "0.wav").unlink()
    result = run(manifest, "--recognizers", "pocketsphinx", "--limit", 2)
    assert result.exit_code == 1 and "u0: audio file 0.wav" in result.stderr and "manifest (1)" in result.stdout


def test_a_sample_is_drawn_by_the_seed(manifest: Path) -> None:
    drawn = {seed: compare_recognizers.read_sets([manifest], None, 2, seed)[0] for seed in range(6)}
    whole = [u.id for u in compare_recognizers.read_sets([manifest], None)[0]]
    orders = {tuple(u.id for u in some) for some in drawn.values()}
    assert len(orders) > 1 and all(list(ids) == sorted(ids, key=whole.index) and len(set(ids)) == 2 for ids in orders)
    assert compare_recognizers.read_sets([manifest], None, 2, 3)[0] == drawn[3]
    assert len(compare_recognizers.read_sets([manifest], None, 99)[0]) == len(whole)


@pytest.mark.parametrize(
    ("names", "reason"), [("whisper", "absent is not installed"), ("carryover,siri", "'siri' is not known")]
)
def test_the_command_says_what_is_missing(manifest: Path, names: str, reason: str) -> None:
    result = run(manifest, "--recognizers", names)
    assert result.exit_code == 2 and reason in result.stderr


def test_the_same_utterance_twice_is_refused(manifest: Path) -> None:
    result = run(manifest, manifest)
    assert result.exit_code == 2 and "same id" in result.stderr


def broken_at_load() -> peers.Transcribe:
    raise TypeError("Transcriber.__init__() got an unexpected keyword argument\n'options'")


def broken_at_work() -> peers.Transcribe:
    def transcribe(samples: object, context: object) -> Answer:
        raise AttributeError("no transcribe_without_streaming")

    return transcribe


@pytest.mark.parametrize("load", [broken_at_load, broken_at_work])
def test_a_recogniser_that_does_not_run_is_left_out(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[], peers.Transcribe]
) -> None:
    """A newer release of somebody else's package has another interface: one line, not a traceback."""
    monkeypatch.setattr(peers, "moonshine", load)
    result = run(manifest)
    assert result.exit_code == 0 and "pocketsphinx" in result.stdout
    told = [line for line in result.stderr.splitlines() if "moonshine" in line]
    assert len(told) == 1 and told[0].startswith("moonshine left out: what is installed does not run here (")
    named = run(manifest, "--recognizers", "moonshine")
    assert named.exit_code == 2 and len(named.stderr.splitlines()) == 1 and "Traceback" not in named.stderr


def test_a_recording_that_one_recogniser_fails_at_counts_for_none(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loud_only() -> peers.Transcribe:
        calls = 0

        def transcribe(samples: object, context: object) -> Answer:
            nonlocal calls
            calls += 1
            if calls == 3:  # after the trial before the recordings, the second of them
                raise RuntimeError("out of memory")
            return Answer("yes")

        return transcribe

    monkeypatch.setattr(peers, "pocketsphinx", loud_only)
    result = run(manifest, "--recognizers", "carryover,pocketsphinx")
    assert result.exit_code == 1 and "pocketsphinx failed (RuntimeError: out of memory)" in result.stderr


def test_the_hint_installs_into_the_environment_that_runs(manifest: Path) -> None:
    """`pip install carryover-asr[peers]` finds no such distribution anywhere but beside the installed project."""
    result = run(manifest, "--recognizers", "whisper")
    assert f"{sys.executable} -m pip install 'carryover-asr[peers]'" in " ".join(result.stderr.split())
