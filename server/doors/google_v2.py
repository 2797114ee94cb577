"""Google Cloud Speech's `google.cloud.speech.v2.Speech`."""

from __future__ import annotations

from typing import Any, ClassVar

from google.protobuf.field_mask_pb2 import FieldMask

from carryover.v1 import recognizer_pb2 as pb
from server import logs
from server.doors.audio import is_wav
from server.doors.google import GoogleDoor, Options, Recording, duration, timeout_s
from server.doors.google_phrases import Phrases, boost, classes_of, dialogue_and_turn
from server.doors.messages import google_v2_pb2 as google
from server.doors.streams import Part
from server.doors.terms import LANGUAGE, check_english, refuse
from server.errors import InvalidRequestError

_Encoding = google.ExplicitDecodingConfig
_Sensitivity = google.StreamingRecognitionFeatures
_RAW = {_Encoding.LINEAR16: pb.LINEAR16, _Encoding.MULAW: pb.MULAW, _Encoding.ALAW: pb.ALAW}
_HEADER = {_Encoding.AUDIO_ENCODING_UNSPECIFIED: pb.ENCODING_UNSPECIFIED}
_FILES = {
    _Encoding.FLAC: pb.FLAC, _Encoding.OGG_OPUS: pb.ENCODING_UNSPECIFIED, _Encoding.MP3: pb.ENCODING_UNSPECIFIED
}  # fmt: skip
_RATE_UNKNOWN = (_Encoding.OGG_OPUS, _Encoding.MP3)
"""Decoded to another rate than they were made at."""
_SETS = "adaptation.phrase_sets"
SILENCES = {
    _Sensitivity.ENDPOINTING_SENSITIVITY_SHORT: pb.Endpointing(likely_silence_s=0.3, trailing_silence_s=0.5),
    _Sensitivity.ENDPOINTING_SENSITIVITY_SUPERSHORT: pb.Endpointing(likely_silence_s=0.2, trailing_silence_s=0.3),
}
"""What ends an utterance, by `endpointing_sensitivity`; others: as the server is set."""

_TIMEOUT = "streaming_config.streaming_features.voice_activity_timeout"


def _terms(config: str, audio: str) -> dict[str, str]:
    return {
        "audio": audio,
        "config": config.split(".")[0],
        "config.encoding": f"{config}.explicit_decoding_config.encoding",
        "config.sample_rate_hertz": f"{config}.explicit_decoding_config.sample_rate_hertz",
        "config.max_alternatives": f"{config}.features.max_alternatives",
        **dict.fromkeys(("dialogue_id", "turn_id"), f"{config}.{_SETS}.phrase_set"),
    }


