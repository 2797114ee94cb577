"""NVIDIA Riva's `nvidia.riva.asr.RivaSpeechRecognition`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from carryover.v1 import recognizer_pb2 as pb
from server.access import Caller
from server.codec.bounds import plain_bounds, recording_bounds, recording_memory, stream_bounds
from server.doors.audio import is_wav
from server.doors.messages import riva_pb2 as riva
from server.doors.routes import Route, descriptor
from server.doors.streams import ClientStream, Part
from server.doors.terms import LANGUAGE, check_english, in_terms, nats, refuse
from server.errors import InvalidRequestError
from server.methods import Load, Method
from server.recognizer_service import RecognizerService
from server.settings import Limits

SERVICE = "nvidia.riva.asr.RivaSpeechRecognition"
IDS = ("dialogue_id", "turn_id")
"""The keys of `custom_configuration` that are known here."""

_RAW = {riva.LINEAR_PCM: pb.LINEAR16, riva.MULAW: pb.MULAW, riva.ALAW: pb.ALAW}
_FILES = {riva.ENCODING_UNSPECIFIED: pb.ENCODING_UNSPECIFIED, riva.FLAC: pb.FLAC, riva.OGGOPUS: pb.ENCODING_UNSPECIFIED}
_STREAM, _CONFIG = "streaming_config.config", "config"
_CERTAIN = 0.99
"""The most that a partial result's stability is: 1 says that the utterance has probably ended."""
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class RivaDoor:
    """The three methods over the service of `carryover.v1`."""

    def __init__(self, recognizer: RecognizerService, limits: Limits) -> None:
        self._recognizer = recognizer
        self._limits = limits

    def routes(self) -> list[Route]:
        """All methods."""
        limits = self._limits
        lists = ("speech_contexts", "speech_contexts.phrases")
        recognize = Method(
            path=f"/{SERVICE}/Recognize",
            name="riva.Recognize",
            request=descriptor(riva.RecognizeRequest),
            bounds=recording_bounds(limits, (f"{_CONFIG}.{name}" for name in lists)),
            load=Load.RECORDING,
            memory_bytes=recording_memory(limits, translated=True),
            translate=recognize_request,
        )
        stream = Method(
            path=f"/{SERVICE}/StreamingRecognize",
            name="riva.StreamingRecognize",
            request=descriptor(riva.StreamingRecognizeRequest),
            bounds=stream_bounds(limits, (f"{_STREAM}.{name}" for name in lists)),
            load=Load.STREAM,
            translate=stream_part,
        )
        config = Method(
            path=f"/{SERVICE}/GetRivaSpeechRecognitionConfig",
            name="riva.GetRivaSpeechRecognitionConfig",
            request=descriptor(riva.RivaSpeechRecognitionConfigRequest),
            bounds=plain_bounds(limits),
            load=Load.CALL,
        )
        return [Route(recognize, self.recognize), Route(stream, self.stream), Route(config, self.models)]

    async def recognize(
        self, request: tuple[pb.RecognizeRequest, riva.RequestId], caller: Caller
    ) -> riva.RecognizeResponse:
        """One utterance."""
        utterance, request_id = request
        del request  # the recording goes, when the service lets go of it
        held = [utterance]
        del utterance
        with in_terms(_names(_CONFIG, "audio")):
            response = await self._recognizer.Recognize(held.pop(), caller)
        results = [
            riva.SpeechRecognitionResult(
                alternatives=_alternatives(result), channel_tag=1, audio_processed=result.end
            )
            for result in response.results
            if result.alternatives[0].transcript
        ]  # fmt: skip
        return riva.RecognizeResponse(results=results, id=request_id)

    async def stream(
        self, parts: AsyncIterator[Part], caller: Caller
    ) -> AsyncIterator[riva.StreamingRecognizeResponse]:
        """Audio as it is spoken, results as they come."""
        client = ClientStream(parts)
        with in_terms(_names(_STREAM, "audio_content")):
            async with aclosing(self._recognizer.StreamingRecognize(client.messages(), caller)) as responses:  # type: ignore[type-var]
                async for response in responses:
                    results = [_streamed(result) for result in response.results if _is_shown(result)]
                    if results:
                        yield riva.StreamingRecognizeResponse(results=results, id=_id(client.request_id))

    async def models(
        self, request: riva.RivaSpeechRecognitionConfigRequest, caller: Caller
    ) -> riva.RivaSpeechRecognitionConfigResponse:
        """The model, once as one for streams and once as one for recordings; none where another is asked for."""
        info = await self._recognizer.GetServerInfo(pb.GetServerInfoRequest(), caller)
        if request.model_name not in ("", info.model_version):
            return riva.RivaSpeechRecognitionConfigResponse()
        config = riva.RivaSpeechRecognitionConfigResponse.Config
        return riva.RivaSpeechRecognitionConfigResponse(
            model_config=[
                config(model_name=info.model_version, parameters={"type": kind, "language_code": LANGUAGE})
                for kind in ("online", "offline")
            ]
        )


