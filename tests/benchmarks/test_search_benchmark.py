"""benchmark_search: its contract, its audio, and the search that it measures against."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from asr.acoustic import Transducer
from asr.acoustic.interface import AcousticModel
from asr.audio import Samples
from asr.decoding import BeamSearch, force_score
from asr.errors import ManifestError
from asr.recognition.recognizer import Recognizer
from benchmarks.search import benchmark_search
from benchmarks.search.benchmark_search import app, find_audio, names
from benchmarks.search.torchaudio_peer import TorchaudioSearch
from tests.support.torchaudio_pair import need_torchaudio
from tests.support.toy_transducer import Toy, brute_force

need_torchaudio(module=True)


@pytest.mark.parametrize("blank", [0, 2, 3])
def test_torchaudios_search_hears_our_models(blank: int) -> None:
    """In one frame it sees all there is; it takes the best hypothesis by its measure, score over length."""
    heard = set()
    for seed in range(6):
        model = Toy(seed, blank)
        encoded = 1.5 * torch.randn(1, 4, generator=torch.Generator().manual_seed(seed))
        truth = brute_force(model, encoded, 1)
        best = max(truth, key=lambda tokens: truth[tokens] / (len(tokens) + 2))
        assert TorchaudioSearch(cast(AcousticModel, model), beam=3, symbols=1).best(encoded) == best
        heard.add(best)
    assert len(heard) > 1


@torch.inference_mode()
def test_both_searches_hear_much_the_same(tiny_model: Transducer) -> None:
    encoded = 3 * torch.randn(30, tiny_model.join_width, generator=torch.Generator().manual_seed(1))
    search = BeamSearch(tiny_model, 8)
    ours = search.nbest(search.step(encoded[None], search.start(1)), 0)[0]
    theirs = TorchaudioSearch(tiny_model, 8).best(encoded)
    assert theirs and ours.acoustic >= force_score(tiny_model, encoded, [theirs])[0].acoustic - 0.5


def test_the_json_has_the_contracts_fields(
    tiny_recognizer: Recognizer, speech: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    soundfile.write(folder / "call_meg.wav", speech[:16_000], 16_000)
    soundfile.write(folder / "other.wav", speech[16_000:32_000], 16_000)
    (folder / "other.txt").write_text("Call Meg!")
    monkeypatch.setattr(Recognizer, "load", classmethod(lambda cls, *_, **__: tiny_recognizer))
    monkeypatch.setattr(benchmark_search, "SIZES", (0, 100, 1000))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    out, drawing = tmp_path / "out.json", tmp_path / "out.svg"
    run = CliRunner().invoke(
        app, ["--audio", str(folder), "--rounds", "1", "--beam", "4", "--json", str(out), "--plot", str(drawing)]
    )
    assert run.exit_code == 0, run.output
    values = json.loads(out.read_text())
    assert values["beam"] == 4 and values["utterances"] == 2 and values["audio_s"] == 2.0
    assert values["speedup"] > 0
    for side in (values["rnnt_beam_search"], values["ours"], values["phrases"]["0"]):
        assert side["rtf"] > 0 and side["wer"] > 0
    assert values["phrases"]["0"]["rtf"] == values["ours"]["rtf"]
    assert all(values["phrases"][n]["rtf"] > 0 and values["phrases"][n]["compile_ms"] > 0 for n in ("100", "1000"))
    assert set(values["with_language"]) == {"0", "100", "1000"}
    assert all(row["rtf"] > 0 and row["wer"] > 0 for row in values["with_language"].values())
    assert drawing.read_text().startswith("<svg ") and "RNNTBeamSearch" in drawing.read_text()


def test_audio_from_a_folder_a_manifest_or_the_project(tmp_path: Path) -> None:
    assert {u.text for u in find_audio(None)} >= {"call meg", "bauer"}
    with pytest.raises(ManifestError, match="holds no audio"):
        find_audio(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.zeros(1600, np.float32), 16_000)
    (tmp_path / "list.jsonl").write_text(json.dumps({"id": "1", "text": "Yes.", "audio": {"path": "a.wav"}}) + "\n")
    assert [(u.id, u.text) for u in find_audio(tmp_path / "list.jsonl")] == [("1", "yes")]
    missing = CliRunner().invoke(app, ["--audio", str(tmp_path / "none.jsonl")])
    assert missing.exit_code == 2 and "none.jsonl" in missing.output


def test_names_are_different_and_the_same_each_time() -> None:
    assert names(300) == names(300) and len(set(names(300))) == 300
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz ") for name in names(300))
