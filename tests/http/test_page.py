"""The page in a real browser with a microphone that plays a recording."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import soxr

from asr.audio import Samples
from asr.context.checkpoint import ContextModels
from asr.recognition.recognizer import Recognizer
from context_store import StoreConfig, WrappingKey
from server.access import make_key
from tests.http.conftest import metric
from tests.support.remote_client import RemoteClient, remote_client
from tests.support.replicas import Clock, Replica, Workshop
from tests.support.waiting import until

PROGRAM = Path(__file__).parent / "page_client.py"
PACKAGES = ("playwright==1.65.2", "axe-playwright-python==0.1.8")
SPOKEN = Path("server/demo/audio/bauer.flac")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteClient]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    home = str(tmp_path_factory.mktemp("home"))
    with remote_client(PROGRAM, PACKAGES, PATH=os.environ["PATH"], HOME=home, NO_PROXY="127.0.0.1") as client:
        yield lambda **call: client("steps", browser=found, **call)  # type: ignore[misc]


@pytest.fixture(scope="module")
def talking(tables: StoreConfig, key: WrappingKey) -> Iterator[Replica]:
    """A server with the shipped models."""
    recognizer = Recognizer.load()
    models = ContextModels.load(None, recognizer.models)
    shop = Workshop(recognizer, tables, key)
    yield shop.start(http_port=0, encoder=models.encoder, rescorer=models.rescorer, clock=cast(Clock, time.time))
    shop.close()


def microphone(path: Path, samples: Samples, rate: int) -> str:
    """A recording as the browser's microphone plays it, again and again: silence, the speech, more silence."""
    speech = samples if rate == 48_000 else soxr.resample(samples, rate, 48_000)
    audio = np.concatenate([np.zeros(48_000), speech, np.zeros(5 * 48_000)])
    audio += np.random.default_rng(0).normal(0, 1e-4, len(audio))
    soundfile.write(path, audio, 48_000, subtype="PCM_16")
    return str(path)


def page(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.server.http_port}/"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_a_follow_up(browser: Any, talking: Replica, tmp_path: Path, width: int, scheme: str) -> None:
    samples, rate = soundfile.read(SPOKEN, dtype="float32")
    steps = [
        ["goto", page(talking)], ["wait", ".server.up"], ["axe"],
        ["click", "#ask"], ["wait", "#result-body:not([hidden])"],
        ["text", "#plain"], ["text", "#final"], ["text", "#final mark"], ["text", "#status"],
        ["rows", "#why"], ["rows", "#nbest"], ["text", "#window-text"], ["text", "#commands"],
        ["click", "#again"], ["wait", "#again-result:not([hidden])"], ["text", "#again-result"],
        ["axe"], ["evaluate", "document.documentElement.scrollWidth"], ["evaluate", "painted"],
        ["screenshot", str(tmp_path / "page.png")],
    ]  # fmt: skip
    call = {"steps": steps, "width": width, "scheme": scheme}
    found, addresses, problems = browser(microphone=microphone(tmp_path / "mic.wav", samples, rate), **call)
    told = dict(zip([" ".join(step[:2]) for step in steps], found, strict=True))
    assert told["text #final"] == told["text #final mark"] == "bauer" != told["text #plain"]
    assert told["text #status"].startswith("APPLIED")
    assert told["rows #why"][0][:3] == ["bauer", "Meg Bauer", "contacts"]
    ranks, without, texts, _, adds, _, origins = zip(*told["rows #nbest"], strict=True)
    assert texts[0] == "bauer" and ranks[:2] == ("1", "2") and {"context", "heard first"} <= {*origins}
    assert without[0] != "1" == without[origins.index("heard first")] and float(adds[0]) > 0
    assert re.search(r"ready \d+ ms after it was recorded", told["text #window-text"])
    assert re.search(r"You began to speak at .* The final result was there at", told["text #window-text"])
    assert "RecordEvents" in told["text #commands"] and "--turn 2" in told["text #commands"]
    assert told["text #again-result"] == (
        f"The same audio without any context: “{told['text #plain']}”, as heard above."
    )
    assert [one for step, one in zip(steps, found, strict=True) if step == ["axe"]] == [[], []]
    assert told["evaluate document.documentElement.scrollWidth"] <= width
    painted = told["evaluate painted"]
    assert painted and painted[0]["shown"] == painted[0]["sent"]
    assert min(one["ms"] for one in painted) < 100
    assert problems == [] and {urlsplit(one).netloc for one in addresses} <= {urlsplit(page(talking)).netloc, ""}


@pytest.fixture
def chirps(tmp_path: Path, speech: Samples) -> str:
    """What the tiny model takes for words, as the microphone plays it."""
    return microphone(tmp_path / "mic.wav", speech, 16_000)


