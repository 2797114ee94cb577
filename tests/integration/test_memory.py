"""Nothing of a dialogue that was erased, and nothing of a client's phrases, is left in the process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from asr.context.checkpoint import ContextModels
from asr.context.encoder import ContextEncoder
from asr.context.rescorer import Rescorer
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from context_store import DialogueId
from server.access import make_key
from tests.support.memory import strings_with
from tests.support.waiting import until


def word(seed: str) -> str:
    """A word that nothing else holds; made anew each time, so that no variable need keep it."""
    rng = random.Random(seed)
    return "".join(rng.choice("bdgklmnprst") + rng.choice("aeiou") for _ in range(9))


@pytest.fixture(scope="module")
def models() -> tuple[ContextEncoder, Rescorer]:
    models = ContextModels.load()
    return models.encoder, models.rescorer


def live(replica: Any, dialogue: str, seed: str, pcm: bytes) -> None:
    """A dialogue in which the word is said, replied, listed, expected by the client, and rescored with."""
    replica.record(
        dialogue,
        "1",
        context_pb2.Event(utterance=context_pb2.Utterance(text=f"Call {word(seed).title()} please")),
        context_pb2.Event(reply=context_pb2.Reply(text=f"Do you mean Meg {word(seed).title()} or Meg Jones?")),
        context_pb2.Event(entities=context_pb2.Entities(signal="contacts", entries=[f"Meg {word(seed)}", "Meg Jones"])),
        context_pb2.Event(expect_speech=context_pb2.ExpectSpeech()),
    )
    replica.wait_for("READY", dialogue, "1")
    contexts = [pb.SpeechContext(phrases=[f"{word(seed)} street", word(seed)])]
    final = replica.finals(pcm, dialogue_id=dialogue, turn_id="2", speech_contexts=contexts)[-1]
    assert final.context.status == pb.ContextInfo.APPLIED
    nbest = [context_pb2.NBestEntry(text=f"meg {word(seed)}"), context_pb2.NBestEntry(text="make bore")]
    rescored = replica.context.Rescore(context_pb2.RescoreRequest(nbest=nbest, dialogue_id=dialogue), timeout=60)
    assert rescored.context.status == pb.ContextInfo.APPLIED


def test_after_a_dialogue_is_erased(workshop: Any, dialogue: str, pcm: bytes, models: Any) -> None:
    replica = workshop.start(encoder=models[0], rescorer=models[1])
    live(replica, dialogue, dialogue, pcm)
    assert strings_with(word(dialogue)), "what is looked for must be found while it is there"
    request = context_pb2.DeleteDialogueRequest(dialogue_id=dialogue)
    assert replica.context.DeleteDialogue(request, timeout=60).items_deleted
    replica.run(replica.server.drain())
    until(lambda: strings_with(word(dialogue)) == 0)  # a call that has answered may still be ending


def test_after_a_tenants_last_key_went(workshop: Any, dialogue: str, pcm: bytes, models: Any, tmp_path: Path) -> None:
    key, line = make_key("acme")
    (tmp_path / "keys").write_text(line + "\n")
    replica = workshop.start(encoder=models[0], rescorer=models[1], access__keys_file=str(tmp_path / "keys"))
    live(replica.with_key(key), dialogue, dialogue, pcm)

    async def forget() -> None:
        replica.server.contexts.forget_tenant("acme")

    replica.run(forget())
    replica.run(replica.server.drain())
    until(lambda: strings_with(word(dialogue)) == 0)  # a call that has answered may still be ending
    assert replica.server.store.store.delete_dialogue(DialogueId("acme", dialogue))
