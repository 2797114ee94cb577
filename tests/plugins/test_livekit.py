"""LiveKit's plugin in real sessions without a room, against real servers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asr.context.types import Entry
from benchmarks.voice_agents.follow_ups import FOLLOW_UPS, FollowUp
from tests.clients.test_steering import UNENDING
from tests.plugins.conftest import replaced
from tests.support.frameworks import CLIENTS, LIVEKIT, install
from tests.support.pages import blocks
from tests.support.registry import environment_with, skip_where_out_of_reach
from tests.support.remote_client import RemoteClient, remote_client
from tests.support.replicas import Workshop

pytestmark = pytest.mark.slow
BENCHMARK = str(CLIENTS.parent / "benchmarks/voice_agents/livekit_dialogues.py")
EXAMPLE = str(CLIENTS / "livekit/example.py")
QUESTION = "Do you mean Meg Jones or Meg Bauer?"
FIRST_FINAL = ["wait", "final_transcript", 1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("livekit"), "python", "livekit")


@pytest.fixture(scope="module")
def livekit(site: Path) -> Iterator[RemoteClient]:
    program = Path(__file__).parent / "livekit_program.py"
    with remote_client(program, LIVEKIT, PATH=os.environ["PATH"], PYTHONPATH=str(site)) as client:
        yield client


@pytest.fixture(scope="module")
def patient(tiny_recognizer: Any, tables: Any, key: Any) -> Iterator[Any]:
    """A replica whose utterances end only when they are finalized."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop.start(**UNENDING)
    shop.close()


def target(replica: Any) -> str:
    return f"127.0.0.1:{replica.port}"


def stream(livekit: RemoteClient, replica: Any, *steps: list[Any], **options: Any) -> dict[str, Any]:
    (ran,) = livekit("stream", target=target(replica), steps=steps, options=options)
    assert isinstance(ran, dict)
    return ran


def of(ran: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in ran["events"] if event["type"] == kind]


def texts(ran: dict[str, Any]) -> list[str]:
    return [event["text"] for event in of(ran, "final_transcript")]


def test_utterances_that_end_by_themselves(livekit: RemoteClient, shared: Any, pcm: bytes, raw: str) -> None:
    ran = stream(livekit, shared, ["audio", raw], ["silence", 2.0], FIRST_FINAL, max_alternatives=2)
    expected = shared.finals(pcm + bytes(64_000), automatic_punctuation=True, enable_word_time_offsets=True)
    said = [result.alternatives[0] for result in expected if result.alternatives[0].transcript]
    first = of(ran, "final_transcript")[0]
    assert texts(ran)[: len(said)] == [one.transcript for one in said] and ran["errors"] == []
    assert first["words"] == len(said[0].words) and first["end"] == pytest.approx(said[0].words[-1].end, abs=0.5)
    assert first["metadata"]["context"]["status"] == "NOT_FOUND" and first["metadata"]["alternatives"]
    kinds = [event["type"] for event in ran["events"]]
    assert kinds[0] == "start_of_speech" and kinds.index("final_transcript") < kinds.index("end_of_speech")
    assert of(ran, "preflight_transcript")[0]["text"] and of(ran, "interim_transcript")[0]["confidence"] > 0
    assert sum(event["seconds"] for event in of(ran, "recognition_usage")) == pytest.approx(5.0, abs=0.1)


def test_a_flush_finalizes(livekit: RemoteClient, patient: Any, pcm: bytes, raw: str) -> None:
    ran = stream(livekit, patient, ["audio", raw], ["flush"], FIRST_FINAL)
    (expected,) = patient.finals(pcm, automatic_punctuation=True)
    assert texts(ran)[0] == expected.alternatives[0].transcript and ran["ended"] == "NoneType"


def test_key_terms_and_endpointing_change_while_it_runs(livekit: RemoteClient, patient: Any, raw: str) -> None:
    ran = stream(
        livekit, patient, ["audio", raw], ["flush"], FIRST_FINAL, ["keyterms", ["v"]], ["audio", raw], ["flush"],
        ["wait", "final_transcript", 2], ["options", {"likely_silence_s": 0.3, "trailing_silence_s": 0.5}],
        ["audio", raw], ["silence", 2.0], ["wait", "final_transcript", 3],
    )  # fmt: skip
    first, second, *_ = [event["metadata"]["context"]["biased_words"] for event in of(ran, "final_transcript")]
    assert not first and {word["signal"] for word in second} == {"speech_contexts"}


