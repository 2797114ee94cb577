"""The demonstration's two turns, played against a running server over gRPC as an assistant would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from asr.text import normalize
from carryover import Audio, ContextStatus, Final, Result, aio
from carryover.audio import linear16
from server.demo.synthesis import Speech

DIALOGUE = "demo"
_WORDS_A_SECOND = 2.7

OnResult: TypeAlias = Callable[[Result], None]


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
    final: Final
    """The answer's result."""
    status: ContextStatus
    """Of the context."""
    moments: tuple[tuple[str, float], ...]
    """(name, milliseconds since expect-speech), in order."""

    def summary(self) -> dict[str, Any]:
        """The demo's JSON object."""
        info = self.final.context.summary()
        contextual = self.final.transcript
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
        CarryoverError: the server ended a call with an error.
    """
    async with aio.Client(f"127.0.0.1:{port}") as client:
        await client.erase(DIALOGUE)
        first = await _listen(client, request, "1", on_result, script.names)
        asked_s = time.time()
        await client.record(
            DIALOGUE, "1", transcribe=True, user=first.transcript or None, reply=script.question,
            contacts=script.choices, speak=True, expect_speech=True,
        )  # fmt: skip
        await asyncio.sleep(max(0.0, asked_s + script.question_s - time.time()))  # meanwhile the question is spoken
        status = await client.status(DIALOGUE, "1")
        answering_s = time.time()
        final = await _listen(client, answer, "2", on_result)
        answered_s = time.time()
    moments = [(state.lower(), (entered.timestamp() - asked_s) * 1000) for state, entered in status.timeline]
    moments += [("answer_begins", (answering_s - asked_s) * 1000), ("answer_final", (answered_s - asked_s) * 1000)]
    return Played(script, first.transcript, final, status, tuple(moments))


async def _listen(
    client: aio.Client, speech: Speech, turn: str, on_result: OnResult, phrases: Sequence[str] = ()
) -> Final:
    audio = Audio(linear16(speech.samples), speech.rate)
    finals = []
    async for result in client.stream(
        audio, dialogue=DIALOGUE, turn=turn, max_alternatives=8, phrases=phrases, real_time=True
    ):
        on_result(result)
        if isinstance(result, Final):
            finals.append(result)
    return next((final for final in finals if final.transcript), finals[-1])
