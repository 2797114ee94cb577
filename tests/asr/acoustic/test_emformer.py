"""torchaudio's Emformer behind our interface: a tiny random one, and the published bundle's own configuration."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from torch import Tensor

from asr.acoustic import EmformerTransducer, load_bundle, save_emformer
from asr.acoustic.emformer import BlankLastTokenizer
from asr.audio import Samples
from asr.audio.features import FeatureStream
from asr.decoding import BeamSearch, force_score
from asr.errors import ModelError, UnspellableError
from asr.recognition.recognizer import Recognizer, StreamOptions
from tests.support.torchaudio_pair import need_torchaudio

torchaudio = need_torchaudio(module=True)
RNNTBeamSearch = torchaudio.models.RNNTBeamSearch
emformer_rnnt_base, emformer_rnnt_model = torchaudio.models.emformer_rnnt_base, torchaudio.models.emformer_rnnt_model
BUNDLE = torchaudio.pipelines.EMFORMER_RNNT_BASE_LIBRISPEECH

NAME = "EMFORMER_RNNT_BASE_LIBRISPEECH"
FILES = ("models/emformer_rnnt_base_librispeech.pt", "pipeline-assets/global_stats_rnnt_librispeech.json",
         "pipeline-assets/spm_bpe_4096_librispeech.model")  # fmt: skip
STATS = {"mean": np.linspace(17, 7, 80).tolist(), "invstddev": np.linspace(0.25, 0.2, 80).tolist()}


def pieces(lines: list[str], vocab_size: int) -> bytes:
    """A SentencePiece model with torchaudio's recipe's special ids, none of which `Tokenizer` takes."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=vocab_size, model_type="bpe",
        character_coverage=1.0, bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


@pytest.fixture(scope="module")
def tokenizer() -> BlankLastTokenizer:
    return BlankLastTokenizer(
        pieces(["call meg bauer please", "the quick fox jumps", "do you want it", "i'd say so"], 60)
    )


