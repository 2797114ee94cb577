"""Recognition of utterances and streams, forced scores, what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.acoustic import PRESETS, Transducer, transducer
from asr.audio import Samples, features
from asr.decoding import force_score
from asr.errors import AudioError, ModelError, UnspellableError
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Pass, Result
from asr.text.tokenizer import Tokenizer


def plain(result: Result) -> tuple[object, ...]:
    """All that a result says, without its encoder frames."""
    return result.nbest, result.is_final, result.start_s, result.end_s, result.endpoint_s


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 20_000), max_size=12), rate=st.sampled_from([8000, 16_000, 44_100]))
def test_the_cut_of_the_audio_changes_nothing(
    tiny_recognizer: Recognizer, speech: Samples, cuts: list[int], rate: int
) -> None:
    stream = tiny_recognizer.open(StreamOptions(rate))
    parts = np.split(speech, np.clip(np.cumsum(cuts), 0, len(speech)))
    pieces = [plain(r) for p in parts for r in stream.accept(p)] + [plain(r) for r in stream.finish()]
    whole = tiny_recognizer.open(StreamOptions(rate))
    assert pieces == [plain(r) for r in [*whole.accept(speech), *whole.finish()]]


def test_recognition_gives_text_times_and_confidence(tiny_recognizer: Recognizer, speech: Samples) -> None:
    result = tiny_recognizer.recognize(speech)
    best = result.nbest[0]
    assert best.text and best.text == " ".join(w.text for w in best.words)
    assert 0 < best.confidence <= 1
    assert all(0 <= w.start_s < w.end_s <= 3.5 and 0 < w.confidence <= 1 for w in best.words)
    assert [h.score for h in result.nbest] == sorted((h.score for h in result.nbest), reverse=True)
    assert result.end_s == 3.0 and result.is_final and result.stability == 1


def test_interim_results_lead_to_the_final(tiny_recognizer: Recognizer, speech: Samples) -> None:
    stream = tiny_recognizer.open(StreamOptions(interim_results=True, endpointing=False))
    results = [r for part in np.split(speech, 30) for r in stream.accept(part)] + stream.finish()
    partials, final = [r for r in results if not r.is_final], results[-1]
    assert len(partials) >= 3 and final.is_final and sum(r.is_final for r in results) == 1
    assert all(0 <= r.stability <= 1 and len(r.nbest) == 1 for r in partials)
    quiet = tiny_recognizer.open(StreamOptions(endpointing=False))
    assert [plain(r) for r in [*quiet.accept(speech), *quiet.finish()]] == [plain(final)]


def endpoints(recognizer: Recognizer, speech: Samples, single: bool) -> list[Result]:
    rule = EndpointRule(trailing_silence_s=0.3, max_utterance_s=1.0)
    stream = recognizer.open(StreamOptions(single_utterance=single, endpoint=rule))
    return [r for part in np.split(speech, 12) for r in stream.accept(part)] + stream.finish()


def test_a_stream_goes_on_after_an_endpoint(tiny_recognizer: Recognizer, speech: Samples) -> None:
    results = endpoints(tiny_recognizer, speech, single=False)
    assert len(results) >= 3
    for before, after in zip(results, results[1:], strict=False):
        assert before.end_s <= after.start_s + 1e-6
        assert all(w.start_s >= after.start_s for w in after.nbest[0].words)


def test_single_utterance_ends_the_stream(tiny_recognizer: Recognizer, speech: Samples) -> None:
    results = endpoints(tiny_recognizer, speech, single=True)
    assert len(results) == 1 and results[0].endpoint_s is not None


@torch.inference_mode()
def test_a_final_result_is_of_the_utterance_as_a_whole(tiny_recognizer: Recognizer, speech: Samples) -> None:
    """Each frame of it has seen all that comes behind, as `Encoder.forward` does with one chunk."""
    model, short = tiny_recognizer.model, speech[:12_000]
    assert isinstance(model, Transducer) and model.max_chunk_frames == 120
    whole = tiny_recognizer.recognize(short).encoded
    assert whole is not None
    tail = np.zeros(4 * len(whole.frames) * 160 + 240 - len(short) - 200, np.float32)
    padded = np.concatenate([np.zeros(200, np.float32), short, tail])
    features = model.features(torch.from_numpy(padded))
    expected = model.join_encoded(model.encoder(features[None], 1500))[0]
    # the last frames read a feature frame behind the utterance's end
    assert torch.allclose(whole.frames[:-1], expected[: len(whole.frames) - 1], atol=0.05)
    chunked = model.join_encoded(model.encoder(features[None], tiny_recognizer.front_end.chunk_frames // 2))[0]
    assert not torch.allclose(whole.frames[:-1], chunked[: len(whole.frames) - 1], atol=0.2)
    once = Recognizer(model, tiny_recognizer.tokenizer, second_pass=False).recognize(short).encoded
    assert once is not None and torch.allclose(once.frames[:-1], chunked[: len(whole.frames) - 1], atol=0.05)


@torch.inference_mode()
def test_each_utterance_is_encoded_as_a_whole_by_itself(tiny_recognizer: Recognizer, speech: Samples) -> None:
    results = endpoints(tiny_recognizer, speech, single=False)
    stream = tiny_recognizer.open(StreamOptions(endpointing=False))
    stream.accept(speech)
    features = torch.cat(stream.state.utterance.features)
    for result in results[:-1]:
        assert result.encoded is not None
        start, end = (
            4 * round(s / 0.04) for s in (result.start_s, result.encoded.start_s + 0.04 * len(result.encoded.frames))
        )
        again = tiny_recognizer.finalizer.encode_whole(features[start : end + 3])
        assert torch.equal(again, result.encoded.frames)


def test_a_result_without_second_pass_is_that_of_the_first(tiny_recognizer: Recognizer, speech: Samples) -> None:
    model, tokenizer = tiny_recognizer.model, tiny_recognizer.tokenizer
    first = Recognizer(model, tokenizer, beam=tiny_recognizer.search.beam, second_pass=False)
    stream = tiny_recognizer.open(StreamOptions(endpointing=False))
    assert not stream.skip_second_pass(Pass) and not stream.accept(speech)
    stream.end()
    while not stream.pending.is_result:
        tiny_recognizer.advance([stream])
    assert stream.skip_second_pass(Pass)
    (result,) = tiny_recognizer.advance([stream])[0]
    quiet, once = tiny_recognizer.recognize(speech), first.recognize(speech)
    assert result.nbest == once.nbest != quiet.nbest
    assert (result.passes, result.skipped) == ((Pass.STREAMING,), (Pass.WHOLE_UTTERANCE,))
    assert (quiet.passes, quiet.skipped) == ((Pass.STREAMING, Pass.WHOLE_UTTERANCE), ())
    assert (once.passes, once.skipped) == ((Pass.STREAMING,), ())  # nothing is missing where nobody asked for it


@torch.inference_mode()
def test_a_very_long_utterance_is_encoded_in_equal_pieces(tiny_recognizer: Recognizer, speech: Samples) -> None:
    utterance = torch.randn(2 + 4 * 70 + 1, 80, generator=torch.Generator().manual_seed(1))
    encoded, state = [], tiny_recognizer.model.initial_state(1)
    for at in (0, 96, 192):  # of at most 120 frames, evenly
        piece, state = tiny_recognizer.model.encode(utterance[None, at : at + 99], state)
        encoded.append(piece[0])
    whole = tiny_recognizer.finalizer.encode_whole(utterance)
    assert torch.equal(whole, torch.cat(encoded)) and len(whole) == 70


@torch.inference_mode()
def test_forced_scores_agree_with_the_search(tiny_recognizer: Recognizer, speech: Samples) -> None:
    result = tiny_recognizer.recognize(speech)
    assert result.encoded is not None
    frames = result.encoded.frames
    forced = tiny_recognizer.scorer.with_ctc(
        force_score(tiny_recognizer.model, frames, [h.tokens for h in result.nbest]), frames
    )
    for searched, exact in zip(result.nbest, forced, strict=True):
        assert exact.acoustic >= searched.acoustic - 1e-3  # the search sees some of the alignments
    for scored in tiny_recognizer.force_score(result.encoded, ["call meg", "call meg bauer"]):
        assert scored.text.split() == [w.text for w in scored.words] and 0 < scored.confidence <= 1


@torch.inference_mode()
def test_finals_are_ranked_with_the_ctc_head(
    tiny_recognizer: Recognizer, tiny_tokenizer: Tokenizer, speech: Samples
) -> None:
    alone, both = (Recognizer(tiny_recognizer.model, tiny_tokenizer, beam=8, ctc_weight=w) for w in (0.0, 5.0))
    first, ranked = alone.recognize(speech), both.recognize(speech)
    assert first.encoded is not None
    ctc = tiny_recognizer.model.ctc_scores(first.encoded.frames, [h.tokens for h in first.nbest]).tolist()
    expected = {h.tokens: h.acoustic + 5 * c for h, c in zip(first.nbest, ctc, strict=True)}
    found = {h.tokens: h.acoustic for h in ranked.nbest}
    assert found == pytest.approx(expected) and list(found) == sorted(found, key=lambda t: -found[t])


def test_what_cannot_be_forced(tiny_recognizer: Recognizer, speech: Samples) -> None:
    result = tiny_recognizer.recognize(speech)
    assert result.encoded is not None
    assert tiny_recognizer.unspellable(["meg", "東京"]) == ["東京"]
    with pytest.raises(UnspellableError, match="normalise"):
        tiny_recognizer.force_score(result.encoded, ["meg", "東京"])
    assert tiny_recognizer.force_score(result.encoded, []) == []


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(10, np.float32)])
def test_next_to_no_audio_gives_one_final(tiny_recognizer: Recognizer, samples: Samples) -> None:
    result = tiny_recognizer.recognize(samples)
    assert result.is_final and result.end_s == len(samples) / 16_000


def test_bad_audio_is_refused(tiny_recognizer: Recognizer) -> None:
    stream = tiny_recognizer.open()
    with pytest.raises(AudioError, match="NaN"):
        stream.accept(np.array([0, np.nan], np.float32))
    with pytest.raises(AudioError, match="8000 to 48000"):
        tiny_recognizer.open(StreamOptions(100))


def test_the_first_stream_has_nothing_left_to_make(
    tiny_tokenizer: Tokenizer, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are packed and tables made with the recogniser: a server opens streams on its event loop."""
    model = Transducer(PRESETS["tiny"](tiny_tokenizer.vocab_size)).eval()
    features.window_and_bank.cache_clear()
    recognizer = Recognizer(model, tiny_tokenizer, beam=6)
    assert features.window_and_bank.cache_info().misses == 1
    monkeypatch.setattr(transducer, "StreamingEncoder", None)  # none can be made any more
    stream = recognizer.open()
    assert [*stream.accept(speech), *stream.finish()][-1].is_final
    assert features.window_and_bank.cache_info().misses == 1


def test_model_and_tokens_must_fit(tiny_recognizer: Recognizer) -> None:
    with pytest.raises(ModelError, match="70 outputs"):
        Recognizer(Transducer(PRESETS["tiny"](70)), tiny_recognizer.tokenizer)


def test_memory_of_a_long_silence_is_bounded(tiny_recognizer: Recognizer) -> None:
    """However long nothing is said, only the last frames are kept."""
    stream = tiny_recognizer.open(
        StreamOptions(endpoint=EndpointRule(trailing_silence_s=0.5, leading_silence_s=1.0, max_utterance_s=2.0))
    )
    for _ in range(20):
        stream.accept(np.zeros(16_000, np.float32))
        assert sum(len(f) for f in stream.state.utterance.features) <= 2.4 / 0.01 + 3
        assert len(stream.state.front_end.buffered) < tiny_recognizer.front_end.window_frames and not stream.ready
