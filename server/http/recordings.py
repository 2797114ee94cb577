"""Whole recordings: OpenAI's `POST /v1/audio/transcriptions` and `/v1/models`, and `POST /stt` of Open Voice OS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from aiohttp import web

from asr.errors import AudioError
from carryover.v1 import inline_context_pb2
from carryover.v1 import recognizer_pb2 as pb
from server.access import Caller
from server.codec.bounds import plain_bounds, recording_bounds, recording_memory
from server.doors.routes import descriptor
from server.doors.terms import check_english, in_terms, refuse, silence
from server.errors import InvalidRequestError, NotFoundError
from server.http import transcripts
from server.http.calls import Calls, Exchange
from server.http.errors import Problem, openai_error, plain_error
from server.http.forms import Form, read_form
from server.methods import Load, Method
from server.recognizer_service import RecognizerService
from server.settings import Limits

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
FIELDS = (
    "model", "language", "languages", "prompt", "keywords", "response_format", "temperature", "stream", "include",
    "timestamp_granularities", "chunking_strategy", "known_speaker_names", "known_speaker_references",
    "chunking_strategy[type]", "chunking_strategy[prefix_padding_ms]", "chunking_strategy[silence_duration_ms]",
    "chunking_strategy[threshold]", "dialogue_id", "turn_id", "max_alternatives",
)  # fmt: skip
"""Of the form; the last three are this server's own."""

_GRANULARITIES = ("word", "segment")
_TERMS = {
    "audio": "file",
    "config.encoding": "file",
    "config.sample_rate_hertz": "file",
    "config.context": "prompt",
    "config.context.turns[0].text": "prompt",
    "config.endpointing.likely_silence_s": "chunking_strategy",
    "config.max_alternatives": "max_alternatives",
    "speech_contexts": "keywords",
    "speech_contexts[0].phrases": "keywords",
    "dialogue_id": "dialogue_id",
    "turn_id": "turn_id",
}


@dataclass(frozen=True)
class Wanted:
    """What a form asks for."""

    config: pb.RecognitionConfig
    form: str
    """One of FORMATS."""
    stream: bool
    logprobs: bool
    words: bool
    segments: bool


class Recordings:
    """The routes that take a recording, and what their clients ask for beside it."""

    def __init__(self, recognizer: RecognizerService, calls: Calls, limits: Limits) -> None:
        self._recognizer = recognizer
        self._calls = calls
        self._limits = limits

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        handler = self._calls.handler
        transcribe, listen = self._recording("openai.Transcribe"), self._recording("ovos.Listen")
        models = Method(
            "/v1/models", "openai.Models", descriptor(pb.GetServerInfoRequest), plain_bounds(self._limits), Load.CALL
        )
        return [
            web.post("/v1/audio/transcriptions", handler(transcribe, self._transcribe, openai_error)),
            web.get("/v1/models", handler(models, self._models, openai_error)),
            web.get("/v1/models/{model}", handler(models, self._model, openai_error)),
            web.post("/stt", handler(listen, self._listen, plain_error)),
        ]

    def _recording(self, name: str) -> Method:
        return Method(
            path="/v1/audio/transcriptions",
            name=name,
            request=descriptor(pb.RecognizeRequest),
            bounds=recording_bounds(self._limits, ()),
            load=Load.RECORDING,
            memory_bytes=recording_memory(self._limits, translated=True),
        )

    async def _transcribe(self, exchange: Exchange, caller: Caller) -> web.StreamResponse:
        form = await read_form(exchange.request, self._calls, self._limits)
        wanted = wanted_of(form)
        if not form.file:
            raise InvalidRequestError("file", "is missing or empty; send the recording in it")
        recording = pb.RecognizeRequest(config=wanted.config, audio=form.file)
        del form
        with _in_terms():
            held = [recording]
            del recording
            async with aclosing(self._recognizer.recording(held.pop(), caller)) as responses:  # type: ignore[type-var]
                if wanted.stream:
                    return await self._streamed(exchange, responses, wanted)
                transcript = transcripts.Transcript([one async for one in responses])
        return _response(transcript, wanted)

    async def _streamed(
        self, exchange: Exchange, responses: AsyncIterator[pb.StreamingRecognizeResponse], wanted: Wanted
    ) -> web.StreamResponse:
        """Server-sent events: the text of each utterance, then all of it."""
        answer = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
        answer.headers["x-request-id"] = exchange.request_id

        async def send(event: object) -> None:
            await answer.write(f"data: {json.dumps(event)}\n\n".encode())

        async def tell(problem: Problem) -> None:
            await send(openai_error(problem))
            await answer.write_eof()

        transcript = transcripts.Transcript([])
        async for response in responses:
            before = transcript.text
            transcript.responses.append(response)
            if not answer.prepared:
                await answer.prepare(exchange.request)
                exchange.begun, exchange.tell = answer, tell
            if delta := transcript.text[len(before) :]:
                logprobs = transcripts.word_logprobs(response.results) if wanted.logprobs else None
                await send(transcripts.delta_event(delta, logprobs))
        await send(transcripts.done_event(transcript, logprobs=wanted.logprobs))
        await answer.write_eof()
        return answer

    async def _listen(self, exchange: Exchange, caller: Caller) -> web.Response:
        """As ovos-stt-http-server: a file in the body, its text back."""
        check_english("lang", exchange.request.query.get("lang", ""))
        audio = await self._calls.body(exchange.request, self._limits.message_bytes, "message_bytes")
        with _in_terms():
            config = pb.RecognitionConfig(endpointing=pb.Endpointing())
            response = await self._recognizer.Recognize(pb.RecognizeRequest(config=config, audio=audio), caller)
        return web.Response(text=transcripts.Transcript([response]).text)

    async def _models(self, exchange: Exchange, caller: Caller) -> web.Response:
        return web.json_response({"object": "list", "data": [await self._described(caller)]})

    async def _model(self, exchange: Exchange, caller: Caller) -> web.Response:
        model = await self._described(caller)
        if exchange.request.match_info["model"] != model["id"]:
            raise NotFoundError("there is no such model; GET /v1/models names the one that there is")
        return web.json_response(model)

    async def _described(self, caller: Caller) -> dict[str, object]:
        info = await self._recognizer.GetServerInfo(pb.GetServerInfoRequest(), caller)
        return {"id": info.model_version, "object": "model", "created": 0, "owned_by": "carryover"}


