"""The shipped attention decoder in the recogniser: what it adds, what it leaves alone, and that it invents nothing."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.audio import Samples, read_at_16k
from asr.audio.features import features
from asr.decoding import BoostedPhrase
from asr.errors import ModelError
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Hypothesis, Pass
from asr.recognition.written_form import written_hypothesis
from asr.second_pass.attention_decoder import SHIPPED, AttentionDecoder
from asr.text import normalize

AUDIO = Path(__file__).parents[3] / "samples" / "audio"
RATE = 16_000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load()


@pytest.fixture(scope="module")
def streaming() -> Recognizer:
    return Recognizer.load(second_pass=False)


@pytest.fixture(scope="module")
def decoder(recognizer: Recognizer) -> AttentionDecoder:
    assert recognizer.attention is not None
    return recognizer.attention


def recording(name: str) -> Samples:
    return read_at_16k(AUDIO / name)


def tones(*hertz: float, on_s: float = 9.0, every_s: float = 9.0) -> Samples:
    time = np.arange(5 * RATE) / RATE
    sound = 0.2 * np.sum([np.sin(2 * np.pi * f * time) for f in hertz], axis=0)
    return (sound * (time % every_s < on_s)).astype(np.float32)


def test_its_own_texts_join_the_list_and_every_text_has_its_score(recognizer: Recognizer) -> None:
    result = recognizer.recognize(recording("send_a_message_to_thompson.opus"))
    assert result.nbest[0].text == "send a message to thompson"
    assert Pass.ATTENTION in result.passes
    assert all(h.attention < 0 for h in result.nbest)
    assert [h.score for h in result.nbest] == sorted((h.score for h in result.nbest), reverse=True)
    assert result.encoded is not None and result.encoded.attention is not None
    (again,) = recognizer.force_score(result.encoded, [result.nbest[0].text])
    assert again.attention == pytest.approx(result.nbest[0].attention, abs=1e-3)


def test_the_transducer_outvotes_it_within_a_limit(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(limit: float) -> list[Hypothesis]:
        monkeypatch.setattr(recognizer.scorer, "weights", replace(recognizer.weights, limit=limit))
        return list(recognizer.recognize(recording("send_a_message_to_thompson.opus"), nbest=16).nbest)

    free, half, none = listed(1e9), listed(5.0), listed(0.0)
    best = max(h.acoustic + h.language for h in free)
    log_p = {h.text: h.attention for h in free}  # without what it makes up for
    for limit, found in ((5.0, half), (0.0, none)):
        for h in found:
            assert h.score == pytest.approx(max(h.acoustic + h.language, best - limit) + log_p[h.text], abs=1e-3)
    assert [h.text for h in none] == sorted((h.text for h in none), key=lambda text: -log_p[text])


def test_a_text_that_it_wrote_has_the_score_that_its_search_gave(decoder: AttentionDecoder) -> None:
    (decoded,) = decoder.decode([features(recording("send_a_message_to_thompson.opus"))], [20])
    assert normalize(decoded.written[0].text) == "send a message to thompson"
    texts = [w.text for w in decoded.written]
    assert decoder.scores([decoded], [texts])[0] == pytest.approx([w.log_p for w in decoded.written], abs=0.1)


def test_utterances_of_a_batch_are_as_alone(decoder: AttentionDecoder) -> None:
    utterances = [features(recording(name)) for name in ("drew.opus", "send_a_message_to_thompson.opus")]
    alone = [decoder.decode([f], [20])[0] for f in utterances]
    for one, together in zip(alone, decoder.decode(utterances, [20, 20]), strict=True):
        assert together.written == one.written


def test_what_is_written_is_likeliest_and_has_the_times_of_what_is_said(recognizer: Recognizer) -> None:
    result = recognizer.recognize(recording("an4_an187-mkem-b.opus"))
    assert result.encoded is not None
    assert (result.nbest[0].text, result.nbest[0].written) == ("enter one thirty one", "Enter 131.")
    assert all(normalize(h.written) for h in result.nbest)
    (again,) = recognizer.force_score(result.encoded, ["enter one thirty one"])
    assert again.written == "Enter 131."
    best = written_hypothesis(result.nbest[0], result.encoded.attention)
    said = result.nbest[0].words
    assert [(w.text, w.start_s, w.end_s) for w in best.words] == [
        ("Enter", said[0].start_s, said[0].end_s),
        ("131.", said[1].start_s, said[-1].end_s),
    ]


@pytest.mark.parametrize("name", ["drew.opus", "frank.opus"])
def test_a_word_lasts_as_long_as_its_sound(recognizer: Recognizer, name: str) -> None:
    """With silence of known length around it; the recording's own shows by its level."""
    word = recording(name)
    loud = (np.abs(word) > 0.05 * np.abs(word).max()).nonzero()[0]
    pause = np.zeros(RATE * 7 // 10, np.float32)
    result = recognizer.recognize(np.concatenate([pause, word, pause]))
    words = result.nbest[0].words
    assert words[0].start_s == pytest.approx(0.7 + loud[0] / RATE, abs=0.06)
    assert words[-1].end_s == pytest.approx(0.7 + loud[-1] / RATE, abs=0.1)


def test_phrases_are_boosted_in_its_search_and_kept_no_longer_than_their_graph(
    recognizer: Recognizer, decoder: AttentionDecoder
) -> None:
    utterance = features(recording("drew.opus"))
    (plain,) = decoder.decode([utterance], [20])
    assert not any("Dru" in w.text for w in plain.written)
    graph = recognizer.compile([BoostedPhrase("Dru", 5.0)])
    boosted = decoder.written_phrases(graph)
    assert boosted and decoder.written_phrases(graph) is boosted and decoder.written_phrases(None) is None
    (found,) = decoder.decode([utterance], [20], [boosted])
    dru = next(w for w in found.written if "Dru" in w.text)
    assert decoder.scores([found], [[dru.text]])[0] == pytest.approx([dru.log_p], abs=0.1)  # without the bonus
    (unboosted,) = decoder.decode([utterance], [20], [decoder.written_phrases(recognizer.compile([]))])
    assert unboosted.written == plain.written
    kept = weakref.ref(boosted)
    del graph, boosted
    gc.collect()
    assert kept() is None


def test_a_clients_phrases_bring_texts_of_the_attention_decoder(recognizer: Recognizer) -> None:
    phrases = [BoostedPhrase("Thomson", 5.0)]
    samples = recording("send_a_message_to_thompson.opus")
    boosted = recognizer.recognize(samples, graph=recognizer.compile(phrases))
    assert boosted.encoded is not None and boosted.encoded.attention is not None
    assert any(w.text.startswith("Send a message to Thomson") for w in boosted.encoded.attention.written)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(3 * RATE, np.float32),
        (0.05 * np.random.default_rng(1).standard_normal(3 * RATE)).astype(np.float32),
        tones(350, 440),
        tones(50),
        tones(1000),
    ],
    ids=["silence", "noise", "dial tone", "hum", "1 kHz"],
)
def test_it_writes_nothing_where_nothing_is_said(decoder: AttentionDecoder, sound: Samples) -> None:
    (decoded,) = decoder.decode([features(sound)], [20])
    assert decoded.written[0].text == ""
    assert decoded.written[0].log_p > -0.5