class GoogleV2Door(GoogleDoor):
    """Version 2."""

    SERVICE = "google.cloud.speech.v2.Speech"
    NAME = "google.v2"
    MESSAGES: ClassVar = google
    WORD_TIMES = ("start_offset", "end_offset")
    RESULT_END = "result_end_offset"
    RECOGNIZE_TERMS = _terms("config", "content")
    STREAM_TERMS = _terms("streaming_config.config", "audio")
    LISTS = (
        "adaptation.phrase_sets", "adaptation.phrase_sets.inline_phrase_set.phrases",
        "adaptation.custom_classes", "adaptation.custom_classes.items",
    )  # fmt: skip
    UNSUPPORTED: ClassVar = {
        SERVICE: (
            "BatchRecognize", "GetConfig", "UpdateConfig", "ListRecognizers", "ListCustomClasses", "ListPhraseSets",
            *(
                f"{verb}{what}"
                for what in ("Recognizer", "CustomClass", "PhraseSet")
                for verb in ("Create", "Get", "Update", "Delete", "Undelete")
            ),
        )
    }  # fmt: skip
    INSTEAD = "use Recognize or StreamingRecognize with any recognizer, and phrase sets and custom classes inline"

    def recording(self, request: google.RecognizeRequest) -> Recording:
        """What a request asks for. Raises InvalidRequestError, LimitError."""
        config, decoding = request.config, request.config.explicit_decoding_config
        _check_mask("config_mask", request.config_mask)
        refuse("uri", bool(request.uri), "files elsewhere are not read; send the audio in content")
        audio = request.content
        encoding = pb.WAV if is_wav(audio) else _encoding(decoding, _HEADER | _RAW | _FILES, "config")
        rate = 0 if decoding.encoding in _RATE_UNKNOWN else decoding.sample_rate_hertz
        common, options = self._common(config, "config")
        asked = pb.RecognitionConfig(encoding=encoding, sample_rate_hertz=rate, **common)
        return Recording(pb.RecognizeRequest(config=asked, audio=audio), options)

    def part(self, request: google.StreamingRecognizeRequest) -> Part:
        """What a message of a stream says. Raises InvalidRequestError, LimitError."""
        kind = request.WhichOneof("streaming_request")
        if kind != "streaming_config":
            return Part(audio=request.audio if kind else None)
        config, features = request.streaming_config.config, request.streaming_config.streaming_features
        decoding, timeout = config.explicit_decoding_config, features.voice_activity_timeout
        _check_mask("streaming_config.config_mask", request.streaming_config.config_mask)
        options: dict[str, Any] = {"activity_events": features.enable_voice_activity_events}
        endpointing = pb.Endpointing()
        if features.endpointing_sensitivity in SILENCES:
            endpointing.CopyFrom(SILENCES[features.endpointing_sensitivity])
        if timeout.HasField("speech_start_timeout"):
            options["start_timeout"] = True
            endpointing.start_timeout_s = timeout_s(f"{_TIMEOUT}.speech_start_timeout", timeout.speech_start_timeout)
        if timeout.HasField("speech_end_timeout"):
            options["end_timeout_s"] = timeout_s(f"{_TIMEOUT}.speech_end_timeout", timeout.speech_end_timeout)
        common, noted = self._common(config, "streaming_config.config", **options)
        asked = pb.StreamingConfig(
            encoding=_encoding(decoding, _HEADER | _RAW, "streaming_config.config"),
            sample_rate_hertz=decoding.sample_rate_hertz,
            interim_results=features.interim_results,
            voice_activity_events=features.enable_voice_activity_events,
            endpointing=endpointing,
            **common,
        )
        return Part(config=asked, options=noted)

    def response(self, results: list[Any], seconds: float, adaptation: str) -> google.RecognizeResponse:
        """The response to a recording. The version has no place for `adaptation`."""
        return google.RecognizeResponse(results=results, metadata=_metadata(seconds))

    def streamed(self, results: list[Any], adaptation: str) -> google.StreamingRecognizeResponse:
        """A response of a stream with results. The version has no place for `adaptation`."""
        return google.StreamingRecognizeResponse(results=results, metadata=_metadata())

    def event(self, kind: str, time_s: float | None) -> google.StreamingRecognizeResponse | None:
        """A response of a stream with an event; None: the version has no such one."""
        response = google.StreamingRecognizeResponse
        if not hasattr(response, kind):
            return None
        offset = None if time_s is None else duration(time_s)
        return response(speech_event_type=kind, speech_event_offset=offset, metadata=_metadata())

    def closing(self, seconds: float) -> google.StreamingRecognizeResponse:
        """The last response of a stream, with the seconds of its audio."""
        return google.StreamingRecognizeResponse(metadata=_metadata(seconds))

    def _common(
        self, config: google.RecognitionConfig, field: str, **options: Any
    ) -> tuple[dict[str, Any], Options]:  # fmt: skip
        """The fields that recordings and streams share, and what is said of the results."""
        _check(config, field)
        features = config.features
        references = [
            one.phrase_set for one in config.adaptation.phrase_sets if one.WhichOneof("value") == "phrase_set"
        ]
        ids = dialogue_and_turn(f"{field}.{_SETS}.phrase_set", references)
        common = {
            "max_alternatives": features.max_alternatives,
            "enable_word_time_offsets": features.enable_word_time_offsets or features.enable_word_confidence,
            "automatic_punctuation": features.enable_automatic_punctuation,
            "speech_contexts": self._phrases(config, field),
            **ids,
        }
        noted = Options(
            word_times=features.enable_word_time_offsets,
            word_confidence=features.enable_word_confidence,
            language=next(iter(config.language_codes), "") or LANGUAGE,
            dialogue=bool(ids),
            **options,
        )
        return common, noted

    def _phrases(self, config: google.RecognitionConfig, field: str) -> list[pb.SpeechContext]:
        phrases = Phrases(f"{field}.adaptation", self._limits, classes_of(config.adaptation.custom_classes))
        for one in config.adaptation.phrase_sets:
            inline = one.inline_phrase_set
            for entry in inline.phrases:
                nats = boost(f"{field}.{_SETS}.inline_phrase_set.phrases.boost", entry.boost, inline.boost)
                phrases.add(entry.value, nats)
        return phrases.contexts()


def _encoding(
    decoding: google.ExplicitDecodingConfig, known: dict[Any, pb.AudioEncoding], field: str
) -> pb.AudioEncoding:  # fmt: skip
    if decoding.encoding not in known:
        names = ", ".join(google.ExplicitDecodingConfig.AudioEncoding.Name(one) for one in known if one)
        advice = f"use one of {names}, or auto_decoding_config where the audio has a WAV header"
        raise InvalidRequestError(f"{field}.explicit_decoding_config.encoding", advice)
    return known[decoding.encoding]


def _check(config: google.RecognitionConfig, field: str) -> None:
    """Raise InvalidRequestError for what cannot be honoured."""
    features, decoding = config.features, config.explicit_decoding_config
    for code in config.language_codes:
        check_english(f"{field}.language_codes", code)
    channels = decoding.audio_channel_count not in (0, 1)
    refuse(f"{field}.explicit_decoding_config.audio_channel_count", channels, "send one channel")
    refuse(f"{field}.features.enable_spoken_punctuation", features.enable_spoken_punctuation, "is not done; unset it")
    refuse(f"{field}.features.enable_spoken_emojis", features.enable_spoken_emojis, "is not done; unset it")
    refuse(f"{field}.features.multi_channel_mode", bool(features.multi_channel_mode), "send one channel, without it")
    speakers = features.HasField("diarization_config")
    refuse(f"{field}.features.diarization_config", speakers, "speakers are not told apart; leave it out")
    prompt = bool(features.custom_prompt_config.custom_prompt)
    refuse(f"{field}.features.custom_prompt_config", prompt, "prompts are not read; send phrases, or name a dialogue")
    normal = bool(config.transcript_normalization.entries)
    refuse(f"{field}.transcript_normalization", normal, "transcripts are not replaced; leave it out")
    refuse(f"{field}.translation_config", config.HasField("translation_config"), "is not done; leave it out")
    denoiser = config.denoiser_config.denoise_audio or config.denoiser_config.snr_threshold > 0
    refuse(f"{field}.denoiser_config", denoiser, "is not done; leave it out")


def _check_mask(field: str, mask: FieldMask) -> None:
    """No recogniser is stored here, whose own settings a mask could keep."""
    refuse(field, any(path != "*" for path in mask.paths), "no recognizer is stored here; leave it out")


def _metadata(seconds: float | None = None) -> google.RecognitionResponseMetadata:
    total = None if seconds is None else duration(seconds)
    return google.RecognitionResponseMetadata(request_id=logs.REQUEST_ID.get(), total_billed_duration=total)