@contextmanager
def _in_terms() -> Iterator[None]:
    """Errors of the audio are the file's."""
    try:
        with in_terms(_TERMS):
            yield
    except AudioError as error:
        raise InvalidRequestError("file", str(error)) from None


def wanted_of(form: Form) -> Wanted:
    """What a form asks for. Raises InvalidRequestError."""
    form.check_names(FIELDS)
    check_english("language", form.one("language"))
    languages = form.all("languages")
    for code in languages if all(code.split("-")[0].lower() != "en" for code in languages) else ():
        check_english("languages", code)
    wanted = form.one("response_format", "json")
    if wanted not in FORMATS:
        raise InvalidRequestError("response_format", f"use one of {', '.join(FORMATS)}; speakers are not told apart")
    speakers = bool(form.all("known_speaker_names") or form.all("known_speaker_references"))
    refuse("known_speaker_names", speakers, "speakers are not told apart; leave it out")
    stream = form.flag("stream")
    refuse("stream", stream and wanted not in ("json", "text"), "events have no such response_format; set it to json")
    granularities = form.all("timestamp_granularities") or ["segment"]
    refuse("timestamp_granularities", not {*granularities} <= {*_GRANULARITIES}, "send word or segment")
    refuse("include", not {*form.all("include")} <= {"logprobs"}, "there is only logprobs")
    config = pb.RecognitionConfig(
        enable_word_time_offsets=True,
        automatic_punctuation=True,
        max_alternatives=_whole_number(form, "max_alternatives"),
        dialogue_id=form.one("dialogue_id"),
        turn_id=form.one("turn_id"),
        endpointing=_endpointing(form),
    )
    if keywords := form.all("keywords"):
        config.speech_contexts.add(phrases=keywords)
    if prompt := form.one("prompt").strip():
        turn = inline_context_pb2.ContextTurn(speaker="SYSTEM", text=prompt)
        config.context.CopyFrom(inline_context_pb2.InlineContext(turns=[turn]))
    return Wanted(
        config,
        wanted,
        stream,
        logprobs="logprobs" in form.all("include"),
        words="word" in granularities,
        segments="segment" in granularities,
    )


def _endpointing(form: Form) -> pb.Endpointing:
    """Where a recording is cut into utterances: as the server does it, unless the silence is said."""
    advice = "send auto, or an object with type server_vad and a silence_duration_ms"
    text = form.one("chunking_strategy", "auto")
    try:
        strategy = {} if text in ("auto", "") else json.loads(text)
        given = form.one("chunking_strategy[silence_duration_ms]") or strategy.get("silence_duration_ms")
        milliseconds = None if given is None else float(given)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidRequestError("chunking_strategy", advice) from None
    return silence("chunking_strategy", milliseconds)


def _whole_number(form: Form, name: str) -> int:
    text = form.one(name, "0")
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequestError(name, "send a whole number")
    return int(text)


def _response(transcript: transcripts.Transcript, wanted: Wanted) -> web.Response:
    if wanted.form == "text":
        return web.Response(text=f"{transcript.text}\n")
    if wanted.form == "srt":
        return web.Response(text=transcripts.srt(transcript), content_type="application/x-subrip")
    if wanted.form == "vtt":
        return web.Response(text=transcripts.vtt(transcript), content_type="text/vtt")
    if wanted.form == "verbose_json":
        return web.json_response(transcripts.verbose(transcript, words=wanted.words, segments=wanted.segments))
    return web.json_response(transcripts.plain(transcript, logprobs=wanted.logprobs))