# Requests


def recognize_request(request: riva.RecognizeRequest) -> tuple[pb.RecognizeRequest, riva.RequestId | None]:
    """What a request asks for, and its id. Raises InvalidRequestError."""
    config = request.config
    encoding = _encoding(config, _RAW | _FILES, _CONFIG)
    audio = request.audio
    if is_wav(audio):
        encoding = pb.WAV
    rate = 0 if config.encoding == riva.OGGOPUS else config.sample_rate_hertz  # decoded to another than it was made at
    asked = pb.RecognitionConfig(encoding=encoding, sample_rate_hertz=rate, **_common(config, _CONFIG))
    return pb.RecognizeRequest(config=asked, audio=audio), request.id if request.HasField("id") else None


def stream_part(request: riva.StreamingRecognizeRequest) -> Part:
    """What a message of a stream says. Raises InvalidRequestError."""
    if request.WhichOneof("streaming_request") != "streaming_config":
        part = Part(request_id=request.id.value, **_steering(request.runtime_config))
        if request.WhichOneof("streaming_request"):
            part.audio = request.audio_content
        return part
    refuse("runtime_config", bool(request.runtime_config), "set it in the configuration, or in a later message")
    config = request.streaming_config.config
    asked = pb.StreamingConfig(
        encoding=_encoding(config, {riva.ENCODING_UNSPECIFIED: pb.ENCODING_UNSPECIFIED, **_RAW}, _STREAM),
        sample_rate_hertz=config.sample_rate_hertz,
        interim_results=request.streaming_config.interim_results,
        endpointing=_endpointing(config),
        **_common(config, _STREAM),
    )
    return Part(config=asked, request_id=request.id.value)


def _steering(runtime: Mapping[str, str]) -> dict[str, Any]:
    """What a message asks for in the middle of a stream."""
    steering: dict[str, Any] = {}
    for key, value in runtime.items():
        if key == "force_eou":
            if value.lower() not in _TRUTHS:
                raise InvalidRequestError("runtime_config.force_eou", "send true or false")
            steering["finalize"] = _TRUTHS[value.lower()]
        elif key == "turn_id":
            steering["update"] = pb.StreamUpdate(turn_id=value)
        else:
            raise InvalidRequestError("runtime_config", _unknown_key(key, ("force_eou", "turn_id")))
    return steering


def _endpointing(config: riva.RecognitionConfig) -> pb.Endpointing | None:
    """The silences that end an utterance. Clients send -1 for what is unset."""
    asked = config.endpointing_config
    wanted = {
        name: milliseconds / 1000
        for name, milliseconds in (
            ("trailing_silence_s", asked.stop_history), ("likely_silence_s", asked.stop_history_eou)
        )
        if milliseconds > 0
    }  # fmt: skip
    return pb.Endpointing(**wanted) if wanted else None