@pytest.mark.parametrize("second_pass", [True, False])
@pytest.mark.parametrize("phrases", [(), ("yes", "no"), ("up", "down")])
@pytest.mark.parametrize(
    "sound",
    [tones(350, 440), tones(1000), tones(480, 620, on_s=0.5, every_s=1.0), tones(770, 1336, on_s=0.2, every_s=0.5)],
    ids=["dial tone", "1 kHz", "busy", "keys"],
)
def test_no_final_result_of_tones_whatever_phrases_are_expected(
    recognizer: Recognizer, streaming: Recognizer, sound: Samples, phrases: tuple[str, ...], second_pass: bool
) -> None:
    chosen = recognizer if second_pass else streaming
    stream = chosen.open(StreamOptions(graph=chosen.compile(BoostedPhrase(phrase, 5.0) for phrase in phrases)))
    results = [*stream.accept(sound), *stream.finish()]
    assert [r.nbest[0].text for r in results if r.is_final and r.nbest[0].text] == []


@pytest.mark.parametrize("peak_db", [-20, -45, -50])
def test_quiet_speech_is_recognised_as_loud_speech_is(
    recognizer: Recognizer, streaming: Recognizer, peak_db: int
) -> None:
    said = {"send_a_message_to_thompson.opus": "send a message to thompson"}
    for name, text in said.items():
        samples = recording(name)
        quiet = np.rint(samples / np.abs(samples).max() * 10 ** (peak_db / 20) * 32767).astype(np.float32) / 32768
        assert recognizer.recognize(quiet).nbest[0].text == text
        assert streaming.recognize(quiet).nbest[0].text == streaming.recognize(samples).nbest[0].text


def test_a_result_without_second_pass_names_both_passes_that_were_skipped(recognizer: Recognizer) -> None:
    stream = recognizer.open(StreamOptions(endpointing=False))
    stream.take(recording("drew.opus"))
    stream.end()
    results = []
    while stream.ready:
        stream.skip_second_pass(Pass)
        results += recognizer.advance([stream])[0]
    assert results[-1].skipped == (Pass.WHOLE_UTTERANCE, Pass.ATTENTION)
    assert Pass.ATTENTION not in results[-1].passes


def test_without_it_the_recogniser_is_as_before(recognizer: Recognizer) -> None:
    plain = Recognizer.load(second_pass=False)
    assert plain.attention is None and plain.second_passes == ()
    result = plain.recognize(recording("drew.opus"))
    assert result.passes == (Pass.STREAMING,)
    assert all(h.attention == 0.0 for h in result.nbest)


def test_a_folder_that_is_no_whisper_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="second pass"):
        Recognizer.load(second_pass=tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Recognizer.load(second_pass=tmp_path)


def test_a_whisper_model_in_a_folder_reads_padded_windows(recognizer: Recognizer, tmp_path: Path) -> None:
    """The shipped weights as if they were stock ones, which want 30 s: they decode the same words."""
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(SHIPPED / name)
    config = (SHIPPED / "config.json").read_text().replace('"window_s": 0', '"window_s": 30')
    (tmp_path / "config.json").write_text(config)
    padded = AttentionDecoder.load(tmp_path)
    (decoded,) = padded.decode([features(recording("send_a_message_to_thompson.opus"))], [20])
    assert decoded.audio[0][0].shape[2] == 1500
    assert normalize(decoded.written[0].text) == "send a message to thompson"


def test_utterances_longer_than_its_window_go_without_it(recognizer: Recognizer) -> None:
    with torch.inference_mode():
        result = recognizer.recognize(np.tile(recording("drew.opus"), 60))
    assert Pass.ATTENTION not in result.passes
