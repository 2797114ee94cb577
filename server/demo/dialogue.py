"""The demonstration's two turns, played against a running server over gRPC as an assistant would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from asr.text import normalize
from carryover.client import context_summary, pieces, recognise
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.context_pb2_grpc import ContextStub
from carryover.v1.recognizer_pb2_grpc import RecognizerStub
from server.demo.synthesis import Speech

DIALOGUE = "demo"
_WORDS_A_SECOND = 2.7
_POLL_S = 0.02

OnResult = Callable[[pb.StreamingRecognitionResult], None]


@dataclass(frozen=True)
class Script:
    """What will be said."""

    choices: tuple[str, ...]
    """At least two names."""
    answer: str
    """What the user answers; any text."""

    @property
    def request(self) -> str:
        """The user's first turn: the choices' common first name, where they have one."""
        first = {choice.split()[0].lower() for choice in self.choices}
        return f"call {self.choices[0].split()[0]}" if len(first) == 1 else "call a friend"

    @property
    def names(self) -> tuple[str, ...]:
        """The user's contacts, full and by first name: what an assistant expects in any first turn."""
        return tuple(dict.fromkeys(name for choice in self.choices for name in (choice, choice.split()[0])))

    @property
    def question(self) -> str:
        """The assistant's question."""
        *others, last = self.choices
        return f"Do you mean {', '.join(others)} or {last}?"

    @property
    def question_s(self) -> float:
        """Seconds that the question takes to speak."""
        return len(self.question.split()) / _WORDS_A_SECOND


@dataclass(frozen=True)
class Played:
    """What happened."""

    script: Script
    request: str
    """The first turn as it was recognised."""
    final: pb.StreamingRecognitionResult
    """The answer's result."""
    status: context_pb2.GetContextStatusResponse
    """Of the context."""
    moments: tuple[tuple[str, float], ...]
    """(name, milliseconds since expect-speech), in order."""

    def summary(self) -> dict[str, Any]:
        """The demo's JSON object."""
        info = context_summary(self.final.context)
        contextual = self.final.alternatives[0].transcript
        return {
            "turns": [
                {"speaker": "user", "text": self.request},
                {"speaker": "system", "text": self.script.question},
                {"speaker": "user", "text": contextual},
            ],
            "plain": info["plain_transcript"],
            "contextual": contextual,
            "expected": normalize(self.script.answer),
            "status": info["status"],
            "changed": info["changed"],
            "biased_words": info["biased_words"],
            "timeline": {
                **{f"{name}_ms": round(moment, 1) for name, moment in self.moments},
                **info["timings"],
            },
        }


async def play(port: int, script: Script, request: Speech, answer: Speech, on_result: OnResult) -> Played:
    """Play the dialogue in real time against the server on a loopback port.

    Args:
        on_result: is given each result of both turns as it comes, partial ones too.

    Raises:
        grpc.aio.AioRpcError: the server ended a call with an error.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        recognizer: Any = RecognizerStub(channel)  # type: ignore[no-untyped-call]
        context: Any = ContextStub(channel)  # type: ignore[no-untyped-call]
        await context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=DIALOGUE))
        first = await _listen(recognizer, request, "1", on_result, script.names)
        understood = first.alternatives[0].transcript
        asked_s = time.time()
        await context.RecordEvents(_events(script, understood))
        status = await _speak_question(context, script, asked_s)
        answering_s = time.time()
        final = await _listen(recognizer, answer, "2", on_result)
        answered_s = time.time()
    moments = [
        (context_pb2.ContextState.Name(entry.state).lower(), (entry.time.ToNanoseconds() / 1e9 - asked_s) * 1000)
        for entry in status.timeline
    ]
    moments += [("answer_begins", (answering_s - asked_s) * 1000), ("answer_final", (answered_s - asked_s) * 1000)]
    return Played(script, understood, final, status, tuple(moments))


async def _listen(
    stub: Any, speech: Speech, turn: str, on_result: OnResult, phrases: Sequence[str] = ()
) -> pb.StreamingRecognitionResult:
    config = pb.StreamingConfig(
        encoding=pb.LINEAR16, sample_rate_hertz=speech.rate, interim_results=True, max_alternatives=8,
        dialogue_id=DIALOGUE, turn_id=turn, speech_contexts=[pb.SpeechContext(phrases=phrases)] if phrases else [],
    )  # fmt: skip
    audio = pieces(speech.samples, speech.rate, real_time=True)
    finals, _ = await recognise(stub, config, audio, on_result)
    return next((final for final in finals if final.alternatives[0].transcript), finals[-1])


async def _speak_question(context: Any, script: Script, asked_s: float) -> context_pb2.GetContextStatusResponse:
    """Waits as long as the question takes to speak; returns the context's status then."""
    await asyncio.sleep(max(_POLL_S, asked_s + script.question_s - time.time()))
    request = context_pb2.GetContextStatusRequest(dialogue_id=DIALOGUE, turn_id="1")
    status: context_pb2.GetContextStatusResponse = await context.GetContextStatus(request)
    return status


def _events(script: Script, understood: str) -> context_pb2.RecordEventsRequest:
    bodies: Sequence[dict[str, Any]] = (
        {"transcribe": context_pb2.Transcribe()},
        *([{"utterance": context_pb2.Utterance(text=understood)}] if understood else []),
        {"reply": context_pb2.Reply(text=script.question)},
        {"entities": context_pb2.Entities(signal="contacts", entries=script.choices)},
        {"speak": context_pb2.Speak()},
        {"expect_speech": context_pb2.ExpectSpeech()},
    )
    events = [context_pb2.Event(event_id=f"e{i}", **body) for i, body in enumerate(bodies)]
    return context_pb2.RecordEventsRequest(dialogue_id=DIALOGUE, turn_id="1", events=events)
