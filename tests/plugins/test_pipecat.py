"""Pipecat's service and observer in real pipelines, against real servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from asr.context.types import Entry, Turn
from benchmarks.voice_agents.follow_ups import FOLLOW_UPS, FollowUp
from tests.clients.test_steering import UNENDING
from tests.plugins.conftest import replaced
from tests.support.frameworks import CLIENTS, PIPECAT, install
from tests.support.pages import blocks
from tests.support.registry import environment_with, skip_where_out_of_reach
from tests.support.remote_client import RemoteClient, remote_client
from tests.support.replicas import Workshop
from tests.support.waiting import until

pytestmark = pytest.mark.slow
BENCHMARK = str(CLIENTS.parent / "benchmarks/voice_agents/pipecat_dialogues.py")
EXAMPLE = str(CLIENTS / "pipecat/example.py")
QUESTION = "Do you mean Meg Jones or Meg Bauer?"
FIRST_FINAL = ["wait", "TranscriptionFrame", 1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("pipecat"), "python", "pipecat")


@pytest.fixture(scope="module")
def pipecat(site: Path) -> Iterator[RemoteClient]:
    program = Path(__file__).parent / "pipecat_program.py"
    with remote_client(program, PIPECAT, PATH=os.environ["PATH"], PYTHONPATH=str(site)) as client:
        yield client


@pytest.fixture(scope="module")
def patient(tiny_recognizer: Any, tables: Any, key: Any) -> Iterator[Any]:
    """A replica whose utterances end only when they are finalized."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop.start(**UNENDING)
    shop.close()


def run(pipecat: RemoteClient, replica: Any, *steps: list[Any], **call: Any) -> dict[str, Any]:
    (ran,) = pipecat("run", target=f"127.0.0.1:{replica.port}", steps=steps, **call)
    assert isinstance(ran, dict) and not ran["failed"]
    return ran


