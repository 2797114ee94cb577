"""Many dialogues against one server while its store fails: what every stream, result and event came to.

The server's answers are compared with the baseline's, a recogniser in this process, like with like: a result must be
what that recognises in the same audio in the same passes, and with the dialogue's own context where one was applied;
and a phrase that is named must be one of the dialogue's own. Passes that the server skipped are counted, not wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.server.baseline import BaselineRecognizer, Kind, Texts, plain_kind
from benchmarks.server.waits import Clip
from carryover.client import pass_names, pieces, recognise
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.context_pb2_grpc import ContextStub
from carryover.v1.recognizer_pb2_grpc import RecognizerStub
from context_store import ContextStore, DialogueId, StoreError
from server.access import DEFAULT_TENANT

QUESTION_S = 0.5
_DEADLINE_S = 60.0
_ATTEMPTS = 8
_RETRY_S = 0.2
_NO_STATUS = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
"""What a stream that the server did not end by itself, or not by design, comes to at the client."""


@dataclass(frozen=True)
class Scene:
    """A dialogue to be played again and again: a request, a question about names, an answer."""

    request: Clip
    answer: Clip
    names: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """The baseline's transcripts of a scene's clips; with context of the answer alone."""

    request: Texts
    answer: Texts


@dataclass(frozen=True)
class Ended:
    """Dialogues that are over: acknowledged event ids by dialogue, and those whose erasure was acknowledged."""

    recorded: dict[str, set[str]] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)


@dataclass
class Tally:
    """What was seen so far.

    ended: since the last `take`. broken_off: streams that the client itself left half-way. wrong: what was wrong with
    each wrong result. skipped: passes that the server left out.
    """

    dialogues: int = 0
    streams: int = 0
    broken_off: int = 0
    without_status: int = 0
    wrong_results: int = 0
    wrong: list[dict[str, Any]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    contexts: Counter[str] = field(default_factory=Counter)
    ended: Ended = field(default_factory=Ended)
    final_ms: list[float] = field(default_factory=list)
    acknowledged_events: int = 0
    erasures: int = 0
    lost_events: int = 0

    def take(self) -> Ended:
        """The dialogues that have ended since the last time."""
        ended, self.ended = self.ended, Ended()
        self.acknowledged_events += sum(map(len, ended.recorded.values()))
        self.erasures += len(ended.erased)
        return ended


class Caller:
    """Plays scenes against a server. real_time: speak as people do. break_off: share of streams left half-way."""

    def __init__(
        self, channel: grpc.aio.Channel, tally: Tally, *, real_time: bool, break_off: float, seed: int
    ) -> None:
        self._recognizer: Any = RecognizerStub(channel)
        self._context: Any = ContextStub(channel)
        self._tally = tally
        self._real_time = real_time
        self._break_off = break_off
        self._rng = random.Random(seed)

    async def ask(self, scene: Scene, dialogue: str) -> None:
        """Records a scene's question and waits until its context is there. Raises AioRpcError, TimeoutError."""
        await self._context.RecordEvents(_question(scene, dialogue), timeout=_DEADLINE_S)
        status = ctx.GetContextStatusRequest(dialogue_id=dialogue)
        async with asyncio.timeout(_DEADLINE_S):
            while (await self._context.GetContextStatus(status)).state != ctx.READY:
                await asyncio.sleep(0.05)

    async def play(self, scene: Scene, expected: Expected, dialogue: str) -> None:
        """Plays a scene once, whatever fails, and tallies it."""
        await self.say(scene.request, expected.request, scene.names, dialogue, "1")
        events = _question(scene, dialogue)
        recorded = await self._acknowledged(lambda: self._context.RecordEvents(events, timeout=_DEADLINE_S))
        await asyncio.sleep(QUESTION_S * self._rng.random())
        await self.say(scene.answer, expected.answer, scene.names, dialogue, "2")
        if self._rng.random() < 0.1:
            request = ctx.DeleteDialogueRequest(dialogue_id=dialogue)
            if await self._acknowledged(lambda: self._context.DeleteDialogue(request, timeout=_DEADLINE_S)):
                self._tally.ended.erased.add(dialogue)
        elif recorded:
            self._tally.ended.recorded[dialogue] = {event.event_id for event in events.events}
        self._tally.dialogues += 1

    async def say(
        self, clip: Clip, expected: Texts, names: Sequence[str] = (), dialogue: str = "", turn: str = ""
    ) -> None:
        """Says a clip once, of a dialogue or of none, and tallies what comes of it. names: the dialogue's own."""
        self._tally.streams += 1
        if self._rng.random() < self._break_off:
            self._tally.broken_off += 1
            await self._leave_half_way(clip, dialogue, turn)
            return
        try:
            finals = await self._hear(clip, dialogue, turn)
        except grpc.aio.AioRpcError as error:
            self._tally.statuses[error.code().name] += 1
            self._tally.without_status += error.code() in _NO_STATUS
            return
        self._tally.statuses["OK"] += 1
        self._tally.contexts.update(pb.ContextInfo.Status.Name(final.context.status) for final in finals)
        self._tally.skipped.update(name for final in finals for name in pass_names(final.skipped_passes))
        wrong = list(_wrong(finals, expected, names))
        self._tally.wrong_results += bool(wrong)
        self._tally.wrong += [{"dialogue": dialogue, "turn": turn, **what} for what in wrong]

    async def _hear(self, clip: Clip, dialogue: str, turn: str) -> list[pb.StreamingRecognitionResult]:
        config, closed_s = stream_config(clip, dialogue, turn), 0.0

        async def audio() -> AsyncIterator[bytes]:
            nonlocal closed_s
            async for piece in pieces(clip.samples, clip.rate, real_time=self._real_time):
                yield piece
            closed_s = time.monotonic()

        finals, _ = await recognise(self._recognizer, config, audio(), timeout_s=_DEADLINE_S)
        self._tally.final_ms.append((time.monotonic() - closed_s) * 1000)
        return finals

    async def _leave_half_way(self, clip: Clip, dialogue: str, turn: str) -> None:
        config = stream_config(clip, dialogue, turn)
        call = self._recognizer.StreamingRecognize(timeout=_DEADLINE_S)
        try:
            await call.write(pb.StreamingRecognizeRequest(config=config))
            async for piece in pieces(clip.samples[: len(clip.samples) // 2], clip.rate, real_time=self._real_time):
                await call.write(pb.StreamingRecognizeRequest(audio=piece))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it was refused
        call.cancel()

    async def _acknowledged(self, call: Callable[[], Any]) -> bool:
        """Repeats a call while the store is unavailable; did it succeed?"""
        for attempt in range(_ATTEMPTS):
            try:
                await call()
                return True
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    self._tally.statuses[f"events {error.code().name}"] += 1
                    return False
            await asyncio.sleep(_RETRY_S * (attempt + 1))
        return False


async def expected(baseline: BaselineRecognizer, scene: Scene, dialogue: str) -> Expected:
    """A scene's transcripts. dialogue: where its question is recorded. Raises StoreError."""
    bundle = await baseline.bundle(dialogue, "1")
    return Expected(
        await baseline.texts(scene.request.samples, stream_config(scene.request), None),
        await baseline.texts(scene.answer.samples, stream_config(scene.answer), bundle),
    )


async def play_for(
    callers: Sequence[Caller], scenes: Sequence[tuple[Scene, Expected]], seconds: float, prefix: str
) -> None:
    """Each caller plays scene after scene; what has begun is finished."""
    ends_s = time.monotonic() + seconds

    async def one(number: int, caller: Caller) -> None:
        for turn in itertools.count():
            scene, expected = scenes[(number + turn) % len(scenes)]
            await caller.play(scene, expected, f"{prefix}-{number}-{turn}")
            if time.monotonic() >= ends_s:
                return

    await asyncio.gather(*(one(number, caller) for number, caller in enumerate(callers)))


def lost_events(store: ContextStore, ended: Ended) -> int:
    """Acknowledged events that are not stored, or whose text does not decrypt; and what an erasure has left."""
    lost = 0
    for dialogue, events in ended.recorded.items():
        try:
            turns = store.read_turns(DialogueId(DEFAULT_TENANT, dialogue))
            found = {event.event_id for turn in turns for event in turn.events}
        except StoreError:
            found = set()
        lost += len(events - found)
    for dialogue in ended.erased:
        lost += len(store.dialogue_status(DialogueId(DEFAULT_TENANT, dialogue)).turns)
    return lost


async def read_back(store: ContextStore, tally: Tally) -> None:
    """Counts what the dialogues that have ended since the last time lost, and clears them away.

    The store that a soak runs on looks at every item to find a dialogue's: what stays makes it slower by the minute.
    """
    ended = tally.take()
    tally.lost_events += await asyncio.to_thread(lost_events, store, ended)
    for dialogue in (*ended.recorded, *ended.erased):
        await asyncio.to_thread(store.delete_dialogue, DialogueId(DEFAULT_TENANT, dialogue))


def _wrong(
    finals: Sequence[pb.StreamingRecognitionResult], expected: Texts, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """What of a stream's results is not what the baseline gives in the same passes, or is somebody else's."""
    own = {part for name in names for part in (name.lower(), *name.lower().split())}
    nothing: Mapping[Kind, str] = {}
    for number, (final, texts) in enumerate(itertools.zip_longest(finals, expected, fillvalue=None)):
        if final is None:
            yield {"utterance": number, "what": "is missing"}
            continue
        passes, applied = frozenset(pass_names(final.passes)), final.context.status == pb.ContextInfo.APPLIED
        plain = (texts or nothing).get(plain_kind(passes))
        told = {
            "utterance": number,
            "passes": sorted(passes),
            "context": pb.ContextInfo.Status.Name(final.context.status),
        }
        foreign = [word.phrase for word in final.context.biased_words if word.phrase.lower() not in own]
        if foreign:
            yield {**told, "what": "a phrase of another dialogue", "is": foreign}
        best = (texts or nothing).get((passes, True)) if applied else plain
        for what, text, should_be in (
            ("plain transcript", final.context.plain_transcript, plain),
            ("transcript", final.alternatives[0].transcript, best),
        ):
            if text != should_be:
                yield {**told, "what": what, "is": text, "should_be": should_be}


def stream_config(clip: Clip, dialogue: str = "", turn: str = "") -> pb.StreamingConfig:
    """What the first message of a caller's stream says."""
    return pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=clip.rate, dialogue_id=dialogue, turn_id=turn)


def _question(scene: Scene, dialogue: str) -> ctx.RecordEventsRequest:
    bodies: list[dict[str, Any]] = [
        {"utterance": ctx.Utterance(text="call a friend")},
        {"reply": ctx.Reply(text=f"do you mean {' or '.join(scene.names)}")},
        {"entities": ctx.Entities(signal="contacts", entries=scene.names)},
        {"speak": ctx.Speak()},
        {"expect_speech": ctx.ExpectSpeech()},
    ]
    events = [ctx.Event(event_id=f"e{number}", **body) for number, body in enumerate(bodies)]
    return ctx.RecordEventsRequest(dialogue_id=dialogue, turn_id="1", events=events)