def test_without_context(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0, context__enabled=False)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["click", "#speak"], ["click", "#ask"],
        ["until", "#announce", "Final result"], ["text", "#status"], ["until", "#window-text", "switched off"],
        ["text", "#mic-state"],
    ]  # fmt: skip
    found, _, _ = browser(microphone=chirps, steps=steps)
    assert found[5].startswith("DISABLED") and found[-1] == "Press to talk again."


def test_an_erasure_that_fails_can_be_repeated(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["click", "#speak"], ["click", "#ask"],
        ["until", "#announce", "Final result"], ["click", "#ask"], ["until", "#announce", "Listening"],
        ["until", "#announce", "Final result"], ["text", "#dialogue-id"], ["offline", True], ["click", "#erase"],
        ["until", "#mic-state", "not reachable"], ["text", "#dialogue-id"], ["offline", False], ["click", "#erase"],
        ["until", "#mic-state", "Erased"], ["text", "#dialogue-id"],
    ]  # fmt: skip
    found, _, _ = browser(microphone=chirps, steps=steps)
    assert found[8] == found[12] != found[-1]
    erased = metric(replica, "calls_total", method="http.DeleteDialogue", code="OK")
    assert erased == 2  # the question was asked twice, in a dialogue of its own each time


@pytest.fixture
def quiet(tmp_path: Path) -> str:
    """A microphone into which nobody speaks."""
    return microphone(tmp_path / "mic.wav", np.zeros(1, np.float32), 48_000)


def test_a_key(browser: Any, workshop: Workshop, chirps: str, tmp_path: Path) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"))
    steps = [
        ["goto", page(replica)], ["wait", "#key-form:not([hidden])"], ["axe"],
        ["fill", "#key", "co_no"], ["press", "Enter"], ["until", "#key-state", "not known"], ["text", "#announce"],
        ["fill", "#key", secret], ["press", "Enter"], ["wait", ".server.up"],
        ["evaluate", "document.activeElement.id"], ["click", "#speak"],
        ["click", "#ask"], ["wait", "#result-body:not([hidden])"], ["text", "#status"], ["text", "#commands"],
    ]  # fmt: skip
    found, addresses, _ = browser(microphone=chirps, steps=steps)
    assert found[2] == [] and "not known" in found[6] and found[10] == "ask"
    assert found[-2].startswith("APPLIED")
    assert not any(secret in address for address in addresses) and secret not in found[-1]
    assert '"authorization: Bearer $KEY"' in found[-1]


def test_a_browser_that_keeps_nothing(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    blocked = """
        Object.defineProperty(window, "sessionStorage", {
            get() { throw new DOMException("blocked", "SecurityError"); },
        });
    """
    steps = [["goto", page(replica)], ["wait", ".server.up"], ["click", "#mic"], ["until", "#announce", "Final result"]]
    assert browser(microphone=chirps, steps=steps, script=blocked)[2] == []


def test_by_keyboard_and_ear(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    active = "document.activeElement.id || document.activeElement.className"
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"],
        ["press", "Tab"], ["evaluate", active], ["press", "Enter"], ["evaluate", active],
        ["press", "Tab"], ["evaluate", active], ["press", "Enter"],
        ["wait", "#mic[aria-pressed=true]"],
        ["until", "#announce", "Final result"], ["text", "#announce"],
        ["evaluate", "document.getElementById('mic').getAttribute('aria-pressed')"], ["text", "#mic"],
    ]  # fmt: skip
    found, _, problems = browser(microphone=chirps, steps=steps)
    assert (found[3], found[5], found[7]) == ("skip", "answer", "mic")
    assert found[11].endswith("Context: NOT_REQUESTED.") and found[12:] == ["false", "Listen"] and problems == []


def test_a_recording_is_dropped_and_the_dialogue_goes_on(
    browser: Any, workshop: Workshop, chirps: str, wav: str
) -> None:  # fmt: skip
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["click", "#examples button:nth-child(3)"],
        ["click", "#speak"],
        ["files", "#file", wav], ["wait", "#result-body:not([hidden])"], ["text", "#status"],
        ["click", "#ask"], ["until", "#status", "APPLIED"],
        ["text", "#final"], ["click", "#go-on"], ["text", "#history"], ["evaluate", "utterance.value"],
        ["fill", "#reply", "Anything else?"], ["click", "#add-signal"],
        ["fill", ".signal:last-child textarea", "Berlin\nParis"],
        ["click", "#ask"], ["until", "#commands", "--turn 3"],
        ["text", "#commands"], ["until", "#window-text", "was ready"], ["click", "#erase"],
        ["until", "#announce", "Erased"],
        ["text", "#dialogue-id"],
    ]  # fmt: skip
    found, _, problems = browser(microphone=chirps, steps=steps)
    assert problems == [] and found[6].startswith("NOT_REQUESTED")
    assert found[12] == found[9] == "timewise"  # the first phrase that this server's services know
    assert "convenience store" in found[11] and '{"signal":"places","entries":["Berlin","Paris"]}' in found[18]
    dialogue = re.search(r'"dialogue_id": "(page-\w+)"', found[18])
    assert dialogue is not None and dialogue[1] != found[-1]