def of(ran: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    return [frame for frame in ran["frames"] if frame["type"] in types]


def finals(ran: dict[str, Any]) -> list[str]:
    return [frame["text"] for frame in of(ran, "TranscriptionFrame")]


def test_the_end_of_speech_finalizes(pipecat: RemoteClient, patient: Any, pcm: bytes, raw: str) -> None:
    ran = run(pipecat, patient, ["started"], ["audio", raw], ["stopped"], FIRST_FINAL)
    (expected,) = patient.finals(pcm, automatic_punctuation=True)
    final, *_ = of(ran, "TranscriptionFrame")  # the tiny model hears a word in nothing, too
    assert final["text"] == expected.alternatives[0].transcript and final["finalized"]
    assert (final["result"], final["status"], final["words"]) == ("Final", "NOT_FOUND", 0)
    assert of(ran, "InterimTranscriptionFrame") and ran["errors"] == []
    metrics = {name for frame in of(ran, "MetricsFrame") for name in frame["metrics"]}
    assert {"TTFBMetricsData", "STTUsageMetricsData"} <= metrics


def test_utterances_that_end_by_themselves(pipecat: RemoteClient, shared: Any, pcm: bytes, raw: str) -> None:
    ran = run(pipecat, shared, ["audio", raw], ["silence", 2.0], FIRST_FINAL, settings={"word_times": True})
    expected = shared.finals(pcm + bytes(64_000), automatic_punctuation=True)
    texts = [result.alternatives[0].transcript for result in expected]
    assert finals(ran) == [text for text in texts if text]
    assert all(frame["words"] == len(frame["text"].split()) for frame in of(ran, "TranscriptionFrame"))
    assert all(frame["finalized"] for frame in of(ran, "TranscriptionFrame")), "nothing is waited for"
    assert "LikelyFinal" in {frame["result"] for frame in of(ran, "InterimTranscriptionFrame")}
    assert not of(ran, "EagerTranscriptionFrame", "ProposedUserStartedSpeakingFrame")


def test_frames_of_two_channels(pipecat: RemoteClient, patient: Any, pcm: bytes, raw: str) -> None:
    ran = run(pipecat, patient, ["started"], ["stereo", raw], ["stopped"], FIRST_FINAL)
    (expected,) = patient.finals(pcm, automatic_punctuation=True)
    assert of(ran, "TranscriptionFrame")[0]["text"] == expected.alternatives[0].transcript


def test_a_transcript_of_what_was_said_before_a_pause_is_not_the_last(
    pipecat: RemoteClient, shared: Any, raw: str
) -> None:
    """The voice activity detection says that speech has ended while a transcript of its beginning is on its way."""
    said: list[list[Any]] = [["audio", raw], ["silence", 2.0]]
    ran = run(pipecat, shared, ["started"], *said, *said, *said, ["audio", raw], ["stopped"], ["nothing", 0.5])
    stopped = [frame["type"] for frame in ran["frames"]].index("VADUserStoppedSpeakingFrame")
    late = [frame for frame in ran["frames"][stopped:] if frame["type"] == "TranscriptionFrame"]
    assert [frame["finalized"] for frame in late] == [frame["end_s"] > 17.8 for frame in late]
    assert len(late) > 1 and late[-1]["finalized"]


def test_the_end_of_the_audio_brings_the_last_transcript(pipecat: RemoteClient, patient: Any, raw: str) -> None:
    assert finals(run(pipecat, patient, ["audio", raw]))


def test_the_servers_endpointing_leads(pipecat: RemoteClient, shared: Any, raw: str) -> None:
    ran = run(
        pipecat, shared, ["audio", raw], ["silence", 2.0], FIRST_FINAL,
        service={"turn_detection": True, "enable_eager_end_of_turn": True},
    )  # fmt: skip
    (metadata,) = of(ran, "STTMetadataFrame")
    assert (metadata["strategies"], metadata["ttfs"]) == ("EagerUserTurnStrategies", 0.0)
    turns = of(
        ran, "ProposedUserStartedSpeakingFrame", "ProposedUserStoppedSpeakingFrame", "EagerTranscriptionFrame",
        "TranscriptionFrame",
    )  # fmt: skip
    kinds = [frame["type"] for frame in turns]
    assert kinds[0] == "ProposedUserStartedSpeakingFrame"
    assert ("TranscriptionFrame", "ProposedUserStoppedSpeakingFrame") in pairwise(kinds)
    assert any(
        (kind, after) == ("EagerTranscriptionFrame", "TranscriptionFrame") and early["text"] == late["text"]
        for (kind, after), (early, late) in zip(pairwise(kinds), pairwise(turns), strict=True)
    )
    proposed = [kind for kind in kinds if kind.startswith("Proposed")]
    assert all(kind != after for kind, after in pairwise(proposed))


def test_a_likely_final_that_was_wrong_is_withdrawn(pipecat: RemoteClient, patient: Any, raw: str) -> None:
    ran = run(
        pipecat, patient, ["audio", raw], ["silence", 1.0], ["wait", "EagerTranscriptionFrame", 1], ["audio", raw],
        ["wait", "EagerEndOfTurnCancelFrame", 1],
        service={"turn_detection": True, "enable_eager_end_of_turn": True},
        settings={"likely_silence_s": 0.4},
    )  # fmt: skip
    assert of(ran, "EagerEndOfTurnCancelFrame")


def test_settings_change_while_it_runs(pipecat: RemoteClient, patient: Any, raw: str) -> None:
    said = [["audio", raw], ["stopped"]]
    ran = run(
        pipecat, patient, *said, FIRST_FINAL, ["settings", {"phrases": {"v": 1.0, "☃": 1.0}}], *said,
        ["wait", "TranscriptionFrame", 2], ["settings", {"word_times": True}], *said,
        ["wait", "TranscriptionFrame", 3],
    )  # fmt: skip
    first, second, third, *_ = of(ran, "TranscriptionFrame")
    assert first["signals"] == [] and second["signals"] == ["speech_contexts"], "the phrase is in use"
    assert second["words"] == 0 and third["words"] > 0 and third["signals"] == ["speech_contexts"]
    assert ran["connected"] == 2 and ran["errors"] == []


def test_endpointing_changes_while_it_runs(pipecat: RemoteClient, patient: Any, raw: str) -> None:
    endpointing = {"likely_silence_s": 0.3, "trailing_silence_s": 0.5}
    ran = run(
        pipecat, patient, ["silence", 0.1], ["wait", "connected", 1], ["settings", endpointing], ["audio", raw],
        ["silence", 2.0], FIRST_FINAL,
    )  # fmt: skip
    assert of(ran, "TranscriptionFrame")[0]["end_s"] < 4.5


def test_a_stream_that_ends_is_followed_by_another(pipecat: RemoteClient, workshop: Any, raw: str) -> None:
    replica = workshop.start(limits__stream_seconds=4)
    ran = run(
        pipecat, replica, ["audio", raw], ["silence", 2.0], ["wait", "broken", 1], ["audio", raw], ["stopped"],
        ["wait", "TranscriptionFrame", 2],
    )  # fmt: skip
    assert len(finals(ran)) >= 2 and ran["connected"] == 2 and ran["errors"] == []


def test_a_broken_stream_loses_nothing(pipecat: RemoteClient, workshop: Any, pcm: bytes, raw: str) -> None:
    """Another server takes the place of one that goes away in the middle of an utterance."""
    replica = workshop.start(drain_s=0, **UNENDING)
    others: list[Any] = []
    ran = run(
        pipecat, replica, ["started"], ["audio", raw], ["wait", "broken", 1], ["stopped"], FIRST_FINAL,
        before_audio=lambda: others.append(replaced(workshop, replica, **UNENDING)),
    )  # fmt: skip
    (expected,) = others[0].finals(pcm, automatic_punctuation=True)
    final, *_ = of(ran, "TranscriptionFrame")
    assert (final["text"], final["finalized"]) == (expected.alternatives[0].transcript, True)


def test_while_a_server_is_away_nothing_is_lost(
    pipecat: RemoteClient, workshop: Any, pcm: bytes, raw: str, hangs_up: Any
) -> None:
    """Whoever listens hangs up at once, until a server takes the place."""
    started: list[Any] = []

    def replace() -> None:
        until(lambda: hangs_up.calls > 4)
        hangs_up.close()
        started.append(workshop.start(port=hangs_up.port, **UNENDING))

    ran = run(
        pipecat, hangs_up, ["audio", raw], ["wait", "connected", 1], ["stopped"], FIRST_FINAL, before_audio=replace
    )
    assert of(ran, "TranscriptionFrame")[0]["end_s"] == pytest.approx(len(pcm) / 32_000, abs=0.001)
    assert len(ran["errors"]) > 1


def test_without_a_server_it_keeps_trying(pipecat: RemoteClient, workshop: Any, raw: str) -> None:
    replica = workshop.start()
    workshop.replicas.remove(replica)
    replica.close()
    ran = run(pipecat, replica, ["audio", raw], ["wait", "ErrorFrame", 2])
    assert {category for category, _ in ran["errors"]} == {"connectivity"} and ran["connected"] == 0


def test_a_wrong_setting_ends_it_until_it_is_right(pipecat: RemoteClient, shared: Any, raw: str) -> None:
    ran = run(
        pipecat, shared, ["audio", raw], ["wait", "ErrorFrame", 1], ["settings", {"trailing_silence_s": 0.8}],
        ["audio", raw], ["wait", "connected", 1], settings={"trailing_silence_s": 900.0},
    )  # fmt: skip
    ((category, message),) = ran["errors"]
    assert category == "invalid_request" and "trailing_silence_s" in message


def test_a_stream_waits_for_the_first_audio(pipecat: RemoteClient, workshop: Any, raw: str) -> None:
    """Without any a server ends a stream after a while."""
    replica = workshop.start(limits__idle_seconds=1, **UNENDING)
    ran = run(pipecat, replica, ["nothing", 1.5], ["audio", raw], ["nothing", 1.5], ["audio", raw])
    assert finals(ran) and ran["connected"] == 1 and ran["errors"] == []


def read(replica: Any, ran: dict[str, Any]) -> Any:
    """What the encoder read of the last turn."""
    replica.wait_for("READY", ran["dialogue"], ran["turn"])
    return replica.encoder.seen[-1]


HEARD = ["frame", "LLMContextUserTurnFrame", {"text": "call meg", "timestamp": ""}]
RECORDED = ["recorded"]


def test_the_text_is_recorded_as_it_is_written(pipecat: RemoteClient, workshop: Any) -> None:
    replica = workshop.start()
    tool = {"function_name": "find", "tool_call_id": "1", "arguments": {}, "result": [{"name": "Meg Bauer", "id": 17}]}
    other = tool | {"function_name": "other", "result": ["Lamp"]}
    ran = run(
        pipecat, replica, ["write", "hello"], RECORDED, HEARD, ["frame", "FunctionCallResultFrame", tool],
        ["frame", "FunctionCallResultFrame", other], ["write", "Do you mean ", "Meg Bauer?"],
        ["frame", "LLMContextAssistantTurnFrame", {"text": "Do you mean Meg Bauer?", "timestamp": ""}],
        tools={"find": "contacts"}, behind="tts",
    )  # fmt: skip
    context = read(replica, ran)
    question = Turn("system", "Do you mean Meg Bauer?")
    assert context.turns == (Turn("system", "hello"), Turn("user", "call meg"), question)
    assert context.entries == (Entry("contacts", "Meg Bauer", "17"),)


def test_an_interruption_corrects_the_text(pipecat: RemoteClient, workshop: Any) -> None:
    replica = workshop.start()
    ran = run(
        pipecat, replica, HEARD, ["write", QUESTION], RECORDED, ["frame", "InterruptionFrame", {}],
        ["frame", "LLMContextAssistantTurnFrame", {"text": "Do you mean Meg Jones", "timestamp": ""}],
        behind="tts",
    )  # fmt: skip
    assert [turn.text for turn in read(replica, ran).turns] == ["call meg", QUESTION, "Do you mean Meg Jones"]


def test_what_is_written_anew_before_it_is_spoken_counts(pipecat: RemoteClient, workshop: Any) -> None:
    replica = workshop.start()
    ran = run(pipecat, replica, HEARD, ["write", QUESTION], behind="guard")
    assert [turn.text for turn in read(replica, ran).turns] == ["call meg", "Whom do you mean?"]


def test_what_is_not_spoken_is_not_recorded(pipecat: RemoteClient, workshop: Any) -> None:
    """Another language model's text, and one that is not meant to be spoken; what is goes to two services."""
    replica = workshop.start()
    ran = run(
        pipecat, replica, HEARD, ["wait", "LLMTextFrame", 1], ["write unspoken", "Meg Jones?"], ["write", QUESTION],
        behind="classifier",
    )  # fmt: skip
    assert [turn.text for turn in read(replica, ran).turns] == ["call meg", QUESTION]
    assert read(replica, ran).turns == replica.encoder.seen[0].turns, "recorded once"


def test_what_is_known_at_the_start_counts_for_the_first_utterance(
    pipecat: RemoteClient, shared: Any, raw: str
) -> None:
    ran = run(pipecat, shared, ["recorded"], ["audio", raw], ["stopped"], FIRST_FINAL, entities={"contacts": ["Meg"]})
    assert of(ran, "TranscriptionFrame")[0]["status"] == "APPLIED"


def test_what_comes_after_a_mute_is_another_utterance(pipecat: RemoteClient, patient: Any, raw: str) -> None:
    ran = run(pipecat, patient, ["audio", raw], ["frame", "STTMuteFrame", {"mute": True}], FIRST_FINAL)
    assert finals(ran)


def test_the_end_waits_for_no_server_that_is_away(pipecat: RemoteClient, workshop: Any, raw: str) -> None:
    replica = workshop.start()
    workshop.replicas.remove(replica)
    replica.close()
    ran = run(pipecat, replica, ["audio", raw], ["wait", "ErrorFrame", 1], ["time"])
    assert ran["ended_s"] < 4.0


def test_without_the_observer_the_text_comes_later(pipecat: RemoteClient, workshop: Any) -> None:
    replica = workshop.start()
    spoken = ["frame", "LLMContextAssistantTurnFrame", {"text": QUESTION, "timestamp": ""}]
    ran = run(pipecat, replica, HEARD, ["write", "not spoken"], spoken, observed=False)
    assert [turn.text for turn in read(replica, ran).turns] == ["call meg", QUESTION]


def test_what_is_said_without_a_language_model_is_recorded_too(pipecat: RemoteClient, workshop: Any) -> None:
    replica = workshop.start()
    ran = run(pipecat, replica, ["frame", "TTSSpeakFrame", {"text": "hello"}], behind="tts")
    assert [turn.text for turn in read(replica, ran).turns] == ["hello"]


@pytest.mark.parametrize("one", FOLLOW_UPS, ids=lambda one: one.answer)
def test_a_dialogue_of_two_turns(pipecat: RemoteClient, shipped: Any, wavs: Path, one: FollowUp) -> None:
    """The reply lasts 2 s: its text is recorded more than a second before it ends, and the context is ready."""
    said = [str(wavs / f"{name}.wav") for name in (one.first, one.answer)]
    call = {"server": f"127.0.0.1:{shipped.port}", "recordings": said, "question": one.question, "names": one.names}
    (held,) = pipecat("dialogue", benchmark=BENCHMARK, dialogue=call)
    texts = [name.replace("_", " ") for name in (one.first, one.answer)]
    assert [text.lower().rstrip(".") for text, _ in held["finals"]] == texts
    assert held["finals"][-1][1] == "APPLIED"
    assert held["playback_ended"] - held["recorded"] >= 1.0
    assert held["ready"] < held["answer_began"]


def test_the_user_answers_in_the_middle_of_the_question(pipecat: RemoteClient, shipped: Any, wavs: Path) -> None:
    said = [str(wavs / "call_meg.wav"), str(wavs / "bauer.wav")]
    (held,) = pipecat(
        "barge_in", target=f"127.0.0.1:{shipped.port}", recordings=said, question=QUESTION, example=EXAMPLE
    )
    _, asked, cut, *_ = held["recorded"]
    assert (asked["user"], asked["reply"]) == ("Call Meg.", QUESTION)
    assert cut["turn"] == asked["turn"] and QUESTION.startswith(cut["reply"]) and len(cut["reply"]) < len(QUESTION)
    assert [text for text, _ in held["finals"]] == ["Call Meg.", "Bauer."] and held["finals"][-1][1] == "APPLIED"


def test_the_example(shipped: Any, site: Path, wavs: Path) -> None:
    with skip_where_out_of_reach():
        python = environment_with(PIPECAT)
    command = [
        str(python),
        EXAMPLE,
        f"127.0.0.1:{shipped.port}",
        *(str(wavs / name) for name in ("call_meg.wav", "bauer.wav")),
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, answer = done.stdout.splitlines()
    assert first.endswith(" Call Meg.") and answer == "APPLIED Bauer."


def test_the_readme(pipecat: RemoteClient) -> None:
    (code,) = blocks("clients/pipecat/README.md", "python")
    assert len(code.strip().splitlines()) <= 12
    (made,) = pipecat("pasted", code=code, example=EXAMPLE)
    assert made == {"worker": "PipelineWorker", "entities": ["contacts"]}