def test_a_stream_that_ends_is_followed_by_another(livekit: RemoteClient, workshop: Any, raw: str) -> None:
    replica = workshop.start(limits__stream_seconds=4)
    ran = stream(
        livekit, replica, ["audio", raw], ["silence", 2.0], FIRST_FINAL, ["error"], ["audio", raw], ["flush"],
        ["wait", "final_transcript", 2],
    )  # fmt: skip
    assert {(kind, recoverable) for kind, recoverable, _ in ran["errors"]} == {("APIConnectionError", True)}
    assert len(texts(ran)) >= 2


def test_a_broken_stream_loses_nothing(livekit: RemoteClient, workshop: Any, pcm: bytes, raw: str) -> None:
    """Another server takes the place of one that goes away in the middle of an utterance."""
    replica = workshop.start(drain_s=0, **UNENDING)
    others: list[Any] = []
    (ran,) = livekit(
        "stream", target=target(replica), steps=[["audio", raw], ["error"], ["audio", raw], ["flush"], FIRST_FINAL],
        before_audio=lambda: others.append(replaced(workshop, replica, **UNENDING)),
    )  # fmt: skip
    (expected,) = others[0].finals(pcm + pcm, automatic_punctuation=True, enable_word_time_offsets=True)
    best, final = expected.alternatives[0], of(ran, "final_transcript")[0]
    assert final["text"] == best.transcript and final["end"] == pytest.approx(best.words[-1].end, abs=0.1)


def test_a_stream_waits_for_the_first_audio(livekit: RemoteClient, workshop: Any, raw: str) -> None:
    """Without any a server ends a stream after a while."""
    replica = workshop.start(limits__idle_seconds=1, **UNENDING)
    ran = stream(livekit, replica, ["flush"], ["nothing", 1.5], ["audio", raw], ["nothing", 1.5], ["audio", raw])
    assert texts(ran) and ran["errors"] == []


def test_errors_are_the_frameworks(livekit: RemoteClient, workshop: Any, shared: Any, raw: str) -> None:
    ran = stream(livekit, shared, ["audio", raw], ["error"], endpointing={"trailing_silence_s": 900.0})
    ((kind, recoverable, message),) = ran["errors"]
    assert (kind, recoverable, ran["ended"]) == ("APIStatusError", False, "APIStatusError")
    assert "trailing_silence_s" in message
    replica = workshop.start()
    workshop.replicas.remove(replica)
    replica.close()
    ran = stream(livekit, replica, ["audio", raw], ["error"])
    assert {kind for kind, *_ in ran["errors"]} == {"APIConnectionError"}
    assert [recoverable for _, recoverable, _ in ran["errors"]] == [True, True, False]


def test_a_server_that_does_not_answer_is_not_waited_for(livekit: RemoteClient, raw: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        (ran,) = livekit("stream", target=place, steps=[["audio", raw], ["error"]], timeout_s=0.5)
    assert [error[:2] for error in ran["errors"]] == [["APITimeoutError", True]] * 2 + [["APITimeoutError", False]]


def test_frames_of_two_channels(livekit: RemoteClient, patient: Any, raw: str, pcm: bytes) -> None:
    """The framework's resampler takes them for one."""
    mono, two = [stream(livekit, patient, [kind, raw], ["flush"], FIRST_FINAL) for kind in ("audio", "stereo")]
    assert of(two, "final_transcript")[0]["end"] == pytest.approx(of(mono, "final_transcript")[0]["end"], abs=0.3)
    assert sum(event["seconds"] for event in of(two, "recognition_usage")) == pytest.approx(3.0, abs=0.1)


def test_a_recording(livekit: RemoteClient, shared: Any, raw: str, pcm: bytes) -> None:
    (ran,) = livekit("recognize", target=target(shared), audio=raw)
    mono, first_of_two = [event | {"metadata": None} for event in ran["events"]]  # the store may answer late
    assert mono == first_of_two and mono["type"] == "final_transcript" and mono["text"]
    assert mono["words"] == len(mono["text"].split())


def read(replica: Any, ran: dict[str, Any]) -> Any:
    """What the encoder read of the last turn."""
    replica.wait_for("READY", ran["dialogue"], ran["turn"])
    return replica.encoder.seen[-1]


@pytest.mark.parametrize("cut", [True, False])
def test_an_interruption_corrects_the_text(livekit: RemoteClient, workshop: Any, cut: bool) -> None:
    replica = workshop.start()
    spoken = "Do you mean Meg Jones" if cut else QUESTION
    (ran,) = livekit("interruption", target=target(replica), text=QUESTION, spoken=spoken, cut=cut, example=EXAMPLE)
    assert [turn.text for turn in read(replica, ran).turns] == list(dict.fromkeys([QUESTION, spoken]))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({}, QUESTION),
        ({"agent": "Behind"}, QUESTION),
        ({"agent": "Shouting"}, QUESTION.upper()),
        ({"adapter": "fallback"}, QUESTION),
    ],
    ids=["mixin", "mixin behind", "node of its own", "adapter"],
)
def test_the_text_is_recorded_while_it_is_spoken(
    livekit: RemoteClient, workshop: Any, call: dict[str, Any], text: str
) -> None:
    replica = workshop.start()
    (ran,) = livekit("early", target=target(replica), text=QUESTION, example=EXAMPLE, **call)
    assert [turn.text for turn in read(replica, ran).turns] == [text] and not ran["spoken"]


