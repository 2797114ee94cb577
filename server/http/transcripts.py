"""Results as OpenAI's API and as subtitles have them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from carryover.v1 import recognizer_pb2 as pb
from server.http.json_calls import as_json

_LEAST = 1e-6
"""Confidences below this count as this: their logarithm is finite."""
_CUE_CHARACTERS, _CUE_S = 84, 6.0
"""A subtitle is two lines of 42 characters at most, and stands no longer than this."""


@dataclass
class Transcript:
    """The results of a recording."""

    responses: list[Any]
    """RecognizeResponse or StreamingRecognizeResponse, all of their results final."""

    @property
    def results(self) -> list[pb.StreamingRecognitionResult]:
        """Those in which something was said."""
        return [one for response in self.responses for one in response.results if one.alternatives[0].transcript]

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(one.alternatives[0].transcript for one in self.results)

    @property
    def seconds(self) -> float:
        """Of audio."""
        return max((one.end for response in self.responses for one in response.results), default=0.0)

    @property
    def own(self) -> dict[str, Any]:
        """What OpenAI's API has no words for: the results as `carryover.v1` has them."""
        messages = [as_json(response) for response in self.responses]
        reports = [one["speech_context_report"] for one in messages if "speech_context_report" in one]
        results = [result for one in messages for result in one.get("results", [])]
        return {"results": results, **({"speech_context_report": reports[-1]} if reports else {})}


def plain(transcript: Transcript, *, logprobs: bool) -> dict[str, Any]:
    """The response format `json`."""
    made = {"text": transcript.text, "usage": _usage(transcript), "carryover": transcript.own}
    return made | ({"logprobs": word_logprobs(transcript.results)} if logprobs else {})


def verbose(transcript: Transcript, *, words: bool, segments: bool) -> dict[str, Any]:
    """The response format `verbose_json`."""
    made: dict[str, Any] = {
        "task": "transcribe",
        "language": "english",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "usage": _usage(transcript),
    }
    if segments:
        made["segments"] = [_segment(number, result) for number, result in enumerate(transcript.results)]
    if words:
        made["words"] = [
            {"word": word.word, "start": word.start, "end": word.end} for word in _words(transcript.results)
        ]
    return made | {"carryover": transcript.own}


def delta_event(delta: str, logprobs: list[dict[str, Any]] | None) -> dict[str, Any]:
    """More text of a recording."""
    event: dict[str, Any] = {"type": "transcript.text.delta", "delta": delta}
    return event | ({"logprobs": logprobs} if logprobs is not None else {})


def done_event(transcript: Transcript, *, logprobs: bool) -> dict[str, Any]:
    """All text of a recording."""
    return {"type": "transcript.text.done", **plain(transcript, logprobs=logprobs)}


def word_logprobs(results: Iterable[pb.StreamingRecognitionResult]) -> list[dict[str, Any]]:
    """Words with the logarithms of their confidences: this recogniser's tokens mean nothing to a client."""
    return [
        {"token": word.word, "logprob": math.log(max(word.confidence, _LEAST)), "bytes": list(word.word.encode())}
        for word in _words(results)
    ]


def srt(transcript: Transcript) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{cue.text}\n\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def vtt(transcript: Transcript) -> str:
    """WebVTT subtitles."""
    lines = (f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{_escaped(cue.text)}\n\n" for cue in cues(transcript))
    return "WEBVTT\n\n" + "".join(lines)


@dataclass(frozen=True)
class Cue:
    """One subtitle; times in seconds."""

    start: float
    end: float
    text: str


def cues(transcript: Transcript) -> Iterator[Cue]:
    """An utterance, cut where it is too long to be read at once."""
    for result in transcript.results:
        taken: list[pb.WordInfo] = []
        for word in result.alternatives[0].words:
            characters = sum(len(one.word) + 1 for one in taken) + len(word.word)
            if taken and (characters > _CUE_CHARACTERS or word.end - taken[0].start > _CUE_S):
                yield _cue(taken)
                taken = []
            taken.append(word)
        if taken:
            yield _cue(taken)


def _cue(words: Sequence[pb.WordInfo]) -> Cue:
    return Cue(words[0].start, words[-1].end, " ".join(word.word for word in words))


def _segment(number: int, result: pb.StreamingRecognitionResult) -> dict[str, Any]:
    """An utterance as Whisper's segments are told; what only Whisper has is as if nothing were wrong."""
    best = result.alternatives[0]
    text = best.transcript.encode()
    scores = [one["logprob"] for one in word_logprobs([result])]
    return {
        "id": number,
        "seek": round(result.start * 100),
        "start": best.words[0].start,
        "end": best.words[-1].end,
        "text": f" {best.transcript}",
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(scores) / len(scores),
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": 0.0,
    }


def _words(results: Iterable[pb.StreamingRecognitionResult]) -> Iterator[pb.WordInfo]:
    return (word for result in results for word in result.alternatives[0].words)


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": round(transcript.seconds, 3)}


def _time(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
