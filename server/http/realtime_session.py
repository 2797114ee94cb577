"""What a client sets in OpenAI's realtime transcription sessions, and the stream of `carryover.v1` that it asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from google.protobuf import json_format
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from carryover.v1 import inline_context_pb2
from carryover.v1 import recognizer_pb2 as pb
from server.codec.recognition import check_phrase_limits, check_streaming
from server.doors.terms import check_english, in_terms, silence
from server.errors import InvalidRequestError
from server.settings import Limits

_ENCODINGS = {"audio/pcm": pb.LINEAR16, "audio/pcmu": pb.MULAW, "audio/pcma": pb.ALAW}
_PCM_HZ, _G711_HZ = 24_000, 8_000
_MANUAL_S = 10.0
"""Silence that ends an utterance where the client ends them: the longest that there is."""
_TRANSCRIPTION, _OWN = "session.audio.input.transcription", "session.carryover"
TERMS = {
    "config.sample_rate_hertz": "session.audio.input.format.rate",
    "config.max_alternatives": f"{_OWN}.max_alternatives",
    "config.context": f"{_TRANSCRIPTION}.prompt",
    "speech_contexts": f"{_TRANSCRIPTION}.keywords",
    "speech_contexts[0].phrases": f"{_TRANSCRIPTION}.keywords",
    "dialogue_id": f"{_OWN}.dialogue_id",
    "turn_id": f"{_OWN}.turn_id",
}


_NO_OBJECT = ("model_type", "dict_type")
"""Types of Pydantic's errors, whose messages name classes."""


def _whole(text: str) -> str:
    """A text that has an encoding. Raises ValueError."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("remove lone surrogates")
    return text


_Int = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
_Text = Annotated[str, AfterValidator(_whole)]
"""What protobuf takes: Python's own, and JSON's, know no bounds."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Format(_Part):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: _Int | None = None


class _Transcription(_Part):
    model: str | None = None
    language: str | None = None
    languages: list[_Text] | None = None
    prompt: _Text | None = None
    keywords: list[_Text] | None = None
    delay: str | None = None


class _TurnDetection(_Part):
    type: Literal["server_vad", "semantic_vad"]
    silence_duration_ms: _Int | None = None
    prefix_padding_ms: int | None = None
    threshold: float | None = None
    eagerness: str | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    idle_timeout_ms: int | None = None


class _Input(_Part):
    format: _Format = _Format()
    transcription: _Transcription | None = _Transcription()
    turn_detection: _TurnDetection | None = _TurnDetection(type="server_vad")
    noise_reduction: dict[str, Any] | None = None


class _Audio(_Part):
    input: _Input = _Input()


class _Own(_Part):
    dialogue_id: _Text = ""
    turn_id: _Text = ""
    max_alternatives: int = Field(default=0, ge=0, le=1 << 20)
    context: dict[str, Any] | None = None


