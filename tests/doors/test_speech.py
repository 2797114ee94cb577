"""Real speech and real silence through the other protocols' clients: utterances begin, end, and are answered."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from asr.audio import read_container
from carryover.audio import linear16
from tests.doors import test_google, test_riva
from tests.doors.conftest import attached
from tests.doors.test_google import BOTH, seconds
from tests.support.remote_client import CallError, RemoteClient

DEMO = Path(__file__).parents[2] / "server/demo/audio"
CALL_MEG, BAUER = (linear16(read_container(DEMO / f"{name}.flac")[0]) for name in ("call_meg", "bauer"))


def silence(length_s: float) -> bytes:
    return bytes(2 * int(16_000 * length_s))


@pytest.fixture
def audio(tmp_path: Path) -> Any:
    """Writes pieces of audio one behind the other; gives the path."""

    def write(*pieces: bytes) -> str:
        (tmp_path / "spoken").write_bytes(b"".join(pieces))
        return str(tmp_path / "spoken")

    return write


def events(answers: list[Any]) -> list[str]:
    return [one["speech_event_type"] for one in answers if "speech_event_type" in one]


@BOTH
def test_speech_begins_and_ends(google: RemoteClient, shipped: Any, audio: Any, version: str) -> None:
    spoken = audio(silence(0.5), CALL_MEG, silence(1.5), BAUER, silence(1.5))
    config = test_google.streaming(version, enable_voice_activity_events=True)
    answers = google("stream", **test_google.call(shipped, version, config=config, audio=spoken))
    assert events(answers) == ["SPEECH_ACTIVITY_BEGIN", "SPEECH_ACTIVITY_END"] * 2
    name = "speech_event_time" if version == "v1" else "speech_event_offset"
    times = [seconds(one[name]) for one in answers if "speech_event_type" in one]
    assert times == pytest.approx([0.5, 1.2, 2.8, 3.3], abs=0.25)
    plain = google("stream", **test_google.call(shipped, version, config=test_google.streaming(version), audio=spoken))
    assert not events(plain) and test_google.finals(plain) == test_google.finals(answers)
    assert test_google.finals(plain)[0] == "call meg"


@BOTH
def test_a_stream_ends_where_nobody_speaks(google: RemoteClient, shipped: Any, audio: Any, version: str) -> None:
    timeouts = {"speech_start_timeout": "2s", "speech_end_timeout": "3s"}
    config = test_google.streaming(version, enable_voice_activity_events=True, voice_activity_timeout=timeouts)
    timeout = ["SPEECH_ACTIVITY_TIMEOUT"] if version == "v1" else []
    speech = ["SPEECH_ACTIVITY_BEGIN", "SPEECH_ACTIVITY_END"]
    for pieces, finals, told in (
        ((silence(3), CALL_MEG), [], timeout),
        ((silence(1), CALL_MEG, silence(5), BAUER, silence(1)), ["call meg"], [*speech, *timeout]),
        ((silence(1), CALL_MEG, silence(2)), ["call meg"], speech),
    ):
        asked = test_google.call(shipped, version, config=config, audio=audio(*pieces))
        answers = google("stream", **asked)
        assert (test_google.finals(answers), events(answers)) == (finals, told)
    for name, length in (("speech_end_timeout", "0.2s"), ("speech_start_timeout", "3600s")):
        config = test_google.streaming(version, voice_activity_timeout={name: length})
        with pytest.raises(CallError) as refused:
            google("stream", **test_google.call(shipped, version, config=config, audio=audio(CALL_MEG)))
        assert f"voice_activity_timeout.{name}: send 1 to 600 seconds" in refused.value.details


def test_one_utterance(google: RemoteClient, shipped: Any, audio: Any) -> None:
    config = test_google.streaming("v1", single_utterance=True)
    spoken = audio(CALL_MEG, silence(1.5), BAUER, silence(1.5))
    answers = google("stream", **test_google.call(shipped, "v1", config=config, audio=spoken))
    assert (test_google.finals(answers), events(answers)) == (["call meg"], ["END_OF_SINGLE_UTTERANCE"])
    (place,) = (i for i, one in enumerate(answers) if events([one]))
    assert not any(test_google.finals([one]) for one in answers[:place])
    halfway = google("stream", **test_google.call(shipped, "v1", config=config, audio=audio(CALL_MEG)))
    assert (test_google.finals(halfway), events(halfway)) == (["call meg"], [])  # the client itself ended it


def test_pauses_that_end_an_utterance(google: RemoteClient, riva: RemoteClient, shipped: Any, audio: Any) -> None:
    spoken = audio(CALL_MEG, silence(0.5), BAUER, silence(1.5))
    for sensitivity, count in (("STANDARD", 1), ("SUPERSHORT", 2)):
        config = test_google.streaming("v2", endpointing_sensitivity=f"ENDPOINTING_SENSITIVITY_{sensitivity}")
        answers = google("stream", **test_google.call(shipped, "v2", config=config, audio=spoken))
        assert len(test_google.finals(answers)) == count
    for endpointing, count in (({}, 1), ({"stop_history": -1, "start_history": 300}, 1), ({"stop_history": 320}, 2)):
        config = test_riva.streaming(endpointing_config=endpointing)
        answers = riva("stream", target=test_riva.target(shipped), config=config, audio=spoken)
        assert len(test_riva.finals(answers)) == count


def test_an_utterance_that_the_client_ends(riva: RemoteClient, shipped: Any) -> None:
    def part(pcm: bytes, force: str) -> dict[str, Any]:
        return {"audio_content": base64.b64encode(pcm).decode(), "runtime_config": {"force_eou": force}}

    now = {"runtime_config": {"force_eou": "1"}}
    messages = [
        {"streaming_config": test_riva.streaming(interim=False)},
        part(CALL_MEG, "true"), now, part(silence(1), "false"), part(BAUER, "false"), now,
    ]  # fmt: skip
    answers = riva("requests", target=test_riva.target(shipped), messages=messages)
    results = [result for one in answers for result in one["results"]]
    texts = [result["alternatives"][0].get("transcript", "") for result in results]
    assert len(texts) == 3 and texts[:2] == ["call meg ", ""] and texts[2].strip()
    assert all(result["is_final"] for result in results)


def test_a_follow_up(riva: RemoteClient, google: RemoteClient, shipped: Any, dialogue: str, audio: Any) -> None:
    """The README's: what the assistant asked makes "Bauer" likelier than "power", whoever's client sends the answer."""
    shipped.ask(dialogue, "1", "Meg Jones", "Meg Bauer")
    shipped.wait_for("READY", dialogue)
    config = test_riva.streaming(custom_configuration={"dialogue_id": dialogue, "turn_id": "2"})
    with attached(shipped) as wait:
        place = {"target": test_riva.target(shipped), "audio": audio(BAUER)}
        assert test_riva.finals(riva("stream", config=config, before_audio=wait, **place)) == ["bauer "]
    for version in ("v1", "v2"):
        named = test_google.configuration(version, dialogue=f"dialogue-{dialogue}-turn-2")
        asked = test_google.call(shipped, version, config=test_google.streaming(version, named), audio=audio(BAUER))
        with attached(shipped) as wait:
            assert test_google.finals(google("stream", before_audio=wait, **asked)) == ["bauer"]
