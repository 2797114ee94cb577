"""What is sent again when a stream breaks."""

from __future__ import annotations

from carryover.unanswered import Unanswered

PIECES = [bytes([number]) * 320 for number in range(10)]  # of 10 ms


def sent(unanswered: Unanswered) -> Unanswered:
    for piece in PIECES:
        unanswered.sent(piece)
    return unanswered


def test_everything_is_sent_again_until_it_is_answered() -> None:
    unanswered = sent(Unanswered(16_000))
    assert unanswered.again() == (PIECES, 0.1) and unanswered.again() == ([], 0.0)


def test_what_is_answered_is_forgotten() -> None:
    unanswered = sent(Unanswered(16_000))
    unanswered.answered(0.035)
    unanswered.answered(0.02)
    assert unanswered.until_s == 0.1
    pieces, seconds = unanswered.again()
    assert (pieces, round(seconds, 6)) == (PIECES[3:], 0.07), "a piece that is answered in part is kept"


def test_another_stream_begins_anew() -> None:
    unanswered = sent(Unanswered(16_000))
    for piece in unanswered.again()[0]:
        unanswered.sent(piece)
    unanswered.answered(0.05)
    assert unanswered.again()[0] == PIECES[5:]


def test_it_is_bounded() -> None:
    assert sent(Unanswered(16_000, most_s=0.03)).again()[0] == PIECES[7:]
