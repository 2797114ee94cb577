"""The demonstration's speech: shipped recordings first, then a synthesiser, else one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from server.demo import synthesis
from server.demo.dialogue import Script


def test_the_default_dialogue_needs_no_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(synthesis, "espeak_wav", lambda text: None)
    script = Script(("Meg Jones", "Meg Bauer"), "Bauer")
    for text in (script.request, script.answer, script.answer.upper()):
        speech = synthesis.speak(text)
        assert 0.2 < len(speech.samples) / speech.rate < 5
    with pytest.raises(synthesis.SynthesisError, match="espeak-ng"):
        synthesis.speak("something else")


def test_a_synthesiser_that_does_not_work_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "flite"
    broken.write_text("#!/bin/sh\necho nothing\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(synthesis, "espeak_wav", lambda text: None)
    with pytest.raises(synthesis.SynthesisError):
        synthesis.speak("something else")


def test_any_text_is_spoken_in_the_projects_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """espeak-ng comes as a package with it, where the machine has no synthesiser."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    speech = synthesis.speak("call Zebediah")
    assert speech.by == "espeak-ng (espeakng-loader)" and 0.4 < len(speech.samples) / speech.rate < 3
    assert abs(speech.samples).max() > 0.1


def test_what_is_said() -> None:
    script = Script(("Meg Jones", "Meg Bauer"), "Bauer")
    assert (script.request, script.question) == ("call Meg", "Do you mean Meg Jones or Meg Bauer?")
    script = Script(("Ann", "Bo", "Cy Li"), "Bo")
    assert (script.request, script.question) == ("call a friend", "Do you mean Ann, Bo or Cy Li?")
    assert script.question_s > 1
