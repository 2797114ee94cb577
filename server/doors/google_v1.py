"""Google Cloud Speech's `google.cloud.speech.v1.Speech`."""

from __future__ import annotations

from typing import Any, ClassVar

from carryover.v1 import recognizer_pb2 as pb
from server.doors.audio import is_wav
from server.doors.google import GoogleDoor, Options, Recording, duration, request_number, timeout_s
from server.doors.google_phrases import Phrases, boost, classes_of, dialogue_and_turn
from server.doors.messages import google_v1_pb2 as google
from server.doors.streams import Part
from server.doors.terms import LANGUAGE, check_english, refuse
from server.errors import InvalidRequestError

_Encoding = google.RecognitionConfig
_RAW = {_Encoding.LINEAR16: pb.LINEAR16, _Encoding.MULAW: pb.MULAW}
_HEADER = {_Encoding.ENCODING_UNSPECIFIED: pb.ENCODING_UNSPECIFIED}
_FILES = {
    _Encoding.FLAC: pb.FLAC, _Encoding.OGG_OPUS: pb.ENCODING_UNSPECIFIED, _Encoding.MP3: pb.ENCODING_UNSPECIFIED
}  # fmt: skip
_RATE_UNKNOWN = (_Encoding.OGG_OPUS, _Encoding.MP3)
"""Decoded to another rate than they were made at."""
_REFERENCES = "adaptation.phrase_set_references"

_TIMEOUT = "streaming_config.voice_activity_timeout"


def _terms(config: str, audio: str) -> dict[str, str]:
    same = ("encoding", "sample_rate_hertz", "max_alternatives", "speech_contexts")
    return {
        "audio": audio,
        "config": config.split(".")[0],
        **{f"config.{name}": f"{config}.{name}" for name in same},
        **dict.fromkeys(("dialogue_id", "turn_id"), f"{config}.{_REFERENCES}"),
    }


class GoogleV1Door(GoogleDoor):
    """Version 1."""

    SERVICE = "google.cloud.speech.v1.Speech"
    NAME = "google.v1"
    MESSAGES: ClassVar = google
    WORD_TIMES = ("start_time", "end_time")
    RESULT_END = "result_end_time"
    RECOGNIZE_TERMS = _terms("config", "audio.content")
    STREAM_TERMS = _terms("streaming_config.config", "audio_content")
    LISTS = (
        "speech_contexts", "speech_contexts.phrases",
        "adaptation.phrase_sets", "adaptation.phrase_sets.phrases",
        "adaptation.custom_classes", "adaptation.custom_classes.items",
    )  # fmt: skip
    UNSUPPORTED: ClassVar = {
        SERVICE: ("LongRunningRecognize",),
        "google.cloud.speech.v1.Adaptation": (
            "ListPhraseSet", "ListCustomClasses",
            *(
                f"{verb}{what}"
                for what in ("PhraseSet", "CustomClass")
                for verb in ("Create", "Get", "Update", "Delete")
            ),
        ),
    }  # fmt: skip
    INSTEAD = "use Recognize or StreamingRecognize, with phrase sets and custom classes inline"

    def recording(self, request: google.RecognizeRequest) -> Recording:
        """What a request asks for. Raises InvalidRequestError, LimitError."""
        config = request.config
        refuse("audio.uri", bool(request.audio.uri), "files elsewhere are not read; send the audio in content")
        audio = request.audio.content
        encoding = pb.WAV if is_wav(audio) else _encoding(config, _HEADER | _RAW | _FILES, "config")
        rate = 0 if config.encoding in _RATE_UNKNOWN else config.sample_rate_hertz
        common, options = self._common(config, "config")
        asked = pb.RecognitionConfig(encoding=encoding, sample_rate_hertz=rate, **common)
        return Recording(pb.RecognizeRequest(config=asked, audio=audio), options)

    def part(self, request: google.StreamingRecognizeRequest) -> Part:
        """What a message of a stream says. Raises InvalidRequestError, LimitError."""
        kind = request.WhichOneof("streaming_request")
        if kind != "streaming_config":
            return Part(audio=request.audio_content if kind else None)
        stream = request.streaming_config
        config, timeout = stream.config, stream.voice_activity_timeout
        options: dict[str, Any] = {
            "single_utterance": stream.single_utterance,
            "activity_events": stream.enable_voice_activity_events,
        }
        endpointing = None
        if timeout.HasField("speech_start_timeout"):
            options["start_timeout"] = True
            endpointing = pb.Endpointing(
                start_timeout_s=timeout_s(f"{_TIMEOUT}.speech_start_timeout", timeout.speech_start_timeout)
            )
        if timeout.HasField("speech_end_timeout"):
            options["end_timeout_s"] = timeout_s(f"{_TIMEOUT}.speech_end_timeout", timeout.speech_end_timeout)
        common, noted = self._common(config, "streaming_config.config", **options)
        asked = pb.StreamingConfig(
            encoding=_encoding(config, _HEADER | _RAW, "streaming_config.config"),
            sample_rate_hertz=config.sample_rate_hertz,
            interim_results=stream.interim_results,
            single_utterance=stream.single_utterance,
            voice_activity_events=stream.enable_voice_activity_events,
            endpointing=endpointing,
            **common,
        )
        return Part(config=asked, options=noted)

    def response(self, results: list[Any], seconds: float, adaptation: str) -> google.RecognizeResponse:
        """The response to a recording."""
        return google.RecognizeResponse(
            results=results,
            total_billed_time=duration(seconds),
            speech_adaptation_info=_adaptation_info(adaptation),
            request_id=request_number(),
        )

    def streamed(self, results: list[Any], adaptation: str) -> google.StreamingRecognizeResponse:
        """A response of a stream with results."""
        return google.StreamingRecognizeResponse(results=results, speech_adaptation_info=_adaptation_info(adaptation))

    def event(self, kind: str, time_s: float | None) -> google.StreamingRecognizeResponse:
        """A response of a stream with an event."""
        time = None if time_s is None else duration(time_s)
        return google.StreamingRecognizeResponse(speech_event_type=kind, speech_event_time=time)

    def closing(self, seconds: float) -> google.StreamingRecognizeResponse:
        """The last response of a stream, with the seconds of its audio."""
        return google.StreamingRecognizeResponse(total_billed_time=duration(seconds), request_id=request_number())

    def _common(
        self, config: google.RecognitionConfig, field: str, **options: Any
    ) -> tuple[dict[str, Any], Options]:  # fmt: skip
        """The fields that recordings and streams share, and what is said of the results."""
        _check(config, field)
        ids = dialogue_and_turn(f"{field}.{_REFERENCES}", config.adaptation.phrase_set_references)
        common = {
            "max_alternatives": config.max_alternatives,
            "enable_word_time_offsets": config.enable_word_time_offsets or config.enable_word_confidence,
            "automatic_punctuation": config.enable_automatic_punctuation,
            "speech_contexts": self._phrases(config, field),
            **ids,
        }
        noted = Options(
            word_times=config.enable_word_time_offsets,
            word_confidence=config.enable_word_confidence,
            language=(config.language_code or LANGUAGE).lower(),
            dialogue=bool(ids),
            **options,
        )
        return common, noted

    def _phrases(self, config: google.RecognitionConfig, field: str) -> list[pb.SpeechContext]:
        phrases = Phrases(f"{field}.adaptation", self._limits, classes_of(config.adaptation.custom_classes))
        for context in config.speech_contexts:
            for phrase in context.phrases:
                phrases.add(phrase, boost(f"{field}.speech_contexts.boost", context.boost))
        for one in config.adaptation.phrase_sets:
            for entry in one.phrases:
                nats = boost(f"{field}.adaptation.phrase_sets.phrases.boost", entry.boost, one.boost)
                phrases.add(entry.value, nats)
        return phrases.contexts()


