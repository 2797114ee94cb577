"""What can happen to dialogues, step by step: each step is done to the rig, told to the model, and checked by it."""

from __future__ import annotations

import itertools
import math
import random
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import grpc

from benchmarks.server.fault_proxy import Fault
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb
from context_store import DialogueId
from server.contexts.cache import State
from tests.dialogues.model import APPLIED, SKEW_S, Asked, FaultError, Key, Life, Model, Recorded, Turn
from tests.dialogues.rig import TENANTS, TRUSTING, UTTERANCES, Rig, Stream, code

KEYS = tuple(Key(tenant, dialogue) for dialogue in ("one", "two") for tenant in TENANTS)
"""Both tenants use the same ids."""
STREAMS = 3
"""Streams that may be open at once."""
_CALL_S = 60.0
_STUCK_CALL_S = 0.1
"""How long a client waits for a server whose store or encoder does not answer."""
_IN_TROUBLE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""How calls may end while something is wrong; none may while all is well."""
_STEP_S = 0.01
_DAY_S = 86_400.0
_SHIFT_S = {"ahead": 3 * _DAY_S, "behind": -3 * _DAY_S, "late": -3.0}

WHAT = {
    "question": ("utterance", "reply", "entities", "speak", "expect_speech"),
    "list": ("entities", "expect_speech"),
    "expect": ("expect_speech",),
    "entities": ("entities",),
    "said": ("utterance",),
    "speak": ("speak",),
}
"""Kinds of the events that are recorded together."""


class Step(NamedTuple):
    """A rule and its arguments: all that is needed to do it again."""

    rule: str
    arguments: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.rule}({', '.join(f'{name}={value!r}' for name, value in self.arguments)})"


@dataclass(frozen=True)
class Rule:
    """weight: how often it is chosen, among the others. choices: the values of each argument."""

    weight: int
    choices: dict[str, Sequence[Any]]


_DIALOGUE, _REPLICA, _STREAM = (0, 0, 0, 0, 1, 1, 2, 3), (0, 1), range(STREAMS)
_OWN = (-1, -1, -1, 0, 1)
_STORE_FAULTS = ("held", "slow", "error", "throttled", "unreachable", "lost")
_NEWEST = (-1, -1, -1, -2, 0, 0, 1, 2)

RULES: dict[str, Rule] = {
    "record": Rule(24, {
        "dialogue": _DIALOGUE, "replica": _REPLICA, "turn": _NEWEST,
        "what": ("list", "list", "question", "question", "expect", "entities", "said", "speak"),
        "calls": ("one", "one", "one", "each", "reversed"),
        "times": ("none", "none", "now", "ahead", "behind", "late", "equal"),
    }),
    "repeat": Rule(5, {
        "dialogue": _DIALOGUE, "replica": _REPLICA, "turn": (0, 1, 2), "calls": ("one", "each", "reversed"),
    }),
    "race": Rule(4, {"dialogue": _DIALOGUE, "turn": (-1, 0), "other": (-1, 0, 1)}),
    "overtake": Rule(4, {
        "dialogue": _DIALOGUE, "replica": _REPLICA, "turn": (1, 1, 2), "what": ("entities", "speak", "expect", "list"),
    }),
    "shed": Rule(3, {"dialogue": _DIALOGUE, "replica": _REPLICA, "turn": (-1, 0), "what": ("list", "expect")}),
    "erase": Rule(3, {"dialogue": _DIALOGUE, "replica": _REPLICA}),
    "utter": Rule(14, {"dialogue": _DIALOGUE, "replica": _REPLICA, "turn": _OWN}),
    "open": Rule(8, {"stream": _STREAM, "dialogue": _DIALOGUE, "replica": _REPLICA, "turn": _OWN}),
    "begin": Rule(16, {"stream": _STREAM}),
    "end": Rule(16, {"stream": _STREAM}),
    "close": Rule(2, {"stream": _STREAM}),
    "status": Rule(4, {"dialogue": _DIALOGUE, "replica": _REPLICA, "turn": (-1, 0, 1)}),
    "embedding": Rule(3, {"dialogue": _DIALOGUE, "replica": _REPLICA, "turn": (-1, 0, 1)}),
    "rescore": Rule(3, {"dialogue": _DIALOGUE, "replica": _REPLICA, "turn": _OWN}),
    "advance": Rule(5, {"seconds": (1, 1, 10, 60, 400, 950, 1900)}),
    "skew": Rule(3, {"replica": _REPLICA, "seconds": (0, -5, -3, 3, 5)}),
    "store_fault": Rule(2, {
        "replica": (0, 1, 2), "fault": _STORE_FAULTS,
        "seed": (0, 0, 1, 2),
    }),
    "encoder_fault": Rule(2, {"replica": _REPLICA, "fault": ("hangs", "fails")}),
    "load": Rule(2, {"replica": _REPLICA}),
    "recover": Rule(6, {"retry": (True, True, False)}),
    "kill": Rule(1, {"replica": _REPLICA}),
    "restart": Rule(1, {"replica": _REPLICA}),
    "settle": Rule(2, {}),
    "memory": Rule(3, {"replica": _REPLICA}),
}  # fmt: skip


def chosen(rng: random.Random) -> Step:
    """A step at random."""
    (rule,) = rng.choices([*RULES], [rule.weight for rule in RULES.values()])
    return Step(rule, tuple((name, rng.choice(values)) for name, values in RULES[rule].choices.items()))


@dataclass
class _Open:
    """An open stream and the utterance that is being spoken into it."""

    stream: Stream
    key: Key
    own: str
    replica: int
    utterance: int = 0
    asked: Asked | None = None
    """Of the utterance that has begun."""
    well: bool = False
    """All was well when it began."""
    disturbances: int = 0
    trusting: bool = False
    """The store did not answer the replica when it began, and the replica may go on with what it knew."""


@dataclass
class Tally:
    """What was done and seen."""

    rules: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    """Of utterances and lists."""
    had_to_apply: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Calls that failed while something was wrong."""


