"""The last stage: final results of utterances, with second passes and the search with a context's phrases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.audio.features import FRAME_S
from asr.decoding import BeamSearch, PhraseGraph
from asr.recognition.batching import search_batch
from asr.recognition.results import Encoded, Hypothesis, Pass, Result
from asr.recognition.scoring import Scorer, decoded_texts
from asr.recognition.state import SearchState
from asr.recognition.word_times import sound_of
from asr.second_pass.attention_decoder import AttentionDecoder

CONTEXT_BEAM = 16
"""Hypotheses that the search with a context's phrases keeps: fewer lose names that the phrases bring."""
_RANKED = 8
"""Hypotheses of the search that the attention decoder scores at least, however few are asked for."""
_MAX_ATTENTION_S = 30.0
"""Whisper's window: longer utterances go without the attention decoder."""


@dataclass(frozen=True)
class FinalRequest:
    """What the final result of an utterance is made from."""

    search: SearchState
    """The streaming search."""
    frames: Tensor | None
    """(T, J) encoded frames of the utterance; None: there are none."""
    features: Tensor | None
    """(lookback + F + lookahead, 80) of the utterance for second passes; None: there is none."""
    loudness: Tensor | None
    """(T,) dB of the frames."""
    start_s: float
    """Seconds into the stream at which the utterance starts."""
    end_s: float
    """Seconds into the stream at which its audio ends."""
    nbest: int
    """Hypotheses, at most."""
    skipped: frozenset[Pass]
    """Second passes that it goes without."""
    plain: Result | None
    """The result without the context's hypotheses, where a likely final has made it already."""
    context: PhraseGraph | None
    """Phrases of a context that are still to be searched for."""

    @property
    def is_searched(self) -> bool:
        """Whether the streaming search has read all its frames and no others."""
        return self.frames is None or self.search.frames == len(self.frames)

    def takes(self, second: Pass) -> bool:
        """Whether such a second pass is made."""
        return self.features is not None and second not in self.skipped