class Session(_Part):
    """A session as it is set."""

    type: Literal["transcription"] = "transcription"
    audio: _Audio = _Audio()
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None
    carryover: _Own = _Own()

    @property
    def manual(self) -> bool:
        """Does the client end utterances itself?"""
        return self.audio.input.turn_detection is None

    @property
    def logprobs(self) -> bool:
        """Are words to come with the logarithms of their confidences?"""
        return bool(self.include)

    def updated(self, update: object) -> Session:
        """The session with what an update names. Raises InvalidRequestError."""
        if not isinstance(update, dict):
            raise InvalidRequestError("session", "send an object")
        try:
            return Session.model_validate(_merged(self.model_dump(), update))
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
            place = "".join(("session", *parts))
            if problem["type"] == "extra_forbidden":
                name = place if place.replace(".", "_").isidentifier() and len(place) < 100 else "session"
                raise InvalidRequestError(name, "is not known here; leave it out") from None
            advice = "send an object" if problem["type"] in _NO_OBJECT else problem["msg"]
            raise InvalidRequestError(place, advice) from None

    def config(self, tenant: str, limits: Limits) -> pb.StreamingConfig:
        """The configuration of a stream, checked. Raises RequestError."""
        asked, transcription = self.audio.input, self.audio.input.transcription or _Transcription()
        check_english(f"{_TRANSCRIPTION}.language", transcription.language or "")
        languages = transcription.languages or []
        if languages and all(code.split("-")[0].lower() != "en" for code in languages):
            check_english(f"{_TRANSCRIPTION}.languages", languages[0])
        pcm = asked.format.type == "audio/pcm"
        config = pb.StreamingConfig(
            encoding=_ENCODINGS[asked.format.type],
            sample_rate_hertz=asked.format.rate or (_PCM_HZ if pcm else _G711_HZ),
            interim_results=True,
            automatic_punctuation=True,
            enable_word_time_offsets=True,
            voice_activity_events=True,
            max_alternatives=self.carryover.max_alternatives,
            dialogue_id=self.carryover.dialogue_id,
            turn_id=self.carryover.turn_id,
            endpointing=self._endpointing(),
        )
        if transcription.keywords:
            config.speech_contexts.add(phrases=transcription.keywords)
        if (context := self._context(transcription)) is not None:
            config.context.CopyFrom(context)
        prompt = f"config.context.turns[{len(config.context.turns) - 1}].text"  # the last of them, where there is one
        with in_terms(
            {**TERMS, **({prompt: f"{_TRANSCRIPTION}.prompt"} if (transcription.prompt or "").strip() else {})}
        ):
            check_streaming(config, 1, tenant, limits=limits)
            check_phrase_limits(config.speech_contexts, limits)
        return config

    def _endpointing(self) -> pb.Endpointing:
        detection = self.audio.input.turn_detection
        if detection is None:
            return pb.Endpointing(trailing_silence_s=_MANUAL_S, likely_silence_s=_MANUAL_S)
        return silence("session.audio.input.turn_detection.silence_duration_ms", detection.silence_duration_ms)

    def _context(self, transcription: _Transcription) -> inline_context_pb2.InlineContext | None:
        context = inline_context_pb2.InlineContext()
        if self.carryover.context is not None:
            try:
                json_format.ParseDict(self.carryover.context, context, max_recursion_depth=10)
            except (json_format.ParseError, OverflowError):
                raise InvalidRequestError(f"{_OWN}.context", "is no InlineContext of carryover.v1 in JSON") from None
        prompt = (transcription.prompt or "").strip()
        if prompt:
            context.turns.add(speaker="SYSTEM", text=prompt)
        return context if prompt or self.carryover.context is not None else None


def update_between(before: pb.StreamingConfig, after: pb.StreamingConfig) -> pb.StreamUpdate | None:
    """What changes in a stream that has begun; None: nothing. Raises InvalidRequestError for what cannot."""
    for name, term in (
        ("encoding", "session.audio.input.format"),
        ("sample_rate_hertz", "session.audio.input.format"),
        ("max_alternatives", f"{_OWN}.max_alternatives"),
        ("dialogue_id", f"{_OWN}.dialogue_id"),
    ):
        if getattr(before, name) != getattr(after, name):
            raise InvalidRequestError(term, "cannot change once there was audio; open another session")
    update = pb.StreamUpdate()
    if before.context != after.context:
        update.context.CopyFrom(after.context)
    elif before.turn_id != after.turn_id:
        update.turn_id = after.turn_id
    if list(before.speech_contexts) != list(after.speech_contexts):
        update.replace_speech_contexts = True
        update.speech_contexts.extend(after.speech_contexts)
    if before.endpointing != after.endpointing:
        update.endpointing.CopyFrom(after.endpointing)
    return update if update.ByteSize() else None


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Fields that an update does not name stay as they are; `turn_detection` is a whole."""
    made = dict(old)
    for name, value in new.items():
        both = isinstance(value, dict) and isinstance(old.get(name), dict) and name not in ("turn_detection", "context")
        made[name] = _merged(old[name], value) if both else value
    return made