class Player:
    """Plays one example: some dialogues from their beginning.

    Args:
        name: makes the dialogues' ids unlike those of other examples.
    """

    def __init__(self, rig: Rig, name: str, tally: Tally | None = None) -> None:
        self.model = Model()
        self.tally = tally or Tally()
        self.steps: list[Step] = []
        self._rig = rig
        self._keys = [Key(key.tenant, f"{name}-{key.dialogue}") for key in KEYS]
        self._names = itertools.count()
        self._turns = itertools.count()
        self._streams: dict[int, _Open] = {}
        self._troubles: set[tuple[str, int]] = set()
        self._disturbances = 0
        """Grows whenever something goes wrong with a replica or its store, or is put right again."""
        self._well_since = 0.0
        """The moment since which all has been well."""
        self._seeds = itertools.count(1)
        for number in _REPLICA:
            self.skew(number, 0)

    def do(self, step: Step) -> None:
        """Does a step. Raises FaultError."""
        self.steps.append(step)
        self.tally.rules[step.rule] += 1
        self.advance(_STEP_S)
        getattr(self, step.rule)(**dict(step.arguments))

    # Events

    def record(self, dialogue: int, replica: int, turn: int, what: str, calls: str, times: str) -> None:
        """Records events of a turn that were not recorded before."""
        found = self.model.turn(self._keys[dialogue], turn, self._turn_id)
        if found is not None and len(found.events) < 24:
            self._send(replica, self._in_calls(self.model.add(found, WHAT[what], self._word), calls), times)

    def repeat(self, dialogue: int, replica: int, turn: int, calls: str) -> None:
        """Records all events of a turn again."""
        found = self._known(self._keys[dialogue], turn)
        if found is not None:
            self._send(replica, self._in_calls(found.events, calls), "none")

    def race(self, dialogue: int, turn: int, other: int) -> None:
        """Records events of two turns at both replicas at once."""
        key, sent = self._keys[dialogue], []
        for replica, newest in ((0, turn), (1, other)):
            found = self.model.turn(key, newest, self._turn_id)
            if found is None:
                continue
            events = self.model.add(found, WHAT["list"], self._word)
            self.model.begin(events)
            request = self._record_request(events, "none")
            sent.append((events, self._stub(replica).RecordEvents.future(request, **self._options(key))))
        for events, call in sent:
            if self._done(call.result, *self._clashes(events[0].turn.life)):
                self.model.acknowledge(events)
        self.model.touched[key] = self.model.tick()

    def overtake(self, dialogue: int, replica: int, turn: int, what: str) -> None:
        """While a new turn's context is being made, an event of an older turn comes in late."""
        encoder = self._rig.replicas[replica].encoder
        held = encoder.go_on.is_set()
        if held:
            encoder.go_on.clear()
        self.record(dialogue, replica, -1, "list", "one", "none")
        self.record(dialogue, replica, turn, what, "one", "none")
        if held:
            encoder.go_on.set()

    def shed(self, dialogue: int, replica: int, turn: int, what: str) -> None:
        """Records events while the replica is busy with audio for a moment, so that it makes no context."""
        busy = ("load", replica) in self._troubles
        self._rig.load(replica, late=True)
        self.record(dialogue, replica, turn, what, "one", "none")
        self._rig.load(replica, late=busy)

    def _send(self, replica: int, calls: Iterable[Sequence[Recorded]], times: str) -> None:
        for events in calls:
            key = events[0].turn.life.key
            self.model.begin(events)
            request = self._record_request(events, times)
            call = partial(self._stub(replica).RecordEvents, request, **self._options(key))
            answer = self._done(call, *self._clashes(events[0].turn.life))
            if answer:
                self.model.acknowledge(events)
                if answer.triggered and not any(event.kind == "expect_speech" for event in events[0].turn.events):
                    raise FaultError("status", f"{events[0].turn.id} expects no speech, and its context is made")

    def _clashes(self, life: Life) -> tuple[str, ...]:
        """How recording may be refused: an event of an earlier life may have come late, with the same ids."""
        return () if life.certain else ("INVALID_ARGUMENT",)

    def _in_calls(self, events: Sequence[Recorded], calls: str) -> list[Sequence[Recorded]]:
        """calls: "one" for all of them, "each" its own, or those "reversed"."""
        each: list[Sequence[Recorded]] = [[event] for event in events]
        return [events] if calls == "one" else each if calls == "each" else each[::-1]

    def _record_request(self, events: Sequence[Recorded], times: str) -> ctx.RecordEventsRequest:
        turn = events[0].turn
        return ctx.RecordEventsRequest(
            dialogue_id=turn.life.key.dialogue,
            turn_id=turn.id,
            events=[self._message(event, times) for event in events],
        )

    def _message(self, event: Recorded, times: str) -> ctx.Event:
        message = ctx.Event(event_id=event.event_id)
        if times != "none":
            start_s = self._rig.clocks[0].now if times != "equal" else 1_700_000_000.0
            message.time.FromNanoseconds(round((start_s + _SHIFT_S.get(times, 0.0)) * 1e9))
        if event.kind == "utterance":
            message.utterance.text = event.words[0]
        elif event.kind == "reply":
            message.reply.text = event.words[0]
        elif event.kind == "entities":
            message.entities.signal = "contacts"
            message.entities.entries.extend(event.words)
        else:
            getattr(message, event.kind).SetInParent()
        return message

    def erase(self, dialogue: int, replica: int) -> None:
        """Erases a dialogue. An encoder that hangs comes back meanwhile: an erasure waits for what is under way."""
        key = self._keys[dialogue]
        self.model.begin_erasure(key)
        request = ctx.DeleteDialogueRequest(dialogue_id=key.dialogue)
        call = self._stub(replica).DeleteDialogue.future(request, **self._options(key))
        self._rig.replicas[replica].encoder.go_on.set()
        if not self._done(call.result):
            return
        self.model.erased(key, replica)
        for context in self._rig.held(replica):
            if context.dialogue == DialogueId(*key):
                raise FaultError("memory", f"{key} was erased at replica {replica}, and its context is held there")
        if DialogueId(*key) in self._rig.held_keys(replica):
            raise FaultError("memory", f"{key} was erased at replica {replica}, and its key is held there")

    # Streams

    def utter(self, dialogue: int, replica: int, turn: int) -> None:
        """A stream with one utterance."""
        self._open(-1, dialogue, replica, turn)
        if -1 in self._streams:
            self.begin(-1)
            self.end(-1)
            self.close(-1)

    def open(self, stream: int, dialogue: int, replica: int, turn: int) -> None:
        """Opens a stream that stays open."""
        if stream not in self._streams:
            self._open(stream, dialogue, replica, turn)

    def _open(self, stream: int, dialogue: int, replica: int, turn: int) -> None:
        key = self._keys[dialogue]
        own = self._own_id(key, turn)
        config = {"dialogue_id": key.dialogue, "turn_id": own}
        opened = Stream(self._rig.replicas[replica], self._rig.metadata[key.tenant], **config)
        opened.send(self._rig.pause)
        self._streams[stream] = _Open(opened, key, own, replica)

    def begin(self, stream: int) -> None:
        """Speaks the first words of an utterance, and waits until the store has been asked for its context.

        stream: or another one, where that is not waiting for words.
        """
        opened = self._chosen(stream, lambda one: one.asked is None)
        if opened is None:
            return
        opened.well = self._well
        if opened.well:
            self.settle()
        opened.disturbances = self._disturbances
        opened.trusting = opened.replica == TRUSTING and self._store_troubled(TRUSTING)
        opened.asked = Asked(opened.key, opened.own, self.model.tick(), opened.replica)
        opened.stream.send(self._rig.words)
        first = opened.stream.read()
        if first.is_final or first.alternatives[0].transcript in self.model.events:
            raise FaultError("text", f"a partial result is {first}")
        if not self._stuck(opened.replica):
            self._rig.wait_answered(opened.replica)

    def end(self, stream: int) -> None:
        """Speaks the rest of an utterance, and checks the final result. stream: or another one, as in `begin`."""
        opened = self._chosen(stream, lambda one: one.asked is not None)
        if opened is None or opened.asked is None:
            return
        well = opened.well and opened.disturbances == self._disturbances and self._well
        if well:
            self.settle()
        asked = replace(opened.asked, heard=self.model.tick(), trusting=self._trusting(opened))
        untouched = self.model.touched.get(opened.key, 0.0) < asked.moment
        opened.stream.send(self._rig.pause)
        final = opened.stream.read()
        if not final.is_final:
            raise FaultError("text", f"a final result was due, and this came: {final}")
        self._check_result(final, self._rig.plain[opened.utterance], asked, well=well and untouched)
        opened.asked = None
        opened.utterance += 1
        if opened.utterance == UTTERANCES:
            opened.stream.leave()
            self._streams = {number: other for number, other in self._streams.items() if other is not opened}

    def _chosen(self, stream: int, fits: Callable[[_Open], bool]) -> _Open | None:
        """An open stream that fits, if there is one: the given one, or the one that was opened first."""
        open_streams = [self._streams[stream]] if stream in self._streams else []
        return next(filter(fits, [*open_streams, *self._streams.values()]), None)

    def _trusting(self, opened: _Open) -> bool:
        disturbed = opened.asked is not None and opened.disturbances != self._disturbances
        return opened.replica == TRUSTING and (opened.trusting or disturbed or self._store_troubled(TRUSTING))

    def _store_troubled(self, replica: int) -> bool:
        return any(number == replica and what in _STORE_FAULTS for what, number in self._troubles)

    def close(self, stream: int) -> None:
        """Ends a stream."""
        opened = self._streams.pop(stream, None)
        if opened is not None:
            opened.stream.leave()

    def _check_result(
        self, final: pb.StreamingRecognitionResult, plain: pb.StreamingRecognitionResult, asked: Asked, *, well: bool
    ) -> None:
        info, best = final.context, final.alternatives[0].transcript
        expected = plain.alternatives[0].transcript
        if info.plain_transcript != expected:
            raise FaultError("text", f"the plain transcript is {info.plain_transcript!r} in place of {expected!r}")
        words = self._check_info(info, asked, well=well)
        if words is None and list(final.alternatives) != list(plain.alternatives):
            raise FaultError("text", f"without a context, the result is {final} in place of {plain}")
        if words and best not in words:
            raise FaultError("text", f"with a context of {words}, the result is {best!r}")

    def _check_info(self, info: pb.ContextInfo, asked: Asked, *, well: bool) -> list[str] | None:
        """What is said of a context against what may be; returns its words, None where it was not applied."""
        status = pb.ContextInfo.Status.Name(info.status)
        self.tally.statuses[status] += 1
        must = self.model.must(asked) if well else None
        if status != APPLIED:
            if info.biased_words or info.changed:
                raise FaultError("text", f"the context is {status}, and has words: {info}")
            if must is not None:
                raise FaultError("missing", f"the context of {must.id} must be there, and is {status}: {info.reason}")
            self.model.check_status(status, asked, well=well)
            return None
        words = [word.phrase for word in info.biased_words]
        self.model.check_words(words, asked, info.context_turn_id)
        if must is not None:
            self.tally.had_to_apply += 1
            self._check_complete(words, must)
        return words

    def _check_complete(self, words: Iterable[str], turn: Turn) -> None:
        if missing := sorted(self.model.required(turn) - {*words}):
            raise FaultError("missing", f"the context of {turn.id} lacks {', '.join(missing)}")

    # What else can be asked

    def status(self, dialogue: int, replica: int, turn: int) -> None:
        """Asks how far a context is. turn: -1: of the one that would apply now."""
        asked, name, well = self._asked(dialogue, replica, turn)
        request = ctx.GetContextStatusRequest(dialogue_id=asked.key.dialogue, turn_id=name)
        call = partial(self._stub(replica).GetContextStatus, request, **self._options(asked.key))
        answer = self._found(call, asked, name)
        if answer is None:
            return
        if name and answer.turn_id != name:
            raise FaultError("status", f"{name} was asked for, and the status is of {answer.turn_id}")
        self._check_described(answer, asked)
        must = self.model.must(asked) if well and not name else None
        if must is not None and self._all_well_since(must):
            self.settle()
            again = call()
            if (again.turn_id, again.state) != (must.id, ctx.READY):
                raise FaultError("missing", f"the context of {must.id} must be ready, and this is said: {again}")

    def _check_described(self, answer: ctx.GetContextStatusResponse, asked: Asked) -> None:
        lives = [life for life in self.model.lives.get(asked.key, []) if not self.model.gone(life, asked)]
        turns = [turn for life in lives for turn in life.turns if turn.id == answer.turn_id]
        if not self.model.life(asked.key).certain:
            return
        if not turns:
            raise FaultError("erased", f"the status is of {answer.turn_id}, which does not exist (any more)")
        live = [turn for turn in turns if not turn.surely_expired(self.model.now_s)]
        if not live:
            raise FaultError("expired", f"the status is of {answer.turn_id}, which has expired")
        expecting = [turn for turn in live if turn.may_expect(self.model.tick())]
        if not expecting and answer.state != ctx.RECORDED:
            raise FaultError(
                "status", f"{answer.turn_id} expects no speech, and is {ctx.ContextState.Name(answer.state)}"
            )
        if expecting and answer.state == ctx.READY and all(turn.outlived(self.model.now_s) for turn in expecting):
            raise FaultError("expired", f"the context of {answer.turn_id} is past its time, and is READY")

    def embedding(self, dialogue: int, replica: int, turn: int) -> None:
        """Asks for a context's vectors. turn: -1: of the one that would apply now."""
        asked, name, well = self._asked(dialogue, replica, turn)
        request = ctx.GetContextEmbeddingRequest(dialogue_id=asked.key.dialogue, turn_id=name)

        def call() -> ctx.GetContextEmbeddingResponse:
            answer: ctx.GetContextEmbeddingResponse = self._stub(replica).GetContextEmbedding(
                request, **self._options(asked.key)
            )
            return answer

        must = self.model.must(asked) if well and not name else None
        answer = self._done(call, "NOT_FOUND")
        if answer is None and must is not None and self._all_well_since(must):
            self.settle()
            answer = self._done(call)
        if answer is None:
            return
        words = [phrase.phrase for phrase in answer.phrases]
        if name:
            for word in words:
                self.model._check_word(word, asked)
        else:
            self.model.check_words(words, asked, answer.turn_id)
        if must is not None:
            self._check_complete(words, must)

    def rescore(self, dialogue: int, replica: int, turn: int) -> None:
        """Has a list rescored with a dialogue's context, and where it was not there yet, once more."""
        asked, _, well = self._asked(dialogue, replica, -1)
        own = self._own_id(asked.key, turn)
        trusting = replica == TRUSTING and self._store_troubled(replica)
        asked = replace(asked, own=own, trusting=trusting)
        nbest = [ctx.NBestEntry(text="power"), ctx.NBestEntry(text="flower")]
        request = ctx.RescoreRequest(dialogue_id=asked.key.dialogue, turn_id=own, nbest=nbest)
        for last in (False, True):
            answer = self._done(lambda: self._stub(replica).Rescore(request, **self._options(asked.key)))
            if answer is None:
                return
            if answer.context.status != pb.ContextInfo.APPLIED and well and not last:
                self.settle()
                continue
            words = self._check_info(answer.context, asked, well=well)
            texts = [entry.text for entry in answer.nbest]
            if words is None and texts != ["power", "flower"]:
                raise FaultError("text", f"without a context, the list is {texts}")
            return

    def _asked(self, dialogue: int, replica: int, turn: int) -> tuple[Asked, str, bool]:
        """What is asked for a dialogue now, the id of the turn that is asked for, and whether all is well."""
        key = self._keys[dialogue]
        found = self._known(key, turn) if turn >= 0 else None
        if self._well:
            self.settle()
        moment = self.model.tick()
        return Asked(key, "", moment, replica, moment), found.id if found else "", self._well

    def _found(self, call: Callable[[], Any], asked: Asked, name: str) -> Any:
        """The answer to a call; None where nothing is found, if that may be."""
        answer = self._done(call, "NOT_FOUND")
        if answer is None and self._well and self.model.life(asked.key).certain:
            turns = [t for t in self.model.life(asked.key).turns if t.id == name or (not name and t.placed < math.inf)]
            there = [turn.id for turn in turns if turn.surely_stored(self.model.now_s)]
            if there:
                raise FaultError("missing", f"nothing is found, and {' and '.join(there)} must be there")
        return answer

    # Time, trouble, and its end

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.model.now_s += seconds
        for clock in self._rig.clocks:
            clock.now += seconds

    def skew(self, replica: int, seconds: float) -> None:
        """A replica's clock is so far off."""
        assert abs(seconds) <= SKEW_S
        self._rig.clocks[replica].now = 1_700_000_000.0 + self.model.now_s + seconds

    def store_fault(self, replica: int, fault: str, seed: int) -> None:
        """Something goes wrong between a replica, or both (2), and the store. seed: not 0: with some calls only."""
        for number in _REPLICA if replica == 2 else (replica,):
            if fault == "held":
                self._rig.hold_store(number)
            else:
                self._rig.store_fault(number, Fault(fault), seed)
            self._trouble(fault, number)

    def encoder_fault(self, replica: int, fault: str) -> None:
        """A replica's context encoder hangs, or fails."""
        encoder = self._rig.replicas[replica].encoder
        if fault == "hangs":
            encoder.go_on.clear()
        else:
            encoder.fails = True
        self._trouble(fault, replica)

    def load(self, replica: int) -> None:
        """A replica is busy with audio."""
        self._rig.load(replica, late=True)
        self._trouble("load", replica)

    def recover(self, retry: bool) -> None:
        """All that was wrong is put right. retry: clients repeat what was not acknowledged."""
        if not self._troubles:
            return
        self._rig.recover()
        self._troubles.clear()
        self._disturbances += 1
        self.model.settle()
        self._well_since = self.model.tick()
        if not retry:
            return
        for dialogue, key in enumerate(self._keys):
            if not self.model.life(key).certain:
                self.erase(dialogue, 0)
            for turn in self.model.unsure(key):
                if not turn.surely_expired(self.model.now_s):
                    self._send(1, [turn.events], "none")

    def kill(self, replica: int) -> None:
        """A replica dies and is started anew."""
        self._leave_streams(replica)
        self._rig.kill(replica)
        self._started(replica)

    def restart(self, replica: int) -> None:
        """A replica is drained, ended and started anew."""
        self._leave_streams(replica)
        if not any(number == replica for _, number in self._troubles):
            self._rig.restart(replica)
            self._started(replica)

    def _started(self, replica: int) -> None:
        self._troubles = {(what, number) for what, number in self._troubles if number != replica}
        self._disturbances += 1
        if not self._troubles:
            self.model.settle()
            self._well_since = self.model.tick()

    def _leave_streams(self, replica: int) -> None:
        for number in [number for number, opened in self._streams.items() if opened.replica == replica]:
            self.close(number)

    def settle(self) -> None:
        """Waits until no context is being made any more; not where that would be never."""
        for number in _REPLICA:
            if not self._stuck(number):
                self._rig.wait_idle(number)

    def memory(self, replica: int) -> None:
        """A replica sweeps its memory: nothing is left there that was erased, or is past its time."""
        if not self._well:
            return
        self.settle()
        swept = self.model.tick()
        self._rig.sweep(replica)
        mine = {DialogueId(*key): key for key in self._keys}
        now_s = self._rig.clocks[replica].now
        for context in self._rig.held(replica):
            key = mine.get(context.dialogue)
            if key is None:
                continue
            if context.bundle is not None:
                words = [phrase.text for phrase in context.bundle.embedding.phrases]
                self.model.check_held(words, key, replica, swept)
            if context.state is State.READY and now_s >= context.expires_s:
                raise FaultError("memory", f"the context of {context.turn} is past its time, and is held")
        for dialogue, until_s in self._rig.held_keys(replica).items():
            if dialogue in mine and until_s <= now_s:
                raise FaultError("memory", f"the key of {dialogue.id} is past its time, and is held")

    def finish(self) -> None:
        """The example is over: everything is put right, its streams are closed, its dialogues deleted."""
        for number in [*self._streams]:
            self.close(number)
        if self._troubles:
            self._rig.recover()
        self.settle()
        self._troubles.clear()
        self._rig.clear(self._keys)

    # Helpers

    @property
    def _well(self) -> bool:
        return not self._troubles

    def _all_well_since(self, turn: Turn) -> bool:
        return self._well and self._well_since < turn.began

    def _trouble(self, what: str, number: int) -> None:
        self._troubles.add((what, number))
        self._disturbances += 1

    def _done(self, call: Callable[[], Any], *expected: str) -> Any:
        """A call's answer; None where it fails as expected, or while something is wrong. Raises FaultError."""
        try:
            return call()
        except grpc.RpcError as error:
            status = code(error)
            if status in expected:
                return None
            if self._well or status not in _IN_TROUBLE:
                raise FaultError("refused", f"{status}: {error.details()}") from None
            self.tally.refused[status] += 1
            return None

    def _options(self, key: Key) -> dict[str, Any]:
        stuck = any(self._stuck(number) for number in _REPLICA)
        return {"metadata": self._rig.metadata[key.tenant], "timeout": _STUCK_CALL_S if stuck else _CALL_S}

    def _stuck(self, number: int) -> bool:
        """Does a replica wait for its store or its encoder, without an end?"""
        return bool({("held", number), ("hangs", number)} & self._troubles)

    def _stub(self, replica: int) -> Any:
        return self._rig.replicas[replica].context

    def _known(self, key: Key, newest: int) -> Turn | None:
        """The n-th newest turn, if it was recorded and has surely not expired."""
        turns = [turn for turn in self.model.life(key).turns if turn.surely_stored(self.model.now_s)]
        ordered = sorted(turns, key=lambda turn: turn.began)
        return ordered[-1 - newest] if newest < len(ordered) else None

    def _own_id(self, key: Key, turn: int) -> str:
        """A stream's own turn: the n-th newest of those recorded, else one that is not recorded yet."""
        found = self._known(key, turn) if turn >= 0 else None
        return found.id if found else "own"

    def _turn_id(self) -> str:
        """Ids whose alphabet says nothing of their order."""
        number = next(self._turns)
        return f"t{(number * 7) % 10}{number}"

    def _word(self) -> str:
        return "q" + "".join(_letters(next(self._names)))


def _letters(number: int) -> Iterator[str]:
    for _ in range(3):
        number, digit = divmod(number, 26)
        yield string.ascii_lowercase[digit]