def test_a_server_that_ends(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    gone = "(async () => { while (await fetch('health').then(() => true, () => false)); })()"
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["evaluate", gone],
        ["click", "#mic"], ["until", "#mic-state", "The server is not reachable."], ["wait", ".server.down"],
        ["text", "#server"], ["evaluate", "document.getElementById('mic').getAttribute('aria-pressed')"],
    ]  # fmt: skip

    def end() -> None:
        until(lambda: metric(replica, "calls_total", method="http.GetServerInfo", code="OK"))
        assert replica.server.listener is not None
        replica.run(replica.server.listener.close())

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end)
        found, _, _ = browser(microphone=chirps, steps=steps)
        ended.result()
    assert found[-2:] == ["the server does not answer", "false"]


def test_a_server_that_ends_in_mid_stream(browser: Any, workshop: Workshop, quiet: str) -> None:
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["click", "#mic"], ["until", "#announce", "server"],
        ["text", "#announce"],
    ]  # fmt: skip

    def end() -> None:
        until(lambda: replica.server.streams.running)
        assert replica.server.listener is not None
        replica.run(replica.server.listener.close())

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end)
        found, _, _ = browser(microphone=quiet, steps=steps)
        ended.result()
    assert found[-1] in ("the server ended the stream before its result", "The server is not reachable.")


def test_a_server_that_comes_back(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["offline", True],
        ["click", "#mic"], ["until", "#mic-state", "The server is not reachable."], ["wait", ".server.down"],
        ["offline", False], ["click", "#mic"], ["until", "#announce", "Final result"], ["wait", ".server.up"],
    ]  # fmt: skip
    browser(microphone=chirps, steps=steps)


@pytest.mark.slow
def test_nobody_answers(browser: Any, talking: Replica, quiet: str) -> None:
    pressed = "document.getElementById('mic').getAttribute('aria-pressed')"
    steps = [
        ["goto", page(talking)], ["wait", ".server.up"], ["click", "#mic"],
        ["until", "#mic-state", "Nothing was heard."], ["evaluate", pressed],
    ]  # fmt: skip
    assert browser(microphone=quiet, steps=steps)[0][-1] == "false"


def test_a_microphone_that_goes_away(browser: Any, workshop: Workshop, quiet: str) -> None:
    replica = workshop.start(http_port=0)
    kept = """
        const media = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.media = await media(wanted));
    """
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["click", "#mic"], ["until", "#mic-state", "Listening"],
        ["evaluate", "media.getTracks()[0].dispatchEvent(new Event('ended'))"],
        ["text", "#mic-state"], ["evaluate", "document.getElementById('mic').getAttribute('aria-pressed')"],
    ]  # fmt: skip
    assert browser(microphone=quiet, steps=steps, script=kept)[0][-2:] == ["The microphone is gone.", "false"]


VOICE = """
window.said = [];
window.cancelled = 0;
Object.defineProperty(window, "speechSynthesis", { value: {
  speaking: false,
  pending: false,
  getVoices: () => [{ name: "of a test" }],
  cancel() { cancelled += 1; this.speaking = false; },
  speak(utterance) {
    said.push(utterance.text);
    if (WAY === "never begins") return;
    this.speaking = true;
    utterance.onstart({});
    if (WAY === "goes on") return;
    setTimeout(() => {
      this.speaking = false;
      if (WAY === "ends") utterance.onend({});
    }, 300);
  },
} });
"""
"""A browser's voice, which this one has not, with the ways in which some of them are broken."""


@pytest.mark.parametrize("way", ["ends", "never begins", "says no end", "goes on"])
def test_a_voice(browser: Any, workshop: Workshop, chirps: str, way: str) -> None:
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["fill", "#reply", "Which Meg?"], ["click", "#ask"],
        ["until", "#announce", "Final result"], ["evaluate", "said"], ["text", "#window-text"], ["text", "#status"],
    ]  # fmt: skip
    found, _, problems = browser(microphone=chirps, steps=steps, script=VOICE.replace("WAY", repr(way)))
    assert found[5] == ["Which Meg?"] and found[7].startswith("APPLIED") and problems == []
    assert found[6].startswith("The browser has no voice" if way == "never begins" else "The question took")