class Finalizer:
    """Makes final results; holds no state of any utterance.

    Args:
        attention: the attention decoder; None: final results are of the transducer alone.
    """

    def __init__(
        self, model: AcousticModel, search: BeamSearch, scorer: Scorer, attention: AttentionDecoder | None
    ) -> None:
        self.model, self.search, self.scorer, self.attention = model, search, scorer, attention

    def finalize(self, requests: Sequence[FinalRequest]) -> list[Result]:
        """The final result of each utterance; `Result.end_s` is left to the caller."""
        new = iter(self._plain([request for request in requests if request.plain is None]))
        plain = [request.plain or next(new) for request in requests]
        return self.with_contexts(plain, [r.context for r in requests], [r.nbest for r in requests])

    def with_contexts(
        self, results: Sequence[Result], graphs: Sequence[PhraseGraph | None], nbest: Sequence[int]
    ) -> list[Result]:
        """Results with `biased`: the hypotheses that only a search with a context's phrases has.

        Args:
            graphs: the phrases of each; None: none, and the result stays as it is.
            nbest: hypotheses of each such search, at most.
        """
        out = list(results)
        searched = [
            (i, result.encoded, graph)
            for i, (result, graph) in enumerate(zip(results, graphs, strict=True))
            if result.encoded is not None and graph and graph.accepted
        ]
        begun = [SearchState(self.search.start(1, CONTEXT_BEAM), graph) for *_, graph in searched]
        after = search_batch(self.search, [encoded.frames for _, encoded, _ in searched], begun)
        for (i, encoded, _), search in zip(searched, after, strict=True):
            known = {hypothesis.text for hypothesis in out[i].nbest}
            found = self.scorer.hypotheses(search.beam, encoded, nbest[i])
            biased = tuple(h for h in found if h.text not in known)
            out[i] = replace(out[i], biased=biased, passes=(*out[i].passes, Pass.CONTEXT_PHRASES))
        return out

    def encode_whole(self, features: Tensor) -> Tensor:
        """Encode an utterance as a whole.

        It is one chunk where the model can take that many frames, else as few chunks of equal length as possible.

        Args:
            features: (lookback + F + lookahead, 80).

        Returns:
            (T, J) encoded frames.
        """
        model = self.model
        frames, state = len(features) - model.lookback - model.lookahead, model.initial_state(1)
        size = 4 * math.ceil(frames / 4 / math.ceil(frames / model.max_chunk_frames))
        pieces = []
        for at in range(0, frames, size):
            piece, state = model.encode(features[None, at : at + size + model.lookback + model.lookahead], state)
            pieces.append(piece[0])
        return torch.cat(pieces)

    def _plain(self, requests: Sequence[FinalRequest]) -> list[Result]:
        """Final results without the hypotheses of a context."""
        anew, begun = {}, []
        for i, request in enumerate(requests):
            if request.features is not None and request.takes(Pass.WHOLE_UTTERANCE):
                anew[i] = self.encode_whole(request.features)
                begun.append(SearchState(self.search.start(1), request.search.graph))
            elif request.frames is not None and not request.is_searched:
                anew[i] = request.frames
                begun.append(SearchState(self.search.start(1, request.search.width), request.search.graph))
        after = dict(zip(anew, search_batch(self.search, list(anew.values()), begun), strict=True))
        results = [
            self._transduced(request, anew.get(i, request.frames), after.get(i, request.search))
            for i, request in enumerate(requests)
        ]
        results = self._with_attention(results, requests)
        return [replace(r, nbest=r.nbest[: request.nbest]) for r, request in zip(results, requests, strict=True)]

    def _transduced(self, request: FinalRequest, frames: Tensor | None, search: SearchState) -> Result:
        """The result of a search over an utterance's frames."""
        sound = () if request.loudness is None else sound_of(request.loudness)
        encoded = None if frames is None else Encoded(frames, request.start_s, sound=sound, end_s=request.end_s)
        nbest = self.scorer.hypotheses(search.beam, encoded, max(request.nbest, _RANKED))
        if encoded and search.graph:
            nbest = self._unless_silent(nbest, encoded)
        whole = (Pass.WHOLE_UTTERANCE,) if request.takes(Pass.WHOLE_UTTERANCE) else ()
        passes = (Pass.STREAMING, *whole)
        return Result(nbest, True, 1.0, request.start_s, request.start_s, encoded=encoded, passes=passes)

    def _unless_silent(self, nbest: tuple[Hypothesis, ...], encoded: Encoded) -> tuple[Hypothesis, ...]:
        """The n-best of a search with phrases, or silence, if that is the result without them.

        Phrases say which words were spoken, not whether any were.
        """
        (silence,) = self.scorer.force_score_transducer(encoded, [""], None)
        if silence.score < max(h.score - h.bias for h in nbest):
            return nbest
        (plain,) = search_batch(self.search, [encoded.frames], [SearchState(self.search.start(1))])
        return nbest if self.scorer.hypotheses(plain.beam, encoded, 1)[0].text else (silence,)

    def _with_attention(self, results: Sequence[Result], requests: Sequence[FinalRequest]) -> list[Result]:
        """The results with the attention decoder's own texts and scores, where it is to decode the utterance."""
        model, out, most = self.model, list(results), round(_MAX_ATTENTION_S / FRAME_S)
        chosen = [
            (i, request, request.features[model.lookback : len(request.features) - model.lookahead], result.encoded)
            for i, (result, request) in enumerate(zip(results, requests, strict=True))
            if request.features is not None
            and request.takes(Pass.ATTENTION)
            and len(request.features) - model.lookback - model.lookahead <= most
            and result.encoded is not None
            and result.nbest[0].text
        ]
        if self.attention is None or not chosen:
            return out
        max_tokens = [_max_tokens(results[i].nbest[0].text) for i, *_ in chosen]
        phrases = [self.attention.written_phrases(request.search.graph) for _, request, *_ in chosen]
        utterances = self.attention.decode([features for *_, features, _ in chosen], max_tokens, phrases)
        lists, encodings = [], []
        for (i, request, _, encoded), decoded in zip(chosen, utterances, strict=True):
            known = {h.text for h in results[i].nbest}
            texts = [t for t in decoded_texts(decoded) if t not in known and not self.scorer.unspellable([t])]
            forced = self.scorer.force_score_transducer(encoded, texts, request.search.graph)
            lists.append([*results[i].nbest, *forced])
            best = max(h.acoustic + h.language for h in lists[-1])
            encodings.append(replace(encoded, attention=decoded, score_floor=best - self.scorer.weights.limit))
        scored = self.scorer.with_attention(lists, encodings)
        for (i, *_), nbest, encoded in zip(chosen, scored, encodings, strict=True):
            ranked = self.scorer.calibrated(sorted(nbest, key=lambda h: -h.score))
            passes = (*results[i].passes, Pass.ATTENTION)
            out[i] = replace(results[i], nbest=ranked, encoded=encoded, passes=passes)
        return out


def _max_tokens(text: str) -> int:
    """More of the attention decoder's tokens than a text that sounds like this one can have."""
    return 12 + 2 * len(text.split()) + len(text) // 3