def tiny_config(vocab_size: int) -> dict[str, Any]:
    return {
        "input_dim": 80, "encoding_dim": 32, "num_symbols": vocab_size, "segment_length": 16, "right_context_length": 4,
        "time_reduction_input_dim": 8, "time_reduction_stride": 4, "transformer_num_heads": 2,
        "transformer_ffn_dim": 48, "transformer_num_layers": 2, "transformer_dropout": 0.1,
        "transformer_activation": "gelu", "transformer_left_context_length": 10, "transformer_max_memory_size": 0,
        "transformer_weight_init_scale_strategy": "depthwise", "transformer_tanh_on_mem": True,
        "symbol_embedding_dim": 24, "num_lstm_layers": 2, "lstm_layer_norm": True, "lstm_layer_norm_epsilon": 1e-3,
        "lstm_dropout": 0.3,
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(tokenizer: BlankLastTokenizer) -> EmformerTransducer:
    """Random weights, a joiner loud enough that audio matters, mostly blank; special pieces are never put out."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        rnnt = emformer_rnnt_model(**tiny_config(tokenizer.vocab_size))
    with torch.no_grad():
        rnnt.joiner.linear.weight *= 8
        rnnt.joiner.linear.bias[tokenizer.blank] += 6.0
        rnnt.joiner.linear.bias[:4] = -100.0
    return EmformerTransducer(rnnt, torch.tensor(STATS["mean"]), torch.tensor(STATS["invstddev"]))


@pytest.fixture(scope="module")
def recognizer(model: EmformerTransducer, tokenizer: BlankLastTokenizer) -> Recognizer:
    return Recognizer(model, tokenizer, beam=5, chunk_ms=160)


def stream_features(model: EmformerTransducer, samples: Samples) -> Tensor:
    stream, begun = FeatureStream(model.features).accept(samples)
    return torch.cat([begun, stream.flush()[1]])


def stream_encode(model: EmformerTransducer, features: Tensor) -> Tensor:
    """(F, 80) → (1, T, J), segment by segment."""
    state, parts = model.initial_state(1), []
    for at in range(0, len(features) - model.segment - model.lookahead + 1, model.segment):
        part, state = model.encode(features[None, at : at + model.segment + model.lookahead], state)
        parts.append(part)
    return torch.cat(parts, 1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TORCH_HOME with the three files where torchaudio keeps them: real shapes and names, random weights."""
    home = tmp_path_factory.mktemp("torch")
    weights, stats, tokens = (home / "hub" / "torchaudio" / key for key in FILES)
    weights.parent.mkdir(parents=True)
    stats.parent.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save({k: v.half() for k, v in emformer_rnnt_base(num_symbols=4097).state_dict().items()}, weights)
    stats.write_text(json.dumps(STATS))
    letters, rng = list("etaoinshrdlcum"), np.random.default_rng(0)
    words = ["".join(rng.choice(letters, 6)) for _ in range(4000)]
    tokens.write_bytes(pieces([" ".join(words[i : i + 8]) for i in range(0, 4000, 8)], 4096))
    yield home
    weights.unlink()  # 150 MB


@torch.inference_mode()
@pytest.mark.parametrize("seconds", [0.5, 1.7])
def test_features_are_the_bundles(
    model: EmformerTransducer, published: Path, speech: Samples, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(published))
    samples = speech[: int(16_000 * seconds)]
    theirs, _ = BUNDLE.get_feature_extractor()(torch.from_numpy(samples))
    ours = stream_features(model, samples)
    inner = slice(2, len(samples) // 160 - 2)  # at the edges they mirror the signal
    torch.testing.assert_close(ours[inner], theirs[inner], atol=1e-4, rtol=1e-4)
    assert ours.std() > 0.1


def test_loudness_is_in_decibels(model: EmformerTransducer, speech: Samples) -> None:
    loud, quiet = (model.loudness(stream_features(model, gain * speech)).max() for gain in (1.0, 0.5))
    torch.testing.assert_close(loud - quiet, torch.tensor(6.02), atol=0.01, rtol=0)


@torch.inference_mode()
def test_segments_are_encoded_as_the_whole(model: EmformerTransducer, speech: Samples) -> None:
    features = stream_features(model, speech)[: 16 * 16 + 4]
    whole, _ = model.rnnt.transcribe(features[None], torch.tensor([len(features)]))
    streamed = stream_encode(model, features)
    assert streamed.shape == (1, 64, 32)
    torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_state_is_a_value(model: EmformerTransducer, speech: Samples) -> None:
    features = stream_features(model, speech)[None]
    _, state = model.encode(features[:, :20], model.initial_state(1))
    first, _ = model.encode(features[:, 16:36], state)
    model.encode(features[:, 100:120], state)
    again, _ = model.encode(features[:, 16:36], state)
    fresh, _ = model.encode(features[:, 16:36], model.initial_state(1))
    assert torch.equal(first, again) and not torch.equal(first, fresh)


def test_the_cut_of_the_audio_changes_nothing(recognizer: Recognizer, speech: Samples) -> None:
    speech = speech[:24_000]
    whole = recognizer.recognize(speech)
    for cuts in ([159, 161, 7000], list(range(400, 24_000, 1111))):
        stream = recognizer.open(StreamOptions(endpointing=False))
        pieced = [r for part in np.split(speech, cuts) for r in stream.accept(part)] + stream.finish()
        assert [r.nbest for r in pieced] == [whole.nbest]
    best = whole.nbest[0]
    assert best.text and best.text == " ".join(w.text for w in best.words)
    assert all(0 <= w.start_s < w.end_s <= 3.5 for w in best.words)
    assert recognizer.recognize(speech[::-1].copy()).nbest[0].tokens != best.tokens


@torch.inference_mode()
@pytest.mark.parametrize(("beam", "part"), itertools.product([1, 3, 6], range(3)))
def test_the_search_is_as_good_as_torchaudios(model: EmformerTransducer, speech: Samples, beam: int, part: int) -> None:
    encoded = stream_encode(model, stream_features(model, speech[16_000 * part : 16_000 * (part + 1)]))
    search = BeamSearch(model, beam)
    ours = search.nbest(search.step(encoded, search.start(1)), 0)[0]
    theirs = RNNTBeamSearch(model.rnnt, model.blank, hypo_sort_key=lambda h: h[3], step_max_tokens=3)
    best = max(theirs._search(encoded, None, beam), key=lambda h: h[3])
    assert ours.acoustic >= best[3] - 1e-3
    exact = force_score(model, encoded[0], [ours.tokens])
    assert ours.tokens and exact[0].acoustic >= ours.acoustic - 1e-3  # the search sees some of the alignments


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [(), (9,), (12, 40, 12, 7, 58)])
def test_forced_scores_agree_with_torchaudios_loss(
    model: EmformerTransducer, speech: Samples, tokens: tuple[int, ...]
) -> None:
    encoded = stream_encode(model, stream_features(model, speech[:16_000]))
    targets = torch.tensor([[model.blank, *tokens]])
    predicted, _, _ = model.rnnt.predict(targets, torch.tensor([len(tokens) + 1]), None)
    frames = torch.tensor([encoded.shape[1]])
    logits, _, _ = model.rnnt.join(encoded, frames, predicted, torch.tensor([len(tokens) + 1]))
    forced = force_score(model, encoded[0], [tokens, (5, 6)])[0].acoustic
    if not tokens:  # which the loss does not take
        assert forced == pytest.approx(float(logits[0, :, 0].log_softmax(-1)[:, model.blank].sum()), abs=1e-3)
        return
    loss = torchaudio.functional.rnnt_loss(
        logits, targets[:, 1:].int(), frames.int(), torch.tensor([len(tokens)]).int(), model.blank, reduction="sum"
    )
    assert forced == pytest.approx(-float(loss), abs=1e-3)


def test_tokens_with_the_blank_last(tokenizer: BlankLastTokenizer) -> None:
    assert (tokenizer.blank, tokenizer.vocab_size, tokenizer.unknown) == (60, 61, 3)
    ids = tokenizer.encode("call meg please i'd")
    assert tokenizer.decode(ids) == "call meg please i'd" and tokenizer.starts_word(ids[0])
    assert tokenizer.decode([0, 1, *ids, 2, 3, tokenizer.blank]) == "call meg please i'd"
    assert tokenizer.can_spell("fox") and not tokenizer.can_spell("東京")
    with pytest.raises(UnspellableError, match="normalise"):
        tokenizer.encode("東京")


def test_a_segment_cannot_be_cut_or_stretched(model: EmformerTransducer, tokenizer: BlankLastTokenizer) -> None:
    for chunk_ms in (80, 165, 320):
        with pytest.raises(ModelError, match="use 160"):
            Recognizer(model, tokenizer, chunk_ms=chunk_ms)


def test_other_features_are_refused(tokenizer: BlankLastTokenizer) -> None:
    with pytest.raises(ModelError, match="all must be 80"):
        EmformerTransducer(emformer_rnnt_model(**tiny_config(61) | {"input_dim": 40}))
    with pytest.raises(ModelError, match="all must be 80"):
        EmformerTransducer(emformer_rnnt_model(**tiny_config(61)), torch.zeros(3))


def test_a_trained_model_opens_from_its_folder(
    model: EmformerTransducer, tokenizer: BlankLastTokenizer, speech: Samples, tmp_path: Path
) -> None:
    save_emformer(tmp_path, model, tiny_config(tokenizer.vocab_size), tokenizer, "tiny-1")
    opened = Recognizer.load(tmp_path, beam=5, chunk_ms=160)
    assert opened.version.startswith("tiny-1-")
    half = opened.recognize(speech[:16_000]).nbest[0]
    full = Recognizer(model, tokenizer, beam=5, chunk_ms=160).recognize(speech[:16_000]).nbest[0]
    assert half.acoustic == pytest.approx(full.acoustic, abs=1.0) and half.text
    torch.testing.assert_close(opened.model.features(torch.ones(560)), model.features(torch.ones(560)))
    (tmp_path / "tokens.model").write_bytes(pieces(["call meg bauer please", "the quick fox"], 40))
    with pytest.raises(ModelError, match="61 outputs, 41 tokens"):
        Recognizer.load(tmp_path, chunk_ms=160)
    (tmp_path / "emformer.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"Emformer in "):
        Recognizer.load(str(tmp_path), chunk_ms=160)


@torch.inference_mode()
def test_the_bundle_opens_by_name(published: Path, speech: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(published))
    recognizer = Recognizer.load(NAME, beam=2, chunk_ms=160)
    model = recognizer.model
    assert isinstance(model, EmformerTransducer) and recognizer.version.startswith(f"{NAME}-")
    assert 76e6 < sum(p.numel() for p in model.parameters()) < 78e6
    assert (model.segment, model.lookahead, model.lookback) == (BUNDLE.segment_length, BUNDLE.right_context_length, 0)
    assert (model.blank, model.vocab_size, model.frame_s) == (BUNDLE._blank, 4097, pytest.approx(0.04))
    model.rnnt.joiner.linear.weight *= 20  # untrained logits are all alike
    result = recognizer.recognize(speech[:16_000])
    assert result.encoded is not None and result.encoded.frames.shape == (32, 1024)  # 1.2 s, in segments
    assert result.nbest[0].tokens and np.isfinite(result.nbest[0].acoustic)
    exact = force_score(model, result.encoded.frames, [result.nbest[0].tokens])[0]
    assert exact.acoustic >= result.nbest[0].acoustic - 1e-2
    features = stream_features(model, speech[:16_000])[:84]
    whole, _ = model.rnnt.transcribe(features[None], torch.tensor([84]))
    torch.testing.assert_close(stream_encode(model, features), whole, atol=1e-3, rtol=1e-3)


def test_missing_files_are_named_with_their_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        Recognizer.load(NAME, chunk_ms=160)
    for key in FILES:
        assert f"https://download.pytorch.org/torchaudio/{key} to {tmp_path / 'hub' / 'torchaudio' / key}" in str(
            caught.value
        )
    (tmp_path / Path(FILES[1]).name).write_text(json.dumps(STATS))
    with pytest.raises(ModelError) as caught:
        load_bundle(NAME, tmp_path)
    assert str(tmp_path / Path(FILES[0]).name) in str(caught.value) and "global_stats" not in str(caught.value)
    with pytest.raises(ModelError, match="no RNN-T bundle"):
        load_bundle("HDEMUCS_HIGH_MUSDB", tmp_path)


def test_broken_bundle_files(tmp_path: Path) -> None:
    for key in FILES:
        (tmp_path / Path(key).name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=NAME):
        load_bundle(NAME, tmp_path)
