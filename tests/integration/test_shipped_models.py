"""The shipped models over gRPC: right contexts mend results, foreign ones and those without what is meant do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asr.audio import read_container
from asr.context.types import Context
from asr.evaluation.conditions import context_for
from asr.evaluation.manifest import Utterance, read_manifests
from carryover.audio import linear16
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb

SAMPLES = Path(__file__).parents[2] / "samples"
SPEAKERS = {"user": "utterance", "system": "reply"}
UTTERANCES: list[Utterance] = read_manifests([SAMPLES / "followups.jsonl"])[0]
MENDED = ("blue tit", "plaid pantry", "attic soundbar")
"""What the shipped model mishears without context."""


def record(replica: Any, dialogue: str, context: Context) -> None:
    """A turn with the whole context, which expects speech; waits until it is made."""
    said = [ctx.Event(**{SPEAKERS[turn.speaker]: {"text": turn.text}}) for turn in context.turns]  # type: ignore[arg-type]
    entries = [ctx.Event(entities=ctx.Entities(signal=e.signal, entries=[e.text])) for e in context.entries]
    events = [*said, *entries, ctx.Event(expect_speech=ctx.ExpectSpeech())]
    for second, event in enumerate(events):
        event.time.seconds = 1_600_000_000 + second
    assert replica.record(dialogue, "1", *events).triggered
    replica.wait_for("READY", dialogue)


@pytest.mark.parametrize("text", MENDED)
def test_contexts_that_are_right_and_wrong(shipped: Any, dialogue: str, text: str) -> None:
    (index,) = (i for i, utterance in enumerate(UTTERANCES) if utterance.text == text)
    samples, rate = read_container(UTTERANCES[index].audio.path)
    audio, config = linear16(samples), {"sample_rate_hertz": rate, "max_alternatives": 4}
    plain = shipped.finals(audio, **config)[-1]
    assert plain.alternatives[0].transcript != text
    for condition in ("relevant", "irrelevant", "anti"):
        context = context_for(condition, UTTERANCES, index, seed=0)
        assert context
        record(shipped, f"{dialogue}-{condition}", context)
        final = shipped.finals(audio, dialogue_id=f"{dialogue}-{condition}", turn_id="2", **config)[-1]
        assert final.context.status == pb.ContextInfo.APPLIED
        assert final.context.plain_transcript == plain.alternatives[0].transcript
        transcript = final.alternatives[0].transcript
        if condition == "relevant":
            assert transcript == text and final.context.changed
        else:
            assert transcript == plain.alternatives[0].transcript and not final.context.changed
