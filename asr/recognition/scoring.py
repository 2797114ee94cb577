"""Hypotheses with all that a result says of them: scores by every model, words with times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.decoding import BeamSearch, BeamState, NBestEntry, PhraseGraph, force_score
from asr.decoding.ngram import NGram
from asr.errors import UnspellableError
from asr.fitted import FittedWeights
from asr.recognition.calibration import Calibration, Evidence, log_odds
from asr.recognition.results import Encoded, Hypothesis, Word
from asr.recognition.word_times import word_spans
from asr.second_pass.attention_decoder import AttentionDecoder, DecodedUtterance
from asr.second_pass.written_candidates import written_forms
from asr.text import spoken_forms
from asr.text.tokenizer import Tokenizer

_SPOKEN_FORMS = 6
"""Ways to say a text that the attention decoder wrote, the usual ones first: "545" is five hundred and forty five, or
five forty five; the transducer decides between them."""
_POSTERIOR_TEMPERATURE = 3.0
"""By which scores that the attention decoder has a part in are divided to be log-probabilities."""
_LEAST_SHARE = 1e-30
"""Share of the n-best's probability below which a word's does not count."""


class Scorer:
    """Turns n-best entries and texts into hypotheses.

    Args:
        language: the n-gram model that the search uses.
        weights: of the scores.
        calibration: of the words' confidences in results without the attention decoder.
        attention_calibration: of those in results with it.
        attention: the attention decoder of the second pass.
    """

    def __init__(
        self,
        model: AcousticModel,
        tokenizer: Tokenizer,
        search: BeamSearch,
        weights: FittedWeights,
        language: NGram | None,
        calibration: Calibration | None,
        attention: AttentionDecoder | None,
        attention_calibration: Calibration | None,
    ) -> None:
        self.model, self.tokenizer, self.search = model, tokenizer, search
        self.weights, self.language, self.attention = weights, language, attention
        self.calibration, self.attention_calibration = calibration, attention_calibration

    def hypotheses(self, beam: BeamState, encoded: Encoded | None, nbest: int) -> tuple[Hypothesis, ...]:
        """A search's n-best list, best first; of several segmentations of a text the likeliest.

        Args:
            encoded: the frames that were searched; None: there were none.
            nbest: hypotheses, at most.
        """
        entries = self.search.nbest(beam, 0)
        if encoded is not None:
            entries = sorted(self.with_ctc(entries, encoded.frames), key=lambda e: -e.score)
        texts: dict[str, NBestEntry] = {}
        for entry in entries:
            texts.setdefault(self.tokenizer.decode(entry.tokens), entry)
        entries = list(texts.values())[:nbest]
        scores = self._token_scores(entries)
        return tuple(self._hypothesis(e, score, encoded) for e, score in zip(entries, scores, strict=True))

    def force_score(self, encoded: Encoded, texts: Sequence[str], graph: PhraseGraph | None) -> list[Hypothesis]:
        """Each text (normalised) with its exact scores by all models, token times and confidences.

        Args:
            graph: phrases whose bonus goes into `bias`; None: 0.

        Raises:
            UnspellableError: a text has a character that no token spells.
        """
        if self.unspellable(texts):
            raise UnspellableError("a text to score has characters outside a-z and the apostrophe: normalise it first")
        return self.with_attention([self.force_score_transducer(encoded, texts, graph)], [encoded])[0]

    def force_score_transducer(
        self, encoded: Encoded, texts: Sequence[str], graph: PhraseGraph | None
    ) -> list[Hypothesis]:
        """`force_score` without the attention decoder, of texts that can be spelled."""
        tokens = [self.tokenizer.encode(text) for text in texts]
        entries = force_score(self.model, encoded.frames, tokens, self.search.blank_threshold)
        entries = self.with_ctc(entries, encoded.frames)
        scores = self._token_scores(entries)
        entries = [
            replace(e, language=self._fused(e, score), bias=graph.bonus(e.tokens) if graph else 0.0)
            for e, score in zip(entries, scores, strict=True)
        ]
        return [self._hypothesis(e, score, encoded) for e, score in zip(entries, scores, strict=True)]

    def unspellable(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that the model's tokens cannot spell."""
        return [t for t in texts if not self.tokenizer.can_spell(t)]

    # The CTC head and the language model

    def with_ctc(self, entries: Sequence[NBestEntry], frames: Tensor) -> list[NBestEntry]:
        """N-best entries of (T, J) encoded frames with the CTC head's weighted score in `acoustic`.

        The joiner takes the second of two equal words for an echo of the first; the CTC head, which does not depend on
        the tokens before, scores both.
        """
        ctc = self.weights.ctc * self.model.ctc_scores(frames, [e.tokens for e in entries])
        return [replace(e, acoustic=e.acoustic + c) for e, c in zip(entries, ctc.tolist(), strict=True)]

    def _token_scores(self, entries: Sequence[NBestEntry]) -> list[list[float]]:
        """Log P of each token of each entry, and of the text's end; empty lists without a language model."""
        if self.language is None:
            return [[] for _ in entries]
        return self.language.token_scores([entry.tokens for entry in entries])

    def _fused(self, entry: NBestEntry, scores: Sequence[float]) -> float:
        """What the search adds for a text's tokens, nats."""
        return self.weights.language * sum(scores) + self.weights.token_bonus * len(entry.tokens)

    # Words

    def _hypothesis(self, entry: NBestEntry, scores: Sequence[float], encoded: Encoded | None) -> Hypothesis:
        """scores: of `_token_scores`."""
        start_s = encoded.start_s if encoded else 0.0
        times = tuple(start_s + f * self.model.frame_s for f in entry.frames)
        words = tuple(self._words(entry, scores, encoded)) if encoded else ()
        hypothesis = Hypothesis(
            text=self.tokenizer.decode(entry.tokens),
            acoustic=entry.acoustic,
            language=entry.language,
            bias=entry.bias,
            tokens=entry.tokens,
            token_times=times,
        )
        return _with_words(hypothesis, words)

    def _words(self, entry: NBestEntry, scores: Sequence[float], encoded: Encoded) -> Iterator[Word]:
        groups: list[list[int]] = []
        for i, token in enumerate(entry.tokens):
            if not groups or self.tokenizer.starts_word(token):
                groups.append([])
            groups[-1].append(i)
        texts = [self.tokenizer.decode([entry.tokens[i] for i in group]) for group in groups]
        count, frame_s = len(groups), self.model.frame_s
        words = [(group, text) for group, text in zip(groups, texts, strict=True) if text]
        end = (encoded.end_s - encoded.start_s) / frame_s
        spans = word_spans([(entry.frames[g[0]], entry.frames[g[-1]]) for g, _ in words], encoded.sound, end)
        for (group, text), span in zip(words, spans, strict=True):
            log_confidence = [entry.log_confidence[i] for i in group]
            confidence, evidence = math.exp(sum(log_confidence) / len(log_confidence)), None
            if scores:
                evidence = Evidence.of(text, log_confidence, entry.log_confidence, [scores[i] for i in group], count)
                confidence = self.calibration.confidence(evidence) if self.calibration else confidence
            start_s, end_s = (encoded.start_s + frames * frame_s for frames in span)
            yield Word(text, start_s, end_s, confidence, evidence)

    # The attention decoder

    def with_attention(
        self, lists: Sequence[Sequence[Hypothesis]], encoded: Sequence[Encoded]
    ) -> list[list[Hypothesis]]:
        """N-best lists with the attention decoder's scores, where it has decoded the utterance.

        A text that it wrote itself is scored in its own writing, others in the likeliest of their written forms.
        """
        decoded = [(i, e.attention) for i, e in enumerate(encoded) if self.attention and e.attention]
        out = [list(hypotheses) for hypotheses in lists]
        if self.attention is None or not decoded:
            return out
        weight, bonus = self.weights.attention, self.weights.word_bonus
        own = [decoded_texts(utterance) for _, utterance in decoded]
        forms = [
            [() if h.text in written_itself else written_forms(h.text) for h in lists[i]]
            for (i, _), written_itself in zip(decoded, own, strict=True)
        ]
        texts = [[form for row in rows for form in row] for rows in forms]
        scores = self.attention.scores([utterance for _, utterance in decoded], texts)
        for (i, _), written_itself, rows, scored in zip(decoded, own, forms, scores, strict=True):
            left, floor = iter(scored), encoded[i].score_floor
            best = [
                max(zip(islice(left, len(row)), row, strict=True)) if row else written_itself[h.text]
                for h, row in zip(lists[i], rows, strict=True)
            ]
            out[i] = [
                replace(
                    h,
                    attention=weight * log_p + bonus * len(h.text.split()) + max(0.0, floor - h.acoustic - h.language),
                    written=written,
                )
                for h, (log_p, written) in zip(lists[i], best, strict=True)
            ]
        return out

    def calibrated(self, nbest: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
        """An n-best list that the attention decoder has scored, with its words' confidences."""
        scores = np.array([h.score for h in nbest]) / _POSTERIOR_TEMPERATURE
        share: dict[str, float] = {}
        for hypothesis, posterior in zip(nbest, np.exp(scores - np.logaddexp.reduce(scores)).tolist(), strict=True):
            for word in {w.text for w in hypothesis.words}:
                share[word] = share.get(word, 0.0) + posterior

        def calibrated(word: Word) -> Word:
            if word.evidence is None:
                return word
            evidence = replace(word.evidence, posterior=log_odds(math.log(max(share[word.text], _LEAST_SHARE))))
            calibration = self.attention_calibration
            confidence = calibration.confidence(evidence) if calibration else word.confidence
            return replace(word, evidence=evidence, confidence=confidence)

        return tuple(_with_words(h, tuple(map(calibrated, h.words))) for h in nbest)


def _with_words(hypothesis: Hypothesis, words: tuple[Word, ...]) -> Hypothesis:
    mean = sum(word.confidence for word in words) / len(words) if words else 0.0
    return replace(hypothesis, words=words, confidence=mean)


def decoded_texts(utterance: DecodedUtterance) -> dict[str, tuple[float, str]]:
    """The spoken texts of what the attention decoder wrote: the likeliest writing's score, nats, and that writing."""
    texts: dict[str, tuple[float, str]] = {}
    for written in utterance.written:
        for text in spoken_forms(written.text, _SPOKEN_FORMS):
            texts[text] = max((written.log_p, written.text), texts.get(text, (-math.inf, "")))
    return texts
