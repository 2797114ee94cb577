"""Transcripts written as Whisper writes."""

from __future__ import annotations

import pytest

from asr.text import normalize
from recipes.second_pass.labels import mend


@pytest.mark.parametrize(
    ("written", "transcript", "wanted"),
    [
        ("Call Mark Harkary.", "call mark harker", "Call Mark Harker."),
        ("Rub out W-L-7-0.", "rubout w l seven oh", "Rubout W-L-7-0."),
        ("9, 1, 5", "nine one one", "9, 1, 1"),
        ("The race, CKW 40", "erase c k c w fourteen", "Erase C-K-C-W fourteen"),
        ("To the left", "left", "left"),
        ("Bye.", "five", "Five."),
        ("So I have caught him.", "so i have come here", "So I have come here."),
    ],
)
def test_wrong_words_are_mended_in_the_style_of_what_was_written(written: str, transcript: str, wanted: str) -> None:
    assert mend(written, transcript) == wanted
    assert mend(wanted, transcript) is None


@pytest.mark.parametrize(
    ("written", "transcript"),
    [("Enter 568.", "enter five six eight"), ("Dr. Brown, please.", "doctor brown please"), ("OK.", "okay")],
)
def test_what_says_the_transcript_stays(written: str, transcript: str) -> None:
    assert mend(written, transcript) is None


def test_nothing_written_becomes_the_transcript() -> None:
    assert normalize(mend("", "eight") or "") == "eight"