def _encoding(config: google.RecognitionConfig, known: dict[Any, pb.AudioEncoding], field: str) -> pb.AudioEncoding:
    if config.encoding not in known:
        names = ", ".join(google.RecognitionConfig.AudioEncoding.Name(one) for one in known if one)
        advice = f"use one of {names}, or leave it unset where the audio has a WAV header"
        raise InvalidRequestError(f"{field}.encoding", advice)
    return known[config.encoding]


def _check(config: google.RecognitionConfig, field: str) -> None:
    """Raise InvalidRequestError for what cannot be honoured."""
    check_english(f"{field}.language_code", config.language_code)
    for code in config.alternative_language_codes:
        check_english(f"{field}.alternative_language_codes", code)
    refuse(f"{field}.audio_channel_count", config.audio_channel_count not in (0, 1), "send one channel")
    per_channel = config.enable_separate_recognition_per_channel
    refuse(f"{field}.enable_separate_recognition_per_channel", per_channel, "send one channel, without it")
    grammar = bool(config.adaptation.abnf_grammar.abnf_strings)
    refuse(f"{field}.adaptation.abnf_grammar", grammar, "grammars are not read; send phrases")
    normal = bool(config.transcript_normalization.entries)
    refuse(f"{field}.transcript_normalization", normal, "transcripts are not replaced; leave it out")
    refuse(f"{field}.enable_spoken_punctuation", config.enable_spoken_punctuation.value, "is not done; unset it")
    refuse(f"{field}.enable_spoken_emojis", config.enable_spoken_emojis.value, "is not done; unset it")
    speakers = config.diarization_config.enable_speaker_diarization
    refuse(f"{field}.diarization_config.enable_speaker_diarization", speakers, "speakers are not told apart; unset it")


def _adaptation_info(adaptation: str) -> google.SpeechAdaptationInfo | None:
    return google.SpeechAdaptationInfo(adaptation_timeout=True, timeout_message=adaptation) if adaptation else None