def _encoding(
    config: riva.RecognitionConfig, known: Mapping[Any, pb.AudioEncoding], field: str
) -> pb.AudioEncoding:  # fmt: skip
    if config.encoding not in known:
        names = ", ".join(riva.AudioEncoding.Name(one) for one in known if one)
        advice = f"use one of {names}, or leave it unset where the audio has a WAV header"
        raise InvalidRequestError(f"{field}.encoding", advice)
    return known[config.encoding]


def _common(config: riva.RecognitionConfig, field: str) -> dict[str, Any]:
    """The fields that recordings and streams share."""
    check_english(f"{field}.language_code", config.language_code)
    refuse(f"{field}.audio_channel_count", config.audio_channel_count not in (0, 1), "send one channel")
    advice = "send one channel, without it"
    refuse(f"{field}.enable_separate_recognition_per_channel", config.enable_separate_recognition_per_channel, advice)
    speakers = config.diarization_config.enable_speaker_diarization
    refuse(f"{field}.diarization_config.enable_speaker_diarization", speakers, "speakers are not told apart; unset it")
    ids = _ids(config.custom_configuration, field)
    boosts = f"{field}.speech_contexts.boost"
    return {
        "max_alternatives": config.max_alternatives,
        "enable_word_time_offsets": config.enable_word_time_offsets,
        "automatic_punctuation": config.enable_automatic_punctuation,
        "speech_contexts": [
            pb.SpeechContext(phrases=context.phrases, boost=nats(boosts, context.boost))
            for context in config.speech_contexts
        ],
        **ids,
    }


def _ids(configuration: Mapping[str, str], field: str) -> dict[str, str]:
    for key in configuration:
        if key not in IDS:
            raise InvalidRequestError(f"{field}.custom_configuration", _unknown_key(key, IDS))
    return dict(configuration)


def _unknown_key(key: str, known: Iterable[str]) -> str:
    named = f" {key}" if _KEY.fullmatch(key) else ""
    return f"the key{named} is not known here; those known are {' and '.join(known)}"


def _names(config: str, audio: str) -> dict[str, str]:
    """Riva's names of fields, by those of `carryover.v1`."""
    same = ("encoding", "sample_rate_hertz", "max_alternatives", "speech_contexts")
    return {
        "audio": audio,
        "config": config.split(".")[0],
        **{f"config.{name}": f"{config}.{name}" for name in same},
        **{name: f"{config}.custom_configuration.{name}" for name in IDS},
        "update.turn_id": "runtime_config.turn_id",
        "config.endpointing.trailing_silence_s": f"{config}.endpointing_config.stop_history",
        "config.endpointing.likely_silence_s": f"{config}.endpointing_config.stop_history_eou",
    }


# Results


def _is_shown(result: pb.StreamingRecognitionResult) -> bool:
    """Riva has no final result where nothing was said, but for who asked to end the utterance."""
    return not result.is_final or result.finalized or bool(result.alternatives[0].transcript)


def _streamed(result: pb.StreamingRecognitionResult) -> riva.StreamingRecognitionResult:
    certain = result.is_final or result.likely_final
    return riva.StreamingRecognitionResult(
        alternatives=_alternatives(result),
        is_final=result.is_final,
        stability=1.0 if certain else min(result.stability, _CERTAIN),
        channel_tag=1,
        audio_processed=result.end,
    )


def _alternatives(result: pb.StreamingRecognitionResult) -> Iterable[riva.SpeechRecognitionAlternative]:
    """Final ones end in a blank, as clients join them."""
    for alternative in result.alternatives:
        yield riva.SpeechRecognitionAlternative(
            transcript=alternative.transcript + " " * (result.is_final and bool(alternative.transcript)),
            confidence=alternative.confidence,
            words=[
                riva.WordInfo(
                    start_time=round(word.start * 1000),
                    end_time=round(word.end * 1000),
                    word=word.word,
                    confidence=word.confidence,
                    language_code=LANGUAGE,
                )
                for word in alternative.words
            ],
            language_code=[LANGUAGE],
        )


def _id(value: str) -> riva.RequestId | None:
    return riva.RequestId(value=value) if value else None