@pytest.mark.parametrize(
    "result",
    [
        [{"name": "Meg Bauer", "id": 17}],
        '{"found": [{"name": "Meg Bauer", "id": 17, "muted": false}]}',
        {"status": "ok", "data": {"people": [{"displayName": "Meg Bauer", "id": 17}], "next": None}},
        json.dumps([{"name": f"{'x' * 200} {number}"} for number in range(5000)] + [{"name": "Meg Bauer", "id": 17}]),
    ],
    ids=["list", "JSON", "deep", "long"],
)
def test_entities_of_a_tool(livekit: RemoteClient, workshop: Any, result: Any) -> None:
    replica = workshop.start()
    (ran,) = livekit("tool", target=target(replica), result=result, example=EXAMPLE)
    context = read(replica, ran)
    assert context.entries == (Entry("contacts", "Meg Bauer", "17"),)
    assert [turn.text for turn in context.turns] == ["call meg", "Which one?"]


@pytest.mark.parametrize("one", FOLLOW_UPS, ids=lambda one: one.answer)
def test_a_dialogue_of_two_turns(livekit: RemoteClient, shipped: Any, wavs: Path, one: FollowUp) -> None:
    """The reply lasts 2 s: its text is recorded more than a second before it ends, and the context is ready."""
    said = [str(wavs / f"{name}.wav") for name in (one.first, one.answer)]
    call = {"server": target(shipped), "recordings": said, "question": one.question, "names": one.names}
    (held,) = livekit("dialogue", benchmark=BENCHMARK, dialogue=call)
    texts = [name.replace("_", " ") for name in (one.first, one.answer)]
    assert [text.lower().rstrip(".") for text, _ in held["finals"]] == texts
    assert held["finals"][-1][1] == "APPLIED"
    assert held["playback_ended"] - held["recorded"] >= 1.0
    assert held["ready"] < held["answer_began"]


def test_the_example(shipped: Any, site: Path, wavs: Path) -> None:
    with skip_where_out_of_reach():
        python = environment_with(LIVEKIT)
    command = [str(python), EXAMPLE, target(shipped), *(str(wavs / name) for name in ("call_meg.wav", "bauer.wav"))]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, answer = done.stdout.splitlines()
    assert first.endswith(" Call Meg.") and answer == "APPLIED Bauer."


def test_the_readme(livekit: RemoteClient) -> None:
    (code,) = blocks("clients/livekit/README.md", "python")
    assert len(code.strip().splitlines()) <= 13
    (made,) = livekit("pasted", code=code, example=EXAMPLE)
    assert made == {"assistant": ["ContextAgentMixin", "Agent"], "entities": ["contacts"]}


def test_the_lowest_version_that_is_allowed_is_the_one_that_is_tested(livekit: RemoteClient) -> None:
    project = tomllib.loads((CLIENTS / "livekit/pyproject.toml").read_text())["project"]
    (asked,) = [one for one in project["dependencies"] if one.startswith("livekit-agents")]
    (installed,) = livekit("version", distribution="livekit-agents")
    assert asked == f"livekit-agents>={installed},<2"
