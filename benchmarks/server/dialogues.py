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
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.server.baseline import BaselineRecognizer, Kind, Texts, plain_kind
from benchmarks.server.waits import Clip
from carryover import Audio, CarryoverError, Final, RetryLaterError, aio
from carryover.audio import linear16
from carryover.v1 import recognizer_pb2 as pb
from context_store import ContextStore, DialogueId, StoreError
from server.access import DEFAULT_TENANT

QUESTION_S = 0.5
_DEADLINE_S = 60.0
_ATTEMPTS = 8
_RETRY_S = 0.2
_EVENTS = 5
"""That a scene's question is recorded as."""
_NO_STATUS = ("DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL")
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
    """Dialogues that are over: how many events were acknowledged of each, and those whose erasure was acknowledged."""

    recorded: dict[str, int] = field(default_factory=dict)
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
        self.acknowledged_events += sum(ended.recorded.values())
        self.erasures += len(ended.erased)
        return ended


class Caller:
    """Plays scenes against a server. real_time: speak as people do. break_off: share of streams left half-way."""

    def __init__(self, client: aio.Client, tally: Tally, *, real_time: bool, break_off: float, seed: int) -> None:
        self._client = client
        self._tally = tally
        self._real_time = real_time
        self._break_off = break_off
        self._rng = random.Random(seed)

    async def ask(self, scene: Scene, dialogue: str) -> None:
        """Records a scene's question and waits until its context is there. Raises CarryoverError."""
        await self._record(scene, dialogue)
        await self._client.wait_until_ready(dialogue, timeout=_DEADLINE_S)

    async def play(self, scene: Scene, expected: Expected, dialogue: str) -> None:
        """Plays a scene once, whatever fails, and tallies it."""
        await self.say(scene.request, expected.request, scene.names, dialogue, "1")
        recorded = await self._acknowledged(lambda: self._record(scene, dialogue))
        await asyncio.sleep(QUESTION_S * self._rng.random())
        await self.say(scene.answer, expected.answer, scene.names, dialogue, "2")
        if self._rng.random() < 0.1:
            if await self._acknowledged(lambda: self._client.erase(dialogue, timeout_s=_DEADLINE_S)):
                self._tally.ended.erased.add(dialogue)
        elif recorded:
            self._tally.ended.recorded[dialogue] = _EVENTS
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
        except CarryoverError as error:
            self._tally.statuses[str(error.code)] += 1
            self._tally.without_status += error.code in _NO_STATUS
            return
        self._tally.statuses["OK"] += 1
        self._tally.contexts.update(final.context.status for final in finals)
        self._tally.skipped.update(name for final in finals for name in final.skipped_passes)
        wrong = list(_wrong(finals, expected, names))
        self._tally.wrong_results += bool(wrong)
        self._tally.wrong += [{"dialogue": dialogue, "turn": turn, **what} for what in wrong]

    async def _record(self, scene: Scene, dialogue: str) -> bool:
        """Five events: `_EVENTS`."""
        return await self._client.record(
            dialogue, "1", user="call a friend", reply=f"do you mean {' or '.join(scene.names)}",
            contacts=scene.names, speak=True, expect_speech=True, timeout_s=_DEADLINE_S,
        )  # fmt: skip

    async def _hear(self, clip: Clip, dialogue: str, turn: str) -> list[Final]:
        closed_s = 0.0

        async def audio() -> AsyncIterator[bytes]:
            nonlocal closed_s
            for piece in Audio(linear16(clip.samples), clip.rate):
                yield piece
            closed_s = time.monotonic()

        results = [result async for result in self._stream(audio(), clip, dialogue, turn)]
        self._tally.final_ms.append((time.monotonic() - closed_s) * 1000)
        return [result for result in results if isinstance(result, Final)]

    async def _leave_half_way(self, clip: Clip, dialogue: str, turn: str) -> None:
        async def half() -> AsyncIterator[bytes]:
            for piece in Audio(linear16(clip.samples[: len(clip.samples) // 2]), clip.rate):
                yield piece
            raise _LeavingError

        with suppress(_LeavingError, CarryoverError):  # the latter: it was refused
            async for _ in self._stream(half(), clip, dialogue, turn):
                pass

    def _stream(self, audio: AsyncIterator[bytes], clip: Clip, dialogue: str, turn: str) -> aio.Stream:
        return self._client.stream(
            audio, rate=clip.rate, dialogue=dialogue, turn=turn, interim_results=False, real_time=self._real_time,
            timeout_s=_DEADLINE_S,
        )  # fmt: skip

    async def _acknowledged(self, call: Callable[[], Any]) -> bool:
        """Repeats a call while the store is unavailable; did it succeed?"""
        for attempt in range(_ATTEMPTS):
            try:
                await call()
                return True
            except RetryLaterError:
                pass
            except CarryoverError as error:
                self._tally.statuses[f"events {error.code}"] += 1
                return False
            await asyncio.sleep(_RETRY_S * (attempt + 1))
        return False


class _LeavingError(Exception):
    """The caller hangs up."""


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
    for dialogue, count in ended.recorded.items():
        try:
            turns = store.read_turns(DialogueId(DEFAULT_TENANT, dialogue))
            found = {event.event_id for turn in turns for event in turn.events}
        except StoreError:
            found = set()
        lost += max(0, count - len(found))
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


def _wrong(finals: Sequence[Final], expected: Texts, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What of a stream's results is not what the baseline gives in the same passes, or is somebody else's."""
    own = {part for name in names for part in (name.lower(), *name.lower().split())}
    nothing: Mapping[Kind, str] = {}
    for number, (final, texts) in enumerate(itertools.zip_longest(finals, expected, fillvalue=None)):
        if final is None:
            yield {"utterance": number, "what": "is missing"}
            continue
        passes, applied = frozenset(final.passes), final.context.status == "APPLIED"
        plain = (texts or nothing).get(plain_kind(passes))
        told = {
            "utterance": number,
            "passes": sorted(passes),
            "context": final.context.status,
        }
        foreign = [w.phrase for w in final.context.biased_words if w.phrase and w.phrase.lower() not in own]
        if foreign:
            yield {**told, "what": "a phrase of another dialogue", "is": foreign}
        best = (texts or nothing).get((passes, True)) if applied else plain
        for what, text, should_be in (
            ("plain transcript", final.context.plain_transcript, plain),
            ("transcript", final.transcript, best),
        ):
            if text != should_be:
                yield {**told, "what": what, "is": text, "should_be": should_be}


def stream_config(clip: Clip, dialogue: str = "", turn: str = "") -> pb.StreamingConfig:
    """What the first message of such a stream says."""
    return pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=clip.rate, dialogue_id=dialogue, turn_id=turn)
