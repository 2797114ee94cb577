"""From the recogniser's values to the messages of the interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from asr.context.phrase_index import PhraseIndex
from asr.context.spelling import phrase_spelling
from asr.context.types import BiasedWord
from asr.decoding import BoostedPhrase
from asr.recognition.results import Hypothesis, Result
from asr.recognition.written_form import written_hypothesis, written_nbest
from carryover.v1 import recognizer_pb2 as pb
from server.context_use import Used


def partial(result: Result) -> pb.StreamingRecognitionResult:
    """An interim result."""
    return pb.StreamingRecognitionResult(
        alternatives=[pb.SpeechRecognitionAlternative(transcript=result.nbest[0].text)],
        is_final=False,
        stability=result.stability,
        start=result.start_s,
        end=result.end_s,
    )


def final(
    result: Result, used: Used, plain: str, phrase_words: Iterable[BiasedWord], alternatives: int, words: bool
) -> pb.StreamingRecognitionResult:
    """A final result with what context did, or one that is likely to be it. plain: the first transcript without
    context. phrase_words: supported by the request's own phrases. alternatives: how many at most. words: with word
    times."""
    return pb.StreamingRecognitionResult(
        alternatives=[alternative(hypothesis, words) for hypothesis in used.nbest[:alternatives]],
        is_final=result.is_final,
        stability=result.stability,
        start=result.start_s,
        end=result.end_s,
        context=context_info(used, plain, phrase_words) if result.is_final else None,
        likely_final=result.likely_final,
        passes=[one.name for one in result.passes],
        skipped_passes=[one.name for one in result.skipped],
    )


def in_written_form(
    result: Result, used: Used, spoken: Mapping[str, BoostedPhrase], alternatives: int
) -> tuple[Used, str]:
    """What context did to a final result, and the first transcript without it, in written form. CPU bound.

    spoken: spoken forms of the request's own phrases. alternatives: how many at most; the others are left out.
    """
    attended = result.encoded.attention if result.encoded else None
    embedding = used.context.embedding if used.context and used.status == pb.ContextInfo.APPLIED else None
    spelling = phrase_spelling(spoken, PhraseIndex(embedding.phrases) if embedding else None, used.biased_words)
    nbest = written_nbest(used.nbest, attended, spelling, alternatives)
    plain = written_hypothesis(result.nbest[0], attended, phrase_spelling(spoken))
    return replace(used, nbest=nbest), plain.text


def alternative(hypothesis: Hypothesis, words: bool) -> pb.SpeechRecognitionAlternative:
    """One hypothesis of a final result."""
    return pb.SpeechRecognitionAlternative(
        transcript=hypothesis.text,
        confidence=hypothesis.confidence,
        words=[
            pb.WordInfo(word=word.text, start=word.start_s, end=word.end_s, confidence=word.confidence)
            for word in (hypothesis.words if words else ())
        ],
        score=hypothesis.score,
        from_context=hypothesis.from_context,
    )


def context_info(used: Used, plain: str, phrase_words: Iterable[BiasedWord] = ()) -> pb.ContextInfo:
    """What context did to a result, `plain` being the first transcript without it."""
    words = [
        pb.BiasedWord(
            word=b.word, phrase=b.phrase, signal=b.signal, nats=b.nats or None, rank=b.rank or None, entry_id=b.id
        )
        for b in (*used.biased_words, *phrase_words)
    ]
    return pb.ContextInfo(
        status=used.status,
        changed=used.changed,
        plain_transcript=plain,
        biased_words=words,
        timings=_timings(used),
        reason=used.reason,
        context_turn_id=used.context.turn if used.context else "",
        meant=[pb.MeantEntry(entry=m.entry, signal=m.signal, entry_id=m.id) for m in used.meant],
    )


def _timings(used: Used) -> pb.ContextTimings:
    return pb.ContextTimings(
        trigger_to_ready_ms=used.context.made_in_ms if used.context else None,
        age_ms=used.age_ms,
        lookup_ms=used.lookup_ms,
        rescore_ms=used.rescore_ms,
    )