def test_a_voice_is_cut_short(browser: Any, workshop: Workshop, chirps: str) -> None:
    question = "Which Meg do you mean? " * 20
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["fill", "#reply", question],
        ["click", "#ask"], ["until", "#timeline", "ready after"], ["evaluate", "cancelled"], ["click", "#mic"],
        ["until", "#announce", "Final result"], ["evaluate", "cancelled"], ["evaluate", "said"], ["text", "#status"],
    ]  # fmt: skip
    found, _, _ = browser(microphone=chirps, steps=steps, script=VOICE.replace("WAY", "'goes on'"))
    assert found[8] > found[5] and found[10].startswith("APPLIED")
    assert len(found[9]) > 2 and all(len(one) <= 150 for one in found[9])
    assert " ".join(found[9]).split() == question.split()


def test_a_long_recording(browser: Any, workshop: Workshop, chirps: str, wav: str) -> None:
    replica = workshop.start(http_port=0, endpoint__max_utterance_s=1)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["files", "#file", wav],
        ["until", "#announce", "Final result"], ["text", "#final"], ["rows", "#nbest"], ["text", "#live"],
        ["click", "#again"], ["until", "#again-result", "as heard above"], ["click", "#go-on"],
        ["evaluate", "utterance.value"], ["text", "#window-text"],
    ]  # fmt: skip
    found, _, problems = browser(microphone=chirps, steps=steps)
    first = [row[2] for row in found[5] if row and row[0] == "1"]
    assert len(first) > 1 and problems == []
    assert found[4] == found[10] == " ".join(first) and found[4].endswith(found[6])
    assert "The recording lasts" in found[11]


def test_a_new_dialogue_knows_nothing_of_the_old_one(browser: Any, workshop: Workshop, chirps: str, wav: str) -> None:
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"],
        ["files", "#file", wav], ["wait", "#result-body:not([hidden])"],
        ["click", "#go-on"], ["text", "#history"],  # nothing was asked
        ["click", "#examples button:nth-child(1)"], ["click", "#speak"], ["click", "#ask"],
        ["wait", "#result-body:not([hidden])"], ["fill", "#reply", "not what was asked"],
        ["click", "#go-on"], ["click", "#go-on"], ["text", "#history"],
        ["click", "#examples button:nth-child(2)"], ["text", "#history"], ["text", "#live"], ["text", "#commands"],
        ["evaluate", "document.getElementById('result-body').hidden"],
    ]  # fmt: skip
    found, _, problems = browser(microphone=chirps, steps=steps)
    assert problems == [] and found[5] == "" and found[-4:-2] == ["", ""] and found[-1] is True
    assert found[13].count("Do you mean") == 1 and "not what was asked" not in found[13]
    assert "RecordEvents" not in found[-2] and "dialogue" not in found[-2]


def test_texts_are_never_markup(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    hostile = '<img src=x onerror="hacked=1">&amp;\u202e🎉' + "W" * 70
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["click", "#speak"],
        ["fill", "#utterance", hostile], ["fill", "#reply", hostile * 3], ["fill", ".signal textarea", hostile[-100:]],
        ["fill", ".signal input", "<b>"], ["click", "#ask"], ["wait", "#result-body:not([hidden])"],
        ["click", "#go-on"], ["text", "#history"], ["text", "#commands"],
        ["evaluate", "document.images.length"], ["evaluate", "document.documentElement.scrollWidth"],
    ]  # fmt: skip
    found, _, problems = browser(microphone=chirps, steps=steps, width=360)
    assert problems == [] and hostile in found[10] and "<b>" in found[11]
    assert found[-2:] == [1, 360]


def test_a_recording_is_dropped_beside(browser: Any, workshop: Workshop, chirps: str) -> None:
    replica = workshop.start(http_port=0)
    dropped = """
        (() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["no audio"], "notes.txt"));
            const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
            document.querySelector("footer").dispatchEvent(event);
            return event.defaultPrevented;
        })()
    """
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["evaluate", dropped],
        ["until", "#mic-state", "notes.txt is no audio"],
    ]  # fmt: skip
    assert browser(microphone=chirps, steps=steps)[0][2] is True


def test_a_file_that_is_no_audio(browser: Any, workshop: Workshop, chirps: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    replica = workshop.start(http_port=0)
    steps = [
        ["goto", page(replica)], ["wait", ".server.up"], ["files", "#file", str(tmp_path / "notes.txt")],
        ["until", "#mic-state", "no audio that"],
    ]  # fmt: skip
    browser(microphone=chirps, steps=steps)
